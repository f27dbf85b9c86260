//! Folders of data: what a recipe says, as shards with a manifest.
//!
//! The folder holds `NAME-00000.parquet` and so on for each source of the recipe ([`crate::read_shard`]),
//! and `manifest.json`, which says what they are and how they came about. A file has its name only once it
//! is whole, and a shard is in the manifest only once it is there. So a build may be stopped at any moment;
//! the same command goes on behind the last whole shard. Recipe and interpreter alone decide what is in the
//! shards: a folder that was made in one go and one that was made in many are the same, byte for byte.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use cwm_tracer::Interpreter;
use sha2::{Digest, Sha256};

use crate::build::{BuildError, Builder, Plan, Report, hex};
use crate::decontaminate::{BenchmarkError, Benchmarks, open_text};
use crate::fingerprint::Fingerprint;
use crate::harvest::{self, Corpus, Fetcher, Harvester, Place, library_folder};
use crate::manifest::{
    Benchmark, Made, Manifest, Shard, begun, drop_damaged, file, write_manifest, write_whole,
};
use crate::normalise::Normaliser;
use crate::recipe::{Recipe, RecipeError, Source};
use crate::rows::Rows;
use crate::scrub::{Finding, Scrubber};
use crate::shard::ShardError;
use crate::sieve::Sieve;
use crate::text::pull_request::History;
use crate::text::{Material, Origin};
use crate::text_source::{self, TextMaker};

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
    /// A source reads something else than when the folder was begun.
    #[error(
        "`{path}`, which source `{source_name}` reads, has changed since the folder was begun; \
         choose another folder"
    )]
    OtherInput {
        /// The source.
        source_name: String,
        /// As in the recipe.
        path: String,
    },
    /// Another version of this program began the folder, which may make other rows.
    #[error("the folder was begun by cwm {was}, and this is {is}; choose another folder")]
    OtherProgram {
        /// The version in the manifest.
        was: String,
        /// The version at hand.
        is: &'static str,
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

/// What a build needs beside the recipe.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Runs the programs.
    pub interpreter: Interpreter,
    /// Programs that run at the same time.
    pub threads: usize,
    /// Where the recipe's paths begin.
    pub base: PathBuf,
    /// Files of benchmarks besides those that the recipe names.
    pub against: Vec<PathBuf>,
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

/// Makes the rows of one source, some at a time: which ones follow from the source and from what was made
/// before.
pub(crate) trait Maker {
    /// Goes on after rows that were made before: `report`, `next` and `corpora` are what the methods of these
    /// names said then.
    fn go_on(&mut self, report: Report, next: u64, corpora: &[Corpus]);

    /// Takes note of rows that were made before.
    fn remember(&mut self, rows: &Rows);

    /// About the next `wanted` rows; fewer where there are no more.
    fn rows(&mut self, wanted: usize, sieve: &mut Sieve) -> Result<Rows, BuildError>;

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
    let absolute = |path: &Path| std::path::absolute(path).map_err(file("find", path));
    let setup = &Setup {
        base: absolute(&setup.base.join("."))?,
        cache: absolute(&setup.cache)?,
        ..setup.clone()
    };
    fs::create_dir_all(folder).map_err(file("create", folder))?;
    let (against, mut sieve) = sieve(&parsed, setup)?;
    let mut manifest = begun(recipe, &parsed, setup, against, folder)?;
    let damaged = drop_damaged(&mut manifest, folder)?;
    let mut excluded = HashSet::new();
    let mut done = 0;
    for (at, source) in parsed.sources.iter().enumerate() {
        let work = Work {
            source,
            folder,
            per_shard: parsed.records_per_shard,
        };
        if manifest.sources[at].complete {
            each_shard(&manifest.sources[at], folder, &mut |rows| {
                excluded.extend(rows.fingerprints())
            })?;
        } else {
            let seed = parsed.seed_of(source);
            let known = excluded.clone();
            let mut maker = maker(source, seed, setup, known, &manifest, folder)?;
            work.make(
                &mut *maker,
                at,
                &mut manifest,
                &mut sieve,
                &mut |rows, made, corpora| {
                    excluded.extend(rows.fingerprints());
                    progress(&Progress {
                        records: done + made,
                        source: source.name(),
                        corpora,
                    });
                },
            )?;
        }
        done += manifest.sources[at].report.kept;
    }
    manifest.complete = true;
    write_manifest(&manifest, folder)?;
    Ok(Built { manifest, damaged })
}

/// What makes the rows of a source. `known` are the programs of the sources before it.
fn maker(
    source: &Source,
    seed: u64,
    setup: &Setup,
    known: HashSet<Fingerprint>,
    manifest: &Manifest,
    folder: &Path,
) -> Result<Box<dyn Maker>, FolderError> {
    let py = &setup.interpreter;
    if let Source::Generated {
        count,
        levels,
        drills,
        distinct,
        ..
    } = source
    {
        let (count, mix, drills, distinct) = (*count, *levels, *drills, *distinct);
        let plan = Plan {
            seed,
            count,
            mix,
            drills,
            distinct,
            threads: setup.threads,
            excluded: known,
        };
        return Ok(Box::new(Builder::start(plan, py)?));
    }
    if let Some(plan) = harvest(source, seed, setup) {
        let mut harvester = Harvester::start(plan, py)?;
        for before in manifest
            .sources
            .iter()
            .take_while(|made| made.name != source.name())
        {
            each_shard(before, folder, &mut |rows| harvester.remember(rows))?;
        }
        return Ok(Box::new(harvester));
    }
    let plan = texts(source, seed, setup, manifest, folder)?;
    Ok(Box::new(TextMaker::start(plan, py)?))
}

/// What a source of real functions is made of; `None` for other sources.
fn harvest(source: &Source, seed: u64, setup: &Setup) -> Option<harvest::Plan> {
    let (places, wanted, licences) = match source {
        Source::Packages {
            packages,
            licences,
            suites,
            keep,
            ..
        } => {
            let place = |package: &String| Place::Package(package.clone(), *suites);
            (packages.iter().map(place).collect(), keep, licences.clone())
        }
        Source::Library { keep, .. } => (vec![Place::Library], keep, Vec::new()),
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
            (vec![place], keep, Vec::new())
        }
        _ => return None,
    };
    Some(harvest::Plan {
        seed,
        places,
        wanted: wanted.clone(),
        licences,
        cache: setup.cache.clone(),
        index: setup.index.clone(),
        threads: setup.threads,
    })
}

