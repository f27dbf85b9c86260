//! Where a token stands in a run of its kind: which digit of a number it is,
//! which character of a text.
//!
//! A small model that must copy `'kitten'` or add `1047` to `58` needs to know
//! that a token is the third of its text, and attention alone learns to count
//! slowly. Numbering the digits of numbers by an embedding of their own is due
//! to McLeish et al., "Transformers Can Do Arithmetic with the Right
//! Embeddings" (2024); here every kind of token that stands in runs is
//! numbered. Not part of the CWM and Llama families.

use serde::{Deserialize, Serialize};

/// Which tokens stand in runs, and how many places of a run are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunEmbedding {
    /// First and last id of each kind. A run is a stretch of tokens of one
    /// kind; ids of no kind are in none.
    pub kinds: Vec<[u32; 2]>,
    /// Rows of the table. Places beyond share the last one.
    pub n_places: usize,
}

impl RunEmbedding {
    /// The place of `id` in its run, from 0 and below
    /// [`n_places`](Self::n_places); `before` is the token in front of it, with
    /// its place. `None` for an id of no kind.
    pub fn place(&self, id: u32, before: Option<(u32, Option<u32>)>) -> Option<u32> {
        let kind = self.kind(id)?;
        let place = match before {
            Some((before, Some(place))) if self.kind(before) == Some(kind) => place + 1,
            _ => 0,
        };
        Some(place.min(self.n_places as u32 - 1))
    }

    /// The place of each token of one text, which is exact from the
    /// `n_places`-th token on whatever stood in front of it.
    pub fn places(&self, ids: impl IntoIterator<Item = u32>) -> Vec<Option<u32>> {
        let mut before = None;
        let place = |id| {
            let place = self.place(id, before);
            before = Some((id, place));
            place
        };
        ids.into_iter().map(place).collect()
    }

    fn kind(&self, id: u32) -> Option<usize> {
        let within = |&[first, last]: &[u32; 2]| (first..=last).contains(&id);
        self.kinds.iter().position(within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_the_tokens_of_each_run() {
        let runs = RunEmbedding {
            kinds: vec![[10, 19], [30, 39]],
            n_places: 3,
        };
        let ids = [11, 12, 5, 13, 31, 32, 33, 34, 14, 5];
        let places = [0, 1, 9, 0, 0, 1, 2, 2, 0, 9].map(|place| (place != 9).then_some(place));
        assert_eq!(runs.places(ids), places);
        // Seen from the middle, what is further back than the table does not matter.
        assert_eq!(runs.places(ids[4..].iter().copied())[3..], places[7..]);
    }
}
