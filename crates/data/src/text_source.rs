//! Makes the texts of a recipe's source, unit by unit: a recorded run, a commit, a file.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use cwm_trace::nd::{self, Direction, Extent, Sampling};
use cwm_trace::{cwm, live};
use cwm_tracer::Interpreter;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::build::{BuildError, Report};
use crate::folder::Maker;
use crate::harvest::{Corpus, FetchedFiles, Fetcher, is_code};
use crate::record::Record;
use crate::rows::Rows;
use crate::scrub::Scrubber;
use crate::shard::read_shard;
use crate::sieve::Sieve;
use crate::text::compiler::{self, BytecodeCompiler, Compiler, Target};
use crate::text::kernel::KernelFinder;
use crate::text::pull_request::{self, History, commits, pull_request};
use crate::text::trajectory::trajectory;
use crate::text::{
    Document, FileError, GitError, Harvest, Material, Objects, Origin, Skip, files, lean, prose,
    read_text,
};
use crate::text_shard::TextRow;

/// The most bytes of a file that is cut into documents.
const MOST_BYTES: usize = 1 << 20;

/// How a run becomes a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rendering {
    /// Meta's format.
    Cwm,
    /// Numbered lines and changes only.
    Live,
    /// States and debugger actions, as the program ran.
    Nd,
    /// The same backwards.
    NdInverse,
    /// Sentences.
    Prose,
}

/// What a compiler makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Translation {
    /// CPython's bytecode.
    Bytecode,
    /// LLVM's intermediate language by `rustc`.
    RustLlvm,
    /// Assembly by `rustc`.
    RustAsm,
    /// LLVM's intermediate language by `clang`.
    CLlvm,
    /// Assembly by `gcc`.
    CAsm,
}

impl Translation {
    /// The ending of files with such sources.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Bytecode => "py",
            Self::RustLlvm | Self::RustAsm => "rs",
            Self::CLlvm | Self::CAsm => "c",
        }
    }
}

/// Why texts could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The history of a repository cannot be read.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A shard of the source that is rendered cannot be read.
    #[error("cannot use `{}`: {source}", path.display())]
    Shard {
        /// Which one.
        path: PathBuf,
        /// The cause.
        source: crate::shard::ShardError,
    },
    /// A compiler that the recipe asks for is not there.
    #[error("`{0}` is not installed; install it or take what needs it out of the recipe")]
    NoCompiler(&'static str),
}

/// What a source is made of.
pub(crate) enum Plan {
    Rendered {
        shards: Vec<PathBuf>,
        rendering: Rendering,
        per_run: u64,
        seed: u64,
    },
    Changes {
        folder: PathBuf,
        tip: String,
        material: Material,
        history: History,
    },
    Compiled {
        folder: PathBuf,
        material: Material,
        translations: Vec<Translation>,
    },
    /// Bytecode of the modules of packages.
    CompiledPackages {
        packages: Vec<String>,
        fetcher: Fetcher,
    },
    Kernels {
        packages: Vec<String>,
        fetcher: Fetcher,
    },
    Lean {
        folder: PathBuf,
        material: Material,
        steps: Option<PathBuf>,
    },
    Trajectories {
        file: PathBuf,
        material: Material,
    },
}

/// A unit of work, from which a number of texts come.
enum Unit {
    /// A shard's record.
    Run {
        shard: usize,
        row: usize,
    },
    Commit(String),
    /// A file of a folder, what is to be made of it, and whose it is.
    File {
        path: PathBuf,
        material: Material,
        job: Job,
    },
    Trajectory(String),
}

#[derive(Clone, Copy)]
enum Job {
    Bytecode,
    Native(Target),
    Kernels,
    Theorems,
    Steps,
}

/// Makes texts.
pub(crate) struct TextMaker {
    units: Vec<Unit>,
    tools: Tools,
    corpora: Vec<Corpus>,
    report: Report,
    next: usize,
    seen: HashSet<[u8; 16]>,
}

/// What turns units into texts; each is there if a unit needs it.
struct Tools {
    scrubber: Scrubber,
    shards: Vec<PathBuf>,
    /// The shard in hand.
    open: Option<(usize, Vec<Record>)>,
    rendering: Rendering,
    per_run: u64,
    seed: u64,
    objects: Option<(Objects, Material)>,
    bytecode: Option<BytecodeCompiler>,
    compilers: Vec<Compiler>,
    kernels: Option<KernelFinder>,
    /// Of the trajectories.
    material: Option<Material>,
}

