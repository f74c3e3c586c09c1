//! QUIC: a client in Rust and Chromium, over IPv4 and IPv6.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use cordon_tests::lab::{Arrived, Family, Filter, Host, Lab, address, order};
use serde_json::{Value, json};

/// Bytes that the client sends on the connection that brings the ticket.
const TICKET: u64 = 10;

const HOLD: &str = "\n[quic]\nmode = \"hold\"\n";

/// Stops a name over QUIC alone.
fn orders() -> Vec<Value> {
    vec![order("drop", &["drop.example"], &[("quic", "drop")])]
}

/// For one of the two subscribers: the other gets the ticket.
fn scoped_orders() -> Vec<Value> {
    let mut orders = orders();
    orders[0]["order"]["scopes"] = json!(["fr"]);
    orders
}

#[test]
fn a_listed_page_never_loads() -> Result<()> {
    let lab = Lab::new()?;
    let _server = lab.quic_server()?;
    let _filter = Filter::start(&lab, &orders())?;
    for family in Family::BOTH {
        for name in ["drop.example", "www.drop.example"] {
            let [asked] = &lab.ask_quic(family, address::CLIENT, &[name])?[..] else { panic!("one answer") };
            assert_eq!(asked.page, None, "{family}: {name}: {asked:?}");
        }
        for name in ["other.example", "notdrop.example", "drop.example.net"] {
            let [asked] = &lab.ask_quic(family, address::CLIENT, &[name])?[..] else { panic!("one answer") };
            assert_eq!(asked.page.as_deref(), Some(&format!("10 for {name}")[..]), "{family}: {name}: {asked:?}");
        }
    }
    Ok(())
}

#[test]
fn o6_other_names_from_the_same_socket_load() -> Result<()> {
    let lab = Lab::new()?;
    let _server = lab.quic_server()?;
    let _filter = Filter::start(&lab, &orders())?;
    for family in Family::BOTH {
        let names = ["before.example", "drop.example", "after.example", "drop.example", "again.example"];
        let asked = lab.ask_quic(family, address::CLIENT, &names)?;
        let came: Vec<bool> = asked.iter().map(|asked| asked.page.is_some()).collect();
        assert_eq!(came, [true, false, true, false, true], "{family}: {asked:?}");
    }
    Ok(())
}

/// What early data gets through before the verdict: told, not judged.
#[test]
fn early_data_before_the_verdict_is_measured() -> Result<()> {
    let lab = Lab::new()?;
    let server = lab.quic_server()?;
    let _filter = Filter::start(&lab, &scoped_orders())?;
    for family in Family::BOTH {
        let before = server.arrived("drop.example")?;
        let asked = lab.resume_quic(family, address::OTHER_CLIENT, address::CLIENT, "drop.example")?;
        let after = server.arrived("drop.example")?;
        println!(
            "{family}: {} bytes of early data came to the server before the verdict",
            after.bytes - before.bytes - TICKET
        );
        assert_eq!(asked.page, None, "{family}: {asked:?}");
    }
    Ok(())
}

#[test]
fn early_data_for_a_name_that_is_not_listed_is_answered() -> Result<()> {
    let lab = Lab::new()?;
    let server = lab.quic_server()?;
    let _filter = Filter::start(&lab, &scoped_orders())?;
    for family in Family::BOTH {
        let before = server.arrived("other.example")?;
        let asked = lab.resume_quic(family, address::OTHER_CLIENT, address::CLIENT, "other.example")?;
        assert_eq!(asked.page.as_deref(), Some("100000 for other.example"), "{family}: {asked:?}");
        assert!(asked.early_accepted, "{family}: {asked:?}");
        assert_eq!(server.arrived("other.example")?.bytes, before.bytes + TICKET + 100_000, "{family}");
    }
    Ok(())
}

