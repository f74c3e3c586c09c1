//! TCP segments by themselves: as the first of their connection, of which nothing is known.

use filter_common::{
    bytes::Slice,
    frame::{self, Network, Payload},
    layout::StreamReader,
    stream::{self, Segment},
    tls::{self, Extensions},
    verdict::{Protocol, Reason},
    walk::{HOST_STEPS, HostCheck, Walk},
};
use filter_user::kernel::TlsPorts;

use super::{Image, Judged, array, listed, question};

pub(super) fn segment(bytes: &Slice, network: &Network, port: u16, image: &Image, now: u64) -> Judged {
    let dns = image.dns_ports.contains(&port);
    let tls = match &image.tls_ports {
        TlsPorts::Any => !dns,
        TlsPorts::List(ports) => ports.contains(&port),
    };
    if !tls && !dns {
        return Err(Reason::NotWatched);
    }
    let flags = u16::from_be_bytes(array(bytes, network.l4 + 12).ok_or(Reason::FrameMalformed)?);
    let payload = match frame::tcp(bytes, network) {
        Err(Reason::NoPayload) if flags & SYN != 0 => return Err(Reason::TcpSyn),
        payload => payload?,
    };
    let (slot, protocol) = if tls {
        (hello(bytes, &payload, image)?, Protocol::Tls)
    } else {
        return messages(bytes, network, &payload, image, now);
    };
    act(bytes, network, slot, protocol, image, now)
}

const SYN: u16 = 2;

fn act(bytes: &Slice, network: &Network, slot: u32, protocol: Protocol, image: &Image, now: u64) -> Judged {
    let (entry, action) = image.decide(bytes, network, slot, protocol, now)?;
    let order = image.orders.get(&entry.order).ok_or(Reason::TableBroken)?;
    if let Some(reason) = image.plain(action, order) {
        return Ok(reason);
    }
    image.may_answer(bytes, network)?;
    Ok(Reason::Reset)
}

fn hello(bytes: &Slice, payload: &Payload, image: &Image) -> Result<u32, Reason> {
    let mut extensions = match Extensions::begin(bytes, payload) {
        Err(Reason::TlsIncomplete) => return over_records(bytes, payload, StreamReader::hello(), image),
        extensions => extensions?,
    };
    let server_name = match next_server_name(bytes, &mut extensions) {
        Err(Reason::TlsIncomplete) => {
            return over_records(bytes, payload, StreamReader::at_extension(&extensions), image);
        }
        name => name?,
    };
    let name = match extensions.host_name(bytes, &server_name) {
        Err(Reason::TlsIncomplete) => {
            return over_records(bytes, payload, StreamReader::at_server_name(&extensions, &server_name), image);
        }
        name => name?,
    };
    let slot = find(bytes, &name, image)?;
    if next_server_name(bytes, &mut extensions).is_ok() {
        return Err(Reason::TlsSniDuplicate);
    }
    Ok(slot)
}

/// The policy slot of orders that name a host.
fn find(bytes: &Slice, name: &Payload, image: &Image) -> Result<u32, Reason> {
    let mut walk = Walk::sni(name);
    let slot = image.find(|| walk.step_sni(bytes, &image.key)).ok_or(Reason::TlsSniInvalid)?;
    listed(slot)?;
    let mut check = HostCheck::new(name);
    let is_host = (0..HOST_STEPS).find_map(|_| check.step(bytes)).unwrap_or(false);
    if is_host { Ok(slot) } else { Err(Reason::TlsSniInvalid) }
}

fn next_server_name(bytes: &Slice, extensions: &mut Extensions) -> Result<tls::ServerName, Reason> {
    for _ in 0..tls::MAX_EXTENSIONS {
        match extensions.step(bytes) {
            tls::Step::More => {}
            tls::Step::ServerName(name) => return Ok(name),
            tls::Step::Stop(reason) => return Err(reason),
        }
    }
    Err(Reason::TlsExtensions)
}

/// What is held, behind octets that a walk may look at.
struct Held(Vec<u8>);

const BEFORE: usize = 8;

impl Held {
    fn hold(&mut self, bytes: &Slice, at: u32, len: u32, to: u32) {
        self.0.resize(BEFORE, 0xee);
        self.0.truncate(BEFORE + to as usize);
        self.0.extend_from_slice(&bytes.0[at as usize..][..len as usize]);
    }
}

fn over_records(bytes: &Slice, payload: &Payload, mut reader: StreamReader, image: &Image) -> Result<u32, Reason> {
    let at = Extensions::start(bytes, payload) + reader.next;
    let mut segment = Segment { at, end: payload.end };
    let mut held = Vec::new();
    let mut listed = None;
    for _ in 0..stream::STEPS {
        match reader.step_hello(bytes, &mut segment) {
            stream::Step::More => {}
            stream::Step::Hold { at, len, to } => {
                held.truncate(to as usize);
                held.extend_from_slice(&bytes.0[at as usize..][..len as usize]);
                if reader.take_name() {
                    let mut view = vec![0xee; BEFORE];
                    view.extend(held.strip_suffix(b".").unwrap_or(&held));
                    let name = Payload { start: BEFORE as u32, end: view.len() as u32 };
                    listed = Some(find(&Slice(&view), &name, image)?);
                }
            }
            stream::Step::Hungry => return listed.ok_or(Reason::TlsIncomplete),
            stream::Step::Stop(Reason::TlsSniDuplicate) => return Err(Reason::TlsSniDuplicate),
            stream::Step::Stop(reason) => return listed.ok_or(reason),
        }
    }
    listed.ok_or(Reason::TlsExtensions)
}

fn messages(bytes: &Slice, network: &Network, payload: &Payload, image: &Image, now: u64) -> Judged {
    let mut reader = StreamReader::messages();
    let mut segment = Segment { at: payload.start, end: payload.end };
    let mut held = Held(Vec::new());
    let mut last = Reason::DnsIncomplete;
    for _ in 0..stream::STEPS {
        match reader.step_messages(bytes, &mut segment) {
            stream::Step::More => {}
            stream::Step::Hold { at, len, to } => {
                held.hold(bytes, at, len, to);
                if !reader.take_query() {
                    continue;
                }
                let message = Payload { start: BEFORE as u32, end: held.0.len() as u32 };
                let judged = question(&Slice(&held.0), &message, &mut [0; 128], image);
                match judged.and_then(|(_, _, slot)| act(bytes, network, slot, Protocol::Dns, image, now)) {
                    // Another order may stop what comes behind it.
                    Ok(Reason::Observed) => last = Reason::Observed,
                    // What is dropped because nothing may be sent back is stopped as well.
                    Err(reason) if reason.verdict() == filter_common::verdict::Verdict::Pass => last = reason,
                    stopped => return stopped,
                }
            }
            stream::Step::Hungry => return Err(last),
            stream::Step::Stop(reason) => return Err(reason),
        }
    }
    Err(Reason::DnsMalformed)
}
