//! What becomes of tickets that a platform in good health has.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn each_item_is_answered_once_it_is_enforced_or_why_it_is_not() {
    let mut lab = Lab::new().await;
    lab.set([json!({
        "ticket_id": 17, "status": "open",
        "fqdn": ["Stream.Example.", {"value": "live.example"}, "https://a.example/x", "co.uk", "google.com", "192.0.2.7"],
        "ipv4": ["192.0.2.1"], "ipv6": ["2001:db8::/64"],
    })]);
    lab.enforces.store(false, Ordering::Relaxed);
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:17", &["live.example", "stream.example"])]));
    let order = lab.order("shield:17").order;
    assert_eq!((order.terms.reference.as_str(), order.terms.issuer.as_str()), ("AGCOM 17", "AGCOM"));
    let mut texts = lab.answers_with_texts();
    texts.sort();
    let text =
        |value: &str, reason: &str, note: &str| ("17".to_owned(), value.to_owned(), reason.to_owned(), note.to_owned());
    let addresses = "addresses are not blocked here, only names";
    let held = "a rule would stop a protected name";
    let expected = [
        text("192.0.2.1", "UNSUPPORTED", addresses),
        text("192.0.2.7", "UNSUPPORTED", addresses),
        text("2001:db8::/64", "UNSUPPORTED", addresses),
        text("co.uk", "GUARD", "co.uk is a public suffix, under which others register their names"),
        text("google.com", "GUARD", held),
        text("https://a.example/x", "MALFORMED", "https://a.example/x: is a URL; give the host name alone"),
    ];
    assert_eq!(texts, expected);

    // What the kernel has not is not answered, as long as that lasts.
    lab.poll_well().await;
    assert_eq!(lab.answers(), []);
    assert_eq!(lab.poller.as_ref().unwrap().counts(), Counts { tickets: 1, processed: 0, unprocessed: 6, open: 2 });
    lab.enforces.store(true, Ordering::Relaxed);
    lab.poll_well().await;
    assert_eq!(lab.answers(), told(&[("17", "Stream.Example.", "processed"), ("17", "live.example", "processed")]));
    lab.poll_well().await;
    lab.restart();
    lab.poll_well().await;
    assert_eq!(lab.answers(), [], "what was told is not told again, also by a daemon that starts anew");

    // What is approved is answered anew.
    let held = lab.book.lock().unwrap().held(usize::MAX).unwrap();
    lab.book.lock().unwrap().approve(&held, &json!({"user": "root"})).unwrap();
    lab.poll_well().await;
    assert_eq!(lab.answers(), told(&[("17", "google.com", "processed")]));
    // What the operator revokes is not processed any more, and stays revoked.
    let revoke = Event::Revoke { order: "shield:17".to_owned(), why: String::new() };
    lab.book.lock().unwrap().apply("cli", vec![Entry { line: 0, seq: None, at: None, event: revoke }]).unwrap();
    lab.poll_well().await;
    let withdrawn = ["Stream.Example.", "google.com", "live.example"].map(|name| ("17", name, "WITHDRAWN"));
    assert_eq!((lab.answers(), lab.orders()), (told(&withdrawn), Vec::new()));
    // That another item goes does not undo what the operator did.
    let fqdn = json!(["Stream.Example.", "google.com"]);
    lab.set([json!({"ticket_id": 17, "status": "open", "fqdn": fqdn})]);
    lab.poll_well().await;
    assert_eq!((lab.answers(), lab.orders()), (Vec::new(), Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_platform_gave_and_what_it_was_answered_is_for_the_history() {
    let mut lab = Lab::new().await;
    lab.set([ticket("1", "open", &["a.example", "co.uk"]), ticket("2", "open", &["b.example"])]);
    lab.poll_well().await;
    let noted = |lab: &Lab| std::mem::take(&mut *lab.noted.lock().unwrap());
    let [(fetch, what), answers @ ..] = &noted(&lab)[..] else { panic!() };
    assert_eq!(
        (*fetch, &what["feed"], &what["tickets"], &what["changed"]),
        ("fetch", &json!("shield"), &json!(2), &json!(["1", "2"]))
    );
    let file = std::fs::read(lab.path()).unwrap();
    assert_eq!((&what["octets"], &what["sha256"]), (&json!(file.len()), &json!(sha256(&file))));
    let mut told: Vec<String> = Vec::new();
    for (word, what) in answers {
        assert_eq!((*word, &what["feed"]), ("answer", &json!("shield")));
        let answer = |answer: &Value| {
            let text = |field: &str| answer[field].as_str().unwrap_or("-").to_owned();
            ["ticket", "order", "item", "answer", "why"].map(text).join(" ")
        };
        told.extend(what["answers"].as_array().unwrap().iter().map(answer));
    }
    told.sort();
    assert_eq!(
        told,
        [
            "1 shield:1 a.example processed -",
            "1 shield:1 co.uk guard co.uk is a public suffix, under which others register their names",
            "2 shield:2 b.example processed -",
        ]
    );
    // Nothing new, nothing answered, nothing told.
    lab.poll_well().await;
    assert_eq!(noted(&lab), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_name_is_free_is_answered_once_the_kernel_has_let_go() {
    let mut lab = Lab::with(|platform, _| platform.paths.allow_list = "allowed".to_owned()).await;
    lab.set([ticket("1", "open", &["a.example", "b.example"])]);
    lab.poll_well().await;
    lab.answers();
    lab.server.shared.lock().allow = vec![json!("a.example")];
    lab.is_late.store(true, Ordering::Relaxed);
    lab.poll_well().await;
    assert_eq!(lab.answers(), []);
    lab.is_late.store(false, Ordering::Relaxed);
    lab.poll_well().await;
    assert_eq!(lab.answers(), told(&[("1", "a.example", "ALLOW_LISTED")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_in_its_revoke_window_waits_or_is_undone() {
    let names: &[&str] = &["a.example"];
    let mut lab = Lab::new().await;
    lab.set([ticket("1", "created", names), ticket("2", "created", names)]);
    lab.poll_well().await;
    assert_eq!((lab.orders(), lab.answers()), (Vec::new(), Vec::new()), "held");
    lab.set([ticket("1", "open", names), ticket("2", "revoked", names)]);
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:1", names)]));
    assert!(lab.book.lock().unwrap().order("shield:2").unwrap().is_none(), "revoked before it was enforced");
    assert_eq!(lab.answers(), told(&[("1", "a.example", "processed")]));

    let mut lab = Lab::with(|platform, _| platform.enforces_pending = true).await;
    lab.set([ticket("1", "created", names)]);
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:1", names)]));
    assert_eq!(lab.answers(), told(&[("1", "a.example", "processed")]));
    lab.set([ticket("1", "revoked", names)]);
    lab.poll_well().await;
    assert_eq!((lab.orders(), lab.answers()), (Vec::new(), Vec::new()), "undone");
    // It is opened again: that is another instruction, to be answered anew.
    lab.set([ticket("1", "open", names)]);
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:1", names)]));
    assert_eq!(lab.answers(), told(&[("1", "a.example", "processed")]));
    // A closed one goes on, and takes no answers.
    lab.set([ticket("1", "closed", &["a.example", "b.example"])]);
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:1", &["a.example", "b.example"])]));
    assert_eq!(lab.answers(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_changes_is_followed() {
    let mut lab = Lab::new().await;
    let items = |a: &str, more: &[&str]| {
        let mut items = vec![json!({"value": "a.example", "status": a})];
        items.extend(more.iter().map(|name| json!(name)));
        json!({"ticket_id": "1", "status": "open", "fqdn": items})
    };
    lab.set([items("open", &["b.example"])]);
    lab.poll_well().await;
    assert_eq!(lab.answers(), told(&[("1", "a.example", "processed"), ("1", "b.example", "processed")]));
    // One item is revoked, one goes, one comes.
    lab.set([items("revoked", &["c.example"])]);
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:1", &["c.example"])]));
    assert_eq!(lab.answers(), told(&[("1", "c.example", "processed")]));
    // Both are back.
    lab.set([items("open", &["b.example", "c.example"])]);
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:1", &["a.example", "b.example", "c.example"])]));
    assert_eq!(lab.answers(), told(&[("1", "a.example", "processed"), ("1", "b.example", "processed")]));
    // Every item is revoked: the order stops nothing, and the guards do not hold that.
    let many: Vec<String> = (0..20).map(|n| format!("n{n}.example")).collect();
    let all = |status: &str| {
        let items: Vec<Value> = many.iter().map(|name| json!({"value": name, "status": status})).collect();
        [json!({"ticket_id": "2", "status": "open", "fqdn": items})]
    };
    lab.set(all("open"));
    lab.poll_well().await;
    assert_eq!(lab.answers().len(), 20);
    lab.set(all("revoked"));
    lab.poll_well().await;
    assert_eq!(lab.orders()[1], ("shield:2".to_owned(), Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_tickets_have_is_kept_as_long_as_one_has_it() {
    let mut lab = Lab::new().await;
    lab.set([ticket("9", "open", &["a.example"])]);
    lab.poll_well().await;
    lab.answers();
    // Ids sort otherwise than they come.
    lab.set([ticket("10", "open", &["a.example", "b.example"]), ticket("9", "open", &["a.example"])]);
    lab.poll_well().await;
    let texts = lab.answers_with_texts();
    let blocked = texts.iter().find(|(_, _, what, _)| what == "ALREADY_BLOCKED").unwrap();
    assert_eq!(
        (blocked.0.as_str(), blocked.1.as_str(), blocked.3.as_str()),
        ("10", "a.example", "order shield:9 has it")
    );
    assert_eq!(texts.len(), 2);
    lab.set([ticket("10", "open", &["a.example", "b.example"]), ticket("9", "revoked", &["a.example"])]);
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:10", &["a.example", "b.example"])]));
    assert_eq!(lab.answers(), [], "it was stopped, and is");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_allow_list_beats_tickets_and_does_not_vanish_at_a_stroke() {
    let mut lab = Lab::with(|platform, _| platform.paths.allow_list = "allowed".to_owned()).await;
    let tickets = [ticket("1", "open", &["a.example", "www.b.example", "c.example"])];
    lab.set(tickets.clone());
    lab.server.shared.lock().ill = vec![("allowed", 500, "")];
    let why = lab.poll_ill().await;
    assert_eq!(why, "the allow list: the server answered 500 Internal Server Error");
    assert_eq!(lab.orders(), [], "without an allow list nothing is enforced");
    lab.server.shared.lock().ill.clear();
    lab.server.shared.lock().allow = vec![json!("b.example"), json!({"value": "x.c.example"}), json!("192.0.2.1")];
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:1", &["a.example", "c.example"])]));
    let except: Vec<String> = lab.order("shield:1").order.except.iter().map(ToString::to_string).collect();
    assert_eq!(except, ["x.c.example"]);
    let mut expected = vec![("1", "a.example", "processed"), ("1", "c.example", "processed")];
    expected.push(("1", "www.b.example", "ALLOW_LISTED"));
    assert_eq!(lab.answers(), told(&expected));

    // It grows: the name is free at once, and the platform is told so.
    let mut names: Vec<Value> = vec![json!("a.example"), json!("b.example")];
    names.extend((0..20).map(|n| json!(format!("n{n}.example"))));
    lab.server.shared.lock().allow = names.clone();
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:1", &["c.example"])]));
    assert_eq!(lab.answers(), told(&[("1", "a.example", "ALLOW_LISTED")]));
    // It shrinks by one: that one is stopped again.
    lab.server.shared.lock().allow = names[1..].to_vec();
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:1", &["a.example", "c.example"])]));
    assert_eq!(lab.answers(), told(&[("1", "a.example", "processed")]));
    // It is empty, or nearly, or cannot be read, or is not there: what it had stays free.
    let had = "21 of 21 names left the allow list at once; they are still not stopped (guards `shrink`, `empty`)";
    for (allow, ill, why) in [
        (Vec::new(), None, had),
        (vec![json!("x.example")], None, had),
        (
            vec![json!("a..b"), json!("b.example")],
            None,
            "21 of 22 names left the allow list at once; they are still not stopped (guards `shrink`, `empty`); the allow \
             list: a..b: has an empty label; nothing that it had before is stopped, and no name that is new, since this \
             entry may be about it",
        ),
        (
            names.clone(),
            Some(("allowed", 404, "")),
            "the allow list: the server answered 404 Not Found; the last one holds",
        ),
        (names.clone(), Some(("allowed", 200, "{\"data\":")), "the allow list: not JSON: EOF"),
    ] {
        lab.server.shared.lock().allow = allow;
        lab.server.shared.lock().ill = ill.into_iter().collect();
        let told = lab.poll_ill().await;
        assert!(told.contains(why), "{told}");
        lab.set([ticket("1", "open", &["a.example", "www.b.example", "c.example", "n7.example"])]);
        assert_eq!(lab.orders(), stopped(&[("shield:1", &["a.example", "c.example"])]), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allow_list_that_shrank_at_a_stroke_is_taken_once_that_is_approved() {
    let mut lab = Lab::with(|platform, _| platform.paths.allow_list = "allowed".to_owned()).await;
    let names: Vec<Value> = (0..20).map(|n| json!(format!("n{n}.example"))).collect();
    lab.server.shared.lock().allow = names.clone();
    lab.set([ticket("1", "open", &["n7.example", "n8.example", "c.example"])]);
    lab.poll_well().await;
    let free = stopped(&[("shield:1", &["c.example"])]);
    let held = |lab: &Lab| lab.poller.as_ref().unwrap().held_allow.clone();
    assert_eq!((lab.orders(), held(&lab)), (free.clone(), None));
    lab.server.shared.lock().allow = vec![json!("n8.example")];
    let problem = lab.poll_ill().await;
    let HeldAllow { id, guard, since, gone, before } = held(&lab).unwrap();
    assert!(problem.ends_with(&format!(", until that is approved: {id}")), "{problem}");
    assert_eq!(
        (guard, before, gone.len(), gone.contains(&Name::parse("n7.example").unwrap())),
        (Guard::Shrink, 20, 19, true)
    );
    // It is the same as long as the list is, and another with another list.
    lab.poll_ill().await;
    assert_eq!(held(&lab).map(|held| (held.id, held.since)), Some((id.clone(), since)));
    lab.server.shared.lock().allow = Vec::new();
    lab.poll_ill().await;
    let empty = held(&lab).unwrap();
    assert_eq!((empty.guard, empty.gone.len()), (Guard::Empty, 20));
    assert_ne!(empty.id, id);
    // What was shown is approved, and nothing else.
    *lab.approved.lock().unwrap() = Some(id);
    lab.poll_ill().await;
    assert_eq!((lab.orders(), held(&lab)), (free.clone(), Some(empty)));
    // It does not wait for a daemon that starts anew, and is taken.
    lab.server.shared.lock().allow = vec![json!("n8.example")];
    lab.restart();
    lab.poll_well().await;
    assert_eq!((lab.orders(), held(&lab)), (stopped(&[("shield:1", &["c.example", "n7.example"])]), None));
    assert_eq!(*lab.approved.lock().unwrap(), None, "an approval is of one change");
    // What it gains and loses from then on counts from there.
    lab.server.shared.lock().allow = names;
    lab.poll_well().await;
    assert_eq!(lab.orders(), free);
}

#[tokio::test(flavor = "multi_thread")]
async fn f2_a_ticket_that_grows_past_the_limit_is_held_and_the_others_are_not() {
    let mut lab = Lab::new().await;
    let many = |count: usize| -> Value {
        let names: Vec<String> = (0..count).map(|n| format!("n{n}.example")).collect();
        json!({"ticket_id": "1", "status": "open", "fqdn": names})
    };
    // A new one is no exception: nobody has seen it.
    lab.set([many(1200), ticket("2", "open", &["b.example"])]);
    lab.poll_well().await;
    assert_eq!(lab.orders(), stopped(&[("shield:1", &[]), ("shield:2", &["b.example"])]));
    let answers = lab.answers_with_texts();
    let held: Vec<_> = answers.iter().filter(|(ticket, ..)| ticket == "1").collect();
    assert_eq!(held.len(), 1200);
    assert!(held.iter().all(|(_, _, what, _)| what == "GUARD"), "{:?}", held[0]);
    assert!(answers.contains(&("2".to_owned(), "b.example".to_owned(), "processed".to_owned(), String::new())));
    let held = lab.book.lock().unwrap().held(0).unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].order.as_str(), held[0].guard), ("shield:1", Guard::Growth));
    lab.book.lock().unwrap().approve(&held, &json!({"user": "root"})).unwrap();
    lab.poll_well().await;
    assert_eq!(lab.answers().iter().filter(|(_, _, what)| what == "processed").count(), 1200);
    assert_eq!(lab.server.shared.lock().most_at_once, 4, "so many answers are under way at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_tickets_stay_or_are_over_as_it_is_configured() {
    let mut lab = Lab::new().await;
    let tickets: Vec<Value> = (0..20).map(|n| ticket(&n.to_string(), "open", &["a.example"])).collect();
    lab.set(tickets.clone());
    lab.poll_well().await;
    lab.set([tickets[0].clone()]);
    lab.poll_well().await;
    assert_eq!(lab.orders().len(), 20);

    let mut lab = Lab::with(|platform, _| platform.absent_is_over = true).await;
    lab.set(tickets.clone());
    lab.poll_well().await;
    lab.set(tickets[1..].to_vec());
    lab.poll_well().await;
    assert_eq!(lab.orders().len(), 19);
    // A listing that lacks most of them may be half of one.
    lab.set([tickets[1].clone()]);
    lab.poll_well().await;
    assert_eq!(lab.orders().len(), 19);
    assert_eq!(lab.book.lock().unwrap().held(0).unwrap()[0].guard, Guard::Shrink);
    lab.set(tickets.clone());
    lab.poll_well().await;
    assert_eq!(lab.orders().len(), 20);
    assert_eq!(lab.book.lock().unwrap().held(0).unwrap(), []);
}
