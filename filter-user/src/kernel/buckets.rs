//! The table of names as it lies in memory: buckets of three slots, read by the program while it is written here.
//!
//! State: none beside the buckets themselves. Trust: one writer at a time, who lets a grace period pass between giving
//! up a slot and taking it ([`GracePeriods`](super::grace::GracePeriods)); then no reader takes a name for another's, in
//! whatever order its CPU reads. See `layout::NameBucket`.

use std::{
    hint::black_box,
    ops::Deref,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use filter_common::layout::{BUCKET_SLOTS, MAX_REACH, NameBucket, NameTag, Node};

use super::words::Atomic;

/// A [`NameBucket`] that others read.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Bucket {
    nodes: [AtomicU64; BUCKET_SLOTS],
    tags: [[AtomicU32; 3]; BUCKET_SLOTS],
    reach: AtomicU32,
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Bucket>() == size_of::<NameBucket>());
    assert!(offset_of!(Bucket, nodes) == offset_of!(NameBucket, nodes));
    assert!(offset_of!(Bucket, tags) == offset_of!(NameBucket, tags));
    assert!(offset_of!(Bucket, reach) == offset_of!(NameBucket, reach));
};

// SAFETY: atomic integers; the sizes leave no room for padding.
unsafe impl Atomic for Bucket {}

/// Buckets for so many names: two names a bucket, so that few do not find room at home.
pub const fn buckets(names: u32) -> u32 {
    names.div_ceil(NAMES_PER_BUCKET)
}

/// The most names for so many buckets.
pub const fn names(buckets: u32) -> u32 {
    buckets.saturating_mul(NAMES_PER_BUCKET)
}

const NAMES_PER_BUCKET: u32 = 2;

/// No bucket within reach of a name's home has a free slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A table of names.
pub struct Buckets<M>(pub M);

impl<M: Deref<Target = [Bucket]>> Buckets<M> {
    /// A name's node. A writer meanwhile may be seen or not.
    pub fn get(&self, tag: &NameTag) -> Option<Node> {
        let (_, slot) = self.find(tag)?;
        let word = slot.node.load(Acquire);
        // No grace period protects this process: the slot may have become another name's.
        if slot.tag() == *tag { Node::from_word(word) } else { None }
    }

    /// Brings a name's home into the cache.
    pub fn fetch(&self, tag: &NameTag) {
        black_box(self.bucket(tag, 0).map(|home| home.reach.load(Relaxed)));
    }

    /// Puts a name in that is not there.
    pub fn insert(&self, tag: &NameTag, node: Node) -> Result<(), Full> {
        let home = self.bucket(tag, 0).ok_or(Full)?;
        let (distance, slot) = self.along(tag, MAX_REACH).find(|(_, slot)| slot.is_free()).ok_or(Full)?;
        // Before the name is there, so that none is there without it.
        if home.reach.load(Relaxed) < distance {
            home.reach.store(distance, Release);
        }
        slot.set_tag(tag);
        slot.node.store(node.to_word(), Release);
        Ok(())
    }

    /// Gives a name that is there a node, with one store; tells whether it is there.
    pub fn update(&self, tag: &NameTag, node: Node) -> bool {
        let found = self.find(tag);
        if let Some((_, slot)) = found {
            slot.node.store(node.to_word(), Release);
        }
        found.is_some()
    }

    /// Takes a name out; tells whether it was there. Its slot may be taken again after a grace period.
    pub fn delete(&self, tag: &NameTag) -> bool {
        let Some((distance, slot)) = self.find(tag) else { return false };
        slot.node.store(0, Release);
        slot.set_tag(&NameTag::default());
        self.draw_in(tag, distance);
        true
    }

    /// Has the home of a name that lay so far from it reach no further than its other names lie.
    fn draw_in(&self, tag: &NameTag, distance: u32) {
        let Some(home) = self.bucket(tag, 0).filter(|home| distance > 0 && home.reach.load(Relaxed) == distance) else {
            return;
        };
        let at = tag.home(self.len());
        let is_of_home = |slot: &Slot<'_>| !slot.is_free() && slot.tag().home(self.len()) == at;
        let furthest = self.along(tag, distance).filter(|(_, slot)| is_of_home(slot)).map(|(on, _)| on).last();
        home.reach.store(furthest.unwrap_or(0), Release);
    }

    /// Every name, in no order.
    pub fn for_each(&self, mut visit: impl FnMut(NameTag, Node)) {
        for slot in self.0.iter().flat_map(Bucket::slots) {
            if let Some(node) = Node::from_word(slot.node.load(Relaxed)) {
                visit(slot.tag(), node);
            }
        }
    }

