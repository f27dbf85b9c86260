//! Near-duplicates: programs of which nearly every stretch of code is also in another one.
//!
//! A program is the set of its shingles, every [`SHINGLE`] tokens in a row. Own names count by how many others
//! were used since their last use, so that a program with other names is the same, and a line more or less
//! changes only what is near it. Two programs are as similar as their sets, in the sense of Jaccard: the share
//! of shingles in both among those in either.
//!
//! A [`Signature`] is a MinHash of that set (Broder 1997): for each of [`PERMUTATIONS`] random orders of all
//! shingles, the first one that the program has. Two programs agree in an order with the probability of their
//! similarity. One byte of each is kept (Li and König 2010). A [`NearIndex`] looks at those entries that agree in
//! one of [`BANDS`] bands of eight orders, and finds what it estimates to be [`SIMILAR`] or more:
//!
//! | similarity | 0.7 | 0.75 | 0.8 | 0.85 | 0.9 | 0.95 | 1 |
//! |---|---|---|---|---|---|---|---|
//! | looked at | 0.62 | 0.82 | 0.95 | 0.99 | 1.00 | 1 | 1 |
//! | found | 0.00 | 0.01 | 0.09 | 0.53 | 0.98 | 1.00 | 1 |
//!
//! So a number that is another one makes no near-duplicate of a short program, whose run it changes, and does of
//! a long one.
//!
//! ```
//! use cwm_data::minhash::{NearIndex, Signature};
//! use cwm_trace::Entry;
//!
//! let module = |source: &str| Signature::of(source, &Entry::Module);
//! let mut index = NearIndex::default();
//! index.insert(module("total = 0\nfor x in [1, 2]:\n    total += x\n"));
//! let renamed = module("s = 0\nfor item in [1, 2]:\n    s += item\n");
//! assert_eq!(index.find(&renamed).map(|near| near.entry), Some(0));
//! assert!(index.find(&module("print(len('abc') + 1)\n")).is_none());
//! ```

use std::collections::HashMap;
use std::sync::OnceLock;

use cwm_trace::Entry;

use crate::fingerprint::{imported, is_known};
use crate::generate::rng::splitmix;
use crate::lexer::{Token, tokens};

/// Tokens of a shingle.
pub const SHINGLE: usize = 5;
/// Random orders of the shingles that a signature is made of.
pub const PERMUTATIONS: usize = 128;
/// Groups of orders that an entry is found by.
pub const BANDS: usize = 16;
/// The least similarity, as estimated, of a near-duplicate.
pub const SIMILAR: f64 = 0.85;

const ROWS: usize = PERMUTATIONS / BANDS;
/// Entries of a band that are looked at, the latest first: a common stretch of code must not make every look
/// as long as the index.
const LOOKED_AT: usize = 48;
/// No entry.
const NONE: u32 = u32::MAX;

/// What a program is compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signature([u8; PERMUTATIONS]);

impl Signature {
    /// The signature of a program: layout, comments and the choice of names do not count.
    pub fn of(source: &str, entry: &Entry) -> Self {
        let mut words = Canonical::new(source);
        words.add(source);
        if let Entry::Call { function, args } = entry {
            words.add(function);
            words.add(&format!("({args})"));
        }
        Self::of_shingles(shingles(&words.hashes))
    }

    /// One product has the places of a shingle in four orders, sixteen bits each. In a set of a thousand, one first
    /// place in sixty is shared by chance.
    fn of_shingles(shingles: impl Iterator<Item = u64>) -> Self {
        let mut least = [u16::MAX; PERMUTATIONS];
        for shingle in shingles {
            for (least, (flip, factor)) in least.chunks_exact_mut(4).zip(orders()) {
                let product = u128::from(shingle ^ flip) * u128::from(*factor);
                let places = product as u64 ^ (product >> 64) as u64;
                for (order, least) in least.iter_mut().enumerate() {
                    *least = (*least).min((places >> (16 * order)) as u16);
                }
            }
        }
        Self(least.map(|place| splitmix(&mut u64::from(place)) as u8))
    }

