use std::{collections::BTreeSet, io::Cursor, net::Ipv4Addr};

use filter_common::verdict::{Action, Protocol};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{guard::Guards, name::Name, order::Match};

const PUT: &str = r#"{"op":"put","order":{"id":"x","issuer":"Court","basis":"Law","reference":"1/25","issued":"2025-03-28","not_before":"2025-03-28T00:00:00Z","not_after":"2025-11-17T00:00:00Z","protocols":["dns","tls","quic"],"actions":{"dns":"nxdomain","tls":"reset","quic":"drop"},"scopes":["fr"],"match":"subtree","names":["motogpstream.me"],"except":[],"ede":16}}"#;

fn context() -> Context {
    Context {
        scopes: Some(BTreeSet::from(["fr".to_owned()])),
        targets: Some(BTreeSet::from(["box".to_owned()])),
        guards: Guards::all(),
    }
}

fn read(text: impl AsRef<[u8]>) -> Read {
    super::read("f", Cursor::new(text.as_ref()), &context()).unwrap()
}

/// PUT with some fields of its order changed; null takes a field out.
fn put(changes: Value) -> String {
    let mut line: Value = serde_json::from_str(PUT).unwrap();
    let order = line["order"].as_object_mut().unwrap();
    for (field, value) in changes.as_object().unwrap() {
        if value.is_null() {
            order.remove(field);
        } else {
            order.insert(field.clone(), value.clone());
        }
    }
    line.to_string()
}

fn order(read: &Read) -> &Order {
    match &read.entries[..] {
        [Entry { event: Event::Put(order), .. }] => order,
        other => panic!("one put, not {other:?}; {:?}", read.refusals),
    }
}

fn refusals(read: &Read) -> Vec<String> {
    read.refusals.iter().map(ToString::to_string).collect()
}

fn names(names: &[&str]) -> BTreeSet<Name> {
    names.iter().map(|name| Name::parse(name).unwrap()).collect()
}

#[test]
fn the_design_s_line_is_read() {
    let read = read(PUT);
    assert_eq!(read.refusals, []);
    let Order { terms, names: listed, except } = order(&read);
    assert_eq!((terms.id.as_str(), terms.issuer.as_str(), terms.basis.as_str()), ("x", "Court", "Law"));
    assert_eq!((terms.reference.as_str(), terms.issued.to_string().as_str()), ("1/25", "2025-03-28"));
    assert_eq!(terms.not_before.to_string(), "2025-03-28T00:00:00Z");
    assert_eq!(terms.not_after.unwrap().to_string(), "2025-11-17T00:00:00Z");
    let actions = [(Protocol::Dns, Action::Nxdomain), (Protocol::Tls, Action::Reset), (Protocol::Quic, Action::Drop)];
    assert_eq!(terms.actions, actions.into());
    assert_eq!(terms.scopes, BTreeSet::from(["fr".to_owned()]));
    assert_eq!((terms.reach, terms.ede, terms.insist_nxdomain), (Match::Subtree, 16, false));
    assert_eq!(*listed, names(&["motogpstream.me"]));
    assert_eq!(*except, names(&[]));
}

#[test]
fn the_example_is_read() {
    let read = read(include_str!("../../../../examples/orders/paris-motogp-2025.jsonl"));
    assert_eq!(read.refusals, []);
    let Order { terms, names: listed, .. } = order(&read);
    assert_eq!(*listed, names(&["tarjetarojaenvivo.lat", "motogpstream.me", "livetv821.me"]));
    assert!(terms.reference.len() <= filter_common::layout::MAX_TEXT);
}

