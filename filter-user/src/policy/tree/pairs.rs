//! What the tables hold for nodes: very many nodes have one of few pairs of policies, so each keeps its pair's number.

use std::collections::HashMap;

use filter_common::layout::Node;

/// The pairs that some node has.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// By number less one: the pair, and how many nodes have it.
    pairs: Vec<(Node, u32)>,
    numbers: HashMap<(u32, u32), u32>,
    free: Vec<u32>,
    /// The number that was asked for last.
    last: u32,
}

impl Pairs {
    /// The number of a node that the tables do not hold.
    pub(super) const NONE: u32 = 0;

    pub(super) fn get(&self, number: u32) -> Option<Node> {
        Some(self.pairs.get(number.checked_sub(1)? as usize)?.0)
    }

    /// The number of a pair, which one node more has now.
    pub(super) fn hold(&mut self, node: Option<Node>) -> u32 {
        let Some(node) = node else { return Self::NONE };
        let number = if self.get(self.last) == Some(node) { self.last } else { self.number(node) };
        self.last = number;
        if let Some((_, nodes)) = self.pairs.get_mut(number as usize - 1) {
            *nodes += 1;
        }
        number
    }

    /// One node less has this pair.
    pub(super) fn drop(&mut self, number: u32) {
        let Some((node, nodes)) = number.checked_sub(1).and_then(|at| self.pairs.get_mut(at as usize)) else { return };
        *nodes -= 1;
        if *nodes == 0 {
            self.numbers.remove(&(node.at, node.below));
            self.free.push(number);
            if self.last == number {
                self.last = Self::NONE;
            }
        }
    }

    fn number(&mut self, node: Node) -> u32 {
        let Self { pairs, numbers, free, .. } = self;
        *numbers.entry((node.at, node.below)).or_insert_with(|| match free.pop() {
            Some(number) => {
                pairs[number as usize - 1] = (node, 0);
                number
            }
            None => {
                pairs.push((node, 0));
                pairs.len() as u32
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_again_when_no_node_has_its_pair() {
        let mut pairs = Pairs::default();
        let node = |at| Some(Node { at, below: 7 });
        assert_eq!(pairs.hold(None), Pairs::NONE);
        assert_eq!(pairs.get(Pairs::NONE), None);
        let (first, second) = (pairs.hold(node(1)), pairs.hold(node(2)));
        assert_eq!((pairs.hold(node(1)), pairs.get(first), pairs.get(second)), (first, node(1), node(2)));
        pairs.drop(first);
        assert_eq!(pairs.get(first), node(1), "one node has it still");
        pairs.drop(first);
        assert_eq!(pairs.hold(node(3)), first);
        assert_eq!((pairs.get(first), pairs.hold(node(2))), (node(3), second));
        let third = pairs.hold(node(1));
        assert!(third != first && third != second && pairs.get(third) == node(1));
        pairs.drop(Pairs::NONE);
    }
}
