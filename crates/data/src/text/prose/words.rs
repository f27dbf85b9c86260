//! Facts as sentences, and back.
//!
//! A clause is a pattern with slots: values and names stand in code spans, line numbers are digits,
//! so that what is said can be told from how it is said. Clauses are joined to sentences, sentences
//! to paragraphs. Reading is the same table the other way round: a clause is looked up by what is
//! left when its slots are emptied.

mod forms;
mod scan;

use super::facts::Fact;
use crate::generate::rng::Rng;
use forms::{FORMS, Form, Said};
use scan::{Clause, clauses};

/// A text that does not consist of sentences of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no sentence about a run")]
pub struct ReadError(pub String);

/// The stream of random numbers that words are drawn from.
const PURPOSE: u64 = 0x5052_4f53;

/// Sentences of a paragraph.
const PARAGRAPH: std::ops::RangeInclusive<i64> = 3..=7;

/// Longest text of a line that is quoted, in bytes.
const QUOTED: usize = 60;

/// Facts as prose. The same facts and seed give the same words.
pub fn write_facts(facts: &[Fact], seed: u64) -> String {
    let mut rng = Rng::new(seed, facts.len() as u64, PURPOSE);
    let mut out = String::new();
    let mut left = rng.range(*PARAGRAPH.start(), *PARAGRAPH.end());
    let mut at = 0;
    while at < facts.len() {
        let (sentence, taken) = sentence(&facts[at..], &mut rng);
        at += taken;
        out.push_str(&sentence);
        left -= 1;
        let ends = left <= 0 || matches!(facts[at - 1], Fact::Returned { .. } | Fact::Left { .. });
        if at < facts.len() {
            out.push_str(if ends { "\n\n" } else { " " });
        }
        if ends {
            left = rng.range(*PARAGRAPH.start(), *PARAGRAPH.end());
        }
    }
    out
}

/// The next sentence, and how many facts it says.
fn sentence(facts: &[Fact], rng: &mut Rng) -> (String, usize) {
    let mut out = String::new();
    let mut taken = 0;
    if let Fact::In { function } = &facts[0]
        && facts.len() > 1
    {
        out.push_str(&format!("Back in {}, ", scan::span(function)));
        taken = 1;
    }
    let mut clauses = 0;
    let most = rng.range(1, 4);
    loop {
        let (clause, said) = clause(&facts[taken..], rng);
        taken += said;
        clauses += 1;
        out.push_str(&if out.is_empty() {
            capital(&clause)
        } else {
            clause
        });
        let goes_on = facts
            .get(taken)
            .is_some_and(|next| continues(next, clauses, most));
        if !goes_on {
            break;
        }
        out.push_str(if rng.chance(0.6) { ", and " } else { "; " });
    }
    out.push('.');
    (out, taken)
}

/// Whether a fact is better told in the same sentence.
fn continues(fact: &Fact, clauses: i64, most: i64) -> bool {
    match fact {
        Fact::Becomes { .. } | Fact::Unbound { .. } => clauses < 4,
        Fact::Took { .. } | Fact::Left { .. } | Fact::Escaped { .. } => true,
        Fact::Returned { .. } | Fact::Raised { .. } => clauses < most,
        _ => false,
    }
}

/// A clause about the first fact or two.
fn clause(facts: &[Fact], rng: &mut Rng) -> (String, usize) {
    // What a line does and what it changes are one statement more often than not.
    if let [
        line @ Fact::Ran { .. },
        change @ (Fact::Becomes { .. } | Fact::Unbound { .. }),
        ..,
    ] = facts
        && rng.chance(0.9)
    {
        let both = Said::of(line).and(Said::of(change));
        if let Some(form) = pick(both.forms_of_both(change), &both, rng) {
            return (form.fill(&both), 2);
        }
    }
    let said = Said::of(&facts[0]);
    let form = pick(said.forms_of(&facts[0]), &said, rng);
    let form = form.expect("every kind of fact has a form with nothing optional in it");
    (form.fill(&said), 1)
}

/// One of the forms whose slots can all be filled.
fn pick<'a>(forms: impl Iterator<Item = &'a Form>, said: &Said, rng: &mut Rng) -> Option<&'a Form> {
    let possible: Vec<&Form> = forms.filter(|form| form.fits(said)).collect();
    if possible.is_empty() {
        return None;
    }
    let weights: Vec<u32> = possible.iter().map(|form| form.weight(said)).collect();
    Some(possible[rng.weighted(&weights)])
}

fn capital(clause: &str) -> String {
    let mut letters = clause.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// Reads prose back, fact by fact.
///
/// # Errors
/// [`ReadError`] with the clause that is none of ours.
pub fn read_facts(text: &str) -> Result<Vec<Fact>, ReadError> {
    let mut facts = Vec::new();
    for clause in clauses(text) {
        read_clause(&clause, &mut facts)?;
    }
    Ok(facts)
}

fn read_clause(clause: &Clause, facts: &mut Vec<Fact>) -> Result<(), ReadError> {
    let wrong = || ReadError(clause.text.clone());
    let form = FORMS.iter().find(|form| form.shape() == clause.shape);
    let form = form.ok_or_else(wrong)?;
    facts.extend(form.read(clause).ok_or_else(wrong)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_forms_look_the_same_when_they_are_emptied() {
        let shapes: HashSet<String> = FORMS.iter().map(Form::shape).collect();
        assert_eq!(shapes.len(), FORMS.len());
        for form in FORMS {
            for separator in [", and ", "; ", ". ", "Back in"] {
                assert!(!form.pattern.contains(separator), "{}", form.pattern);
            }
            assert!(
                !form.pattern.starts_with(char::is_uppercase),
                "{}",
                form.pattern
            );
        }
    }
}
