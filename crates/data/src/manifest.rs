//! [`Manifest`]: what a folder of data holds, and how it came about.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::build::{Report, hex};
use crate::decontaminate::Summary;
use crate::folder::{FolderError, Setup};
use crate::harvest::Corpus;
use crate::inputs::{Input, inputs};
use crate::recipe::{Recipe, Source};

const FORMAT: &str = "cwm.data";
const VERSION: u32 = 2;
const MANIFEST: &str = "manifest.json";
/// Of the weaker kinds: it stops accidents, not malice.
const ISOLATION: &str = "a process for each program, resource limits, an audit hook (PEP 578)";

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
    /// What kept programs of people from the machine while they ran.
    pub isolation: String,
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
    /// Files, folders and repositories that it is made from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
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

/// The manifest of a folder that was begun, or of one that is empty.
pub(crate) fn begun(
    recipe: &str,
    parsed: &Recipe,
    setup: &Setup,
    against: Vec<Benchmark>,
    folder: &Path,
) -> Result<Manifest, FolderError> {
    let path = folder.join(MANIFEST);
    let python = setup.interpreter.version_text();
    let read: Vec<Vec<Input>> = (parsed.sources.iter())
        .map(|source| inputs(source, &setup.base))
        .collect::<Result<_, _>>()?;
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = |(source, inputs): (&Source, Vec<Input>)| Made {
                name: source.name().to_owned(),
                seed: parsed.seed_of(source),
                inputs,
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
                isolation: ISOLATION.to_owned(),
                against,
                complete: false,
                sources: parsed.sources.iter().zip(read).map(made).collect(),
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
    for (made, now) in manifest.sources.iter().zip(&read) {
        if let Some(changed) = made.inputs.iter().find(|input| !now.contains(input)) {
            return Err(FolderError::OtherInput {
                source_name: made.name.clone(),
                path: changed.path.clone(),
            });
        }
    }
    if manifest.cwm != env!("CARGO_PKG_VERSION") {
        return Err(FolderError::OtherProgram {
            was: manifest.cwm,
            is: env!("CARGO_PKG_VERSION"),
        });
    }
    if manifest.against != against {
        return Err(FolderError::OtherBenchmarks);
    }
    Ok(manifest)
}

/// Takes shards that are not as they were written out of the manifest, with all that depends on them.
pub(crate) fn drop_damaged(
    manifest: &mut Manifest,
    folder: &Path,
) -> Result<Vec<String>, FolderError> {
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

/// Writes the manifest of a folder.
pub(crate) fn write_manifest(manifest: &Manifest, folder: &Path) -> Result<(), FolderError> {
    let path = folder.join(MANIFEST);
    let mut text =
        serde_json::to_vec_pretty(manifest).map_err(|e| file("write", &path)(e.into()))?;
    text.push(b'\n');
    write_whole(&path, &text)
}

/// Writes a file that has its name only once it is whole and on the disk.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
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

/// What went wrong with a file, for `map_err`.
pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::File {
        doing,
        path,
        source,
    }
}
