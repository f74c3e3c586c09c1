use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::{guard::Guards, order::json::RawOrder};

pub(crate) const ORDER: &str = r#"{"id":"o","issuer":"Court","basis":"","reference":"","issued":"2025-03-28","not_before":"2025-03-28T00:00:00Z","not_after":"none","protocols":["dns","tls"],"actions":{"tls":"reset"},"scopes":["all"]}"#;

const SOA: &str = "@ 60 IN SOA ns. host. 7 60 60 60 60\n";

pub(crate) fn zone(except: &[&str], newest: Option<Serial>) -> Zone {
    let raw: RawOrder = serde_json::from_str(ORDER).unwrap();
    let except = except.iter().map(|name| Name::parse(name).unwrap()).collect();
    Zone::new("rpz.example.", raw.zone_terms().unwrap().into(), except, newest).unwrap()
}

fn read_of(zone: &Zone, text: &[u8]) -> Read {
    let context = Context { scopes: None, targets: None, guards: Guards::all() };
    let mut reader = Reader::new("zone", zone, &context);
    reader.file(text).unwrap();
    reader.finish()
}

fn read(rows: &str) -> Read {
    read_of(&zone(&[], None), format!("{SOA}{rows}").as_bytes())
}

/// Each part as `part: names - exceptions`.
fn parts(read: &Read) -> Vec<String> {
    let text = |names: &BTreeSet<Name>| names.iter().map(Name::to_string).collect::<Vec<_>>().join(" ");
    let order = |entry: &Entry| match &entry.event {
        Event::Put(Order { terms, names, except }) => {
            assert_eq!(terms.part_of.as_deref(), Some("o"));
            let except = if except.is_empty() { String::new() } else { format!(" - {}", text(except)) };
            format!("{}: {}{except}", terms.id.strip_prefix("o#").unwrap(), text(names))
        }
        other => panic!("{other:?}"),
    };
    read.entries.iter().map(order).collect()
}

fn refusals(read: &Read) -> Vec<(u64, &str, &str)> {
    read.refusals.iter().map(|refusal| (refusal.line, refusal.text.as_str(), refusal.why.as_str())).collect()
}

#[track_caller]
fn check(rows: &str, expected: &[&str]) {
    let read = read(rows);
    assert_eq!(refusals(&read), [], "{rows}");
    assert_eq!(parts(&read), expected, "{rows}");
}

#[test]
fn each_action_is_a_part_of_the_order() {
    check(
        "a.example CNAME .\n*.a.example CNAME .\nb.example CNAME *.\n*.c.example CNAME rpz-drop.\n\
         d.example A 192.0.2.1\nd.example AAAA 2001:db8::1\n",
        &[
            "nxdomain-subtree: a.example",
            "nodata-exact: b.example",
            "drop-below: c.example",
            "address-192.0.2.1-2001:db8::1-exact: d.example",
        ],
    );
    let read = read("a.example A 192.0.2.1\n*.b.example CNAME rpz-drop.\n");
    let terms: Vec<&Terms> = read
        .entries
        .iter()
        .map(|entry| match &entry.event {
            Event::Put(order) => &*order.terms,
            other => panic!("{other:?}"),
        })
        .collect();
    let actions =
        |terms: &Terms| terms.actions.iter().map(|(protocol, action)| (*protocol, *action)).collect::<Vec<_>>();
    assert_eq!(actions(terms[0]), [(Protocol::Dns, Action::Address), (Protocol::Tls, Action::Reset)]);
    assert_eq!(terms[0].address, Address { a: Some(Ipv4Addr::new(192, 0, 2, 1)), aaaa: None::<Ipv6Addr> });
    assert_eq!(actions(terms[1]), [(Protocol::Dns, Action::Drop), (Protocol::Tls, Action::Reset)]);
    assert_eq!((terms[0].reach, terms[1].reach), (Match::Exact, Match::Below));
    assert_eq!((read.zone.clone().unwrap().serial, read.lines), (Some(7), 3));
}

#[test]
fn passthru_and_closer_names_are_exceptions() {
    check(
        "x.example CNAME .\n*.x.example CNAME .\nok.x.example CNAME rpz-passthru.\n",
        &["nxdomain-subtree: x.example - ok.x.example"],
    );
    // `b.x` has no records, but a name below it: it and what is below it is not what the wildcard stands for.
    check(
        "*.x.example CNAME rpz-drop.\na.b.x.example CNAME rpz-drop.\n",
        &["drop-exact: a.b.x.example", "drop-below: x.example - b.x.example"],
    );
    // As PASSTHRU was written once.
    check("*.x.example CNAME .\na.x.example CNAME a.x.example.\n", &["nxdomain-below: x.example - a.x.example"]);
    // Another action below.
    check(
        "x.example CNAME .\n*.x.example CNAME .\n*.a.x.example CNAME rpz-drop.\n",
        &["nxdomain-subtree: x.example - a.x.example", "drop-below: a.x.example"],
    );
    // The same action below: no exception, but a rule of its own.
    check(
        "x.example CNAME .\n*.x.example CNAME .\na.x.example CNAME .\n*.a.x.example CNAME .\n",
        &["nxdomain-subtree: a.x.example x.example"],
    );
    check("a.example CNAME rpz-passthru.\n", &[]);
}

