//! Recipes: what a folder of data is made of, as TOML.
//!
//! ```toml
//! seed = 7
//! records_per_shard = 2000
//! against = ["benchmarks/items.jsonl"]
//!
//! [[source]]
//! kind = "generated"
//! name = "small"
//! count = 20000
//! levels = [1, 1, 0, 0, 1, 2]
//! drills = 0
//! distinct = "all"
//!
//! [[source]]
//! kind = "packages"
//! name = "packages"
//! packages = ["boltons==26.2.0", "toolz==1.0.0"]
//! suites = 60
//! licences = ["MIT", "BSD-3-Clause"]
//! keep = { inputs = 6, min_inputs = 3, max_events = 300, max_value_chars = 300, mutants = 1 }
//!
//! [[source]]
//! kind = "library"
//! name = "library"
//!
//! [[source]]
//! kind = "problems"
//! name = "mbpp"
//! file = "mbpp_train.jsonl"
//! licence = "CC-BY-4.0"
//!
//! # Texts: runs of a source above in a dialect or as prose, and other kinds ([`crate::text`]).
//!
//! [[source]]
//! kind = "rendered"
//! name = "walks"
//! of = "packages"
//! rendering = "nd"
//! per_run = 2
//!
//! [[source]]
//! kind = "changes"
//! name = "history"
//! repository = "../project"
//! project = "project"
//! licence = "MIT"
//!
//! [[source]]
//! kind = "compiled"
//! name = "translations"
//! folder = "sources"
//! translations = ["bytecode", "rust-llvm", "rust-asm", "c-asm"]
//! project = "project"
//! licence = "MIT"
//!
//! [[source]]
//! kind = "bytecode"
//! name = "bytecode"
//! packages = ["toolz==1.0.0"]
//!
//! [[source]]
//! kind = "kernels"
//! name = "kernels"
//! packages = ["liger-kernel==0.8.5"]
//!
//! [[source]]
//! kind = "lean"
//! name = "theorems"
//! folder = "proofs"
//! steps = "proofs/steps.jsonl"
//! project = "proofs"
//! licence = "Apache-2.0"
//!
//! [[source]]
//! kind = "trajectories"
//! name = "agents"
//! file = "trajectories.jsonl"
//! project = "agents"
//! licence = "MIT"
//! ```

use std::collections::HashSet;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::build::Distinct;
use crate::generate::Mix;
use crate::harvest::Wanted;
use crate::text_source::{Rendering, Translation};

