use super::*;

const FILE: &str = "/etc/cordon/cordon.toml";

fn mistakes(text: &str) -> Vec<(usize, String, String)> {
    let mistakes = Config::parse(text, Path::new(FILE)).expect_err(text);
    mistakes.0.into_iter().map(|mistake| (mistake.line, mistake.text, mistake.why)).collect()
}

#[test]
fn nothing_is_a_configuration() {
    let config = Config::default();
    assert_eq!(config.daemon.pin_root, Path::new("/sys/fs/bpf/cordon"));
    let ports = Ports { dns: vec![53], tls: TlsPorts::List(vec![443]), quic: vec![443], encrypted_dns: vec![853] };
    assert_eq!(config.ports, ports);
    assert!(config.resolvers.contains(&"2620:fe::fe".parse().unwrap()) && config.resolvers.len() > 50);
    assert_eq!(config.events, Events { per_second: 1000, client: ClientDetail::None });
    assert!(config.interfaces.is_empty() && config.feeds.is_empty() && config.scopes.is_empty());
}

#[test]
fn the_example_holds_every_section() {
    let example = include_str!("../../../examples/cordon.toml");
    let config = Config::parse(example, Path::new(FILE)).unwrap();
    assert_eq!(config.interfaces.len(), 2);
    assert_eq!(config.interfaces[1], Interface { name: "eth2".into(), mode: Mode::Generic });
    assert_eq!(config.scopes["fr"].len(), 2);
    assert_eq!(config.targets[0].next_hop, Some("198.51.100.7".parse().unwrap()));
    assert_eq!(config.feeds[0].path, Path::new("/etc/cordon/orders"));
    assert!(config.feeds[1].remote.is_some() && config.feeds[1].seal.is_some());
    assert!(matches!(&config.feeds[2].kind, crate::feed::Kind::List(list) if list.terms.id == "reg-2025-17"));
    assert_eq!(config.feeds[3].tickets.as_ref().unwrap().order_id("17"), "shield:17");
    assert!(matches!(&config.feeds[4].kind, crate::feed::Kind::Rpz(zone) if zone.order_id() == "police-2025"));
    assert_eq!(config.allow.subtree[0].as_str(), "provider.example");
}

