//! Keeps what a model is measured with out of what it is trained on.
//!
//! [`Benchmarks`] knows the items of files of JSON lines; [`Benchmarks::judge`] says what a program has
//! in common with them: a function with the same body ([`crate::Normalised`]), such a function called
//! with the same arguments, or [`GRAM`] words in a row. Whatever the field names of an item are, all its
//! texts count, and those that are Python by their name (`code`, `canonical_solution`, …) are compared
//! as code too.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use cwm_trace::Entry;
use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::normalise::{Normalised, Normaliser};
use crate::python::PythonError;

/// Words in a row that are taken for a copy.
pub const GRAM: usize = 12;

/// Fields of items that hold code; of the second kind stands behind the item's `prompt`.
const CODE: [&str; 4] = ["code", "source", "program", "solution"];
const CONTINUED: &str = "canonical_solution";

/// What a program and an item have in common, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// A function with the same body, called with the same arguments.
    FunctionAndInput,
    /// A function with the same body.
    Function,
    /// [`GRAM`] words in a row.
    Words,
}

impl fmt::Display for Overlap {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::FunctionAndInput => "the same function with the same input",
            Self::Function => "the same function",
            Self::Words => "the same words in a row",
        })
    }
}

/// Why a benchmark cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchmarkError {
    /// The file cannot be read.
    #[error("line {line} cannot be read: {source}")]
    Io {
        /// 1-based line.
        line: usize,
        /// The cause.
        source: io::Error,
    },
    /// A line is no JSON object.
    #[error("line {line} is not a JSON object: {reason}")]
    Item {
        /// 1-based line.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The code cannot be compared.
    #[error(transparent)]
    Normalise(#[from] PythonError),
}

/// What was read of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Lines that hold an item.
    pub items: usize,
    /// Distinct functions in them.
    pub functions: usize,
    /// Fields that should be code and are no Python of this interpreter's version.
    pub unparsed: usize,
}

/// Everything that must not be trained on.
#[derive(Debug, Default)]
pub struct Benchmarks {
    names: Vec<String>,
    summaries: Vec<Summary>,
    /// From digests to the number of the first file that has them.
    functions: HashMap<String, usize>,
    inputs: HashMap<(String, String), usize>,
    /// Hashes of words in a row.
    grams: HashMap<u64, usize>,
}

impl Benchmarks {
    /// Adds the items of a file of JSON lines; `name` is what reports call it. Blank lines are skipped.
    ///
    /// # Errors
    /// [`BenchmarkError`], with the line.
    pub fn add(
        &mut self,
        name: &str,
        file: impl BufRead,
        normaliser: &mut Normaliser,
    ) -> Result<&Summary, BenchmarkError> {
        let number = self.names.len();
        let mut summary = Summary::default();
        for (line, text) in (1..).zip(file.lines()) {
            let text = text.map_err(|source| BenchmarkError::Io { line, source })?;
            if text.trim().is_empty() {
                continue;
            }
            let item: serde_json::Map<String, Value> =
                serde_json::from_str(&text).map_err(|error| BenchmarkError::Item {
                    line,
                    reason: error.to_string(),
                })?;
            summary.items += 1;
            self.add_item(number, &item, &mut summary, normaliser)?;
        }
        self.names.push(name.to_owned());
        self.summaries.push(summary);
        Ok(&self.summaries[number])
    }

    fn add_item(
        &mut self,
        file: usize,
        item: &serde_json::Map<String, Value>,
        summary: &mut Summary,
        normaliser: &mut Normaliser,
    ) -> Result<(), BenchmarkError> {
        for value in item.values() {
            self.add_texts(file, value);
        }
        let args = item.get("input").and_then(Value::as_str);
        for code in codes(item) {
            let Ok(normalised) = normaliser.normalise(&code, args)? else {
                // Solutions of mathematics are called solutions too.
                summary.unparsed += usize::from(code.contains("def "));
                continue;
            };
            for function in normalised.functions {
                if let Some(args) = &normalised.args {
                    let pair = (function.clone(), args.clone());
                    self.inputs.entry(pair).or_insert(file);
                }
                if let std::collections::hash_map::Entry::Vacant(entry) =
                    self.functions.entry(function)
                {
                    entry.insert(file);
                    summary.functions += 1;
                }
            }
        }
        Ok(())
    }

