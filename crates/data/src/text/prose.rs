//! What a recorded run did, in sentences.
//!
//! [`prose`] says what happens step by step: which lines run, what they change, who calls whom and
//! what comes back, where exceptions arise and where they end. Rounds of long loops are summed up.
//! Sentences are chosen from many forms by a seed, and every one of them can be read back
//! ([`read_facts`]): nothing is said that the trace does not say. The text ends with the run's
//! final output.
//!
//! A [`Rewriter`] may say it in other words; what it writes is dropped if its final output is not
//! the true one ([`rewritten`]).

mod facts;
mod fold;
mod rewrite;
mod words;

use cwm_trace::{End, Entry, EventKind, Trace};
use serde::{Deserialize, Serialize};

use super::layout::{self, ParseError, Reader};
use super::{Content, Document, Material, Skip};
use crate::scrub::Scrubber;

pub use facts::{Fact, facts};
pub use rewrite::{RewriteError, Rewriter, rewritten};
pub use words::{ReadError, read_facts, write_facts};

/// A program and what one run of it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceProse {
    /// The program.
    pub source: String,
    /// What was run: `f(3)`, or `the module`.
    pub entry: String,
    /// What happened.
    pub text: String,
    /// What came out, as [`final_output`] says it.
    pub output: String,
    /// The model that has rewritten the text; empty if it is our own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rewritten_by: String,
}

/// What is too much for one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events of the trace.
    pub events: usize,
    /// Bytes of the program and of the text, each.
    pub bytes: usize,
}

impl Default for Limits {
    /// What fits into some 30,000 tokens.
    fn default() -> Self {
        Self {
            events: 2000,
            bytes: 64 << 10,
        }
    }
}

const ENTRY: &str = "What happens in ";
const OUTPUT: &str = "Final output";

impl TraceProse {
    /// The text a model trains on: the program, what happens, the final output.
    pub fn render(&self) -> String {
        let mut out = String::new();
        layout::heading(&mut out, 1, &format!("{ENTRY}{}", self.entry));
        layout::block(&mut out, "python", &self.source);
        out.push_str(&self.text);
        out.push_str("\n\n");
        layout::heading(&mut out, 2, OUTPUT);
        layout::block(&mut out, "", &self.output);
        out
    }

    /// Reads a rendering back: all but who has rewritten it, which it does not say.
    ///
    /// # Errors
    /// [`ParseError`], with the line.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut reader = Reader::new(text);
        let entry = reader.heading(1, ENTRY)?.to_owned();
        let source = reader.block_of("python")?;
        let text = reader.until_heading(2, OUTPUT)?;
        let (_, output) = reader.block()?;
        reader.end()?;
        Ok(Self {
            source,
            entry,
            text,
            output,
            rewritten_by: String::new(),
        })
    }
}

/// The document of one run. The same trace and seed give the same words.
///
/// # Errors
/// Why there is none: a run that did not end, values that were cut, several files, too much of it,
/// or something in it that `scrubber` would have to change, after which the values would not follow
/// from the program any more.
pub fn prose(
    trace: &Trace,
    seed: u64,
    material: &Material,
    limits: &Limits,
    scrubber: &Scrubber,
) -> Result<Document, Skip> {
    let content = content(trace, seed, limits)?;
    if !scrubber.scrub(&content.render()).findings.is_empty() {
        return Err(Skip::Private);
    }
    let entry = content.entry.clone();
    Ok(Document::new(
        material,
        &entry,
        Content::TraceProse(content),
    ))
}

fn content(trace: &Trace, seed: u64, limits: &Limits) -> Result<TraceProse, Skip> {
    if trace.events.len() > limits.events || trace.source.len() > limits.bytes {
        return Err(Skip::TooLarge);
    }
    if !trace.end.is_complete() {
        return Err(Skip::Unfinished);
    }
    if !trace.other_files.is_empty() || trace.thread.is_some() {
        return Err(Skip::SeveralFiles);
    }
    let values = |event: &cwm_trace::Event| {
        let locals = event.locals.iter().map(|local| &local.value);
        locals.chain(&event.value).any(|value| value.truncated)
    };
    if trace.events.iter().any(values) {
        return Err(Skip::CutValues);
    }
    let facts = facts(trace);
    if facts.is_empty() {
        return Err(Skip::Empty);
    }
    let text = write_facts(&facts, seed);
    if text.len() > limits.bytes {
        return Err(Skip::TooLarge);
    }
    Ok(TraceProse {
        source: trace.source.clone(),
        entry: layout::one_line(&entry(trace)),
        text,
        output: final_output(trace),
        rewritten_by: String::new(),
    })
}

fn entry(trace: &Trace) -> String {
    match &trace.entry {
        Entry::Module => "the module".to_owned(),
        Entry::Call { function, args } => format!("{function}({args})"),
    }
}

/// What a run comes to. Of a module, what it printed; of a call, the value that it returned. Then,
/// on a line of its own, the exception or the status with which it ended, if it did. Ends with a
/// line end, unless a program's own output does not.
pub fn final_output(trace: &Trace) -> String {
    let mut output = match trace.entry {
        Entry::Module => trace.stdout.clone(),
        Entry::Call { .. } => String::new(),
    };
    let mut end = |text: String| {
        if !output.is_empty() && !output.ends_with('\n') {
            output.push('\n');
        }
        output.push_str(&text);
        output.push('\n');
    };
    match (&trace.end, &trace.entry) {
        (End::Finished, Entry::Call { .. }) => {
            let last = trace.events.iter().rev();
            let mut last = last.filter(|event| event.kind == EventKind::Return);
            let value = last.next().and_then(|event| event.value.as_ref());
            end(value.map_or(String::new(), |value| value.detailed().to_string()));
        }
        (End::Raised(exception), _) => end(format!("raises {exception}")),
        (End::Exited(status), _) => end(format!("exits with status {status}")),
        _ => {}
    }
    output
}