#[test]
fn mistakes_are_told_with_line_text_and_reason() {
    let unknown = "unknown field `sockett`, expected one of `state_dir`, `socket`, `pin_root`";
    let table: &[(&str, usize, &str, &str)] = &[
        ("[daemon]\nsockett = 1", 2, "sockett", unknown),
        ("\n[[interface]]\nname = \"a/b\"", 3, "\"a/b\"", "not an interface's name"),
        (
            "[[interface]]\nname = \"eth0\"\nmode = \"fast\"",
            3,
            "\"fast\"",
            "unknown variant `fast`, expected `native` or `generic`",
        ),
        ("[[interface]]\nname = \"e\"\n[[interface]]\nname = \"e\"", 4, "\"e\"", "this interface stands here twice"),
        ("[ports]\ndns = [53, 0]", 2, "[53, 0]", "0 is not a port"),
        ("[ports]\nencrypted_dns = [0]", 2, "[0]", "0 is not a port"),
        ("[resolvers]\naddresses = [\n \"192.0.2.0/24\"]", 3, "\"192.0.2.0/24\"", "not an IP address"),
        ("[resolvers]\naddress = []", 2, "address", "unknown field `address`, expected `addresses` or `file`"),
        ("[ports]\ntls = \"all\"", 2, "\"all\"", "neither a list of ports nor \"any\""),
        ("[ports]\ntls = [70000]", 2, "[70000]", "expected a list of ports or \"any\""),
        ("[scopes]\nall = [\"192.0.2.0/24\"]", 2, "all", "`all` is every client, and cannot be defined"),
        (
            "[scopes]\nfr = [\n \"192.0.2.0/33\"]",
            3,
            "\"192.0.2.0/33\"",
            "not a prefix such as 192.0.2.0/24 or 2001:db8::/32",
        ),
        (
            "[scopes]\nfr = [\"192.0.2.9/24\"]",
            2,
            "\"192.0.2.9/24\"",
            "address bits beyond the prefix are set; 192.0.2.0/24 is meant?",
        ),
        ("[scopes]\nfr = []", 2, "[]", "a scope without prefixes binds nobody"),
        ("[scopes]\nfr = 5", 2, "5", "invalid type: integer `5`, expected a list of prefixes or { file = \"...\" }"),
        ("[scopes]\nfr = { flie = \"x\" }", 2, "flie", "unknown field `flie`, expected `file`"),
        ("[targets.dpi]\ninterface = \"eth0\"\nnext_hop = \"gw\"", 3, "\"gw\"", "not an IP address"),
        (
            "[[feed]]\nname = \"x\"\nkind = \"axfr\"\npath = \"/x\"",
            3,
            "\"axfr\"",
            "unknown variant `axfr`, expected one of `native`, `list`, `tickets`, `rpz`",
        ),
        (
            "[[feed]]\nname = \"control\"\nkind = \"native\"\npath = \"/x\"",
            2,
            "\"control\"",
            "`control` is what the control socket was given",
        ),
        (
            "[ports]\ndns = []\ntls = []\nquic = []",
            3,
            "[]",
            "neither DNS nor TLS nor QUIC is read: no order would stop anything",
        ),
        (
            "[[feed]]\nname = \"x\"\nkind = \"native\"\npath = \"/x\"\nprimaries = [{ address = \"192.0.2.1\" }]",
            5,
            "[{ address = \"192.0.2.1\" }]",
            "`primaries` belongs to `kind = \"rpz\"`",
        ),
        (
            "[[feed]]\nname = \"x\"\nkind = \"native\"\npath = \"/x\"\nexpire = \"drop\"",
            5,
            "\"drop\"",
            "`expire` belongs to a feed with `primaries`",
        ),
        (
            "[notify]\nlisten = [\"border.example\"]",
            2,
            "\"border.example\"",
            "not an address such as 192.0.2.1, 192.0.2.1:53 or [2001:db8::1]:53",
        ),
        (
            "[[tsig]]\nname = \"k\"\nalgorithm = \"hmac-md5\"\nsecret_file = \"/x\"",
            3,
            "\"hmac-md5\"",
            "unknown variant `hmac-md5`, expected one of `hmac-sha256`, `hmac-sha384`, `hmac-sha512`",
        ),
        (
            "[[tsig]]\nname = \"k\"\nalgorithm = \"hmac-sha256\"\nsecret_file = \"/nowhere/k\"",
            4,
            "\"/nowhere/k\"",
            "key k: /nowhere/k: No such file or directory (os error 2)",
        ),
        ("[ports]\nquic = [0]", 2, "[0]", "0 is not a port"),
        ("[quic]\nmode = \"wait\"", 2, "\"wait\"", "unknown variant `wait`, expected one of `pass`, `hold`, `drop`"),
        ("[quic]\nwithout_tier = \"hold\"", 2, "\"hold\"", "unknown variant `hold`, expected `pass` or `drop`"),
        (
            "[allow]\nnames = [\"com\"]\nsubtree = [\"com\"]",
            3,
            "\"com\"",
            "is a top-level domain: no order could stop any name below it",
        ),
        (
            "[allow]\nsubtree = [\"github.io\", \"co.uk\"]",
            2,
            "\"co.uk\"",
            "is a public suffix, under which others register their names: no order could stop any name below it",
        ),
        (
            "[scopes]\nfr = [\"::ffff:192.0.2.0/120\"]",
            2,
            "\"::ffff:192.0.2.0/120\"",
            "an IPv4-mapped prefix; as IPv4 it is 192.0.2.0/24",
        ),
        (
            "[scopes]\nfr = [\"::ffff:192.0.2.1\"]",
            2,
            "\"::ffff:192.0.2.1\"",
            "an IPv4-mapped prefix; as IPv4 it is 192.0.2.1/32",
        ),
        (
            "[[feed]]\nname = \"x\"\nkind = \"native\"\npath = \"/x\"\nhold = \"soon\"",
            5,
            "\"soon\"",
            "not a time span, as \"30m\" or \"1h 30m\" is",
        ),
        (
            "[[feed]]\nname = \"x\"\nkind = \"native\"\npath = \"/x\"\nhold = \"31m\"\ndeadline = \"30m\"",
            5,
            "\"31m\"",
            "longer than the feed's `deadline`: every addition would miss it",
        ),
        (
            "[[feed]]\nname = \"x\"\nkind = \"native\"\npath = \"/x\"\nguards = { growth = 5 }",
            5,
            "5",
            "expected true, false or { rows = N, percent = N }",
        ),
        (
            "[[feed]]\nname = \"x\"\nkind = \"native\"\npath = \"/x\"\n[feed.guards]\nurls = false",
            6,
            "urls",
            "unknown field `urls`, expected one of `public_suffixes`, `private_suffixes`, `protected`, `growth`, `shrink`, `empty`",
        ),
        ("[protect]\nsubtree = [\"192.0.2.1\"]", 2, "\"192.0.2.1\"", "is an IP address, not a name"),
        ("[capacity]\nnames = 1", 2, "1", "not between 16 and 268435456"),
        ("[events]\nper_second = -1", 2, "-1", "invalid value: integer `-1`, expected u32"),
        ("x = ", 1, "", "string values must be quoted, expected literal string"),
    ];
    for (text, line, offending, why) in table {
        assert_eq!(mistakes(text), [(*line, (*offending).to_owned(), (*why).to_owned())], "{text}");
    }
}

