//! Programs, and records of what they did, for training and evaluation.
//!
//! [`generate`] makes one random Python program from a seed and an index; [`coverage`] counts what a
//! set of them exercises. [`build`] runs many of them and keeps the good runs as [`Record`]s, which
//! [`read_records`] reads back; [`minhash`] finds what is nearly the same. [`build_folder`] makes what a [`Recipe`] says, as shards with a manifest. [`fingerprint`] tells programs apart by what they say, not by how
//! they name things. [`Evaluator`] writes the working of their lines. [`decontaminate`] keeps the items of benchmarks out.

mod build;
pub mod decontaminate;
mod filter;
mod fingerprint;
mod folder;
mod generate;
mod lexer;
pub mod minhash;
mod normalise;
pub mod pack;
mod python;
mod recipe;
mod record;
mod shard;
mod working;

pub use build::{BuildError, Builder, Distinct, Plan, Report, build, limits};
pub use decontaminate::{Benchmarks, Overlap, normalise_program};
pub use filter::{EVENTS, Rejection, judge};
pub use fingerprint::{Fingerprint, fingerprint};
pub use folder::{Built, FolderError, Made, Manifest, Shard, build_folder};
pub use generate::{Coverage, Level, Mix, NoMix, NoSuchLevel, Program, coverage, generate};
pub use normalise::{Normalised, Normaliser};
pub use python::PythonError;
pub use recipe::{Recipe, RecipeError, Source};
pub use record::{Record, RecordError, read_records, write_record};
pub use shard::{ShardError, read_shard, write_shard};
pub use working::Evaluator;
