//! One question after the other, and the last good state.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::Duration,
};

use jiff::Timestamp;
use reqwest::{
    RequestBuilder, Url,
    header::{ACCEPT_ENCODING, IF_MODIFIED_SINCE, IF_NONE_MATCH},
};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::{
    Failure, Fetched, Remote, Task,
    answer::{Answer, ask},
    client::{self, Client},
    events,
    growing::Growing,
    meta::Meta,
};
use crate::feed::{content, signature, spool};

/// See the module.
pub(super) struct Fetcher {
    task: Task,
    client: Client,
    meta: Meta,
    /// Number of the last event that was told, though it could not be written.
    told: u64,
    /// The file, once it was written as one that events are put behind.
    growing: Option<Growing>,
}

/// What an answer came to.
pub(super) struct Outcome {
    pub(super) news: Option<Fetched>,
    /// The server was asked to hold the question.
    pub(super) held: bool,
}

impl Fetcher {
    pub(super) fn new(task: Task) -> Self {
        let meta = Meta::read(&task.path, &task.remote.url);
        Self { task, client: Client::default(), meta, told: 0, growing: None }
    }

    pub(super) fn meta(&self) -> &Meta {
        &self.meta
    }

    /// What was fetched last, for the history; `None` if nothing was yet.
    pub(super) fn record(&self) -> Option<Fetched> {
        let Meta { etag, last_modified, sha256, signed, seq, appended, .. } = &self.meta;
        if sha256.is_empty() {
            return None;
        }
        let Task { feed, remote, path, .. } = &self.task;
        let octets = fs::metadata(path).map(|file| file.len()).ok();
        let signed = signed.and_then(|seconds| Timestamp::from_second(seconds.try_into().ok()?).ok());
        let mut what = json!({"feed": feed, "url": remote.address(), "sha256": sha256, "octets": octets});
        for (word, value) in [
            ("etag", json!(etag)),
            ("last_modified", json!(last_modified)),
            ("signed", json!(signed)),
            ("seq", json!(seq)),
            ("appended", json!((*appended > 0).then_some(appended))),
        ] {
            if !value.is_null() {
                what[word] = value;
            }
        }
        Some(Fetched::Record { path: path.clone(), what })
    }

    /// Asks once.
    pub(super) async fn fetch(&mut self) -> Result<Outcome, Failure> {
        match self.meta.seq {
            Some(since) if self.task.remote.incremental && self.meta.appended < MOST_APPENDED => {
                self.fetch_since(since).await
            }
            _ => self.fetch_whole().await,
        }
    }

    async fn fetch_whole(&mut self) -> Result<Outcome, Failure> {
        let Task { remote, path, seal, .. } = &self.task;
        let mut request = get(&mut self.client, remote, remote.url.clone())?;
        // A signature is of what is not packed.
        request = request.header(ACCEPT_ENCODING, if seal.is_some() { "identity" } else { "gzip, zstd" });
        // Increments go on from the whole: that it is as it was would say nothing of what happened since.
        let has_version = !remote.incremental && (self.meta.etag.is_some() || self.meta.last_modified.is_some());
        for (name, value) in [(IF_NONE_MATCH, &self.meta.etag), (IF_MODIFIED_SINCE, &self.meta.last_modified)] {
            if let Some(value) = value.as_ref().filter(|_| has_version) {
                request = request.header(name, value);
            }
        }
        let hold = remote.long_poll.filter(|_| has_version);
        let held = hold.is_some();
        let body = match ask(held_for(request, hold), remote, hold.unwrap_or_default()).await? {
            Answer::Content(body) => body,
            Answer::Same if has_version => return Ok(Outcome { news: None, held }),
            Answer::Same => return Err(Failure::new("the server answered that nothing changed, and was not asked")),
            Answer::Nothing => return Err(Failure::new("the server answered with nothing")),
            Answer::Gone => return Err(Failure::new("the server answered 410 Gone")),
        };
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(at(folder))?;
        let draft = spool::draft(path);
        let mut file = File::create(&draft).map_err(at(&draft))?;
        let (etag, last_modified) = (body.etag.clone(), body.last_modified.clone());
        let (length, sha256) = body.write(&mut file, &draft).await?;
        if length == 0 {
            return Err(Failure::new("the server answered with an empty file"));
        }
        if !remote.incremental && sha256 == self.meta.sha256 {
            (self.meta.etag, self.meta.last_modified) = (etag, last_modified);
            return Ok(Outcome { news: None, held });
        }
        let mut meta = Meta {
            url: remote.url.to_string(),
            etag,
            last_modified,
            sha256,
            length,
            changed: Some(Timestamp::now()),
            signed: self.meta.signed,
            ..Meta::default()
        };
        if let Some(seal) = seal {
            meta.signed = self.check(&draft, &seal.key.clone()).await?.or(meta.signed);
        }
        let Task { remote, path, .. } = &self.task;
        check_unpacked(&draft, remote.max_unpacked).await?;
        if remote.incremental {
            let text = unpacked(&draft, remote.max_unpacked).map_err(at(&draft))?;
            meta.seq = events::last(&text);
            if meta.seq.is_none() {
                return Err(Failure::new("no event has a `seq`, and the feed is incremental"));
            }
            let growing = Growing::begin(path, text).map_err(at(path))?;
            (meta.sha256, meta.length) = (growing.sha256(), growing.length());
            self.growing = Some(growing);
        } else {
            spool::place(&file, &draft, path).map_err(at(path))?;
        }
        meta.write(path).map_err(at(path))?;
        self.meta = meta;
        // What happened meanwhile is asked for at once.
        let held = held || self.task.remote.incremental;
        Ok(Outcome { news: Some(Fetched::File(self.task.path.clone())), held })
    }

