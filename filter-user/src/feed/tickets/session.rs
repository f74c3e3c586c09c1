//! Questions to a platform, with the token that a login gives. The password is read anew for each login, and no message
//! holds it, nor a token.

use std::{path::PathBuf, sync::Arc, time::Duration};

use reqwest::{RequestBuilder, StatusCode, Url, header::CONTENT_TYPE};
use serde_json::{Map, Value};

use super::{
    listing,
    platform::{Platform, at},
};
use crate::feed::http::{
    Failure, Remote,
    answer::{Answer, ask},
    client::{self, Client},
};

/// See the module.
pub(super) struct Session {
    client: Client,
    remote: Arc<Remote>,
    platform: Arc<Platform>,
    tokens: Option<Tokens>,
}

struct Tokens {
    access: String,
    refresh: Option<String>,
}

/// What a POST tells the platform, and with which token.
pub(super) struct Post {
    request: RequestBuilder,
    remote: Arc<Remote>,
}

impl Session {
    pub(super) fn new(remote: Remote, platform: Arc<Platform>) -> Self {
        Self { client: Client::that_stays(), remote: Arc::new(remote), platform, tokens: None }
    }

    /// The address of one of the platform's paths.
    pub(super) fn url(&self, path: &str) -> Result<Url, Failure> {
        let mut base = self.remote.url.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let url = base.join(path).map_err(|error| Failure::new(format_args!("{path}: {error}")))?;
        // The token is for this platform alone.
        if url.origin() == self.remote.url.origin() {
            Ok(url)
        } else {
            Err(Failure::new(format_args!("{path}: leads to another server, which does not get the token")))
        }
    }

    /// What is at an address, up to so many octets. A token that is not taken any more is renewed once.
    pub(super) async fn get(&mut self, url: &Url, limit: u64) -> Result<Vec<u8>, Failure> {
        let mut is_renewed = false;
        loop {
            let token = self.token().await?;
            let request = self.client.get(&self.remote)?.get(url.clone()).bearer_auth(token);
            match content(request, &self.remote, limit).await {
                Err(failure) if is_unauthorised(&failure) && !is_renewed => {
                    self.renew().await?;
                    is_renewed = true;
                }
                result => return result,
            }
        }
    }

    /// What tells the platform something, to be sent when its time has come.
    pub(super) async fn post(&mut self, path: &str, body: &Map<String, Value>) -> Result<Post, Failure> {
        let (url, token) = (self.url(path)?, self.token().await?);
        let request = self.client.get(&self.remote)?.post(url).bearer_auth(token);
        Ok(Post { request: json(request, body), remote: Arc::clone(&self.remote) })
    }

    /// Another token, by the refresh token if there is one that is taken, else by a login.
    pub(super) async fn renew(&mut self) -> Result<(), Failure> {
        let old = self.tokens.take().and_then(|tokens| tokens.refresh);
        let path = &self.platform.paths.refresh;
        if let Some(refresh) = old.filter(|_| !path.is_empty()) {
            let body = Map::from_iter([(self.platform.fields.refresh.clone(), Value::from(refresh.as_str()))]);
            match self.tokens(&path.clone(), &body).await {
                Ok(tokens) => {
                    // Most platforms leave the refresh token as it was.
                    self.tokens = Some(Tokens { refresh: tokens.refresh.or(Some(refresh)), ..tokens });
                    return Ok(());
                }
                // A server that is down is not to be asked more.
                Err(failure) if failure.status.is_none_or(|status| status.is_server_error()) => {
                    return Err(failure.of("another access token"));
                }
                Err(_) => {}
            }
        }
        self.login().await
    }

    /// The access token.
    async fn token(&mut self) -> Result<String, Failure> {
        if self.tokens.is_none() {
            self.login().await?;
        }
        let access = self.tokens.as_ref().map(|tokens| tokens.access.clone());
        access.ok_or_else(|| Failure::new("no access token"))
    }

    async fn login(&mut self) -> Result<(), Failure> {
        let Platform { paths, fields, user, password, .. } = &*self.platform;
        let body = Map::from_iter([
            (fields.user.clone(), secret(user)?.into()),
            (fields.password.clone(), secret(password)?.into()),
        ]);
        let tokens = self.tokens(&paths.login.clone(), &body).await.map_err(|failure| failure.of("login"))?;
        self.tokens = Some(tokens);
        Ok(())
    }

    async fn tokens(&mut self, path: &str, body: &Map<String, Value>) -> Result<Tokens, Failure> {
        let request = json(self.client.get(&self.remote)?.post(self.url(path)?), body);
        let answer = content(request, &self.remote, LONGEST_TOKENS).await?;
        // What serde says of a value may quote it.
        let answer = listing::json(&answer).map_err(|_| Failure::new("the answer is not JSON"))?;
        let fields = &self.platform.fields;
        let token = |pointer: &str| {
            let token = at(&answer, pointer).and_then(Value::as_str)?;
            let is_token = !token.is_empty() && token.bytes().all(|octet| octet.is_ascii_graphic());
            is_token.then(|| token.to_owned())
        };
        let access = token(&fields.access_token)
            .ok_or_else(|| Failure::new(format_args!("the answer has no token at `{}`", fields.access_token)))?;
        Ok(Tokens { access, refresh: token(&fields.refresh_token) })
    }
}

impl Post {
    /// Sends it. Whatever else the platform answers is of no concern.
    pub(super) async fn send(self) -> Result<(), Failure> {
        match ask(self.request, &self.remote, Duration::ZERO).await {
            // The connection can be used again when the answer was read.
            Ok(Answer::Content(body)) => body.read(self.remote.max_size).await.map(drop),
            Ok(Answer::Nothing) => Ok(()),
            Ok(Answer::Same) => Err(Failure::new("the server answered 304 Not Modified")),
            Ok(Answer::Gone) => {
                let mut failure = Failure::new("the server answered 410 Gone");
                failure.status = Some(StatusCode::GONE);
                Err(failure)
            }
            Err(failure) if failure.status.is_some_and(|status| status.is_success()) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

pub(super) fn is_unauthorised(failure: &Failure) -> bool {
    failure.status == Some(StatusCode::UNAUTHORIZED)
}

async fn content(request: RequestBuilder, remote: &Remote, limit: u64) -> Result<Vec<u8>, Failure> {
    match ask(request, remote, Duration::ZERO).await? {
        Answer::Content(body) => body.read(limit).await,
        Answer::Same | Answer::Nothing => Err(Failure::new("the server answered with nothing")),
        Answer::Gone => Err(Failure::new("the server answered 410 Gone")),
    }
}

fn json(request: RequestBuilder, body: &Map<String, Value>) -> RequestBuilder {
    request.header(CONTENT_TYPE, "application/json").body(Value::Object(body.clone()).to_string())
}

/// What a file holds, without the end of its only line.
fn secret(path: &PathBuf) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::new(format_args!("{}: {why}", path.display()));
    let text = String::from_utf8(client::read(path)?).map_err(|_| wrong("is not UTF-8"))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    match line {
        "" => Err(wrong("is empty")),
        line if line.contains(char::is_control) => Err(wrong("has more than one line, or a control character")),
        line => Ok(line.to_owned()),
    }
}

/// Octets of the answer to a login.
const LONGEST_TOKENS: u64 = 1 << 20;