/// Early data of a listed name is held back with the hello, and so is that of a name that is not listed, until it is
/// known. The ticket comes from a client that the order does not bind: the name is known then, and stops nothing.
#[test]
fn with_hold_no_early_data_gets_through() -> Result<()> {
    let lab = Lab::new()?;
    let server = lab.quic_server()?;
    let _filter = Filter::start_with(&lab, &scoped_orders(), HOLD)?;
    for family in Family::BOTH {
        let before = server.arrived("drop.example")?;
        let asked = lab.resume_quic(family, address::OTHER_CLIENT, address::CLIENT, "drop.example")?;
        assert_eq!(asked.page, None, "{family}: {asked:?}");
        let after = server.arrived("drop.example")?;
        // The first connection's hello, and nothing of the second.
        assert_eq!(after, Arrived { hellos: before.hellos + 1, bytes: before.bytes + TICKET, ..before }, "{family}");

        let asked = lab.resume_quic(family, address::OTHER_CLIENT, address::CLIENT, "other.example")?;
        assert_eq!(asked.page.as_deref(), Some("100000 for other.example"), "{family}: {asked:?}");
    }
    Ok(())
}

/// The client sends its hello again when its timer runs out, and then the name is known.
#[test]
fn with_hold_a_first_connection_waits_for_one_retransmission() -> Result<()> {
    let lab = Lab::new()?;
    let server = lab.quic_server()?;
    let filter = Filter::start_with(&lab, &orders(), HOLD)?;
    for family in Family::BOTH {
        let (asked, counted) = filter.counting(|| lab.ask_quic(family, address::CLIENT, &["other.example"]))?;
        println!("{family}: a first connection in Rust, held: {:?}", asked[0].took);
        assert!(asked[0].page.is_some(), "{family}: {asked:?}");
        // The hello is one Initial, and is held once.
        assert_eq!(counted.get("quic_held"), Some(&1), "{family}: {counted:?}");

        let (page, counted) = filter.counting(|| lab.browse_quic(family, "other.example"))?;
        assert!(page.document.contains("reached other.example by HTTP/3"), "{family}: {page:?}");
        println!("{family}: Chromium, held: {counted:?}");

        let asked = lab.ask_quic(family, address::CLIENT, &["drop.example"])?;
        assert_eq!(asked[0].page, None, "{family}: {asked:?}");
        let page = lab.browse_quic(family, "drop.example")?;
        assert!(!page.document.contains("reached"), "{family}: {page:?}");
    }
    assert_eq!(server.arrived("drop.example")?, Arrived::default());
    Ok(())
}

/// Its hello is post-quantum: two Initials or more, with CRYPTO frames out of order. It has no connection id of its own,
/// and its second flight has no Initial.
#[test]
fn chromium_over_http_3() -> Result<()> {
    let lab = Lab::new()?;
    let server = lab.quic_server()?;
    let filter = Filter::start(&lab, &orders())?;
    for family in Family::BOTH {
        let page = lab.browse_quic(family, "other.example")?;
        assert!(page.document.contains("reached other.example by HTTP/3"), "{family}: {page:?}");
        // The first hello of all is searched; Chromium sends an encrypted one with each (GREASE).
        let tier = &filter.json(&["stats"])?["tier"];
        assert!(tier["searched"].as_u64() >= Some(1) && tier["encrypted"] == tier["searched"], "{tier}");

        let page = lab.browse_quic(family, "drop.example")?;
        assert!(!page.document.contains("reached"), "{family}: {page:?}");
    }
    let arrived = server.arrived("drop.example")?;
    assert_eq!(arrived.pages, 0);
    // The server is well below a millisecond away: the hello itself is there before its name is known.
    println!("{} hellos for the listed name came to the server", arrived.hellos);
    Ok(())
}

/// Every core is busy with threads of ordinary priority; the tier's goes before them.
#[test]
fn a_listed_page_never_loads_on_a_busy_machine() -> Result<()> {
    let lab = Lab::new()?;
    let _server = lab.quic_server()?;
    let _filter = Filter::start(&lab, &orders())?;
    let _load: Vec<_> =
        (0..8).map(|_| lab.spawn(Host::Dpi, &["sh", "-c", "while :; do :; done"])).collect::<Result<_>>()?;
    for family in Family::BOTH {
        let asked = lab.ask_quic(family, address::CLIENT, &["drop.example"; 3])?;
        assert!(asked.iter().all(|asked| asked.page.is_none()), "{family}: {asked:?}");
    }
    Ok(())
}

