//! One side of a TCP connection, segment by segment.

use super::{CLIENT_PORT, Ip, Packet, Transport, flag};

/// A connection from the client to the server: where its segments go, and how they are numbered.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Both addresses.
    pub ip: Ip,
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub port: u16,
    /// Sequence number of the SYN; data starts behind it.
    pub start: u32,
}

impl Connection {
    /// To a port.
    pub fn new(ip: Ip, port: u16) -> Self {
        Self { ip, source: CLIENT_PORT, port, start: 0x1000_0000 }
    }

    /// From another port.
    pub fn from(self, source: u16) -> Self {
        Self { source, ..self }
    }

    /// With another sequence number of the SYN.
    pub fn starting(self, start: u32) -> Self {
        Self { start, ..self }
    }

    /// A segment with these flags and data, so many octets behind the SYN.
    pub fn flagged(&self, flags: u8, behind: u32, data: &[u8]) -> Vec<u8> {
        let mut transport =
            Transport::tcp(self.port).flags(flags).numbers(self.start.wrapping_add(behind), 0xdead_0001);
        transport.set_source(self.source);
        Packet::new(self.ip.clone(), transport, data.to_vec()).build()
    }

    /// The SYN.
    pub fn syn(&self) -> Vec<u8> {
        self.flagged(flag::SYN, 0, &[])
    }

    /// Data from a position of the stream on.
    pub fn data(&self, at: usize, data: &[u8]) -> Vec<u8> {
        self.flagged(flag::PSH | flag::ACK, 1 + at as u32, data)
    }

    /// A stream in segments that end at these positions and at its end.
    pub fn cut(&self, stream: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
        let ends = cuts.iter().copied().chain([stream.len()]);
        let starts = [0].into_iter().chain(cuts.iter().copied());
        starts.zip(ends).map(|(start, end)| self.data(start, &stream[start..end])).collect()
    }

    /// A stream in segments of so many octets.
    pub fn pieces(&self, stream: &[u8], octets: usize) -> Vec<Vec<u8>> {
        self.cut(stream, &(octets..stream.len()).step_by(octets).collect::<Vec<_>>())
    }

    /// The SYN, and a stream in segments that end at these positions and at its end.
    pub fn opened(&self, stream: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
        [vec![self.syn()], self.cut(stream, cuts)].concat()
    }
}
