//! The parts of a declaration: words, name, statement, proof.

use super::mask::mask;
use super::split::command_start;

/// A declaration and where its parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration<'a> {
    /// All of it, comments before it left out.
    pub text: &'a str,
    /// Its own name; empty if it has none.
    pub name: &'a str,
    /// What the comment before it says, if it is one of documentation.
    pub words: Option<&'a str>,
    /// Where its own word begins in the text, behind attributes and modifiers.
    pub command: usize,
    /// The proof or the value, if there is one.
    pub proof: Option<Proof>,
    /// Whether the proof leaves something out.
    pub has_gap: bool,
}

/// Where a proof begins, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Its first byte in [`Declaration::text`].
    pub start: usize,
    /// Whether it is a block of tactics.
    pub is_tactics: bool,
}

impl Declaration<'_> {
    /// All before the proof.
    pub fn statement(&self) -> &str {
        let end = self.proof.map_or(self.text.len(), |proof| proof.start);
        &self.text[..end]
    }

    /// What is stated, without attributes and modifiers.
    pub fn claim(&self) -> &str {
        self.statement()[self.command..].trim()
    }
}

/// The parts of a piece that is a declaration; `None` if there is nothing in it.
pub fn declaration(piece: &str) -> Option<Declaration<'_>> {
    let masked = mask(piece);
    let blank = masked.code.len() - masked.code.trim_start().len();
    let (text, code) = (&piece[blank..], &masked.code[blank..]);
    let command = command_start(code);
    let keyword = word_len(&code[command..]);
    if keyword == 0 {
        return None;
    }
    let before = masked.comments.iter().rev();
    let mut before = before.filter(|range| range.end <= blank + command);
    let words = before.find_map(|range| piece[range.clone()].strip_prefix("/--"));
    let words = words
        .and_then(|words| words.strip_suffix("-/"))
        .map(str::trim);
    let after = &code[command + keyword..];
    let name_start = command + keyword + (after.len() - after.trim_start().len());
    let name = &text[name_start..name_start + name_len(&code[name_start..])];
    let start = proof_start(code, name_start + name.len());
    let proof = start.map(|start| Proof {
        start,
        is_tactics: is_tactics(&code[start..]),
    });
    let body = start.map_or("", |start| &code[start..]);
    let has_gap = words_of(body).any(|word| matches!(word, "sorry" | "admit"));
    Some(Declaration {
        text,
        name,
        words: words.filter(|words| !words.is_empty()),
        command,
        proof,
        has_gap,
    })
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '\'' | '!' | '?')
}

fn word_len(text: &str) -> usize {
    text.find(|c| !is_name_char(c)).unwrap_or(text.len())
}

fn words_of(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c| !is_name_char(c))
        .filter(|word| !word.is_empty())
}

/// A name with dots and `«quoted parts»`, without parameters for universes.
fn name_len(text: &str) -> usize {
    let mut is_quoted = false;
    let end = text.find(|c: char| {
        is_quoted = (is_quoted || c == '«') && c != '»';
        !(is_quoted || is_name_char(c) || matches!(c, '.' | '»'))
    });
    let name = &text[..end.unwrap_or(text.len())];
    name.trim_end_matches('.').len()
}

fn is_tactics(proof: &str) -> bool {
    let value = proof.strip_prefix(":=").map(str::trim_start);
    value.is_some_and(|value| &value[..word_len(value)] == "by")
}

/// Where the proof begins: at the first `:=`, case or `where` that is in no bracket, and that no
/// `let` of the statement needs for itself.
fn proof_start(code: &str, from: usize) -> Option<usize> {
    let (mut depth, mut lets) = (0i32, 0);
    let mut has_match = false;
    let mut at = from;
    while let Some(c) = code[at..].chars().next() {
        let rest = &code[at..];
        let word = word_len(rest);
        match c {
            '(' | '[' | '{' | '⟨' | '⦃' | '⟦' => depth += 1,
            ')' | ']' | '}' | '⟩' | '⦄' | '⟧' => depth -= 1,
            _ if depth > 0 => {}
            ':' if rest.starts_with(":=") && lets == 0 => return Some(at),
            ':' if rest.starts_with(":=") => lets -= 1,
            '|' if !has_match && is_case(code, at) => return Some(at),
            _ => match &rest[..word] {
                "let" | "letI" | "have" | "haveI" => lets += 1,
                "match" => has_match = true,
                "where" => return Some(at),
                _ => {}
            },
        }
        at += word.max(c.len_utf8());
    }
    None
}

/// Whether a bar begins a case: first on its line, with an arrow behind it. Bars of absolute values
/// have none.
fn is_case(code: &str, at: usize) -> bool {
    let line_start = code[..at].rfind('\n').map_or(0, |end| end + 1);
    let is_first = code[line_start..at].trim().is_empty();
    is_first && code[at..].starts_with("| ") && code[at..].contains("=>")
}
