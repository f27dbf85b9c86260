//! From files to rows: reads what a source names, and packs it.
//!
//! Promises: what cannot be used is counted by reason, and a source of which nothing can be used is an error with
//! these counts; what is damaged is an error that names the file; nothing of a group that is held out is
//! trained on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::path::{Path, PathBuf};

use cwm_data::decontaminate::open_text;
use cwm_data::text::{Content as Made, Document};
use cwm_data::{ReadError, open_records, open_texts};
use serde::Deserialize;

use super::dialogs::{Dialogs, Lesson, read_line};
use super::texts::Texts;
use super::windows::{Ask, Numbering, Windows};
use crate::packed::{Documents, Packed, PackedStats};
use crate::tokenizer::Tokenizer;

/// Files, and what to make of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Its name in reports.
    pub name: String,
    /// Files and folders of shards.
    pub paths: Vec<PathBuf>,
    /// What is in them.
    pub content: Content,
}

/// What is in the files of a source.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Recorded runs, as windows.
    Windows {
        /// What is asked in them.
        ask: Ask,
        /// Rows of one program at most.
        rows_per_program: usize,
        /// Weights of kinds of targets; 1 where none is given.
        weights: BTreeMap<String, f32>,
    },
    /// Texts.
    Texts {
        /// The kinds of texts that are wanted; all if none is named.
        only: Vec<String>,
        /// Weights of kinds of targets; 1 where none is given.
        weights: BTreeMap<String, f32>,
    },
    /// Dialogs, and trajectories of agents.
    Dialogs(Lesson),
}

impl Content {
    /// Its name in settings.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Windows {
                ask: Ask::Frames, ..
            } => "windows",
            Self::Windows {
                ask: Ask::Jumps { .. },
                ..
            } => "jumps",
            Self::Texts { .. } => "text",
            Self::Dialogs(_) => "dialogs",
        }
    }
}

/// What is done about groups of records, which must lie on one side of the split.
#[derive(Debug)]
pub enum Groups<'a> {
    /// The source is held out: its groups are noted.
    Note(&'a mut BTreeSet<String>),
    /// The source is trained on: members of these groups are left out.
    Avoid(&'a BTreeSet<String>),
}

impl Groups<'_> {
    fn admit(&mut self, group: &str, stats: &mut PackedStats) -> bool {
        match self {
            _ if group.is_empty() => true,
            Self::Note(groups) => {
                groups.insert(group.to_owned());
                true
            }
            Self::Avoid(groups) => {
                let held_out = groups.contains(group);
                stats.drop("of a group that is held out", usize::from(held_out));
                !held_out
            }
        }
    }
}

/// Why a source cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file cannot be read.
    #[error("source `{name}`: {cause}")]
    Read {
        /// Name of the source.
        name: String,
        /// The cause, which is told with its own.
        cause: ReadError,
    },
    /// A line of a file is wrong.
    #[error("source `{name}`: line {line} of `{}` {reason}", path.display())]
    Line {
        /// Name of the source.
        name: String,
        /// The file.
        path: PathBuf,
        /// 1-based line.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A shard holds something else than is asked for.
    #[error(
        "source `{name}`: `{}` is no shard of texts (*.text.parquet); recorded programs are read with kind = \"windows\"",
        path.display()
    )]
    NotTexts {
        /// Name of the source.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// The vocabulary of the run cannot say what is in the files.
    #[error(
        "source `{name}` is of kind `{kind}`, which needs a tokenizer of kind {needs}, but this run's is `{has}`; \
         one run has one tokenizer, so train on the two kinds of data in two runs"
    )]
    Tokenizer {
        /// Name of the source.
        name: String,
        /// What is in it.
        kind: &'static str,
        /// Which tokenizers can say that.
        needs: &'static str,
        /// The one there is.
        has: &'static str,
    },
    /// Nothing is left.
    #[error("source `{name}` has nothing to train on{}", reasons(dropped))]
    Empty {
        /// Name of the source.
        name: String,
        /// What was left out, by reason.
        dropped: BTreeMap<String, u64>,
    },
}

fn reasons(dropped: &BTreeMap<String, u64>) -> String {
    let one = |(reason, count): (&String, &u64)| format!("\n  left out, {reason}: {count}");
    match dropped.is_empty() {
        true => ": its files are empty, or hold nothing of the wanted kinds".to_owned(),
        false => dropped.iter().map(one).collect(),
    }
}

/// Reads a source and packs it into rows of at most `row_tokens`. `progress` is told the documents read so far.
///
/// # Errors
/// [`SourceError`].
pub fn read(
    source: &Source,
    tokenizer: &Tokenizer,
    row_tokens: usize,
    groups: Groups<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Packed, SourceError> {
    let mut reader = Reader {
        source,
        row_tokens,
        groups,
        progress,
        read: 0,
        stats: PackedStats::default(),
    };
    let refuse = |needs| SourceError::Tokenizer {
        name: source.name.clone(),
        kind: source.content.name(),
        needs,
        has: tokenizer.kind().name(),
    };
    let documents: Box<dyn Documents> = match (&source.content, tokenizer) {
        (
            Content::Windows {
                ask,
                rows_per_program,
                weights,
            },
            Tokenizer::Nano(vocabulary),
        ) => {
            // What is measured on is shown as it will be in use.
            let numbering = match reader.groups {
                Groups::Note(_) => Numbering::Plain,
                Groups::Avoid(_) => Numbering::Shifted,
            };
            let mut windows = Windows::new(vocabulary.clone(), *ask, numbering, weights);
            reader.windows(&mut windows, *rows_per_program)?;
            Box::new(windows)
        }
        (Content::Windows { .. }, _) => return Err(refuse("`nano`")),
        (_, Tokenizer::Nano(_)) => return Err(refuse("`bytes` or `llama`")),
        (Content::Texts { only, weights }, Tokenizer::Text { llama, .. }) => {
            let mut texts = Texts::new(llama.clone(), weights);
            reader.texts(&mut texts, only)?;
            Box::new(texts)
        }
        (Content::Dialogs(lesson), Tokenizer::Text { llama, .. }) => {
            let mut dialogs = Dialogs::new(llama.clone(), lesson.clone());
            reader.dialogs(&mut dialogs)?;
            Box::new(dialogs)
        }
    };
    let packed = Packed::new(documents, row_tokens, reader.stats.dropped);
    match packed.stats().rows {
        0 => Err(SourceError::Empty {
            name: source.name.clone(),
            dropped: packed.stats().dropped.clone(),
        }),
        _ => Ok(packed),
    }
}

struct Reader<'a> {
    source: &'a Source,
    row_tokens: usize,
    groups: Groups<'a>,
    progress: &'a mut dyn FnMut(u64),
    read: u64,
    stats: PackedStats,
}

