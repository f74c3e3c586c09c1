//! Names on which too much hangs: the shipped list, and the operator's.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use hashbrown::HashMap;
use thiserror::Error;

use crate::{name::Name, order::Match};

/// A set of protected names, each with the reason.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Protected {
    entries: Vec<Entry>,
    /// The entries' names and all names above them.
    nodes: HashMap<Box<str>, Node>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    name: Name,
    /// What is below it is protected, too.
    subtree: bool,
    why: Arc<str>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Node {
    /// The entry of this very name.
    own: Option<u32>,
    /// Entries below.
    below: Vec<u32>,
}

/// A line of a list that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{why}")]
pub struct ProtectedError {
    /// Line, from 1.
    pub line: usize,
    /// The name.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

static SHIPPED: LazyLock<Protected> = LazyLock::new(|| {
    let mut shipped = Protected::default();
    let wrong = shipped.read(include_str!("protected.txt"));
    debug_assert_eq!(wrong, [], "the shipped list is right");
    shipped
});

impl Protected {
    /// The list that comes with Cordon.
    pub fn shipped() -> Self {
        SHIPPED.clone()
    }

    /// Adds a list: a name a line, with everything below it if a dot stands in front, then the reason; `#` begins a
    /// remark. Gives the lines that are none of this.
    pub fn read(&mut self, list: &str) -> Vec<ProtectedError> {
        let mut wrong = Vec::new();
        for (line, text) in (1..).zip(list.lines()) {
            let text = text.split('#').next().unwrap_or_default().trim();
            if text.is_empty() {
                continue;
            }
            let (name, why) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
            let (name, subtree) = name.strip_prefix('.').map_or((name, false), |name| (name, true));
            match Name::parse(name) {
                Ok(name) => self.add(name, subtree, why.trim()),
                Err(error) => wrong.push(ProtectedError { line, text: name.to_owned(), why: error.to_string() }),
            }
        }
        wrong
    }

    /// Adds a name. If it is there already it is protected as far as either says, for the later reason.
    pub fn add(&mut self, name: Name, subtree: bool, why: &str) {
        let number = self.entries.len() as u32;
        let own = &mut self.nodes.entry(name.as_str().into()).or_default().own;
        if let Some(known) = own.and_then(|known| self.entries.get_mut(known as usize)) {
            known.subtree |= subtree;
            known.why = why.into();
            return;
        }
        *own = Some(number);
        for above in name.suffixes().skip(1) {
            self.nodes.entry(above.as_str().into()).or_default().below.push(number);
        }
        self.entries.push(Entry { name, subtree, why: why.into() });
    }

    /// Adds the names of another list.
    pub fn extend(&mut self, other: &Self) {
        other.entries.iter().for_each(|entry| self.add(entry.name.clone(), entry.subtree, &entry.why));
    }

    /// The entries that a rule would stop, or parts of them.
    pub(super) fn stopped(&self, name: &Name, reach: Match, except: &BTreeSet<Name>) -> Vec<u32> {
        let mut stopped = Vec::new();
        let text = name.as_str();
        for (dot, _) in text.match_indices('.') {
            let Some(own) = self.nodes.get(&text[dot + 1..]).and_then(|above| above.own) else { continue };
            if self.entries.get(own as usize).is_some_and(|entry| entry.subtree) && !is_left_out(name, except) {
                stopped.push(own);
            }
        }
        let Some(node) = self.nodes.get(text) else { return stopped };
        if let Some(own) = node.own {
            let below_only = reach == Match::Below && !self.entries.get(own as usize).is_some_and(|own| own.subtree);
            if !below_only && !is_left_out(name, except) {
                stopped.push(own);
            }
        }
        if reach != Match::Exact {
            let entry = |number: &u32| self.entries.get(*number as usize);
            let is_stopped = |number: &&u32| entry(number).is_some_and(|entry| !is_left_out(&entry.name, except));
            stopped.extend(node.below.iter().filter(is_stopped));
        }
        stopped
    }

    /// What is wrong with a rule that would stop these.
    pub(super) fn told(&self, name: &Name, stopped: &[u32]) -> String {
        let mut entries = stopped.iter().filter_map(|number| self.entries.get(*number as usize));
        let Some(first) = entries.next() else { return String::new() };
        let why = if first.why.is_empty() { String::new() } else { format!(": {}", first.why) };
        let others = match stopped.len() {
            1 => String::new(),
            _ => format!("; it would stop {} protected names in all", stopped.len()),
        };
        if first.name == *name {
            format!("is protected{why}{others}")
        } else if name.is_below(&first.name) {
            format!("is protected with all names below {}{why}{others}", first.name)
        } else {
            format!("reaches over the protected name {}{why}{others}", first.name)
        }
    }
}

/// Whether an order's exceptions leave a name out.
fn is_left_out(name: &Name, except: &BTreeSet<Name>) -> bool {
    !except.is_empty() && name.suffixes().any(|suffix| except.contains(&suffix))
}