    fn add_texts(&mut self, file: usize, value: &Value) {
        match value {
            Value::String(text) => {
                for gram in grams(text) {
                    self.grams.entry(gram).or_insert(file);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| self.add_texts(file, value)),
            Value::Object(fields) => {
                fields
                    .values()
                    .for_each(|value| self.add_texts(file, value));
            }
            _ => {}
        }
    }

    /// The files that were added and what was found in them.
    pub fn summaries(&self) -> impl Iterator<Item = (&str, &Summary)> {
        self.names.iter().map(String::as_str).zip(&self.summaries)
    }

    /// The worst that a program has in common with an item, and the name of the item's file.
    pub fn judge(&self, source: &str, program: Option<&Normalised>) -> Option<(Overlap, &str)> {
        let name = |file: &usize| self.names[*file].as_str();
        let functions = program.map_or(&[][..], |program| &program.functions);
        if let Some(args) = program.and_then(|program| program.args.as_ref()) {
            let pairs = functions.iter().map(|f| (f.clone(), args.clone()));
            if let Some(file) = pairs.into_iter().find_map(|pair| self.inputs.get(&pair)) {
                return Some((Overlap::FunctionAndInput, name(file)));
            }
        }
        if let Some(file) = functions.iter().find_map(|f| self.functions.get(f)) {
            return Some((Overlap::Function, name(file)));
        }
        let file = grams(source).find_map(|gram| self.grams.get(&gram).copied())?;
        Some((Overlap::Words, name(&file)))
    }
}

/// Opens a file of text, through gzip where its name ends in `.gz`.
///
/// # Errors
/// Where it cannot be opened.
pub fn open_text(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    Ok(match path.extension() {
        Some(extension) if extension == "gz" => {
            Box::new(BufReader::new(MultiGzDecoder::new(reader)))
        }
        _ => Box::new(reader),
    })
}

/// Normalises a program with the arguments of its entry, for [`Benchmarks::judge`].
///
/// # Errors
/// When the interpreter is gone.
pub fn normalise_program(
    source: &str,
    entry: &Entry,
    normaliser: &mut Normaliser,
) -> Result<Option<Normalised>, PythonError> {
    let args = match entry {
        Entry::Module => None,
        Entry::Call { args, .. } => Some(args.as_str()),
    };
    Ok(normaliser.normalise(source, args)?.ok())
}

/// How many programs were left out, by file and kind of overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Programs looked at.
    pub programs: usize,
    /// Programs with nothing in common with any item.
    pub kept: usize,
    /// The others.
    pub left_out: BTreeMap<String, BTreeMap<Overlap, Vec<String>>>,
}

impl Report {
    /// Counts a program; `id` names it.
    pub fn count(&mut self, id: &str, overlap: Option<(Overlap, &str)>) {
        self.programs += 1;
        match overlap {
            None => self.kept += 1,
            Some((overlap, file)) => {
                let by_file = self.left_out.entry(file.to_owned()).or_default();
                by_file.entry(overlap).or_default().push(id.to_owned());
            }
        }
    }
}

/// The pieces of code in an item.
fn codes(item: &serde_json::Map<String, Value>) -> Vec<String> {
    let text = |field: &str| item.get(field).and_then(Value::as_str);
    let mut codes: Vec<String> = CODE
        .iter()
        .filter_map(|f| text(f))
        .map(str::to_owned)
        .collect();
    if let Some(end) = text(CONTINUED) {
        codes.push(format!("{}{end}", text("prompt").unwrap_or_default()));
    }
    codes
}

/// Hashes of all [`GRAM`] words in a row of a text. Words are letters, digits and `_`, in lower case.
fn grams(text: &str) -> impl Iterator<Item = u64> {
    let words: Vec<u64> = text
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(|word| hash(word.to_lowercase().bytes()))
        .collect();
    let of = |words: &[u64]| hash(words.iter().flat_map(|word| word.to_le_bytes()));
    let grams: Vec<u64> = words.windows(GRAM).map(of).collect();
    grams.into_iter()
}

/// FNV-1a, 64 bits: the same on every machine and in every version, so that reports are too.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
