//! Byte-pair merging of one piece of text.
//!
//! Starting from single bytes, the two neighbours whose joined bytes have the
//! lowest rank are joined, the leftmost first among equals, until no joined
//! pair is a token. A piece that is a token as a whole is taken as it is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::ranks::Ranks;

/// No pair here, or none that is a token.
const NO_RANK: u32 = u32::MAX;

/// Up to this length a scan for the lowest rank beats a heap.
const SHORT: usize = 96;

/// Merges pieces, keeping its buffers from one to the next.
pub(super) struct Merger<'a> {
    ranks: &'a Ranks,
    parts: Vec<Part>,
    heap: BinaryHeap<Reverse<(u32, usize)>>,
    links: Vec<Link>,
}

/// A run of bytes that has become one token, up to the start of the next one.
#[derive(Clone, Copy)]
struct Part {
    start: usize,
    /// Rank of this part joined with the next.
    rank: u32,
}

/// As [`Part`], in a linked list; its place in the list is its first byte.
#[derive(Clone, Copy)]
struct Link {
    previous: usize,
    /// Start of the next part: the end of this one.
    next: usize,
    /// Rank of this part joined with the next; also tells stale heap entries.
    rank: u32,
}

impl<'a> Merger<'a> {
    pub(super) fn new(ranks: &'a Ranks) -> Self {
        Self {
            ranks,
            parts: Vec::new(),
            heap: BinaryHeap::new(),
            links: Vec::new(),
        }
    }

    /// Appends the tokens of a piece.
    pub(super) fn encode(&mut self, piece: &[u8], ids: &mut Vec<u32>) {
        match piece {
            [] => {}
            &[byte] => ids.push(self.ranks.single(byte)),
            _ => match self.ranks.get(piece) {
                Some(rank) => ids.push(rank),
                None if piece.len() <= SHORT => self.merge_short(piece, ids),
                None => self.merge_long(piece, ids),
            },
        }
    }

    /// Quadratic in the length of the piece, with a small constant.
    fn merge_short(&mut self, piece: &[u8], ids: &mut Vec<u32>) {
        let Self { ranks, parts, .. } = self;
        let joined = |start: usize, end: Option<usize>| match end {
            Some(end) => ranks.get(&piece[start..end]).unwrap_or(NO_RANK),
            None => NO_RANK,
        };
        parts.clear();
        parts.extend((0..piece.len()).map(|start| {
            let end = start + 2;
            Part {
                start,
                rank: joined(start, (end <= piece.len()).then_some(end)),
            }
        }));
        // Where the part after the one at `place` ends.
        let end_after = |parts: &[Part], place: usize| match parts.get(place + 2) {
            Some(part) => Some(part.start),
            None => (place + 1 < parts.len()).then_some(piece.len()),
        };
        while let Some(place) = lowest(parts) {
            parts.remove(place + 1);
            parts[place].rank = joined(parts[place].start, end_after(parts, place));
            if let Some(before) = place.checked_sub(1) {
                parts[before].rank = joined(parts[before].start, end_after(parts, before));
            }
        }
        let ends = parts
            .iter()
            .skip(1)
            .map(|part| part.start)
            .chain([piece.len()]);
        for (part, end) in parts.iter().zip(ends) {
            self.ranks.push(&piece[part.start..end], ids);
        }
    }

