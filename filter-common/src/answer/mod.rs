//! The packets that go back to the client: DNS answers and TCP resets, composed in a buffer.
//!
//! In the buffer the IP header ends at [`TRANSPORT`], whatever its version, so that every later part lies at a
//! constant position. The caller puts the octets from [`Composed::start`] on in place of everything from the packet's
//! IP header on, after it filled in the checksums with [`Composed::seal`].

mod wrap;

pub use self::wrap::{Wrap, wrap};
use crate::{
    bytes::{BUFFER, Bytes},
    dns::{self, Question, Starts},
    edns::Edns,
    frame::{Network, Payload, TCP, UDP},
    layout::{ENTRY_NODATA, MAX_TEXT, ORDER_A, ORDER_AAAA, Order, PolicyEntry},
    verdict::{Action, Reason},
};

/// The buffer of one packet that goes back.
pub type Buffer = [u8; BUFFER];

/// Position of the transport header in the buffer.
pub const TRANSPORT: u32 = 40;
/// Position of the DNS message in the buffer.
pub const MESSAGE: u32 = TRANSPORT + 8;

/// Longest TTL of anything that is synthesised, in seconds.
pub const MAX_TTL: u32 = 60;

/// What lies in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Composed {
    /// Position of the IP header.
    pub start: u32,
    /// Position after the last octet.
    pub end: u32,
    /// IP protocol number.
    pub transport: u8,
    /// Sum of the pseudo header's 16-bit words.
    pseudo: u32,
}

/// What an answer says, and why.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// The deciding order.
    pub order: &'a Order,
    /// How it reached this name.
    pub entry: PolicyEntry,
    /// Its action for DNS.
    pub action: u8,
    /// QTYPE of the query.
    pub qtype: u16,
    /// Seconds to the order's end, at most [`MAX_TTL`].
    pub ttl: u32,
}

/// Composes the DNS answer to a query over UDP; the length of the message and the reason to count.
#[inline(always)]
pub fn message<B: Bytes>(
    bytes: &B,
    payload: &Payload,
    question: &Question,
    starts: &Starts,
    edns: &Edns,
    reply: &Reply,
    buffer: &mut Buffer,
) -> Result<(u32, Reason), Reason> {
    let asked = question.after().wrapping_sub(payload.start);
    if !bytes.copy(payload.start, asked, buffer, MESSAGE) {
        return Err(Reason::DroppedSize);
    }
    let kind = Kind::of(reply);
    let sizes = Sizes::fit(asked, payload.end.wrapping_sub(payload.start), &kind, edns, reply)?;

    let mut at = MESSAGE + asked;
    match kind.record {
        Record::None => {}
        Record::A => at = put_record(buffer, at, TYPE_A, reply.ttl, &reply.order.a),
        Record::Aaaa => at = put_record(buffer, at, TYPE_AAAA, reply.ttl, &reply.order.aaaa),
    }
    if sizes.soa {
        at = put_soa(buffer, at, owner(question, starts, reply), reply.ttl);
    }
    if edns.present != 0 {
        at = put_opt(bytes, buffer, at, edns, &sizes, &kind, reply);
    }
    // The checksum is summed in whole words.
    put(buffer, at, 0_u32.to_be_bytes());
    put_header(buffer, &kind, sizes.soa, edns);
    Ok((at - MESSAGE, kind.reason))
}

#[derive(Clone, Copy)]
enum Record {
    None,
    A,
    Aaaa,
}

#[derive(Clone, Copy)]
struct Kind {
    rcode: u8,
    record: Record,
    /// The answer is negative, so it has an SOA (RFC 2308).
    negative: bool,
    ede: u16,
    reason: Reason,
}

impl Kind {
    #[inline(always)]
    fn of(reply: &Reply) -> Self {
        let ede = reply.order.ede;
        let nodata = Self { rcode: NOERROR, record: Record::None, negative: true, ede, reason: Reason::AnsweredNodata };
        let refused = reply.action == Action::Refused as u8 || reply.action == Action::Reset as u8;
        if refused {
            Self { rcode: REFUSED, negative: false, reason: Reason::AnsweredRefused, ..nodata }
        } else if reply.action == Action::Address as u8 {
            let has = reply.order.flags;
            let a = has & ORDER_A != 0 && matches!(reply.qtype, TYPE_A | TYPE_ANY);
            let aaaa = has & ORDER_AAAA != 0 && matches!(reply.qtype, TYPE_AAAA | TYPE_ANY);
            let forged = Self { ede: EDE_FORGED, negative: false, reason: Reason::AnsweredAddress, ..nodata };
            if a {
                Self { record: Record::A, ..forged }
            } else if aaaa {
                Self { record: Record::Aaaa, ..forged }
            } else {
                Self { ede: EDE_FORGED, ..nodata }
            }
        } else if reply.action == Action::Nxdomain as u8 && reply.entry.flags & ENTRY_NODATA == 0 {
            Self { rcode: NXDOMAIN, reason: Reason::AnsweredNxdomain, ..nodata }
        } else {
            nodata
        }
    }
}

