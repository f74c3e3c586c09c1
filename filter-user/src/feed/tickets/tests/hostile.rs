//! Platforms that are unwell, daemons that are killed, disks that are full.

use super::*;

const GOOD: &[&str] = &["good.example"];

#[tokio::test(flavor = "multi_thread")]
async fn f4_whatever_the_platform_answers_the_last_good_state_stays() {
    let mut lab = Lab::new().await;
    lab.set([ticket("1", "open", GOOD)]);
    lab.poll_well().await;
    lab.answers();
    let whole = json!({"data": [ticket("2", "open", &["bad.example"])]}).to_string();
    let cases: [(u16, String, &str); 12] = [
        (500, String::new(), "the tickets: the server answered 500 Internal Server Error"),
        (302, String::new(), "the tickets: the server answered 302 Found"),
        (204, String::new(), "the tickets: the server answered with nothing"),
        (200, whole[..whole.len() - 3].to_owned(), "the tickets: not JSON: EOF while parsing"),
        (200, "<html>sign in</html>".to_owned(), "the tickets: not JSON: expected value"),
        (200, json!({"tickets": []}).to_string(), "the tickets: `/data` is not an array"),
        (200, json!({"data": {}}).to_string(), "the tickets: `/data` is not an array"),
        (
            200,
            json!({"data": [{"status": "open"}]}).to_string(),
            "a ticket: `/ticket_id` is neither a text nor a whole",
        ),
        (
            200,
            json!({"data": [{"ticket_id": "1", "status": "opened", "fqdn": []}]}).to_string(),
            "ticket 1: `/status` is opened, which is no known state; what was there before stays",
        ),
        (
            200,
            json!({"data": [{"ticket_id": "1", "status": "open", "fqdn": "bad.example"}]}).to_string(),
            "ticket 1: `/fqdn` is not an array; what was there before stays",
        ),
        (
            200,
            json!({"data": [{"ticket_id": "1", "status": "open", "fqdn": ["bad.example", 5]}]}).to_string(),
            "ticket 1: `/fqdn` holds 5, which is no item; what was there before stays",
        ),
        (
            200,
            json!({"data": [ticket("1", "open", GOOD), ticket("1", "revoked", GOOD)]}).to_string(),
            "ticket 1: is listed twice, and differs; what was there before stays",
        ),
    ];
    for (status, body, why) in cases {
        lab.server.shared.lock().ill = vec![("ticket/get/all", status, body.leak())];
        let told = lab.poll_ill().await;
        assert!(told.starts_with(why), "{told}");
        assert_eq!(lab.orders(), stopped(&[("shield:1", GOOD)]), "{why}");
    }
    // One that cannot be read does not keep others from being taken.
    lab.server.shared.lock().ill.clear();
    lab.set([json!({"ticket_id": "1", "status": 5}), ticket("3", "open", &["more.example"])]);
    assert!(lab.poll_ill().await.contains("ticket 1: `/status` is not a text"));
    assert_eq!(lab.orders(), stopped(&[("shield:1", GOOD), ("shield:3", &["more.example"])]));
    lab.set([ticket("1", "revoked", GOOD)]);
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:3", &["more.example"])]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_taken_any_more_is_renewed_once() {
    let mut lab = Lab::new().await;
    let counts = |lab: &Lab| {
        let inner = lab.server.shared.lock();
        (inner.logins, inner.refreshes)
    };
    lab.set([ticket("1", "open", GOOD)]);
    lab.poll_well().await;
    lab.poll_well().await;
    assert_eq!(counts(&lab), (1, 0));
    // Expired: by the refresh token.
    lab.server.shared.lock().good.0 = "another".to_owned();
    lab.poll_well().await;
    assert_eq!(counts(&lab), (1, 1));
    // Both expired: by a login.
    lab.server.shared.lock().good = ("another".to_owned(), "another".to_owned());
    lab.poll_well().await;
    assert_eq!(counts(&lab), (2, 2));
    // It expires in the middle of the answers: none is lost, and none is told twice.
    let names: Vec<String> = (0..100).map(|n| format!("n{n}.example")).collect();
    lab.answers();
    lab.server.shared.lock().expires_after = Some(30);
    lab.set([json!({"ticket_id": "2", "status": "open", "fqdn": names})]);
    lab.poll_well().await;
    let answers = lab.answers();
    assert_eq!((answers.len(), answers.iter().collect::<BTreeSet<_>>().len()), (100, 100));
    assert_eq!(counts(&lab), (2, 3));
    // Never taken: asked for once more, and no more than that.
    lab.server.shared.lock().ill = vec![("ticket/get/all", 401, "")];
    assert_eq!(lab.poll_ill().await, "the tickets: the server answered 401 Unauthorized");
    assert_eq!(counts(&lab), (2, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_fails_is_told_without_the_password() {
    let mut lab = Lab::new().await;
    let password = lab.folder.path().join("password");
    let at = password.display().to_string();
    std::fs::write(&password, "wrong\n").unwrap();
    let mut told = vec![lab.poll_ill().await];
    for content in ["", "two\nlines\n"] {
        std::fs::write(&password, content).unwrap();
        told.push(lab.poll_ill().await);
    }
    std::fs::write(&password, "pass word").unwrap();
    for body in ["{\"data\":{}}", "not JSON secret-token", "{\"data\":{\"access_token\":\"a b\"}}"] {
        lab.server.shared.lock().ill = vec![("authentication/login", 200, body)];
        told.push(lab.poll_ill().await);
    }
    let expected = [
        "the tickets: login: the server answered 401 Unauthorized".to_owned(),
        format!("the tickets: {at}: is empty"),
        format!("the tickets: {at}: has more than one line, or a control character"),
        "the tickets: login: the answer has no token at `/data/access_token`".to_owned(),
        "the tickets: login: the answer is not JSON".to_owned(),
        "the tickets: login: the answer has no token at `/data/access_token`".to_owned(),
    ];
    assert_eq!(told, expected);
    // The file is read anew.
    lab.server.shared.lock().ill.clear();
    lab.set([ticket("1", "open", GOOD)]);
    lab.poll_well().await;
    assert_eq!(lab.answers(), told_once());
}

fn told_once() -> Vec<(String, String, String)> {
    told(&[("1", "good.example", "processed")])
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_not_taken_are_told_and_tried_again() {
    let mut lab = Lab::new().await;
    lab.set([ticket("1", "open", &["bad.example", "good.example"])]);
    lab.server.shared.lock().unwanted = vec!["bad.example"];
    let why = "the platform does not take 1 answers, the first one: ticket 1: bad.example: the server answered 422 \
               Unprocessable Entity";
    assert_eq!(lab.poll_ill().await, why);
    assert_eq!(lab.answers(), told_once());
    assert_eq!(lab.poll_ill().await, why);
    assert_eq!(lab.answers(), []);
    lab.server.shared.lock().unwanted.clear();
    lab.poll_well().await;
    assert_eq!(lab.answers(), told(&[("1", "bad.example", "processed")]));
    // A platform that is down takes none, and none is lost.
    lab.set([ticket("2", "open", &["more.example"])]);
    for (status, why) in [(503, "503 Service Unavailable"), (302, "302 Found"), (429, "429 Too Many Requests")] {
        lab.server.shared.lock().ill = vec![("ticket/item/set/processed", status, "")];
        assert_eq!(lab.poll_ill().await, format!("the answers: the server answered {why}"));
        assert_eq!(lab.answers(), []);
    }
    lab.server.shared.lock().ill.clear();
    lab.poll_well().await;
    assert_eq!(lab.answers(), told(&[("2", "more.example", "processed")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_one_another_on_the_same_server_and_all_or_none_are_taken() {
    let mut lab = Lab::with(|platform, _| platform.fields.next = "/next".to_owned()).await;
    let first = |next: Value| Some(json!({"data": [ticket("1", "open", GOOD)], "next": next}).to_string());
    lab.set([ticket("2", "open", &["more.example"])]);
    lab.server.shared.lock().listing = first(json!("second?page=2"));
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:1", GOOD), ("shield:2", &["more.example"])]));
    lab.set([ticket("2", "revoked", &["more.example"])]);
    for (next, ill, why) in [
        (json!("second"), Some(("ticket/get/second", 500, "")), "the tickets: the server answered 500"),
        (
            json!("https://evil.example/"),
            None,
            "the tickets: https://evil.example/: leads to another server, which does not",
        ),
        (json!(5), None, "the tickets: `/next` is not an address"),
    ] {
        lab.server.shared.lock().listing = first(next);
        lab.server.shared.lock().ill = ill.into_iter().collect();
        let told = lab.poll_ill().await;
        assert!(told.starts_with(why), "{told}");
        assert_eq!(lab.orders().len(), 2, "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f4_a_daemon_killed_at_any_request_loses_no_item_and_contradicts_no_answer() {
    let names: Vec<String> = (0..6).map(|n| format!("n{n}.example")).collect();
    let tickets = [
        json!({"ticket_id": "1", "status": "open", "fqdn": names, "ipv4": ["192.0.2.1"]}),
        ticket("2", "revoked", GOOD),
    ];
    let mut killed = 0;
    for last in 0.. {
        let mut lab = Lab::new().await;
        lab.set([ticket("2", "open", GOOD)]);
        lab.poll_well().await;
        lab.answers();
        lab.set(tickets.clone());
        let shared = Arc::clone(&lab.server.shared);
        let so_far = shared.lock().requests;
        shared.lock().last = Some(so_far + last);
        let is_done = tokio::select! {
            done = lab.poll() => { done.unwrap(); true }
            () = shared.reached.notified() => false,
        };
        shared.lock().last = None;
        killed += usize::from(!is_done);
        lab.restart();
        lab.poll_well().await;
        let answers = lab.answers();
        let distinct: BTreeSet<_> = answers.iter().cloned().collect();
        let mut expected: Vec<_> = names.iter().map(|name| ("1", name.as_str(), "processed")).collect();
        expected.push(("1", "192.0.2.1", "UNSUPPORTED"));
        expected.sort_unstable();
        assert_eq!(distinct.into_iter().collect::<Vec<_>>(), told(&expected), "killed at request {last}");
        assert_eq!(lab.orders().len(), 1, "killed at request {last}");
        if is_done {
            assert_eq!(answers.len(), 7);
            break;
        }
    }
    assert!(killed >= 7, "{killed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f4_the_orders_are_written_anew_from_the_ledger() {
    let mut lab = Lab::new().await;
    lab.set([ticket("1", "open", GOOD)]);
    lab.poll_well().await;
    std::fs::remove_file(lab.path()).unwrap();
    lab.restart();
    lab.server.shared.lock().ill = vec![("ticket/get/all", 500, "")];
    lab.poll_ill().await;
    assert!(std::fs::read_to_string(lab.path()).unwrap().contains("good.example"), "also while the platform is down");
    assert_eq!(lab.orders(), stopped(&[("shield:1", GOOD)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn f4_a_full_disk_leaves_the_last_state_but_ends_what_is_revoked() {
    let mut lab = Lab::new().await;
    lab.set([ticket("1", "open", GOOD), ticket("2", "open", &["more.example"])]);
    lab.poll_well().await;
    lab.answers();
    lab.poller.as_mut().unwrap().ledger.as_mut().unwrap().fill_disk();
    let many: Vec<String> = (0..2000).map(|n| format!("n{n}.example")).collect();
    lab.set([ticket("2", "revoked", &["more.example"]), json!({"ticket_id": "3", "status": "open", "fqdn": many})]);
    let why = "the ledger of tickets cannot be written: database or disk is full";
    assert_eq!(lab.poll_ill().await, why);
    assert_eq!(lab.orders().len(), 2);
    assert_eq!(*lab.ended.lock().unwrap(), ["shield:2"]);
    assert_eq!(lab.answers(), []);
    lab.restart();
    lab.poll_well().await;
    assert_eq!(lab.orders().iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["shield:1", "shield:3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_allow_list_frees_is_free_though_the_tickets_cannot_be_had() {
    let mut lab = Lab::with(|platform, _| platform.paths.allow_list = "allowed".to_owned()).await;
    lab.set([ticket("1", "open", &["a.example", "b.example"])]);
    lab.poll_well().await;
    lab.answers();
    lab.server.shared.lock().allow = vec![json!("a.example")];
    lab.server.shared.lock().ill = vec![("ticket/get/all", 500, "")];
    assert_eq!(lab.poll_ill().await, "the tickets: the server answered 500 Internal Server Error");
    assert_eq!(lab.orders(), stopped(&[("shield:1", &["b.example"])]));
    lab.server.shared.lock().ill.clear();
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:1", &["b.example"])]));
    assert_eq!(lab.answers(), told(&[("1", "a.example", "ALLOW_LISTED")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_cannot_be_written_are_written_as_soon_as_they_can_be() {
    let mut lab = Lab::new().await;
    lab.set([ticket("1", "open", GOOD), ticket("2", "open", &["more.example"]), ticket("3", "open", &["c.example"])]);
    lab.poll_well().await;
    lab.answers();
    // In the place of the draft there is a folder: root may write in any that is there.
    let draft = spool::draft(&lab.path());
    std::fs::create_dir(&draft).unwrap();
    let names = |status| ticket("2", status, &["more.example"]);
    lab.set([ticket("1", "open", GOOD), names("revoked"), ticket("4", "open", &["d.example"])]);
    let why = format!("{}: Is a directory (os error 21)", lab.path().display());
    assert_eq!(lab.poll_ill().await, why);
    assert_eq!(*lab.ended.lock().unwrap(), ["shield:2"], "ends all the same");
    // A listing that has it no longer does not bring it back; and that nothing is new does not make it well.
    lab.set([ticket("1", "open", GOOD), ticket("3", "revoked", &["c.example"]), ticket("4", "open", &["d.example"])]);
    assert_eq!(lab.poll_ill().await, why);
    assert_eq!(lab.poll_ill().await, why);
    assert_eq!(*lab.ended.lock().unwrap(), ["shield:2", "shield:3"]);
    assert_eq!((lab.orders().len(), lab.answers()), (3, Vec::new()));
    std::fs::remove_dir(&draft).unwrap();
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:1", GOOD), ("shield:4", &["d.example"])]));
    assert_eq!(*lab.ended.lock().unwrap(), [""; 0]);
    assert_eq!(lab.answers(), told(&[("4", "d.example", "processed")]));
    // Not what a daemon can write that has just started, either.
    lab.set([ticket("1", "revoked", GOOD)]);
    std::fs::create_dir(&draft).unwrap();
    assert_eq!(lab.poll_ill().await, why);
    lab.restart();
    assert_eq!(lab.poll_ill().await, why);
    assert_eq!(lab.poll_ill().await, why);
    assert_eq!(*lab.ended.lock().unwrap(), ["shield:1"]);
    std::fs::remove_dir(&draft).unwrap();
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:4", &["d.example"])]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_is_opened_again_while_nothing_can_be_put_down_is_not_over() {
    let mut lab = Lab::new().await;
    lab.set([ticket("1", "open", GOOD)]);
    lab.poll_well().await;
    lab.poller.as_mut().unwrap().ledger.as_mut().unwrap().fill_disk();
    let many: Vec<String> = (0..2000).map(|n| format!("n{n}.example")).collect();
    let many = json!({"ticket_id": "3", "status": "open", "fqdn": many});
    lab.set([ticket("1", "revoked", GOOD), many.clone()]);
    lab.poll_ill().await;
    assert_eq!(*lab.ended.lock().unwrap(), ["shield:1"]);
    lab.set([many.clone()]);
    lab.poll_ill().await;
    assert_eq!(*lab.ended.lock().unwrap(), ["shield:1"]);
    lab.set([ticket("1", "open", GOOD), many]);
    lab.poll_ill().await;
    assert_eq!(*lab.ended.lock().unwrap(), [""; 0]);
    assert_eq!(lab.orders(), stopped(&[("shield:1", GOOD)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_was_lost_takes_no_order_away() {
    let mut lab = Lab::new().await;
    lab.set([ticket("1", "open", GOOD)]);
    lab.poll_well().await;
    let before = std::fs::read(lab.path()).unwrap();
    lab.poller = None;
    for file in ["sqlite", "sqlite-wal", "sqlite-shm"] {
        let _ = std::fs::remove_file(lab.path().with_extension(file));
    }
    lab.restart();
    lab.server.shared.lock().ill = vec![("ticket/get/all", 500, "")];
    lab.poll_ill().await;
    assert_eq!(std::fs::read(lab.path()).unwrap(), before);
    assert_eq!(lab.orders(), stopped(&[("shield:1", GOOD)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn items_may_have_words_of_their_own() {
    let mut lab = Lab::new().await;
    let items = json!([
        {"value": "a.example", "status": "processed"}, {"value": "b.example", "status": 5},
        {"value": "c.example", "status": "revoked"},
    ]);
    lab.set([json!({"ticket_id": "1", "status": "open", "fqdn": items})]);
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:1", &["a.example", "b.example"])]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_new_is_stopped_while_the_allow_list_cannot_be_read_whole() {
    let mut lab = Lab::with(|platform, _| platform.paths.allow_list = "allowed".to_owned()).await;
    let items = |more: &[&str], c: &str| {
        let mut items = vec![json!("a.example"), json!({"value": "c.example", "status": c})];
        items.extend(more.iter().map(|name| json!(name)));
        json!({"ticket_id": "1", "status": "open", "fqdn": items})
    };
    lab.server.shared.lock().allow = vec![json!("*.gov.example"), json!(".city.example")];
    lab.set([items(&["www.gov.example", "x.city.example"], "revoked"), ticket("2", "created", &["d.example"])]);
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:1", &["a.example"])]));
    lab.answers();
    lab.server.shared.lock().allow.push(json!("https://e.example/"));
    lab.set([
        items(&["www.gov.example", "e.example"], "open"),
        ticket("2", "open", &["d.example"]),
        ticket("3", "open", &["e.example"]),
    ]);
    let why = "the allow list: https://e.example/: is a URL; give the host name alone; nothing that it had before is \
               stopped, and no name that is new, since this entry may be about it";
    assert_eq!(lab.poll_ill().await, why);
    assert_eq!(lab.orders(), stopped(&[("shield:1", &["a.example"])]));
    assert_eq!(lab.answers(), []);
    // What is taken back is.
    lab.set([ticket("1", "revoked", &["a.example"]), ticket("2", "open", &["d.example"])]);
    assert_eq!(lab.poll_ill().await, why);
    assert_eq!(lab.orders(), []);
    lab.server.shared.lock().allow.pop();
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:2", &["d.example"])]));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_fail_keep_neither_tickets_nor_other_answers_waiting() {
    let mut lab = Lab::with(|platform, _| platform.at_once = 2).await;
    let many: Vec<String> = (0..20).map(|n| format!("n{n}.example")).collect();
    lab.set([json!({"ticket_id": "1", "status": "open", "fqdn": many})]);
    lab.server.shared.lock().ill = vec![("ticket/item/set/processed", 503, "")];
    let before = lab.server.shared.lock().requests;
    let done = lab.poll().await.unwrap();
    assert_eq!(done.problems, ["the answers: the server answered 503 Service Unavailable"]);
    let requests = lab.server.shared.lock().requests - before;
    assert!((3..=5).contains(&requests), "a login, a listing, and two answers at once: {requests}");
    lab.server.shared.lock().ill.clear();
    lab.poll_well().await;
    assert_eq!(lab.answers().len(), 20);
    // Two that fail for ever.
    lab.server.shared.lock().broken = vec!["a.example", "b.example"];
    lab.set([ticket("2", "open", &["a.example", "b.example", "c.example", "d.example"])]);
    lab.poll_ill().await;
    lab.poll_ill().await;
    assert_eq!(lab.answers(), told(&[("2", "c.example", "processed"), ("2", "d.example", "processed")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_cannot_be_noted_are_not_sent_again() {
    let mut lab = Lab::new().await;
    lab.set([ticket("1", "open", &["a.example"])]);
    lab.enforces.store(false, Ordering::Relaxed);
    lab.poll_well().await;
    lab.enforces.store(true, Ordering::Relaxed);
    lab.poller.as_mut().unwrap().ledger.as_mut().unwrap().read_only(true);
    let why = "the answers: the ledger of tickets cannot be written: attempt to write a readonly database";
    assert_eq!(lab.poll_ill().await, why);
    assert_eq!(lab.answers(), told(&[("1", "a.example", "processed")]));
    assert_eq!(lab.poll_ill().await, why);
    lab.poller.as_mut().unwrap().ledger.as_mut().unwrap().read_only(false);
    lab.poll_well().await;
    assert_eq!(lab.answers(), []);
}
