//! Sets of a program's names as small numbers: equal sets have equal numbers, so that states that
//! hold sets can be copied, compared and hashed.

use std::collections::HashMap;

/// The number of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SetId(u32);

impl SetId {
    /// The set without names.
    pub(super) const EMPTY: Self = Self(0);
}

/// All sets met so far. Sets are only added.
#[derive(Debug)]
pub(super) struct Sets {
    /// Bit `name % 64` of word `name / 64`.
    sets: Vec<Box<[u64]>>,
    numbers: HashMap<Box<[u64]>, SetId>,
    /// The set with one name more, by set and name.
    with: HashMap<(SetId, u32), SetId>,
}

impl Sets {
    /// Sets of the names `0..names`.
    pub(super) fn new(names: usize) -> Self {
        let empty = vec![0; names.div_ceil(64)].into_boxed_slice();
        Self {
            sets: vec![empty.clone()],
            numbers: HashMap::from([(empty, SetId::EMPTY)]),
            with: HashMap::new(),
        }
    }

    pub(super) fn contains(&self, set: SetId, name: u32) -> bool {
        self.words(set)[name as usize / 64] >> (name % 64) & 1 == 1
    }

    /// Whether all of the names `low..high` are in the set.
    pub(super) fn contains_all(&self, set: SetId, low: u32, high: u32) -> bool {
        (low..high).all(|name| self.contains(set, name))
    }

    /// The set and one name.
    pub(super) fn with(&mut self, set: SetId, name: u32) -> SetId {
        if let Some(&known) = self.with.get(&(set, name)) {
            return known;
        }
        let mut words: Box<[u64]> = self.words(set).into();
        words[name as usize / 64] |= 1 << (name % 64);
        let next = SetId(self.sets.len() as u32);
        let number = *self.numbers.entry(words.clone()).or_insert(next);
        if number == next {
            self.sets.push(words);
        }
        self.with.insert((set, name), number);
        number
    }

    fn words(&self, set: SetId) -> &[u64] {
        &self.sets[set.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_names_in_any_order_are_one_set() {
        let mut sets = Sets::new(130);
        let mut of = |names: &[u32]| {
            names
                .iter()
                .fold(SetId::EMPTY, |set, &name| sets.with(set, name))
        };
        let (one, other) = (of(&[3, 129, 64]), of(&[64, 3, 129, 3]));
        assert_eq!(one, other);
        assert_ne!(of(&[3, 64]), one);
        assert!(sets.contains(one, 129) && !sets.contains(one, 128));
        assert!(sets.contains_all(one, 3, 4) && !sets.contains_all(one, 3, 5));
    }
}
