use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use super::*;

fn gzip(octets: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(octets).unwrap();
    packer.finish().unwrap()
}

/// F4: whatever the server does, the last good state stays, the feed's state says what is wrong, and when the server is
/// well again, all goes on.
#[tokio::test]
async fn f4_the_last_good_state_stays() {
    let good = || Reply::content("good\n", &[("ETag", "\"good\"")]);
    let mut lab = Lab::new(Server::start(move |_| good()).await);
    let remote = Remote { stall_timeout: Duration::from_millis(300), timeout: Duration::from_secs(3), ..lab.remote() };
    lab.start(remote, None);
    lab.told().await;
    type Ill = Box<dyn Fn(&server::Request) -> Reply + Send + Sync>;
    let cases: Vec<(Ill, &str)> = vec![
        (Box::new(|_| Reply::status("404 Not Found")), "the server answered 404 Not Found"),
        (Box::new(|_| Reply::status("500 Internal Server Error")), "the server answered 500 Internal Server Error"),
        (Box::new(|_| Reply::Silence), "nothing came from the server for 0.3 s"),
        (Box::new(|_| Reply::content("bad\n", &[]).cut(2, true)), "nothing came from the server for 0.3 s"),
        (Box::new(|_| Reply::content("bad\n", &[]).cut(2, false)), "the answer is not whole"),
        (Box::new(|_| Reply::chunked(&["bad\n", "bad\n"])), "the answer is not whole"),
        (
            Box::new(|_| Reply::Raw("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbad\n".into())),
            "neither Content-Length nor chunks",
        ),
        (Box::new(|_| Reply::Close), "error sending request"),
        (Box::new(|_| Reply::Raw("junk\r\n\r\n".into())), "error sending request"),
        (Box::new(|_| Reply::Endless), "the answer is longer than 1048576 octets"),
        (Box::new(|_| Reply::Drip), "the answer took too long"),
        (Box::new(|_| Reply::content("", &[])), "the server answered with an empty file"),
        (
            Box::new(|_| Reply::Raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 10u64 << 30).into())),
            "over the limit of 1048576",
        ),
        (Box::new(|_| Reply::content("<p>", &[("Content-Type", "text/html; charset=utf-8")])), "a page of HTML"),
        (Box::new(|_| Reply::content("bad\n", &[("Content-Encoding", "br")])), "packed by br"),
        (Box::new(|_| Reply::octets(&gzip(&vec![b'x'; 4 << 20]))), "unpacks to more than the limit"),
        (Box::new(|_| Reply::octets(&gzip(b"good\n")[..12])), "the answer: "),
        (Box::new(|request| Reply::redirect(request.path())), "more than 5 redirects"),
        (Box::new(|_| Reply::redirect("file:///etc/passwd")), "the server answered 302 Found"),
        (Box::new(|_| Reply::redirect("/a\u{0}b")), "error sending request"),
    ];
    for (ill, why) in cases {
        lab.server.answer(move |request| ill(request));
        lab.problem(why).await;
        let state = lab.states.get("f").unwrap();
        assert!(state.failing.is_some() && state.checked.is_some());
        lab.server.answer(move |request| {
            assert_eq!(request.header("if-none-match"), Some("\"good\""), "it still has what it had");
            Reply::status("304 Not Modified")
        });
        lab.state("well again", |state| state.problem.is_none() && state.failing.is_none()).await;
    }
    // A redirect that leads somewhere is followed.
    lab.server.answer(move |request| {
        if request.is_for("/orders.jsonl") { Reply::redirect("/moved") } else { Reply::content("moved\n", &[]) }
    });
    lab.told().await;
    assert_eq!(fs::read_to_string(lab.path()).unwrap(), "moved\n");
}

#[tokio::test]
async fn f4_no_redirect_leads_from_https_to_http() {
    let plain = Server::start(|_| Reply::content("bad\n", &[])).await;
    let (authority, to) = (Authority::new(), plain.url("orders.jsonl").to_string());
    let mut lab = Lab::new(Server::start_tls(&authority, false, move |_| Reply::redirect(&to)).await);
    let ca = lab.folder.path().join("ca.pem");
    fs::write(&ca, authority.pem()).unwrap();
    lab.start(Remote { ca: Some(ca), ..lab.remote() }, None);
    let is_so =
        |state: &State| state.problem.as_deref().is_some_and(|why| why.contains("a redirect from https to http"));
    lab.state("refused", is_so).await;
    assert!(!lab.path().exists());
    assert_eq!(plain.requests(), 0);
}

#[tokio::test]
async fn f4_a_server_that_is_not_there_is_told() {
    let server = Server::start(|_| Reply::Close).await;
    let mut lab = Lab::new(server);
    let mut remote = lab.remote();
    // The discard port: nobody listens.
    remote.url.set_port(Some(9)).unwrap();
    lab.start(remote, None);
    lab.state("refused", |state| state.problem.as_deref().is_some_and(|why| why.contains("Connection refused"))).await;
    assert!(!lab.path().exists());
}

#[tokio::test]
async fn f4_what_cannot_be_written_is_told_and_the_last_state_stays() {
    let mut lab = Lab::new(Server::start(|_| Reply::content("good\n", &[])).await);
    // A file where the folder should be.
    fs::write(lab.folder.path().join("feeds"), "").unwrap();
    lab.start(lab.remote(), None);
    lab.state("told", |state| state.problem.as_deref().is_some_and(|why| why.contains("feeds: "))).await;
    fs::remove_file(lab.folder.path().join("feeds")).unwrap();
    lab.told().await;
    assert_eq!(fs::read_to_string(lab.path()).unwrap(), "good\n");
}