    /// Takes n log n steps for a piece of n bytes.
    fn merge_long(&mut self, piece: &[u8], ids: &mut Vec<u32>) {
        let Self {
            ranks, heap, links, ..
        } = self;
        let joined = |start: usize, end: usize| ranks.get(&piece[start..end]).unwrap_or(NO_RANK);
        heap.clear();
        links.clear();
        for start in 0..piece.len() {
            let rank = if start + 2 <= piece.len() {
                joined(start, start + 2)
            } else {
                NO_RANK
            };
            links.push(Link {
                previous: start.wrapping_sub(1),
                next: start + 1,
                rank,
            });
            if rank != NO_RANK {
                heap.push(Reverse((rank, start)));
            }
        }
        while let Some(Reverse((rank, start))) = heap.pop() {
            if links[start].rank != rank {
                continue;
            }
            let gone = links[start].next;
            let next = links[gone].next;
            links[gone].rank = NO_RANK;
            links[start].next = next;
            if let Some(link) = links.get_mut(next) {
                link.previous = start;
            }
            // The pair this part now makes, and the one before it.
            for first in [start, links[start].previous] {
                let Some(&Link { next: middle, .. }) = links.get(first) else {
                    continue;
                };
                let rank = links
                    .get(middle)
                    .map_or(NO_RANK, |link| joined(first, link.next));
                links[first].rank = rank;
                if rank != NO_RANK {
                    heap.push(Reverse((rank, first)));
                }
            }
        }
        let mut start = 0;
        while let Some(&Link { next, .. }) = links.get(start) {
            self.ranks.push(&piece[start..next], ids);
            start = next;
        }
    }
}

impl Ranks {
    /// Appends the rank of a token, or, for bytes that are none, those of its
    /// bytes. (Every merge makes a token, so the latter is never needed.)
    fn push(&self, token: &[u8], ids: &mut Vec<u32>) {
        match self.get(token) {
            Some(rank) => ids.push(rank),
            None => ids.extend(token.iter().map(|&byte| self.single(byte))),
        }
    }
}

/// Place of the leftmost pair with the lowest rank.
fn lowest(parts: &[Part]) -> Option<usize> {
    let mut best = (NO_RANK, 0);
    for (place, part) in parts.iter().enumerate() {
        if part.rank < best.0 {
            best = (part.rank, place);
        }
    }
    (best.0 != NO_RANK).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// All bytes, then tokens over a small alphabet.
    fn ranks(tokens: &[Vec<u8>]) -> Ranks {
        let mut file = String::new();
        let mut known: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        for token in tokens {
            if !known.contains(token) {
                known.push(token.clone());
            }
        }
        for (rank, token) in known.iter().enumerate() {
            file.push_str(&format!("{} {rank}\n", base64(token)));
        }
        Ranks::parse(file.as_bytes()).expect("a table")
    }

    fn base64(bytes: &[u8]) -> String {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut out = String::new();
        for group in bytes.chunks(3) {
            let bits = (0..3).fold(0, |bits, i| {
                bits << 8 | u32::from(*group.get(i).unwrap_or(&0))
            });
            for i in 0..4 {
                let letter = LETTERS[(bits >> (18 - 6 * i) & 63) as usize];
                out.push(if i <= group.len() { letter.into() } else { '=' });
            }
        }
        out
    }

    /// The definition, word for word.
    fn naive(ranks: &Ranks, piece: &[u8]) -> Vec<u32> {
        let mut parts: Vec<Vec<u8>> = piece.iter().map(|&byte| vec![byte]).collect();
        loop {
            let pairs = parts.windows(2).enumerate();
            let joined =
                pairs.filter_map(|(place, pair)| Some((ranks.get(&pair.concat())?, place)));
            let Some((_, place)) = joined.min() else {
                break;
            };
            let second = parts.remove(place + 1);
            parts[place].extend(second);
        }
        parts
            .iter()
            .map(|part| ranks.get(part).expect("a token"))
            .collect()
    }

    proptest! {
        #[test]
        fn both_ways_follow_the_definition(
            tokens in vec(vec(b'a'..=b'c', 2..6), 0..40),
            piece in vec(b'a'..=b'c', 2..200),
        ) {
            let ranks = ranks(&tokens);
            let expected = naive(&ranks, &piece);
            let mut merger = Merger::new(&ranks);
            let (mut short, mut long) = (Vec::new(), Vec::new());
            merger.merge_short(&piece, &mut short);
            merger.merge_long(&piece, &mut long);
            prop_assert_eq!(&short, &expected);
            prop_assert_eq!(&long, &expected);
        }
    }
}