    /// Puts right what a writer left that was stopped midway: of a name that came, its tag; of one that went, its tag and
    /// a reach that is too long. Returns the number of names. Free slots have rested only after a grace period.
    pub fn tidy(&self) -> usize {
        let mut names = 0;
        let mut reaches = vec![0_u8; self.0.len()];
        for (at, bucket) in (0..).zip(self.0.iter()) {
            for slot in bucket.slots() {
                if slot.is_free() {
                    // Only what differs, so that nothing of an empty table is written.
                    if slot.tag() != NameTag::default() {
                        slot.set_tag(&NameTag::default());
                    }
                    continue;
                }
                names += 1;
                let home = slot.tag().home(self.len());
                let distance = if at < home { at + self.len() - home } else { at - home };
                if let Some(reach) = reaches.get_mut(home as usize) {
                    *reach = (*reach).max(u8::try_from(distance).unwrap_or(u8::MAX));
                }
            }
        }
        for (bucket, reach) in self.0.iter().zip(reaches) {
            let reach = u32::from(reach);
            // Only what differs, so that other CPUs keep the line.
            if bucket.reach.load(Relaxed) != reach {
                bucket.reach.store(reach, Relaxed);
            }
        }
        names
    }

    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    /// A name's slot, and how far from its home it is.
    fn find(&self, tag: &NameTag) -> Option<(u32, Slot<'_>)> {
        let reach = self.bucket(tag, 0)?.reach.load(Acquire);
        self.along(tag, reach.min(MAX_REACH)).find(|(_, slot)| slot.tag() == *tag && !slot.is_free())
    }

    /// The slots from a name's home on, up to so many buckets further.
    fn along(&self, tag: &NameTag, reach: u32) -> impl Iterator<Item = (u32, Slot<'_>)> {
        let buckets = (0..=reach.min(self.len().saturating_sub(1))).map_while(|on| Some((on, self.bucket(tag, on)?)));
        buckets.flat_map(|(on, bucket)| bucket.slots().map(move |slot| (on, slot)))
    }

    /// The bucket so many after a name's home.
    fn bucket(&self, tag: &NameTag, on: u32) -> Option<&Bucket> {
        let at = u64::from(tag.home(self.len())) + u64::from(on);
        let len = self.0.len() as u64;
        self.0.get(if at < len { at } else { at - len } as usize)
    }
}

impl Bucket {
    fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        self.nodes.iter().zip(&self.tags).map(|(node, tag)| Slot { node, tag })
    }
}

#[derive(Clone, Copy)]
struct Slot<'a> {
    node: &'a AtomicU64,
    tag: &'a [AtomicU32; 3],
}

