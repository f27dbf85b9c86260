//! The order in which the gradients of a batch are added: a binary tree over its lanes.
//!
//! Promises: the sum of some lanes is made of the same additions in the same order however the
//! lanes are spread over threads and ranks. A rank that has consecutive lanes adds up the
//! [nodes](nodes) of the tree that lie within them; whoever has the nodes of all ranks adds these
//! up along the rest of the tree.

use std::ops::Range;

/// The lanes of `rank`, one of `ranks`: consecutive, and as many as any other's, or one less.
pub(crate) fn lanes_of(rank: usize, ranks: usize, lanes: usize) -> Range<usize> {
    rank * lanes / ranks..(rank + 1) * lanes / ranks
}

/// Where the lanes of a node part: the left side is the larger power of two.
fn middle(node: &Range<usize>) -> usize {
    node.start + node.len().next_power_of_two() / 2
}

/// The largest nodes of the tree over `lanes` lanes that lie within `own`, from left to right.
pub(crate) fn nodes(lanes: usize, own: &Range<usize>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let whole = 0..lanes;
    let mut open = vec![whole];
    while let Some(node) = open.pop() {
        if node.start >= own.end || node.end <= own.start || node.is_empty() {
            continue;
        }
        if own.start <= node.start && node.end <= own.end {
            found.push(node);
            continue;
        }
        let middle = middle(&node);
        // The left side is looked at first: it goes on top.
        open.push(middle..node.end);
        open.push(node.start..middle);
    }
    found
}

/// Adds up `terms`, whose keys are nodes of the tree that cover `node` without gaps, in the order
/// of the tree, and gives the sum, which is in the place of the first term.
///
/// # Panics
/// If the keys do not cover `node`.
pub(crate) fn sum<'a, T>(
    node: Range<usize>,
    terms: &mut Vec<(Range<usize>, &'a mut T)>,
    add: &mut impl FnMut(&mut T, &T),
) -> &'a mut T
where
    T: ?Sized,
{
    if terms.first().is_some_and(|(key, _)| *key == node) {
        return terms.remove(0).1;
    }
    assert!(node.len() > 1, "the nodes do not cover the tree");
    let middle = middle(&node);
    let left = sum(node.start..middle, terms, add);
    let right = sum(middle..node.end, terms, add);
    add(left, right);
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of `lanes` texts as a formula, when `ranks` ranks share the work.
    fn formula(lanes: usize, ranks: usize) -> String {
        let mut add = |a: &mut String, b: &String| *a = format!("({a}+{b})");
        let mut whole = Vec::new();
        for rank in 0..ranks {
            let own = lanes_of(rank, ranks, lanes);
            let mut leaves: Vec<String> = own.clone().map(|lane| lane.to_string()).collect();
            for node in nodes(lanes, &own) {
                let inside = &mut leaves[node.start - own.start..node.end - own.start];
                let mut terms = node
                    .clone()
                    .zip(inside)
                    .map(|(lane, leaf)| (lane..lane + 1, leaf))
                    .collect();
                whole.push((node.clone(), sum(node, &mut terms, &mut add).clone()));
            }
        }
        let mut terms = whole
            .iter_mut()
            .map(|(node, text)| (node.clone(), text))
            .collect();
        sum(0..lanes, &mut terms, &mut add).clone()
    }

    #[test]
    fn the_formula_depends_on_lanes_alone() {
        assert_eq!(formula(1, 1), "0");
        assert_eq!(formula(4, 1), "((0+1)+(2+3))");
        assert_eq!(formula(6, 1), "(((0+1)+(2+3))+(4+5))");
        for lanes in 1..=17 {
            for ranks in 1..=lanes {
                assert_eq!(formula(lanes, ranks), formula(lanes, 1), "{ranks} ranks");
            }
        }
    }

    #[test]
    fn lanes_are_spread_evenly() {
        let shares: Vec<_> = (0..3).map(|rank| lanes_of(rank, 3, 8)).collect();
        assert_eq!(shares, [0..2, 2..5, 5..8]);
    }
}
