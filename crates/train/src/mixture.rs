//! Several sources as one data set, drawn by their shares.
//!
//! Promises: the fingerprint covers the data of all sources, what shapes their rows, and their shares, so that a run is
//! never gone on with on other data by accident.

use sha2::{Digest, Sha256};

use crate::packed::Packed;
use crate::{Dataset, Example, Part};

/// Most sources of a mixture: each has at least one draw of every round of 1,024.
pub const MOST_SOURCES: usize = 64;

/// Sources in rows, side by side.
#[derive(Debug)]
pub struct Mixture {
    sources: Vec<Mixed>,
    kinds: Vec<String>,
    row_tokens: usize,
}

/// One source of a mixture.
#[derive(Debug)]
struct Mixed {
    part: Part,
    packed: Packed,
    /// What each of its kinds is among those of the mixture.
    kinds: Vec<u8>,
}

impl Mixture {
    /// Sources with their names and shares, none of them empty, in rows of at most `row_tokens`.
    pub fn new(sources: Vec<(String, f64, Packed)>, row_tokens: usize) -> Self {
        let mut mixture = Self {
            sources: Vec::new(),
            kinds: Vec::new(),
            row_tokens,
        };
        for (name, share, packed) in sources {
            let start = mixture.len();
            let kinds = packed.kinds().into_iter();
            let kinds = kinds.map(|kind| mixture.kind(kind)).collect();
            mixture.sources.push(Mixed {
                kinds,
                part: Part {
                    name,
                    examples: start..start + packed.len(),
                    share,
                },
                packed,
            });
        }
        mixture
    }

    /// The sources in rows, by name.
    pub fn packed(&self) -> impl Iterator<Item = (&str, &Packed)> {
        self.sources
            .iter()
            .map(|mixed| (mixed.part.name.as_str(), &mixed.packed))
    }

    /// The number of a kind, which is a new one if it has none.
    fn kind(&mut self, name: String) -> u8 {
        let known = self.kinds.iter().position(|known| *known == name);
        known.unwrap_or_else(|| {
            self.kinds.push(name);
            self.kinds.len() - 1
        }) as u8
    }
}

impl Dataset for Mixture {
    fn len(&self) -> usize {
        self.sources.last().map_or(0, |last| last.part.examples.end)
    }

    fn example(&self, index: usize) -> Example {
        let ends = |mixed: &Mixed| mixed.part.examples.end <= index;
        let source = self.sources.partition_point(ends);
        let mixed = &self.sources[source];
        let mut example = mixed.packed.example(index - mixed.part.examples.start);
        for kind in &mut example.kinds {
            *kind = mixed.kinds[usize::from(*kind)];
        }
        example.source = source as u16;
        example
    }

    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for Mixed { part, packed, .. } in &self.sources {
            let name = &part.name;
            hash.update(format!(
                "{name:?} {} {}\n",
                part.share,
                packed.fingerprint()
            ));
        }
        crate::hex::hex(&hash.finalize()[..16])
    }

    fn row_tokens(&self) -> usize {
        self.row_tokens
    }

    fn kinds(&self) -> Vec<String> {
        self.kinds.clone()
    }

    fn parts(&self) -> Vec<Part> {
        self.sources
            .iter()
            .map(|mixed| mixed.part.clone())
            .collect()
    }
}