#[test]
fn every_mistake_is_told_not_only_the_first() {
    let text = "[scopes]\nfr = [\"x\", \"192.0.2.0/24\", \"y\"]\n[allow]\nnames = [\"http://a.example/\"]";
    let lines: Vec<_> = mistakes(text).into_iter().map(|(line, text, _)| (line, text)).collect();
    assert_eq!(lines, [(2, "\"x\"".into()), (2, "\"y\"".into()), (4, "\"http://a.example/\"".into())]);
}

#[test]
fn scope_files_stand_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("fr.txt");
    let file = folder.path().join("cordon.toml");
    std::fs::write(&file, "[scopes]\nfr = { file = \"fr.txt\" }\n").unwrap();

    std::fs::write(&list, "# France\n192.0.2.0/24 # documentation\n\n2001:db8::1\n").unwrap();
    let config = Config::read(&file).unwrap();
    assert_eq!(config.scopes["fr"], ["192.0.2.0/24".parse().unwrap(), "2001:db8::1/128".parse::<IpNet>().unwrap()]);

    std::fs::write(&list, "192.0.2.0/24\nParis\n").unwrap();
    let wrong = Config::read(&file).unwrap_err().0;
    assert_eq!((wrong[1].file.as_path(), wrong[1].line, wrong[1].text.as_str()), (list.as_path(), 2, "Paris"));
}

#[test]
fn a_missing_file_is_a_mistake() {
    let error = Config::read(Path::new("/nonexistent/cordon.toml")).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/cordon.toml: cannot be read:"), "{error}");
}

#[test]
fn what_needs_a_restart() {
    let old = Config::default();
    let file = Path::new(FILE);
    let same = Config::parse("[events]\nper_second = 5\n[scopes]\nx = [\"192.0.2.0/24\"]", file).unwrap();
    assert!(old.needs_restart(&same).is_empty());
    let other = Config::parse("[daemon]\nsocket = \"/x\"\n[[interface]]\nname = \"e\"\n[capacity]\norders = 99", file);
    assert_eq!(old.needs_restart(&other.unwrap()), ["[daemon]", "[[interface]]", "[capacity]"]);
}

#[test]
fn one_protocol_is_enough() {
    for text in ["[ports]\ndns = []", "[ports]\ntls = []", "[ports]\ndns = []\ntls = \"any\""] {
        Config::parse(text, Path::new(FILE)).unwrap();
    }
}

#[test]
fn prefixes_must_fit() {
    let scopes = |range: std::ops::Range<u8>| {
        let list: Vec<String> = range.map(|at| format!("\"192.0.2.{at}\", \"2001:db8::{at:x}\"")).collect();
        format!("[scopes]\na = [{0}]\nb = [{0}]\n", list.join(", "))
    };
    let small = "[capacity]\nprefixes = 16\n";
    Config::parse(&(scopes(0..16) + small), Path::new(FILE)).unwrap();
    let why = "[scopes] has 17 prefixes of one family, capacity.prefixes room for 16".to_owned();
    assert_eq!(mistakes(&(scopes(0..17) + small)), [(5, "16".to_owned(), why)]);
}

