//! What a set of programs exercises.

use std::collections::BTreeMap;
use std::fmt;

use cwm_trace::Entry;
use serde::Serialize;

use super::Program;
use super::constructs::{Constructs, constructs};
use crate::record::Record;

/// How many programs use each construct, builtin and method. A program counts once for each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Number of programs looked at.
    pub programs: usize,
    /// Lines of source in all of them.
    pub lines: usize,
    /// Programs whose entry is the call of a function.
    pub calls: usize,
    /// Programs per family; none where it is not known.
    pub families: BTreeMap<String, usize>,
    /// Programs per kind of statement.
    pub statements: BTreeMap<String, usize>,
    /// Programs per kind of expression.
    pub expressions: BTreeMap<String, usize>,
    /// Programs per builtin used.
    pub functions: BTreeMap<String, usize>,
    /// Programs per method of a built-in type, or a usual one of the standard library, that is used.
    pub methods: BTreeMap<String, usize>,
}

/// Counts what `programs` exercise.
pub fn coverage(programs: &[Program]) -> Coverage {
    let mut all = Coverage::default();
    for program in programs {
        all.add(&program.source, &program.entry);
        *all.families.entry(program.family.to_owned()).or_default() += 1;
    }
    all
}

impl Coverage {
    /// Counts one more program.
    pub fn add(&mut self, source: &str, entry: &Entry) {
        self.programs += 1;
        self.lines += source.lines().count();
        self.calls += usize::from(matches!(entry, Entry::Call { .. }));
        let Constructs {
            statements,
            expressions,
            functions,
            methods,
        } = constructs(source);
        for (counts, names) in [
            (&mut self.statements, statements),
            (&mut self.expressions, expressions),
            (&mut self.functions, functions),
            (&mut self.methods, methods),
        ] {
            for name in names {
                match counts.get_mut(name) {
                    Some(count) => *count += 1,
                    None => _ = counts.insert(name.to_owned(), 1),
                }
            }
        }
    }

    /// Distinct builtins and methods.
    pub fn operations(&self) -> usize {
        self.functions.len() + self.methods.len()
    }
}

impl<'a> FromIterator<&'a Record> for Coverage {
    fn from_iter<T: IntoIterator<Item = &'a Record>>(records: T) -> Self {
        let mut all = Self::default();
        for record in records {
            all.add(&record.trace.source, &record.trace.entry);
        }
        all
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |count: usize| 100.0 * count as f64 / self.programs.max(1) as f64;
        writeln!(
            out,
            "{} programs, {:.1} lines each, {:.0}% entered by a call, {} families, {} builtins and methods",
            self.programs,
            self.lines as f64 / self.programs.max(1) as f64,
            share(self.calls),
            self.families.len(),
            self.operations()
        )?;
        for (title, counts) in [
            ("statements", &self.statements),
            ("expressions", &self.expressions),
            ("functions", &self.functions),
            ("methods", &self.methods),
        ] {
            let mut sorted: Vec<(&String, &usize)> = counts.iter().collect();
            sorted.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
            let shown: Vec<String> = sorted
                .iter()
                .map(|(name, count)| format!("{name} {:.1}%", share(**count)))
                .collect();
            writeln!(out, "{title}: {}", shown.join(", "))?;
        }
        Ok(())
    }
}