    /// An estimate of the similarity: unbiased, with a standard deviation of at most 0.045.
    pub fn similarity(&self, other: &Self) -> f64 {
        // Sums of bytes, which processors add many at a time.
        let agree =
            |(a, b): (&[u8], &[u8])| a.iter().zip(b).map(|(a, b)| u8::from(a == b)).sum::<u8>();
        let parts = self.0.chunks(64).zip(other.0.chunks(64));
        let agree: usize = parts.map(|part| usize::from(agree(part))).sum();
        // One byte in 256 agrees by chance.
        let chance = 1.0 / 256.0;
        let share = agree as f64 / PERMUTATIONS as f64;
        ((share - chance) / (1.0 - chance)).max(0.0)
    }

    /// A key for each band; those of different bands differ.
    fn bands(&self) -> [u64; BANDS] {
        std::array::from_fn(|band| {
            let rows: [u8; ROWS] = std::array::from_fn(|row| self.0[band * ROWS + row]);
            let mut state = u64::from_le_bytes(rows) ^ ((band as u64 + 1) << 57);
            splitmix(&mut state)
        })
    }

    /// One key of all bands.
    fn whole(&self) -> u64 {
        self.bands().iter().fold(0, |all, &band| mix(all, band))
    }
}

/// Constants of the random orders, four at a time: what is flipped, and an odd factor.
fn orders() -> &'static [(u64, u64); PERMUTATIONS / 4] {
    static ORDERS: OnceLock<[(u64, u64); PERMUTATIONS / 4]> = OnceLock::new();
    ORDERS.get_or_init(|| {
        let mut state = u64::from_le_bytes(*b"minhash.");
        std::array::from_fn(|_| (splitmix(&mut state), splitmix(&mut state) | 1))
    })
}

fn mix(state: u64, value: u64) -> u64 {
    splitmix(&mut (state.rotate_left(23) ^ value))
}

/// Every [`SHINGLE`] tokens in a row; fewer tokens are one shingle.
fn shingles(hashes: &[u64]) -> impl Iterator<Item = u64> {
    let windows = hashes.windows(SHINGLE.min(hashes.len().max(1)));
    let made = windows.map(|window| window.iter().fold(1, |state, &hash| mix(state, hash)));
    made.chain(hashes.is_empty().then_some(0))
}

/// The tokens of a program as numbers in which its own names are anonymous.
struct Canonical<'a> {
    imported: Vec<&'a str>,
    /// Hashes of the names used so far, the latest first.
    latest: Vec<u64>,
    hashes: Vec<u64>,
}

impl<'a> Canonical<'a> {
    fn new(source: &'a str) -> Self {
        Self {
            imported: imported(source),
            latest: Vec::new(),
            hashes: Vec::new(),
        }
    }

    fn add(&mut self, text: &str) {
        let mut after_dot = false;
        for token in tokens(text) {
            match token {
                Token::Word(word)
                    if after_dot || is_known(word) || self.imported.contains(&word) =>
                {
                    self.hashes.push(hash(1, word));
                }
                Token::Word(word) => self.name(hash(0, word)),
                Token::Number(text) => self.hashes.push(hash(2, text)),
                Token::Sign(text) => self.hashes.push(hash(3, text)),
                // What is in the braces of a formatted text is code.
                Token::Text { prefix, content } if prefix.contains(['f', 'F']) => {
                    self.hashes.push(hash(4, "f"));
                    self.add(content);
                }
                Token::Text { content, .. } => self.hashes.push(hash(5, content)),
                Token::Newline => self.hashes.push(6),
                Token::Indent => self.hashes.push(7),
                Token::Dedent => self.hashes.push(8),
            }
            after_dot = token == Token::Sign(".");
        }
    }

    /// A name counts by how many others were used since its last use.
    fn name(&mut self, name: u64) {
        let at = self.latest.iter().position(|&other| other == name);
        match at {
            Some(at) => self.latest[..=at].rotate_right(1),
            None => self.latest.insert(0, name),
        }
        self.hashes.push(16 + at.map_or(0, |at| at as u64 + 1));
    }
}

