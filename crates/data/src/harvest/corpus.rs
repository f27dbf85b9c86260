//! Where real functions come from: packages of an index, the interpreter's library, files of problems.
//!
//! Packages are fetched by `python/fetch.py`, which runs and installs nothing of them, into a cache; functions
//! are cut out by `python/harvest.py`, which only parses.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use cwm_tracer::{Interpreter, Suite, SuiteRequest, WrittenCalls, calls_in_tests};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::build::hex;
use crate::filter::Rejection;
use crate::python::{Python, PythonError};

use super::target::Target;

const FETCH: &str = include_str!("../../python/fetch.py");
const HARVEST: &str = concat!(
    include_str!("../../python/slice.py"),
    include_str!("../../python/hints.py"),
    include_str!("../../python/harvest.py"),
);

/// What is said about a corpus before it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `name==version` in a package index; its tests are run for so many seconds, if more than 0.
    Package(String, u32),
    /// The library of the interpreter itself.
    Library,
    /// JSON lines of problems with solutions and tests, as MBPP has them.
    Problems {
        /// The file.
        path: PathBuf,
        /// What its licence is.
        licence: String,
    },
}

/// A corpus in the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corpus {
    /// Name of the package, or of the file.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SPDX expression, or `unknown`.
    pub licence: String,
    /// Of the archive or file, in hexadecimal; empty for the interpreter's library.
    pub sha256: String,
    /// Functions that stand alone, of which runs were tried.
    pub functions: usize,
    /// What came of its tests, if they were to be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<Suite>,
    /// Why it was not used, if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
}

/// Why a package is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The index does not have it.
    NotInIndex,
    /// The index has no such version.
    NoSuchVersion,
    /// There is neither a source distribution nor a wheel for all platforms.
    NoSource,
    /// Its licence is not one of those that are allowed, or it says none.
    Licence,
    /// The archive, or what is in it, is too large.
    TooLarge,
    /// The archive cannot be unpacked, or is not what the index says.
    Damaged,
    /// It says nothing about itself.
    NoMetadata,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NotInIndex => "not in the index",
            Self::NoSuchVersion => "the index has no such version",
            Self::NoSource => "neither a source distribution nor a wheel for all platforms",
            Self::Licence => "its licence is not allowed",
            Self::TooLarge => "too large",
            Self::Damaged => "the archive is damaged",
            Self::NoMetadata => "no metadata",
        })
    }
}

/// Why a corpus could not be opened: another try may go well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// The index did not answer, or the cache cannot be written.
    #[error("cannot fetch `{package}`: {why}; the same command goes on from here")]
    Fetch {
        /// Which one.
        package: String,
        /// What went wrong.
        why: String,
    },
    /// A file of problems cannot be read.
    #[error("cannot use the problems in `{}`: {why}", path.display())]
    Problems {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No process can be started.
    #[error("cannot run the tests of `{package}`: {source}")]
    Suite {
        /// Of which package.
        package: String,
        /// The cause.
        source: io::Error,
    },
    /// A file of the cache cannot be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The interpreter is gone.
    #[error(transparent)]
    Python(#[from] PythonError),
}

/// The functions of a corpus.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) about: Corpus,
    /// With the file that each is from.
    pub(crate) targets: Vec<(String, Target)>,
    /// Functions and files that cannot be used.
    pub(crate) rejected: BTreeMap<Rejection, usize>,
}

