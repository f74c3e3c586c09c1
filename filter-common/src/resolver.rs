//! Known public resolvers: a summary that tells of nearly all other addresses, without a look-up, that they are none.
//!
//! Who serves whom is public, so the bits are not keyed: an address that shares one costs a look-up, and nothing else.

/// Bits of a [`Summary`].
const BITS: u64 = 1024;

/// A bit for each of the known addresses; addresses share them.
pub type Summary = [u64; (BITS / 64) as usize];

/// Has the summary know an address: IPv6, or IPv4 as `::ffff:a.b.c.d`, as two words in host order.
pub fn add(summary: &mut Summary, address: [u64; 2]) {
    let (word, bit) = place(address);
    if let Some(word) = summary.get_mut(word) {
        *word |= bit;
    }
}

/// Whether an address may be a known one.
#[inline(always)]
pub fn may_be_known(summary: &Summary, address: [u64; 2]) -> bool {
    let (word, bit) = place(address);
    summary.get(word).is_some_and(|word| word & bit != 0)
}

#[inline(always)]
fn place([high, low]: [u64; 2]) -> (usize, u64) {
    let mixed = (high ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS.ilog2());
    ((mixed >> 6) as usize, 1 << (mixed & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_known_and_little_else() {
        let address = |n: u64| [0, 0xffff_0000_0000 | n.wrapping_mul(0x9e3779b9) & 0xffff_ffff];
        let mut summary = Summary::default();
        (0..64).for_each(|n| add(&mut summary, address(n)));
        assert!((0..64).all(|n| may_be_known(&summary, address(n))));
        let others = (64..10_064).filter(|n| may_be_known(&summary, address(*n))).count();
        assert!(others < 1_000, "{others} of 10,000");
        assert!(!may_be_known(&Summary::default(), address(1)));
    }
}