/// What a source of texts is made of.
fn texts(
    source: &Source,
    seed: u64,
    setup: &Setup,
    manifest: &Manifest,
    folder: &Path,
) -> Result<text_source::Plan, FolderError> {
    let fetcher = |licences: &[String]| {
        let (cache, index) = (setup.cache.clone(), setup.index.clone());
        Fetcher::start(&setup.interpreter, cache, index, licences.to_vec())
            .map_err(BuildError::from)
    };
    let at = |path: &String| setup.base.join(path);
    Ok(match source {
        Source::Rendered {
            of,
            rendering,
            per_run,
            ..
        } => {
            let made = manifest.sources.iter().filter(|made| made.name == *of);
            let shards = made
                .flat_map(|made| &made.shards)
                .map(|shard| folder.join(&shard.file))
                .collect();
            text_source::Plan::Rendered {
                shards,
                rendering: *rendering,
                per_run: *per_run,
                seed,
            }
        }
        Source::Changes {
            repository,
            tip,
            all,
            project,
            licence,
            ..
        } => text_source::Plan::Changes {
            folder: at(repository),
            tip: tip.clone(),
            material: material(project, "", licence),
            history: if *all {
                History::All
            } else {
                History::MainLine
            },
        },
        Source::Compiled {
            folder,
            translations,
            project,
            version,
            licence,
            ..
        } => text_source::Plan::Compiled {
            folder: at(folder),
            material: material(project, version, licence),
            translations: translations.clone(),
        },
        Source::Bytecode {
            packages, licences, ..
        } => text_source::Plan::CompiledPackages {
            packages: packages.clone(),
            fetcher: fetcher(licences)?,
        },
        Source::Kernels {
            packages, licences, ..
        } => text_source::Plan::Kernels {
            packages: packages.clone(),
            fetcher: fetcher(licences)?,
        },
        Source::Lean {
            folder,
            steps,
            project,
            version,
            licence,
            ..
        } => text_source::Plan::Lean {
            folder: at(folder),
            material: material(project, version, licence),
            steps: steps.as_ref().map(at),
        },
        Source::Trajectories {
            file,
            project,
            licence,
            ..
        } => text_source::Plan::Trajectories {
            file: at(file),
            material: material(project, "", licence),
        },
        Source::Generated { .. }
        | Source::Packages { .. }
        | Source::Library { .. }
        | Source::Problems { .. } => {
            unreachable!("sources of programs have makers of their own")
        }
    })
}

fn material(project: &str, version: &str, licence: &str) -> Material {
    let origin = Origin {
        project: project.to_owned(),
        version: version.to_owned(),
        path: String::new(),
    };
    Material {
        licence: licence.to_owned(),
        origin,
    }
}

