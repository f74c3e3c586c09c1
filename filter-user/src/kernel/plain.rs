//! Types that go to the kernel and come from it as they lie in memory.

use std::io;

/// Types that may be read from and written to the kernel as bytes.
///
/// # Safety
/// No padding, and every bit pattern is a value.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($type:ty),+ $(,)?) => {
        $(
            // SAFETY: `repr(C)` or primitive, integers and arrays of them only; the sizes that `layout` asserts
            // leave no room for padding.
            unsafe impl Plain for $type {}
        )+
    };
}

// SAFETY: octets.
unsafe impl<const N: usize> Plain for [u8; N] {}

// SAFETY: words.
unsafe impl<const N: usize> Plain for [u64; N] {}

plain!(u8, u32, u64, [u32; 2]);
plain!(
    filter_common::layout::Counter,
    filter_common::layout::Deferred,
    filter_common::layout::Event,
    filter_common::layout::FlowKey,
    filter_common::layout::HashKey,
    filter_common::layout::Hits,
    filter_common::layout::NameBucket,
    filter_common::layout::Order,
    filter_common::layout::Policy,
    filter_common::layout::Flows,
    filter_common::layout::PrefixV4,
    filter_common::layout::PrefixV6,
    filter_common::layout::Remembered,
    filter_common::layout::Settings,
    filter_common::layout::Stream,
    filter_common::layout::SynMark,
    filter_common::layout::Target,
    filter_common::layout::Tier,
);

plain!(
    filter_common::traffic::Frame<{ filter_common::traffic::LONG }>,
    filter_common::traffic::Frame<{ filter_common::traffic::SHORT }>,
    filter_common::traffic::Sender,
);

/// The value whose bytes are all zero.
pub fn zeroed<T: Plain>() -> T {
    // SAFETY: every bit pattern is a value.
    unsafe { std::mem::zeroed() }
}

/// A value from the first bytes of `data`, if there are enough.
pub fn read<T: Plain>(data: &[u8]) -> Option<T> {
    // SAFETY: the bytes are there, and every bit pattern is a value.
    (data.len() >= size_of::<T>()).then(|| unsafe { data.as_ptr().cast::<T>().read_unaligned() })
}

/// Fills a value from the kernel's random number generator.
pub fn fill_random<T: Plain>(value: &mut T) -> io::Result<()> {
    let start = std::ptr::from_mut(value).cast::<u8>();
    let mut done = 0;
    while done < size_of::<T>() {
        // SAFETY: the rest of `value`, all of whose bit patterns are values.
        let got = unsafe { libc::getrandom(start.add(done).cast(), size_of::<T>() - done, 0) };
        match usize::try_from(got) {
            Ok(got) => done += got,
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
    Ok(())
}
