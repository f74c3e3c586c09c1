//! The client for one feed. Certificates, key and token are read anew for each question, so that they can be changed
//! while the daemon runs.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use reqwest::redirect::{Attempt, Policy};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{Failure, Remote};

/// A client, as long as the files that it was made of stay as they are.
#[derive(Default)]
pub(in crate::feed) struct Client {
    made: Option<(Vec<Vec<u8>>, reqwest::Client)>,
    /// It follows no redirects.
    stays: bool,
}

impl Client {
    /// One that follows no redirects: what is sent with POST would be sent elsewhere as a question for something else
    /// (RFC 9110 15.4.3), and its answer be taken for the one that was meant.
    pub(in crate::feed) fn that_stays() -> Self {
        Self { stays: true, ..Self::default() }
    }

    pub(in crate::feed) fn get(&mut self, remote: &Remote) -> Result<reqwest::Client, Failure> {
        let files = [remote.ca.as_ref()]
            .into_iter()
            .chain(remote.certificate.iter().flat_map(|(chain, key)| [Some(chain), Some(key)]))
            .flatten()
            .map(read)
            .collect::<Result<Vec<_>, _>>()?;
        if let Some((known, client)) = &self.made
            && *known == files
        {
            return Ok(client.clone());
        }
        let client = client(remote, self.stays)?;
        self.made = Some((files, client.clone()));
        Ok(client)
    }
}

/// The token of a file.
pub(in crate::feed) fn token(path: &Path) -> Result<String, Failure> {
    let token = String::from_utf8(read(&path.to_owned())?)
        .ok()
        .map(|token| token.trim().to_owned())
        .filter(|token| !token.is_empty() && token.bytes().all(|octet| octet.is_ascii_graphic()));
    token.ok_or_else(|| Failure::new(format_args!("{}: not a token", path.display())))
}

/// An error with its causes, each told once, and without the address that the feed's name stands for.
pub(in crate::feed) fn told(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    Failure::new(text)
}

fn client(remote: &Remote, stays: bool) -> Result<reqwest::Client, Failure> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Failure::new)?
        .with_root_certificates(roots(remote.ca.as_deref())?);
    let config = match &remote.certificate {
        None => config.with_no_client_auth(),
        Some((chain, key)) => {
            let wrong = |error: rustls::Error| Failure::new(format_args!("{}: {error}", chain.display()));
            config.with_client_auth_cert(certificates(chain)?, private_key(key)?).map_err(wrong)?
        }
    };
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .user_agent(concat!("cordon/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(remote.connect_timeout)
        .redirect(if stays { Policy::none() } else { Policy::custom(redirect) })
        .no_proxy()
        .build()
        .map_err(told)
}

/// Follows a few redirects, and none from an encrypted connection to one that is not.
fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().len() > MOST_REDIRECTS {
        return attempt.error(format!("more than {MOST_REDIRECTS} redirects"));
    }
    let was_secure = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if was_secure && attempt.url().scheme() != "https" {
        return attempt.error("a redirect from https to http");
    }
    attempt.follow()
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| Failure::new(format_args!("{}: {error}", path.display())))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    // With none at all, no server is believed; that is told when it is asked.
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let wrong = |why: &dyn std::fmt::Display| Failure::new(format_args!("{}: {why}", path.display()));
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| wrong(&error))?;
    if certificates.is_empty() { Err(wrong(&"no certificate in PEM")) } else { Ok(certificates) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| Failure::new(format_args!("{}: {error}", path.display())))
}

pub(in crate::feed) fn read(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::new(format_args!("{}: {error}", path.display())))
}

const MOST_REDIRECTS: usize = 5;
