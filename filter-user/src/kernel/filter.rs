//! The filter in front of the names as it lies in memory; see `filter_common::filter`.
//!
//! State: none beside the lines themselves. Trust: one writer at a time. A packet that passes the line before a name's
//! bits are set does not meet the name; where it might meet another in its place, the writer lets a grace period pass
//! between setting the bits and inserting the names.

use std::{
    hint::black_box,
    ops::Deref,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use filter_common::filter::{self, CROWDED, Key, WORDS};

use super::words::Atomic;

/// A line that others read.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Line([AtomicU64; WORDS]);

const _: () = assert!(size_of::<Line>() == size_of::<filter::Line>());

// SAFETY: atomic integers.
unsafe impl Atomic for Line {}

/// Lines for so many names: 16 bits a name.
pub const fn lines(names: u32) -> u32 {
    names.div_ceil(NAMES_PER_LINE)
}

const NAMES_PER_LINE: u32 = 32;

/// A word with more bits becomes crowded: with so many, one name in 18 that is not listed is let through; the names
/// for which it is sized set 11. Names that have no other place than this word still set theirs.
const MOST_BITS: u32 = 24;

/// A filter.
pub struct Filter<M>(pub M);

impl Filter<Vec<Line>> {
    /// An empty one of so many lines.
    pub fn empty(lines: usize) -> Self {
        Self((0..lines).map(|_| Line::default()).collect())
    }
}

impl<M: Deref<Target = [Line]>> Filter<M> {
    /// Lets a name through. Tells whether that changed anything.
    pub fn add(&self, key: &Key) -> bool {
        let (at, bits) = filter::place(key.own);
        let Some(anchor) = self.word(key.anchor, at) else { return false };
        let word = anchor.load(Relaxed);
        if word & bits == bits {
            return false;
        }
        let has_room = word & CROWDED == 0 && (word | bits).count_ones() <= MOST_BITS;
        if has_room || key.own == key.anchor {
            anchor.store(word | bits, Relaxed);
            return true;
        }
        let changed = self.word(key.own, at).is_some_and(|own| own.fetch_or(bits, Relaxed) & bits != bits);
        // Last, so that nobody who sees it misses the name.
        let marked = anchor.fetch_or(CROWDED, Relaxed) & CROWDED == 0;
        changed || marked
    }

    /// Brings into the cache what [`Filter::add`] will read.
    pub fn fetch(&self, key: &Key) {
        let (at, _) = filter::place(key.own);
        black_box(self.word(key.anchor, at).map(|word| word.load(Relaxed)));
    }

    /// Becomes `fresh`, which was filled with every name that is in the table, so that no bits are left of others. `wait`
    /// waits for a grace period; if it cannot, the bits of both stay.
    pub fn become_fresh<E>(&self, fresh: &Filter<Vec<Line>>, wait: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let words = || self.words().zip(fresh.words());
        // A name may go from its anchor's line to its own or back: until nobody is between the two, both have it.
        words().for_each(|(old, new)| {
            old.fetch_or(new.load(Relaxed), Relaxed);
        });
        wait()?;
        words().for_each(|(old, new)| old.store(new.load(Relaxed), Relaxed));
        Ok(())
    }

    fn words(&self) -> impl Iterator<Item = &AtomicU64> {
        self.0.iter().flat_map(|line| &line.0)
    }

    fn word(&self, hash: u32, at: usize) -> Option<&AtomicU64> {
        self.0.get(filter::line(hash, self.0.len() as u32) as usize)?.0.get(at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use filter_common::{
        filter::LABEL_WORDS,
        layout::{FilterKey, HashKey},
    };

    use super::*;
    use crate::{kernel::plain, name::Name};

    impl Filter<Vec<Line>> {
        /// Whether a name is let through, as the program asks.
        fn may_hold(&self, key: &Key) -> bool {
            let (at, bits) = filter::place(key.own);
            let own = || self.word(key.own, at).unwrap().load(Relaxed) & bits == bits;
            filter::may_hold(self.word(key.anchor, at).unwrap().load(Relaxed), bits).unwrap_or_else(own)
        }
    }

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u32 {
            self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (self.0 >> 32) as u32
        }

        fn key(&mut self, anchor: u32) -> Key {
            Key { anchor, own: self.next() }
        }
    }

    fn empty(names: u32) -> Filter<Vec<Line>> {
        Filter::empty(lines(names) as usize)
    }

    /// Of so many names below an anchor that are not listed, those that are let through.
    fn let_through(
        filter: &Filter<Vec<Line>>,
        random: &mut Random,
        mut anchor: impl FnMut(&mut Random) -> u32,
    ) -> usize {
        (0..10_000)
            .filter(|_| {
                let anchor = anchor(random);
                filter.may_hold(&random.key(anchor))
            })
            .count()
    }

    #[test]
    fn every_listed_name_is_let_through_and_few_others_are() {
        const NAMES: u32 = 100_000;
        const CROWDED_ANCHOR: u32 = 77 << 20;
        let (filter, mut random) = (empty(NAMES), Random(1));
        let mut names = HashSet::new();
        for number in 0..NAMES {
            // A third has an anchor of its own, a third is one, and a third lies under the same one.
            let own = random.next();
            let anchor = [random.next(), own, CROWDED_ANCHOR][number as usize % 3];
            names.insert(Key { anchor, own });
        }
        for key in &names {
            filter.add(key);
        }
        assert!(names.iter().all(|key| filter.may_hold(key) && !filter.add(key)));
        let others = let_through(&filter, &mut random, Random::next);
        let crowded = let_through(&filter, &mut random, |_| CROWDED_ANCHOR);
        assert!(others < 300, "{others} of 10000");
        // The word has 24 bits, and later some eight of names that have no other place: (32 / 63)^3 is one in eight.
        assert!(crowded < 1_300, "{crowded} of 10000 below one anchor with {} names", NAMES / 3);

        // Half of them go.
        let kept: HashSet<_> = names.iter().filter(|key| key.own % 2 == 0).copied().collect();
        let fresh = empty(NAMES);
        for key in &kept {
            fresh.add(key);
        }
        let mut waited = 0;
        let mut wait = |result: Result<(), ()>| {
            filter.become_fresh(&fresh, || {
                waited += 1;
                assert!(names.iter().all(|key| filter.may_hold(key)), "all, until nobody is between two lines");
                result
            })
        };
        assert_eq!(wait(Err(())), Err(()));
        assert!(names.iter().all(|key| filter.may_hold(key)), "all, if nobody knows whether someone is");
        assert_eq!(wait(Ok(())), Ok(()));
        assert_eq!(waited, 2);
        assert!(kept.iter().all(|key| filter.may_hold(key)));
        let gone = names.difference(&kept).filter(|key| filter.may_hold(key)).count();
        assert!(gone < names.len() / 20, "{gone} of {} are let through yet", names.len() / 2);
    }

    #[test]
    fn names_that_are_much_alike_are_told_apart() {
        const NAMES: usize = 20_000;
        let mut key: Box<HashKey> = Box::new(plain::zeroed());
        // Always the same: how families of names fall into lines differs from key to key.
        let mut random = Random(11);
        let mut word = || u64::from(random.next()) << 32 | u64::from(random.next());
        key.filter = FilterKey { words: [(); LABEL_WORDS].map(|()| word()), label: word() }.made_odd();
        let two = |number: usize| [number / 26 % 26, number % 26].map(|letter| char::from(b'a' + letter as u8));
        let forms: [&dyn Fn(usize) -> String; 5] = [
            &|number| format!("{number}.com"),
            &|number| format!("host-{number}.example{}.net", number % 999),
            &|number| format!("{}.{}{}.org", two(number).iter().collect::<String>(), number / 676, "b".repeat(20)),
            &|number| format!("cdn{number:08}.{}.co.uk", two(number / 7).iter().collect::<String>()),
            &|number| format!("www.{number:x}.de"),
        ];
        for (form, of) in forms.iter().enumerate() {
            let listing = |number| Name::parse(&of(number)).unwrap().listing(&key).filter;
            // As many below the same anchors, by chance.
            let mut random = Random(5);
            let mut by_chance = |number| {
                let Key { anchor, own } = listing(number);
                if own == anchor { Key { anchor: random.next(), own: random.next() } } else { random.key(anchor) }
            };
            let [filter, ideal] = [(); 2].map(|()| empty(NAMES as u32));
            for number in 0..NAMES {
                filter.add(&listing(2 * number));
                ideal.add(&by_chance(2 * number));
            }
            assert!((0..NAMES).all(|number| filter.may_hold(&listing(2 * number))), "{form}");
            let others = (0..NAMES).filter(|number| filter.may_hold(&listing(2 * number + 1))).count();
            let expected = (0..NAMES).filter(|number| ideal.may_hold(&by_chance(2 * number + 1))).count();
            assert!(others < expected * 5 / 4 + NAMES / 500, "form {form}: {others}, by chance {expected}");
        }
    }

    #[test]
    fn a_filter_of_ten_times_its_names_lets_every_one_through() {
        for anchors in [1, 7, u32::MAX] {
            let (filter, mut random) = (empty(1000), Random(4));
            let mut names = Vec::new();
            for _ in 0..10_000 {
                let anchor = random.next() % anchors;
                let key = random.key(anchor);
                filter.add(&key);
                names.push(key);
                assert!(filter.may_hold(&key), "at once");
            }
            assert!(names.iter().all(|key| filter.may_hold(key)), "{anchors} anchors: those before, too");
        }
    }

    #[test]
    fn a_rule_on_an_anchor_stays_in_its_line() {
        let (filter, mut random) = (empty(64), Random(3));
        for _ in 0..500 {
            let key = random.key(5);
            filter.add(&key);
            assert!(filter.may_hold(&key));
        }
        let anchor = Key { anchor: 5, own: 5 };
        filter.add(&anchor);
        assert!(filter.may_hold(&anchor) && !filter.add(&anchor));
        let (at, bits) = filter::place(5);
        assert_eq!(filter.word(5, at).unwrap().load(Relaxed) & bits, bits);
    }
}
