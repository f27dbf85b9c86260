//! Sums up the rounds of long loops.

use std::collections::BTreeSet;

use super::facts::{Fact, Step, code_of, indent_of};

/// Rounds that are told one by one before the rest is summed up.
const TOLD: usize = 2;

/// The fewest rounds that are worth summing up.
const FEWEST: usize = 3;

/// Values of the loop's own variable that are listed.
const LISTED: usize = 12;

/// Puts one step in the place of many rounds of a loop, inner loops first.
///
/// Only rounds in which nothing but the loop's own lines ran are summed up: what is said about
/// calls and exceptions stays.
pub(super) fn fold(mut steps: Vec<Step>, lines: &[&str]) -> Vec<Step> {
    let heads: BTreeSet<u32> = steps.iter().filter_map(|step| step.line).collect();
    let mut heads: Vec<u32> = heads.into_iter().collect();
    heads.retain(|&line| is_loop(lines, line));
    heads.sort_by_key(|&line| (std::cmp::Reverse(indent_of(lines, line)), line));
    for head in heads {
        steps = fold_loop(steps, lines, head);
    }
    steps
}

fn is_loop(lines: &[&str], line: u32) -> bool {
    let code = code_of(lines, line);
    (code.starts_with("for ") || code.starts_with("while ")) && code.ends_with(':')
}

fn fold_loop(steps: Vec<Step>, lines: &[&str], head: u32) -> Vec<Step> {
    let mut out = Vec::with_capacity(steps.len());
    let mut at = 0;
    while at < steps.len() {
        let rounds = rounds(&steps[at..], lines, head);
        // The last head is the one that ends the loop, or whose round ended it.
        let Some(count) = rounds
            .len()
            .checked_sub(1)
            .filter(|count| *count >= TOLD + FEWEST)
        else {
            out.push(steps[at].clone());
            at += 1;
            continue;
        };
        let (first, last) = (at + rounds[TOLD], at + rounds[count]);
        out.extend_from_slice(&steps[at..first]);
        out.push(summary(&steps[first..last], head, count - TOLD));
        // The end of the loop is told again, and is no beginning of one.
        out.push(steps[last].clone());
        at = last + 1;
    }
    out
}

/// Where the rounds of a loop begin that begins with the first step, as far as nothing else happens
/// in between.
fn rounds(steps: &[Step], lines: &[&str], head: u32) -> Vec<usize> {
    let Some(activation) = steps.first().filter(|step| step.line == Some(head)) else {
        return Vec::new();
    };
    let activation = activation.activation;
    let margin = indent_of(lines, head);
    let mut found = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let Some(line) = step.line.filter(|_| step.activation == activation) else {
            break;
        };
        if line == head {
            found.push(at);
        } else if indent_of(lines, line) <= margin {
            break;
        }
    }
    found
}

fn summary(steps: &[Step], head: u32, rounds: usize) -> Step {
    let mut left: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: Option<&str>| {
        let known = left.iter().position(|(other, _)| other == name);
        match (known, value) {
            (Some(at), Some(value)) => value.clone_into(&mut left[at].1),
            (None, Some(value)) => left.push((name.to_owned(), value.to_owned())),
            (Some(at), None) => drop(left.remove(at)),
            (None, None) => {}
        }
    };
    for fact in steps.iter().flat_map(|step| &step.facts) {
        match fact {
            Fact::Becomes { name, value, .. } => set(name, Some(value)),
            Fact::Unbound { name } => set(name, None),
            Fact::Left { variables } => {
                let pairs = variables.iter();
                pairs.for_each(|(name, value)| set(name, Some(value)));
            }
            _ => {}
        }
    }
    let times = u32::try_from(rounds).unwrap_or(u32::MAX);
    let mut facts = vec![Fact::Repeats { line: head, times }];
    facts.extend(took(steps, head, rounds));
    if !left.is_empty() {
        facts.push(Fact::Left { variables: left });
    }
    Step {
        activation: steps[0].activation,
        function: steps[0].function,
        line: Some(head),
        facts,
    }
}

/// The values of the variable that the loop's line sets, if it set one in every round.
fn took(steps: &[Step], head: u32, rounds: usize) -> Option<Fact> {
    let heads = steps.iter().filter(|step| step.line == Some(head));
    let first_set = heads.map(|step| match step.facts.get(1) {
        Some(Fact::Becomes { name, value, .. }) => Some((name.clone(), value.clone())),
        _ => None,
    });
    let set: Vec<(String, String)> = first_set.collect::<Option<_>>()?;
    let name = set.first()?.0.clone();
    let is_one = set.iter().all(|(other, _)| *other == name);
    let values: Vec<String> = set.into_iter().map(|(_, value)| value).collect();
    let is_listed = is_one && values.len() == rounds && values.len() <= LISTED;
    is_listed.then_some(Fact::Took { name, values })
}
