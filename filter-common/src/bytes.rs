//! How the parsers read a packet: in the XDP program and on the host.

/// Octets the parsers may copy into one buffer: an answer with its headers.
pub const BUFFER: usize = 1024;

/// A frame. Positions count from its first octet; what lies past its end is `None`, never read.
pub trait Bytes {
    /// Octets of the whole frame.
    fn len(&self) -> u32;

    /// Two octets at `at`, in network order. (There is no one-octet read: the verifier does not follow its bound.)
    fn be16(&self, at: u32) -> Option<u16>;

    /// Four octets at `at`, in network order.
    fn be32(&self, at: u32) -> Option<u32>;

    /// Eight octets at `at`, in network order.
    fn be64(&self, at: u32) -> Option<u64>;

    /// Copies `len` octets from `at` to `to` in the buffer; false if they do not lie in the frame or the buffer.
    fn copy(&self, at: u32, len: u32, buffer: &mut [u8; BUFFER], to: u32) -> bool;

    /// Whether the frame is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A frame in memory.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a>(pub &'a [u8]);

impl Slice<'_> {
    fn array<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.0.get(at as usize..)?.first_chunk().copied()
    }
}

impl Bytes for Slice<'_> {
    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    fn be16(&self, at: u32) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    fn be32(&self, at: u32) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    fn be64(&self, at: u32) -> Option<u64> {
        self.array(at).map(u64::from_be_bytes)
    }

    fn copy(&self, at: u32, len: u32, buffer: &mut [u8; BUFFER], to: u32) -> bool {
        let (at, len, to) = (at as usize, len as usize, to as usize);
        let from = self.0.get(at..at.saturating_add(len));
        let into = buffer.get_mut(to..to.saturating_add(len));
        let (Some(from), Some(into)) = (from, into) else { return false };
        into.copy_from_slice(from);
        true
    }
}
