//! Sets of token ids: what may be chosen.

use std::ops::Range;

/// An owned set of token ids, as a bitset over a vocabulary: the storage behind a [`Mask`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSet {
    words: Vec<u64>,
}

impl TokenSet {
    /// An empty set with room for the ids `0..vocab_size` (it grows when larger ids are inserted).
    pub fn new(vocab_size: usize) -> Self {
        Self {
            words: vec![0; vocab_size.div_ceil(64)],
        }
    }

    /// Adds an id; says whether it was new.
    pub fn insert(&mut self, id: u32) -> bool {
        let (word, bit) = (id as usize / 64, 1u64 << (id % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    /// Removes an id; says whether it was there.
    pub fn remove(&mut self, id: u32) -> bool {
        let (word, bit) = (id as usize / 64, 1u64 << (id % 64));
        let Some(word) = self.words.get_mut(word) else {
            return false;
        };
        let there = *word & bit != 0;
        *word &= !bit;
        there
    }

    /// Removes every id and keeps the storage, so that one set serves a whole generation.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Adds every id below `vocab_size` that a mask allows.
    pub fn insert_all(&mut self, mask: Mask<'_>, vocab_size: usize) {
        let n_words = vocab_size.div_ceil(64);
        if self.words.len() < n_words {
            self.words.resize(n_words, 0);
        }
        for (index, word) in self.words[..n_words].iter_mut().enumerate() {
            *word |= mask.word(index, vocab_size);
        }
    }

    /// The set as a mask.
    pub fn mask(&self) -> Mask<'_> {
        Mask::from_words(&self.words)
    }
}

impl Extend<u32> for TokenSet {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, ids: I) {
        for id in ids {
            self.insert(id);
        }
    }
}

impl FromIterator<u32> for TokenSet {
    fn from_iter<I: IntoIterator<Item = u32>>(ids: I) -> Self {
        let mut set = Self::default();
        set.extend(ids);
        set
    }
}

/// Which token ids may be chosen: a borrowed bitset over the vocabulary, or everything.
#[derive(Clone, Copy, Debug)]
pub struct Mask<'a> {
    /// Bit `id % 64` of word `id / 64`; ids beyond the end are forbidden. `None` allows every id.
    words: Option<&'a [u64]>,
}

impl<'a> Mask<'a> {
    /// The mask that forbids nothing.
    pub const fn all() -> Self {
        Self { words: None }
    }

    /// Reads bit `id % 64` of `words[id / 64]` as "id is allowed"; ids beyond the end are
    /// forbidden.
    pub const fn from_words(words: &'a [u64]) -> Self {
        Self { words: Some(words) }
    }

    /// May this id be chosen?
    pub fn allows(self, id: u32) -> bool {
        self.words.is_none_or(|words| {
            words
                .get(id as usize / 64)
                .is_some_and(|word| word >> (id % 64) & 1 == 1)
        })
    }

    /// May any of these ids be chosen?
    pub fn allows_any(self, ids: Range<usize>) -> bool {
        (ids.start / 64..ids.end.div_ceil(64)).any(|index| {
            let before = ids.start.saturating_sub(index * 64);
            self.word(index, ids.end) >> before != 0
        })
    }

    /// The allowed ids below `vocab_size`, rising.
    pub fn iter(self, vocab_size: usize) -> impl Iterator<Item = u32> + Clone + 'a {
        let n_words = vocab_size.div_ceil(64);
        (0..n_words).flat_map(move |index| {
            bits(self.word(index, vocab_size)).map(move |bit| index as u32 * 64 + bit)
        })
    }

    /// The ids from `64 * index` on, one a bit, without those from `end` on; `index` begins before it.
    fn word(self, index: usize, end: usize) -> u64 {
        let word = match self.words {
            None => u64::MAX,
            Some(words) => words.get(index).copied().unwrap_or(0),
        };
        let rest = end - index * 64;
        if rest < 64 {
            word & ((1 << rest) - 1)
        } else {
            word
        }
    }

    /// Number of allowed ids below `vocab_size`.
    pub fn count(self, vocab_size: usize) -> usize {
        self.iter(vocab_size).count()
    }

    /// The only allowed id below `vocab_size`, when there is exactly one: such a token needs no
    /// model.
    pub fn forced(self, vocab_size: usize) -> Option<u32> {
        let mut ids = self.iter(vocab_size);
        let id = ids.next()?;
        ids.next().is_none().then_some(id)
    }
}

/// The indices of the set bits, rising.
fn bits(mut word: u64) -> impl Iterator<Item = u32> + Clone {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}