/// What to build.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The seed that those of all sources follow from.
    pub seed: u64,
    /// Rows of a shard; the last one of a source may have fewer, and one of real functions a few more.
    #[serde(default = "records_per_shard")]
    pub records_per_shard: usize,
    /// Files of benchmarks, JSON lines; what they contain is left out. Relative to the recipe's folder.
    #[serde(default)]
    pub against: Vec<String>,
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
        /// Relative weight of each level of difficulty, easiest first; four or five numbers leave the last levels out.
        levels: Mix,
        /// Relative weight of drills.
        #[serde(default)]
        drills: u32,
        /// Where near-duplicates are left out.
        #[serde(default)]
        distinct: Distinct,
    },
    /// Functions of packages of an index.
    Packages {
        /// What its shards are called.
        name: String,
        /// Each as `name==version`.
        packages: Vec<String>,
        /// Seconds for which the tests of each may run, so that calls in them are seen; 0 leaves them alone.
        #[serde(default)]
        suites: u32,
        /// SPDX identifiers that are allowed.
        #[serde(default = "licences")]
        licences: Vec<String>,
        /// What runs are kept.
        #[serde(default)]
        keep: Wanted,
    },
    /// Functions of the library of the interpreter at hand.
    Library {
        /// What its shards are called.
        name: String,
        /// What runs are kept.
        #[serde(default)]
        keep: Wanted,
    },
    /// Functions of a file of problems with solutions (`code`) and tests (`test_list`), as MBPP is.
    Problems {
        /// What its shards are called.
        name: String,
        /// JSON lines; relative to the recipe's folder.
        file: String,
        /// SPDX expression.
        licence: String,
        /// What runs are kept.
        #[serde(default)]
        keep: Wanted,
    },
    /// Recorded runs of a source that stands before, as texts.
    Rendered {
        /// What its shards are called.
        name: String,
        /// The name of the other source.
        of: String,
        /// How runs are written.
        rendering: Rendering,
        /// Walks through each run, where they are drawn (`nd`, `nd_inverse`).
        #[serde(default = "one")]
        per_run: u64,
    },
    /// The history of a repository of git, as pull requests.
    Changes {
        /// What its shards are called.
        name: String,
        /// Its folder; relative to the recipe's.
        repository: String,
        /// What it leads back from: a branch, a tag, a hash.
        #[serde(default = "head")]
        tip: String,
        /// Every commit, rather than what was merged as one change.
        #[serde(default)]
        all: bool,
        /// Name of the project.
        project: String,
        /// SPDX expression.
        licence: String,
    },
    /// Files of a folder, each with what a compiler makes of it.
    Compiled {
        /// What its shards are called.
        name: String,
        /// Relative to the recipe's.
        folder: String,
        /// By which compilers.
        translations: Vec<Translation>,
        /// Name of the project.
        project: String,
        /// Its version.
        #[serde(default)]
        version: String,
        /// SPDX expression.
        licence: String,
    },
    /// Functions of packages, each with its bytecode.
    Bytecode {
        /// What its shards are called.
        name: String,
        /// Each as `name==version`.
        packages: Vec<String>,
        /// SPDX identifiers that are allowed.
        #[serde(default = "licences")]
        licences: Vec<String>,
    },
    /// Triton kernels of packages.
    Kernels {
        /// What its shards are called.
        name: String,
        /// Each as `name==version`.
        packages: Vec<String>,
        /// SPDX identifiers that are allowed.
        #[serde(default = "licences")]
        licences: Vec<String>,
    },
    /// Theorems of Lean files, with proofs and, from a file, steps of proofs.
    Lean {
        /// What its shards are called.
        name: String,
        /// Relative to the recipe's.
        folder: String,
        /// JSON lines, in the form that [`crate::text::lean`] describes.
        #[serde(default)]
        steps: Option<String>,
        /// Name of the project.
        project: String,
        /// Its version.
        #[serde(default)]
        version: String,
        /// SPDX expression.
        licence: String,
    },
    /// Agents at work, JSON lines of [`crate::text::trajectory::Trajectory`].
    Trajectories {
        /// What its shards are called.
        name: String,
        /// Relative to the recipe's folder.
        file: String,
        /// Name of the project.
        project: String,
        /// SPDX expression.
        licence: String,
    },
}

fn one() -> u64 {
    1
}

fn head() -> String {
    "HEAD".to_owned()
}