const ORDER: &str = r#"
[feed.order]
id = "o"
issuer = "Court"
basis = "Law"
reference = "R"
issued = "2025-03-28"
not_before = "2025-03-28T00:00:00Z"
not_after = "none"
protocols = ["dns"]
actions = { dns = "nxdomain" }
scopes = ["all"]
match = "subtree"
"#;

#[test]
fn a_zone_is_bound_to_one_order() {
    let zone = "[[feed]]\nname = \"z\"\nkind = \"rpz\"\npath = \"/z\"\nzone = \"RPZ.example.\"\n";
    let order = ORDER.replace("match = \"subtree\"\n", "").replace("actions = { dns = \"nxdomain\" }", "actions = {}");
    let config = Config::parse(&format!("{zone}{order}"), Path::new(FILE)).unwrap();
    let crate::feed::Kind::Rpz(bound) = &config.feeds[0].kind else { panic!("{:?}", config.feeds) };
    assert_eq!((bound.order_id(), bound.name().as_str()), ("o", "rpz.example"));

    let cases = [
        (zone.to_owned(), 2, "\"z\"", "a zone has no order's dates: [feed.order] must say which order it belongs to"),
        (
            format!("{}{order}", zone.replace("zone = \"RPZ.example.\"\n", "")),
            2,
            "\"z\"",
            "`zone` must say which zone it is, such as \"rpz.example\"",
        ),
        (format!("{}{order}", zone.replace("RPZ.example.", "a..b")), 5, "\"a..b\"", "has an empty label"),
        (
            format!("{}{order}", zone.replace("RPZ.example.", ".")),
            5,
            "\".\"",
            "is the root, which is no response policy zone",
        ),
        (format!("{zone}format = \"plain\"\n{order}"), 6, "\"plain\"", "`format` belongs to lists"),
        (format!("{zone}{order}match = \"exact\"\n"), 7, "match", "the zone says how far each of its rules reaches"),
        (
            format!("{zone}{}", order.replace("actions = {}", "actions = { dns = \"drop\" }")),
            7,
            "dns",
            "the zone says what is done with DNS queries: `actions` has the other protocols only",
        ),
        (
            format!(
                "{zone}{}",
                order.replace("actions = {}", "actions = { tls = \"drop\" }").replace("[\"dns\"]", "[\"tls\"]")
            ),
            7,
            "protocols",
            "the zone says what is done with DNS queries, so `protocols` holds dns",
        ),
        (format!("{zone}{order}names = [\"a.example\"]\n"), 7, "names", "the names come from the zone"),
        (
            format!("{zone}{}", order.replace("id = \"o\"", &format!("id = \"{}\"", "o".repeat(161)))),
            7,
            &"o".repeat(161),
            "the id of a zone's order has at most 160 octets, since its parts have longer ones",
        ),
    ];
    for (text, line, offending, why) in cases {
        let found = mistakes(&text);
        assert_eq!(found, [(line, offending.to_owned(), why.to_owned())], "{text}");
    }
    let list = "[[feed]]\nname = \"l\"\nkind = \"list\"\npath = \"/l\"\nzone = \"rpz.example\"\n";
    assert_eq!(mistakes(&format!("{list}{ORDER}"))[0].2, "`zone` belongs to `kind = \"rpz\"`");
}

