//! Resolvers behind the filter, which ask authorities on behalf of stubs: what answers in place of an authority's mean
//! to them, with and without DNSSEC validation.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use cordon_tests::lab::{Answer, Filter, Host, Lab, Process, address, eventually, order_of_each_action, root_zone};

/// Where the resolver listens, on the client's host.
const RESOLVER: &str = "127.0.0.1";

/// Patience of a stub with its resolver, which itself tries an authority several times.
const PATIENT: [&str; 2] = ["+tries=1", "+time=40"];

#[test]
fn a_resolver_passes_answers_on() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &order_of_each_action())?;
    let root = format!(". NS ns.invalid.\nns.invalid. A {}\n", address::DNS[0]);
    let _resolver = resolver(&lab, &root, "dnssec-validation no;", "")?;

    assert_eq!(ask(&lab, "other.example")?.answer, [address::WEB[0]]);
    let (answer, gained) = filter.counting(|| ask(&lab, "nxdomain.example"))?;
    assert_eq!(answer.status.as_deref(), Some("NXDOMAIN"), "{answer:?}");
    assert!(gained.contains_key("answered_nxdomain"), "{gained:?}");
    // From its cache now: the negative answer's SOA says for how long.
    let (answer, gained) = filter.counting(|| ask(&lab, "nxdomain.example"))?;
    assert_eq!((answer.status.as_deref(), gained.len()), (Some("NXDOMAIN"), 0), "{gained:?}");

    let answer = ask(&lab, "nodata.example")?;
    assert_eq!((answer.status.as_deref(), answer.answer.len()), (Some("NOERROR"), 0), "{answer:?}");
    assert_eq!(ask(&lab, "address.example")?.answer, [address::NOTICE[0]]);
    // A refusal is not an answer to a resolver: it tries every authority and gives up.
    assert_eq!(ask(&lab, "refused.example")?.status.as_deref(), Some("SERVFAIL"));
    Ok(())
}

#[test]
fn a_validating_resolver_takes_no_forged_answer() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &order_of_each_action())?;
    let (_authority, anchor) = signed_root(&lab)?;
    let root = format!(". NS ns.invalid.\nns.invalid. A {}\n", address::WEB[0]);
    let _resolver = resolver(&lab, &root, "dnssec-validation yes;", &anchor)?;

    let answer = ask(&lab, "other.example")?;
    assert_eq!(answer.answer, [address::WEB[0]]);
    assert!(answer.flags.contains("ad"), "{answer:?}");
    // The name stays stopped; its reader sees a failure in place of the order's answer.
    for action in ["nxdomain", "nodata", "address", "refused"] {
        let (answer, gained) = filter.counting(|| ask(&lab, &format!("{action}.example")))?;
        assert_eq!(answer.status.as_deref(), Some("SERVFAIL"), "{action}: {answer:?}");
        assert!(gained.contains_key(&format!("answered_{action}")), "{action}: {gained:?}");
    }
    // What it did not take does it no harm afterwards.
    assert_eq!(ask(&lab, "another.example")?.answer, [address::WEB[0]]);
    Ok(())
}

#[test]
fn the_c_library_tries_the_next_server_after_a_refusal() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &order_of_each_action())?;
    let ((addresses, took), gained) = filter.counting(|| lab.resolve("refused.example"))?;
    assert_eq!(addresses, None);
    // A and AAAA, at both servers, each tried twice.
    assert_eq!(gained.get("answered_refused"), Some(&8), "{gained:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    Ok(())
}

fn ask(lab: &Lab, name: &str) -> Result<Answer> {
    lab.ask(RESOLVER, name, "A", &PATIENT)
}

/// A resolver on the client's host that begins at the root given.
fn resolver(lab: &Lab, root: &str, options: &str, statements: &str) -> Result<Process> {
    fs::write(lab.folder().join("hints.zone"), root)?;
    let listen = format!("listen-on {{ {RESOLVER}; }}; listen-on-v6 {{ none; }}; recursion yes; {options}");
    let hints = format!("zone \".\" {{ type hint; file \"hints.zone\"; }};\n{statements}");
    let resolver = lab.name_server(Host::Client, &listen, &hints)?;
    eventually(Duration::from_secs(30), || {
        let answer = lab.ask(RESOLVER, "ready.example", "A", &["+tries=1", "+time=1"])?;
        ensure!(answer.status.as_deref() == Some("NOERROR"), "{answer:?}: {}", resolver.log());
        Ok(())
    })?;
    Ok(resolver)
}

/// A name server for the lab's root, signed, at the web server's address; and the anchor that trusts it.
fn signed_root(lab: &Lab) -> Result<(Process, String)> {
    let zone = root_zone().replace(address::DNS[0], address::WEB[0]);
    fs::write(lab.folder().join("signed.zone"), zone)?;
    let key = lab.read(Host::Server, &["dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", "."])?;
    lab.read(Host::Server, &["dnssec-signzone", "-q", "-S", "-z", "-o", ".", "-f", "signed.root", "signed.zone"])?;
    let public = fs::read_to_string(lab.folder().join(format!("{}.key", key.trim())))?;
    // `. IN DNSKEY 257 3 13 BASE64`, behind comments.
    let record = public.lines().find_map(|line| line.split_once(" DNSKEY ")).context("no key")?.1;
    let [flags, protocol, algorithm, key @ ..] = &record.split_whitespace().collect::<Vec<_>>()[..] else {
        anyhow::bail!("not a key: {record}")
    };
    let anchor = format!("trust-anchors {{ . static-key {flags} {protocol} {algorithm} \"{}\"; }};", key.concat());
    let options = format!("listen-on {{ {}; }}; listen-on-v6 {{ none; }}; recursion no;", address::WEB[0]);
    let server = lab.name_server(Host::Server, &options, "zone \".\" { type primary; file \"signed.root\"; };")?;
    Ok((server, anchor))
}
