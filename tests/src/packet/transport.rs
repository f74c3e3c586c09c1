//! UDP and TCP headers.

use super::{CLIENT_PORT, Ip, checksum};

/// TCP flags.
pub mod flag {
    /// No more data.
    pub const FIN: u8 = 1;
    /// Synchronise.
    pub const SYN: u8 = 2;
    /// Reset.
    pub const RST: u8 = 4;
    /// Push.
    pub const PSH: u8 = 8;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 16;
}

/// A transport layer.
#[derive(Clone, Debug)]
pub enum Transport {
    /// RFC 768.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// In place of the right length.
        length: Option<u16>,
    },
    /// RFC 9293.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Sequence number.
        sequence: u32,
        /// Acknowledgement number.
        acknowledgement: u32,
        /// Flags.
        flags: u8,
        /// A multiple of four octets, at most 40.
        options: Vec<u8>,
        /// In place of the right data offset, in words.
        offset: Option<u8>,
    },
    /// Nothing but the payload, with an IP protocol number.
    Raw(u8),
}

impl Transport {
    /// From the client's port.
    pub fn udp(destination: u16) -> Self {
        Self::Udp { source: CLIENT_PORT, destination, length: None }
    }

    /// A data segment from the client's port.
    pub fn tcp(destination: u16) -> Self {
        Self::Tcp {
            source: CLIENT_PORT,
            destination,
            sequence: 0x1000_0001,
            acknowledgement: 0xdead_0001,
            flags: flag::PSH | flag::ACK,
            options: Vec::new(),
            offset: None,
        }
    }

    /// With other TCP flags.
    pub fn flags(mut self, octet: u8) -> Self {
        if let Self::Tcp { flags, .. } = &mut self {
            *flags = octet;
        }
        self
    }

    /// With TCP options.
    pub fn options(mut self, octets: &[u8]) -> Self {
        if let Self::Tcp { options, .. } = &mut self {
            *options = octets.to_vec();
        }
        self
    }

    /// With other TCP sequence and acknowledgement numbers.
    pub fn numbers(mut self, sequence: u32, acknowledgement: u32) -> Self {
        if let Self::Tcp { sequence: s, acknowledgement: a, .. } = &mut self {
            (*s, *a) = (sequence, acknowledgement);
        }
        self
    }

    /// Sets the destination port.
    pub fn set_destination(&mut self, port: u16) {
        match self {
            Self::Udp { destination, .. } | Self::Tcp { destination, .. } => *destination = port,
            Self::Raw(_) => {}
        }
    }

    /// Sets the source port.
    pub fn set_source(&mut self, port: u16) {
        match self {
            Self::Udp { source, .. } | Self::Tcp { source, .. } => *source = port,
            Self::Raw(_) => {}
        }
    }

    /// Octets of the header with options.
    pub fn header_len(&self) -> usize {
        match self {
            Self::Udp { .. } => 8,
            Self::Tcp { options, .. } => 20 + options.len(),
            Self::Raw(_) => 0,
        }
    }

    /// IP protocol number.
    pub fn protocol(&self) -> u8 {
        match self {
            Self::Udp { .. } => 17,
            Self::Tcp { .. } => 6,
            Self::Raw(protocol) => *protocol,
        }
    }

    /// Header and payload.
    pub fn build(&self, ip: &Ip, payload: &[u8]) -> Vec<u8> {
        let len = self.header_len() + payload.len();
        let (mut header, checksum_at) = match self {
            Self::Udp { source, destination, length } => {
                let mut header = Vec::new();
                header.extend(source.to_be_bytes());
                header.extend(destination.to_be_bytes());
                header.extend(length.unwrap_or(len as u16).to_be_bytes());
                header.extend([0, 0]);
                (header, 6)
            }
            Self::Tcp { source, destination, sequence, acknowledgement, flags, options, offset } => {
                let mut header = Vec::new();
                header.extend(source.to_be_bytes());
                header.extend(destination.to_be_bytes());
                header.extend(sequence.to_be_bytes());
                header.extend(acknowledgement.to_be_bytes());
                header.push(offset.unwrap_or((self.header_len() / 4) as u8) << 4);
                header.push(*flags);
                header.extend([0xfa, 0xf0, 0, 0, 0, 0]);
                header.extend(options);
                (header, 16)
            }
            Self::Raw(_) => return payload.to_vec(),
        };
        let sum = checksum(&[&ip.pseudo_header(self.protocol(), len), &header, payload]);
        header[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
        header.extend(payload);
        header
    }
}
