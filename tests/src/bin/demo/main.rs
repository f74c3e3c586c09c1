//! The demonstration: `cargo xtask demo`.
//!
//! A lab in network namespaces, real clients and servers in it, `examples/orders/` loaded; each client before and
//! after the filter is there, and which rule decides. It fails where an outcome is not what the orders say.

mod orders;
mod probe;
mod table;

use std::{process::ExitCode, time::Instant};

use anyhow::{Context, Result, ensure};
use cordon_tests::lab::{ACCESS_INTERFACE, Filter, Host, Lab};
use serde_json::Value;

use probe::Probe;

fn main() -> ExitCode {
    match show() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show() -> Result<()> {
    let begun = Instant::now();
    println!("The lab: client, border host and servers, each in a network namespace of its own.");
    let lab = Lab::new()?;
    let _server = lab.quic_server()?;
    let orders = orders::in_force()?;
    let probes = probe::all();

    println!("Before: every client asks, with no filter there. What comes in at the border host is captured.");
    let capture = lab.capture(Host::Border, ACCESS_INTERFACE, "before", "inbound")?;
    let before = outcomes(&lab, &probes)?;
    let capture = capture.end()?;

    println!("The filter: `cordon run` on the border host.");
    let filter = Filter::start(&lab, &orders)?;

    println!("After: every client asks again.\n");
    let after = outcomes(&lab, &probes)?;
    let decisions = probes
        .iter()
        .map(|probe| filter.explain(probe.name, probe.address(), probe.protocol()))
        .collect::<Result<Vec<_>>>()?;

    let rows: Vec<[String; 6]> = probes
        .iter()
        .zip(before.iter().zip(&after))
        .zip(&decisions)
        .map(|((probe, (before, after)), decision)| {
            [
                probe.address().to_owned(),
                probe.kind(),
                probe.name.to_owned(),
                before.clone(),
                after.clone(),
                which_rule(decision),
            ]
        })
        .collect();
    table::print(["client", "protocol, by", "name", "before", "after", "which rule"], &rows);
    println!("\nWhat the filter counted (cordon stats):");
    print!("{}", good(filter.cordon(&["stats"])?, "cordon stats")?);

    println!(
        "\nThe capture from before, replayed through the same program with no interface attached (cordon replay):"
    );
    let capture = capture.to_str().context("the temporary folder's name is not UTF-8")?;
    let orders = filter.orders_file();
    let orders = orders.to_str().context("the temporary folder's name is not UTF-8")?;
    print!(
        "{}",
        good(filter.cordon(&["replay", "--lockstep", "--orders", orders, "--pcap", capture])?, "cordon replay")?
    );

    for (((probe, before), after), decision) in probes.iter().zip(&before).zip(&after).zip(&decisions) {
        let is_as_ordered = probe.is_served(before)
            && after == probe.stopped.unwrap_or(before)
            && (decision["verdict"] == "pass") == probe.stopped.is_none();
        let (address, kind, name) = (probe.address(), probe.kind(), probe.name);
        ensure!(is_as_ordered, "not as ordered: {address}, {kind}, {name}: {before}, then {after}: {decision}");
    }
    let stopped = probes.iter().filter(|probe| probe.stopped.is_some()).count();
    let others = probes.len() - stopped;
    println!("\n{stopped} stopped and {others} untouched, each as ordered; {} s.", begun.elapsed().as_secs());
    Ok(())
}

fn outcomes(lab: &Lab, probes: &[Probe]) -> Result<Vec<String>> {
    probes.iter().map(|probe| probe.ask(lab)).collect()
}

/// From the kernel's decision in `cordon explain`.
fn which_rule(decision: &Value) -> String {
    let word = |key: &str| decision[key].as_str().unwrap_or("?").replace('_', " ");
    match decision["verdict"].as_str() {
        Some("pass") => format!("none: {}", word("reason")),
        _ => format!("{} of {}: {}", word("rule"), decision["order"].as_str().unwrap_or("?"), word("verdict")),
    }
}

fn good(finished: cordon_tests::lab::Finished, what: &str) -> Result<String> {
    ensure!(finished.success(), "{what}: {finished}");
    Ok(finished.stdout)
}