/// What fits: within the query's EDNS size and three times the query, whichever is less.
struct Sizes {
    text: u32,
    ede: bool,
    soa: bool,
}

impl Sizes {
    #[inline(always)]
    fn fit(asked: u32, query: u32, kind: &Kind, edns: &Edns, reply: &Reply) -> Result<Self, Reason> {
        // RFC 6891 6.2.3: less than 512 is to be treated as 512.
        let taken = if edns.present != 0 && edns.size > 512 { edns.size } else { 512 };
        let limit = if query * AMPLIFICATION < taken { query * AMPLIFICATION } else { taken };
        let opt = if edns.present != 0 { OPT + edns.cookie_len } else { 0 };
        let record = match kind.record {
            Record::None => 0,
            Record::A => RECORD + 4,
            Record::Aaaa => RECORD + 16,
        };
        let least = asked + record + opt;
        if least > limit {
            return Err(Reason::DroppedSize);
        }
        let room = limit - least;
        let soa = if kind.negative { SOA } else { 0 };
        let text = u32::from(reply.order.text_len) & (MAX_TEXT as u32 * 2 - 1);
        Ok(if edns.present != 0 && soa + EDE + text <= room {
            Self { text, ede: true, soa: kind.negative }
        } else if edns.present != 0 && soa + EDE <= room {
            Self { text: 0, ede: true, soa: kind.negative }
        } else {
            Self { text: 0, ede: false, soa: kind.negative && soa <= room }
        })
    }
}

/// RFC 1035 4.1.1: ID, OPCODE, RD, CD and the question stay as copied.
#[inline(always)]
fn put_header(buffer: &mut Buffer, kind: &Kind, soa: bool, edns: &Edns) {
    let flags = get(buffer, MESSAGE + 2);
    let recursion = flags & RD != 0;
    // A resolver asks without RD, and wants an authoritative answer.
    let answered = if recursion { RA } else { AA };
    let flags = QR | answered | flags & (RD | CD) | u16::from(kind.rcode);
    let records = !matches!(kind.record, Record::None);
    put(buffer, MESSAGE + 2, flags.to_be_bytes());
    put(buffer, MESSAGE + 6, u16::from(records).to_be_bytes());
    put(buffer, MESSAGE + 8, u16::from(soa).to_be_bytes());
    put(buffer, MESSAGE + 10, u16::from(edns.present != 0).to_be_bytes());
}

/// A pointer (RFC 1035 4.1.4) to the rule's name in the question.
#[inline(always)]
fn owner(question: &Question, starts: &Starts, reply: &Reply) -> u16 {
    let first = question.labels.wrapping_sub(u32::from(reply.entry.depth)) as usize;
    let offset = starts.get(first & (starts.len() - 1)).copied().unwrap_or(0);
    0xc000 | (dns::HEADER as u16 + u16::from(offset))
}

#[inline(always)]
fn put_record<const N: usize>(buffer: &mut Buffer, at: u32, kind: u16, ttl: u32, data: &[u8; N]) -> u32 {
    put(buffer, at, (0xc000 | dns::HEADER as u16).to_be_bytes());
    put(buffer, at + 2, kind.to_be_bytes());
    put(buffer, at + 4, CLASS_IN.to_be_bytes());
    put(buffer, at + 6, ttl.to_be_bytes());
    put(buffer, at + 10, (N as u16).to_be_bytes());
    put(buffer, at + 12, *data);
    at + RECORD + N as u32
}

/// RFC 2308 3: the SOA's MINIMUM is the negative TTL. MNAME and RNAME are the root: there is no zone behind it.
#[inline(always)]
fn put_soa(buffer: &mut Buffer, at: u32, owner: u16, ttl: u32) -> u32 {
    put(buffer, at, owner.to_be_bytes());
    put(buffer, at + 2, TYPE_SOA.to_be_bytes());
    put(buffer, at + 4, CLASS_IN.to_be_bytes());
    put(buffer, at + 6, ttl.to_be_bytes());
    put(buffer, at + 10, 22_u16.to_be_bytes());
    put(buffer, at + 12, [0_u8; 2]);
    for (index, timer) in [1, 3600, 600, 86400, ttl].into_iter().enumerate() {
        put(buffer, at + 14 + 4 * index as u32, timer.to_be_bytes());
    }
    at + SOA
}