impl TextMaker {
    pub(crate) fn start(plan: Plan, interpreter: &Interpreter) -> Result<Self, BuildError> {
        let mut maker = Self {
            units: Vec::new(),
            tools: Tools {
                scrubber: Scrubber::default(),
                shards: Vec::new(),
                open: None,
                rendering: Rendering::Live,
                per_run: 1,
                seed: 0,
                objects: None,
                bytecode: None,
                compilers: Vec::new(),
                kernels: None,
                material: None,
            },
            corpora: Vec::new(),
            report: Report::default(),
            next: 0,
            seen: HashSet::new(),
        };
        maker.set_up(plan, interpreter)?;
        Ok(maker)
    }

    fn set_up(&mut self, plan: Plan, interpreter: &Interpreter) -> Result<(), BuildError> {
        match plan {
            Plan::Rendered {
                shards,
                rendering,
                per_run,
                seed,
            } => {
                (self.tools.rendering, self.tools.per_run, self.tools.seed) =
                    (rendering, per_run, seed);
                for (shard, path) in shards.iter().enumerate() {
                    let rows = records(path)?.len();
                    self.units
                        .extend((0..rows).map(|row| Unit::Run { shard, row }));
                }
                self.tools.shards = shards;
            }
            Plan::Changes {
                folder,
                tip,
                material,
                history,
            } => {
                let found = commits(&folder, &tip, history).map_err(TextError::from)?;
                self.units = found.into_iter().map(Unit::Commit).collect();
                self.tools.objects =
                    Some((Objects::open(&folder).map_err(TextError::from)?, material));
            }
            Plan::Compiled {
                folder,
                material,
                translations,
            } => {
                for translation in translations {
                    let job = self.job(translation, interpreter)?;
                    let extension = match job {
                        Job::Native(target) => target.extension(),
                        _ => "py",
                    };
                    self.list(&folder, extension, &material, job)?;
                }
            }
            Plan::CompiledPackages { packages, fetcher } => {
                self.tools.bytecode = Some(BytecodeCompiler::start(interpreter)?);
                self.fetch(&packages, fetcher, Job::Bytecode)?;
            }
            Plan::Kernels { packages, fetcher } => {
                self.tools.kernels = Some(KernelFinder::start(interpreter)?);
                self.fetch(&packages, fetcher, Job::Kernels)?;
            }
            Plan::Lean {
                folder,
                material,
                steps,
            } => {
                self.list(&folder, "lean", &material, Job::Theorems)?;
                self.units.extend(steps.map(|path| Unit::File {
                    path,
                    material,
                    job: Job::Steps,
                }));
            }
            Plan::Trajectories { file, material } => {
                let failed = |source| TextError::Read {
                    path: file.clone(),
                    source,
                };
                let lines = BufReader::new(File::open(&file).map_err(failed)?).lines();
                for line in lines {
                    let line = line.map_err(failed)?;
                    if !line.trim().is_empty() {
                        self.units.push(Unit::Trajectory(line));
                    }
                }
                self.tools.material = Some(material);
            }
        }
        Ok(())
    }

    fn job(
        &mut self,
        translation: Translation,
        interpreter: &Interpreter,
    ) -> Result<Job, BuildError> {
        let target = match translation {
            Translation::Bytecode => {
                self.tools.bytecode = Some(BytecodeCompiler::start(interpreter)?);
                return Ok(Job::Bytecode);
            }
            Translation::RustLlvm => Target::RustLlvm,
            Translation::RustAsm => Target::RustAssembly,
            Translation::CLlvm => Target::CLlvm,
            Translation::CAsm => Target::CAssembly,
        };
        let compiler = Compiler::find(target).ok_or(TextError::NoCompiler(target.program()))?;
        self.tools.compilers.push(compiler);
        Ok(Job::Native(target))
    }

    /// The files of a folder with an ending, as units.
    fn list(
        &mut self,
        folder: &Path,
        extension: &str,
        material: &Material,
        job: Job,
    ) -> Result<(), BuildError> {
        let names = files(folder, extension).map_err(TextError::from)?;
        self.add_files(folder, names, material, job);
        Ok(())
    }

    fn add_files(&mut self, folder: &Path, names: Vec<String>, material: &Material, job: Job) {
        self.units.extend(names.into_iter().map(|name| {
            let mut material = material.clone();
            let path = folder.join(&name);
            material.origin.path = name;
            Unit::File {
                path,
                material,
                job,
            }
        }));
    }