#[test]
fn what_is_optional_is_read_too() {
    let read = read(put(json!({
        "not_after": "none", "protocols": ["dns", "tls"], "actions": {"dns": "address", "tls": "redirect"},
        "address": {"a": "192.0.2.1"}, "redirect": "box", "scopes": ["all"], "match": "exact", "except": null,
        "ede": 15, "insist_nxdomain": true,
    })));
    assert_eq!(read.refusals, []);
    let terms = &order(&read).terms;
    assert_eq!((terms.part_of.as_deref(), terms.whole()), (None, terms.id.as_str()));
    assert_eq!(terms.not_after, None);
    assert_eq!((terms.address.a, terms.address.aaaa), (Some(Ipv4Addr::new(192, 0, 2, 1)), None));
    assert_eq!((terms.redirect.as_deref(), terms.ede, terms.insist_nxdomain), (Some("box"), 15, true));
}

#[test]
fn the_other_events_are_read() {
    let read = read(concat!(
        r#"{"op":"add","order":"x","names":["A.example.com."],"seq":7,"at":"2025-04-01T12:00:00+02:00"}"#,
        "\r\n\r\n",
        r#"{"op":"remove","order":"x","names":["com"]}"#,
        "\n",
        r#"{"op":"extend","order":"x","not_after":"none"}"#,
        "\n",
        r#"{"op":"revoke","order":"x","why":"appeal"}"#,
    ));
    assert_eq!(read.refusals, []);
    assert_eq!(read.lines, 4);
    let at = "2025-04-01T10:00:00Z".parse().ok();
    let order = "x".to_owned();
    let entry = |line, event| Entry { line, seq: None, at: None, event };
    assert_eq!(
        read.entries,
        [
            Entry {
                line: 1,
                seq: Some(7),
                at,
                event: Event::Add { order: order.clone(), names: names(&["a.example.com"]) }
            },
            entry(3, Event::Remove { order: order.clone(), names: names(&["com"]) }),
            entry(4, Event::Extend { order: order.clone(), not_after: None }),
            entry(5, Event::Revoke { order, why: "appeal".to_owned() }),
        ]
    );
}

#[test]
fn f1_a_bad_row_is_refused_and_loses_no_other() {
    let read = read(put(json!({"names": [
        "https://motogpstream.me/live", "com", "co.uk", "*.motogpstream.me", "192.0.2.7", "", 7,
        ["a"], {"a": 1}, null, "\"motogpstream.me\"", "a\u{0}b.com", "caf\u{fffd}.com", "Motogpstream.me", "livetv821.me.",
    ]})));
    assert_eq!(order(&read).names, names(&["motogpstream.me", "livetv821.me"]));
    assert_eq!(
        refusals(&read),
        [
            "f:1: https://motogpstream.me/live: is a URL; give the host name alone",
            "f:1: *.motogpstream.me: is a wildcard; give the name itself, and \"match\":\"subtree\" or \"below\"",
            "f:1: 192.0.2.7: is an IP address, not a name",
            "f:1: is empty",
            "f:1: is not a string",
            "f:1: is not a string",
            "f:1: is not a string",
            "f:1: is not a string",
            "f:1: \"motogpstream.me\": holds the character '\"', which no host name has",
            "f:1: a\\0b.com: holds the character '\\0', which no host name has",
            "f:1: caf\u{fffd}.com: is not a valid internationalised name (UTS 46)",
            "f:1: com: is a top-level domain",
            "f:1: co.uk: is a public suffix, under which others register their names",
        ]
    );
    assert!(read.held.is_empty());
}

