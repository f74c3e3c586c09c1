//! The event ring, read and checked.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    os::fd::OwnedFd,
    time::Duration,
};

use aya::maps::{Map, MapData, RingBuf};
use filter_common::{
    layout,
    verdict::{Protocol, Reason},
};

use super::{error::Error, plain};

/// One packet that a rule met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Boot-time clock, nanoseconds; see [`Clock::wall`](super::Clock::wall).
    pub time: u64,
    /// Scope bits of the client.
    pub scopes: u64,
    /// Deciding order's slot.
    pub order: u32,
    /// Why.
    pub reason: Reason,
    /// Protocol.
    pub protocol: Protocol,
    /// Client address as far as the settings let it be told.
    pub client: Option<IpAddr>,
    /// Receiving interface's index.
    pub interface: u32,
    /// The name in the packet, lower-cased, without a trailing dot; other octets than letters, digits, hyphen and
    /// underscore as `\DDD` (RFC 1035 5.1).
    pub name: String,
    /// The rule's name: the last labels of `name`.
    pub rule: String,
}

/// The reader. There can be one at a time: two would share the records between them.
pub struct Events {
    ring: RingBuf<MapData>,
    malformed: u64,
}

impl Events {
    pub(super) fn new(ring: OwnedFd) -> Result<Self, Error> {
        let open = || RingBuf::try_from(Map::from_map_data(MapData::from_fd(ring)?)?);
        match open() {
            Ok(ring) => Ok(Self { ring, malformed: 0 }),
            Err(error) => {
                Err(Error::System { what: "opening the event ring".into(), source: std::io::Error::other(error) })
            }
        }
    }

    /// What is there now, without waiting.
    pub fn try_next(&mut self) -> Option<Event> {
        while let Some(record) = self.ring.next() {
            let event = decode(&record);
            drop(record);
            if event.is_some() {
                return event;
            }
            self.malformed += 1;
        }
        None
    }

    /// Waits for the next one; needs a tokio runtime. Safe to cancel.
    ///
    /// It looks again and again, less often the longer there is nothing: a wake-up would cost the packet path some
    /// 8 µs.
    pub async fn next(&mut self) -> Event {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(event) = self.try_next() {
                return event;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Records that were not well-formed, and skipped.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("malformed", &self.malformed).finish_non_exhaustive()
    }
}

fn decode(record: &[u8]) -> Option<Event> {
    let event: layout::Event = plain::read(record)?;
    let name = event.name.get(..usize::from(event.name_len))?;
    let labels: Vec<String> = if event.wire == 1 { wire_labels(name)? } else { dotted_labels(name) };
    let rule = labels.get(labels.len().checked_sub(event.depth.into())?..)?;
    let client = Ipv6Addr::from(event.client);
    Some(Event {
        time: event.time,
        scopes: event.scopes,
        order: event.order,
        reason: Reason::from_code(event.reason)?,
        protocol: Protocol::from_code(event.protocol)?,
        client: (!client.is_unspecified()).then(|| client.to_canonical()),
        interface: event.interface,
        rule: rule.join("."),
        name: labels.join("."),
    })
}

/// Labels of a name in DNS wire form (RFC 1035 3.1), with or without the root label.
fn wire_labels(mut name: &[u8]) -> Option<Vec<String>> {
    let mut labels = Vec::new();
    while let Some((length, rest)) = name.split_first().filter(|(length, _)| **length != 0) {
        let (label, rest) = rest.split_at_checked((*length).into())?;
        labels.push(escape(label));
        name = rest;
    }
    Some(labels)
}

/// Labels of a name as in SNI (RFC 6066 3), with or without a trailing dot.
fn dotted_labels(name: &[u8]) -> Vec<String> {
    name.strip_suffix(b".").unwrap_or(name).split(|octet| *octet == b'.').map(escape).collect()
}

fn escape(label: &[u8]) -> String {
    let escaped = label.iter().map(|octet| match octet {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(octet.to_ascii_lowercase()).to_string(),
        other => format!("\\{other:03}"),
    });
    escaped.collect()
}

const LONGEST_PAUSE: Duration = Duration::from_millis(64);

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &[u8], wire: u8, depth: u8) -> layout::Event {
        let mut event: layout::Event = plain::zeroed();
        event.time = 5;
        event.order = 7;
        event.reason = Reason::Dropped as u32;
        event.protocol = Protocol::Tls as u8;
        event.name[..name.len()].copy_from_slice(name);
        event.name_len = name.len() as u8;
        event.wire = wire;
        event.depth = depth;
        event
    }

    fn bytes(event: &layout::Event) -> Vec<u8> {
        // SAFETY: a plain type, read as bytes.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(event).cast::<u8>(), size_of_val(event)) }.to_vec()
    }

    #[test]
    fn names_in_both_forms() {
        let event = decode(&bytes(&record(b"\x03wWw\x07ex.m\0le\x03com", 1, 2))).unwrap();
        assert_eq!(event.name, "www.ex\\046m\\000le.com");
        assert_eq!(event.rule, "ex\\046m\\000le.com");
        assert_eq!((event.time, event.order, event.client), (5, 7, None));
        assert_eq!((event.reason, event.protocol), (Reason::Dropped, Protocol::Tls));
        let event = decode(&bytes(&record(b"A.example.org.", 0, 3))).unwrap();
        assert_eq!((&event.name[..], &event.rule[..]), ("a.example.org", "a.example.org"));
    }

    #[test]
    fn clients_of_both_families() {
        let mut event = record(b"a", 0, 1);
        event.client = "::ffff:192.0.2.0".parse::<Ipv6Addr>().unwrap().octets();
        assert_eq!(decode(&bytes(&event)).unwrap().client, Some("192.0.2.0".parse().unwrap()));
        event.client = "2001:db8::".parse::<Ipv6Addr>().unwrap().octets();
        assert_eq!(decode(&bytes(&event)).unwrap().client, Some("2001:db8::".parse().unwrap()));
    }

    #[test]
    fn what_is_not_well_formed_is_no_event() {
        let good = bytes(&record(b"a.b", 0, 2));
        assert!(decode(&good).is_some());
        for length in 0..good.len() {
            assert!(decode(&good[..length]).is_none());
        }
        assert!(decode(&bytes(&record(b"a.b", 0, 3))).is_none(), "deeper than the name");
        assert!(decode(&bytes(&record(b"\x05a.b", 1, 1))).is_none(), "a label beyond the name");
        let mut event = record(b"a", 0, 1);
        event.reason = 1000;
        assert!(decode(&bytes(&event)).is_none());
        let mut event = record(b"a", 0, 1);
        event.protocol = 3;
        assert!(decode(&bytes(&event)).is_none());
    }
}