/// What keeps things out: the benchmarks that are named, and what is private here.
fn sieve(recipe: &Recipe, setup: &Setup) -> Result<(Vec<Benchmark>, Sieve), FolderError> {
    // Programs run at one place whoever runs them; only where the interpreter lies can still be seen.
    let mut scrubber = Scrubber::default();
    if let Some(library) = library_folder(&setup.interpreter)
        .map_err(BuildError::from)?
        .to_str()
    {
        scrubber = scrubber.hiding(library, Finding::Folder);
    }
    let named = recipe.against.iter();
    let named = named.map(|name| (name.clone(), setup.base.join(name)));
    let given = setup.against.iter();
    let given = given.map(|path| (path.display().to_string(), path.clone()));
    let files: Vec<(String, PathBuf)> = named.chain(given).collect();
    if files.is_empty() {
        return Ok((Vec::new(), Sieve::new(None, scrubber)));
    }
    let mut normaliser = Normaliser::start(&setup.interpreter).map_err(BuildError::from)?;
    let mut benchmarks = Benchmarks::default();
    let mut against = Vec::new();
    for (name, path) in files {
        let bytes = fs::read(&path).map_err(file("read", &path))?;
        let text = open_text(&path).map_err(file("read", &path))?;
        let summary = benchmarks.add(&name, text, &mut normaliser);
        let summary = summary.map_err(|source| FolderError::Benchmark {
            path: path.clone(),
            source,
        })?;
        against.push(Benchmark {
            file: name,
            sha256: hex(&Sha256::digest(&bytes)),
            summary: summary.clone(),
        });
    }
    Ok((
        against,
        Sieve::new(Some((benchmarks, normaliser)), scrubber),
    ))
}

/// The making of one source.
struct Work<'a> {
    source: &'a Source,
    folder: &'a Path,
    per_shard: usize,
}

/// Told after each shard: its rows, how many rows of the source there are, and how many of its packages were
/// begun of how many.
type Each<'a> = dyn FnMut(&Rows, usize, (usize, usize)) + 'a;

impl Work<'_> {
    /// Makes what is missing behind the shards that are there.
    fn make(
        &self,
        maker: &mut dyn Maker,
        at: usize,
        manifest: &mut Manifest,
        sieve: &mut Sieve,
        each: &mut Each<'_>,
    ) -> Result<(), FolderError> {
        let made = &manifest.sources[at];
        let corpora = self.source.packages();
        if let Some(last) = made.shards.last() {
            maker.go_on(last.report.clone(), last.next, &made.corpora);
            let kept = last.report.kept;
            each_shard(made, self.folder, &mut |rows| {
                maker.remember(rows);
                each(rows, kept, (made.corpora.len(), corpora));
            })?;
        }
        loop {
            let rows = maker.rows(self.per_shard, sieve)?;
            let made = &mut manifest.sources[at];
            made.corpora = maker.corpora().to_vec();
            if rows.len() > 0 {
                let mut shard = self.write(&rows, made.shards.len())?;
                shard.report = maker.report().clone();
                shard.next = maker.next();
                made.shards.push(shard);
            }
            made.complete = rows.len() < self.per_shard;
            if made.complete {
                made.report = maker.report().clone();
            }
            let is_complete = made.complete;
            write_manifest(manifest, self.folder)?;
            each(&rows, maker.report().kept, (maker.corpora().len(), corpora));
            if is_complete {
                return Ok(());
            }
        }
    }

    fn write(&self, rows: &Rows, number: usize) -> Result<Shard, FolderError> {
        let name = format!("{}-{number:05}{}.parquet", self.source.name(), rows.kind());
        let path = self.folder.join(&name);
        let failed = |source| FolderError::Shard {
            path: path.clone(),
            source,
        };
        let bytes = rows.shard(self.source.name()).map_err(failed)?;
        write_whole(&path, &bytes)?;
        Ok(Shard {
            file: name,
            licences: rows.licences(),
            records: rows.len(),
            bytes: bytes.len() as u64,
            sha256: hex(&Sha256::digest(&bytes)),
            report: Report::default(),
            next: 0,
        })
    }
}

/// Reads the shards of a source one after the other.
fn each_shard(made: &Made, folder: &Path, each: &mut dyn FnMut(&Rows)) -> Result<(), FolderError> {
    for shard in &made.shards {
        let path = folder.join(&shard.file);
        let opened = File::open(&path).map_err(file("read", &path))?;
        let rows = Rows::read(&shard.file, opened)
            .map_err(|source| FolderError::Shard { path, source })?;
        each(&rows);
    }
    Ok(())
}
