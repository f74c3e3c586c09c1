use encoding_rs::{SHIFT_JIS, UTF_8, UTF_16LE, WINDOWS_1252};

use super::*;
use crate::guard::Guards;

fn list(reach: &str, format: Option<Format>) -> List {
    let order = format!(
        r#"{{"id":"o","issuer":"Court","basis":"","reference":"","issued":"2025-03-28","not_before":"2025-03-28T00:00:00Z","not_after":"none","protocols":["dns"],"actions":{{"dns":"drop"}},"scopes":["all"],"match":"{reach}"}}"#
    );
    let raw: crate::order::json::RawOrder = serde_json::from_str(&order).unwrap();
    List { terms: Arc::new(raw.terms().unwrap()), except: BTreeSet::new(), format, charset: UTF_8 }
}

fn read_with(list: &List, content: &[u8]) -> Read {
    let context = Context { scopes: None, targets: None, guards: Guards::all() };
    let mut reader = Reader::new("list", list, &context);
    reader.file("f", content).unwrap();
    reader.finish()
}

/// Names, exceptions, and line and reason of each refusal; no names where the order stays as it was.
fn told(read: &Read) -> (Vec<String>, Vec<String>, Vec<(u64, String)>) {
    let order = read.entries.iter().find_map(|entry| match &entry.event {
        Event::Put(order) => Some(order),
        _ => None,
    });
    assert_eq!(order.is_none(), read.held.contains_key("o") || read.lines == 0, "{read:?}");
    let texts = |names: Option<&BTreeSet<Name>>| names.into_iter().flatten().map(Name::to_string).collect();
    let refusals = read.refusals.iter().map(|refusal| (refusal.line, refusal.why.clone())).collect();
    (texts(order.map(|order| &order.names)), texts(order.map(|order| &order.except)), refusals)
}

#[track_caller]
fn check(reach: &str, format: Option<Format>, text: &str, names: &[&str], except: &[&str], refusals: &[(u64, &str)]) {
    let read = read_with(&list(reach, format), text.as_bytes());
    let (found, left, refused) = told(&read);
    assert_eq!(found, names);
    assert_eq!(left, except);
    let refused: Vec<_> = refused.iter().map(|(line, why)| (*line, why.as_str())).collect();
    assert_eq!(refused, refusals);
}

const NARROW: &str = "means what is below the name; the order's `match` is subtree, which stops the name itself, too; \
                      list the name beside it, or let `match` be below";

#[test]
fn f1_a_plain_list_gives_its_names() {
    let text = "\u{feff}# comment\r\n\r\nA.example.\r\nb.example  # since May\r\n*.a.example\n.c.example\nd.example^\n! x\n; y\n";
    check("subtree", None, text, &["a.example", "b.example", "c.example", "d.example"], &[], &[]);
}

#[test]
fn f1_bad_rows_are_refused_one_by_one() {
    let rows = [
        ("https://sites.google.com/view/x", "is a URL; give the host name alone"),
        ("sites.google.com/view/x", "is a URL; give the host name alone"),
        ("com", "is a top-level domain"),
        ("co.uk", "is a public suffix, under which others register their names"),
        ("*.co.uk", "is a public suffix, under which others register their names"),
        ("*", "is a wildcard; give the name itself, and \"match\":\"subtree\" or \"below\""),
        ("*.*.example", "is a wildcard; give the name itself, and \"match\":\"subtree\" or \"below\""),
        ("192.0.2.1", "is an IP address, not a name"),
        ("[2001:db8::1]:443", "is an IP address, not a name"),
        ("192.0.2.0/24", "is an IP address, not a name"),
        ("a.example:8080", "has a port; give the host name alone"),
        ("\"a.example\"", "holds the character '\"', which no host name has"),
        ("a.example,b.example", "holds the character ',', which no host name has"),
        ("a b.example", "holds the character ' ', which no host name has"),
        ("a\u{0}.example", "holds the character '\\0', which no host name has"),
        ("a\u{1b}[31m.example", "holds the character '\\u{1b}', which no host name has"),
        ("a..example", "has an empty label"),
        ("a.\u{fffd}.example", "is not a valid internationalised name (UTS 46)"),
        ("*.below.example", NARROW),
        ("^alone.example", "means the name alone, and the order's `match` is subtree"),
    ];
    for (row, why) in rows {
        let text = format!("first.example\n{row}\nlast.example\n");
        check("subtree", Some(Format::Plain), &text, &["first.example", "last.example"], &[], &[(2, why)]);
    }
}

