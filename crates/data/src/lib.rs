//! Programs, and records of what they did, for training and evaluation.
//!
//! [`generate`] makes one random Python program from a seed and an index; [`coverage`] counts what a
//! set of them exercises. [`build`] runs many of them and keeps the good runs as [`Record`]s, which
//! [`read_records`] reads back; [`minhash`] finds what is nearly the same. [`build_folder`] makes what a [`Recipe`] says, as shards with a manifest. [`fingerprint`] tells programs apart by what they say, not by how
//! they name things. [`Evaluator`] writes the working of their lines. [`decontaminate`] keeps the items of benchmarks out. [`text`]
//! has the kinds of training text beside recorded runs, and [`scrub`] takes secrets out of texts.

mod build;
mod candidates;
mod census;
mod compare;
pub mod decontaminate;
mod filter;
mod fingerprint;
mod folder;
mod generate;
mod harvest;
mod inputs;
mod lexer;
mod manifest;
pub mod minhash;
mod normalise;
pub mod pack;
mod page;
mod python;
mod read;
mod recipe;
mod record;
mod rows;
pub mod scrub;
mod shard;
mod sieve;
pub mod text;
mod text_shard;
mod text_source;
mod working;

pub use build::{BuildError, Distinct, Plan, Report, build};
pub use census::{Census, CensusReport, Histogram, Share};
pub use compare::{Comparison, Difference};
pub use decontaminate::{Benchmarks, Overlap, normalise_program, open_text};
pub use filter::{Rejection, events_of, judge};
pub use fingerprint::{Fingerprint, fingerprint};
pub use folder::{Built, FolderError, Progress, Setup, build_folder};
pub use generate::{Coverage, Level, Mix, NoMix, NoSuchLevel, Program, coverage, generate};
pub use harvest::{Corpus, CorpusError, Refusal, Wanted};
pub use inputs::Input;
pub use manifest::{Benchmark, Made, Manifest, Shard};
pub use normalise::{Normalised, Normaliser};
pub use page::page;
pub use python::PythonError;
pub use read::{ReadError, Records, Texts, draw_records, open_records, open_texts};
pub use recipe::{Recipe, RecipeError, Source};
pub use record::{
    ArgumentsFrom, Harvested, Origin, Record, RecordError, read_records, write_record,
};
pub use shard::{ShardError, read_shard, write_shard};
pub use text_shard::{TextRow, read_texts, write_texts};
pub use text_source::{Rendering, TextError, Translation};
pub use working::Evaluator;