#[test]
fn wildcards_right_below_each_other_are_in_parts_beside_each_other() {
    check(
        "*.x.example CNAME .\n*.a.x.example CNAME .\n*.b.a.x.example CNAME .\n",
        &["nxdomain-below: b.a.x.example x.example - a.x.example", "nxdomain-below-2: a.x.example - b.a.x.example"],
    );
}

#[test]
fn what_the_operator_excepts_is_excepted_from_every_part() {
    let zone = zone(&["a.example"], None);
    let rows = "x.example CNAME .\n*.y.example CNAME *.\nb.a.example CNAME .\na.example CNAME .\n";
    let read = read_of(&zone, format!("{SOA}{rows}").as_bytes());
    assert_eq!(parts(&read), ["nxdomain-exact: x.example - a.example", "nodata-below: y.example - a.example"]);
}

#[test]
fn unsupported_records_are_told_and_bound_wildcards() {
    let read = read(
        "*.x.example CNAME .\na.x.example CNAME garden.example.\nb.x.example TXT \"hello; (\" ; a comment\n\
         c.x.example CNAME rpz-tcp-only.\n32.1.0.0.127.rpz-ip CNAME .\n24.0.2.0.192.rpz-client-ip CNAME .\n\
         ns.example.rpz-nsdname CNAME .\n128.1.zz.rpz-nsip CNAME .\nd.x.example CNAME rpz-drop\n",
    );
    assert_eq!(parts(&read), ["nxdomain-below: x.example - a.x.example b.x.example c.x.example d.x.example"]);
    let garden = "CNAME to garden.example., another name, which Cordon does not answer with";
    let missing = "CNAME to rpz-drop.rpz.example., another name, which Cordon does not answer with; the dot at its end \
                   is missing";
    let trigger = |kind| format!("a trigger of another kind than the query's name, {kind}, which Cordon does not have");
    let [ip, client, nsdname, nsip] = ["rpz-ip", "rpz-client-ip", "rpz-nsdname", "rpz-nsip"].map(trigger);
    let all = "records that Cordon does not enforce: 2 CNAME to another name, 1 other local data, 1 rpz-client-ip, \
               1 rpz-ip, 1 rpz-nsdname, 1 rpz-nsip, 1 rpz-tcp-only";
    assert_eq!(
        refusals(&read),
        [
            (0, "", all),
            (3, "a.x.example.rpz.example", garden),
            (4, "b.x.example.rpz.example", "local data of type TXT, which Cordon does not answer with"),
            (
                5,
                "c.x.example.rpz.example",
                "rpz-tcp-only has clients ask again over TCP, and stops nothing; Cordon does not do that"
            ),
            (6, "32.1.0.0.127.rpz-ip.rpz.example", &ip),
            (7, "24.0.2.0.192.rpz-client-ip.rpz.example", &client),
            (8, "ns.example.rpz-nsdname.rpz.example", &nsdname),
            (9, "128.1.zz.rpz-nsip.rpz.example", &nsip),
            (10, "d.x.example.rpz.example", missing),
        ]
    );
}

