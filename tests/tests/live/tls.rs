//! Each action on TLS over TCP, by curl and by openssl s_client, over IPv4 and IPv6.

use std::time::Duration;

use anyhow::{Result, ensure};
use cordon_tests::{
    lab::{Counters, Family, Filter, Host, Lab, address, eventually, order, order_of_each_action},
    packet::Hello,
};

/// curl waits three seconds for a server that never answers; a reset must end it long before.
const AT_ONCE: Duration = Duration::from_secs(2);

#[test]
fn each_action_ends_curl_as_designed() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &order_of_each_action())?;
    for family in Family::BOTH {
        let fetch = |name: &str| filter.counting(|| lab.curl(family, address::CLIENT, name));

        for name in ["other.example", "notreset.example", "reset.example.net"] {
            let (fetched, gained) = fetch(name)?;
            assert_eq!((fetched.code, fetched.body), (0, format!("<p>reached {name}</p>\n")));
            assert_eq!(gained, one("not_listed"), "{name}");
        }

        let (fetched, gained) = fetch("observe.example")?;
        assert_eq!((fetched.code, gained), (0, one("observed")));

        for action in ["reset", "nxdomain", "nodata", "refused", "address"] {
            for name in [format!("{action}.example"), format!("www.{action}.example")] {
                let (fetched, gained) = fetch(&name)?;
                assert_eq!(fetched.code, 35, "{name}: {fetched:?}");
                assert_eq!(gained, one("reset"), "{name}");
                assert!(fetched.finished.took < AT_ONCE, "{name}: {fetched:?}");
            }
        }

        let before = lab.received(Host::Dpi, "eth0")?;
        let (fetched, gained) = fetch("redirect.example")?;
        assert_eq!((fetched.code, gained), (0, one("redirected")), "{fetched:?}");
        assert!(lab.received(Host::Dpi, "eth0")? > before, "nothing came to the box for redirected packets");
    }
    Ok(())
}

#[test]
fn each_action_ends_openssl_as_designed() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &order_of_each_action())?;
    for family in Family::BOTH {
        let shake = |name: &str| filter.counting(|| lab.handshake(family, name));
        for (name, established, reset, reason) in [
            ("other.example", true, false, "not_listed"),
            ("observe.example", true, false, "observed"),
            ("redirect.example", true, false, "redirected"),
            ("reset.example", false, true, "reset"),
            ("nxdomain.example", false, true, "reset"),
            ("nodata.example", false, true, "reset"),
            ("refused.example", false, true, "reset"),
            ("address.example", false, true, "reset"),
        ] {
            let (handshake, gained) = shake(name)?;
            assert_eq!((handshake.established, handshake.reset), (established, reset), "{name}: {handshake:?}");
            assert_eq!(gained, one(reason), "{name}");
        }
    }
    Ok(())
}

/// A hello of over 2 kB: two segments.
#[test]
fn t03_each_action_ends_a_long_hello_as_designed() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &order_of_each_action())?;
    for family in Family::BOTH {
        for (name, established, reset, reason) in [
            ("other.example", true, false, "not_listed"),
            ("notreset.example", true, false, "not_listed"),
            ("observe.example", true, false, "observed"),
            ("redirect.example", true, false, "redirected"),
            ("reset.example", false, true, "reset"),
            ("www.nxdomain.example", false, true, "reset"),
        ] {
            let (handshake, gained) = filter.counting(|| lab.long_handshake(family, name))?;
            assert_eq!((handshake.established, handshake.reset), (established, reset), "{name}: {handshake:?}");
            assert_eq!(gained.get(reason), Some(&1), "{name}: {gained:?}");
        }
    }
    Ok(())
}

