//! The daemon comes and goes, and the filter stays.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use cordon_tests::lab::{ACCESS_INTERFACE, Family, Filter, Host, Lab, address, eventually, order};
use jiff::Timestamp;

use super::support::{assert_reached, assert_stopped};

/// Longest that a change of an order file may take to be enforced.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_killed_daemon_leaves_enforcement() -> Result<()> {
    let lab = Lab::new()?;
    let mut filter = Filter::start(&lab, &[order("nxdomain", &["listed.example"], &[("dns", "nxdomain")])])?;
    let program = program(&lab)?.context("no program is attached")?;
    assert_stopped(&lab, "listed.example")?;

    let status = filter.stop(libc::SIGKILL)?;
    assert!(!status.success());
    assert_stopped(&lab, "listed.example")?;
    assert_reached(&lab, "other.example")?;
    assert_eq!(self::program(&lab)?, Some(program));

    // The next start takes over while clients go on asking: not one query of them is let through.
    let up = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !up.load(Ordering::Relaxed) {
                assert_stopped(&lab, "listed.example")?;
                asked += 1;
            }
            anyhow::Ok(asked)
        });
        let started = filter.run();
        up.store(true, Ordering::Relaxed);
        let asked = asking.join().map_err(|_| anyhow!("the clients' thread panicked"))??;
        started?;
        ensure!(asked > 0, "no query was sent meanwhile");
        Ok(())
    })?;

    // A proper end leaves it, too.
    assert!(filter.stop(libc::SIGTERM)?.success());
    assert_stopped(&lab, "listed.example")?;
    // The off switch needs no daemon.
    let detached = filter.cordon(&["detach", ACCESS_INTERFACE])?;
    assert!(detached.success(), "{detached}");
    assert_reached(&lab, "listed.example")?;
    assert_eq!(self::program(&lab)?, None);
    Ok(())
}

#[test]
fn o5_the_kernel_ends_an_order_without_the_daemon() -> Result<()> {
    let lab = Lab::new()?;
    let end = Timestamp::now() + Duration::from_secs(20);
    let mut ending = order("ending", &["ending.example"], &[("dns", "nxdomain"), ("tls", "reset")]);
    ending["order"]["not_after"] = end.to_string().into();
    let staying = order("staying", &["staying.example"], &[("dns", "nxdomain")]);
    let mut filter = Filter::start(&lab, &[ending, staying])?;
    assert_stopped(&lab, "ending.example")?;
    filter.stop(libc::SIGKILL)?;
    assert_stopped(&lab, "ending.example")?;
    ensure!(Timestamp::now() < end, "this machine was too slow to see the order in force");

    eventually(Duration::from_secs(20) + PATIENCE, || assert_reached(&lab, "ending.example"))?;
    // Kernel and daemon read different clocks; they may differ by less than this.
    assert!(Timestamp::now() + Duration::from_millis(100) >= end, "the order ended too early");
    let fetched = lab.curl(Family::V4, address::CLIENT, "ending.example")?;
    assert_eq!(fetched.code, 0, "{fetched:?}");
    assert_stopped(&lab, "staying.example")
}

#[test]
fn an_order_begins_at_its_time() -> Result<()> {
    let lab = Lab::new()?;
    let start = Timestamp::now() + Duration::from_secs(15);
    let mut coming = order("coming", &["coming.example"], &[("dns", "nxdomain")]);
    coming["order"]["not_before"] = start.to_string().into();
    let _filter = Filter::start(&lab, &[coming])?;
    let before = lab.dig(Family::V4, address::CLIENT, "coming.example", "A", &[])?;
    ensure!(Timestamp::now() < start, "this machine was too slow to see the order before its start");
    assert_eq!(before.answer, [address::WEB[0]]);
    eventually(Duration::from_secs(15) + PATIENCE, || assert_stopped(&lab, "coming.example"))?;
    assert!(Timestamp::now() + Duration::from_millis(100) >= start, "the order began too early");
    Ok(())
}

