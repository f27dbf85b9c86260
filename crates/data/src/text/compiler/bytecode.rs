//! Bytecode of CPython, function by function.
//!
//! The listing is the standard library's `dis` without what differs from run to run or says
//! nothing: instructions are numbered instead of having offsets, jumps lead to these numbers, and
//! sets and code objects are written without order and address. The work is done by
//! `python/bytecode.py`, which compiles and runs nothing.

use std::collections::HashSet;
use std::fmt::Write as _;

use cwm_tracer::Interpreter;
use serde::{Deserialize, Serialize};

use super::super::{Content, Document, Harvest, Material, ParseError, Skip};
use super::{CompilerPair, Limits};
use crate::python::{Python, PythonError};
use crate::scrub::Scrubber;

const SCRIPT: &str = include_str!("../../../python/bytecode.py");

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Row", into = "Row")]
pub struct Instruction {
    /// Line of the source, counted from 1 at the function's first, where it is another than before.
    pub line: Option<i64>,
    /// Its name.
    pub operation: String,
    /// Its argument; none for jumps.
    pub number: Option<i64>,
    /// What the argument stands for; `to N` for jumps; may be empty.
    pub text: String,
}

/// As the script writes it.
type Row = (Option<i64>, String, Option<i64>, String);

impl From<Row> for Instruction {
    fn from((line, operation, number, text): Row) -> Self {
        Self {
            line,
            operation,
            number,
            text,
        }
    }
}

impl From<Instruction> for Row {
    fn from(row: Instruction) -> Self {
        (row.line, row.operation, row.number, row.text)
    }
}

/// Where exceptions go, from CPython 3.11 on; before, instructions say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "HandlerRow", into = "HandlerRow")]
pub struct Handler {
    /// First instruction that is guarded.
    pub first: u32,
    /// Last one.
    pub last: u32,
    /// Where it goes on.
    pub target: u32,
    /// Values that stay on the stack.
    pub depth: u32,
    /// Whether the place of the exception is pushed.
    pub keeps_place: bool,
}

type HandlerRow = (u32, u32, u32, u32, bool);

impl From<HandlerRow> for Handler {
    fn from((first, last, target, depth, keeps_place): HandlerRow) -> Self {
        Self {
            first,
            last,
            target,
            depth,
            keeps_place,
        }
    }
}

impl From<Handler> for HandlerRow {
    fn from(row: Handler) -> Self {
        (row.first, row.last, row.target, row.depth, row.keeps_place)
    }
}

/// What a function is compiled to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// In order.
    pub instructions: Vec<Instruction>,
    /// In the order in which they are looked for.
    #[serde(default)]
    pub handlers: Vec<Handler>,
}

const KEEPS: &str = ", keeps the place";

impl Listing {
    /// One line for each instruction (line or `-`, number, operation, argument, `(what it stands
    /// for)`), then one for each handler.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for (number, row) in self.instructions.iter().enumerate() {
            let line = row.line.map_or("-".to_owned(), |line| line.to_string());
            write!(out, "{line:>4} {number:>4} {}", row.operation).expect("a string grows");
            if let Some(number) = row.number {
                write!(out, " {number}").expect("a string grows");
            }
            if !row.text.is_empty() {
                write!(out, " ({})", row.text).expect("a string grows");
            }
            out.push('\n');
        }
        for row in &self.handlers {
            let keeps = if row.keeps_place { KEEPS } else { "" };
            let Handler {
                first,
                last,
                target,
                depth,
                ..
            } = row;
            writeln!(
                out,
                "handler: {first} to {last} goes to {target}, depth {depth}{keeps}"
            )
            .expect("a string grows");
        }
        out
    }

    /// Reads a listing back.
    ///
    /// # Errors
    /// [`ParseError`], with the line.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut listing = Self::default();
        for (at, line) in text.lines().enumerate() {
            let known = match line.strip_prefix("handler: ") {
                Some(rest) => parse_handler(rest).map(|row| listing.handlers.push(row)),
                None => parse_instruction(line, listing.instructions.len())
                    .map(|row| listing.instructions.push(row)),
            };
            known.ok_or_else(|| ParseError {
                line: at + 1,
                expected: "an instruction or a handler".to_owned(),
            })?;
        }
        Ok(listing)
    }
}

