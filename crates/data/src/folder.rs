//! Folders of data: what a recipe says, as shards with a manifest.
//!
//! The folder holds `NAME-00000.parquet` and so on for each source of the recipe ([`crate::read_shard`]),
//! and `manifest.json`, which says what they are and how they came about. A file has its name only once it
//! is whole, and a shard is in the manifest only once it is there. So a build may be stopped at any moment;
//! the same command goes on behind the last whole shard. Recipe and interpreter alone decide what is in the
//! shards: a folder that was made in one go and one that was made in many are the same, byte for byte.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use cwm_tracer::Interpreter;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::build::{BuildError, Builder, Plan, Report, hex};
use crate::decontaminate::{BenchmarkError, Benchmarks, Summary, open_text};
use crate::fingerprint::{Fingerprint, fingerprint};
use crate::harvest::{self, Corpus, Harvester, Place, Wanted};
use crate::normalise::Normaliser;
use crate::recipe::{Recipe, RecipeError, Source};
use crate::record::Record;
use crate::shard::{ShardError, read_shard, write_shard};
use crate::sieve::Sieve;

const FORMAT: &str = "cwm.data";
const VERSION: u32 = 2;
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
    /// Benchmarks that nothing here is in.
    pub against: Vec<Benchmark>,
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
    /// The seed that follows from the recipe's.
    pub seed: u64,
    /// Where real functions are from, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corpora: Vec<Corpus>,
    /// In order.
    pub shards: Vec<Shard>,
    /// Whether there is nothing more to make.
    pub complete: bool,
    /// How all candidates fared, once it is complete.
    pub report: Report,
}

/// A benchmark in the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Benchmark {
    /// As in the recipe.
    pub file: String,
    /// Of the file, in hexadecimal.
    pub sha256: String,
    /// What was found in it.
    #[serde(flatten)]
    pub summary: Summary,
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
    /// SPDX expressions for the programs' texts, with how many rows have each.
    pub licences: BTreeMap<String, usize>,
    /// How the source's candidates had fared when it was written.
    pub report: Report,
    /// The index of the source's next candidate then.
    pub next: u64,
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
    /// A benchmark cannot be used.
    #[error("cannot use the benchmark `{}`: {source}", path.display())]
    Benchmark {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: BenchmarkError,
    },
    /// A benchmark is not what it was when the folder was begun.
    #[error(
        "the folder was begun when other benchmarks were to be left out than now; choose another folder"
    )]
    OtherBenchmarks,
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

/// What a build needs beside the recipe.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Runs the programs.
    pub interpreter: Interpreter,
    /// Programs that run at the same time.
    pub threads: usize,
    /// Where the recipe's paths begin.
    pub base: PathBuf,
    /// Where packages are kept between builds.
    pub cache: PathBuf,
    /// The package index, by the simple repository API; `None` for that of pip's settings.
    pub index: Option<String>,
}

/// How far a build is.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// Records that there are.
    pub records: usize,
    /// Name of the source in hand.
    pub source: &'a str,
    /// Packages of it that were begun, of how many; 0 of 0 for a source that has none.
    pub corpora: (usize, usize),
}

/// Makes the records of one source, some at a time: which ones follow from the source and from what was made
/// before.
pub(crate) trait Maker {
    /// Goes on after records that were made before: `report`, `next` and `corpora` are what the methods of
    /// these names said then.
    fn go_on(
        &mut self,
        report: Report,
        next: u64,
        corpora: &[Corpus],
        records: &mut dyn Iterator<Item = &Record>,
    );

    /// About the next `wanted` records; fewer where there are no more.
    fn records(&mut self, wanted: usize, sieve: &mut Sieve) -> Result<Vec<Record>, BuildError>;

    /// How the candidates fared so far.
    fn report(&self) -> &Report;

    /// Stands for the next candidate.
    fn next(&self) -> u64;

    /// Where records are from so far.
    fn corpora(&self) -> &[Corpus];
}

