//! What a set of programs exercises, counted without a parser of Python.

use std::collections::BTreeMap;
use std::fmt;

use cwm_trace::Entry;

use super::Program;
use crate::fingerprint::BUILTINS;

/// Constructs told apart by how a line begins.
const STATEMENTS: &[&str] = &[
    "for", "while", "if", "elif", "else", "def", "class", "return", "yield", "break", "continue",
    "try", "except", "finally", "raise", "assert", "nonlocal", "global", "del", "with", "pass",
    "@",
];

/// Constructs told apart by a piece of text inside a line.
const EXPRESSIONS: &[(&str, &str)] = &[
    ("comprehension or generator expression", " for "),
    ("lambda", "lambda "),
    ("f-string", "f'"),
    ("f-string", "f\""),
    ("conditional expression", " else "),
    ("slice", ":]"),
    ("slice", "[:"),
    ("slice", "[::"),
    ("and", " and "),
    ("or", " or "),
    ("not", "not "),
    ("in", " in "),
    ("is", " is "),
    ("+=", " += "),
    ("-=", " -= "),
    ("*=", " *= "),
    ("//=", " //= "),
    ("%=", " %= "),
    ("+", " + "),
    ("-", " - "),
    ("*", " * "),
    ("//", " // "),
    ("%", " % "),
    ("==", " == "),
    ("!=", " != "),
    ("<", " < "),
    (">", " > "),
    ("<=", " <= "),
    (">=", " >= "),
];

/// How many programs use each construct, builtin and method.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Number of programs looked at.
    pub programs: usize,
    /// Lines of source in all of them.
    pub lines: usize,
    /// Programs whose entry is the call of a function.
    pub calls: usize,
    /// Programs per family.
    pub families: BTreeMap<String, usize>,
    /// Programs per kind of statement.
    pub statements: BTreeMap<String, usize>,
    /// Programs per kind of expression.
    pub expressions: BTreeMap<String, usize>,
    /// Programs per builtin or other plain function called.
    pub functions: BTreeMap<String, usize>,
    /// Programs per method called.
    pub methods: BTreeMap<String, usize>,
}

/// Counts what `programs` exercise. A program counts once per construct.
pub fn coverage(programs: &[Program]) -> Coverage {
    let mut all = Coverage {
        programs: programs.len(),
        ..Coverage::default()
    };
    for program in programs {
        let mut one = Coverage::default();
        for line in program.source.lines() {
            one.look_at(line);
        }
        all.lines += program.source.lines().count();
        all.calls += usize::from(matches!(program.entry, Entry::Call { .. }));
        *all.families.entry(program.family.to_owned()).or_default() += 1;
        for (total, seen) in [
            (&mut all.statements, one.statements),
            (&mut all.expressions, one.expressions),
            (&mut all.functions, one.functions),
            (&mut all.methods, one.methods),
        ] {
            for name in seen.into_keys() {
                *total.entry(name).or_default() += 1;
            }
        }
    }
    all
}

impl Coverage {
    fn look_at(&mut self, line: &str) {
        let code = line.trim();
        if code.starts_with('#') {
            return;
        }
        let first_word = code
            .split(|c: char| !c.is_ascii_alphanumeric())
            .next()
            .unwrap_or_default();
        for statement in STATEMENTS {
            if *statement == first_word || (*statement == "@" && code.starts_with('@')) {
                self.statements.insert((*statement).to_owned(), 1);
            }
        }
        for (name, piece) in EXPRESSIONS {
            let loop_header = first_word == "for" && matches!(*piece, " for " | " in ");
            if code.contains(piece) && !loop_header {
                self.expressions.insert((*name).to_owned(), 1);
            }
        }
        for (open, _) in code.match_indices('(') {
            let head = &code[..open];
            let start = head
                .rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .map_or(0, |at| at + 1);
            let name = &head[start..];
            let own = first_word == "def" || first_word == "class";
            if name.is_empty() || (own && start <= first_word.len() + 1) {
                continue;
            }
            let called = if head[..start].ends_with('.') {
                &mut self.methods
            } else if BUILTINS.contains(&name) {
                &mut self.functions
            } else {
                continue;
            };
            called.insert(name.to_owned(), 1);
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |count: usize| 100.0 * count as f64 / self.programs.max(1) as f64;
        writeln!(
            out,
            "{} programs, {:.1} lines each, {:.0}% entered by a call, {} families",
            self.programs,
            self.lines as f64 / self.programs.max(1) as f64,
            share(self.calls),
            self.families.len()
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