/// A line of a file of texts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TextLine {
    text: String,
    /// A dialect or a kind of text; plain if none.
    #[serde(default)]
    kind: String,
    #[serde(default)]
    group: String,
    #[serde(default, rename = "id")]
    _id: String,
}

impl Reader<'_> {
    fn windows(
        &mut self,
        windows: &mut Windows,
        rows_per_program: usize,
    ) -> Result<(), SourceError> {
        for path in &self.source.paths {
            for record in open_records(path).map_err(|error| self.failed(error))? {
                let record = record.map_err(|error| self.failed(error))?;
                self.advance();
                if self.groups.admit(record.group(), &mut self.stats) {
                    windows.push(&record, self.row_tokens, rows_per_program, &mut self.stats);
                }
            }
        }
        Ok(())
    }

    fn texts(&mut self, texts: &mut Texts, only: &[String]) -> Result<(), SourceError> {
        let wanted = |kind: &str| only.is_empty() || only.iter().any(|only| only == kind);
        for path in &self.source.paths {
            if !is_shards(path) {
                self.lines(path, |reader, line| {
                    let line: TextLine = serde_json::from_str(line)
                        .map_err(|error| format!("is not a text: {error}"))?;
                    if wanted(&line.kind) && reader.groups.admit(&line.group, &mut reader.stats) {
                        texts.push(&line.kind, &line.text, reader.row_tokens, &mut reader.stats);
                    }
                    Ok(())
                })?;
                continue;
            }
            for text in self.shards(path)? {
                let text = text.map_err(|error| self.failed(error))?;
                self.advance();
                if !wanted(&text.kind) {
                    continue;
                }
                if text.kind == "trajectory" {
                    self.stats.drop("trajectory, which is of kind `dialogs`", 1);
                } else if self.groups.admit(&text.group, &mut self.stats) {
                    texts.push(&text.kind, &text.text, self.row_tokens, &mut self.stats);
                }
            }
        }
        Ok(())
    }

    fn dialogs(&mut self, dialogs: &mut Dialogs) -> Result<(), SourceError> {
        for path in &self.source.paths {
            if !is_shards(path) {
                self.lines(path, |reader, line| {
                    let messages =
                        read_line(line).map_err(|error| format!("is not a dialog: {error}"))?;
                    dialogs.push(messages, reader.row_tokens, &mut reader.stats);
                    Ok(())
                })?;
                continue;
            }
            for text in self.shards(path)? {
                let text = text.map_err(|error| self.failed(error))?;
                self.advance();
                if text.kind != "trajectory" {
                    self.stats.drop("text that is no dialog", 1);
                    continue;
                }
                if !self.groups.admit(&text.group, &mut self.stats) {
                    continue;
                }
                match serde_json::from_str::<Document>(&text.document).map(|made| made.content) {
                    Ok(Made::Trajectory(trajectory)) => {
                        dialogs.push(trajectory.dialog(), self.row_tokens, &mut self.stats);
                    }
                    _ => self.stats.drop("trajectory that cannot be read", 1),
                }
            }
        }
        Ok(())
    }

    /// Hands over the lines of a file that are not blank.
    fn lines(
        &mut self,
        path: &Path,
        mut take: impl FnMut(&mut Self, &str) -> Result<(), String>,
    ) -> Result<(), SourceError> {
        let file = open_text(path).map_err(|source| {
            self.failed(ReadError::Open {
                path: path.to_owned(),
                source,
            })
        })?;
        for (number, line) in (1..).zip(file.lines()) {
            let wrong = |reason| SourceError::Line {
                name: self.source.name.clone(),
                path: path.to_owned(),
                line: number,
                reason,
            };
            let line = line.map_err(|error| wrong(format!("cannot be read: {error}")))?;
            if line.trim().is_empty() {
                continue;
            }
            self.advance();
            take(self, &line).map_err(|reason| SourceError::Line {
                name: self.source.name.clone(),
                path: path.to_owned(),
                line: number,
                reason,
            })?;
        }
        Ok(())
    }

    fn shards(&self, path: &Path) -> Result<cwm_data::Texts, SourceError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !path.is_dir() && !name.ends_with(".text.parquet") {
            return Err(SourceError::NotTexts {
                name: self.source.name.clone(),
                path: path.to_owned(),
            });
        }
        open_texts(path).map_err(|error| self.failed(error))
    }

    fn advance(&mut self) {
        self.read += 1;
        (self.progress)(self.read);
    }

    fn failed(&self, cause: ReadError) -> SourceError {
        SourceError::Read {
            name: self.source.name.clone(),
            cause,
        }
    }
}

fn is_shards(path: &Path) -> bool {
    path.is_dir()
        || path
            .extension()
            .is_some_and(|extension| extension == "parquet")
}
