//! What stops names in packets that go through: programs and packet filters.

use std::{fmt::Write as _, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use cordon_tests::lab::{self, ACCESS_INTERFACE, Host, Lab, order};
use filter_user::kernel::{Frames, Pace, Plainer, pin_program};
use serde_json::Value;

use super::{LISTED, Names, queries, wire};
use crate::{
    Run,
    live::{border::Border, cordon::Cordon, first},
    load,
    packets::grouped,
    report::{Cell, Report, Table},
    spread::Spread,
};

/// Measures.
pub fn run(border: &mut Border, names: &Names, run: &Run, report: &mut Report) -> Result<()> {
    let all = queries(border, &names.listed, None)?;
    let unlisted = queries(border, &names.unlisted, None)?;
    let firsts = FIRSTS.map(|count| queries(border, names.listed.get(..count).unwrap_or_default(), None));
    let border = &*border;
    let orders = run.folder.path().join("peers.jsonl");
    fs::write(&orders, format!("{}\n", order_of(names, "drop")))?;
    let cordon = Cordon::new(border.lab(), "peers", &orders, &load::capacity(LISTED))?;

    let mut peers = vec![
        Peer::new("an empty program", None, Ok(Place::Program(border.plain(Plainer::Pass)?))),
        Peer::new("reads up to UDP, drops port 53", Some(&all), Ok(Place::Program(border.plain(Plainer::DropDns)?))),
        Peer::new("one look-up in a BPF hash map", Some(&all), Ok(Place::Program(border.plain(Plainer::LookUp)?))),
        Peer::new("Cordon", Some(&all), Ok(Place::Program(cordon.program.clone()))),
        Peer::new("xdp-filter, drops port 53", Some(&all), xdp_filter(border.lab())),
        Peer::new("nftables, a set of payload", Some(&all), nft_set(border.lab(), names)),
    ];
    for (count, frames) in FIRSTS.into_iter().zip(firsts) {
        let place = iptables(border.lab(), names.listed.get(..count).unwrap_or_default());
        peers.push(Peer::new(
            &format!("iptables, string match, {} name{}", grouped(count), if count == 1 { "" } else { "s" }),
            Some(&frames?),
            place,
        ));
    }
    for round in 0..run.size.rounds {
        for at in 0..peers.len() {
            let at = (at + round) % peers.len();
            if let Some(peer) = peers.get_mut(at) {
                peer.measure(border, &unlisted, round);
            }
        }
    }
    table(&peers, run, report)
}

fn table(peers: &[Peer], run: &Run, report: &mut Report) -> Result<()> {
    let text = format!(
        "The same border host, generator and measure as in the live benchmark: nanoseconds of processor time of the thread \
         that takes packets in. {} listed names, all of {NAME} octets on the wire, because nftables and the plain look-up \
         compare a fixed length; queries have EDNS and come in random order. Medians of {} runs of {} ms, all in turn; \
         *times* is by the program above of the same round: for listed names the one that drops all of port 53, for the \
         others the empty one. What is compared: the hash map knows whole names as they are written (no parents, no \
         letter case, IPv4 without options); nftables the same, on the ingress hook of the interface; iptables searches \
         the packet for the octets of each name, one after the other; xdp-filter knows no names at all.",
        grouped(LISTED),
        run.size.rounds,
        TIME.as_millis(),
    );
    let table = report.table(Table::new("peers", "Peers: names in packets that go through", &COLUMNS).text(text));
    let base = |title: &str, runs: fn(&Peer) -> &Vec<f64>| {
        peers.iter().find(|peer| peer.title == title).map(runs).cloned().unwrap_or_default()
    };
    let (drop, empty) =
        (base("reads up to UDP, drops port 53", |peer| &peer.listed), base("an empty program", |peer| &peer.unlisted));
    for peer in peers {
        match &peer.place {
            Err(why) => absent(table, &peer.title, why),
            Ok(_) => table.row(
                peer.title.clone(),
                [
                    figures(&peer.listed),
                    times(&peer.listed, &drop),
                    figures(&peer.unlisted),
                    times(&peer.unlisted, &empty),
                ],
            ),
        }
    }
    Ok(())
}

/// A row of a peer that is not here.
pub fn absent(table: &mut Table, title: &str, why: &str) {
    let cells = table.columns.iter().enumerate().map(|(at, _)| if at == 0 { "absent" } else { "" }.to_owned());
    let cells: Vec<Cell> = cells.map(Cell::from).collect();
    table.row(title, cells);
    table.note(format!("{title} is absent: {}.", why.trim().trim_end_matches('.')));
}

fn figures(runs: &[f64]) -> Cell {
    if runs.is_empty() { String::new().into() } else { Spread::of(runs.to_vec()).into() }
}

fn times(runs: &[f64], base: &[f64]) -> Cell {
    figures(&runs.iter().zip(base).map(|(one, other)| one / other).collect::<Vec<_>>())
}

/// One way to stop names.
struct Peer {
    title: String,
    /// Queries that it has to stop.
    frames: Option<Frames>,
    /// Where it is, or why it is absent.
    place: Result<Place, String>,
    /// Nanoseconds a packet.
    listed: Vec<f64>,
    /// Of queries that it has to let through.
    unlisted: Vec<f64>,
}

/// How it is put into the packets' way.
enum Place {
    /// A pinned XDP program.
    Program(PathBuf),
    /// Commands that put it there and take it away.
    Commands { begin: Vec<String>, end: Vec<String> },
}

impl Peer {
    fn new(title: &str, frames: Option<&Frames>, place: Result<Place>) -> Self {
        let place = place.map_err(|error| format!("{error:#}"));
        Self { title: title.to_owned(), frames: frames.cloned(), place, listed: Vec::new(), unlisted: Vec::new() }
    }

    /// One round. What does not do what it should is absent from then on.
    fn measure(&mut self, border: &Border, unlisted: &Frames, round: usize) {
        let Ok(place) = &self.place else { return };
        let measured = place.put(border).and_then(|()| self.round(border, unlisted, round));
        let removed = place.take_away(border);
        match measured.and_then(|figures| removed.map(|()| figures)) {
            Ok((listed, unlisted)) => {
                self.listed.extend(listed);
                self.unlisted.extend(unlisted);
            }
            Err(error) => self.place = Err(format!("{error:#}")),
        }
    }

    fn round(&self, border: &Border, unlisted: &Frames, round: usize) -> Result<(Option<f64>, Option<f64>)> {
        let first = first(round);
        let listed = self.frames.as_ref().map(|frames| {
            let passage = border.pass(frames, first, Pace::Full, TIME)?;
            let (arrived, forwarded) = (passage.arrived, passage.forwarded);
            ensure!(forwarded * 1000 < arrived, "it let {forwarded} of {arrived} listed queries through");
            Ok(passage.nanoseconds())
        });
        let listed = listed.transpose()?;
        let passage = border.pass(unlisted, first, Pace::Full, TIME)?;
        let (arrived, forwarded) = (passage.arrived, passage.forwarded);
        // What knows ports only drops all of them.
        if forwarded == 0 && listed.is_some() {
            return Ok((listed, None));
        }
        ensure!(forwarded * 10 > arrived * 9, "it forwarded {forwarded} of {arrived} queries that are not listed");
        Ok((listed, Some(passage.nanoseconds())))
    }
}

impl Place {
    fn put(&self, border: &Border) -> Result<()> {
        match self {
            Self::Program(path) => border.install(Some(path)),
            Self::Commands { begin, .. } => shell(border.lab(), begin),
        }
    }

    fn take_away(&self, border: &Border) -> Result<()> {
        match self {
            Self::Program(_) => border.install(None),
            Self::Commands { end, .. } => shell(border.lab(), end),
        }
    }
}

fn shell(lab: &Lab, commands: &[String]) -> Result<()> {
    commands.iter().try_for_each(|command| lab.read(Host::Border, &["sh", "-c", command]).map(drop))
}

/// An order for all names.
pub fn order_of(names: &Names, action: &str) -> Value {
    let listed: Vec<&str> = names.listed.iter().map(String::as_str).collect();
    order("peers", &listed, &[("dns", action)])
}

/// Whether a program is there.
pub fn installed(program: &str, package: &str) -> Result<()> {
    ensure!(
        lab::find(program).is_some(),
        "{program} is not installed (package {package}; `cargo xtask setup --peers`)"
    );
    Ok(())
}

/// A set of payload: two pieces of 16 octets, which is as much as one register holds.
fn nft_set(lab: &Lab, names: &Names) -> Result<Place> {
    installed("nft", "nftables")?;
    let mut script =
        String::from("table netdev bench {\n set names {\n typeof @th,160,128 . @th,288,128\n elements = {\n");
    for name in &names.listed {
        let wire = wire(name);
        let (head, tail) = wire.split_at(NAME / 2);
        writeln!(script, "  0x{} . 0x{},", hex(head), hex(tail))?;
    }
    script.push_str(" }\n }\n chain look {\n udp dport 53 @th,416,8 0 @th,160,128 . @th,288,128 @names drop\n }\n}\n");
    let file = lab.folder().join("peers.nft");
    fs::write(&file, script)?;
    lab.read(Host::Border, &["nft", "-f", file.to_str().context("a path that is not UTF-8")?])?;
    let hook = format!("type filter hook ingress device \"{ACCESS_INTERFACE}\" priority 0;");
    Ok(Place::Commands {
        begin: vec![
            format!("nft 'add chain netdev bench in {{ {hook} }}'"),
            "nft add rule netdev bench in jump look".to_owned(),
        ],
        end: vec!["nft flush chain netdev bench in".to_owned(), "nft delete chain netdev bench in".to_owned()],
    })
}

/// A rule a name, in the table that packets come to first. Debian's iptables writes rules of nftables; the table is taken
/// away as a whole, because its hook alone costs each packet something.
fn iptables(lab: &Lab, names: &[String]) -> Result<Place> {
    installed("iptables-nft-restore", "iptables")?;
    installed("nft", "nftables")?;
    let mut rules = String::from("*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:NAMES - [0:0]\n");
    writeln!(rules, "-A PREROUTING -i {ACCESS_INTERFACE} -p udp --dport 53 -j NAMES")?;
    for name in names {
        let octets = hex(&[wire(name), vec![0]].concat());
        writeln!(rules, "-A NAMES -m string --algo bm --from 40 --to 100 --hex-string \"|{octets}|\" -j DROP")?;
    }
    rules.push_str("COMMIT\n");
    let file = lab.folder().join(format!("peers-{}.iptables", names.len()));
    fs::write(&file, rules)?;
    let begin = format!("iptables-nft-restore {}", file.display());
    let place = Place::Commands { begin: vec![begin], end: vec!["nft delete table ip raw".to_owned()] };
    // Whether the kernel takes them.
    if let Place::Commands { begin, end } = &place {
        shell(lab, begin).and_then(|()| shell(lab, end))?;
    }
    Ok(place)
}

/// Loaded by its own program, with the lab's BPF file system where it keeps what it pins.
fn xdp_filter(lab: &Lab) -> Result<Place> {
    installed("xdp-filter", "xdp-tools")?;
    let script = format!(
        "mount --bind {} /sys/fs/bpf && xdp-filter load --mode native --features udp {ACCESS_INTERFACE} && \
         xdp-filter port --proto udp --mode dst 53",
        lab.bpffs().display()
    );
    let loaded = lab.read(Host::Border, &["unshare", "--mount", "--", "sh", "-c", &script]);
    let pinned = loaded.and_then(|_| {
        let shown = lab.read(Host::Border, &["ip", "-json", "link", "show", "dev", ACCESS_INTERFACE])?;
        let shown: Value = serde_json::from_str(&shown).context("ip -json")?;
        let Some(id) = shown[0]["xdp"]["prog"]["id"].as_u64() else { bail!("it attached no program: {shown}") };
        let path = lab.bpffs().join("xdp_filter");
        pin_program(id as u32, &path)?;
        Ok(path)
    });
    lab.read(Host::Border, &["ip", "link", "set", "dev", ACCESS_INTERFACE, "xdpdrv", "off"])?;
    Ok(Place::Program(pinned?))
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

const COLUMNS: [&str; 4] =
    ["listed, ns a packet", "times a program that drops", "not listed, ns a packet", "times the empty program"];

/// Names in rules that are tried one after the other.
pub const FIRSTS: [usize; 4] = [1, 10, 100, 1000];

/// Octets of a name in wire form without the root's.
pub const NAME: usize = 32;

/// Of one measurement.
const TIME: Duration = Duration::from_millis(200);
