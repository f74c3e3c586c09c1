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
            "[[feed]]\nname = \"x\"\nkind = \"rpz\"\npath = \"/x\"",
            3,
            "\"rpz\"",
            "unknown variant `rpz`, expected `native`",
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
