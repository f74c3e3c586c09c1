//! The rule tree: a node for every name that an order or the allow list speaks of, and for each of its parents.
//!
//! Nodes lie in one vector and refer to each other by index, so that an order keeps its names as indices (4 octets a
//! name), a parent is one step away, and what lies below a name is a walk over children. Labels lie end to end in one
//! buffer. What very many nodes have alike, their rules and what the tables hold for them, is a number in each. A node
//! costs some 32 octets, 5 to 10 for finding it by its label, and the label.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
    ops::{Deref, Index, IndexMut, Range},
};

use filter_common::layout::Node;
use hashbrown::HashTable;

use self::pairs::Pairs;
use crate::name::Name;

mod many;
mod pairs;

pub(super) type NodeId = u32;

pub(super) const ROOT: NodeId = 0;

/// No node.
pub(super) const NIL: NodeId = u32::MAX;

/// An order, as the tree knows it: 29 bits.
pub(super) type Handle = u32;

/// The operator's allow list, in the place of an order.
pub(super) const ALLOW: Handle = (1 << 29) - 1;

/// What a rule does at its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Exact,
    Subtree,
    Below,
    Except,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub order: Handle,
    pub kind: Kind,
}

/// The rules of one node, in no order: nearly always none or one.
#[derive(Debug)]
pub(super) enum Rules<'a> {
    One([Rule; 1]),
    Many(&'a [Rule]),
}

impl Deref for Rules<'_> {
    type Target = [Rule];

    fn deref(&self) -> &[Rule] {
        match self {
            Self::One(rule) => rule,
            Self::Many(rules) => rules,
        }
    }
}

/// The same in a node: a rule, or the place of several in [`Tree::many`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed(u32);

impl Packed {
    const NONE: Self = Self(u32::MAX);

    const MANY: u32 = 1 << 31;

    const fn one(rule: Rule) -> Self {
        Self(rule.order << 2 | rule.kind as u32)
    }

    const fn many(place: usize) -> Self {
        Self(Self::MANY | place as u32)
    }

    fn unpack(self) -> Unpacked {
        if self == Self::NONE {
            return Unpacked::None;
        }
        if self.0 & Self::MANY != 0 {
            return Unpacked::Many((self.0 & !Self::MANY) as usize);
        }
        let kind = [Kind::Exact, Kind::Subtree, Kind::Below, Kind::Except][(self.0 & 3) as usize];
        Unpacked::One(Rule { order: self.0 >> 2, kind })
    }
}

enum Unpacked {
    None,
    One(Rule),
    Many(usize),
}

#[derive(Debug)]
pub(super) struct TreeNode {
    pub parent: NodeId,
    /// First child, or [`NIL`].
    pub child: NodeId,
    /// Next sibling, or [`NIL`].
    pub next: NodeId,
    previous: NodeId,
    label: u32,
    rules: Packed,
    /// What the tables hold for this name: a number of [`Tree::pairs`].
    published: u32,
    label_len: u8,
    /// Number of labels.
    pub depth: u8,
    /// [`DIRTY`] | [`DIRTY_BELOW`] | [`TOUCHED`] | [`KEPT`].
    pub flags: u8,
}

/// Must be compiled anew.
pub(super) const DIRTY: u8 = 1;
/// So must everything below it.
pub(super) const DIRTY_BELOW: u8 = 2;
/// Its former content is noted in the commit under way.
pub(super) const TOUCHED: u8 = 4;
/// Is among the new names while an order is replaced.
pub(super) const KEPT: u8 = 8;

#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<TreeNode>,
    free: Vec<NodeId>,
    labels: String,
    /// Octets of `labels` that no node uses.
    garbage: usize,
    children: HashTable<NodeId>,
    /// Rules of the nodes that have several.
    many: Vec<Vec<Rule>>,
    /// Places in `many` that no node uses.
    free_many: Vec<usize>,
    pairs: Pairs,
    hasher: RandomState,
    /// How many holes of an order (its exceptions, and the allow list's names) lie strictly below a node.
    holes: HashMap<NodeId, HashMap<Handle, u32>>,
}

impl Tree {
    pub fn new() -> Self {
        let root = TreeNode {
            parent: NIL,
            child: NIL,
            next: NIL,
            previous: NIL,
            label: 0,
            rules: Packed::NONE,
            published: Pairs::NONE,
            label_len: 0,
            depth: 0,
            flags: 0,
        };
        Self {
            nodes: vec![root],
            free: Vec::new(),
            labels: String::new(),
            garbage: 0,
            children: HashTable::new(),
            many: Vec::new(),
            free_many: Vec::new(),
            pairs: Pairs::default(),
            hasher: RandomState::new(),
            holes: HashMap::new(),
        }
    }

