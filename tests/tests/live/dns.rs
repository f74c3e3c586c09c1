//! Each action on DNS, by dig, kdig and the C library's resolver, over IPv4 and IPv6.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use anyhow::Result;
use cordon_tests::lab::{
    Answer, Counters, DPI_INTERFACE, Family, Filter, Host, Lab, address, eventually, order, order_of_each_action,
};

/// One query, without a second try.
const ONCE: [&str; 2] = ["+tries=1", "+time=2"];

/// dig's waiting time for [`PATIENT`] is over only if the first answer was not taken.
const PATIENT: [&str; 2] = ["+tries=3", "+time=20"];

#[test]
fn each_action_answers_as_designed() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &order_of_each_action())?;
    let [web, _] = address::WEB;
    let [notice, notice6] = address::NOTICE;

    for family in Family::BOTH {
        let ask = |name: &str, kind: &str| asked(&lab, &filter, family, name, kind);

        for name in ["other.example", "notdrop.example", "drop.example.net", "example"] {
            let (answer, gained) = ask(name, "A")?;
            assert_eq!((answer.answer, gained), (vec![web.to_owned()], one("not_listed")), "{name}");
        }

        let (answer, gained) = ask("observe.example", "A")?;
        assert_eq!((answer.answer, gained), (vec![web.to_owned()], one("observed")));

        let (answer, gained) = filter.counting(|| lab.dig(family, address::CLIENT, "drop.example", "A", &ONCE))?;
        assert_eq!((answer.status, gained), (None, one("dropped")));

        for name in ["nxdomain.example", "a.b.nxdomain.example"] {
            let (answer, gained) = ask(name, "AAAA")?;
            assert_eq!(answer.status.as_deref(), Some("NXDOMAIN"), "{name}");
            assert_eq!(answer.authority, ["nxdomain.example. SOA"], "{name}");
            assert_ede(&answer, "16 (Censored): (Lab nxdomain)");
            assert_eq!(gained, one("answered_nxdomain"), "{name}");
        }

        let (answer, gained) = ask("nodata.example", "A")?;
        assert_eq!((answer.status.as_deref(), answer.answer.len()), (Some("NOERROR"), 0));
        assert_eq!(answer.authority, ["nodata.example. SOA"]);
        assert_ede(&answer, "16 (Censored): (Lab nodata)");
        assert_eq!(gained, one("answered_nodata"));

        for name in ["refused.example", "reset.example"] {
            let (answer, gained) = ask(name, "A")?;
            assert_eq!((answer.status.as_deref(), answer.authority.len()), (Some("REFUSED"), 0), "{name}");
            assert_eq!(gained, one("answered_refused"), "{name}");
        }

        for (kind, data, reason) in [
            ("A", vec![notice.to_owned()], "answered_address"),
            ("AAAA", vec![notice6.to_owned()], "answered_address"),
            ("TXT", vec![], "answered_nodata"),
        ] {
            let (answer, gained) = ask("address.example", kind)?;
            assert_eq!((answer.status.as_deref(), &answer.answer), (Some("NOERROR"), &data), "{kind}");
            assert_ede(&answer, "4 (Forged Answer): (Lab address)");
            assert_eq!(gained, one(reason), "{kind}");
        }

        let before = lab.received(Host::Dpi, "eth0")?;
        let (answer, gained) = ask("redirect.example", "A")?;
        assert_eq!((answer.answer, gained), (vec![web.to_owned()], one("redirected")));
        assert!(lab.received(Host::Dpi, "eth0")? > before, "nothing came to the box for redirected packets");
    }
    Ok(())
}

#[test]
fn d7_any_type_is_stopped() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &order_of_each_action())?;
    for kind in ["A", "AAAA", "HTTPS", "SVCB", "TXT", "MX", "ANY"] {
        let (answer, gained) = filter.counting(|| {
            // dig would ask for ANY over TCP.
            lab.dig(Family::V4, address::CLIENT, "www.NxDomain.example", kind, &["+notcp", "+tries=1", "+time=5"])
        })?;
        assert_eq!((answer.status.as_deref(), gained), (Some("NXDOMAIN"), one("answered_nxdomain")), "{kind}");
    }
    Ok(())
}

#[test]
fn d5_queries_over_tcp_are_reset() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &order_of_each_action())?;
    for family in Family::BOTH {
        for (name, status, reason) in [
            ("other.example", Some("NOERROR"), "not_listed"),
            ("observe.example", Some("NOERROR"), "observed"),
            ("redirect.example", Some("NOERROR"), "redirected"),
            ("nxdomain.example", None, "reset"),
            ("www.reset.example", None, "reset"),
        ] {
            // dig tries again by itself where a connection is reset; kdig does not.
            let options = ["+tcp", "+tries=1", "+time=2"];
            let (answer, gained) = filter.counting(|| lab.dig(family, address::CLIENT, name, "A", &options))?;
            assert_eq!(answer.status.as_deref(), status, "{family}: dig: {name}: {answer:?}");
            assert!(gained.contains_key(reason), "{family}: dig: {name}: {gained:?}");

            let (answers, gained) = filter.counting(|| lab.kdig(family, address::CLIENT, &[name]))?;
            assert_eq!(answers.first().map(String::as_str), status, "{family}: kdig: {name}: {answers:?}");
            assert_eq!(gained.get(reason), Some(&1), "{family}: kdig: {name}: {gained:?}");
        }
    }
    Ok(())
}