/// Records without a part of the hello, which servers of the web read past.
#[test]
fn t10_a_hello_among_idle_records_is_reset() -> Result<()> {
    const EMPTY: [u8; 5] = [22, 3, 1, 0, 0];
    const CHANGE_CIPHER_SPEC: [u8; 6] = [20, 3, 3, 0, 1, 1];
    let lab = Lab::new()?;
    let certificate = ["--x509certfile", "certificate.pem", "--x509keyfile", "key.pem"];
    let serve = [&["gnutls-serv", "--quiet", "--nocookie", "--port", "8444"][..], &certificate].concat();
    let _gnutls = lab.spawn(Host::Server, &serve)?;
    let further = "[ports]\ntls = [443, 8444]\n";
    let filter = Filter::start_with(&lab, &[order("reset", &["reset.example"], &[("tls", "reset")])], further)?;
    let streams = |name: &str, idle: &[u8]| -> [Vec<u8>; 3] {
        let hello = Hello::new(name).records(&[40]).build();
        let (one, two) = hello.split_at(45);
        [hello.clone(), [idle, &hello].concat(), [one, idle, two].concat()]
    };
    for family in Family::BOTH {
        // nginx has OpenSSL.
        for (server, port, idle) in
            [("nginx", 443, EMPTY.repeat(32)), ("gnutls-serv", 8444, CHANGE_CIPHER_SPEC.to_vec())]
        {
            eventually(Duration::from_secs(20), || {
                let [hello, ..] = streams("ready.example", &[]);
                ensure!(lab.send_tls(family, port, &hello)?.answered, "no answer from {server}");
                Ok(())
            })?;
            for stream in streams("other.example", &idle) {
                let (sent, gained) = filter.counting(|| lab.send_tls(family, port, &stream))?;
                assert!(sent.answered, "{server} does not read past {idle:?}: {sent:?}");
                assert_eq!(gained, one("not_listed"), "{server}");
            }
            for stream in streams("reset.example", &idle) {
                let (sent, gained) = filter.counting(|| lab.send_tls(family, port, &stream))?;
                assert!(!sent.answered, "{server}: {sent:?}");
                assert_eq!(gained, one("reset"), "{server}");
            }
        }
    }
    Ok(())
}

/// Apart from the others, because the kernel goes on sending a dropped hello again after its client has given up.
#[test]
fn a_dropped_hello_times_out() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &order_of_each_action())?;
    for family in Family::BOTH {
        let (fetched, gained) = filter.counting(|| lab.curl(family, address::CLIENT, "drop.example"))?;
        assert_eq!(fetched.code, 28, "{fetched:?}");
        assert_eq!(gained.keys().collect::<Vec<_>>(), ["dropped"]);

        let (handshake, gained) = filter.counting(|| lab.handshake(family, "drop.example"))?;
        assert_eq!((handshake.established, handshake.reset), (false, false), "{handshake:?}");
        assert_eq!(gained.keys().collect::<Vec<_>>(), ["dropped"]);
    }
    Ok(())
}

#[test]
fn o6_a_reset_concerns_one_connection() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &[order("reset", &["reset.example"], &[("tls", "reset")])])?;
    for family in Family::BOTH {
        for _ in 0..3 {
            let (fetched, gained) = filter.counting(|| lab.curl(family, address::CLIENT, "reset.example"))?;
            assert_eq!((fetched.code, gained), (35, one("reset")));
            // Another name at the same server.
            let (fetched, gained) = filter.counting(|| lab.curl(family, address::CLIENT, "other.example"))?;
            assert_eq!((fetched.code, gained), (0, one("not_listed")));
        }
        // The order says nothing about DNS.
        let (answer, gained) = filter.counting(|| lab.dig(family, address::CLIENT, "reset.example", "A", &[]))?;
        assert_eq!((answer.answer, gained), (vec![address::WEB[0].to_owned()], one("other_protocol")));
    }
    Ok(())
}

#[test]
fn o5_an_order_binds_only_its_clients() -> Result<()> {
    let lab = Lab::new()?;
    let mut scoped = order("scoped", &["scoped.example"], &[("tls", "reset")]);
    scoped["order"]["scopes"] = serde_json::json!(["fr"]);
    let filter = Filter::start(&lab, &[scoped])?;
    for family in Family::BOTH {
        let fetch = |source| filter.counting(|| lab.curl(family, source, "scoped.example"));
        let (fetched, gained) = fetch(address::CLIENT)?;
        assert_eq!((fetched.code, gained), (35, one("reset")));
        let (fetched, gained) = fetch(address::OTHER_CLIENT)?;
        assert_eq!((fetched.code, gained), (0, one("other_client")));
    }
    Ok(())
}

fn one(reason: &str) -> Counters {
    Counters::from([(reason.to_owned(), 1)])
}