    /// Makes room for this many new nodes. Tells whether names of so many octets in all can be held at all: indices
    /// have 32 bits.
    pub fn reserve(&mut self, nodes: usize, octets: usize) -> bool {
        let limit = NIL as usize - 1;
        if self.labels.len().saturating_add(octets) > limit || self.nodes.len().saturating_add(octets) > limit {
            return false;
        }
        let new = nodes.saturating_sub(self.free.len());
        if new > self.nodes.len() / 2 {
            self.nodes.reserve_exact(new);
            let Self { nodes, labels, children, hasher, .. } = self;
            children.reserve(new, |&id| rehash(hasher, nodes, labels, id));
        }
        true
    }

    pub fn find(&self, name: &Name) -> Option<NodeId> {
        name.labels().try_fold(ROOT, |parent, label| self.child(parent, label, hash(&self.hasher, parent, label)))
    }

    /// The node of a name, which is made if there is none. [`Tree::reserve`] must have allowed it.
    pub fn make(&mut self, name: &Name) -> NodeId {
        name.labels().fold(ROOT, |parent, label| self.child_or_new(parent, label, hash(&self.hasher, parent, label)))
    }

    pub fn name(&self, id: NodeId) -> Name {
        let path = || std::iter::successors(Some(id), |id| Some(self[*id].parent)).take_while(|id| *id != ROOT);
        let octets: usize = path().map(|id| usize::from(self[id].label_len) + 1).sum();
        let mut text = String::with_capacity(octets.saturating_sub(1));
        for id in path() {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(label(&self.labels, &self[id]));
        }
        Name::from_canonical(text)
    }

    /// Things that have to do with a node, in their order, by the number of its labels.
    pub fn by_depth<T>(&self, things: impl IntoIterator<Item = T>, id: impl Fn(&T) -> NodeId) -> Vec<Vec<T>> {
        let mut depths = Vec::new();
        for thing in things {
            let depth = usize::from(self[id(&thing)].depth);
            if depth >= depths.len() {
                depths.resize_with(depth + 1, Vec::new);
            }
            depths[depth].push(thing);
        }
        depths
    }

    /// All nodes that are in use, and some that are not.
    pub fn ids(&self) -> Range<NodeId> {
        0..self.nodes.len() as NodeId
    }

    /// What the tables hold for the name of a node.
    pub fn published(&self, id: NodeId) -> Option<Node> {
        self.pairs.get(self[id].published)
    }

    pub fn set_published(&mut self, id: NodeId, node: Option<Node>) {
        let number = self.pairs.hold(node);
        let before = std::mem::replace(&mut self[id].published, number);
        self.pairs.drop(before);
    }

