//! Folders of data: what a recipe says, as shards with a manifest.
//!
//! The folder holds `NAME-00000.parquet` and so on for each source of the recipe ([`crate::read_shard`]),
//! and `manifest.json`, which says what they are and how they came about. A file has its name only once it
//! is whole, and a shard is in the manifest only once it is there. So a build may be stopped at any moment;
//! the same command goes on behind the last whole shard. Recipe and interpreter alone decide what is in the
//! shards: a folder that was made in one go and one that was made in many are the same, byte for byte.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use cwm_tracer::Interpreter;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::build::{BuildError, Builder, Plan, Report, hex};
use crate::fingerprint::{Fingerprint, fingerprint};
use crate::recipe::{Recipe, RecipeError, Source};
use crate::record::Record;
use crate::shard::{ShardError, read_shard, write_shard};

const FORMAT: &str = "cwm.data";
const VERSION: u32 = 1;
const MANIFEST: &str = "manifest.json";

/// What a folder holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    version: u32,
    /// The recipe's text.
    pub recipe: String,
    /// Version of the interpreter that ran the programs.
    pub python: String,
    /// Version of this crate.
    pub cwm: String,
    /// Whether all that the recipe says is there.
    pub complete: bool,
    /// In the order of the recipe.
    pub sources: Vec<Made>,
}

/// What was made of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// As in the recipe.
    pub name: String,
    /// The SPDX expression for the programs' text.
    pub licence: String,
    /// The seed that follows from the recipe's.
    pub seed: u64,
    /// In order.
    pub shards: Vec<Shard>,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its file in the folder.
    pub file: String,
    /// Rows.
    pub records: usize,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// How the source's candidates had fared when it was written.
    pub report: Report,
    /// The index of the source's next candidate then.
    pub next: u64,
}

impl Made {
    /// How the source's candidates fared.
    pub fn report(&self) -> Report {
        let last = self.shards.last();
        last.map_or_else(Report::default, |shard| shard.report.clone())
    }
}

/// Why a folder is not what the recipe says.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The recipe cannot be used.
    #[error("{0}")]
    Recipe(#[from] RecipeError),
    /// The programs cannot be made or run.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A file cannot be read or written.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    File {
        /// Read, write or create.
        doing: &'static str,
        /// Which one.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A shard cannot be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Shard {
        /// Which one.
        path: PathBuf,
        /// The cause.
        source: ShardError,
    },
    /// The manifest is none of ours.
    #[error("`{}` is no manifest of `cwm data build`: {why}; choose an empty folder", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The folder is another recipe's.
    #[error("`{}` was made by another recipe (it is in its manifest.json); choose another folder", .0.display())]
    OtherRecipe(PathBuf),
    /// The folder was made with another interpreter.
    #[error(
        "the folder was begun with Python {was}, and this is {is}: traces differ; choose another folder"
    )]
    OtherPython {
        /// The version in the manifest.
        was: String,
        /// The version at hand.
        is: String,
    },
}

/// What a build has done.
#[derive(Debug)]
pub struct Built {
    /// What the folder holds.
    pub manifest: Manifest,
    /// Shards that were missing or damaged, and were made anew with those after them.
    pub damaged: Vec<String>,
}

/// Makes a folder what a recipe says, or goes on with it. `progress` is told how many records there are.
///
/// # Errors
/// [`FolderError`]; whole shards stay, and the next call goes on behind them.
pub fn build_folder(
    recipe: &str,
    interpreter: &Interpreter,
    threads: usize,
    folder: &Path,
    mut progress: impl FnMut(usize),
) -> Result<Built, FolderError> {
    let parsed = Recipe::parse(recipe)?;
    fs::create_dir_all(folder).map_err(file("create", folder))?;
    let mut manifest = begun(recipe, &parsed, interpreter, folder)?;
    let damaged = drop_damaged(&mut manifest, folder)?;
    let mut excluded = HashSet::new();
    let mut done = 0;
    for (at, source) in parsed.sources.iter().enumerate() {
        let records = records_of(&manifest.sources[at], folder)?;
        let mut work = Work {
            source,
            folder,
            per_shard: parsed.records_per_shard,
            plan: plan(&parsed, source, threads, excluded),
        };
        excluded = work.plan.excluded.clone();
        excluded.extend(records.iter().map(fingerprint_of));
        if records.len() < source.count() {
            let before = done;
            work.make(
                interpreter,
                records,
                at,
                &mut manifest,
                &mut |prints, made| {
                    excluded.extend(prints);
                    progress(before + made);
                },
            )?;
        }
        done += source.count();
        progress(done);
    }
    manifest.complete = true;
    write_manifest(&manifest, folder)?;
    Ok(Built { manifest, damaged })
}

fn fingerprint_of(record: &Record) -> Fingerprint {
    fingerprint(&record.trace.source, &record.trace.entry)
}

fn plan(recipe: &Recipe, source: &Source, threads: usize, excluded: HashSet<Fingerprint>) -> Plan {
    let Source::Generated {
        count,
        levels,
        drills,
        distinct,
        ..
    } = source;
    Plan {
        seed: recipe.seed_of(source),
        count: *count,
        mix: *levels,
        drills: *drills,
        distinct: *distinct,
        threads,
        excluded,
    }
}

/// The making of one source.
struct Work<'a> {
    source: &'a Source,
    folder: &'a Path,
    per_shard: usize,
    plan: Plan,
}