/// RFC 6891 6.1.2, with EDE (RFC 8914 2) and the COOKIE option as it came (RFC 7873 4).
#[inline(always)]
fn put_opt<B: Bytes>(
    bytes: &B,
    buffer: &mut Buffer,
    at: u32,
    edns: &Edns,
    sizes: &Sizes,
    kind: &Kind,
    reply: &Reply,
) -> u32 {
    let ede = if sizes.ede { EDE + sizes.text } else { 0 };
    put(buffer, at, [0_u8]);
    put(buffer, at + 1, TYPE_OPT.to_be_bytes());
    put(buffer, at + 3, UDP_SIZE.to_be_bytes());
    put(buffer, at + 5, (u32::from(edns.dnssec_ok) << 15).to_be_bytes());
    put(buffer, at + 9, ((edns.cookie_len + ede) as u16).to_be_bytes());
    let mut end = at + OPT;
    if sizes.ede {
        put(buffer, end, OPTION_EDE.to_be_bytes());
        put(buffer, end + 2, ((2 + sizes.text) as u16).to_be_bytes());
        put(buffer, end + 4, kind.ede.to_be_bytes());
        put(buffer, end + EDE, reply.order.text);
        end += EDE + sizes.text;
    }
    if edns.cookie_len != 0 {
        // `Sizes` counted it, so it fits.
        bytes.copy(edns.cookie_at, edns.cookie_len, buffer, end);
        end += edns.cookie_len;
    }
    end
}

/// Puts the UDP and IP headers before a message of `len` octets.
#[inline(always)]
pub fn datagram<B: Bytes>(bytes: &B, network: &Network, len: u32, buffer: &mut Buffer) -> Result<Composed, Reason> {
    let ports = bytes.be32(network.l4).ok_or(Reason::DroppedSize)?;
    put(buffer, TRANSPORT, ports.rotate_left(16).to_be_bytes());
    put(buffer, TRANSPORT + 4, ((len + 8) as u16).to_be_bytes());
    put(buffer, TRANSPORT + 6, 0_u16.to_be_bytes());
    ip(bytes, network, UDP, len + 8, buffer).ok_or(Reason::DroppedSize)
}

/// Composes the RST to a segment with `payload` (RFC 9293 3.10.7.1).
#[inline(always)]
pub fn reset<B: Bytes>(
    bytes: &B,
    network: &Network,
    payload: &Payload,
    buffer: &mut Buffer,
) -> Result<Composed, Reason> {
    let ports = bytes.be32(network.l4).ok_or(Reason::DroppedSize)?;
    let sequence = bytes.be32(network.l4 + 4).ok_or(Reason::DroppedSize)?;
    let acknowledged = bytes.be32(network.l4 + 8).ok_or(Reason::DroppedSize)?;
    let flags = bytes.be16(network.l4 + 12).ok_or(Reason::DroppedSize)?;
    let octets = payload.end.wrapping_sub(payload.start).wrapping_add(u32::from(flags & (SYN | FIN) != 0));
    let (sequence, acknowledge, flags) =
        if flags & ACK != 0 { (acknowledged, 0, RST) } else { (0, sequence.wrapping_add(octets), RST | ACK) };
    put(buffer, TRANSPORT, ports.rotate_left(16).to_be_bytes());
    put(buffer, TRANSPORT + 4, sequence.to_be_bytes());
    put(buffer, TRANSPORT + 8, acknowledge.to_be_bytes());
    put(buffer, TRANSPORT + 12, (5 << 12 | flags).to_be_bytes());
    put(buffer, TRANSPORT + 14, [0_u8; 6]);
    ip(bytes, network, TCP, 20, buffer).ok_or(Reason::DroppedSize)
}

/// Puts an IP header without options before `len` octets, back to where the packet came from.
#[inline(always)]
fn ip<B: Bytes>(bytes: &B, network: &Network, transport: u8, len: u32, buffer: &mut Buffer) -> Option<Composed> {
    let (start, addresses) = if network.version == 4 {
        let source = bytes.be32(network.l3 + 12)?;
        let destination = bytes.be32(network.l3 + 16)?;
        (20, put_ipv4(buffer, 20, transport, len, source, destination))
    } else {
        let source = [bytes.be64(network.l3 + 8)?, bytes.be64(network.l3 + 16)?];
        let destination = [bytes.be64(network.l3 + 24)?, bytes.be64(network.l3 + 32)?];
        (0, put_ipv6(buffer, 0, transport, len, source, destination))
    };
    let pseudo = addresses + u32::from(transport) + len;
    Some(Composed { start, end: TRANSPORT + len, transport, pseudo })
}

