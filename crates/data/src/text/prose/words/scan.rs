//! Cuts prose into clauses, and empties their slots.

use super::super::super::layout::longest_run;

/// Marks for slots in the shape of a clause. They are no characters of a text.
pub(super) const CODE: char = '\u{1}';
pub(super) const NUMBER: char = '\u{2}';
pub(super) const PAIRS: char = '\u{3}';
pub(super) const LIST: char = '\u{4}';

/// What stood in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Code(String),
    Number(u32),
    Pairs(Vec<(String, String)>),
    List(Vec<String>),
}

/// A clause without what stands in its slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clause {
    pub(super) text: String,
    pub(super) shape: String,
    pub(super) slots: Vec<Slot>,
}

/// A text in a code span that it cannot close.
pub(super) fn span(text: &str) -> String {
    match longest_run(text, '`') {
        0 => format!("`{text}`"),
        run => {
            let fence = "`".repeat(run + 1);
            format!("{fence} {text} {fence}")
        }
    }
}

/// `` `a` = `1`, `b` = `2` and `c` = `3` ``.
pub(super) fn pairs(pairs: &[(String, String)]) -> String {
    let pair = |(name, value): &(String, String)| format!("{} = {}", span(name), span(value));
    joined(pairs.iter().map(pair).collect())
}

/// `` `1`, `2` and `3` ``.
pub(super) fn list(values: &[String]) -> String {
    joined(values.iter().map(|value| span(value)).collect())
}

fn joined(mut items: Vec<String>) -> String {
    let last = items.pop().unwrap_or_default();
    if items.is_empty() {
        last
    } else {
        format!("{} and {last}", items.join(", "))
    }
}

/// The clauses of a text, in order. "Back in `f`" is one of them.
pub(super) fn clauses(text: &str) -> Vec<Clause> {
    let (mut shape, slots) = emptied(text);
    shape = shape.replace("\n\n", " ");
    let mut slots = slots.into_iter();
    let mut clauses = Vec::new();
    for sentence in shape.split_inclusive(". ") {
        let sentence = sentence.trim_end();
        let sentence = sentence.strip_suffix('.').unwrap_or(sentence);
        let back = format!("Back in {CODE}, ");
        let parts = match sentence.strip_prefix(&back) {
            Some(rest) => vec![format!("the run is in {CODE} again"), rest.to_owned()],
            None => vec![sentence.to_owned()],
        };
        for part in parts.iter().flat_map(|part| part.split("; ")) {
            for shape in part.split(", and ").filter(|shape| !shape.is_empty()) {
                clauses.push(clause(shape, &mut slots));
            }
        }
    }
    clauses
}

/// Takes the slots of a clause from those of the text, and joins them to pairs and lists.
fn clause(shape: &str, slots: &mut impl Iterator<Item = Slot>) -> Clause {
    let is_slot = |c: char| c == CODE || c == NUMBER;
    let own: Vec<Slot> = slots.take(shape.matches(is_slot).count()).collect();
    let mut own = own.into_iter().peekable();
    let mut rest = lower(shape);
    let mut clause = Clause {
        text: shape.replace(is_slot, "..."),
        shape: String::new(),
        slots: Vec::new(),
    };
    let pair = format!("{CODE} = {CODE}");
    while let Some(at) = rest.find(is_slot) {
        clause.shape.push_str(&rest[..at]);
        rest.drain(..at);
        let (pair_count, pair_len) = run_of(&rest, &pair);
        let (count, len) = run_of(&rest, &CODE.to_string());
        let mut texts = own.by_ref().map_while(|slot| match slot {
            Slot::Code(text) => Some(text),
            _ => None,
        });
        let (mark, slot, len) = if pair_count > 0 {
            let texts: Vec<String> = texts.by_ref().take(2 * pair_count).collect();
            let pairs = texts.chunks_exact(2);
            let pairs = pairs.map(|pair| (pair[0].clone(), pair[1].clone()));
            (PAIRS, Some(Slot::Pairs(pairs.collect())), pair_len)
        } else if count >= 3 {
            (
                LIST,
                Some(Slot::List(texts.by_ref().take(count).collect())),
                len,
            )
        } else {
            let mark = if rest.starts_with(CODE) { CODE } else { NUMBER };
            (mark, own.next(), 1)
        };
        clause.shape.push(mark);
        clause.slots.extend(slot);
        rest.drain(..len);
    }
    clause.shape.push_str(&rest);
    clause
}

/// How many `item`s a text begins with, joined by commas and one "and", and their length.
fn run_of(text: &str, item: &str) -> (usize, usize) {
    let (mut count, mut len) = (0, 0);
    let mut rest = text;
    while let Some(after) = rest.strip_prefix(item) {
        count += 1;
        len = text.len() - after.len();
        let next = after
            .strip_prefix(", ")
            .or_else(|| after.strip_prefix(" and "));
        let Some(next) = next else { break };
        rest = next;
    }
    (count, len)
}

fn lower(clause: &str) -> String {
    let mut letters = clause.chars();
    let first = letters.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// A text with marks for its code spans and numbers, and what these are.
fn emptied(text: &str) -> (String, Vec<Slot>) {
    let mut shape = String::new();
    let mut slots = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '`'
            && let Some((code, after)) = read_span(rest)
        {
            shape.push(CODE);
            slots.push(Slot::Code(code.to_owned()));
            rest = after;
        } else if first.is_ascii_digit()
            && let Some((number, after)) = read_number(rest)
        {
            shape.push(NUMBER);
            slots.push(Slot::Number(number));
            rest = after;
        } else {
            // A mark in the text itself must not be taken for a slot.
            let is_mark = matches!(first, CODE | NUMBER | PAIRS | LIST);
            shape.push(if is_mark { '\u{fffd}' } else { first });
            rest = &rest[first.len_utf8()..];
        }
    }
    (shape, slots)
}

fn read_number(text: &str) -> Option<(u32, &str)> {
    let after = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text[..text.len() - after.len()].parse().ok()?;
    Some((number, after))
}

fn read_span(text: &str) -> Option<(&str, &str)> {
    let run = text.len() - text.trim_start_matches('`').len();
    let (fence, rest) = text.split_at(run);
    let (code, after) = rest.split_once(fence)?;
    if run == 1 {
        return Some((code, after));
    }
    let code = code.strip_prefix(' ')?.strip_suffix(' ')?;
    Some((code, after))
}