    /// The files of packages, as units.
    fn fetch(
        &mut self,
        packages: &[String],
        mut fetcher: Fetcher,
        job: Job,
    ) -> Result<(), BuildError> {
        for package in packages {
            match fetcher.fetch(package)? {
                Err(refused) => self.corpora.push(refused),
                Ok(FetchedFiles { about, root, names }) => {
                    let origin = Origin {
                        project: about.name.clone(),
                        version: about.version.clone(),
                        path: String::new(),
                    };
                    let material = Material {
                        licence: about.licence.clone(),
                        origin,
                    };
                    let code = names.into_iter().filter(|name| is_code(name)).collect();
                    self.add_files(&root, code, &material, job);
                    self.corpora.push(about);
                }
            }
        }
        Ok(())
    }

    /// The texts of a unit that are not there yet.
    fn make(&mut self, at: usize, sieve: &Sieve) -> Result<Vec<TextRow>, BuildError> {
        let (rows, harvest) = match &self.units[at] {
            Unit::Run { shard, row } => self.tools.render(*shard, *row)?,
            unit => (Vec::new(), self.tools.documents(unit)?),
        };
        self.report.candidates += harvest.skipped.total();
        for (reason, count) in harvest.skipped.iter() {
            *self.report.skipped.entry(reason).or_default() += count;
        }
        let mut found = rows;
        for document in &harvest.documents {
            found.push(row(document)?);
        }
        // Runs were held against the benchmarks when they were recorded.
        let is_run = matches!(self.units[at], Unit::Run { .. });
        found.retain(|row| {
            self.report.candidates += 1;
            let reason = if !is_run && sieve.has(&row.text) {
                Skip::Benchmark
            } else if !self.seen.insert(digest(&row.text)) {
                Skip::Repeated
            } else {
                return true;
            };
            *self.report.skipped.entry(reason).or_default() += 1;
            false
        });
        self.report.kept += found.len();
        Ok(found)
    }
}

impl Maker for TextMaker {
    fn go_on(&mut self, report: Report, next: u64, _: &[Corpus]) {
        self.report = report;
        self.next = next as usize;
    }

    fn remember(&mut self, rows: &Rows) {
        if let Rows::Texts(texts) = rows {
            self.seen.extend(texts.iter().map(|row| digest(&row.text)));
        }
    }

    fn rows(&mut self, wanted: usize, sieve: &mut Sieve) -> Result<Rows, BuildError> {
        let mut rows = Vec::new();
        while rows.len() < wanted && self.next < self.units.len() {
            rows.extend(self.make(self.next, sieve)?);
            self.next += 1;
        }
        Ok(Rows::Texts(rows))
    }

    fn report(&self) -> &Report {
        &self.report
    }

    fn next(&self) -> u64 {
        self.next as u64
    }

    fn corpora(&self) -> &[Corpus] {
        &self.corpora
    }
}

