//! Cuts a Lean file into its commands.

use super::mask::{Masked, mask};

/// A command with what stands before it: comments, attributes, modifiers, `open X in`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Its text, blank lines behind it included.
    pub text: &'a str,
    /// The word that says what it is; empty if it is none.
    pub keyword: &'a str,
}

/// Words that begin a command, when they begin a line.
const COMMANDS: &[&str] = &[
    "abbrev",
    "add_decl_doc",
    "alias",
    "attribute",
    "axiom",
    "builtin_initialize",
    "class",
    "compile_inductive",
    "declare_syntax_cat",
    "def",
    "elab",
    "elab_rules",
    "end",
    "example",
    "export",
    "extend_docs",
    "import",
    "include",
    "inductive",
    "infix",
    "infixl",
    "infixr",
    "initialize",
    "instance",
    "irreducible_def",
    "lemma",
    "library_note",
    "macro",
    "macro_rules",
    "module",
    "mutual",
    "namespace",
    "notation",
    "notation3",
    "omit",
    "opaque",
    "open",
    "postfix",
    "prefix",
    "prelude",
    "register_simp_attr",
    "run_cmd",
    "run_elab",
    "run_meta",
    "section",
    "seal",
    "set_option",
    "simproc",
    "simproc_decl",
    "structure",
    "suppress_compilation",
    "syntax",
    "theorem",
    "universe",
    "universes",
    "unif_hint",
    "unseal",
    "variable",
    "variables",
];

/// Words that stand before a command.
const MODIFIERS: &[&str] = &[
    "local",
    "meta",
    "noncomputable",
    "nonrec",
    "partial",
    "private",
    "protected",
    "public",
    "scoped",
    "unsafe",
];

impl Piece<'_> {
    /// Whether it states something and proves it.
    pub fn is_theorem(&self) -> bool {
        matches!(self.keyword, "theorem" | "lemma")
    }

    /// Its text on one line, without comments. Strings are blank in it.
    pub(super) fn code(&self) -> String {
        let code = mask(self.text).code;
        code.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// The commands of a file in order: put together, the pieces are the file.
///
/// A command begins at the first column, as all of Mathlib's do. What is indented, or begins with a
/// word that is no command, belongs to the command before it. The first piece may be none.
pub fn split(text: &str) -> Vec<Piece<'_>> {
    let masked = mask(text);
    let mut starts = vec![0];
    for (start, word) in commands(&masked) {
        let last = starts.last().copied().unwrap_or_default();
        let start = with_comments(text, &masked, start).max(last);
        // The first command takes what stands before it.
        let is_prefixed = is_prefix(&masked.code[last..start]) && word != "end";
        if start > last && !is_prefixed {
            starts.push(start);
        }
    }
    starts.push(text.len());
    let ranges = starts.windows(2).filter(|ends| ends[0] < ends[1]);
    let piece = |ends: &[usize]| Piece {
        text: &text[ends[0]..ends[1]],
        keyword: keyword(text, &masked, ends[0], ends[1]),
    };
    ranges.map(piece).collect()
}

/// Lines that begin with a command or with what can stand before one.
fn commands(masked: &Masked) -> Vec<(usize, &str)> {
    let mut start = 0;
    let mut found = Vec::new();
    for line in masked.code.split_inclusive('\n') {
        let word = first_word(line);
        let is_known = COMMANDS.contains(&word) || MODIFIERS.contains(&word);
        let is_marked = line.starts_with("@[") || line.starts_with('#');
        if is_known || is_marked || is_unknown_command(word, &masked.code[..start]) {
            found.push((start, word));
        }
        start += line.len();
    }
    found
}

/// Whether a word that libraries may have made a command of is one here: such words have an
/// underscore. At the margin, a term that has one follows something that needs a term.
fn is_unknown_command(word: &str, before: &str) -> bool {
    const CONTINUING: [&str; 2] = ["termination_by", "decreasing_by"];
    const NEEDS_MORE: [&str; 12] = [
        ":=", "=>", "by", "fun", "then", "else", "from", "<|", "$", ",", "(", "⟨",
    ];
    let is_word = word.contains('_') && word.starts_with(|c: char| c.is_ascii_lowercase());
    let before = before.trim_end();
    is_word && !CONTINUING.contains(&word) && !NEEDS_MORE.iter().any(|end| before.ends_with(end))
}

fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '\'')));
    &text[..end.unwrap_or(text.len())]
}

/// The start of a command with the comments that stand before it and begin a line.
fn with_comments(text: &str, masked: &Masked, command: usize) -> usize {
    let mut start = command;
    for comment in masked
        .comments
        .iter()
        .rev()
        .filter(|range| range.end <= command)
    {
        let is_next = masked.code[comment.end.min(start)..start].trim().is_empty();
        let begins_line = comment.start == 0 || text[..comment.start].ends_with('\n');
        if !is_next || !begins_line {
            break;
        }
        start = comment.start;
    }
    start
}

/// Whether a text can only be the beginning of a command.
fn is_prefix(code: &str) -> bool {
    code[command_start(code)..].trim().is_empty()
}

/// A text without the attributes and modifiers that it begins with.
fn after_modifiers(code: &str) -> &str {
    let mut rest = code.trim_start();
    loop {
        let word = first_word(rest);
        let after = if let Some(inside) = rest.strip_prefix("@[") {
            after_bracket(inside)
        } else if MODIFIERS.contains(&word) {
            &rest[word.len()..]
        } else {
            return rest;
        };
        rest = after.trim_start();
    }
}

/// What follows the bracket that closes an open one.
fn after_bracket(text: &str) -> &str {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[at + 1..];
        }
    }
    ""
}

/// Where the command itself begins, behind attributes, modifiers and `... in`.
pub(super) fn command_start(code: &str) -> usize {
    let mut start = 0;
    loop {
        let rest = after_modifiers(&code[start..]);
        start = code.len() - rest.len();
        // `open X in` may stand on a line of its own, or before the command on the same line.
        let prefixes = [
            "open",
            "set_option",
            "variable",
            "omit",
            "include",
            "attribute",
        ];
        let line_end = rest.find('\n').unwrap_or(rest.len());
        let line = &rest[..line_end];
        let inside = line.find(" in ").map(|at| at + 4);
        let inside = inside.or_else(|| line.trim_end().ends_with(" in").then_some(line_end));
        match inside.filter(|_| prefixes.contains(&first_word(rest))) {
            Some(len) if len > 0 => start += len,
            _ => return start,
        }
    }
}

fn keyword<'a>(text: &'a str, masked: &Masked, start: usize, end: usize) -> &'a str {
    let code = &masked.code[start..end];
    let at = start + command_start(code);
    let word = first_word(&masked.code[at..end]);
    let is_command = COMMANDS.contains(&word);
    if is_command {
        &text[at..at + word.len()]
    } else {
        ""
    }
}
