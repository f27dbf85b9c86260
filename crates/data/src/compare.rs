//! What two sets of records have in common and where they differ.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::record::Record;

/// Records of two sets by their names.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    first: BTreeMap<String, Digests>,
    second: BTreeMap<String, Digests>,
}

/// What tells two records of one name apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Digests {
    program: [u8; 8],
    whole: [u8; 8],
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Records that are the same in both.
    pub same: usize,
    /// Names that only the first has.
    pub only_first: Vec<String>,
    /// Names that only the second has.
    pub only_second: Vec<String>,
    /// Names of which the programs differ.
    pub other_program: Vec<String>,
    /// Names of which the programs are the same and something else differs: arguments, run, origin or working.
    pub other_run: Vec<String>,
}

impl Difference {
    /// Whether the sets are the same.
    pub fn is_empty(&self) -> bool {
        [
            &self.only_first,
            &self.only_second,
            &self.other_program,
            &self.other_run,
        ]
        .iter()
        .all(|names| names.is_empty())
    }
}

impl Comparison {
    /// Takes in a record of the first set.
    pub fn add_first(&mut self, record: &Record) {
        self.first.insert(record.id.clone(), Digests::of(record));
    }

    /// Takes in a record of the second set.
    pub fn add_second(&mut self, record: &Record) {
        self.second.insert(record.id.clone(), Digests::of(record));
    }

    /// The difference; names are in order.
    pub fn difference(&self) -> Difference {
        let mut difference = Difference::default();
        for (name, first) in &self.first {
            match self.second.get(name) {
                None => difference.only_first.push(name.clone()),
                Some(second) if second == first => difference.same += 1,
                Some(second) if second.program != first.program => {
                    difference.other_program.push(name.clone())
                }
                Some(_) => difference.other_run.push(name.clone()),
            }
        }
        let only_second = self
            .second
            .keys()
            .filter(|name| !self.first.contains_key(*name));
        difference.only_second = only_second.cloned().collect();
        difference
    }
}

impl Digests {
    fn of(record: &Record) -> Self {
        let short = |bytes: &[u8]| {
            let digest = Sha256::digest(bytes);
            std::array::from_fn(|at| digest[at])
        };
        // A record that cannot be written as JSON equals no other; there is none.
        let whole = serde_json::to_vec(record).unwrap_or_default();
        Self {
            program: short(record.trace.source.as_bytes()),
            whole: short(&whole),
        }
    }
}
