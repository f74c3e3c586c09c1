//! What names cannot be seen, as numbers: DNS over TLS and HTTPS by kdig, to a real resolver.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cordon_tests::lab::{CERTIFICATE, Family, Filter, Host, KEY, Lab, address, eventually, order};
use serde_json::{Value, json};

#[test]
fn d6_encrypted_queries_pass_and_are_counted() -> Result<()> {
    let lab = Lab::new()?;
    let [v4, v6] = address::DNS;
    let listen = |port, http| {
        format!(
            "listen-on port {port} tls lab {http} {{ {v4}; }}; listen-on-v6 port {port} tls lab {http} {{ {v6}; }};"
        )
    };
    let _resolver = lab.name_server(
        Host::Server,
        &format!("{} {} recursion no;", listen(853, ""), listen(443, "http default")),
        &format!(
            r#"tls lab {{ cert-file "{CERTIFICATE}"; key-file "{KEY}"; }};
zone "." {{ type primary; file "root.zone"; }};"#
        ),
    )?;
    for (family, transport) in
        [(Family::V4, "+tls"), (Family::V6, "+tls"), (Family::V4, "+https"), (Family::V6, "+https")]
    {
        eventually(Duration::from_secs(30), || {
            let status = lab.kdig_encrypted(family, transport, "ready.example")?;
            ensure!(status.as_deref() == Some("NOERROR"), "{transport} over {family}: {status:?}");
            Ok(())
        })?;
    }

    let filter = Filter::start(&lab, &[order("o", &["listed.example"], &[("dns", "nxdomain"), ("tls", "reset")])])?;
    let hidden = || -> Result<Value> { Ok(filter.json(&["stats"])?["hidden"].clone()) };
    let expected = |tls: u64, https: u64, nameless: u64| {
        json!({"dns_over_tls": tls, "dns_over_quic": 0, "resolver_tls": https, "resolver_quic": 0,
            "hellos_without_name": nameless, "quic_versions": 0, "hellos_searched": 0, "hellos_encrypted": 0,
            "searched_one_in": 256})
    };
    assert_eq!(hidden()?, expected(0, 0, 0));

    // The listed name cannot be seen: it is answered, and the connection counted.
    let ask = |transport: &str| -> Result<()> {
        for family in Family::BOTH {
            let status = lab.kdig_encrypted(family, transport, "listed.example")?;
            ensure!(status.as_deref() == Some("NOERROR"), "{transport} over {family}: {status:?}");
        }
        Ok(())
    };
    ask("+tls")?;
    assert_eq!(hidden()?, expected(2, 0, 0));
    // Nobody has said that there is a resolver at this address; kdig sends no name to it.
    ask("+https")?;
    assert_eq!(hidden()?, expected(2, 0, 2));

    // The operator says so, one address here and one in a file.
    std::fs::write(lab.folder().join("resolvers.txt"), format!("# ours\n{v6}  the lab\n"))?;
    filter.reconfigure(&format!("[resolvers]\naddresses = [\"{v4}\"]\nfile = \"resolvers.txt\"\n"))?;
    eventually(Duration::from_secs(30), || {
        ensure!(filter.log().contains("read again"), "not read again: {}", filter.log());
        Ok(())
    })?;
    ask("+https")?;
    assert_eq!(hidden()?, expected(2, 2, 4));

    // For people, in plain words, and while no daemon runs.
    let text = filter.cordon(&["stats"])?.stdout;
    let line = |what: &str| text.lines().find(|line| line.starts_with(what)).with_context(|| text.clone());
    assert!(line("DNS over TLS: connections opened")?.ends_with(" 2"), "{text}");
    assert!(line("TLS to known public resolvers: connections opened")?.ends_with(" 2"), "{text}");
    assert!(line("TLS hellos with an encrypted one inside, of one in 256")?.ends_with("none searched yet"), "{text}");
    assert!(line("QUIC hellos with an encrypted one inside, of one in 16")?.ends_with("none searched yet"), "{text}");
    let mut filter = filter;
    filter.stop(libc::SIGKILL)?;
    assert_eq!(filter.json(&["stats"])?["hidden"], expected(2, 2, 4));
    Ok(())
}