#[test]
fn f1_a_record_with_mistakes_is_refused_alone() {
    let long = "l".repeat(64);
    let rows = [
        ("com CNAME .", "com", "is a top-level domain"),
        ("*.co.uk CNAME .", "*.co.uk", "is a public suffix, under which others register their names"),
        ("* CNAME .", "*", "would stop every name"),
        ("http://a.example/x CNAME .", "http://a.example/x", "is not a host name, which no rule can be about"),
        ("a\\.b.example CNAME .", "a\\.b.example", "is not a host name, which no rule can be about"),
        (
            "m\\195\\188ller.example CNAME .",
            "m\\195\\188ller.example",
            "is not a host name, which no rule can be about",
        ),
        (
            "a.*.x.example CNAME .",
            "a.*.x.example",
            "an asterisk that is not the first label is no wildcard (RFC 4592 2.1.1), and no host name has one",
        ),
        ("b.example CNAME . .", "b.example", "CNAME has one name behind it"),
        ("c.example CNAME a..b", "c.example", "CNAME to a name that has an empty label"),
        ("d.example A 1.2.3", "d.example", "not an IPv4 address behind A"),
        ("e.example AAAA 1.2.3.4", "e.example", "not an IPv6 address behind AAAA"),
        ("f.example 60 IN", "f.example", "has no type"),
        ("g.example CH CNAME .", "g.example", "its class is not IN"),
    ];
    for (row, owner, why) in rows {
        let read = read(&format!("{row}\nleft.example CNAME .\n"));
        assert_eq!(refusals(&read), [(2, &*format!("{owner}.rpz.example"), why)], "{row}");
        assert_eq!(parts(&read), ["nxdomain-exact: left.example"], "{row}");
    }
    for (row, owner, why) in [
        ("h..example CNAME .".to_owned(), "h..example", "has an empty label"),
        ("outside.example. CNAME .".to_owned(), "outside.example", "is not in the zone rpz.example"),
        (
            format!("{long}.example CNAME ."),
            &*format!("{long}.example"),
            "has a label of 64 octets, over the 63 that RFC 1035 allows",
        ),
    ] {
        let read = read(&format!("{row}\nleft.example CNAME .\n"));
        assert_eq!(refusals(&read), [(2, owner, why)], "{row}");
        assert_eq!(parts(&read), ["nxdomain-exact: left.example"], "{row}");
    }
}

#[test]
fn f1_owners_that_contradict_themselves_are_refused() {
    let read = read(
        "*.x.example CNAME .\na.x.example CNAME .\na.x.example CNAME *.\nb.x.example A 192.0.2.1\nb.x.example CNAME .\n\
         c.example A 192.0.2.1\nc.example A 192.0.2.2\nd.example CNAME .\nd.example CNAME .\n",
    );
    assert_eq!(
        parts(&read),
        [
            "address-192.0.2.1-exact: c.example",
            "nxdomain-exact: d.example",
            "nxdomain-below: x.example - a.x.example b.x.example"
        ]
    );
    assert_eq!(
        refusals(&read),
        [
            (4, "a.x.example", "two different CNAMEs (RFC 2181 10.1): none of them is taken"),
            (6, "b.x.example", "a CNAME and other data (RFC 1034 3.6.2): nothing of it is taken"),
            (8, "c.example", "one address of a family is answered, the first; this one is not"),
        ]
    );
}

#[test]
fn f1_a_wildcard_that_cannot_be_kept_from_a_name_is_refused() {
    let read = read("*.x.example CNAME .\n\\000.x.example CNAME rpz-passthru.\ny.example CNAME .\n");
    let why = "the zone has \\000.x.example, too, which is no host name: it could not be left out, so the wildcard is not \
               taken";
    assert_eq!(refusals(&read), [(2, "*.x.example", why)]);
    assert_eq!(parts(&read), ["nxdomain-exact: y.example"]);
    // All of it is stopped alike, so nothing needs to be left out.
    let read = self::read("*.x.example CNAME .\na\\ b.x.example CNAME .\n*.a\\ b.x.example CNAME .\n");
    assert_eq!(parts(&read), ["nxdomain-below: x.example"]);
    assert_eq!(refusals(&read).len(), 2, "{:?}", read.refusals);
}

#[test]
fn f1_what_is_no_whole_zone_changes_nothing() {
    let kept = |text: &str, refusal: (u64, &str, &str)| {
        let read = read_of(&zone(&[], None), text.as_bytes());
        assert_eq!(read.entries, [], "{text}");
        assert_eq!(read.zone.as_ref().unwrap().serial, None, "{text}");
        let (line, owner, why) = refusal;
        assert_eq!(refusals(&read), [(line, owner, &*format!("{why}; the order stays as it was"))], "{text}");
    };
    let no_soa = "there is no SOA record of rpz.example: it is not the zone, or not all of it";
    kept("", (0, "", no_soa));
    kept("a.example CNAME .\n", (0, "", no_soa));
    let row = "a.example CNAME .\n";
    for (text, refusal) in [
        ("$INCLUDE more.zone\n", (2, "$INCLUDE more.zone", "$INCLUDE is not followed: a zone is one file")),
        ("$GENERATE 1-3 a$ CNAME .\n", (2, "$GENERATE 1-3 a$ CNAME .", "$GENERATE is none of $ORIGIN and $TTL")),
        ("b.example CNAME ( .\n", (2, "", "a parenthesis that is opened here is never closed")),
        ("b.example CNAME . )\n", (2, "", "a parenthesis is closed that was not opened")),
        ("b.example TXT \"x\n", (2, "", "a quote is not closed on its line")),
        (
            "b..example CNAME rpz-passthru.\n",
            (
                2,
                "b..example",
                "PASSTHRU, but its name has an empty label; the zone is refused, since it would reach further without it",
            ),
        ),
        ("@ SOA ns. host. 8 1 1 1 1\n", (0, "", "there are SOA records with different serials: it is not one zone")),
        ("@ SOA ns. host. 8\n", (2, "SOA", "has not the seven parts of an SOA record")),
    ] {
        kept(&format!("{SOA}{text}"), refusal);
        kept(&format!("{SOA}{text}{row}"), refusal);
    }
    // Nothing is left of it.
    let read = read("com CNAME .\n");
    assert_eq!(read.zone.as_ref().unwrap().serial, None);
    assert_eq!(refusals(&read)[0], (0, "", "no rule is left; the order stays as it was"));
    // A zone without rules is an empty list, also if it has what is not enforced.
    let read = self::read("");
    assert_eq!((refusals(&read), read.zone.as_ref().unwrap().serial), (vec![], Some(7)));
    let read = self::read("32.1.0.0.127.rpz-ip CNAME .\nbeat.example TXT 17\n");
    assert_eq!((parts(&read).len(), read.zone.as_ref().unwrap().serial), (0, Some(7)));
    assert_eq!(refusals(&read)[0], (0, "", "records that Cordon does not enforce: 1 other local data, 1 rpz-ip"));
}