#[derive(Serialize)]
struct FetchRequest<'a> {
    package: &'a str,
    cache: &'a Path,
    index: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Fetched {
    Good {
        folder: PathBuf,
        licence: String,
        sha256: String,
        files: Vec<String>,
    },
    Refused {
        refused: Refusal,
    },
    Failed {
        error: String,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Question<'a> {
    Begin { root: &'a Path, calls: &'a [String] },
    Recorded { recorded: &'a WrittenCalls },
    Functions { file: &'a str },
}

#[derive(Deserialize)]
struct Found {
    functions: Vec<Target>,
    refused: BTreeMap<Rejection, usize>,
}

/// Opens one corpus after the other.
pub(crate) struct Opener {
    interpreter: Interpreter,
    fetcher: Fetcher,
    slicer: Python,
}

/// Fetches packages into a cache, where they are not there yet.
pub(crate) struct Fetcher {
    python: Python,
    cache: PathBuf,
    index: Option<String>,
    licences: Vec<String>,
}

/// A package, or what is like one, in a folder.
pub(crate) struct FetchedFiles {
    pub(crate) about: Corpus,
    pub(crate) root: PathBuf,
    /// Its Python files.
    pub(crate) names: Vec<String>,
}

impl Fetcher {
    /// Packages of other licences than these SPDX identifiers are refused.
    pub(crate) fn start(
        interpreter: &Interpreter,
        cache: PathBuf,
        index: Option<String>,
        licences: Vec<String>,
    ) -> Result<Self, PythonError> {
        Ok(Self {
            python: Python::start(interpreter, FETCH, "fetches packages")?,
            cache,
            index,
            licences,
        })
    }

    /// A package, `name==version`; `Err` inside says why it is refused.
    pub(crate) fn fetch(
        &mut self,
        package: &str,
    ) -> Result<Result<FetchedFiles, Corpus>, CorpusError> {
        let (name, version) = package.split_once("==").unwrap_or((package, ""));
        let about = |licence: String, sha256: String, refused| Corpus {
            name: name.to_owned(),
            version: version.to_owned(),
            licence,
            sha256,
            functions: 0,
            suite: None,
            refused,
        };
        let request = FetchRequest {
            package,
            cache: &self.cache,
            index: self.index.as_deref(),
        };
        match self.python.ask(&request)? {
            Fetched::Failed { error } => Err(CorpusError::Fetch {
                package: package.to_owned(),
                why: error,
            }),
            Fetched::Refused { refused } => Ok(Err(about(
                "unknown".to_owned(),
                String::new(),
                Some(refused),
            ))),
            Fetched::Good {
                licence, sha256, ..
            } if !is_allowed(&licence, &self.licences) => {
                Ok(Err(about(licence, sha256, Some(Refusal::Licence))))
            }
            Fetched::Good {
                folder,
                licence,
                sha256,
                files,
            } => Ok(Ok(FetchedFiles {
                about: about(licence, sha256, None),
                root: folder,
                names: files,
            })),
        }
    }
}

impl Opener {
    pub(crate) fn start(interpreter: &Interpreter, fetcher: Fetcher) -> Result<Self, PythonError> {
        Ok(Self {
            interpreter: interpreter.clone(),
            fetcher,
            slicer: Python::start(interpreter, HARVEST, "cuts functions out of files")?,
        })
    }

    pub(crate) fn open(&mut self, place: &Place) -> Result<Opened, CorpusError> {
        let (files, seconds) = match place {
            Place::Package(package, seconds) => match self.fetcher.fetch(package)? {
                Ok(files) => (files, *seconds),
                Err(about) => {
                    let (targets, rejected) = (Vec::new(), BTreeMap::new());
                    return Ok(Opened {
                        about,
                        targets,
                        rejected,
                    });
                }
            },
            Place::Library => (self.standard_modules()?, 0),
            Place::Problems { path, licence } => (self.problems(path, licence)?, 0),
        };
        self.slice(files, seconds)
    }

    /// The modules of the interpreter's library, without what is installed beside them.
    fn standard_modules(&mut self) -> Result<FetchedFiles, CorpusError> {
        let root = library_folder(&self.interpreter)?;
        let mut names = Vec::new();
        python_files(&root, "", &mut names);
        names.retain(|name| !name.contains("site-packages") && !name.contains("__pycache__"));
        names.sort();
        let about = Corpus {
            name: "python".to_owned(),
            version: self.interpreter.version_text(),
            licence: "PSF-2.0".to_owned(),
            sha256: String::new(),
            functions: 0,
            suite: None,
            refused: None,
        };
        Ok(FetchedFiles { about, root, names })
    }

    /// Writes each problem's solution and tests as a file of the cache.
    fn problems(&mut self, path: &Path, licence: &str) -> Result<FetchedFiles, CorpusError> {
        let failed = |why: String| CorpusError::Problems {
            path: path.to_owned(),
            why,
        };
        let bytes = fs::read(path).map_err(|error| failed(error.to_string()))?;
        let sha256 = hex(&Sha256::digest(&bytes));
        let name = path
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let root = self
            .fetcher
            .cache
            .join(format!("problems-{}", &sha256[..16]));
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            let written = fs::create_dir_all(&root).and_then(|()| fs::write(&path, text));
            written.map_err(|source| CorpusError::Cache { path, source })
        };
        let (mut names, mut lines) = (Vec::new(), HashMap::new());
        for (line, text) in (1..).zip(BufReader::new(&bytes[..]).lines()) {
            let text = text.map_err(|error| failed(format!("line {line}: {error}")))?;
            if text.trim().is_empty() {
                continue;
            }
            let problem: Problem = serde_json::from_str(&text)
                .map_err(|error| failed(format!("line {line}: {error}")))?;
            let id = problem
                .task_id
                .as_ref()
                .map_or_else(|| line.to_string(), ToString::to_string);
            let file = format!("{}.py", id.replace(['/', '"', '\\'], "_"));
            if let Some(before) = lines.insert(file.clone(), line) {
                return Err(failed(format!(
                    "lines {before} and {line} are both called {id}"
                )));
            }
            write(&file, &problem.text())?;
            names.push(file);
        }
        let about = Corpus {
            name,
            version: sha256[..12].to_owned(),
            licence: licence.to_owned(),
            sha256,
            functions: 0,
            suite: None,
            refused: None,
        };
        Ok(FetchedFiles { about, root, names })
    }

    fn slice(&mut self, files: FetchedFiles, seconds: u32) -> Result<Opened, CorpusError> {
        let FetchedFiles {
            mut about,
            root,
            names,
        } = files;
        let () = self.slicer.ask(&Question::Begin {
            root: &root,
            calls: &names,
        })?;
        if seconds > 0 {
            let (suite, recorded) = self.run_tests(&about.name, &root, &names, seconds)?;
            about.suite = Some(suite);
            let () = self.slicer.ask(&Question::Recorded {
                recorded: &recorded,
            })?;
        }
        let (mut targets, mut rejected) = (Vec::new(), BTreeMap::new());
        for name in names.iter().filter(|name| is_code(name)) {
            let found: Found = self.slicer.ask(&Question::Functions { file: name })?;
            targets.extend(
                found
                    .functions
                    .into_iter()
                    .map(|target| (name.clone(), target)),
            );
            for (reason, count) in found.refused {
                *rejected.entry(reason).or_default() += count;
            }
        }
        about.functions = targets.len();
        Ok(Opened {
            about,
            targets,
            rejected,
        })
    }

    /// Runs the tests of a package.
    fn run_tests(
        &self,
        package: &str,
        root: &Path,
        names: &[String],
        seconds: u32,
    ) -> Result<(Suite, WrittenCalls), CorpusError> {
        let names = || names.iter().map(String::as_str);
        let modules: Vec<_> = names().filter(|name| is_code(name)).collect();
        let tests: Vec<_> = names().filter(|name| is_test(name)).collect();
        let request = SuiteRequest {
            root,
            modules: &modules,
            tests: &tests,
            seconds,
            memory: SUITE_MEMORY,
        };
        calls_in_tests(&self.interpreter, &request).map_err(|source| CorpusError::Suite {
            package: package.to_owned(),
            source,
        })
    }
}

/// A line of a file of problems, of which only this is used.
#[derive(Deserialize)]
struct Problem {
    code: String,
    #[serde(default)]
    task_id: Option<serde_json::Value>,
    #[serde(default)]
    test_list: Vec<String>,
    #[serde(default)]
    challenge_test_list: Vec<String>,
}

impl Problem {
    /// The code, and the tests as a function, where calls are looked for.
    fn text(&self) -> String {
        let mut text = self.code.replace("\r\n", "\n");
        text.push_str("\n\n\ndef test_it():\n    pass\n");
        for test in self.test_list.iter().chain(&self.challenge_test_list) {
            for line in test.replace("\r\n", "\n").lines() {
                text.push_str("    ");
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }
}

/// Address space of the process that runs a package's tests.
const SUITE_MEMORY: u64 = 4 << 30;

/// Whether the file holds tests, as its name says.
fn is_test(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or_default();
    (file.starts_with("test") || file.ends_with("_test.py")) && !file.starts_with("testing")
}

/// Whether functions of the file are code in use, rather than tests, or copies of other packages.
pub(crate) fn is_code(name: &str) -> bool {
    const APART: [&str; 20] = [
        "test",
        "tests",
        "testing",
        "doc",
        "docs",
        "_vendor",
        "_vendored",
        "vendor",
        "vendored",
        "third_party",
        "thirdparty",
        "extern",
        "externals",
        "bundled",
        "blib2to3",
        "idlelib",
        "lib2to3",
        "turtledemo",
        "node_modules",
        "benchmarks",
    ];
    let mut parts: Vec<_> = name.split('/').collect();
    let file = parts.pop().unwrap_or_default();
    let is_test = file.starts_with("test_") || file.ends_with("_test.py");
    !is_test
        && !["setup.py", "conftest.py"].contains(&file)
        && !parts.iter().any(|part| APART.contains(part))
}

/// Whether a licence allows what is done with the text: every part of an `AND`, or one part of an `OR`. What is
/// no expression allows nothing.
pub(crate) fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ");
    let mut words: Vec<&str> = spaced.split_whitespace().collect();
    words.reverse();
    any_of(&mut words, allowed).is_some_and(|is| is && words.is_empty())
}

/// `A OR B`, from the end of the list on; `None` where it is malformed.
fn any_of(words: &mut Vec<&str>, allowed: &[String]) -> Option<bool> {
    let mut is = all_of(words, allowed)?;
    while words
        .last()
        .is_some_and(|word| word.eq_ignore_ascii_case("OR"))
    {
        words.pop();
        is |= all_of(words, allowed)?;
    }
    Some(is)
}

/// `A AND B`.
fn all_of(words: &mut Vec<&str>, allowed: &[String]) -> Option<bool> {
    let mut is = one_of(words, allowed)?;
    while words
        .last()
        .is_some_and(|word| word.eq_ignore_ascii_case("AND"))
    {
        words.pop();
        is &= one_of(words, allowed)?;
    }
    Some(is)
}

/// A licence, perhaps with an exception, which only allows more; or an expression in brackets.
fn one_of(words: &mut Vec<&str>, allowed: &[String]) -> Option<bool> {
    let word = words.pop()?;
    if word == "(" {
        let is = any_of(words, allowed)?;
        return (words.pop() == Some(")")).then_some(is);
    }
    if word == ")" {
        return None;
    }
    if words
        .last()
        .is_some_and(|word| word.eq_ignore_ascii_case("WITH"))
    {
        words.pop();
        words.pop()?;
    }
    Some(
        allowed
            .iter()
            .any(|licence| licence.eq_ignore_ascii_case(word)),
    )
}

/// Where the interpreter keeps its library.
pub(crate) fn library_folder(interpreter: &Interpreter) -> Result<PathBuf, PythonError> {
    const SCRIPT: &str = "import json, os\nfor line in sys.stdin:\n print(json.dumps(os.path.dirname(os.__file__)), flush=True)\n";
    Python::start(interpreter, SCRIPT, "says where its library is")?.ask(&())
}

/// Python files below a folder, by their paths from there; what cannot be read is left out.
fn python_files(root: &Path, below: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(root.join(below)) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => python_files(root, &path, found),
            Ok(kind) if kind.is_file() && path.ends_with(".py") => found.push(path),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_read_as_expressions() {
        let allowed = ["MIT", "Apache-2.0"].map(str::to_owned);
        for (expression, is) in [
            ("MIT", true),
            ("mit", true),
            ("GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only", true),
            ("MIT AND GPL-3.0-only", false),
            ("(MIT AND Apache-2.0)", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("(MIT OR Apache-2.0) AND GPL-3.0-only", false),
            ("GPL-3.0-only AND MIT OR Apache-2.0", true),
            ("(MIT", false),
            ("MIT Apache-2.0", false),
            ("MIT OR", false),
            ("unknown", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(expression, &allowed), is, "{expression}");
        }
    }

    #[test]
    fn tests_and_copies_are_no_code_in_use() {
        for (name, is) in [
            ("pkg/a.py", true),
            ("pkg/tests/a.py", false),
            ("pkg/test_a.py", false),
            ("pkg/_vendor/b/c.py", false),
            ("setup.py", false),
            ("601.py", true),
        ] {
            assert_eq!(is_code(name), is, "{name}");
        }
    }
}