impl Tools {
    /// A recorded run in a dialect, or the document of its prose.
    fn render(&mut self, shard: usize, row: usize) -> Result<(Vec<TextRow>, Harvest), BuildError> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != shard) {
            self.open = Some((shard, records(&self.shards[shard])?));
        }
        let Some(record) = self.open.as_ref().and_then(|(_, records)| records.get(row)) else {
            return Ok((Vec::new(), Harvest::default()));
        };
        let number = (shard as u64) << 32 | row as u64;
        let trace = &record.trace;
        let text = |kind: &str, part: String, text: String| TextRow {
            id: format!("{kind}:{}{part}", record.id),
            licence: record.origin.licence().to_owned(),
            kind: kind.to_owned(),
            group: record.group().to_owned(),
            text,
            document: String::new(),
        };
        let walks = |direction| {
            let sampling = Sampling {
                direction,
                extent: Extent::Run,
                seed: self.seed,
            };
            let walk =
                |k: u64| nd::render(&nd::sample(trace, &sampling, number * self.per_run + k));
            (0..self.per_run).map(walk).collect::<Vec<_>>()
        };
        let rows = match self.rendering {
            Rendering::Cwm => vec![text(
                "cwm",
                String::new(),
                cwm::render(&cwm::Document::from_trace(trace)),
            )],
            Rendering::Live => vec![text(
                "live",
                String::new(),
                live::render(&live::Document::from_trace(trace)),
            )],
            Rendering::Nd | Rendering::NdInverse => {
                let (kind, direction) = match self.rendering {
                    Rendering::NdInverse => ("nd_inverse", Direction::Inverse),
                    _ => ("nd", Direction::Forward),
                };
                let walks = (0..).zip(walks(direction));
                walks
                    .map(|(k, walk): (u64, _)| text(kind, format!("/{k}"), walk))
                    .collect()
            }
            Rendering::Prose => return self.prose(record, number),
        };
        Ok((rows, Harvest::default()))
    }

    fn prose(&self, record: &Record, number: u64) -> Result<(Vec<TextRow>, Harvest), BuildError> {
        let material = Material {
            licence: record.origin.licence().to_owned(),
            origin: Origin {
                project: record.id.clone(),
                ..Origin::default()
            },
        };
        let limits = prose::Limits::default();
        Ok(
            match prose::prose(
                &record.trace,
                self.seed ^ number,
                &material,
                &limits,
                &self.scrubber,
            ) {
                Ok(document) => {
                    let row = TextRow {
                        group: record.group().to_owned(),
                        ..row(&document)?
                    };
                    (vec![row], Harvest::default())
                }
                Err(reason) => (Vec::new(), Harvest::nothing(reason)),
            },
        )
    }

    fn documents(&mut self, unit: &Unit) -> Result<Harvest, BuildError> {
        let mut harvest = Harvest::default();
        match unit {
            Unit::Run { .. } => {}
            Unit::Commit(commit) => {
                if let Some((objects, material)) = &mut self.objects {
                    let limits = pull_request::Limits::default();
                    let made = pull_request(objects, commit, material, &limits, &self.scrubber);
                    harvest.take(made.map_err(TextError::from)?);
                }
            }
            Unit::File {
                path,
                material,
                job,
            } => return self.file(path, material, *job),
            Unit::Trajectory(line) => {
                let material = self.material.clone().unwrap_or(Material {
                    licence: String::new(),
                    origin: Origin::default(),
                });
                let parsed = serde_json::from_str(line).map_err(|_| Skip::Malformed);
                harvest
                    .take(parsed.and_then(|parsed| trajectory(parsed, &material, &self.scrubber)));
            }
        }
        Ok(harvest)
    }

    fn file(&mut self, path: &Path, material: &Material, job: Job) -> Result<Harvest, BuildError> {
        if let Job::Steps = job {
            let failed = |source| TextError::Read {
                path: path.to_owned(),
                source,
            };
            let lines = BufReader::new(File::open(path).map_err(failed)?);
            return Ok(lean::steps(lines, material, &self.scrubber).map_err(failed)?);
        }
        let source = match read_text(path, MOST_BYTES).map_err(TextError::from)? {
            Ok(source) => source,
            Err(reason) => return Ok(Harvest::nothing(reason)),
        };
        let limits = compiler::Limits::default();
        Ok(match job {
            Job::Bytecode => match &mut self.bytecode {
                Some(compiler) => compiler.pairs(&source, material, &limits, &self.scrubber)?,
                None => Harvest::nothing(Skip::NoTool),
            },
            Job::Native(target) => {
                let compiler = self
                    .compilers
                    .iter()
                    .find(|compiler| compiler.target() == target);
                let made = compiler.ok_or(Skip::NoTool);
                let mut harvest = Harvest::default();
                harvest.take(made.and_then(|compiler| {
                    compiler.pair(&source, material, &limits, &self.scrubber)
                }));
                harvest
            }
            Job::Kernels => match &mut self.kernels {
                Some(finder) => finder.kernels(&source, material, MOST_BYTES, &self.scrubber)?,
                None => Harvest::nothing(Skip::NoTool),
            },
            Job::Theorems | Job::Steps => {
                lean::theorems(&source, material, MOST_BYTES, &self.scrubber)
            }
        })
    }
}

fn records(path: &Path) -> Result<Vec<Record>, BuildError> {
    let failed = |source| TextError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    Ok(read_shard(file).map_err(|source| TextError::Shard {
        path: path.to_owned(),
        source,
    })?)
}

fn row(document: &Document) -> Result<TextRow, BuildError> {
    let Origin {
        project,
        version,
        path,
    } = &document.origin;
    let json = serde_json::to_string(document).map_err(io::Error::from)?;
    Ok(TextRow {
        id: document.id.clone(),
        licence: document.licence.clone(),
        kind: document.content.kind().to_owned(),
        group: [project.as_str(), version, path].join(":"),
        text: document.render(),
        document: json,
    })
}

fn digest(text: &str) -> [u8; 16] {
    let digest = Sha256::digest(text.as_bytes());
    std::array::from_fn(|at| digest[at])
}