impl Slot<'_> {
    fn is_free(&self) -> bool {
        self.node.load(Relaxed) == 0
    }

    fn tag(&self) -> NameTag {
        NameTag { lanes: self.tag.each_ref().map(|lane| lane.load(Acquire)) }
    }

    fn set_tag(&self, tag: &NameTag) {
        self.tag.iter().zip(tag.lanes).for_each(|(to, lane)| to.store(lane, Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn table(buckets: usize) -> Buckets<Vec<Bucket>> {
        Buckets((0..buckets).map(|_| Bucket::default()).collect())
    }

    /// A tag whose home is `home` of `buckets`.
    fn tag(home: u32, number: u32, buckets: u32) -> NameTag {
        let lane = (u64::from(home) << 32).div_ceil(u64::from(buckets)) as u32;
        NameTag { lanes: [number, !number, lane] }
    }

    fn node(number: u32) -> Node {
        Node { at: number >> 1, below: number }
    }

    fn content(table: &Buckets<Vec<Bucket>>) -> HashMap<NameTag, Node> {
        let mut found = HashMap::new();
        table.for_each(|tag, node| assert_eq!(found.insert(tag, node), None, "twice in the table"));
        found
    }

    impl Bucket {
        fn set_slot(&self, at: usize, tag: &NameTag, node: u64) {
            self.nodes[at].store(node, Relaxed);
            self.slots().nth(at).unwrap().set_tag(tag);
        }
    }

    #[derive(Clone, Debug)]
    enum Change {
        Set(u32, u32),
        Delete(u32),
        Tidy,
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            6 => (0..60_u32, any::<u32>()).prop_map(|(name, node)| Change::Set(name, node >> 1)),
            4 => (0..60_u32).prop_map(Change::Delete),
            1 => Just(Change::Tidy),
        ]
    }

    proptest! {
        /// Few homes for many names, so that most lie elsewhere, around the end of the table, too.
        #[test]
        fn it_holds_what_a_hash_map_holds(
            homes in prop::collection::vec(prop_oneof![Just(6_u32), 0..7_u32], 60),
            changes in prop::collection::vec(change(), 1..150),
        ) {
            const BUCKETS: u32 = 7;
            let table = table(BUCKETS as usize);
            let tag_of = |name: u32| tag(homes[name as usize], name, BUCKETS);
            let mut expected = HashMap::new();
            for change in changes {
                match change {
                    Change::Set(name, value) => {
                        let (tag, node) = (tag_of(name), node(value));
                        let is_there = expected.contains_key(&tag);
                        prop_assert_eq!(table.update(&tag, node), is_there);
                        let full = !is_there && expected.len() == 3 * BUCKETS as usize;
                        if !is_there {
                            prop_assert_eq!(table.insert(&tag, node), if full { Err(Full) } else { Ok(()) });
                        }
                        if !full {
                            expected.insert(tag, node);
                        }
                    }
                    Change::Delete(name) => {
                        let tag = tag_of(name);
                        prop_assert_eq!(table.delete(&tag), expected.remove(&tag).is_some());
                    }
                    Change::Tidy => prop_assert_eq!(table.tidy(), expected.len()),
                }
            }
            for name in 0..60 {
                let tag = tag_of(name);
                prop_assert_eq!(table.get(&tag), expected.get(&tag).copied());
            }
            prop_assert_eq!(&content(&table), &expected);
            let reaches = || (0..BUCKETS as usize).map(|bucket| reach(&table, bucket)).collect::<Vec<_>>();
            let before = reaches();
            table.tidy();
            prop_assert_eq!(before, reaches(), "each reaches just as far as its names lie");
        }
    }

    #[test]
    fn a_table_of_its_capacity_has_room_for_every_name() {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 32) as u32
        };
        for capacity in [1, 2, 5, 64, 1000, 100_000] {
            let table = table(buckets(capacity) as usize);
            assert!(names(buckets(capacity)) >= capacity);
            for number in 0..names(buckets(capacity)) {
                let tag = NameTag { lanes: [next(), next(), next()] };
                assert_eq!(table.insert(&tag, node(number)), Ok(()), "{number} of {capacity}");
            }
        }
    }

    fn reach(table: &Buckets<Vec<Bucket>>, bucket: usize) -> u32 {
        table.0[bucket].reach.load(Relaxed)
    }

    #[test]
    fn a_home_reaches_as_far_as_its_names_lie() {
        let table = table(8);
        // Nine fill the home and two more; then come one of its own, one of the next home, and one more.
        for number in 0..9 {
            table.insert(&tag(3, number, 8), node(number)).unwrap();
        }
        let others = [tag(3, 9, 8), tag(4, 10, 8), tag(3, 11, 8)];
        for (number, other) in (9..).zip(&others) {
            table.insert(other, node(number)).unwrap();
        }
        assert_eq!((reach(&table, 3), reach(&table, 4)), (3, 2));
        assert!(table.delete(&others[0]));
        assert_eq!((reach(&table, 3), reach(&table, 4)), (3, 2), "one of its names is there yet");
        assert!(table.delete(&others[2]));
        assert_eq!((reach(&table, 3), reach(&table, 4)), (2, 2));
        assert!(table.delete(&tag(3, 0, 8)));
        assert_eq!(reach(&table, 3), 2);
        for number in 1..9 {
            assert_eq!(table.get(&tag(3, number, 8)), Some(node(number)));
            assert!(table.delete(&tag(3, number, 8)));
        }
        assert_eq!((reach(&table, 3), reach(&table, 4)), (0, 2));
        assert_eq!(table.get(&others[1]), Some(node(10)));
        assert!(table.delete(&others[1]));
        assert_eq!(reach(&table, 4), 0);
    }

    #[test]
    fn what_a_writer_left_midway_is_put_right() {
        let table = table(8);
        let [one, two] = [tag(3, 9, 8), tag(3, 10, 8)];
        for number in 0..9 {
            table.insert(&tag(3, number, 8), node(number)).unwrap();
        }
        table.insert(&one, node(1)).unwrap();
        // One that came, before its node was there; its home reaches further already.
        table.0[6].set_slot(1, &two, 0);
        table.0[5].reach.store(1, Relaxed);
        // One that went, before its tag was gone.
        table.0[3].set_slot(2, &tag(3, 2, 8), 0);
        // The last of a home that went, before its home was drawn in.
        table.0[6].set_slot(0, &NameTag::default(), 0);
        assert_eq!(table.tidy(), 8);
        assert_eq!((reach(&table, 3), reach(&table, 5)), (2, 0));
        let tags = |bucket: usize| table.0[bucket].slots().map(|slot| slot.tag()).collect::<Vec<_>>();
        assert_eq!(tags(6), [NameTag::default(); 3]);
        assert_eq!(tags(3), [tag(3, 0, 8), tag(3, 1, 8), NameTag::default()]);
        assert_eq!((table.get(&one), table.get(&tag(3, 2, 8))), (None, None));
        assert_eq!(content(&table).len(), 8);
    }

    #[test]
    fn a_node_of_no_policies_is_a_node() {
        let none = Node { at: 0, below: 0 };
        assert_ne!(none.to_word(), 0);
        for node in [none, Node { at: 1, below: 0 }, Node { at: (1 << 31) - 1, below: (1 << 31) - 1 }] {
            assert_eq!(Node::from_word(node.to_word()), Some(node));
        }
        assert_eq!(Node::from_word(0), None);
    }
}