#[test]
fn f1_a_bad_line_is_refused_with_its_text_and_loses_no_other() {
    let extend = r#"{"op":"extend","order":"y","not_after":"none"}"#;
    for (line, refusal, unidentified) in [
        (&b"\xef\xbb\xbf{}"[..], "f:1: \\u{feff}: begins with a byte order mark; write UTF-8 without one", true),
        (b"{\"op\":\"caf\xe9\"}", "f:1: {\"op\":\"caf\u{fffd}\"}: not UTF-8 at octet 11 of the line", true),
        (b"# a remark", "f:1: # a remark: expected value at octet 1 of the line", true),
        (b"\0", "f:1: \\0: expected value at octet 1 of the line", true),
        (
            b"{\"op\":\"a\x01\"}",
            "f:1: {\"op\":\"a\\u{1}\"}: control character (\\u0000-\\u001F) found while parsing a string at octet 9 of the line",
            true,
        ),
        (
            br#"{"op":"revoke","order":"x","order":"y"}"#,
            r#"f:1: p":"revoke","order":"x","order":"y"}: duplicate field `order` at octet 34 of the line"#,
            true,
        ),
        (
            br#"{"op":"revoke","order":"x","wy":"z"}"#,
            r#"f:1: {"op":"revoke","order":"x","wy":"z"}: unknown field `wy`, expected one of `op`, `order`, `names`, `not_after`, `why`, `seq`, `at` at octet 31 of the line"#,
            false,
        ),
        (br#"{"op":"revoke","order":"x","names":["a.b"]}"#, "f:1: names: unknown field of `revoke`", false),
        (
            br#"{"op":"erase","order":"x","names":[]}"#,
            "f:1: erase: unknown `op`; known: put add remove extend revoke",
            false,
        ),
        (br#"{"op":"put","order":"x"}"#, "f:1: x: `put` needs the whole order, not its id", false),
        (br#"{"op":"add","order":"x"}"#, "f:1: `names` is missing", false),
        (br#"{"op":"add","order":"x","names":[]}"#, "f:1: `names` is empty", false),
        (br#"{"op":"extend","order":"x"}"#, "f:1: `not_after` is missing", false),
        (
            br#"{"op":"extend","order":"x","not_after":"2025-03-28"}"#,
            "f:1: 2025-03-28: is not a time since 1970 by RFC 3339, as 2025-03-28T00:00:00Z is",
            false,
        ),
        (
            br#"{"op":"revoke","order":"x"} {}"#,
            r#"f:1: {"op":"revoke","order":"x"} {}: trailing characters at octet 29 of the line"#,
            true,
        ),
    ] {
        let text = [line, b"\n", extend.as_bytes()].concat();
        let read = read(text);
        assert_eq!(refusals(&read), [refusal], "{}", String::from_utf8_lossy(line));
        assert_eq!(read.unidentified, unidentified, "{refusal}");
        assert_eq!(read.entries.len(), 1);
        assert_eq!(read.entries[0].line, 2);
    }
}

#[test]
fn f1_each_mistake_of_an_order_is_told() {
    for (changes, expected) in [
        (json!({"id": ""}), vec!["an order id has 1 to 255 octets"]),
        (json!({"id": "x "}), vec!["x : an order id neither begins nor ends with a space"]),
        (json!({"issuer": "a\nb"}), vec!["a\\nb: `issuer` holds a control character"]),
        (json!({"issued": "28.3.2025"}), vec!["28.3.2025: is not a date, as 2025-03-28 is"]),
        (json!({"issued": "2025-02-30"}), vec!["2025-02-30: is not a date, as 2025-03-28 is"]),
        (
            json!({"not_before": "2025-12-01T00:00:00Z"}),
            vec!["2025-11-17T00:00:00Z: `not_after` is not after `not_before`, 2025-12-01T00:00:00Z"],
        ),
        (
            json!({"not_before": "2025-11-17T01:00:00+01:00"}),
            vec!["2025-11-17T00:00:00Z: `not_after` is not after `not_before`, 2025-11-17T00:00:00Z"],
        ),
        (
            json!({"not_after": "never"}),
            vec!["never: is not a time since 1970 by RFC 3339, as 2025-03-28T00:00:00Z is"],
        ),
        (json!({"protocols": ["dns", "tls"]}), vec!["quic: this protocol has an action, but is not in `protocols`"]),
        (json!({"protocols": ["dns", "tls", "quic", "smtp"]}), vec!["smtp: unknown protocol; known: dns tls quic"]),
        (json!({"protocols": [], "actions": {}}), vec!["`protocols` is empty"]),
        (
            json!({"actions": {"dns": "nxdomain", "tls": "reset"}}),
            vec!["quic: this protocol has no action in `actions`"],
        ),
        (
            json!({"actions": {"dns": "block", "tls": "reset", "quic": "drop"}}),
            vec!["block: unknown action; known: observe redirect address refused nodata nxdomain reset drop"],
        ),
        (
            json!({"actions": {"dns": "address", "tls": "reset", "quic": "drop"}}),
            vec!["address: the action `address` needs \"address\":{\"a\":...,\"aaaa\":...}"],
        ),
        (
            json!({"actions": {"dns": "address", "tls": "reset", "quic": "drop"}, "address": {"a": "::1"}}),
            vec!["::1: `a` is not an IPv4 address"],
        ),
        (json!({"address": {"a": "192.0.2.1"}}), vec!["address: `address` is given, but no action is `address`"]),
        (
            json!({"actions": {"dns": "redirect", "tls": "reset", "quic": "drop"}}),
            vec!["redirect: the action `redirect` needs \"redirect\":\"NAME\""],
        ),
        (
            json!({"actions": {"dns": "redirect", "tls": "reset", "quic": "drop"}, "redirect": "bax"}),
            vec!["bax: unknown redirect target; known: box"],
        ),
        (json!({"redirect": "box"}), vec!["box: `redirect` is given, but no action is `redirect`"]),
        (json!({"scopes": []}), vec!["`scopes` is empty; \"all\" is every client"]),
        (json!({"scopes": ["all", "de"]}), vec!["de: unknown scope; known: all fr"]),
        (json!({"match": "prefix"}), vec!["prefix: unknown `match`; known: exact subtree below"]),
        (json!({"ede": 4}), vec!["4: `ede` is not 15, 16 or 17 (RFC 8914)"]),
        (json!({"part_of": "b"}), vec!["b: `part_of` is not what stands before a # in the order's id"]),
        (json!({"names": []}), vec!["`names` is empty"]),
        (json!({"names": null}), vec!["`names` is missing"]),
        (json!({"names": ["com"]}), vec!["com: is a top-level domain", "no name is left"]),
        (
            json!({"except": ["*.a.com"]}),
            vec![
                "*.a.com: in `except`: is a wildcard; give the name itself, and \"match\":\"subtree\" or \"below\"; the order is refused, since it would reach further without it",
            ],
        ),
        (
            json!({"ede": 3, "scopes": [], "match": ""}),
            vec![
                "`scopes` is empty; \"all\" is every client",
                "unknown `match`; known: exact subtree below",
                "3: `ede` is not 15, 16 or 17 (RFC 8914)",
            ],
        ),
    ] {
        let id = changes["id"].as_str().unwrap_or("x").to_owned();
        let read = read(put(changes));
        let expected: Vec<_> = expected.into_iter().map(|why| format!("f:1: {why}")).collect();
        assert_eq!(refusals(&read), expected);
        assert_eq!(read.entries, []);
        assert_eq!(read.held, [(id, 1)].into());
        assert!(!read.unidentified);
    }
}

#[test]
fn f1_unknown_and_doubled_fields_are_refused_at_every_depth() {
    for (from, to, why) in [
        (r#""ede":16"#, r#""ede":16,"colour":"red""#, "unknown field `colour`"),
        (r#""ede":16"#, r#""ede":16,"ede":16"#, "duplicate field `ede`"),
        (r#""ede":16"#, r#""address":{"a":"192.0.2.1","b":"x"}"#, "unknown field `b`"),
        (r#"{"dns":"nxdomain","#, r#"{"dns":"nxdomain","dns":"drop","#, "duplicate field `dns`"),
        (r#""issuer":"Court","#, "", "missing field `issuer`"),
        (r#""not_after":"2025-11-17T00:00:00Z","#, "", "missing field `not_after`"),
        (r#""ede":16"#, r#""ede":"16""#, "invalid type: string \"16\", expected u16"),
    ] {
        let text = PUT.replace(from, to);
        assert_ne!(text, PUT);
        let read = read(&text);
        assert!(matches!(&read.refusals[..], [refusal] if refusal.why.starts_with(why)), "{:?}", read.refusals);
        assert_eq!(read.held, [("x".to_owned(), 1)].into());
        assert!(!read.unidentified);
    }
}

#[test]
fn f1_a_line_over_the_limit_is_passed_over() {
    let limit = PUT.len();
    let long = " ".repeat(limit + 1);
    for end in ["\n", "\r\n"] {
        let text = format!("{long}{end}{PUT}{end}{long}{long}{end}{long}");
        let read = Reader::new("f", &context()).take_all(Cursor::new(&text), limit).map(Reader::finish).unwrap();
        let why = format!("the line is longer than {limit} octets");
        assert_eq!(refusals(&read), [format!("f:1: {why}"), format!("f:3: {why}"), format!("f:4: {why}")]);
        assert_eq!(order(&read).terms.id, "x");
        assert_eq!((read.lines, read.unidentified), (4, true));
    }
}

#[test]
fn f1_a_line_of_10_mb_is_told_in_a_few_words() {
    let long = "a".repeat(10 << 20);
    let read =
        read(format!("{{\"op\":\"revoke\",\"order\":\"x\",\"{long}\":1}}\n{}\n{PUT}\n", put(json!({"id": long}))));
    assert_eq!(read.refusals.iter().map(|refusal| refusal.line).collect::<Vec<_>>(), [1, 2]);
    assert!(read.refusals.iter().all(|refusal| refusal.to_string().len() < 500));
    assert_eq!(order(&read).terms.id, "x");
}

#[test]
fn f3_the_same_put_twice_is_one_and_two_different_ones_are_none() {
    let same = read(format!("{PUT}\n{}\n", put(json!({"except": null, "ede": null}))));
    assert_eq!(same.refusals, []);
    assert_eq!(same.entries.len(), 2);
    assert_eq!(same.entries[0].event, same.entries[1].event);

    let add = r#"{"op":"add","order":"x","names":["a.com"]}"#;
    let revoke_y = r#"{"op":"revoke","order":"y"}"#;
    let text = format!("{add}\n{PUT}\n{revoke_y}\n{}\n{add}\n", put(json!({"not_after": "none"})));
    let different = read(text);
    let twice = "this file puts the order more than once, in different words or with a refusal; none of it is taken";
    let void = "void: a put of this order that is not taken comes later in the file";
    assert_eq!(
        refusals(&different),
        [format!("f:1: x: {void}"), format!("f:2: x: {twice}"), format!("f:4: x: {twice}")]
    );
    assert_eq!(different.entries.iter().map(|entry| entry.line).collect::<Vec<_>>(), [3, 5]);
    assert_eq!(different.held, [("x".to_owned(), 4)].into());

    let broken = read(format!("{PUT}\n{}\n", put(json!({"ede": 1}))));
    assert_eq!(
        refusals(&broken),
        [format!("f:1: x: {twice}"), "f:2: 1: `ede` is not 15, 16 or 17 (RFC 8914)".to_owned()]
    );
    assert_eq!(broken.entries, []);
}

#[test]
fn excerpts_are_short_and_printable() {
    let read = read(put(json!({"match": "é\u{202e}\t".repeat(50)})));
    let text = &read.refusals[0].text;
    assert!(text.starts_with("é\\u{202e}\\té") && text.ends_with('…') && text.chars().count() <= 81, "{text}");
    let why = &super::tests::read(format!("{{\"{}\":1}}", "\\n".repeat(1000))).refusals[0].why;
    assert!(why.starts_with("unknown field `\\n\\n") && why.chars().count() <= 401, "{why}");
}

/// docs/order-feed.schema.json.
fn schema() -> &'static jsonschema::Validator {
    static SCHEMA: std::sync::LazyLock<jsonschema::Validator> = std::sync::LazyLock::new(|| {
        let schema: Value = serde_json::from_str(include_str!("../../../../docs/order-feed.schema.json")).unwrap();
        jsonschema::draft202012::new(&schema).unwrap()
    });
    &SCHEMA
}

#[test]
fn the_schema_takes_what_is_taken() {
    let example = include_str!("../../../../examples/orders/paris-motogp-2025.jsonl");
    let lines = [
        PUT,
        example.trim_end(),
        r#"{"op":"add","order":"a","names":["a.example"],"seq":18446744073709551615}"#,
        r#"{"op":"remove","order":"a","names":["a.example","b.example"]}"#,
        r#"{"op":"extend","order":"a","not_after":"2026-01-01t00:00:00.5+01:00"}"#,
        r#"{"op":"extend","order":"a","not_after":"none","at":"2026-01-01T00:00:00Z","seq":0}"#,
        r#"{"op":"revoke","order":"a"}"#,
        r#"{"op":"revoke","order":"a","why":"appeal"}"#,
    ];
    for line in lines {
        assert_eq!(refusals(&read(line)), [""; 0], "{line}");
        let parsed: Value = serde_json::from_str(line).unwrap();
        assert!(schema().is_valid(&parsed), "{line}: {:?}", schema().iter_errors(&parsed).next());
    }
}

#[test]
fn the_schema_refuses_what_is_refused_for_its_shape() {
    let orders = [
        json!({"id": null}),
        json!({"id": ""}),
        json!({"issuer": ""}),
        json!({"issuer": 1}),
        json!({"basis": null}),
        json!({"reference": "a\nb"}),
        json!({"issued": "28.3.2025"}),
        json!({"not_before": "2025-03-28"}),
        json!({"not_after": null}),
        json!({"not_after": "never"}),
        json!({"protocols": []}),
        json!({"protocols": ["dns", "http"]}),
        json!({"protocols": ["dns"]}),
        json!({"actions": {"dns": "nxdomain", "tls": "reset"}}),
        json!({"actions": {"dns": "block", "tls": "reset", "quic": "drop"}}),
        json!({"actions": {"dns": "address", "tls": "reset", "quic": "drop"}}),
        json!({"actions": {"dns": "redirect", "tls": "reset", "quic": "drop"}}),
        json!({"address": {"a": "192.0.2.1"}}),
        json!({"redirect": "dpi"}),
        json!({"scopes": []}),
        json!({"match": "all"}),
        json!({"names": []}),
        json!({"names": "a.example"}),
        json!({"except": null, "exept": []}),
        json!({"ede": 4}),
        json!({"insist_nxdomain": "yes"}),
    ];
    let events = [
        r#"{"op":"put","order":"a"}"#,
        r#"{"op":"stop","order":"a"}"#,
        r#"{"op":"add","order":"a"}"#,
        r#"{"op":"add","order":"a","names":[]}"#,
        r#"{"op":"extend","order":"a"}"#,
        r#"{"op":"revoke","order":"a","names":["a.example"]}"#,
        r#"{"op":"revoke","order":"a","seq":-1}"#,
        r#"{"op":"revoke","order":"a","at":"now"}"#,
        r#"{"op":"revoke"}"#,
        r#"[]"#,
    ];
    for line in orders.into_iter().map(put).chain(events.map(str::to_owned)) {
        let read = read(&line);
        assert!(read.entries.is_empty() && !read.refusals.is_empty(), "{line}");
        assert!(!schema().is_valid(&serde_json::from_str(&line).unwrap()), "{line}");
    }
}

pub(crate) fn any_order() -> impl Strategy<Value = Order> {
    let name = "[a-z0-9_]{1,9}\\.[a-z]{1,5}\\.example";
    let names = proptest::collection::btree_set(name, 1..5);
    let text = "[^\\p{C}\\s][^\\p{C}]{0,20}[^\\p{C}\\s]";
    let actions = proptest::collection::btree_map(
        proptest::sample::select(&Protocol::ALL[..]),
        proptest::sample::select(&Action::ALL[..]),
        1..4,
    );
    let times = (0..4_000_000_000_i64, proptest::option::of(1..4_000_000_000_i64), 0..1_000_000_000_i32);
    let rest = (
        proptest::sample::select(&Match::ALL[..]),
        15..18_u16,
        any::<bool>(),
        any::<[u8; 4]>(),
        any::<Option<[u8; 16]>>(),
    );
    (text, "\\PC{0,20}", names, proptest::collection::btree_set(name, 0..3), actions, times, rest).prop_map(
        |(id, reference, names, except, actions, (start, length, nanos), (reach, ede, insist_nxdomain, a, aaaa))| {
            let has = |action| actions.values().any(|word| *word == action);
            let time = |second| jiff::Timestamp::new(second, nanos).unwrap();
            let address = crate::order::Address { a: Some(a.into()), aaaa: aaaa.map(Into::into) };
            let parsed = |names: BTreeSet<String>| names.iter().map(|name| Name::parse(name).unwrap()).collect();
            let terms = crate::order::Terms {
                issuer: id.clone(),
                basis: String::new(),
                reference,
                issued: time(start).to_zoned(jiff::tz::TimeZone::UTC).date(),
                not_before: time(start),
                not_after: length.map(|length| time(start + length)),
                scopes: BTreeSet::from(["fr".to_owned()]),
                reach,
                ede,
                address: if has(Action::Address) { address } else { Default::default() },
                redirect: has(Action::Redirect).then(|| "box".to_owned()),
                insist_nxdomain,
                part_of: None,
                actions,
                id,
            };
            Order { terms: terms.into(), names: parsed(names), except: parsed(except) }
        },
    )
}

#[test]
fn f1_refusals_without_number_are_counted() {
    let text = ["x\n".repeat(MOST_REFUSALS + 5), format!("{PUT}\n")].concat();
    let read = read(text);
    assert_eq!((read.entries.len(), read.unidentified, read.refusals.len()), (1, true, MOST_REFUSALS + 1));
    assert_eq!(read.refusals[0].why, "5 more lines and names are refused, and not told one by one");
}

proptest! {
    #[test]
    fn an_order_that_is_written_is_read_back(known in any_order()) {
        let mut line = Vec::new();
        write(&mut line, &known).unwrap();
        let read = read(&line);
        prop_assert_eq!(&read.refusals, &[]);
        prop_assert_eq!(order(&read), &known);
        let line: Value = serde_json::from_slice(&line).unwrap();
        prop_assert!(schema().is_valid(&line), "{}: {:?}", line, schema().iter_errors(&line).next());
    }

    #[test]
    fn random_octets_never_panic(octets in any::<Vec<u8>>()) {
        read(octets);
    }

    #[test]
    fn a_damaged_line_never_panics_and_never_loses_the_next(
        cuts in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        let mut line = PUT.as_bytes().to_vec();
        for (place, octet, how) in cuts {
            let place = place.index(line.len());
            match how {
                0 => line[place] = octet,
                1 => line.insert(place, octet),
                _ => _ = line.remove(place),
            }
        }
        line.extend(b"\n{\"op\":\"revoke\",\"order\":\"the next\"}\n");
        let read = read(&line);
        let next = Event::Revoke { order: "the next".to_owned(), why: String::new() };
        prop_assert_eq!(read.entries.last().map(|entry| &entry.event), Some(&next));
        prop_assert!(read.entries.len() > 1 || !read.refusals.is_empty());
    }
}