    pub fn rules(&self, id: NodeId) -> Rules<'_> {
        match self[id].rules.unpack() {
            Unpacked::None => Rules::Many(&[]),
            Unpacked::One(rule) => Rules::One([rule]),
            Unpacked::Many(place) => Rules::Many(&self.many[place]),
        }
    }

    pub fn has(&self, id: NodeId, rule: Rule) -> bool {
        self.rules(id).contains(&rule)
    }

    /// Tells whether the rule is new here.
    pub fn insert(&mut self, id: NodeId, rule: Rule) -> bool {
        if self.has(id, rule) {
            return false;
        }
        match self[id].rules.unpack() {
            Unpacked::None => self[id].rules = Packed::one(rule),
            Unpacked::One(first) => {
                let place = self.free_many.pop().unwrap_or_else(|| {
                    self.many.push(Vec::new());
                    self.many.len() - 1
                });
                self.many[place] = vec![first, rule];
                self[id].rules = Packed::many(place);
            }
            Unpacked::Many(place) => self.many[place].push(rule),
        }
        true
    }

    /// Tells whether the rule was here.
    pub fn remove(&mut self, id: NodeId, rule: Rule) -> bool {
        if !self.has(id, rule) {
            return false;
        }
        if let Unpacked::Many(place) = self[id].rules.unpack() {
            self.many[place].retain(|it| *it != rule);
            if let [last] = *self.many[place] {
                self.many[place] = Vec::new();
                self.free_many.push(place);
                self[id].rules = Packed::one(last);
            }
        } else {
            self[id].rules = Packed::NONE;
        }
        true
    }

    /// Counts one hole of an order more below `id`. Tells whether it is the first.
    pub fn dig(&mut self, id: NodeId, order: Handle) -> bool {
        let count = self.holes.entry(id).or_default().entry(order).or_default();
        *count += 1;
        *count == 1
    }

    /// Counts one hole of an order less below `id`. Tells whether it was the last.
    pub fn fill(&mut self, id: NodeId, order: Handle) -> bool {
        let Some(holes) = self.holes.get_mut(&id) else { return false };
        let Some(count) = holes.get_mut(&order) else { return false };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        holes.remove(&order);
        if holes.is_empty() {
            self.holes.remove(&id);
        }
        true
    }

    /// Whether a hole of this order, or of the allow list, lies below `id`.
    pub fn has_hole_below(&self, id: NodeId, order: Handle) -> bool {
        self.holes.get(&id).is_some_and(|holes| holes.contains_key(&order) || holes.contains_key(&ALLOW))
    }

    /// Forgets a node that has no rules, no children and no place in the tables, and its parents likewise.
    pub fn prune(&mut self, mut id: NodeId) {
        while id != ROOT {
            let node = &self[id];
            // A node that was forgotten before has become its own parent.
            let idle = node.child == NIL && node.published == Pairs::NONE && node.rules == Packed::NONE;
            if !idle || node.parent == id {
                break;
            }
            let parent = node.parent;
            self.forget(id);
            id = parent;
        }
        if self.garbage > MIN_GARBAGE && self.garbage > self.labels.len() / 2 {
            self.compact();
        }
    }

    fn child_or_new(&mut self, parent: NodeId, label: &str, hash: u64) -> NodeId {
        self.child(parent, label, hash).unwrap_or_else(|| self.add(parent, label, hash))
    }

    fn child(&self, parent: NodeId, name: &str, hash: u64) -> Option<NodeId> {
        let same = |&id: &NodeId| self[id].parent == parent && label(&self.labels, &self[id]) == name;
        self.children.find(hash, same).copied()
    }

    fn add(&mut self, parent: NodeId, name: &str, hash: u64) -> NodeId {
        let next = self[parent].child;
        let node = TreeNode {
            parent,
            child: NIL,
            next,
            previous: NIL,
            label: self.labels.len() as u32,
            rules: Packed::NONE,
            published: Pairs::NONE,
            label_len: name.len() as u8,
            depth: self[parent].depth + 1,
            flags: 0,
        };
        self.labels.push_str(name);
        let id = match self.free.pop() {
            Some(id) => {
                self[id] = node;
                id
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as NodeId - 1
            }
        };
        self[parent].child = id;
        if next != NIL {
            self[next].previous = id;
        }
        let Self { nodes, labels, children, hasher, .. } = self;
        children.insert_unique(hash, id, |&id| rehash(hasher, nodes, labels, id));
        id
    }

    fn forget(&mut self, id: NodeId) {
        let node = &self[id];
        let (parent, next, previous) = (node.parent, node.next, node.previous);
        let place = hash(&self.hasher, parent, label(&self.labels, node));
        self.garbage += usize::from(node.label_len);
        if next != NIL {
            self[next].previous = previous;
        }
        if previous == NIL {
            self[parent].child = next
        } else {
            self[previous].next = next
        }
        if let Ok(entry) = self.children.find_entry(place, |&it| it == id) {
            entry.remove();
        }
        self[id].parent = id;
        self[id].label_len = 0;
        self.free.push(id);
    }

    fn compact(&mut self) {
        let mut labels = String::with_capacity(self.labels.len() - self.garbage);
        for node in &mut self.nodes {
            let start = labels.len() as u32;
            labels.push_str(label(&self.labels, node));
            node.label = start;
        }
        self.labels = labels;
        self.garbage = 0;
    }
}

impl Index<NodeId> for Tree {
    type Output = TreeNode;

    fn index(&self, id: NodeId) -> &TreeNode {
        &self.nodes[id as usize]
    }
}

impl IndexMut<NodeId> for Tree {
    fn index_mut(&mut self, id: NodeId) -> &mut TreeNode {
        &mut self.nodes[id as usize]
    }
}

fn label<'a>(labels: &'a str, node: &TreeNode) -> &'a str {
    &labels[node.label as usize..][..usize::from(node.label_len)]
}

/// Keyed, so that nobody can choose names that fall together.
fn hash(hasher: &RandomState, parent: NodeId, label: &str) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write_u32(parent);
    hasher.write(label.as_bytes());
    hasher.finish()
}

fn rehash(hasher: &RandomState, nodes: &[TreeNode], labels: &str, id: NodeId) -> u64 {
    let node = &nodes[id as usize];
    hash(hasher, node.parent, label(labels, node))
}

/// Below this, unused labels are not worth the copying.
const MIN_GARBAGE: usize = 1 << 16;

const _: () = assert!(size_of::<TreeNode>() == 32);
