//! The focus: what a model needs to know to run one line, put in front of it.
//!
//! Behind each line that is about to run, a window repeats the line's text,
//! the values of the variables it names, where the functions it names are
//! defined, and the lines that control can reach from it. All of it follows by
//! rule from the source and the state, so none of it is predicted; it turns a
//! search through source and history into a look at the words just before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::flow::Flow;
use super::outline::{LineKind, Outline, defined_name};
use crate::Local;

/// Values longer than this many bytes are not repeated.
const LONGEST: usize = 200;

/// More lines than this are not listed as next.
pub const MOST_NEXT: usize = 6;

/// A name with more definitions than this is shown without them.
const MOST_DEFINITIONS: usize = 6;

/// One line in focus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Focus {
    /// The statement's text with all its lines, or only the line's own if it
    /// continues one. Empty where no line runs yet.
    pub text: Arc<str>,
    /// Variables that the text names, in order of their names, with their
    /// values before the line runs.
    pub values: Vec<(Arc<str>, Arc<str>)>,
    /// Names of functions, classes and generators in the text, and the lines
    /// of their call events. A class stands for its `__init__`, a generator
    /// for the function that made it.
    pub definitions: Vec<(Arc<str>, Vec<u32>)>,
    /// In the header of a `for` loop, how many items the loop has consumed.
    pub consumed: Option<u32>,
    /// Lines that are likely next: on, back, then where an exception is handled.
    pub next: Vec<u32>,
}

impl Focus {
    /// The values in the order in which the text names their variables first.
    pub(super) fn in_order(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let place = |name: &str| {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let whole = |(at, _): &(usize, &str)| {
                let (before, after) = (&self.text[..*at], &self.text[at + name.len()..]);
                !before.ends_with(is_part) && !after.starts_with(is_part)
            };
            self.text.match_indices(name).find(whole).map(|(at, _)| at)
        };
        let mut values = self.values.clone();
        values.sort_by_cached_key(|(name, _)| place(name));
        values
    }
}

/// What the foci of one program have in common.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) outline: Outline,
    pub(super) flow: Flow,
    lines: Vec<Arc<str>>,
    /// Identifiers that occur in each line.
    pub(super) words: Vec<BTreeSet<Arc<str>>>,
    definitions: BTreeMap<Arc<str>, Vec<u32>>,
}

impl Program {
    pub(super) fn new(source: &str) -> Self {
        let outline = Outline::new(source);
        let lines: Vec<Arc<str>> = source.lines().map(Arc::from).collect();
        Self {
            flow: Flow::new(source, &outline),
            words: lines.iter().map(words_of).collect(),
            definitions: definitions(&lines, &outline),
            lines,
            outline,
        }
    }

    /// The first line of a scope (0: module) is about to be chosen.
    pub(super) fn before(&self, scope: u32) -> Focus {
        Focus {
            next: shortlist(Vec::from_iter(self.flow.first(scope))),
            ..Focus::default()
        }
    }

    /// `line` is about to run with these variables, inner ones first.
    pub(super) fn focus(&self, line: u32, locals: &[Local], globals: &[Local]) -> Focus {
        let lines = match self.outline.line(line).map(|l| l.kind) {
            Some(LineKind::Continuation) => line..=line,
            _ => self.flow.statement(line).unwrap_or(line..=line),
        };
        // A line outside the file (a trace may claim any) has no text.
        let indexes = lines.filter_map(|n| (n as usize).checked_sub(1));
        let text = indexes.clone().filter_map(|i| self.lines.get(i));
        let text: Vec<&str> = text.map(|line| &**line).collect();
        let named = indexes.filter_map(|i| self.words.get(i)).flatten();
        let named: BTreeSet<&Arc<str>> = named.collect();
        let value = |name: &Arc<str>| {
            let all = locals.iter().chain(globals);
            let local = all.into_iter().find(|l| l.name == *name)?;
            let text = &local.value.repr;
            // A plain function or class says no more than its definition.
            let plain = text.starts_with("<function ") || text.starts_with("<class ");
            let defined = self.definitions.contains_key(name);
            let shown = text.len() <= LONGEST && !(plain && defined);
            shown.then(|| (name.clone(), text.clone()))
        };
        let definition = |name: &Arc<str>| {
            let made = value(name).and_then(|(_, text)| self.generator(&text));
            let lines = made.or_else(|| self.definitions.get(name))?;
            (lines.len() <= MOST_DEFINITIONS).then(|| (name.clone(), lines.clone()))
        };
        Focus {
            text: text.join("\n").trim_start().into(),
            values: named.iter().filter_map(|name| value(name)).collect(),
            definitions: named.iter().filter_map(|name| definition(name)).collect(),
            consumed: None,
            next: shortlist(self.flow.likely(line)),
        }
    }

    /// Where the function is defined whose generator has this text.
    fn generator(&self, value: &str) -> Option<&Vec<u32>> {
        let qualname = value
            .strip_prefix("<generator object ")?
            .strip_suffix('>')?;
        self.definitions.get(qualname.rsplit('.').next()?)
    }
}

/// All of the lines, or none if they are too many to help.
fn shortlist(lines: Vec<u32>) -> Vec<u32> {
    match lines.len() <= MOST_NEXT {
        true => lines,
        false => Vec::new(),
    }
}

/// The lines of call events by name.
fn definitions(lines: &[Arc<str>], outline: &Outline) -> BTreeMap<Arc<str>, Vec<u32>> {
    let mut found: BTreeMap<Arc<str>, Vec<u32>> = BTreeMap::new();
    for (line, number) in outline.definitions() {
        let own = defined_name(&lines[number as usize - 1]);
        let class = outline.line(number).map_or(0, |l| l.scope).checked_sub(1);
        let name = match class.and_then(|i| lines.get(i as usize)) {
            Some(class) if own == "__init__" => defined_name(class),
            _ => own,
        };
        found.entry(Arc::from(name)).or_default().push(line);
    }
    found
}

/// The identifiers of a line (words in strings and comments too: one that is
/// found without need does no harm).
fn words_of(line: &Arc<str>) -> BTreeSet<Arc<str>> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|w| w.starts_with(|c: char| c.is_alphabetic() || c == '_'))
        .map(Arc::from)
        .collect()
}
