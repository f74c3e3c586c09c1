//! The client.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use quinn::{Endpoint, crypto::rustls::QuicClientConfig};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde_json::json;

use super::LAB;

/// How long a connection, with its page, may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// One connection a name, one socket for all.
pub async fn ask(from: IpAddr, to: SocketAddr, names: &[String]) -> Result<()> {
    let (endpoint, config) = (endpoint(from)?, config()?);
    for name in names {
        let begun = Instant::now();
        let outcome = tokio::time::timeout(PATIENCE, fetch(&endpoint, &config, to, name)).await;
        let (page, error) = match outcome {
            Ok(Ok(page)) => (Some(page), None),
            Ok(Err(error)) => (None, Some(format!("{error:#}"))),
            Err(_) => (None, Some("timed out".to_owned())),
        };
        let took = begun.elapsed().as_secs_f64() * 1e3;
        println!("{}", json!({"name": name, "page": page, "error": error, "milliseconds": took}));
    }
    Ok(())
}

async fn fetch(endpoint: &Endpoint, config: &quinn::ClientConfig, to: SocketAddr, name: &str) -> Result<String> {
    let connection = endpoint.connect_with(config.clone(), to, name)?.await?;
    let page = exchange(&connection, b"a question").await?;
    connection.close(0u32.into(), b"");
    Ok(page)
}

async fn exchange(connection: &quinn::Connection, bytes: &[u8]) -> Result<String> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(bytes).await?;
    send.finish()?;
    Ok(String::from_utf8(receive.read_to_end(1000).await?)?)
}

/// The first connection brings the ticket; tickets are not bound to addresses.
pub async fn resume([first, from]: [IpAddr; 2], to: SocketAddr, name: &str, bytes: usize) -> Result<()> {
    let config = config()?;
    tokio::time::timeout(PATIENCE, fetch(&endpoint(first)?, &config, to, name)).await.context("first connection")??;
    let begun = Instant::now();
    let endpoint = endpoint(from)?;
    let connecting = endpoint.connect_with(config, to, name)?;
    let (connection, accepted) = connecting.into_0rtt().ok().context("no ticket for early data")?;
    let data = vec![b'e'; bytes];
    let page = tokio::time::timeout(PATIENCE, exchange(&connection, &data)).await.ok().and_then(Result::ok);
    let accepted = tokio::time::timeout(Duration::from_millis(100), accepted).await.unwrap_or(false);
    ensure!(accepted || page.is_none(), "a page without accepted early data");
    let took = begun.elapsed().as_secs_f64() * 1e3;
    println!("{}", json!({"name": name, "page": page, "early_accepted": accepted, "milliseconds": took}));
    Ok(())
}

fn endpoint(from: IpAddr) -> Result<Endpoint> {
    Endpoint::client(SocketAddr::new(from, 0)).with_context(|| from.to_string())
}

fn config() -> Result<quinn::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(algorithms)))
        .with_no_client_auth();
    tls.alpn_protocols = vec![LAB.to_vec()];
    tls.enable_early_data = true;
    Ok(quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?)))
}

/// The lab's certificate signs itself and is for no name: whoever holds its key will do.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC has TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
