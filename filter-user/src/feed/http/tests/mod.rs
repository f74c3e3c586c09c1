//! Against a real server on loopback, which does what servers do when they are unwell.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use self::server::{Authority, Reply, Server};
use super::*;
use crate::feed::{
    Key,
    signature::{EXTENSION, beside},
};

mod hostile;
mod server;

/// Longest that something may take that should happen at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// A feed, and what its fetcher told.
struct Lab {
    folder: TempDir,
    server: Server,
    states: States,
    told: Option<UnboundedReceiver<Fetched>>,
    fetchers: JoinSet<()>,
}

impl Lab {
    fn new(server: Server) -> Self {
        let (folder, states) = (tempfile::tempdir().unwrap(), States::default());
        Self { folder, server, states, told: None, fetchers: JoinSet::new() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("feeds/f.jsonl")
    }

    fn remote(&self) -> Remote {
        let seconds = Duration::from_secs;
        Remote {
            url: self.server.url("orders.jsonl"),
            interval: Duration::from_millis(50),
            jitter: 0,
            long_poll: None,
            connect_timeout: seconds(5),
            stall_timeout: seconds(5),
            timeout: seconds(60),
            max_size: 1 << 20,
            max_unpacked: 1 << 20,
            ca: None,
            certificate: None,
            token: None,
            incremental: false,
        }
    }

    /// Begins to fetch, in the place of what fetched before.
    fn start(&mut self, remote: Remote, seal: Option<Seal>) {
        let (sender, receiver) = unbounded_channel();
        self.states = States::default();
        let task = Task { feed: "f".to_owned(), remote, seal, path: self.path() };
        self.fetchers = start(vec![task], &self.states, move |fetched| drop(sender.send(fetched)));
        self.told = Some(receiver);
    }

    /// The next thing that is told, time passing aside.
    async fn told(&mut self) -> Fetched {
        let told = self.told.as_mut().unwrap();
        let next = async {
            loop {
                match told.recv().await.expect("the fetcher lives") {
                    Fetched::Later | Fetched::Record { .. } => {}
                    fetched => return fetched,
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("something is told")
    }

    /// Waits until the feed's state is as wanted.
    async fn state(&self, what: &str, is_so: impl Fn(&State) -> bool) -> State {
        let begun = Instant::now();
        loop {
            let state = self.states.get("f").unwrap_or_default();
            if is_so(&state) {
                return state;
            }
            assert!(begun.elapsed() < PATIENCE, "not {what}: {state:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the feed's problem is told, and checks that the last good state is there.
    async fn problem(&self, why: &str) {
        self.state(why, |state| state.problem.as_deref().is_some_and(|problem| problem.contains(why))).await;
        assert_eq!(fs::read_to_string(self.path()).unwrap(), "good\n", "{why}");
    }
}

#[tokio::test]
async fn what_is_new_is_put_there_and_what_is_not_is_not_sent() {
    let mut lab = Lab::new(Server::start(|_| Reply::content("good\n", &[("ETag", "\"1\"")])).await);
    lab.start(lab.remote(), None);
    assert_eq!(lab.told().await, Fetched::File(lab.path()));
    assert_eq!(fs::read_to_string(lab.path()).unwrap(), "good\n");
    lab.server.answer(|request| {
        assert_eq!(request.header("if-none-match"), Some("\"1\""));
        Reply::status("304 Not Modified")
    });
    let changed = lab.states.get("f").unwrap().changed;
    lab.state("checked again", |state| state.checked > changed && state.problem.is_none()).await;
    assert_eq!(lab.states.get("f").unwrap().changed, changed);

    // Another version with the same content is no news.
    lab.server.answer(|_| Reply::content("good\n", &[("ETag", "\"2\"")]));
    lab.server.asked(|request| request.header("if-none-match") == Some("\"2\"")).await;
    lab.server.answer(|_| Reply::content("new\n", &[("Last-Modified", "Tue, 01 Jul 2025 00:00:00 GMT")]));
    assert_eq!(lab.told().await, Fetched::File(lab.path()));
    assert_eq!(fs::read_to_string(lab.path()).unwrap(), "new\n");

    // A new fetcher goes on where the last one was.
    lab.fetchers.abort_all();
    lab.server.answer(|_| Reply::status("304 Not Modified"));
    lab.start(lab.remote(), None);
    let is_known =
        |request: &server::Request| request.header("if-modified-since") == Some("Tue, 01 Jul 2025 00:00:00 GMT");
    lab.server.asked(is_known).await;

    // Unless the file is not the one that it knows, or is from elsewhere.
    for change in ["file", "url"] {
        lab.fetchers.abort_all();
        let mut remote = lab.remote();
        match change {
            "file" => fs::write(lab.path(), "changed\n").unwrap(),
            _ => remote.url.set_query(Some("a=b")),
        }
        lab.server.answer(|request| {
            let is_asked_anew = request.header("if-modified-since").is_none();
            if is_asked_anew { Reply::content("anew\n", &[]) } else { Reply::status("304 Not Modified") }
        });
        lab.start(remote, None);
        assert_eq!(lab.told().await, Fetched::File(lab.path()), "{change}");
        assert_eq!(fs::read_to_string(lab.path()).unwrap(), "anew\n");
        fs::write(lab.path(), "x\n").unwrap();
    }
}

#[tokio::test]
async fn a_server_is_believed_by_its_certificate_and_sees_ours_and_a_token() {
    let authority = Authority::new();
    let server = Server::start_tls(&authority, true, |request| match request.header("authorization") {
        Some("Bearer secret-2") => Reply::content("good\n", &[]),
        _ => Reply::status("401 Unauthorized"),
    });
    let mut lab = Lab::new(server.await);
    let folder = lab.folder.path().to_owned();
    let file = |name: &str, content: &str| {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let (certificate, key) = authority.client();
    let remote = Remote {
        ca: Some(file("ca.pem", &authority.pem())),
        certificate: Some((file("client.pem", &certificate), file("client.key", &key))),
        token: Some(file("token", "secret-1\n")),
        ..lab.remote()
    };
    lab.start(remote.clone(), None);
    lab.state("refused", |state| state.problem.as_deref() == Some("the server answered 401 Unauthorized")).await;
    // The file is read anew.
    fs::write(lab.folder.path().join("token"), "secret-2\n").unwrap();
    assert_eq!(lab.told().await, Fetched::File(lab.path()));
    fs::write(lab.path(), "good\n").unwrap();

    for (remote, why) in [
        (Remote { certificate: None, ..remote.clone() }, "ertificate"),
        (Remote { ca: Some(file("other.pem", &Authority::new().pem())), ..remote.clone() }, "BadSignature"),
        (Remote { ca: None, ..remote.clone() }, "UnknownIssuer"),
        (Remote { url: lab.server.url_at("127.0.0.1", "orders.jsonl"), ..remote.clone() }, "not valid for name"),
        (Remote { ca: Some(file("junk.pem", "junk")), ..remote.clone() }, "junk.pem: no certificate in PEM"),
        (Remote { token: Some("/nowhere/token".into()), ..remote.clone() }, "/nowhere/token: No such file"),
    ] {
        lab.start(remote, None);
        lab.problem(why).await;
    }
}

#[tokio::test]
async fn a_question_is_held_by_a_server_that_can() {
    let mut lab = Lab::new(Server::start(|_| Reply::content("good\n", &[("ETag", "\"1\"")])).await);
    let remote =
        Remote { long_poll: Some(Duration::from_secs(20)), interval: Duration::from_millis(500), ..lab.remote() };
    lab.start(remote, None);
    lab.told().await;
    lab.server.answer(|request| {
        assert_eq!(request.header("prefer"), Some("wait=20"));
        assert_eq!(request.header("if-none-match"), Some("\"1\""));
        Reply::content("new\n", &[("ETag", "\"2\"")]).after(Duration::from_millis(700))
    });
    lab.told().await;
    assert_eq!(fs::read_to_string(lab.path()).unwrap(), "new\n");
}

#[tokio::test]
async fn events_follow_the_whole() {
    let line = |seq: u64| format!("{{\"op\":\"revoke\",\"order\":\"o{seq}\",\"seq\":{seq}}}\n");
    let mut lab = Lab::new(
        Server::start(move |request| match request.query() {
            None => Reply::content(&[line(3), line(7)].concat(), &[("ETag", "\"whole\"")]),
            Some("since=7") => Reply::content(&[line(7), line(9)].concat(), &[]),
            Some("since=9") => Reply::status("204 No Content"),
            other => panic!("{other:?}"),
        })
        .await,
    );
    lab.start(Remote { incremental: true, ..lab.remote() }, None);
    assert_eq!(lab.told().await, Fetched::File(lab.path()));
    assert_eq!(lab.told().await, Fetched::Events { path: lab.path(), lines: line(9).into_bytes() });
    assert_eq!(fs::read_to_string(lab.path()).unwrap(), [line(3), line(7), line(9)].concat());
    lab.server.asked(|request| request.query() == Some("since=9")).await;
    // A new fetcher goes on from there; where the server has forgotten what was since, all is asked for.
    lab.fetchers.abort_all();
    lab.server.answer(move |request| match request.query() {
        // The whole may be as old as it was: it would tell nothing of what came since.
        None if request.header("if-none-match").is_some() => Reply::status("304 Not Modified"),
        None => Reply::content(&line(20), &[]),
        Some("since=9") => Reply::status("410 Gone"),
        _ => Reply::status("204 No Content"),
    });
    lab.start(Remote { incremental: true, ..lab.remote() }, None);
    assert_eq!(lab.told().await, Fetched::File(lab.path()));
    assert_eq!(fs::read_to_string(lab.path()).unwrap(), line(20));
    assert_eq!(lab.state("at 20", |state| state.seq == Some(20)).await.problem, None);
    // So it is where they make no sense.
    lab.server.answer(move |request| match request.query() {
        None => Reply::content(&line(30), &[]),
        _ => Reply::content(&[line(22), line(21)].concat(), &[]),
    });
    assert_eq!(lab.told().await, Fetched::File(lab.path()));
    assert_eq!(fs::read_to_string(lab.path()).unwrap(), line(30));
}

#[tokio::test]
async fn events_are_put_behind_the_whole_in_place() {
    let line = |seq: u64| format!("{{\"op\":\"revoke\",\"order\":\"o{seq}\",\"seq\":{seq}}}\n");
    let mut lab = Lab::new(
        Server::start(move |request| match request.query() {
            // Packed, and without the end of its last line.
            None => Reply::octets(&zstd::encode_all(line(3).trim_end().as_bytes(), 0).unwrap()),
            Some("since=3") => Reply::content(&line(4), &[]),
            Some("since=4") => Reply::content(&line(5), &[]),
            _ => Reply::status("204 No Content"),
        })
        .await,
    );
    lab.start(Remote { incremental: true, ..lab.remote() }, None);
    assert_eq!(lab.told().await, Fetched::File(lab.path()));
    let inode = fs::metadata(lab.path()).unwrap().ino();
    for seq in [4, 5] {
        assert_eq!(lab.told().await, Fetched::Events { path: lab.path(), lines: line(seq).into_bytes() });
    }
    assert_eq!(fs::read_to_string(lab.path()).unwrap(), [line(3), line(4), line(5)].concat());
    assert_eq!(fs::metadata(lab.path()).unwrap().ino(), inode, "the file was written anew");

    // What an interrupted append has left is written over: by much of it, and by less than it.
    lab.fetchers.abort_all();
    for (seq, left) in [(6, "{\"op\":\"rev".to_owned()), (7, "x".repeat(1000))] {
        let so_far = fs::read_to_string(lab.path()).unwrap();
        fs::write(lab.path(), [&so_far, left.as_str()].concat()).unwrap();
        lab.server.answer(move |request| match request.query() {
            Some(since) if since == format!("since={}", seq - 1) => Reply::content(&line(seq), &[]),
            Some(_) => Reply::status("204 No Content"),
            None => panic!("the whole was asked for"),
        });
        lab.start(Remote { incremental: true, ..lab.remote() }, None);
        assert_eq!(lab.told().await, Fetched::Events { path: lab.path(), lines: line(seq).into_bytes() });
        assert_eq!(fs::read_to_string(lab.path()).unwrap(), [so_far, line(seq)].concat());
        lab.fetchers.abort_all();
    }

    // Another content of the same length is none that events come behind.
    let other = fs::read_to_string(lab.path()).unwrap().replace("o3", "o8");
    fs::write(lab.path(), other).unwrap();
    lab.server.answer(move |request| match request.query() {
        None => Reply::content(&line(9), &[]),
        Some(_) => Reply::status("204 No Content"),
    });
    lab.start(Remote { incremental: true, ..lab.remote() }, None);
    assert_eq!(lab.told().await, Fetched::File(lab.path()));
    assert_eq!(fs::read_to_string(lab.path()).unwrap(), line(9));
}

#[tokio::test]
async fn what_must_be_signed_is_not_taken_unsigned_or_old() {
    let keys = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let sign = move |content: &str, comment: &str| {
        minisign::sign(None, &keys.sk, std::io::Cursor::new(content.to_owned()), Some(comment), None)
            .unwrap()
            .into_string()
    };
    let key = Key::parse(&keys.pk.to_base64()).unwrap();
    let mut lab = Lab::new(Server::start(|_| Reply::status("404 Not Found")).await);
    let serve = |server: &Server, content: &'static str, signature: Option<String>| {
        server.answer(move |request| match (request.is_for(&format!("/orders.jsonl.{EXTENSION}")), &signature) {
            (false, _) => Reply::content(content, &[]),
            (true, Some(signature)) => Reply::content(signature, &[]),
            (true, None) => Reply::status("404 Not Found"),
        });
    };
    let good = "timestamp:200\tfile:orders.jsonl";
    serve(&lab.server, "good\n", Some(sign("good\n", good)));
    let (remote, newest) = (lab.remote(), lab.folder.path().join("f.signed"));
    let seal = Seal { key, newest };
    lab.start(remote.clone(), Some(seal));
    lab.told().await;
    for (signature, why) in [
        (None, "its signature: the server answered 404 Not Found"),
        (Some(sign("other\n", good)), "its signature does not hold"),
        (Some("junk".to_owned()), "its signature is none of minisign's"),
        (Some(sign("bad\n", "timestamp:199\tfile:orders.jsonl")), "this is an old file"),
        (Some(sign("bad\n", "file:orders.jsonl")), "its signature has no time"),
        (Some(sign("bad\n", "timestamp:300\tfile:others.jsonl")), "it was signed under the name \"others.jsonl\""),
    ] {
        serve(&lab.server, "bad\n", signature);
        lab.problem(why).await;
    }
    serve(&lab.server, "new\n", Some(sign("new\n", "timestamp:201\tfile:orders.jsonl")));
    lab.told().await;
    assert_eq!(fs::read_to_string(lab.path()).unwrap(), "new\n");
    assert!(!beside(Path::new("f")).exists());
}