/// FNV-1a with a last mixing; `kind` keeps words, numbers and texts apart.
fn hash(kind: u64, text: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ kind;
    let hash = text.bytes().fold(start, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    mix(kind, hash)
}

/// An entry that a signature is similar to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near {
    /// Its number, counted from 0 in the order of [`NearIndex::insert`].
    pub entry: usize,
    /// The estimate, at least [`SIMILAR`].
    pub similarity: f64,
}

/// Signatures by what they are similar to. An entry takes some 600 bytes, and a look or an insertion a time that
/// does not depend on how many there are. What is found follows from the entries and their order.
#[derive(Clone, Debug, Default)]
pub struct NearIndex {
    entries: Vec<Signature>,
    /// The latest entry of each band's key.
    latest: HashMap<u64, u32>,
    /// The one before it, for each entry and band.
    earlier: Vec<[u32; BANDS]>,
    /// The first entry of each signature, so that what is identical is found however many are similar.
    whole: HashMap<u64, u32>,
}

impl NearIndex {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The most similar of the entries looked at, if it is a near-duplicate. An identical signature is always
    /// found.
    pub fn find(&self, signature: &Signature) -> Option<Near> {
        let mut best: Option<Near> = None;
        let mut consider = |entry: usize| {
            let similarity = signature.similarity(&self.entries[entry]);
            if similarity >= SIMILAR && best.is_none_or(|best| similarity > best.similarity) {
                best = Some(Near { entry, similarity });
            }
        };
        if let Some(&entry) = self.whole.get(&signature.whole()) {
            consider(entry as usize);
        }
        for (band, key) in signature.bands().iter().enumerate() {
            let mut next = self.latest.get(key).copied().unwrap_or(NONE);
            for _ in 0..LOOKED_AT {
                if next == NONE {
                    break;
                }
                consider(next as usize);
                next = self.earlier[next as usize][band];
            }
        }
        best
    }

