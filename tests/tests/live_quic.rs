//! QUIC: a client in Rust and Chromium, over IPv4 and IPv6.

use anyhow::Result;
use cordon_tests::lab::{Family, Filter, Lab, address, order};
use serde_json::{Value, json};

/// Bytes that the client sends on the connection that brings the ticket.
const TICKET: u64 = 10;

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

/// Its hello is post-quantum: two Initials or more, with CRYPTO frames out of order.
#[test]
fn chromium_loads_what_is_not_listed_over_http_3() -> Result<()> {
    let lab = Lab::new()?;
    let _server = lab.quic_server()?;
    let _filter = Filter::start(&lab, &orders())?;
    for family in Family::BOTH {
        let page = lab.browse_quic(family, "other.example")?;
        assert!(page.document.contains("reached other.example by HTTP/3"), "{family}: {page:?}");
    }
    Ok(())
}
