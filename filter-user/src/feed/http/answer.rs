//! One question and its answer, which is written to a draft as it comes.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use reqwest::{
    RequestBuilder, Response, StatusCode, Version,
    header::{
        CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED, RETRY_AFTER,
        TRANSFER_ENCODING,
    },
};
use tokio::time::timeout;

use super::{Failure, Remote, client::told, meta::Hash};

/// What a server answered.
pub(in crate::feed) enum Answer {
    /// As it was: 304.
    Same,
    /// Nothing: 204.
    Nothing,
    /// It does not have what was asked for any more: 410.
    Gone,
    /// Something, to be taken with [`Body`].
    Content(Box<Body>),
}

/// The content of an answer, yet to come.
pub(in crate::feed) struct Body {
    response: Response,
    stall: Duration,
    limit: u64,
    until: Instant,
    /// By the server.
    pub(in crate::feed) etag: Option<String>,
    /// By the server.
    pub(in crate::feed) last_modified: Option<String>,
}

/// Asks. `hold`: how long the server was asked to wait before it answers.
pub(in crate::feed) async fn ask(request: RequestBuilder, remote: &Remote, hold: Duration) -> Result<Answer, Failure> {
    let until = Instant::now() + hold + remote.timeout;
    let answered = timeout(remote.connect_timeout + hold + remote.stall_timeout, request.send()).await;
    let response = answered.map_err(|_| stalled(remote.stall_timeout))?.map_err(told)?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED => return Ok(Answer::Same),
        StatusCode::NO_CONTENT => return Ok(Answer::Nothing),
        StatusCode::GONE => return Ok(Answer::Gone),
        status => {
            let mut failure = Failure::new(format_args!("the server answered {status}"));
            failure.status = Some(status);
            failure.retry_after =
                text(response.headers(), RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs);
            return Err(failure);
        }
    }
    let headers = response.headers();
    if text(headers, CONTENT_TYPE).is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html")) {
        return Err(Failure::new("the server answered with a page of HTML"));
    }
    let coding = text(headers, CONTENT_ENCODING).unwrap_or_default();
    // What is packed is recognised when it is read.
    if !matches!(coding.to_ascii_lowercase().as_str(), "" | "identity" | "gzip" | "x-gzip" | "zstd") {
        return Err(Failure::new(format_args!("the answer is packed by {coding}, which was not asked for")));
    }
    // Without a length of one kind or the other, an answer that ends early looks whole (RFC 9112 8).
    let tells_length = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
    if response.version() < Version::HTTP_2 && !tells_length {
        return Err(Failure::new("the answer has neither Content-Length nor chunks, so that its end cannot be told"));
    }
    let limit = remote.max_size;
    if let Some(length) = response.content_length().filter(|length| *length > limit) {
        return Err(Failure::new(format_args!("the answer has {length} octets, over the limit of {limit}")));
    }
    let (etag, last_modified) = (text(headers, ETAG), text(headers, LAST_MODIFIED));
    Ok(Answer::Content(Box::new(Body { response, stall: remote.stall_timeout, limit, until, etag, last_modified })))
}

impl Body {
    /// Writes all of it to a file, and gives its length and SHA-256.
    pub(in crate::feed) async fn write(mut self, file: &mut File, draft: &Path) -> Result<(u64, String), Failure> {
        let (mut length, mut hash) = (0, Hash::default());
        while let Some(octets) = self.next().await? {
            length += octets.len() as u64;
            if length > self.limit {
                return Err(too_long(self.limit));
            }
            let written = file.write_all(&octets).and_then(|()| hash.write_all(&octets));
            written.map_err(|error| Failure::new(format_args!("{}: {error}", draft.display())))?;
        }
        Ok((length, hash.so_far()))
    }

    /// All of it, up to `limit` octets.
    pub(in crate::feed) async fn read(mut self, limit: u64) -> Result<Vec<u8>, Failure> {
        let mut content = Vec::new();
        while let Some(octets) = self.next().await? {
            content.extend_from_slice(&octets);
            if content.len() as u64 > limit {
                return Err(too_long(limit));
            }
        }
        Ok(content)
    }

    /// What comes next; nothing at the end, which must be the end that the server announced.
    async fn next(&mut self) -> Result<Option<impl AsRef<[u8]> + std::ops::Deref<Target = [u8]> + use<>>, Failure> {
        let left = self.until.saturating_duration_since(Instant::now());
        let octets = timeout(self.stall.min(left), self.response.chunk()).await;
        octets
            .map_err(
                |_| if left < self.stall { Failure::new("the answer took too long") } else { stalled(self.stall) },
            )?
            .map_err(|error| Failure::new(format_args!("the answer is not whole: {}", told(error))))
    }
}

fn stalled(time: Duration) -> Failure {
    Failure::new(format_args!("nothing came from the server for {} s", time.as_secs_f64()))
}

fn too_long(limit: u64) -> Failure {
    Failure::new(format_args!("the answer is longer than {limit} octets"))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