    /// Adds an entry and gives its number. Nothing is looked for.
    ///
    /// # Panics
    /// Beyond four thousand million entries.
    pub fn insert(&mut self, signature: Signature) -> usize {
        let entry = self.entries.len();
        let number = u32::try_from(entry).ok().filter(|&number| number != NONE);
        let number = number.expect("an index of this size is beyond any memory");
        let before = signature
            .bands()
            .map(|key| self.latest.insert(key, number).unwrap_or(NONE));
        self.whole.entry(signature.whole()).or_insert(number);
        self.earlier.push(before);
        self.entries.push(signature);
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn module(source: &str) -> Signature {
        Signature::of(source, &Entry::Module)
    }

    /// Signatures of two sets with so many shingles in common and alone, and their similarity.
    fn pair(seed: u64, both: u64, one: u64, other: u64) -> (Signature, Signature, f64) {
        let shingle = |n: u64| splitmix(&mut (seed.wrapping_mul(977) ^ n));
        let first = Signature::of_shingles((0..both + one).map(shingle));
        let second = (0..both).chain(both + one..both + one + other);
        let truth = both as f64 / (both + one + other).max(1) as f64;
        (first, Signature::of_shingles(second.map(shingle)), truth)
    }

    const PROGRAM: &str = "def f(items):\n    total = 0\n    for x in items:\n        if x > 2:\n            \
                           total += x * 2\n        else:\n            total -= 1\n    return total\n";

    #[test]
    fn names_layout_and_comments_do_not_count() {
        let renamed = PROGRAM.replace("total", "s").replace("items", "values");
        assert_eq!(module(PROGRAM), module(&renamed));
        let spaced = PROGRAM.replace("    ", "  ").replace(" = ", "=") + "\n# the end\n";
        assert_eq!(module(PROGRAM), module(&spaced));
        assert_eq!(
            module("print(f'{a}-{b}')\n"),
            module("print(f\"{x}-{y}\")\n")
        );
        assert_ne!(module("print(f'{a}-{a}')\n"), module("print(f'{a}-{b}')\n"));
        let import = "from collections import NAME\nprint(NAME('ab'))\n";
        let [deque, counter] =
            ["deque", "Counter"].map(|name| module(&import.replace("NAME", name)));
        assert_ne!(deque, counter);
    }

    #[test]
    fn the_arguments_of_the_entry_count() {
        let call = |args: &str| Entry::Call {
            function: "f".into(),
            args: args.into(),
        };
        let [one, other] = ["[1]", "{}"].map(|args| Signature::of(PROGRAM, &call(args)));
        assert_ne!(one, other);
    }

    #[test]
    fn a_line_more_is_nearly_the_same_and_another_program_is_not() {
        let lines = (0..30).map(|n| format!("x = g(x, {n}) + {}\n", n * n));
        let long = format!("{PROGRAM}{}", lines.collect::<String>());
        let longer = format!("start = 7\n{long}");
        let other = "words = 'a b'.split()\nwhile words:\n    print(words.pop().upper())\n";
        let mut index = NearIndex::default();
        assert!(index.is_empty() && index.find(&module(&long)).is_none());
        index.insert(module(other));
        index.insert(module(&long));
        let near = index.find(&module(&longer)).expect("a near-duplicate");
        assert_eq!((near.entry, index.len()), (1, 2));
        assert!(near.similarity < 1.0);
        assert!(index.find(&module(PROGRAM)).is_none());
    }

    #[test]
    fn what_is_identical_is_found_behind_many_that_are_similar() {
        let mut index = NearIndex::default();
        let (first, ..) = pair(1, 400, 0, 0);
        index.insert(first);
        for n in 0..500 {
            // All share most bands with the first.
            let shingle = |n: u64| splitmix(&mut (977 ^ n));
            let with_own = (0..380).chain([n + 1000]).map(shingle);
            index.insert(Signature::of_shingles(with_own));
        }
        let near = index.find(&first).expect("itself");
        assert_eq!((near.entry, near.similarity), (0, 1.0));
    }

    #[test]
    fn the_table_of_probabilities_holds() {
        for (both, one, low, high) in [(70, 30, 0.0, 0.02), (85, 15, 0.4, 0.66), (95, 5, 0.99, 1.0)]
        {
            let found = (0..500).filter(|&seed| {
                let (a, b, _) = pair(seed, both, one, 0);
                let mut index = NearIndex::default();
                index.insert(a);
                index.find(&b).is_some()
            });
            let share = found.count() as f64 / 500.0;
            assert!((low..=high).contains(&share), "{both} of 100: {share}");
        }
    }

    proptest! {
        #[test]
        fn the_estimate_is_close(seed: u64, both in 0u64..150, one in 0u64..80, other in 0u64..80) {
            prop_assume!(both + one > 0 && both + other > 0);
            let (a, b, truth) = pair(seed, both, one, other);
            // Five standard deviations.
            prop_assert!((a.similarity(&b) - truth).abs() < 0.23, "{} {truth}", a.similarity(&b));
            prop_assert_eq!(a.similarity(&b), b.similarity(&a));
        }

        #[test]
        fn the_identical_is_always_found_and_the_disjoint_never(seed: u64, size in 1u64..200) {
            let (a, b, truth) = pair(seed, 0, size, size);
            prop_assert_eq!(truth, 0.0);
            let mut index = NearIndex::default();
            index.insert(a);
            prop_assert_eq!(index.find(&a), Some(Near { entry: 0, similarity: 1.0 }));
            prop_assert_eq!(index.find(&b), None);
        }

        #[test]
        fn any_text_has_a_signature(text in "\\PC{0,80}") {
            let signature = module(&text);
            prop_assert_eq!(signature.similarity(&module(&text)), 1.0);
        }
    }

    #[test]
    fn estimates_are_unbiased() {
        let errors = (0..400).map(|seed| {
            let (a, b, truth) = pair(seed, 60, 20, 20);
            a.similarity(&b) - truth
        });
        let mean = errors.sum::<f64>() / 400.0;
        assert!(mean.abs() < 0.01, "{mean}");
    }

    #[test]
    fn shingles_are_all_stretches() {
        let hashes: Vec<u64> = (0..9).collect();
        assert_eq!(shingles(&hashes).collect::<HashSet<_>>().len(), 5);
        assert_eq!(shingles(&hashes[..3]).count(), 1);
        assert_eq!(shingles(&[]).count(), 1);
    }
}