    /// Asks for the events since one, and puts them behind the others.
    async fn fetch_since(&mut self, since: u64) -> Result<Outcome, Failure> {
        let Task { remote, .. } = &self.task;
        let mut url = remote.url.clone();
        url.query_pairs_mut().append_pair("since", &since.to_string());
        let request = get(&mut self.client, remote, url)?.header(ACCEPT_ENCODING, "identity");
        let hold = remote.long_poll;
        let outcome = |news| Ok(Outcome { news, held: hold.is_some() });
        let body = match ask(held_for(request, hold), remote, hold.unwrap_or_default()).await? {
            Answer::Content(body) => body,
            Answer::Same | Answer::Nothing => return outcome(None),
            Answer::Gone => {
                // It does not know any more what happened since.
                self.meta.seq = None;
                return Box::pin(self.fetch_whole()).await;
            }
        };
        let content = body.read(remote.max_size.min(MOST_APPENDED)).await?;
        let news = events::after(since, &content).map_err(|why| {
            self.meta.seq = None;
            Failure::new(format_args!("{why}; all is asked for anew"))
        })?;
        let Some(events::News { lines, seq }) = news else { return outcome(None) };
        match self.append(&lines, seq) {
            Ok(()) => outcome(Some(Fetched::Events { path: self.task.path.clone(), lines })),
            Err(failure) => Err(Failure { news: self.untold(&content), ..failure }),
        }
    }

    /// What is told of events that could not be written: each once.
    fn untold(&mut self, content: &[u8]) -> Option<Fetched> {
        let since = self.meta.seq.unwrap_or_default().max(self.told);
        let events::News { lines, seq } = events::after(since, content).ok().flatten()?;
        self.told = seq;
        Some(Fetched::Unwritten { path: self.task.path.clone(), lines })
    }

    /// Puts events behind the others.
    fn append(&mut self, lines: &[u8], seq: u64) -> Result<(), Failure> {
        let path = &self.task.path;
        let growing = match self.growing.take().filter(|growing| growing.is_at(path)) {
            Some(growing) => Ok(growing),
            None => Growing::open(path, &self.meta),
        };
        if growing.is_err() {
            // Somebody has taken away what the events come behind.
            self.meta.seq = None;
        }
        let growing = growing.and_then(|growing| growing.append(path, lines)).map_err(at(path))?;
        let meta = Meta {
            sha256: growing.sha256(),
            length: growing.length(),
            changed: Some(Timestamp::now()),
            seq: Some(seq),
            appended: self.meta.appended + lines.len() as u64,
            ..self.meta.clone()
        };
        meta.write(path).map_err(at(path))?;
        (self.meta, self.growing) = (meta, Some(growing));
        Ok(())
    }

    /// Fetches the signature of a draft, and checks it. Gives the time at which it was made.
    async fn check(&mut self, draft: &Path, key: &signature::Key) -> Result<Option<u64>, Failure> {
        let remote = &self.task.remote;
        let mut url = remote.url.clone();
        let name = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default().to_owned();
        url.set_path(&format!("{}.{}", url.path(), signature::EXTENSION));
        let request = get(&mut self.client, remote, url)?.header(ACCEPT_ENCODING, "identity");
        let wrong = |why: &dyn std::fmt::Display| Failure::new(format_args!("its signature: {why}"));
        let answer = ask(request, remote, Duration::ZERO).await.map_err(|error| wrong(&error))?;
        let Answer::Content(body) = answer else { return Err(wrong(&"the server does not give it")) };
        let signature = body.read(LONGEST_SIGNATURE).await.map_err(|error| wrong(&error))?;
        let signature = String::from_utf8_lossy(&signature);
        let content = fs::read(draft).map_err(at(draft))?;
        let signed = key.check(&content, &signature, &name).map_err(Failure::new)?;
        signed.follows(self.meta.signed).map_err(Failure::new)?;
        Ok(signed.time)
    }
}

fn get(client: &mut Client, remote: &Remote, url: Url) -> Result<RequestBuilder, Failure> {
    let request = client.get(remote)?.get(url);
    match &remote.token {
        Some(path) => Ok(request.bearer_auth(client::token(path)?)),
        None => Ok(request),
    }
}

/// Asks the server to wait until there is something new (RFC 7240 4.3).
fn held_for(request: RequestBuilder, hold: Option<Duration>) -> RequestBuilder {
    match hold {
        Some(hold) => request.header("Prefer", format!("wait={}", hold.as_secs())),
        None => request,
    }
}

/// Whether a draft can be unpacked to its end, if it is packed.
async fn check_unpacked(draft: &Path, limit: u64) -> Result<(), Failure> {
    let path = draft.to_owned();
    let checked = spawn_blocking(move || {
        let mut content = content::unpacked(io::BufReader::new(File::open(path)?), limit)?;
        io::copy(&mut content, &mut io::sink())
    });
    let checked = checked.await.map_err(Failure::new)?;
    checked.map(drop).map_err(|error| Failure::new(format_args!("the answer: {error}")))
}

fn unpacked(draft: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    io::copy(&mut content::unpacked(io::BufReader::new(File::open(draft)?), limit)?, &mut text)?;
    Ok(text)
}

fn at(path: &Path) -> impl Fn(io::Error) -> Failure + '_ {
    move |error| Failure::new(format_args!("{}: {error}", path.display()))
}

/// Octets of events after which all is asked for anew, so that the file does not grow without end.
const MOST_APPENDED: u64 = 64 << 20;

const LONGEST_SIGNATURE: u64 = 1 << 16;
