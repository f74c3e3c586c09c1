//! Headless Chromium behind the filter. It resolves names by the lab's name server and then connects.

use std::time::Duration;

use anyhow::Result;
use cordon_tests::lab::{Family, Filter, Lab, address, order, order_of_each_action};
use serde_json::json;

/// With this MTU the browser's post-quantum hello is one segment.
const MTU: u32 = 3000;

#[test]
fn a_name_without_an_address_is_not_found() -> Result<()> {
    let lab = Lab::with_mtu(MTU)?;
    let filter = Filter::start(&lab, &order_of_each_action())?;
    for (action, reason) in
        [("nxdomain", "answered_nxdomain"), ("nodata", "answered_nodata"), ("refused", "answered_refused")]
    {
        let (page, gained) = filter.counting(|| lab.browse(&format!("{action}.example")))?;
        assert_eq!(page.error.as_deref(), Some("ERR_NAME_NOT_RESOLVED"), "{action}: {page:?}");
        assert!(gained.contains_key(reason), "{action}: {gained:?}");
    }
    let page = lab.browse("other.example")?;
    assert!(page.document.contains("reached other.example"), "{page:?}");
    Ok(())
}

#[test]
fn another_address_shows_another_page() -> Result<()> {
    let lab = Lab::with_mtu(MTU)?;
    let mut notice = order("notice", &["moved.example"], &[("dns", "address")]);
    let [a, aaaa] = address::NOTICE;
    notice["order"]["address"] = json!({"a": a, "aaaa": aaaa});
    let filter = Filter::start(&lab, &[notice])?;
    let (page, gained) = filter.counting(|| lab.browse("moved.example"))?;
    assert!(page.document.contains("notice instead of moved.example"), "{page:?}");
    assert!(gained.contains_key("answered_address"), "{gained:?}");
    Ok(())
}

#[test]
fn a_reset_shows_at_once() -> Result<()> {
    let lab = Lab::with_mtu(MTU)?;
    let filter = Filter::start(&lab, &[order("reset", &["reset.example"], &[("tls", "reset")])])?;
    for family in Family::BOTH {
        let (page, gained) = filter.counting(|| lab.browse_at(family, "reset.example"))?;
        assert_eq!(page.error.as_deref(), Some("ERR_CONNECTION_RESET"), "{page:?}");
        assert!(gained.contains_key("reset"), "{gained:?}");
        assert!(!gained.contains_key("tls_incomplete"), "{gained:?}");
        // For an answer that never comes it would wait for minutes.
        assert!(page.finished.took < Duration::from_secs(30), "{page:?}");

        let (page, gained) = filter.counting(|| lab.browse_at(family, "other.example"))?;
        assert!(page.document.contains("reached other.example"), "{page:?}");
        assert!(!gained.contains_key("reset"), "{gained:?}");
    }
    Ok(())
}

/// With an ordinary MTU the browser's post-quantum hello is two segments; browsers shuffle extensions, so that the
/// name is in either, or cut.
#[test]
fn t03_a_hello_over_two_segments_is_reset() -> Result<()> {
    let lab = Lab::new()?;
    let filter = Filter::start(&lab, &[order("reset", &["reset.example"], &[("tls", "reset")])])?;
    for family in Family::BOTH {
        for _ in 0..2 {
            let (page, gained) = filter.counting(|| lab.browse_at(family, "reset.example"))?;
            assert_eq!(page.error.as_deref(), Some("ERR_CONNECTION_RESET"), "{page:?}");
            assert!(gained.contains_key("reset"), "{gained:?}");
        }
        let (page, gained) = filter.counting(|| lab.browse_at(family, "other.example"))?;
        assert!(page.document.contains("reached other.example"), "{page:?}");
        assert!(!gained.contains_key("reset"), "{gained:?}");
    }
    Ok(())
}

#[test]
fn observing_and_redirecting_let_the_page_come() -> Result<()> {
    let lab = Lab::with_mtu(MTU)?;
    let filter = Filter::start(&lab, &order_of_each_action())?;
    for (action, reason) in [("observe", "observed"), ("redirect", "redirected")] {
        let name = format!("{action}.example");
        let (page, gained) = filter.counting(|| lab.browse(&name))?;
        assert!(page.document.contains(&format!("reached {name}")), "{page:?}");
        assert!(gained.contains_key(reason), "{gained:?}");
    }
    Ok(())
}

#[test]
fn a_dropped_query_finds_no_name() -> Result<()> {
    let lab = Lab::with_mtu(MTU)?;
    let filter = Filter::start(&lab, &[order("drop", &["drop.example"], &[("dns", "drop")])])?;
    let (page, gained) = filter.counting(|| lab.browse("drop.example"))?;
    assert_eq!(page.error.as_deref(), Some("ERR_NAME_NOT_RESOLVED"), "{page:?}");
    assert!(gained.contains_key("dropped"), "{gained:?}");
    let page = lab.browse("other.example")?;
    assert!(page.document.contains("reached other.example"), "{page:?}");
    Ok(())
}
