//! Recipes: what a folder of data is made of, as TOML.
//!
//! ```toml
//! seed = 7
//! records_per_shard = 2000
//!
//! [[source]]
//! kind = "generated"
//! name = "small"
//! count = 20000
//! levels = [1, 1, 0, 0, 1]
//! drills = 0
//! distinct = "all"
//! ```

use std::collections::HashSet;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::build::Distinct;
use crate::generate::Mix;

/// What to build.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The seed that those of all sources follow from.
    pub seed: u64,
    /// Rows of a shard; the last one of a source may have fewer.
    #[serde(default = "records_per_shard")]
    pub records_per_shard: usize,
    /// Where the records come from, in order.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
}

fn records_per_shard() -> usize {
    2000
}

/// Where records come from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// Programs of our own generator.
    Generated {
        /// What its shards are called.
        name: String,
        /// Records to make.
        count: usize,
        /// Relative weight of each level of difficulty; four numbers leave the fifth level out.
        levels: Mix,
        /// Relative weight of drills.
        #[serde(default)]
        drills: u32,
        /// Where near-duplicates are left out.
        #[serde(default)]
        distinct: Distinct,
    },
}

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// It is not TOML, or something is missing or unknown in it.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// There is nothing to build.
    #[error("the recipe has no [[source]]")]
    Empty,
    /// A number is zero that must not be.
    #[error("`{0}` must be at least 1")]
    Zero(&'static str),
    /// The name would not do for a file.
    #[error("the name `{0}` of a source has other characters than a-z, 0-9, `-` and `_`, or none")]
    Name(String),
    /// Two sources have one name.
    #[error("two sources are called `{0}`")]
    Twice(String),
    /// All weights of a source are zero.
    #[error("the weights of all levels and drills of source `{0}` are zero")]
    NoLevel(String),
}

impl Recipe {
    /// Reads a recipe and checks that it can be followed.
    ///
    /// # Errors
    /// [`RecipeError`].
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        let recipe: Self = toml::from_str(text)?;
        if recipe.sources.is_empty() {
            return Err(RecipeError::Empty);
        }
        if recipe.records_per_shard == 0 {
            return Err(RecipeError::Zero("records_per_shard"));
        }
        let mut names = HashSet::new();
        for source in &recipe.sources {
            let name = source.name();
            let is_usual =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
            if name.is_empty() || !name.chars().all(is_usual) {
                return Err(RecipeError::Name(name.to_owned()));
            }
            if !names.insert(name) {
                return Err(RecipeError::Twice(name.to_owned()));
            }
            let Source::Generated {
                count,
                levels,
                drills,
                ..
            } = source;
            if *count == 0 {
                return Err(RecipeError::Zero("count"));
            }
            if levels.is_zero() && *drills == 0 {
                return Err(RecipeError::NoLevel(name.to_owned()));
            }
        }
        Ok(recipe)
    }

    /// The seed of a source: that of another does not change with it.
    pub fn seed_of(&self, source: &Source) -> u64 {
        let digest = Sha256::digest(format!("{}/{}", self.seed, source.name()));
        digest[..8]
            .iter()
            .fold(0, |seed, &byte| seed << 8 | u64::from(byte))
    }
}

impl Source {
    /// What its shards are called.
    pub fn name(&self) -> &str {
        let Self::Generated { name, .. } = self;
        name
    }

    /// Records to make.
    pub fn count(&self) -> usize {
        let Self::Generated { count, .. } = self;
        *count
    }

    /// The SPDX expression for the text of its programs.
    pub fn licence(&self) -> &'static str {
        // Made by this project's generator; nobody else's text is in it.
        "MIT OR Apache-2.0"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "seed = 7\n[[source]]\nkind = 'generated'\nname = 'a'\ncount = 5\nlevels = [1, 0, 0, 0]\n";

    #[test]
    fn what_is_left_out_has_a_default() {
        let recipe = Recipe::parse(GOOD).expect("a recipe");
        assert_eq!(
            (recipe.records_per_shard, recipe.sources[0].count()),
            (2000, 5)
        );
    }

    #[test]
    fn seeds_follow_from_names_alone() {
        let other = format!(
            "{}\n{}",
            GOOD.replace("'a'", "'b'"),
            GOOD.split_once('\n').unwrap().1
        );
        let (one, two) = (Recipe::parse(GOOD).unwrap(), Recipe::parse(&other).unwrap());
        assert_eq!(one.seed_of(&one.sources[0]), two.seed_of(&two.sources[1]));
        assert_ne!(two.seed_of(&two.sources[0]), two.seed_of(&two.sources[1]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("count = 5", "count = 0", "`count` must be at least 1"),
            ("count = 5", "counts = 5", "counts"),
            ("'generated'", "'grown'", "grown"),
            ("name = 'a'", "name = 'A b'", "`A b`"),
            ("[1, 0, 0, 0]", "[0, 0, 0, 0]", "source `a` are zero"),
            ("[1, 0, 0, 0]", "[1, 0, 0]", "five whole numbers"),
            ("count = 5", "count = 5\ndistinct = 'some'", "some"),
            ("seed = 7", "", "seed"),
            (
                "seed = 7",
                "seed = 7\nrecords_per_shard = 0",
                "records_per_shard",
            ),
            ("seed = 7", "seed = 7\nshards = 3", "shards"),
        ];
        for (good, bad, named) in cases {
            let error = Recipe::parse(&GOOD.replace(good, bad))
                .expect_err(bad)
                .to_string();
            assert!(error.contains(named), "{bad}: {error}");
        }
        let twice = format!("{GOOD}{}", GOOD.split_once('\n').unwrap().1);
        let error = Recipe::parse(&twice)
            .expect_err("one name twice")
            .to_string();
        assert_eq!(error, "two sources are called `a`");
    }
}