impl Work<'_> {
    /// Makes what is missing behind these records; `each` is told the fingerprints of a shard's records, and
    /// how many there are in all.
    fn make(
        &mut self,
        interpreter: &Interpreter,
        records: Vec<Record>,
        at: usize,
        manifest: &mut Manifest,
        each: &mut impl FnMut(Vec<Fingerprint>, usize),
    ) -> Result<(), FolderError> {
        let mut builder = Builder::start(&self.plan, interpreter)?;
        if let Some(last) = manifest.sources[at].shards.last() {
            builder.go_on(last.report.clone(), last.next, records.iter());
        }
        drop(records);
        while builder.report().kept < self.source.count() {
            let left = self.source.count() - builder.report().kept;
            let records = builder.records(left.min(self.per_shard))?;
            let number = manifest.sources[at].shards.len();
            let mut shard = self.write(&records, number)?;
            shard.report = builder.report().clone();
            shard.next = builder.next();
            manifest.sources[at].shards.push(shard);
            write_manifest(manifest, self.folder)?;
            each(
                records.iter().map(fingerprint_of).collect(),
                builder.report().kept,
            );
        }
        Ok(())
    }

    fn write(&self, records: &[Record], number: usize) -> Result<Shard, FolderError> {
        let name = format!("{}-{number:05}.parquet", self.source.name());
        let path = self.folder.join(&name);
        let mut bytes = Vec::new();
        write_shard(
            records,
            self.source.name(),
            self.source.licence(),
            &mut bytes,
        )
        .map_err(|source| FolderError::Shard {
            path: path.clone(),
            source,
        })?;
        write_whole(&path, &bytes)?;
        Ok(Shard {
            file: name,
            records: records.len(),
            bytes: bytes.len() as u64,
            sha256: hex(&Sha256::digest(&bytes)),
            report: Report::default(),
            next: 0,
        })
    }
}

/// The manifest of a folder that was begun, or of one that is empty.
fn begun(
    recipe: &str,
    parsed: &Recipe,
    interpreter: &Interpreter,
    folder: &Path,
) -> Result<Manifest, FolderError> {
    let path = folder.join(MANIFEST);
    let python = interpreter.version_text();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = |source: &Source| Made {
                name: source.name().to_owned(),
                licence: source.licence().to_owned(),
                seed: parsed.seed_of(source),
                shards: Vec::new(),
            };
            return Ok(Manifest {
                format: FORMAT.to_owned(),
                version: VERSION,
                recipe: recipe.to_owned(),
                python,
                cwm: env!("CARGO_PKG_VERSION").to_owned(),
                complete: false,
                sources: parsed.sources.iter().map(made).collect(),
            });
        }
        Err(error) => return Err(file("read", &path)(error)),
    };
    let not_ours = |why: String| FolderError::NotOurs {
        path: path.clone(),
        why,
    };
    let manifest: Manifest = serde_json::from_str(&text).map_err(|e| not_ours(e.to_string()))?;
    if manifest.format != FORMAT || manifest.version != VERSION {
        return Err(not_ours(format!(
            "{} {}",
            manifest.format, manifest.version
        )));
    }
    if manifest.recipe != recipe || manifest.sources.len() != parsed.sources.len() {
        return Err(FolderError::OtherRecipe(folder.to_owned()));
    }
    if manifest.python != python {
        let (was, is) = (manifest.python, python);
        return Err(FolderError::OtherPython { was, is });
    }
    Ok(manifest)
}

/// Takes shards that are not as they were written out of the manifest, with all that depends on them.
fn drop_damaged(manifest: &mut Manifest, folder: &Path) -> Result<Vec<String>, FolderError> {
    let mut damaged = Vec::new();
    for made in &mut manifest.sources {
        if !damaged.is_empty() {
            made.shards.clear();
        }
        let bad = made
            .shards
            .iter()
            .position(|shard| !is_sound(shard, folder));
        if let Some(at) = bad {
            damaged.push(made.shards[at].file.clone());
            made.shards.truncate(at);
        }
    }
    if !damaged.is_empty() {
        manifest.complete = false;
        write_manifest(manifest, folder)?;
    }
    Ok(damaged)
}

fn is_sound(shard: &Shard, folder: &Path) -> bool {
    // Shards are of a size that memory holds: they were made there.
    let mut bytes = Vec::new();
    let read =
        File::open(folder.join(&shard.file)).and_then(|mut file| file.read_to_end(&mut bytes));
    read.is_ok() && hex(&Sha256::digest(&bytes)) == shard.sha256
}

fn records_of(made: &Made, folder: &Path) -> Result<Vec<Record>, FolderError> {
    let mut records = Vec::new();
    for shard in &made.shards {
        let path = folder.join(&shard.file);
        let opened = File::open(&path).map_err(file("read", &path))?;
        records.extend(read_shard(opened).map_err(|source| FolderError::Shard { path, source })?);
    }
    Ok(records)
}

fn write_manifest(manifest: &Manifest, folder: &Path) -> Result<(), FolderError> {
    let path = folder.join(MANIFEST);
    let mut text =
        serde_json::to_vec_pretty(manifest).map_err(|e| file("write", &path)(e.into()))?;
    text.push(b'\n');
    write_whole(&path, &text)
}

/// Writes a file that has its name only once it is whole and on the disk.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let write = || {
        let mut out = File::create(&partial)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(file("write", path))
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::File {
        doing,
        path,
        source,
    }
}