/// What the tier does is told by `cordon stats`.
#[test]
fn the_tiers_numbers_are_shown() -> Result<()> {
    let lab = Lab::new()?;
    let _server = lab.quic_server()?;
    let filter = Filter::start(&lab, &orders())?;
    let numbers = || -> Result<[u64; 7]> {
        let stats = filter.json(&["stats"])?;
        let tally = |what: &str| {
            let tallies = stats["tallies"].as_array().into_iter().flatten();
            tallies.filter(|tally| tally["what"] == what).filter_map(|tally| tally["count"].as_u64()).sum::<u64>()
        };
        let tier = |what: &str| stats["tier"][what].as_u64().with_context(|| format!("{what}: {stats}"));
        assert_eq!(stats["tier"]["alive"], true, "{stats}");
        Ok([
            tally("copied"),
            tally("over_budget"),
            tally("ring_full"),
            tier("decided")?,
            tier("listed")?,
            tier("incomplete")?,
            tier("restarts")?,
        ])
    };
    assert_eq!(numbers()?, [0; 7]);
    // Its hello is stopped when it is sent again: one copy.
    let asked = lab.ask_quic(Family::V4, address::CLIENT, &["drop.example"])?;
    assert_eq!(asked[0].page, None, "{asked:?}");
    let [copied, over_budget, ring_full, decided, listed, incomplete, restarts] = numbers()?;
    assert_eq!((copied, decided, listed), (1, 1, 1));
    assert_eq!([over_budget, ring_full, incomplete, restarts], [0; 4]);
    let text = filter.cordon(&["stats"])?.stdout;
    assert!(text.contains("deferred tier: alive; 1 connections with a name, 1 of them listed"), "{text}");
    Ok(())
}

/// A flood of forged Initials has its share of copies; whoever else asks is answered, and stopped, as ever.
#[test]
fn q6_others_are_served_and_stopped_during_a_flood() -> Result<()> {
    const BUDGET: u64 = 500;
    let lab = Lab::new()?;
    let mut listed = orders();
    listed.push(order("tls", &["tls.example"], &[("tls", "reset"), ("dns", "nxdomain")]));
    let filter = Filter::start_with(&lab, &listed, &format!("\n[quic]\ninitials_per_second = {BUDGET}\n"))?;
    let begun = Instant::now();
    let flood = lab.flood_quic(Family::V4, address::OTHER_CLIENT, 4)?;
    let mut rounds = 0;
    while flood.log().is_empty() && begun.elapsed() < Duration::from_secs(60) {
        for family in Family::BOTH {
            assert_eq!(lab.curl(family, address::CLIENT, "other.example")?.code, 0, "{family}");
            assert_eq!(lab.curl(family, address::CLIENT, "tls.example")?.code, 35, "{family}");
            let answer = lab.dig(family, address::CLIENT, "tls.example", "A", &[])?;
            assert_eq!(answer.status.as_deref(), Some("NXDOMAIN"), "{family}");
        }
        rounds += 1;
    }
    let (counters, stats) = (filter.counters()?, filter.json(&["stats"])?);
    let [copied, passed] = ["quic_copied", "quic_over_budget"].map(|reason| counters.get(reason).copied().unwrap_or(0));
    println!("{rounds} rounds beside {} Initials: {copied} copied, {passed} over the budget", flood.log().trim());
    let cpus = std::thread::available_parallelism()?.get() as u64;
    // Each CPU's bucket holds a second's budget at the start.
    assert!(copied <= cpus * BUDGET * (begun.elapsed().as_secs() + 2), "{copied}: {counters:?}");
    assert!(rounds > 0 && copied > 0 && passed > 0, "{counters:?}");
    assert_eq!((stats["tier"]["alive"].as_bool(), stats["tier"]["junk"].as_u64()), (Some(true), Some(copied)));
    Ok(())
}