fn parse_instruction(line: &str, number: usize) -> Option<Instruction> {
    let (at, rest) = line.trim_start().split_once(' ')?;
    let at = match at {
        "-" => None,
        at => Some(at.parse().ok()?),
    };
    let (found, rest) = rest.trim_start().split_once(' ')?;
    if found.parse() != Ok(number) {
        return None;
    }
    let (operation, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let (argument, rest) = match rest.split_once(' ') {
        _ if rest.is_empty() || rest.starts_with('(') => ("", rest),
        Some(parts) => parts,
        None => (rest, ""),
    };
    let argument = match argument {
        "" => None,
        argument => Some(argument.parse().ok()?),
    };
    let text = match rest {
        "" => "",
        rest => rest.strip_prefix('(')?.strip_suffix(')')?,
    };
    Some(Instruction {
        line: at,
        operation: operation.to_owned(),
        number: argument,
        text: text.to_owned(),
    })
}

fn parse_handler(rest: &str) -> Option<Handler> {
    let (rest, keeps_place) = match rest.strip_suffix(KEEPS) {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let (first, rest) = rest.split_once(" to ")?;
    let (last, rest) = rest.split_once(" goes to ")?;
    let (target, depth) = rest.split_once(", depth ")?;
    Some(Handler {
        first: first.parse().ok()?,
        last: last.parse().ok()?,
        target: target.parse().ok()?,
        depth: depth.parse().ok()?,
        keeps_place,
    })
}

#[derive(Serialize)]
struct Request<'a> {
    code: &'a str,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Good { functions: Vec<Function> },
    Bad {},
}

#[derive(Deserialize)]
struct Function {
    name: String,
    source: String,
    #[serde(flatten)]
    listing: Listing,
}

/// A running interpreter that compiles functions to bytecode.
#[derive(Debug)]
pub struct BytecodeCompiler {
    python: Python,
    version: String,
}

impl BytecodeCompiler {
    /// Starts one; the bytecode is that of its version.
    ///
    /// # Errors
    /// When the interpreter cannot be started.
    pub fn start(interpreter: &Interpreter) -> Result<Self, PythonError> {
        Ok(Self {
            python: Python::start(interpreter, SCRIPT, "compiles functions")?,
            version: format!("CPython {}", interpreter.version_text()),
        })
    }

    /// A document for each function of a module, methods and inner functions included; functions of
    /// the same text only once. What `scrubber` finds is replaced before.
    ///
    /// # Errors
    /// When the interpreter is gone.
    pub fn pairs(
        &mut self,
        source: &str,
        material: &Material,
        limits: &Limits,
        scrubber: &Scrubber,
    ) -> Result<Harvest, PythonError> {
        if source.len() > limits.source_bytes {
            return Ok(Harvest::nothing(Skip::TooLarge));
        }
        let source = scrubber.scrub(source).text;
        let functions = match self.python.ask(&Request { code: &source })? {
            Answer::Good { functions } => functions,
            Answer::Bad {} => return Ok(Harvest::nothing(Skip::WrongLanguage)),
        };
        if functions.is_empty() {
            return Ok(Harvest::nothing(Skip::Empty));
        }
        let mut harvest = Harvest::default();
        let mut seen = HashSet::new();
        for function in functions {
            let is_new = seen.insert(function.source.clone());
            let pair = if is_new {
                self.pair(&function, limits)
            } else {
                Err(Skip::Repeated)
            };
            let name = format!("bytecode:{}", function.name);
            let content = pair.map(Content::CompilerPair);
            harvest.take(content.map(|content| Document::new(material, &name, content)));
        }
        Ok(harvest)
    }

    fn pair(&self, function: &Function, limits: &Limits) -> Result<CompilerPair, Skip> {
        let output = function.listing.render();
        if output.len() > limits.output_bytes {
            return Err(Skip::TooLarge);
        }
        Ok(CompilerPair {
            language: "python".to_owned(),
            target: "bytecode".to_owned(),
            compiler: self.version.clone(),
            options: String::new(),
            source: function.source.clone(),
            output,
        })
    }
}