#[test]
fn a_list_is_bound_to_one_order() {
    let list = "[[feed]]\nname = \"l\"\nkind = \"list\"\npath = \"/l\"\n";
    let config = Config::parse(&format!("{list}{ORDER}"), Path::new(FILE)).unwrap();
    let crate::feed::Kind::List(bound) = &config.feeds[0].kind else { panic!("{:?}", config.feeds) };
    assert_eq!((bound.terms.id.as_str(), bound.terms.not_after, bound.terms.ede), ("o", None, 16));
    assert_eq!((&bound.format, bound.charset.name()), (&None, "UTF-8"));

    let with = |more: &str, order: &str| mistakes(&format!("{list}{more}\n{order}"));
    let unbound = "a list has names only: [feed.order] must say which order they belong to";
    assert_eq!(with("", ""), [(2, "\"l\"".to_owned(), unbound.to_owned())]);
    let cases = [
        (
            "",
            ORDER.replace("match = \"subtree\"", "match = \"all\""),
            7,
            "all",
            "unknown `match`; known: exact subtree below",
        ),
        ("", ORDER.replace("not_after = \"none\"\n", ""), 7, "[feed.order]", "missing field `not_after`"),
        ("", format!("{ORDER}names = [\"a.example\"]"), 7, "names", "the names come from the list"),
        (
            "",
            format!("{ORDER}except = [\"*\"]"),
            7,
            "*",
            "in `except`: is a wildcard; give the name itself, and \"match\":\"subtree\" or \"below\"",
        ),
        (
            "format = \"csv\"",
            ORDER.to_owned(),
            5,
            "\"csv\"",
            "needs `csv = { name = \"TITLE\" }`, which says where the names stand",
        ),
        (
            "charset = \"klingon\"",
            ORDER.to_owned(),
            5,
            "\"klingon\"",
            "not a character set; known are those of the WHATWG Encoding Standard",
        ),
        ("csv = { name = 0 }", ORDER.to_owned(), 5, "0", "columns are counted from 1"),
        (
            "csv = { name = \"a\", delimiter = \"ab\" }",
            ORDER.to_owned(),
            5,
            "\"ab\"",
            "a delimiter is one ASCII character",
        ),
    ];
    for (more, order, line, text, why) in cases {
        assert_eq!(with(more, &order), [(line, text.to_owned(), why.to_owned())], "{more}{order}");
    }
    let twice = format!("{list}{ORDER}{}{ORDER}", list.replace("\"l\"", "\"m\""));
    assert_eq!(mistakes(&twice)[0].2, "another list is bound to this order");
    let native = format!("{}charset = \"utf-8\"", list.replace("list", "native"));
    assert_eq!(mistakes(&native)[0].2, "`charset` belongs to lists; the native format says this itself");
}

#[test]
fn a_feed_has_a_path_or_an_address() {
    let feed = "[[feed]]\nname = \"f\"\nkind = \"native\"\n";
    let url = "url = \"https://orders.example/f.jsonl?a=b\"\n";
    let text = format!("{feed}{url}[feed.http]\ninterval = \"5m\"\nlong_poll = \"30s\"\ntoken = \"token\"\n");
    let config = Config::parse(&text, Path::new(FILE)).unwrap();
    let remote = config.feeds[0].remote.as_ref().unwrap();
    assert_eq!(config.feeds[0].path, Path::new("/var/lib/cordon/feeds/f.jsonl"));
    assert_eq!(remote.interval.as_secs(), 300);
    assert_eq!(remote.long_poll.unwrap().as_secs(), 30);
    assert_eq!(remote.token.as_deref(), Some(Path::new("/etc/cordon/token")));

    let key = "signature = { key = \"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\" }\n";
    let signed = Config::parse(&format!("{feed}{url}{key}"), Path::new(FILE)).unwrap();
    assert_ne!(signed.feeds[0].path, config.feeds[0].path, "what was fetched unsigned is not read");
    for (text, line, why) in [
        (String::new(), 2, "the feed has neither a `path` nor a `url`"),
        (format!("path = \"/f\"\n{url}"), 5, "the feed has a `path`, too"),
        ("path = \"/f\"\nhttp = {}".to_owned(), 5, "`http` belongs to a feed with a `url`"),
        ("url = \"ftp://a.example/\"".to_owned(), 4, "neither http nor https"),
        ("url = \"a.example\"".to_owned(), 4, "relative URL without a base"),
        (
            "url = \"https://a:b@c.example/\"".to_owned(),
            4,
            "has a user name in it; what the server asks for belongs in [feed.http] `token`",
        ),
        (
            "url = \"http://a.example/\"\nhttp.token = \"t\"".to_owned(),
            5,
            "everybody on the way could read the token: it needs https",
        ),
        (format!("{url}http.certificate = \"c\""), 5, "a certificate needs its `key`"),
        (format!("{url}http.interval = \"0s\""), 5, "not a time between 1 s and 7 days, such as \"30s\" or \"5m\""),
        (format!("{url}http.jitter = 101"), 5, "over 100"),
        (
            format!("{url}{key}http.incremental = true"),
            6,
            "answers that are made as they are asked for cannot be signed beforehand",
        ),
        (
            format!("{url}signature = {{ key = \"RW\" }}"),
            5,
            "not a public key of minisign, which is a line of 56 characters",
        ),
    ] {
        let told = mistakes(&format!("{feed}{text}"));
        assert_eq!((told[0].0, told[0].2.as_str(), told.len()), (line, why, 1), "{text}");
    }
}

