//! `cordon replay` over all labelled captures tells what the filter under test and its tier make of them, frame by frame.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cordon_tests::{
    corpus::{DNS_PORTS, QUIC_PORTS, captures, corpus, frames, half, view::Viewer},
    lab,
};
use filter_user::name::Name;
use serde_json::Value;

#[test]
fn every_line_is_what_the_filter_and_its_tier_do() {
    let Some(corpus) = corpus() else { return };
    let paths: Vec<_> = captures("pcaps").chain(captures("negatives")).collect();
    for choice in [|_: &Name| true, half, |_: &Name| false] {
        let names = corpus.listed(choice);
        let mut viewer = Viewer::new(&names);
        let mut expected = Vec::new();
        let mut packets = 0;
        for path in &paths {
            let frames = frames(path);
            packets += frames.iter().filter(|(_, frame)| frame.len() >= 14).count();
            for ((number, _), met) in frames.iter().zip(viewer.judge(&frames)) {
                let place = (path.clone(), u64::from(*number));
                match (met.is_stopped, &met.found[..]) {
                    (false, []) => {}
                    (true, []) => expected.push((place, "drop", "dropped", None)),
                    // What may be a connection of another name waits for the tier.
                    (true, [name]) => expected.push((place, "drop", "quic_held", Some(name.clone()))),
                    (false, [name]) => expected.push((place, "deferred", "drop", Some(name.clone()))),
                    _ => panic!("{place:?}: {met:?}"),
                }
            }
        }
        let (lines, summary) = replay(&names, &paths);
        let found: Vec<_> = lines.iter().map(|line| (line.place(), &line.verdict[..], &line.reason[..])).collect();
        let wanted: Vec<_> =
            expected.iter().map(|(place, verdict, reason, _)| (place.clone(), *verdict, *reason)).collect();
        assert_eq!(difference(&found, &wanted), (Vec::new(), Vec::new()), "lines that only one of the two has");
        assert_eq!(found, wanted, "in the captures' order");
        for (line, (_, _, _, name)) in lines.iter().zip(&expected) {
            // Where the tier found the name, it is that one; elsewhere the listed name that the packet shows.
            let told = Name::parse(&line.name).unwrap_or_else(|error| panic!("{line:?}: {error}"));
            assert!(name.as_ref().is_none_or(|name| *name == told), "{line:?}");
            assert!(names.contains(&told), "{line:?}");
            assert_eq!((&line.rule[..], &line.orders[..]), (told.as_str(), &["corpus".to_owned()][..]));
        }
        assert_eq!((&summary["captures"], &summary["packets"]), (&paths.len().into(), &packets.into()));
        let dropped: u64 = summary["verdicts"]["drop"]
            .as_object()
            .map_or(0, |reasons| reasons.values().map(|count| count.as_u64().expect("a number")).sum());
        assert_eq!(dropped, wanted.iter().filter(|(_, verdict, _)| *verdict == "drop").count() as u64);
        assert_eq!((&summary["problems"], &summary["not_run"]), (&Value::Array(Vec::new()), &0.into()));
    }
}

/// A line of the report.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    pcap: PathBuf,
    frame: u64,
    verdict: String,
    reason: String,
    name: String,
    rule: String,
    orders: Vec<String>,
}

impl Line {
    fn place(&self) -> (PathBuf, u64) {
        (self.pcap.clone(), self.frame)
    }
}

/// Runs the command; its lines, and the summary behind them.
fn replay(names: &BTreeSet<&Name>, captures: &[PathBuf]) -> (Vec<Line>, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let orders = folder.path().join("orders.jsonl");
    let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
    let mut order = lab::order("corpus", &names, &[("dns", "drop"), ("tls", "drop"), ("quic", "drop")]);
    order["order"]["match"] = "exact".into();
    fs::write(&orders, if names.is_empty() { String::new() } else { format!("{order}\n") }).expect("an order file");
    let ports = |ports: &[u16]| ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let mut command = Command::new(lab::beside("cordon").expect("the program"));
    command.args(["replay", "--lockstep", "--no-guards", "--output", "json", "--tls-ports", "any"]);
    command.args(["--dns-ports", &ports(&DNS_PORTS), "--quic-ports", &ports(&QUIC_PORTS)]);
    command.arg("--orders").arg(Path::new(&orders)).arg("--pcap").args(captures);
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut lines: Vec<&str> = text.lines().collect();
    let last: BTreeMap<String, Value> = serde_json::from_str(lines.pop().expect("a summary")).expect("JSON");
    let parse = |line: &&str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    (lines.iter().map(parse).collect(), last["summary"].clone())
}

/// What only one of the two has.
fn difference<T: Clone + Ord>(one: &[T], other: &[T]) -> (Vec<T>, Vec<T>) {
    let [left, right] = [one, other].map(|all| all.iter().cloned().collect::<BTreeSet<_>>());
    (left.difference(&right).cloned().collect(), right.difference(&left).cloned().collect())
}
