//! The other end of the control socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode, body::Bytes, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time::timeout};

use super::{api::Failure, server::peer::CLAIMED};

/// No daemon answers.
#[derive(Debug, thiserror::Error)]
#[error("no daemon answers at {}", socket.display())]
pub struct Unreachable {
    socket: PathBuf,
    source: io::Error,
}

/// A daemon listens, but does not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("the daemon at {} does not answer", socket.display())]
pub struct Silent {
    socket: PathBuf,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon answers.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// A daemon listens, but does not answer in time.
    #[error(transparent)]
    Silent(#[from] Silent),
    /// The daemon says no.
    #[error("{error}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// Why.
        error: String,
    },
    /// The connection broke.
    #[error("control socket: {0}")]
    Broken(#[from] hyper::Error),
    /// What the daemon sent is not what this program expects.
    #[error("the daemon's answer is not understood; is it of another version? {0}")]
    Answer(#[from] serde_json::Error),
    /// Local trouble.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A way to the daemon. Each request makes its own connection.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    patience: Option<Duration>,
}

impl Client {
    /// Through this socket. Waits for an answer for as long as the daemon takes.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), patience: None }
    }

    /// Waits no longer than this for an answer: [`ClientError::Silent`].
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self }
    }

    /// Asks for a resource.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        Ok(serde_json::from_slice(&self.request(Method::GET, path, Bytes::new())?)?)
    }

    /// Asks for a resource as it is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn get_raw(&self, path: &str) -> Result<Bytes, ClientError> {
        self.request(Method::GET, path, Bytes::new())
    }

    /// Sends a value.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.post_raw(path, serde_json::to_vec(body)?.into())
    }

    /// Sends a body as it is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn post_raw<T: DeserializeOwned>(&self, path: &str, body: Bytes) -> Result<T, ClientError> {
        Ok(serde_json::from_slice(&self.request(Method::POST, path, body)?)?)
    }

    /// Ends a resource.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        Ok(serde_json::from_slice(&self.request(Method::DELETE, path, Bytes::new())?)?)
    }

    /// Hands on what arrives, in whole lines, until the daemon or `each` ends it.
    ///
    /// # Errors
    /// See [`ClientError`]; also those of `each`.
    pub fn lines(&self, path: &str, mut each: impl FnMut(&str) -> io::Result<()>) -> Result<(), ClientError> {
        runtime()?.block_on(async {
            let mut body = self.send(Method::GET, path, Bytes::new()).await?.into_body();
            let mut pending = Vec::new();
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame?.into_data() else { continue };
                pending.extend_from_slice(&data);
                while let Some(end) = pending.iter().position(|octet| *octet == b'\n') {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    each(String::from_utf8_lossy(&line).trim_end())?;
                }
            }
            Ok(())
        })
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        runtime()?.block_on(async {
            let answer = async {
                let response = self.send(method, path, body).await?;
                Ok(response.into_body().collect().await?.to_bytes())
            };
            match self.patience {
                None => answer.await,
                Some(patience) => timeout(patience, answer)
                    .await
                    .unwrap_or_else(|_| Err(Silent { socket: self.socket.clone() }.into())),
            }
        })
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| Unreachable { socket: self.socket.clone(), source })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "cordon")
            .header(header::CONTENT_TYPE, "application/json")
            .header(CLAIMED, escaped(&own_name().unwrap_or_default()))
            .body(Full::new(body))
            .map_err(io::Error::other)?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.into_body().collect().await?.to_bytes();
        let error = match serde_json::from_slice(&body) {
            Ok(Failure { error }) => error,
            Err(_) => String::from_utf8_lossy(&body).into_owned(),
        };
        Err(ClientError::Refused { status, error })
    }
}

/// Who runs this program, by the shell's word: who used sudo, too.
pub fn own_name() -> Option<String> {
    std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).ok().filter(|name| !name.is_empty())
}

/// Text as part of a URL (RFC 3986 2.1).
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            escaped.push(octet.into());
        } else {
            escaped.push_str(&format!("%{octet:02X}"));
        }
    }
    escaped
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, time::Instant};

    use super::*;

    #[test]
    fn patience_ends_where_a_daemon_listens_but_does_not_answer() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let client = Client::new(&socket).with_patience(Duration::from_millis(50));
        assert!(matches!(client.get_raw("/v1/status"), Err(ClientError::Unreachable(_))));

        let _listener = UnixListener::bind(&socket).unwrap();
        let begun = Instant::now();
        let error = client.get_raw("/v1/status").unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(matches!(error, ClientError::Silent(_)), "{error}");
        assert_eq!(error.to_string(), format!("the daemon at {} does not answer", socket.display()));
    }
}