#[test]
fn tickets_come_from_a_platform_and_each_is_an_order() {
    let feed = "[[feed]]\nname = \"shield\"\nkind = \"tickets\"\n";
    let url = "url = \"https://platform.example/api/v1/\"\n";
    let keys = "[feed.tickets]\nuser = \"user\"\npassword = \"/run/password\"\n";
    let order = ORDER.replace("id = \"o\"\n", "").replace("\"R\"", "\"AGCOM {ticket}\"");
    let config = Config::parse(&format!("{feed}{url}{keys}{order}"), Path::new(FILE)).unwrap();
    let [feed_read] = &config.feeds[..] else { panic!("{:?}", config.feeds) };
    assert_eq!(feed_read.path, Path::new("/var/lib/cordon/feeds/shield.tickets.jsonl"));
    assert_eq!(feed_read.remote.as_ref().unwrap().interval.as_secs(), 60);
    assert!(feed_read.task().is_none() && feed_read.policy.is_new_growth && feed_read.input().is_fetched);
    let platform = feed_read.platform(&config.guards()).unwrap().platform;
    assert_eq!((platform.order_id("17"), platform.at_once), ("shield:17".to_owned(), 8));
    assert_eq!(platform.user, Path::new("/etc/cordon/user"));
    assert_eq!(platform.password, Path::new("/run/password"));
    assert!(!platform.enforces_pending && !platform.absent_is_over);

    let more = "pending = \"enforce\"\nabsent = \"revoke\"\nat_once = 32\nfields.ticket = \"/id\"\n\
                paths.allow_list = \"whitelist\"\nstates.active = [\"new\", \"live\"]\n\
                reasons.guard = \"OTHER\"\n";
    let config = Config::parse(&format!("{feed}{url}{keys}{more}{order}"), Path::new(FILE)).unwrap();
    let platform = config.feeds[0].tickets.clone().unwrap();
    assert!(platform.enforces_pending && platform.absent_is_over && platform.at_once == 32);
    assert_eq!((platform.fields.ticket.as_str(), platform.fields.state.as_str()), ("/id", "/status"));
    assert_eq!(platform.paths.allow_list, "whitelist");
    let words: Vec<&str> = platform.states.keys().map(String::as_str).collect();
    assert_eq!(words, ["closed", "created", "live", "new", "revoked"], "words of a state are replaced, not added to");
    assert_eq!(platform.reasons[&crate::feed::tickets::Reason::Guard], "OTHER");

    let unbound =
        "tickets need [feed.tickets], which says how to log in, and [feed.order], which says what a ticket orders";
    let own_id = "each ticket is an order of its own: its id comes from the feed's name and the ticket's id";
    let observe = order.replace("\"nxdomain\"", "\"observe\"");
    for (text, line, why) in [
        (format!("{feed}{url}{keys}"), 2, unbound),
        (format!("{feed}{url}{order}"), 2, unbound),
        (format!("{feed}{url}{keys}{ORDER}"), 9, own_id),
        (format!("{feed}{url}{keys}{observe}"), 9, "a platform is told what is stopped, and `observe` stops nothing"),
        (format!("{feed}path = \"/x\"\n{keys}{order}"), 4, "tickets come from a platform: give its `url`"),
        (
            format!("{feed}url = \"http://platform.example/\"\n{keys}{order}"),
            4,
            "everybody on the way could read the password: it needs https",
        ),
        (format!("{feed}{url}{keys}at_once = 0\n{order}"), 8, "not between 1 and 256"),
        (
            format!("{feed}{url}{keys}states.active = [\"closed\"]\n{order}"),
            8,
            "`closed` stands for another state, too",
        ),
        (format!("{feed}{url}{keys}paths.list = \"\"\n{order}"), 2, "[feed.tickets.paths] `list` is empty"),
        (format!("{feed}{url}charset = \"utf-8\"\n{keys}{order}"), 5, "`charset` belongs to lists"),
        (format!("{feed}{url}http.token = \"t\"\n{keys}{order}"), 5, "`token` does not go with tickets"),
    ] {
        let told = mistakes(&text);
        assert_eq!((told[0].0, told[0].2.as_str(), told.len()), (line, why, 1), "{text}");
    }
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let url = format!("url = \"http://{host}:8080/\"\n");
        Config::parse(&format!("{feed}{url}{keys}{order}"), Path::new(FILE)).unwrap();
    }
    let native = format!("{}{url}{keys}", feed.replace("tickets", "native"));
    assert_eq!(mistakes(&native)[0].2, "`tickets` belongs to `kind = \"tickets\"`");
}

