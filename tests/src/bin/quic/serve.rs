//! The server.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context, Result};
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::json;

use super::{H3, LAB};

pub async fn run(certificate: &Path, key: &Path, addresses: &[SocketAddr]) -> Result<()> {
    let chain = vec![CertificateDer::from_pem_file(certificate)?];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    tls.alpn_protocols = vec![H3.to_vec(), LAB.to_vec()];
    // RFC 9001 4.6.1: the only size that QUIC allows.
    tls.max_early_data_size = u32::MAX;
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    let mut tasks = tokio::task::JoinSet::new();
    for address in addresses {
        let endpoint = quinn::Endpoint::server(config.clone(), *address).with_context(|| address.to_string())?;
        tasks.spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async move {
                    if let Err(error) = answer(incoming).await {
                        println!("{}", json!({"event": "error", "error": format!("{error:#}")}));
                    }
                });
            }
        });
    }
    println!("{}", json!({"event": "listening"}));
    tasks.join_all().await;
    Ok(())
}

/// Early data is answered as it comes, before the handshake is confirmed.
async fn answer(incoming: quinn::Incoming) -> Result<()> {
    let mut connecting = incoming.accept()?;
    let data = connecting.handshake_data().await?.downcast::<HandshakeData>().ok().context("no handshake data")?;
    let name = data.server_name.unwrap_or_default();
    println!("{}", json!({"event": "hello", "name": name}));
    let connection = match connecting.into_0rtt() {
        Ok((connection, confirmed)) => {
            let name = name.clone();
            tokio::spawn(async move {
                let early = confirmed.await;
                println!("{}", json!({"event": "confirmed", "name": name, "early_accepted": early}));
            });
            connection
        }
        Err(connecting) => connecting.await?,
    };
    if data.protocol.as_deref() == Some(H3) { pages(connection, &name).await } else { streams(connection, &name).await }
}

async fn streams(connection: quinn::Connection, name: &str) -> Result<()> {
    loop {
        let (mut send, mut receive) = connection.accept_bi().await?;
        let mut bytes = 0;
        while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
            bytes += chunk.bytes.len();
            println!("{}", json!({"event": "data", "name": name, "bytes": chunk.bytes.len()}));
        }
        send.write_all(format!("{bytes} for {name}").as_bytes()).await?;
        send.finish()?;
    }
}

async fn pages(connection: quinn::Connection, name: &str) -> Result<()> {
    let mut connection = h3::server::Connection::new(h3_quinn::Connection::new(connection)).await?;
    while let Some(resolver) = connection.accept().await? {
        let (_request, mut stream) = resolver.resolve_request().await?;
        let response = http::Response::builder().header("content-type", "text/html").body(())?;
        stream.send_response(response).await?;
        stream.send_data(bytes::Bytes::from(format!("<p>reached {name} by HTTP/3</p>\n"))).await?;
        stream.finish().await?;
        println!("{}", json!({"event": "page", "name": name}));
    }
    Ok(())
}