#[test]
fn d5_a_listed_query_after_another_on_a_connection() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &order_of_each_action())?;
    for family in Family::BOTH {
        let names = ["one.example", "two.example"];
        let (answers, gained) = filter.counting(|| lab.kdig(family, address::CLIENT, &names))?;
        assert_eq!((answers.len(), gained), (2, Counters::from([("not_listed".to_owned(), 2)])), "{family}");

        let names = ["one.example", "reset.example"];
        let (answers, gained) = filter.counting(|| lab.kdig(family, address::CLIENT, &names))?;
        assert_eq!(answers.len(), 1, "{family}: {gained:?}");
        assert_eq!((gained.get("not_listed"), gained.get("reset")), (Some(&1), Some(&1)), "{family}: {gained:?}");
    }
    Ok(())
}

#[test]
fn without_edns_there_is_no_ede() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &order_of_each_action())?;
    for family in Family::BOTH {
        let plain = ["+noedns", "+tries=1", "+time=5"];
        let (answer, gained) = filter.counting(|| lab.dig(family, address::CLIENT, "nxdomain.example", "A", &plain))?;
        assert_eq!((answer.status.as_deref(), &answer.ede), (Some("NXDOMAIN"), &None));
        assert_eq!(gained, one("answered_nxdomain"));

        // A resolver asks without RD and is told by an authority.
        let resolver = ["+norecurse", "+tries=1", "+time=5"];
        let answer = lab.dig(family, address::CLIENT, "nxdomain.example", "A", &resolver)?;
        assert_eq!(answer.flags, BTreeSet::from(["qr", "aa"].map(str::to_owned)));
    }
    Ok(())
}

#[test]
fn stub_resolvers_take_answers_at_once() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &order_of_each_action())?;
    let both = |addresses: [&str; 2]| -> Result<BTreeSet<IpAddr>> {
        Ok(addresses.into_iter().map(str::parse).collect::<Result<_, _>>()?)
    };
    for (name, reason, expected) in [
        ("nxdomain.example", "answered_nxdomain", None),
        ("nodata.example", "answered_nodata", None),
        ("address.example", "answered_address", Some(both(address::NOTICE)?)),
    ] {
        let ((addresses, took), gained) = filter.counting(|| lab.resolve(name))?;
        assert_eq!(addresses, expected, "{name}");
        // One query for A and one for AAAA; a retry would be counted, and begin after five seconds.
        assert_eq!(gained, Counters::from([(reason.to_owned(), 2)]), "{name}");
        assert!(took < Duration::from_secs(5), "{name} took {took:?}");
    }
    Ok(())
}

#[test]
fn o5_an_order_binds_only_its_clients() -> Result<()> {
    let lab = Lab::new()?;
    let mut scoped = order("scoped", &["scoped.example"], &[("dns", "nxdomain")]);
    scoped["order"]["scopes"] = serde_json::json!(["fr"]);
    let filter = Filter::start(&lab, &[scoped])?;
    for family in Family::BOTH {
        let ask = |source| filter.counting(|| lab.dig(family, source, "scoped.example", "A", &PATIENT));
        let (answer, gained) = ask(address::CLIENT)?;
        assert_eq!((answer.status.as_deref(), gained), (Some("NXDOMAIN"), one("answered_nxdomain")));
        let (answer, gained) = ask(address::OTHER_CLIENT)?;
        assert_eq!((answer.answer, gained), (vec![address::WEB[0].to_owned()], one("other_client")));
    }
    Ok(())
}

#[test]
fn a_redirect_without_its_target_is_dropped() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &order_of_each_action())?;
    lab.read(Host::Border, &["ip", "link", "set", DPI_INTERFACE, "down"])?;
    // The daemon follows the link by netlink, a moment later.
    let answer = eventually(Duration::from_secs(30), || {
        let (answer, gained) =
            filter.counting(|| lab.dig(Family::V4, address::CLIENT, "redirect.example", "A", &ONCE))?;
        anyhow::ensure!(gained == one("dropped_no_target"), "{gained:?}");
        Ok(answer)
    })?;
    assert_eq!(answer.status, None);
    Ok(())
}

/// Asks patiently, so that an answer that dig does not take is found by its counter.
fn asked(lab: &Lab, filter: &Filter<'_>, family: Family, name: &str, kind: &str) -> Result<(Answer, Counters)> {
    filter.counting(|| lab.dig(family, address::CLIENT, name, kind, &PATIENT))
}

fn one(reason: &str) -> Counters {
    Counters::from([(reason.to_owned(), 1)])
}

fn assert_ede(answer: &Answer, expected: &str) {
    assert_eq!(answer.ede.as_deref(), Some(expected));
    assert_eq!(answer.flags, BTreeSet::from(["qr", "rd", "ra"].map(str::to_owned)));
}