#[test]
fn resolvers_come_with_cordon_from_the_operator_and_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cordon.toml");
    let shipped = Config::default().resolvers.len();
    let list = folder.path().join("list");
    std::fs::write(&list, "# ours\n192.0.2.53 the old one\n\n2001:db8::53\tthe new one # v6\n192.0.2.54\n").unwrap();
    let text = "[resolvers]\naddresses = [\"192.0.2.54\", \"::ffff:192.0.2.55\", \"9.9.9.9\"]\nfile = \"list\"";
    let resolvers = Config::parse(text, &file).unwrap().resolvers;
    // One is there already, and one twice.
    assert_eq!(resolvers.len(), shipped + 4);
    for address in ["192.0.2.53", "192.0.2.54", "192.0.2.55", "2001:db8::53", "9.9.9.9"] {
        assert!(resolvers.contains(&address.parse().unwrap()), "{address}");
    }

    std::fs::write(&list, "192.0.2.53\nns1.example\n\n192.0.2.256\n").unwrap();
    let mistakes = Config::parse(text, &file).unwrap_err().0;
    let told: Vec<_> = mistakes.iter().map(|mistake| (mistake.line, mistake.text.as_str())).collect();
    assert_eq!(told, [(3, "\"list\""), (2, "ns1.example"), (4, "192.0.2.256")]);
    assert_eq!(mistakes[1].file, list);

    let many: String = (0..1024).map(|n| format!("10.0.{}.{}\n", n >> 8, n & 255)).collect();
    std::fs::write(&list, many).unwrap();
    let mistakes = Config::parse(text, &file).unwrap_err().0;
    let why = format!("with those that Cordon knows, {} resolvers; room for 1024", 1024 + shipped + 2);
    assert_eq!((mistakes[0].line, mistakes[0].why.as_str()), (3, why.as_str()));
}

#[test]
fn a_feed_has_all_guards_unless_it_says_otherwise() {
    let feed = "[[feed]]\nname = \"x\"\nkind = \"native\"\npath = \"/x\"\n";
    let policy = |further: &str| {
        let config = Config::parse(&format!("{feed}{further}"), Path::new("/etc/cordon.toml")).unwrap();
        config.feeds[0].policy.clone()
    };
    let default = crate::guard::Policy { feed: "x".to_owned(), ..crate::guard::Policy::default() };
    assert_eq!(policy(""), default);
    let limit = |rows, percent| Some(crate::guard::Limit { rows, percent });
    assert_eq!(
        policy("hold = \"90s\"\ndeadline = \"30m\"\nguards = { growth = { rows = 10, percent = 20 }, shrink = false }"),
        crate::guard::Policy {
            hold: std::time::Duration::from_secs(90),
            deadline: Some(std::time::Duration::from_secs(1800)),
            growth: limit(10, 20),
            shrink: None,
            ..default.clone()
        }
    );
    let off = "[feed.guards]\npublic_suffixes = false\nprivate_suffixes = false\nprotected = false\ngrowth = false\n\
               shrink = false\nempty = false\n";
    assert_eq!(policy(off), crate::guard::Policy { feed: "x".to_owned(), ..crate::guard::Policy::none() });
}

