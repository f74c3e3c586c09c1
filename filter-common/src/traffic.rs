//! What lies in the maps of the benchmark's traffic generator: one definition for the kernel and for the host.
//!
//! Nothing of it is in the filter's object.

/// A frame that is sent: of at most `N` octets.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Frame<const N: usize> {
    /// How many of the octets are sent.
    pub len: u32,
    /// The frame, Ethernet header first, and anything behind it.
    pub octets: [u8; N],
}

/// Longest of the short frames: queries and mid-connection segments.
pub const SHORT: usize = 124;

/// Longest of the long frames: whole Ethernet frames.
pub const LONG: usize = 1532;

/// What one CPU sends, and how far it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Sender {
    /// Index of the next frame.
    pub next: u32,
    /// That of the first.
    pub start: u32,
    /// That behind the last, after which comes the first again.
    pub end: u32,
    /// Index of the interface that sends them.
    pub interface: u32,
    /// Frames in a row.
    pub burst: u32,
    /// How many of them are still to be sent.
    pub left: u32,
    /// Nanoseconds from one row of frames to the next; 0 for no pause.
    pub interval: u64,
    /// When the next row is due: CLOCK_MONOTONIC, nanoseconds.
    pub due: u64,
    /// Frames that were handed to the interface.
    pub sent: u64,
}

/// A name in wire form without the root's octet, then zeros: key of the plain look-up that the filter is compared with.
pub type PlainName = [u64; 8];

/// The key of a name in wire form without the root's octet; `None` for one that is too long.
pub fn plain_name(wire: &[u8]) -> Option<PlainName> {
    let mut octets = [0; size_of::<PlainName>()];
    octets.get_mut(..wire.len())?.copy_from_slice(wire);
    let mut name = PlainName::default();
    let (words, _) = octets.as_chunks::<8>();
    name.iter_mut().zip(words).for_each(|(word, octets)| *word = u64::from_le_bytes(*octets));
    Some(name)
}

/// Where a question's name begins in a query over UDP and IPv4 without options, over Ethernet.
pub const QUESTION: u32 = 14 + 20 + 8 + 12;

const _: () = {
    assert!(size_of::<Frame<SHORT>>() == 128);
    assert!(size_of::<Frame<LONG>>() == 1536);
    assert!(size_of::<Sender>() == 48);
};

/// Lines of the filter and buckets of names that the benchmark reads at random: those of 2^21 names, in powers of two.
pub const LINE_BITS: u32 = 16;
/// See [`LINE_BITS`].
pub const BUCKET_BITS: u32 = 20;
