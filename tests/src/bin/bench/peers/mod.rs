//! Other ways to stop names, on the same border host, with the same names and packets.

mod path;
mod resolvers;

use anyhow::Result;
use filter_user::kernel::{Frames, Traffic};

use crate::{Run, flows::from, live::border::Border, names::Random, packets::query_from, report::Report};

/// Measures.
pub fn run(run: &Run, report: &mut Report) -> Result<()> {
    let names = Names::new();
    let sets = 2 + path::FIRSTS.len() as u32 + resolvers::COUNT;
    let mut border = Border::new(Traffic::new(sets * FRAMES, 1, LISTED as u32)?)?;
    border.traffic.list(names.listed.iter().map(|name| wire(name)).collect::<Vec<_>>().iter().map(Vec::as_slice))?;
    path::run(&mut border, &names, run, report)?;
    resolvers::run(&mut border, &names, run, report)
}

/// Names whose wire form is of one length: some of the others compare a fixed number of octets.
pub struct Names {
    /// Those that are to be stopped.
    pub listed: Vec<String>,
    /// Others.
    pub unlisted: Vec<String>,
}

impl Names {
    fn new() -> Self {
        let mut random = Random::new(0x9ee5);
        let mut name = || random.labels([3, 12, 10, 3]);
        let listed = (0..LISTED).map(|_| name()).collect();
        Self { listed, unlisted: (0..FRAMES).map(|_| name()).collect() }
    }
}

/// Wire form without the root's octet.
pub fn wire(name: &str) -> Vec<u8> {
    name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect()
}

/// Queries for these names, in turn.
fn queries(border: &mut Border, names: &[String], to: Option<[u8; 4]>) -> Result<Frames> {
    let frames = (0..FRAMES).zip(names.iter().cycle()).map(|(flow, name)| {
        let mut ip = from(flow);
        if let Some(to) = to {
            ip.set_destination(to.into());
        }
        query_from(ip, name)
    });
    Ok(border.traffic.add(false, frames)?)
}

/// How many are listed, where nothing else is said.
const LISTED: usize = 100_000;

/// Distinct queries of each kind.
const FRAMES: u32 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_the_same_length_on_the_wire() {
        let mut random = Random::new(1);
        let name = random.labels([3, 12, 10, 3]);
        assert_eq!(wire(&name).len(), path::NAME);
        assert_eq!(wire("www.example"), b"\x03www\x07example");
    }
}