#[test]
fn f1_parts_over_the_limit_are_refused_however_many() {
    let rows: String = (0..100_000_u32)
        .map(|number| format!("n{number:06}.example A {}\n", Ipv4Addr::from(0x0b00_0000 + number)))
        .collect();
    let read = read(&rows);
    assert_eq!(read.entries.len(), MOST_PARTS);
    let why = "a zone has at most 1024 kinds of rules, by action, address and reach";
    assert_eq!(refusals(&read)[0], (0, "n001024.example", why));
    let more = "97976 more records are refused, and not told one by one";
    assert_eq!(refusals(&read).last(), Some(&(0, "", more)));
}

#[test]
fn clients_that_a_zone_lets_pass_are_told_of() {
    let read = read("24.0.2.0.192.rpz-client-ip CNAME rpz-passthru.\na.example CNAME .\n");
    assert_eq!(parts(&read), ["nxdomain-exact: a.example"]);
    let why = "PASSTHRU for clients, who are stopped all the same: what the order leaves out are names, and its scopes \
               say which clients it is about";
    assert_eq!(
        refusals(&read),
        [
            (0, "", "records that Cordon does not enforce: 1 rpz-client-ip with PASSTHRU"),
            (2, "24.0.2.0.192.rpz-client-ip.rpz.example", why)
        ]
    );
}

#[test]
fn master_files_are_read_as_rfc_1035_says() {
    let text = "; a zone\r\n$TTL 1h\n@\t3600 IN SOA ns.example. host.example. (\n  7 ; serial\n  1d 2h\n  3w4d 5 )\n\
                \x20 IN NS ns\nns A 192.0.2.53\n\n$ORIGIN sub.rpz.example.\na CNAME .\n  60 TXT x\n$ORIGIN rpz.example.\n\
                IN 60 CNAME .\nb.Example.RPZ.example. IN 60 CNAME\t( . ; closes\n)\n\
                @ 3600 SOA ns.example. host.example. 7 1 2 3 4\n\\c.example RRSIG CNAME 8 2 5 ( x\ny )\n";
    let read = read_of(&zone(&[], None), text.as_bytes());
    assert_eq!(parts(&read), ["nxdomain-exact: a.sub b.example"]);
    let refused = [
        (12, "a.sub.rpz.example", "local data of type TXT, which Cordon does not answer with"),
        (14, "in.rpz.example", "is a top-level domain"),
    ];
    assert_eq!(refusals(&read)[1..], refused);
    assert_eq!(read.zone.unwrap().serial, Some(7));
}

#[test]
fn an_older_zone_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let newest = Serial(folder.path().join("feeds/z.serial"));
    let zone = zone(&[], Some(newest.clone()));
    let read = |serial: u32| {
        let text = format!("@ SOA ns. host. {serial} 1 1 1 1\na.example CNAME .\n");
        let read = read_of(&zone, text.as_bytes());
        (read.zone.unwrap().serial, read.refusals.first().map(|refusal| refusal.why.clone()))
    };
    assert_eq!(read(5), (Some(5), None));
    newest.taken(5).unwrap();
    assert_eq!(read(5), (Some(5), None));
    let why = "its serial 4 is older (RFC 1982) than 5, the last that was taken; if that is meant, `cordon feed sync` with \
               the feed's name takes it; the order stays as it was";
    assert_eq!(read(4), (None, Some(why.to_owned())));
    // Round the corner.
    newest.taken(u32::MAX).unwrap();
    assert_eq!(read(3), (Some(3), None));
    newest.forget().unwrap();
    assert_eq!(read(4), (Some(4), None));
}