/// RFC 791 3.1; gives the sum of the addresses' words.
#[inline(always)]
fn put_ipv4(buffer: &mut Buffer, at: u32, transport: u8, len: u32, source: u32, destination: u32) -> u32 {
    let addresses = words32(source) + words32(destination);
    let total = 20 + len;
    let life = u32::from(HOPS) << 8 | u32::from(transport);
    let sum = 0x4500 + total + 0x4000 + life + addresses;
    put(buffer, at, (0x4500_0000 | total).to_be_bytes());
    // Do not fragment: there is nothing that could be (RFC 6864 4.1).
    put(buffer, at + 4, 0x4000_u32.to_be_bytes());
    put(buffer, at + 8, (life << 16 | u32::from(!fold(sum))).to_be_bytes());
    put(buffer, at + 12, destination.to_be_bytes());
    put(buffer, at + 16, source.to_be_bytes());
    addresses
}

/// RFC 8200 3; gives the sum of the addresses' words.
#[inline(always)]
fn put_ipv6(buffer: &mut Buffer, at: u32, transport: u8, len: u32, source: [u64; 2], destination: [u64; 2]) -> u32 {
    put(buffer, at, 0x6000_0000_u32.to_be_bytes());
    put(buffer, at + 4, (len << 16 | u32::from(transport) << 8 | u32::from(HOPS)).to_be_bytes());
    let [s0, s1] = source;
    let [d0, d1] = destination;
    put(buffer, at + 8, d0.to_be_bytes());
    put(buffer, at + 16, d1.to_be_bytes());
    put(buffer, at + 24, s0.to_be_bytes());
    put(buffer, at + 32, s1.to_be_bytes());
    words64(s0) + words64(s1) + words64(d0) + words64(d1)
}

impl Composed {
    /// Octets from the transport header on.
    pub fn transport_len(&self) -> u32 {
        self.end - TRANSPORT
    }

    /// Puts in the transport checksum, from the sum of the 16-bit words from the transport header on (RFC 1071), in
    /// network order.
    #[inline(always)]
    pub fn seal(&self, buffer: &mut Buffer, sum: u16) {
        let checksum = !fold(self.pseudo + u32::from(sum));
        if self.transport == UDP {
            // RFC 768: zero would say that there is none.
            let checksum = if checksum == 0 { 0xffff } else { checksum };
            put(buffer, TRANSPORT + 6, checksum.to_be_bytes());
        } else {
            put(buffer, TRANSPORT + 16, checksum.to_be_bytes());
        }
    }
}

/// A sum of 16-bit words as one, carries added in (RFC 1071).
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

const fn words32(value: u32) -> u32 {
    (value & 0xffff) + (value >> 16)
}

const fn words64(value: u64) -> u32 {
    words32(value as u32) + words32((value >> 32) as u32)
}

/// Writes octets. Every position here is below 512, so the mask changes nothing; it is there for the verifier.
#[inline(always)]
fn put<const N: usize>(buffer: &mut Buffer, at: u32, octets: [u8; N]) {
    if let Some(place) = buffer.get_mut(at as usize & POSITIONS..).and_then(|rest| rest.first_chunk_mut()) {
        *place = octets;
    }
}

#[inline(always)]
fn get(buffer: &Buffer, at: u32) -> u16 {
    buffer.get(at as usize & POSITIONS..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u16::from_be_bytes)
}

/// The longest answer: 12 + 255 + 4 octets of header and question, 34 of SOA, 11 of OPT, 70 of EDE, 44 of cookie.
const POSITIONS: usize = 511;
const _: () = assert!(MESSAGE as usize + 271 + 34 + 11 + 70 + 44 < POSITIONS && POSITIONS + MAX_TEXT < BUFFER);

const AMPLIFICATION: u32 = 3;
const HOPS: u8 = 64;

/// Owner as a pointer, type, class, TTL and RDLENGTH.
const RECORD: u32 = 12;
const SOA: u32 = RECORD + 22;
const OPT: u32 = 11;
/// Option code, length and info-code.
const EDE: u32 = 6;
/// What we could take ourselves; the value of DNS Flag Day 2020.
const UDP_SIZE: u16 = 1232;

const CLASS_IN: u16 = 1;
const TYPE_A: u16 = 1;
const TYPE_SOA: u16 = 6;
const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
const TYPE_ANY: u16 = 255;
const OPTION_EDE: u16 = 15;
const EDE_FORGED: u16 = 4;
const NOERROR: u8 = 0;
const NXDOMAIN: u8 = 3;
const REFUSED: u8 = 5;

const QR: u16 = 0x8000;
const AA: u16 = 0x0400;
const RD: u16 = 0x0100;
const RA: u16 = 0x0080;
const CD: u16 = 0x0010;

const FIN: u16 = 1;
const SYN: u16 = 2;
const RST: u16 = 4;
const ACK: u16 = 16;