#[test]
fn f1_a_row_never_reaches_further_than_it_says() {
    let text = "*.a.example\n";
    check("below", None, text, &["a.example"], &[], &[]);
    let why = "means what is below the name, and the order's `match` is exact";
    let none = "no name is left; the order stays as it was";
    check("exact", None, text, &[], &[], &[(1, why), (0, none)]);
    check("exact", None, "^a.example\n", &["a.example"], &[], &[]);
    // Covered by another row, in whatever order they stand.
    check("subtree", None, "*.x.a.example\na.example\n", &["a.example"], &[], &[]);
}

#[test]
fn f1_hosts_files_stop_what_leads_nowhere() {
    let text = "127.0.0.1 localhost\n::1 ip6-localhost ip6-loopback\n0.0.0.0 a.example b.example # both\n\
                0.0.0.0\tC.example\n192.0.2.1 intranet.example\n0.0.0.0 192.0.2.7\n0.0.0.0\nd.example\n";
    check(
        "exact",
        None,
        &text.replace("d.example\n", ""),
        &["a.example", "b.example", "c.example"],
        &[],
        &[
            (5, "gives names an address; only 0.0.0.0, ::, 127.0.0.1 and ::1 say that they are to be stopped"),
            (6, "is an IP address, not a name"),
            (7, "has an address and no name"),
        ],
    );
    let mixed =
        "its format is not clear: line 1 is hosts, line 8 is plain; state it by `format`; the order stays as it was";
    check("exact", None, text, &[], &[], &[(0, mixed)]);
}

#[test]
fn f1_dnsmasq_options_stop_and_leave_out() {
    let text = "# made by a script\naddress=/a.example/\naddress = /b.example/c.example/0.0.0.0\naddress=/d.example/#\n\
                server=/e.example/\nlocal=/f.example/\nserver=/ok.a.example/#\nserver=/corp.example/192.0.2.53\n\
                server=192.0.2.1\naddress=/#/0.0.0.0\ncache-size=1000\naddress=/g.example/evil\n\
                local=/h.example/ # order 12/25\n";
    check(
        "subtree",
        None,
        text,
        &["a.example", "b.example", "c.example", "d.example", "e.example", "f.example", "h.example"],
        &["corp.example", "ok.a.example"],
        &[
            (8, "is sent to a server of its own: the name is left out as a whole"),
            (9, "names no domain"),
            (10, "means every name"),
            (11, "stops no name; address=/NAME/, server=/NAME/ and local=/NAME/ do"),
            (12, "ends in something other than an IP address"),
        ],
    );
}

#[test]
fn what_is_left_out_is_so_as_each_format_has_it() {
    // dnsmasq: the longest name decides.
    let text = "address=/example.com/\nserver=/good.example.com/#\naddress=/bad.good.example.com/\n";
    let names = ["bad.good.example.com", "example.com"];
    check("subtree", None, text, &names, &["good.example.com"], &[]);
    // Ad blockers: an exception beats every rule.
    let text = "||example.com^\n@@||good.example.com^\n||bad.good.example.com^\n||good.example.com^\n";
    check("subtree", None, text, &["example.com"], &["good.example.com"], &[]);
    // The configuration beats the list, whatever its format.
    let mut list = list("subtree", Some(Format::Dnsmasq));
    list.except = [Name::parse("good.example.com").unwrap()].into();
    let (names, except, refusals) = told(&read_with(&list, b"address=/example.com/\naddress=/bad.good.example.com/\n"));
    assert_eq!(
        (names, except, refusals),
        (vec!["example.com".to_owned()], vec!["good.example.com".to_owned()], vec![])
    );
}

#[test]
fn f1_adblock_rules_are_never_widened() {
    let text = "[Adblock Plus 2.0]\n! title\n||a.example^\n||b.example^$important\n||*.a.example^\n@@||ok.a.example^\n";
    check("subtree", None, text, &["a.example", "b.example"], &["ok.a.example"], &[]);
    let rows = [
        ("||c.example/ads/*", "has a path, which a name cannot carry"),
        ("||c.example^/view/x", "has a path, which a name cannot carry"),
        ("||c.example", "is a pattern, and not ||NAME^"),
        ("||c.example^*", "is a pattern, and not ||NAME^"),
        ("||c.*.example^", "is a pattern, and not ||NAME^"),
        ("-banner-", "is a pattern, and not ||NAME^"),
        ("c.example", "is a pattern, and not ||NAME^"),
        ("/banner[0-9]+/", "is a regular expression"),
        ("||c.example^$third-party", "holds only for `third-party`, which a name cannot carry"),
        ("||c.example^$important,domain=d.example", "holds only for `domain=d.example`, which a name cannot carry"),
        ("||c.example:8080^", "has a port; give the host name alone"),
        ("||192.0.2.1^", "is an IP address, not a name"),
        ("||com^", "is a top-level domain"),
        ("|c.example^", "means the name alone, and the order's `match` is subtree"),
        ("||*.c.example^", NARROW),
        ("c.example##.banner", "hides elements of a page"),
        ("c.example#@#.banner", "hides elements of a page"),
    ];
    for (row, why) in rows {
        let text = format!("||a.example^\n{row}\n||b.example^\n");
        check("subtree", Some(Format::Adblock), &text, &["a.example", "b.example"], &[], &[(2, why)]);
    }
}