#[test]
fn the_operators_protected_names_may_stand_in_a_file_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cordon.toml");
    let list = folder.path().join("protected.txt");
    let text = "[protect]\nnames = [\"a.example\"]\nfile = \"protected.txt\"";
    std::fs::write(&list, "# ours\n.shop.example  our shop\n").unwrap();
    let mut expected = Protected::default();
    assert_eq!(expected.read("a.example by the configuration\n.shop.example our shop"), []);
    assert_eq!(Config::parse(text, &file).unwrap().protect, expected);
    std::fs::write(&list, "shop.example  our shop\nhttps://shop.example/  the same\n").unwrap();
    let wrong = Config::parse(text, &file).unwrap_err().to_string();
    let why = "2: is a URL; give the host name alone: https://shop.example/";
    assert_eq!(wrong, format!("{}:{why}", list.display()));
    std::fs::remove_file(&list).unwrap();
    let wrong = Config::parse(text, &file).unwrap_err().to_string();
    assert!(wrong.contains("cordon.toml:3: cannot be read: No such file"), "{wrong}");
}

const ZONE: &str = "[[feed]]
name = \"zone\"
kind = \"rpz\"
zone = \"RPZ.Example\"
primaries = [{ address = \"192.0.2.1\", tsig = \"Key.\" }, { address = \"[2001:db8::1]:5353\" }]
order = { id = \"o\", issuer = \"i\", basis = \"b\", reference = \"r\", issued = \"2025-01-01\", not_before = \
\"2025-01-01T00:00:00Z\", not_after = \"none\", protocols = [\"dns\"], actions = {}, scopes = [\"all\"] }
";

#[test]
fn a_zone_is_transferred_from_its_primaries() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cordon.toml");
    std::fs::write(folder.path().join("secret"), "key \"key\" {\n secret \"c2VjcmV0\";\n};\n").unwrap();
    let notify = "[notify]\nlisten = [\"192.0.2.9:53\", \"[2001:db8::9]:53\"]\n";
    let config = Config::parse(&[&key_text(), notify, ZONE].concat(), &file).unwrap();
    assert_eq!(config.notify, ["192.0.2.9:53".parse().unwrap(), "[2001:db8::9]:53".parse().unwrap()]);
    let task = config.feeds[0].transfer().unwrap();
    assert_eq!(task.path, config.daemon.state_dir.join("feeds/zone.zone"));
    let addresses: Vec<String> = task.upstream.primaries.iter().map(|primary| primary.address.to_string()).collect();
    assert_eq!(addresses, ["192.0.2.1:53", "[2001:db8::1]:5353"]);
    let key = task.upstream.primaries[0].key.as_ref().unwrap();
    assert_eq!(key.algorithm, domain::tsig::Algorithm::Sha512);
    assert!(key.read().is_ok() && task.upstream.primaries[1].key.is_none());
    assert_eq!(task.upstream.zone.to_string(), "rpz.example");
    assert!(task.upstream.incremental && config.feeds[0].input().is_fetched);

    let mistakes = |text: &str| Config::parse(text, &file).unwrap_err().to_string();
    let unknown = mistakes(ZONE);
    assert!(unknown.contains("no [[tsig]] has this name"), "{unknown}");
    let none = mistakes(&ZONE.replace(ZONE.lines().nth(4).unwrap(), "primaries = []"));
    assert!(none.contains("a zone without a primary comes from nowhere"), "{none}");
    let both = mistakes(&[key_text(), ZONE.replace("zone =", "path = \"/x\"\nzone =")].concat());
    assert!(both.contains("`path` belongs to a feed without `primaries`"), "{both}");
}

fn key_text() -> String {
    "[[tsig]]\nname = \"key\"\nalgorithm = \"hmac-sha512\"\nsecret_file = \"secret\"\n".to_owned()
}
