//! From the names of a zone to the names of orders.
//!
//! `*.x` stands for the names below x that no other name of the zone is closer to (RFC 4592 3.3.1): not for names of
//! the zone, those without records included, and not for what lies below them. An order has one action and one reach,
//! so a zone becomes several: for each action the names alone (`x`), the names with all below (`x` and `*.x`), and
//! what is below (`*.x`). What a wildcard does not stand for are exceptions.
//!
//! In an order the longer of rule and exception wins, and of equals the exception. So a wildcard whose owner lies
//! right below another one of its kind, which needs that name as an exception, goes into an order beside.

use std::collections::{BTreeMap, HashMap};

use super::{
    owner,
    rows::{Owner, Rows, Stop},
};
use crate::name::Name;

/// How the names of a part reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    Exact,
    Subtree,
    Below,
    /// As below, for those right below one of these.
    BelowBelow,
}

/// The names of one part.
#[derive(Default)]
pub(super) struct Names {
    pub names: Vec<Name>,
    pub except: Vec<Name>,
}

/// The parts of a zone, in the order in which the zone first has their actions.
#[derive(Default)]
pub(super) struct Rules {
    stops: Vec<Stop>,
    numbers: HashMap<Stop, usize>,
    parts: BTreeMap<(usize, Shape), Names>,
}

/// A wildcard above, by whose part exceptions are needed.
type Above = Option<(usize, Shape)>;

struct Walk<'a, T> {
    rows: &'a Rows,
    rules: Rules,
    /// Told of a wildcard that cannot be enforced: its line, its key and why.
    tell: T,
}

impl Rules {
    /// `owners` are those of `rows`, sorted.
    pub(super) fn new(rows: &Rows, owners: &[Owner], tell: impl FnMut(u32, &[u8], String)) -> Self {
        let mut walk = Walk { rows, rules: Self::default(), tell };
        if !owners.is_empty() {
            walk.node(owners, 0, None);
        }
        walk.rules
    }

    /// Each part: what is done, how its names reach, and the names.
    pub(super) fn into_parts(self) -> impl Iterator<Item = (Stop, Shape, Names)> {
        let Self { stops, parts, .. } = self;
        parts.into_iter().filter_map(move |((stop, shape), names)| Some((*stops.get(stop)?, shape, names)))
    }

    fn stop(&mut self, stop: Stop) -> usize {
        *self.numbers.entry(stop).or_insert_with(|| {
            self.stops.push(stop);
            self.stops.len() - 1
        })
    }

    fn part(&mut self, stop: usize, shape: Shape) -> &mut Names {
        self.parts.entry((stop, shape)).or_default()
    }
}

impl<T: FnMut(u32, &[u8], String)> Walk<'_, T> {
    /// One node of the zone's tree: `owners` are those at and below it, whose keys share the first `depth` octets.
    fn node(&mut self, owners: &[Owner], depth: usize, above: Above) {
        let rows = self.rows;
        let (at, below) = self.split(owners, depth);
        let wildcard = self.wildcard(below, depth);
        let at = at.and_then(|owner| owner.stop).map(|stop| self.rules.stop(stop));
        let wild = wildcard.and_then(|owner| owner.stop).map(|stop| self.rules.stop(stop));
        let wild = wild.filter(|stop| match self.unfit_child(below, depth, *stop) {
            None => true,
            Some(child) => {
                let (line, key) = (wildcard.map_or(0, |owner| owner.line), wildcard.map(|owner| rows.key(owner)));
                let why = format!(
                    "the zone has {}, too, which is no host name: it could not be left out, so the wildcard is not taken",
                    owner::text(&child)
                );
                (self.tell)(line, key.unwrap_or_default(), why);
                false
            }
        });
        let name = owners.first().and_then(|owner| owner::host(rows.key(owner).get(..depth).unwrap_or_default()));
        let own = wild.map(|wild| {
            let shape = match above {
                _ if at == Some(wild) => Shape::Subtree,
                Some((stop, Shape::Below)) if stop == wild => Shape::BelowBelow,
                _ => Shape::Below,
            };
            (wild, shape)
        });
        if let Some(name) = name {
            if let Some((stop, shape)) =
                above.filter(|(stop, shape)| own != Some((*stop, *shape)) || *shape != Shape::Subtree)
            {
                self.rules.part(stop, shape).except.push(name.clone());
            }
            match (at, own) {
                (_, Some((stop, Shape::Subtree))) => self.rules.part(stop, Shape::Subtree).names.push(name),
                (Some(at), Some((stop, shape))) => {
                    self.rules.part(at, Shape::Exact).names.push(name.clone());
                    self.rules.part(stop, shape).names.push(name);
                }
                (Some(at), None) => self.rules.part(at, Shape::Exact).names.push(name),
                (None, Some((stop, shape))) => self.rules.part(stop, shape).names.push(name),
                (None, None) => {}
            }
        }
        for child in children(rows, below, depth) {
            let length = depth + child_label(rows, child, depth).len();
            if child_label(rows, child, depth) != owner::WILDCARD {
                self.node(child, length, own);
            }
        }
    }

    /// The node's own records, and what lies below it.
    fn split<'o>(&self, owners: &'o [Owner], depth: usize) -> (Option<&'o Owner>, &'o [Owner]) {
        match owners.split_first() {
            Some((first, below)) if self.rows.key(first).len() == depth => (Some(first), below),
            _ => (None, owners),
        }
    }

    /// The owner that is the wildcard right below a node.
    fn wildcard<'o>(&self, below: &'o [Owner], depth: usize) -> Option<&'o Owner> {
        let rest = |owner: &Owner| self.rows.key(owner).get(depth..).unwrap_or_default();
        let at = below.partition_point(|owner| rest(owner) < owner::WILDCARD);
        below.get(at).filter(|owner| rest(owner) == owner::WILDCARD)
    }

    /// A name right below a node that cannot be an exception, though not all at and below it is stopped alike.
    fn unfit_child(&self, below: &[Owner], depth: usize, stop: usize) -> Option<Vec<u8>> {
        children(self.rows, below, depth).find_map(|child| {
            let label = child_label(self.rows, child, depth);
            let key = self.rows.key(child.first()?).get(..depth + label.len())?;
            let fits = label == owner::WILDCARD || owner::host(key).is_some() || self.is_all(child, key.len(), stop);
            (!fits).then(|| key.to_vec())
        })
    }

    /// Whether all at and below a node is stopped like this.
    fn is_all(&self, owners: &[Owner], depth: usize, stop: usize) -> bool {
        let (at, below) = self.split(owners, depth);
        let stops = |owner: Option<&Owner>| owner.and_then(|owner| owner.stop).as_ref() == self.rules.stops.get(stop);
        stops(at)
            && stops(self.wildcard(below, depth))
            && children(self.rows, below, depth).all(|child| {
                let label = child_label(self.rows, child, depth);
                label == owner::WILDCARD || self.is_all(child, depth + label.len(), stop)
            })
    }
}

/// What lies below a node, by its children.
fn children<'o>(rows: &'o Rows, below: &'o [Owner], depth: usize) -> impl Iterator<Item = &'o [Owner]> {
    let label = move |owner: &Owner| owner::first(rows.key(owner).get(depth..).unwrap_or_default());
    below.chunk_by(move |one, other| label(one) == label(other))
}

/// The label of a child with its length.
fn child_label<'o>(rows: &'o Rows, child: &[Owner], depth: usize) -> &'o [u8] {
    let key = child.first().map(|owner| rows.key(owner)).unwrap_or_default();
    owner::first(key.get(depth..).unwrap_or_default())
}