#[test]
fn f1_an_exception_is_never_lost() {
    let part = "an exception for a part of it: the name is left out as a whole";
    for (row, why) in [
        ("@@||x.a.example^", None),
        ("@@||x.a.example^$important", None),
        ("@@||x.a.example/page", Some(part)),
        ("@@||x.a.example^$script", Some(part)),
        ("@@|https://x.a.example/page|", Some(part)),
        ("||x.a.example^$badfilter", Some("a rule for it is taken back: the name is left out as a whole")),
    ] {
        let text = format!("||a.example^\n{row}\n");
        let refusals: Vec<_> = why.into_iter().map(|why| (2, why)).collect();
        check("subtree", Some(Format::Adblock), &text, &["a.example"], &["x.a.example"], &refusals);
    }
    for row in ["@@/banner/", "@@||192.0.2.1^", "@@||ads*.a.example^", "@@ad"] {
        let read = read_with(&list("subtree", Some(Format::Adblock)), format!("||a.example^\n{row}\n").as_bytes());
        if row == "@@ad" {
            // A name, if a strange one: nothing is below it here.
            assert_eq!(told(&read).1, ["ad"]);
            continue;
        }
        assert_eq!(read.entries, [], "{row}");
        assert!(read.refusals[0].why.contains("the list is refused, since it would reach further without it"), "{row}");
    }
}

#[test]
fn f1_csv_has_its_names_in_a_column() {
    let columns = |name, delimiter, header| Some(Format::Csv(Columns { name, delimiter, header }));
    let title = || Column::Title("Domain".to_owned());
    let text = "No;Domain;Note\r\n1;a.example;\"two\nlines; one field\"\r\n2;\"b.example\";\"says \"\"no\"\"\"\r\n3;https://c.example/x;\r\n4\r\n5;*.a.example;5\" disk\r\n";
    check(
        "subtree",
        columns(title(), b';', true),
        text,
        &["a.example", "b.example"],
        &[],
        &[(5, "is a URL; give the host name alone"), (6, "has too few columns")],
    );
    let no_title = "no column has the title \"Domain\"; the order stays as it was";
    check("subtree", columns(title(), b',', true), "Name\na.example\n", &[], &[], &[(0, no_title)]);
    check(
        "subtree",
        columns(Column::Number(2), b'\t', false),
        "1\ta.example\n2\tb.example\n",
        &["a.example", "b.example"],
        &[],
        &[],
    );
    // Not even a quote that never ends loses another row.
    let rows: String = (0..200).map(|row| format!("n{row}.example,x\n")).collect();
    let read = read_with(
        &list("subtree", columns(Column::Number(1), b',', false)),
        format!("q.example,\"x\n{rows}").as_bytes(),
    );
    let (names, _, refused) = told(&read);
    assert_eq!((names.len(), refused), (200, vec![(1, "a quote begins and does not end".to_owned())]));
}

#[test]
fn f1_the_character_set_is_stated() {
    let latin = List { charset: WINDOWS_1252, ..list("subtree", Some(Format::Plain)) };
    assert_eq!(told(&read_with(&latin, b"caf\xe9.example\n")).0, ["xn--caf-dma.example"]);
    let kanji = List { charset: SHIFT_JIS, ..list("subtree", Some(Format::Plain)) };
    let (names, _, refused) = told(&read_with(&kanji, b"\x93\xfa\x96{.example\n\x93.example\n"));
    assert_eq!(names, ["xn--wgv71a.example"]);
    assert_eq!(refused, [(2, "not Shift_JIS; the feed's `charset` says what the file is in".to_owned())]);

    let utf8 = list("subtree", None);
    let (names, _, refused) = told(&read_with(&utf8, b"a.example\ncaf\xe9.example\nb.example\n"));
    assert_eq!(names, ["a.example", "b.example"]);
    assert_eq!(refused, [(2, "not UTF-8 at octet 4; the feed's `charset` says what the file is in".to_owned())]);

    let wide: Vec<u8> =
        "\u{feff}caf\u{e9}.example\r\nb.example\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let why = "begins with the byte order mark of UTF-16LE, not UTF-8; the order stays as it was";
    assert_eq!(told(&read_with(&utf8, &wide)), (Vec::new(), Vec::new(), vec![(0, why.to_owned())]));
    let utf16 = List { charset: UTF_16LE, ..list("subtree", None) };
    assert_eq!(told(&read_with(&utf16, &wide)).0, ["b.example", "xn--caf-dma.example"]);
}