/// Licences that let the text be used, changed and passed on without conditions on what is made with it.
fn licences() -> Vec<String> {
    const PERMISSIVE: [&str; 16] = [
        "MIT",
        "MIT-0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "0BSD",
        "Apache-2.0",
        "ISC",
        "PSF-2.0",
        "Python-2.0",
        "Zlib",
        "Unlicense",
        "CC0-1.0",
        "BSL-1.0",
        "ZPL-2.1",
        "WTFPL",
        "BlueOak-1.0.0",
    ];
    PERMISSIVE.map(str::to_owned).to_vec()
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
    /// A package without a version would be another one tomorrow.
    #[error("`{0}` must name a package and its version, such as boltons==26.2.0")]
    Package(String),
    /// Its functions would be there twice.
    #[error("`{0}` is named twice")]
    PackageTwice(String),
    /// There is no package.
    #[error("source `{0}` names no packages")]
    NoPackages(String),
    /// Nothing is to be made.
    #[error("source `{0}` names no translations")]
    NoTranslations(String),
    /// There is no such source of programs before.
    #[error("source `{0}` renders `{1}`, but no source of programs above it is called so")]
    NothingToRender(String, String),
    /// More runs of a function are asked for than may be kept.
    #[error("source `{0}` keeps at most {1} inputs of a function and wants {2}")]
    TooManyInputs(String, usize, usize),
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
        let (mut names, mut programs, mut packages) =
            (HashSet::new(), HashSet::new(), HashSet::new());
        for source in &recipe.sources {
            source.check()?;
            if let Source::Rendered { name, of, .. } = source
                && !programs.contains(of.as_str())
            {
                return Err(RecipeError::NothingToRender(name.clone(), of.clone()));
            }
            if let Source::Packages {
                packages: named, ..
            } = source
                && let Some(twice) = named
                    .iter()
                    .find(|package| !packages.insert(package.as_str()))
            {
                return Err(RecipeError::PackageTwice(twice.clone()));
            }
            if source.has_programs() {
                programs.insert(source.name());
            }
            if !names.insert(source.name()) {
                return Err(RecipeError::Twice(source.name().to_owned()));
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
        match self {
            Self::Generated { name, .. }
            | Self::Packages { name, .. }
            | Self::Library { name, .. }
            | Self::Problems { name, .. }
            | Self::Rendered { name, .. }
            | Self::Changes { name, .. }
            | Self::Compiled { name, .. }
            | Self::Bytecode { name, .. }
            | Self::Kernels { name, .. }
            | Self::Lean { name, .. }
            | Self::Trajectories { name, .. } => name,
        }
    }

    /// Records to make, where that is known beforehand.
    pub fn count(&self) -> Option<usize> {
        match self {
            Self::Generated { count, .. } => Some(*count),
            _ => None,
        }
    }

    /// Whether it makes recorded programs, rather than texts.
    fn has_programs(&self) -> bool {
        matches!(self, Self::Generated { .. }) || self.keep().is_some()
    }

    /// How many packages it names.
    pub(crate) fn packages(&self) -> usize {
        match self {
            Self::Packages { packages, .. }
            | Self::Bytecode { packages, .. }
            | Self::Kernels { packages, .. } => packages.len(),
            _ => 0,
        }
    }

    /// What runs of real functions are kept.
    fn keep(&self) -> Option<&Wanted> {
        match self {
            Self::Packages { keep, .. }
            | Self::Library { keep, .. }
            | Self::Problems { keep, .. } => Some(keep),
            _ => None,
        }
    }

    fn check(&self) -> Result<(), RecipeError> {
        let name = self.name();
        let is_usual = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        if name.is_empty() || !name.chars().all(is_usual) {
            return Err(RecipeError::Name(name.to_owned()));
        }
        match self {
            Self::Generated { count: 0, .. } => return Err(RecipeError::Zero("count")),
            Self::Generated {
                levels, drills: 0, ..
            } if levels.is_zero() => {
                return Err(RecipeError::NoLevel(name.to_owned()));
            }
            Self::Packages { packages, .. }
            | Self::Bytecode { packages, .. }
            | Self::Kernels { packages, .. } => {
                if packages.is_empty() {
                    return Err(RecipeError::NoPackages(name.to_owned()));
                }
                if let Some(bad) = packages.iter().find(|package| !is_pinned(package)) {
                    return Err(RecipeError::Package(bad.clone()));
                }
            }
            Self::Compiled { translations, .. } if translations.is_empty() => {
                return Err(RecipeError::NoTranslations(name.to_owned()));
            }
            Self::Rendered { per_run: 0, .. } => return Err(RecipeError::Zero("per_run")),
            _ => {}
        }
        let Some(keep) = self.keep() else {
            return Ok(());
        };
        for (count, key) in [
            (keep.inputs, "inputs"),
            (keep.min_inputs, "min_inputs"),
            (keep.max_events, "max_events"),
            (keep.max_value_chars, "max_value_chars"),
        ] {
            if count == 0 {
                return Err(RecipeError::Zero(key));
            }
        }
        if keep.min_inputs > keep.inputs {
            return Err(RecipeError::TooManyInputs(
                name.to_owned(),
                keep.inputs,
                keep.min_inputs,
            ));
        }
        Ok(())
    }
}

fn is_pinned(package: &str) -> bool {
    let is_of = |text: &str, others: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || others.contains(c))
    };
    package
        .split_once("==")
        .is_some_and(|(name, version)| is_of(name, "-_.") && is_of(version, "-_.+!"))
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
            (2000, Some(5))
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
            ("[1, 0, 0, 0]", "[1, 0, 0]", "six whole numbers"),
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
        let packages = |packages: &str, keep: &str| {
            format!(
                "seed = 7\n[[source]]\nkind = 'packages'\nname = 'a'\npackages = {packages}\nkeep = {{ {keep} }}\n"
            )
        };
        assert!(Recipe::parse(&packages("['a-b==1.0']", "inputs = 5")).is_ok());
        for (list, keep, named) in [
            ("[]", "", "names no packages"),
            ("['a']", "", "`a` must name"),
            ("['a==']", "", "`a==` must name"),
            ("['../a==1']", "", "`../a==1` must name"),
            ("['a==1']", "inputs = 0", "`inputs`"),
            (
                "['a==1']",
                "inputs = 2",
                "at most 2 inputs of a function and wants 3",
            ),
            ("['a==1']", "runs = 2", "runs"),
        ] {
            let error = Recipe::parse(&packages(list, keep))
                .expect_err(list)
                .to_string();
            assert!(error.contains(named), "{list} {keep}: {error}");
        }
        let twice = format!("{GOOD}{}", GOOD.split_once('\n').unwrap().1);
        let error = Recipe::parse(&twice)
            .expect_err("one name twice")
            .to_string();
        assert_eq!(error, "two sources are called `a`");
    }
}