/// Makes a folder what a recipe says, or goes on with it. `progress` is told now and then how far it is.
///
/// # Errors
/// [`FolderError`]; whole shards stay, and the next call goes on behind them.
pub fn build_folder(
    recipe: &str,
    setup: &Setup,
    folder: &Path,
    mut progress: impl FnMut(&Progress<'_>),
) -> Result<Built, FolderError> {
    let parsed = Recipe::parse(recipe)?;
    fs::create_dir_all(folder).map_err(file("create", folder))?;
    let (against, mut sieve) = sieve(&parsed, setup)?;
    let mut manifest = begun(recipe, &parsed, setup, against, folder)?;
    let damaged = drop_damaged(&mut manifest, folder)?;
    let mut excluded = HashSet::new();
    let mut done = 0;
    for (at, source) in parsed.sources.iter().enumerate() {
        let records = records_of(&manifest.sources[at], folder)?;
        let made = records.len();
        let work = Work {
            source,
            folder,
            per_shard: parsed.records_per_shard,
        };
        let seed = parsed.seed_of(source);
        let all = if !manifest.sources[at].complete {
            let plan;
            let mut maker: Box<dyn Maker> = match source {
                Source::Generated {
                    count,
                    levels,
                    drills,
                    distinct,
                    ..
                } => {
                    let (mix, drills, distinct) = (*levels, *drills, *distinct);
                    plan = Plan {
                        seed,
                        count: *count,
                        mix,
                        drills,
                        distinct,
                        threads: setup.threads,
                        excluded: excluded.clone(),
                    };
                    Box::new(Builder::start(&plan, &setup.interpreter)?)
                }
                source => Box::new(Harvester::start(
                    harvest(source, seed, setup),
                    &setup.interpreter,
                )?),
            };
            work.make(
                &mut *maker,
                &records,
                at,
                &mut manifest,
                &mut sieve,
                &mut |prints, made, corpora| {
                    excluded.extend(prints);
                    progress(&Progress {
                        records: done + made,
                        source: source.name(),
                        corpora,
                    });
                },
            )?
        } else {
            made
        };
        excluded.extend(records.iter().map(fingerprint_of));
        done += all;
    }
    manifest.complete = true;
    write_manifest(&manifest, folder)?;
    Ok(Built { manifest, damaged })
}

fn fingerprint_of(record: &Record) -> Fingerprint {
    fingerprint(&record.trace.source, &record.trace.entry)
}

/// What a source of real functions is made of.
fn harvest(source: &Source, seed: u64, setup: &Setup) -> harvest::Plan {
    let (places, wanted, licences) = match source {
        Source::Packages {
            packages,
            licences,
            suites,
            keep,
            ..
        } => {
            let place = |package: &String| Place::Package(package.clone(), *suites);
            let places = packages.iter().map(place).collect();
            (places, keep.clone(), licences.clone())
        }
        Source::Library { keep, .. } => (vec![Place::Library], keep.clone(), Vec::new()),
        Source::Problems {
            file,
            licence,
            keep,
            ..
        } => {
            let place = Place::Problems {
                path: setup.base.join(file),
                licence: licence.clone(),
            };
            (vec![place], keep.clone(), Vec::new())
        }
        Source::Generated { .. } => (Vec::new(), Wanted::default(), Vec::new()),
    };
    harvest::Plan {
        seed,
        places,
        wanted,
        licences,
        cache: setup.cache.clone(),
        index: setup.index.clone(),
        threads: setup.threads,
    }
}

/// Reads the benchmarks that a recipe names.
fn sieve(recipe: &Recipe, setup: &Setup) -> Result<(Vec<Benchmark>, Sieve), FolderError> {
    if recipe.against.is_empty() {
        return Ok((Vec::new(), Sieve::default()));
    }
    let start = || Normaliser::start(&setup.interpreter).map_err(BuildError::from);
    let mut normaliser = start()?;
    let mut benchmarks = Benchmarks::default();
    let mut against = Vec::new();
    for name in &recipe.against {
        let path = setup.base.join(name);
        let bytes = fs::read(&path).map_err(file("read", &path))?;
        let text = open_text(&path).map_err(file("read", &path))?;
        let summary = benchmarks.add(name, text, &mut normaliser);
        let summary = summary.map_err(|source| FolderError::Benchmark {
            path: path.clone(),
            source,
        })?;
        against.push(Benchmark {
            file: name.clone(),
            sha256: hex(&Sha256::digest(&bytes)),
            summary: summary.clone(),
        });
    }
    Ok((against, Sieve::new(benchmarks, normaliser)))
}

/// The making of one source.
struct Work<'a> {
    source: &'a Source,
    folder: &'a Path,
    per_shard: usize,
}

