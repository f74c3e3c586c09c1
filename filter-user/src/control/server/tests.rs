use std::{
    os::unix::net::UnixListener as BlockingListener,
    time::{Duration, Instant},
};

use super::*;
use crate::control::{
    api::{EventLine, OutcomeLine},
    client::{Client, ClientError, escaped},
};

/// A served socket whose requests a test answers.
struct Served {
    client: Client,
    events: EventHub,
    path: PathBuf,
    _folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

fn serve(answer: impl Fn(Request) + Send + 'static) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/cordon.sock");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let events = EventHub::default();
    let (requests, mut arriving) = mpsc::channel(8);
    runtime.block_on(async {
        let socket = Socket::bind(&path).unwrap();
        tokio::spawn(socket.serve(requests, events.clone(), std::future::pending()));
        tokio::spawn(async move {
            while let Some(request) = arriving.recv().await {
                answer(request);
            }
        });
    });
    Served { client: Client::new(&path), events, path, _folder: folder, _runtime: runtime }
}

fn refused(error: ClientError) -> (u16, String) {
    match error {
        ClientError::Refused { status, error } => (status.as_u16(), error),
        other => panic!("{other}"),
    }
}

#[test]
fn requests_reach_the_daemon_whole() {
    let served = serve(|request| match request {
        Request::Revoke { id, why, reply, .. } => {
            let outcome = OutcomeLine { line: 0, order: id, what: why };
            reply.send(Ok(Submitted { outcomes: vec![outcome], ..Submitted::default() })).unwrap();
        }
        Request::Submit(body, _, reply) => {
            let outcome = OutcomeLine { line: body.len() as u64, order: String::new(), what: String::new() };
            reply.send(Ok(Submitted { outcomes: vec![outcome], ..Submitted::default() })).unwrap();
        }
        Request::Order(id, reply) => drop(reply.send(Err(Failed::NotFound(format!("no order {id}"))))),
        other => panic!("{other:?}"),
    });
    let path = format!("/v1/orders/{}?why={}", escaped("a/b c"), escaped("settled & done"));
    let done: Submitted = served.client.delete(&path).unwrap();
    assert_eq!((done.outcomes[0].order.as_str(), done.outcomes[0].what.as_str()), ("a/b c", "settled & done"));

    let long = vec![b'x'; 5 << 20];
    let done: Submitted = served.client.post_raw("/v1/orders", long.into()).unwrap();
    assert_eq!(done.outcomes[0].line, 5 << 20);

    let error = served.client.get::<OrderDetail>("/v1/orders/x").unwrap_err();
    assert_eq!(refused(error), (404, "no order x".to_owned()));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let served = serve(|request| panic!("{request:?}"));
    let refusals = [
        (served.client.get::<Stats>("/v2/stats").unwrap_err(), 404),
        (served.client.get::<Explanation>("/v1/explain").unwrap_err(), 400),
        (served.client.get::<Explanation>("/v1/explain?name=a&client=b").unwrap_err(), 400),
        (served.client.post_raw::<Detached>("/v1/detach", "{\"interface\":\"e\",\"x\":1}".into()).unwrap_err(), 400),
    ];
    for (error, status) in refusals {
        let (found, why) = refused(error);
        assert_eq!(found, status, "{why}");
        assert!(!why.is_empty());
    }
}

#[test]
fn events_stream_as_lines_until_the_reader_leaves() {
    let served = serve(|_| {});
    let hub = served.events.clone();
    let writer = std::thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !hub.is_heard() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        for name in ["a.example", "b.example"] {
            hub.publish(&EventLine {
                time: "2025-03-28T00:00:00Z".parse().unwrap(),
                name: name.to_owned(),
                rule: "example".to_owned(),
                order: "o".to_owned(),
                protocol: "tls".to_owned(),
                verdict: "answer".to_owned(),
                reason: "reset".to_owned(),
                scopes: Vec::new(),
                client: None,
            });
        }
    });
    let mut names = Vec::new();
    let ended = served.client.lines("/v1/events", |line| {
        names.push(serde_json::from_str::<EventLine>(line)?.name);
        if names.len() < 2 { Ok(()) } else { Err(io::Error::other("enough")) }
    });
    assert_eq!(ended.unwrap_err().to_string(), "enough");
    assert_eq!(names, ["a.example", "b.example"]);
    writer.join().unwrap();
}

#[test]
fn the_socket_is_the_groups_and_is_taken_over_only_from_the_dead() {
    let served = serve(|_| {});
    assert_eq!(fs::metadata(&served.path).unwrap().permissions().mode() & 0o777, 0o660);
    assert_eq!(Socket::bind(&served.path).unwrap_err().kind(), io::ErrorKind::AddrInUse);

    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join("left.sock");
    drop(BlockingListener::bind(&left).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _context = runtime.enter();
    drop(Socket::bind(&left).unwrap());
    assert!(!left.exists());

    let file = folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert_eq!(Socket::bind(&file).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}

#[test]
fn without_a_daemon_the_socket_is_named() {
    let error = Client::new(Path::new("/nonexistent/cordon.sock")).get::<Status>("/v1/status").unwrap_err();
    assert!(matches!(error, ClientError::Unreachable(_)));
    assert_eq!(error.to_string(), "no daemon answers at /nonexistent/cordon.sock");
}

#[test]
fn who_decides_is_the_user_of_the_process_that_asks() {
    let (told, users) = std::sync::mpsc::channel();
    let served = serve(move |request| match request {
        Request::Decide { feed, changes, approve, user, reply } => {
            told.send((feed, changes, approve, user)).unwrap();
            reply.send(Ok(Submitted::default())).unwrap();
        }
        other => panic!("{other:?}"),
    });
    let uid = nix::unistd::getuid();
    let name = nix::unistd::User::from_uid(uid).unwrap().map_or(uid.to_string(), |user| user.name);
    for (claimed, expected) in
        [(None, None), (Some(name.clone()), None), (Some("else".to_owned()), Some("else".to_owned()))]
    {
        let request = DecideRequest { changes: vec!["id".to_owned()], user: claimed };
        let _: Submitted = served.client.post("/v1/feeds/orders/approve", &request).unwrap();
        let user = User { user: name.clone(), uid: Some(uid.as_raw()), claimed: expected };
        assert_eq!(users.recv().unwrap(), ("orders".to_owned(), request.changes, true, user));
    }
    let _: Submitted =
        served.client.post("/v1/feeds/orders/reject", &DecideRequest { changes: Vec::new(), user: None }).unwrap();
    assert!(!users.recv().unwrap().2);
}