#[test]
fn f1_what_is_no_list_changes_nothing() {
    let page = "begins with `<`, as a page of HTML or XML does, and no list; the order stays as it was";
    check("subtree", None, "\n <!DOCTYPE html>\na.example\n", &[], &[], &[(0, page)]);
    let read = read_with(&list("subtree", None), b"# nothing here\n\n");
    assert_eq!((read.entries.len(), read.held.len(), read.lines), (0, 0, 0));
    let noise: Vec<u8> = (0..200_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let read = read_with(&list("subtree", Some(Format::Plain)), &noise);
    assert!(read.entries.is_empty() && read.held.contains_key("o") && read.refusals.len() <= MOST_REFUSALS + 2);
}

#[test]
fn f1_a_line_of_10_mb_is_refused_alone() {
    let mut text = b"a.example\n".to_vec();
    text.extend(std::iter::repeat_n(b'x', 10 << 20));
    text.extend(b"\nb.example\n");
    let (names, _, refused) = told(&read_with(&list("subtree", None), &text));
    assert_eq!(names, ["a.example", "b.example"]);
    assert_eq!(refused, [(2, "the line is longer than 65536 octets".to_owned())]);
}

#[test]
fn f1_2_to_the_20_rows_are_read() {
    let text: String = (0..1 << 20).map(|row| format!("{row:07x}.example\n")).collect();
    let (names, _, refused) = told(&read_with(&list("subtree", None), text.as_bytes()));
    assert_eq!((names.len(), refused), (1 << 20, Vec::new()));
}

#[test]
fn an_order_that_does_not_fit_the_configuration_is_not_put() {
    let mut list = list("subtree", None);
    let terms = Terms { scopes: ["fr".to_owned()].into(), ..(*list.terms).clone() };
    list.terms = Arc::new(terms);
    let context = Context { scopes: Some(BTreeSet::new()), targets: None, guards: Guards::all() };
    let mut reader = Reader::new("list", &list, &context);
    reader.file("f", &b"a.example\n"[..]).unwrap();
    let (names, _, refused) = told(&reader.finish());
    assert_eq!((names.len(), refused), (0, vec![(0, "unknown scope; known: all".to_owned())]));
}

#[test]
fn f1_in_a_long_list_each_bad_row_is_told_with_its_own_line_and_loses_no_other() {
    use std::fmt::Write as _;

    // Of each kind one in every 1,000 rows; a row that is refused before its name is looked at, and one after.
    let rows = 3 * WAITING as u64 + 7;
    let (mut text, mut refusals) = (String::from("||first.example^\n"), Vec::new());
    for line in 2..=rows {
        match line % 1000 {
            1 => {
                writeln!(text, "||a..b^").unwrap();
                refusals.push((line, "has an empty label"));
            }
            2 => {
                writeln!(text, "/a/").unwrap();
                refusals.push((line, "is a regular expression"));
            }
            3 => {
                writeln!(text, "||com^").unwrap();
                refusals.push((line, "is a top-level domain"));
            }
            _ => writeln!(text, "||n{line}.example^").unwrap(),
        }
    }
    let (names, except, refused) = told(&read_with(&list("subtree", Some(Format::Adblock)), text.as_bytes()));
    assert_eq!((names.len() as u64, except), (rows - refusals.len() as u64, Vec::new()));
    let expected: Vec<_> = refusals.iter().map(|(line, why)| (*line, (*why).to_owned())).collect();
    assert_eq!(refused, expected);
}

#[test]
fn f1_rows_that_are_no_names_do_not_pile_up() {
    let list = list("subtree", Some(Format::Plain));
    let context = Context { scopes: None, targets: None, guards: Guards::all() };
    let mut reader = Reader::new("list", &list, &context);
    let row = "x".repeat(MAX_LINE - 1);
    let most = WAITING_OCTETS / row.len() + 1;
    for _ in 0..4 * most {
        plain::row(&row, &mut reader.rows);
        let Waiting { text, rows } = &reader.rows.waiting;
        assert!(rows.len() <= most && text.len() < WAITING_OCTETS);
    }
    assert_eq!(reader.rows.refusals.len() + reader.rows.waiting.rows.len(), 4 * most);
}