/// Told after each shard: the fingerprints of its records, how many records of the source there are, and how
/// many of its packages were begun of how many.
type Each<'a> = dyn FnMut(Vec<Fingerprint>, usize, (usize, usize)) + 'a;

impl Work<'_> {
    /// Makes what is missing behind these records; gives how many there are then.
    fn make(
        &self,
        maker: &mut dyn Maker,
        records: &[Record],
        at: usize,
        manifest: &mut Manifest,
        sieve: &mut Sieve,
        each: &mut Each<'_>,
    ) -> Result<usize, FolderError> {
        let made = &manifest.sources[at];
        if let Some(last) = made.shards.last() {
            maker.go_on(
                last.report.clone(),
                last.next,
                &made.corpora,
                &mut records.iter(),
            );
        }
        let corpora = match self.source {
            Source::Packages { packages, .. } => packages.len(),
            _ => 0,
        };
        loop {
            let records = maker.records(self.per_shard, sieve)?;
            let made = &mut manifest.sources[at];
            made.corpora = maker.corpora().to_vec();
            if !records.is_empty() {
                let mut shard = self.write(&records, made.shards.len())?;
                shard.report = maker.report().clone();
                shard.next = maker.next();
                made.shards.push(shard);
            }
            made.complete = records.len() < self.per_shard;
            if made.complete {
                made.report = maker.report().clone();
            }
            let is_complete = made.complete;
            write_manifest(manifest, self.folder)?;
            let kept = maker.report().kept;
            each(
                records.iter().map(fingerprint_of).collect(),
                kept,
                (maker.corpora().len(), corpora),
            );
            if is_complete {
                return Ok(kept);
            }
        }
    }

    fn write(&self, records: &[Record], number: usize) -> Result<Shard, FolderError> {
        let name = format!("{}-{number:05}.parquet", self.source.name());
        let path = self.folder.join(&name);
        let mut bytes = Vec::new();
        write_shard(records, self.source.name(), &mut bytes).map_err(|source| {
            FolderError::Shard {
                path: path.clone(),
                source,
            }
        })?;
        write_whole(&path, &bytes)?;
        let mut licences = BTreeMap::new();
        for record in records {
            *licences
                .entry(record.origin.licence().to_owned())
                .or_default() += 1;
        }
        Ok(Shard {
            file: name,
            licences,
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
    setup: &Setup,
    against: Vec<Benchmark>,
    folder: &Path,
) -> Result<Manifest, FolderError> {
    let path = folder.join(MANIFEST);
    let python = setup.interpreter.version_text();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = |source: &Source| Made {
                name: source.name().to_owned(),
                seed: parsed.seed_of(source),
                corpora: Vec::new(),
                shards: Vec::new(),
                complete: false,
                report: Report::default(),
            };
            return Ok(Manifest {
                format: FORMAT.to_owned(),
                version: VERSION,
                recipe: recipe.to_owned(),
                python,
                cwm: env!("CARGO_PKG_VERSION").to_owned(),
                against,
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
    if manifest.against != against {
        return Err(FolderError::OtherBenchmarks);
    }
    Ok(manifest)
}

/// Takes shards that are not as they were written out of the manifest, with all that depends on them.
fn drop_damaged(manifest: &mut Manifest, folder: &Path) -> Result<Vec<String>, FolderError> {
    let mut damaged = Vec::new();
    for made in &mut manifest.sources {
        let bad = made
            .shards
            .iter()
            .position(|shard| !is_sound(shard, folder));
        // What comes after a damaged shard depends on what was in it.
        let keep = match bad {
            _ if !damaged.is_empty() => 0,
            None => continue,
            Some(at) => {
                damaged.push(made.shards[at].file.clone());
                at
            }
        };
        made.shards.truncate(keep);
        made.complete = false;
        made.report = Report::default();
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
