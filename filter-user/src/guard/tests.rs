use super::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn names(list: &[&str]) -> BTreeSet<Name> {
    list.iter().map(|text| name(text)).collect()
}

fn rule(guards: &Guards, text: &str, reach: Match, except: &[&str]) -> Ruling {
    guards.of("f").rule(&name(text), reach, &names(except))
}

#[test]
fn f1_public_suffixes_are_refused_private_ones_held_and_names_below_them_are_free() {
    let refused = |error| Ruling::Refused(error);
    let why = "is a private suffix, under which its owner gives names to others";
    let held = |also: &str| Ruling::Held(Guard::PrivateSuffix, format!("{why}{also}"));
    for (text, ruling) in [
        ("com", refused(GuardError::TopLevel)),
        ("no-such-tld", refused(GuardError::TopLevel)),
        ("co.uk", refused(GuardError::PublicSuffix)),
        ("公司.cn", refused(GuardError::PublicSuffix)),
        ("anything.ck", refused(GuardError::PublicSuffix)),
        ("github.io", held("; is protected: hosts the sites of many")),
        ("duckdns.org", held("")),
        ("www.ck", Ruling::Free),
        ("example.com", Ruling::Free),
        ("example.co.uk", Ruling::Free),
        ("example.github.io", Ruling::Free),
        ("example.no-such-tld", Ruling::Free),
    ] {
        for reach in [Match::Exact, Match::Subtree] {
            assert_eq!(rule(&Guards::all(), text, reach, &[]), ruling, "{text}");
        }
        assert_eq!(rule(&Guards::none(), text, Match::Subtree, &[]), Ruling::Free);
        let check = Guards::all().of("f").check(&name(text));
        let is_refused = matches!(ruling, Ruling::Refused(_));
        assert_eq!(check.is_err(), is_refused, "{text}: rows are refused by the same suffixes");
    }
}

#[test]
fn the_shipped_list_is_right_and_gives_a_reason_for_each_name() {
    let text = include_str!("protected.txt");
    let mut list = Protected::default();
    assert_eq!(list.read(text), []);
    assert_eq!(Protected::shipped(), list);
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(lines.len() > 300);
    let mut seen = BTreeSet::new();
    for line in lines {
        let (name, why) = line.split_once(' ').unwrap_or_else(|| panic!("no reason: {line}"));
        assert!(!why.trim().is_empty(), "no reason: {line}");
        assert!(seen.insert(name.trim_start_matches('.')), "twice: {line}");
    }
}

#[test]
fn a_rule_that_would_stop_a_protected_name_is_held_with_the_reason() {
    let guards = Guards::all();
    for (text, reach, why) in [
        ("www.google.com", Match::Exact, "is protected: Google"),
        ("a.root-servers.net", Match::Exact, "is protected with all names below root-servers.net: the DNS root's"),
        ("impots.gouv.fr", Match::Subtree, "is protected with all names below gouv.fr: a government's sites"),
        ("connectivitycheck.gstatic.com", Match::Subtree, "is protected: connectivity check"),
        ("usercontent.google.com", Match::Below, "reaches over the protected name drive.usercontent.google.com"),
        ("mp.microsoft.com", Match::Below, "reaches over the protected name delivery.mp.microsoft.com"),
        ("cloudflare.com", Match::Subtree, "is protected: Cloudflare; it would stop "),
        ("google.com", Match::Subtree, "is protected: Google; it would stop "),
    ] {
        match rule(&guards, text, reach, &[]) {
            Ruling::Held(Guard::Protected, told) => assert!(told.starts_with(why), "{text}: {told}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    for (text, reach) in [
        // Below a protected name, which protects itself alone.
        ("pirate.google.com", Match::Subtree),
        ("usercontent.google.com.example.net", Match::Subtree),
        ("notgoogle.com", Match::Subtree),
        ("googleapis.com.example", Match::Exact),
        ("motogpstream.me", Match::Subtree),
    ] {
        assert_eq!(rule(&guards, text, reach, &[]), Ruling::Free, "{text}");
    }
}

#[test]
fn a_rule_stops_what_its_reach_and_the_exceptions_leave() {
    let mut protected = Protected::default();
    let wrong =
        protected.read("# remark\nwww.shop.example  the shop # and more\n.state.example  the state\n\nb?d  x\n");
    assert_eq!(wrong.len(), 1);
    assert_eq!((wrong[0].line, wrong[0].text.as_str()), (5, "b?d"));
    let guards = Guards::new(protected, Vec::new());
    let is_held = |text: &str, reach, except: &[&str]| matches!(rule(&guards, text, reach, except), Ruling::Held(..));
    for (text, reach, except, held) in [
        ("shop.example", Match::Exact, &[][..], false),
        ("shop.example", Match::Subtree, &[], true),
        ("shop.example", Match::Below, &[], true),
        ("shop.example", Match::Subtree, &["www.shop.example"], false),
        ("shop.example", Match::Subtree, &["a.www.shop.example"], true),
        ("www.shop.example", Match::Exact, &[], true),
        ("www.shop.example", Match::Below, &[], false),
        ("a.www.shop.example", Match::Subtree, &[], false),
        ("state.example", Match::Exact, &[], true),
        ("state.example", Match::Below, &[], true),
        ("tax.state.example", Match::Exact, &[], true),
        ("tax.state.example", Match::Below, &[], true),
        ("tax.state.example", Match::Exact, &["state.example"], false),
    ] {
        assert_eq!(is_held(text, reach, except), held, "{text} {reach:?} {except:?}");
    }
    // What is wider after than before.
    let guarded = guards.of("f");
    let (none, left_out) = (names(&[]), names(&["www.shop.example"]));
    let shop = name("shop.example");
    let why = guarded.widens(&shop, (Match::Exact, &none), (Match::Subtree, &none)).unwrap();
    assert_eq!(why, "reaches over the protected name www.shop.example: the shop");
    assert!(guarded.widens(&shop, (Match::Subtree, &left_out), (Match::Subtree, &none)).is_some());
    assert_eq!(guarded.widens(&shop, (Match::Subtree, &none), (Match::Below, &none)), None);
    assert_eq!(guarded.widens(&shop, (Match::Subtree, &none), (Match::Exact, &none)), None);
}

#[test]
fn a_source_has_the_guards_of_the_feed_that_it_lies_under() {
    let policy = |feed: &str| Policy { feed: feed.to_owned(), ..Policy::none() };
    let feeds = vec![("/a".into(), policy("a")), ("/a/b".into(), policy("b")), ("cli".into(), policy("control"))];
    let guards = Guards::new(Protected::default(), feeds);
    for (source, feed) in [("/a/x.jsonl", "a"), ("/a/b/x.jsonl", "b"), ("/ab/x", ""), ("/a", "a"), ("cli", "control")] {
        assert_eq!(guards.of(source).policy.feed, feed, "{source}");
    }
}

#[test]
fn a_limit_is_exceeded_over_both_its_parts() {
    let limit = Limit { rows: 10, percent: 50 };
    for (changed, before, exceeded) in
        [(10, 0, false), (11, 0, true), (11, 22, false), (12, 22, true), (11, 1000, false)]
    {
        assert_eq!(limit.is_exceeded(changed, before), exceeded, "{changed} of {before}");
    }
}