#[test]
fn a_start_with_more_than_half_of_the_slots_in_use_loses_no_order() -> Result<()> {
    let lab = Lab::new()?;
    let names: Vec<String> = (0..10).map(|number| format!("n{number}.example")).collect();
    let orders: Vec<_> = names.iter().map(|name| order(name, &[name], &[("dns", "nxdomain")])).collect();
    let mut filter = Filter::prepare(&lab, &orders)?;
    let file = lab.folder().join("cordon.toml");
    let configuration = std::fs::read_to_string(&file)?;
    std::fs::write(&file, configuration.replace("[capacity]\n", "[capacity]\norders = 16\n"))?;
    filter.run()?;
    names.iter().try_for_each(|name| assert_stopped(&lab, name))?;

    // The old orders and the new ones do not fit side by side.
    filter.stop(libc::SIGKILL)?;
    filter.run()?;
    eventually(PATIENCE, || names.iter().try_for_each(|name| assert_stopped(&lab, name)))?;
    eventually(PATIENCE, || {
        let status = filter.json(&["status"])?;
        ensure!(status["problems"] == serde_json::json!([]) && status["names"] == 10, "{status}");
        Ok(())
    })
}

#[test]
fn a_changed_file_is_enforced() -> Result<()> {
    let lab = Lab::new()?;
    let first = order("first", &["first.example"], &[("dns", "nxdomain")]);
    let filter = Filter::start(&lab, std::slice::from_ref(&first))?;
    assert_reached(&lab, "second.example")?;

    // One name more.
    let both = order("first", &["first.example", "second.example"], &[("dns", "nxdomain")]);
    filter.write_orders("orders.jsonl", &[both])?;
    eventually(PATIENCE, || assert_stopped(&lab, "second.example"))?;
    assert_stopped(&lab, "first.example")?;

    // One name less, and another file.
    filter.write_orders("orders.jsonl", std::slice::from_ref(&first))?;
    filter.write_orders("more.jsonl", &[order("third", &["third.example"], &[("dns", "nxdomain")])])?;
    eventually(PATIENCE, || assert_reached(&lab, "second.example"))?;
    eventually(PATIENCE, || assert_stopped(&lab, "third.example"))?;
    assert_stopped(&lab, "first.example")?;

    // What explains is what enforces.
    let decision = filter.explain("a.first.example", address::CLIENT[0], "dns")?;
    assert_eq!(
        (&decision["verdict"], &decision["order"], &decision["rule"]),
        (&"nxdomain".into(), &"first".into(), &"first.example".into())
    );
    let decision = filter.explain("second.example", address::CLIENT[0], "dns")?;
    assert_eq!((&decision["verdict"], &decision["reason"]), (&"pass".into(), &"not_listed".into()));
    Ok(())
}

#[test]
fn a_broken_file_leaves_the_last_good_state() -> Result<()> {
    let lab = Lab::new()?;
    let good = order("first", &["first.example"], &[("dns", "nxdomain")]);
    let filter = Filter::start(&lab, std::slice::from_ref(&good))?;
    let mut bad = good;
    bad["order"]["no_such_field"] = 1.into();
    let other = order("other", &["other.example"], &[("dns", "nxdomain")]);
    filter.write_orders("orders.jsonl", &[bad, other])?;
    eventually(PATIENCE, || assert_stopped(&lab, "other.example"))?;
    assert_stopped(&lab, "first.example")
}

#[test]
fn another_program_is_not_disturbed() -> Result<()> {
    let lab = Lab::new()?;
    lab.attach_pass_program(Host::Border, ACCESS_INTERFACE)?;
    let theirs = program(&lab)?.context("the other program is not attached")?;

    let mut filter = Filter::prepare(&lab, &[order("first", &["first.example"], &[("dns", "nxdomain")])])?;
    let started = filter.run();
    assert!(started.is_err(), "the daemon took the interface");
    assert_eq!(program(&lab)?, Some(theirs));
    assert_reached(&lab, "first.example")?;
    // The operator is told by whom the interface is taken.
    assert!(filter.log().contains(ACCESS_INTERFACE), "{}", filter.log());

    // Taking the filter off an interface where it is not leaves the other there.
    filter.cordon(&["detach", ACCESS_INTERFACE])?;
    assert_eq!(program(&lab)?, Some(theirs));
    Ok(())
}

/// Id of the XDP program on the border host's interface towards subscribers.
fn program(lab: &Lab) -> Result<Option<u64>> {
    let shown = lab.read(Host::Border, &["ip", "-json", "link", "show", "dev", ACCESS_INTERFACE])?;
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    Ok(shown[0]["xdp"]["prog"]["id"].as_u64())
}
