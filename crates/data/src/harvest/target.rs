//! [`Target`]: a function to be run, and arguments to try.

use std::collections::HashSet;

use serde::Deserialize;

use crate::generate::rng::Rng;
use crate::record::ArgumentsFrom;

use super::kind::{Dictionary, Drawer, Kind};
use super::mutate::mutate;

/// A function that stands alone, as `python/harvest.py` describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// Its name.
    pub(crate) name: String,
    /// Its line in the file it comes from.
    pub(crate) line: u32,
    /// The program: the function and what it needs.
    pub(crate) source: String,
    parameters: Vec<Parameter>,
    /// Argument lists that are written down in docstrings and tests.
    calls: Vec<String>,
    texts: Vec<String>,
    numbers: Vec<i64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameter {
    name: String,
    place: Place,
    has_default: bool,
    kinds: Vec<String>,
    /// Whether the kind is that of an annotation.
    is_typed: bool,
    /// Whether attributes are taken of it that no builtin value has.
    is_object: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    Plain,
    /// `*args`.
    Rest,
    /// Behind a `*`.
    Named,
}

/// An argument list to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) args: String,
    pub(crate) from: ArgumentsFrom,
}

/// Finds arguments for a target.
pub(crate) struct Arguments<'a> {
    target: &'a Target,
    parameters: Vec<Drawn>,
    dictionary: Dictionary,
    rng: Rng,
    tried: HashSet<String>,
}

/// A parameter of which values can be drawn.
struct Drawn {
    name: String,
    place: Place,
    has_default: bool,
    kinds: Vec<Kind>,
    is_typed: bool,
}

impl<'a> Arguments<'a> {
    /// `None` where a parameter must be given and nothing that can be drawn will do.
    pub(crate) fn new(target: &'a Target, seed: u64) -> Option<Self> {
        let mut parameters = Vec::new();
        for parameter in &target.parameters {
            let kinds: Vec<_> = parameter
                .kinds
                .iter()
                .filter_map(|kind| Kind::parse(kind))
                .collect();
            let can_be_drawn = !kinds.is_empty() && !parameter.is_object;
            if !can_be_drawn && !parameter.has_default && target.calls.is_empty() {
                return None;
            }
            if can_be_drawn {
                parameters.push(Drawn {
                    name: parameter.name.clone(),
                    place: parameter.place,
                    has_default: parameter.has_default,
                    kinds,
                    is_typed: parameter.is_typed,
                });
            } else if !parameter.has_default {
                parameters.clear();
                break;
            }
        }
        Some(Self {
            target,
            parameters,
            dictionary: Dictionary {
                texts: target.texts.clone(),
                numbers: target.numbers.clone(),
            },
            rng: Rng::new(seed, 0, 0),
            tried: HashSet::new(),
        })
    }

    /// What people have written, as far as it was not tried.
    pub(crate) fn written(&mut self) -> Vec<Candidate> {
        let calls = self.target.calls.iter();
        let new = calls.filter(|args| self.tried.insert((*args).clone()));
        new.map(|args| Candidate {
            args: args.clone(),
            from: ArgumentsFrom::Written,
        })
        .collect()
    }

    /// Up to `count` lists by the kinds of the parameters.
    pub(crate) fn drawn(&mut self, count: usize) -> Vec<Candidate> {
        let mut found = Vec::new();
        let is_empty = self.target.parameters.is_empty();
        if self.parameters.is_empty() && !is_empty {
            return found;
        }
        for _ in 0..count * 3 {
            let args = self.draw();
            if self.tried.insert(args.clone()) {
                found.push(Candidate {
                    args,
                    from: ArgumentsFrom::Drawn,
                });
            }
            if found.len() == count || is_empty {
                break;
            }
        }
        found
    }

    /// Up to `count` lists that differ in one place from some that work.
    pub(crate) fn mutated(&mut self, working: &[&str], count: usize) -> Vec<Candidate> {
        let mut found = Vec::new();
        if working.is_empty() {
            return found;
        }
        for _ in 0..count * 3 {
            let mut args = (*self.rng.pick(working)).to_owned();
            for _ in 0..=self.rng.below(2) {
                args = mutate(&args, &self.dictionary, &mut self.rng).unwrap_or(args);
            }
            if self.tried.insert(args.clone()) {
                found.push(Candidate {
                    args,
                    from: ArgumentsFrom::Mutated,
                });
            }
            if found.len() == count {
                break;
            }
        }
        found
    }

    fn draw(&mut self) -> String {
        let mut parts = Vec::new();
        let mut by_name = false;
        for at in 0..self.parameters.len() {
            let parameter = &self.parameters[at];
            if parameter.place == Place::Rest {
                if !by_name {
                    let kind = self.kind(at);
                    let count = self.rng.below(4);
                    parts.extend((0..count).map(|_| self.value(&kind)));
                }
                continue;
            }
            // What has a default is mostly left out.
            if parameter.has_default && self.rng.chance(0.65) {
                by_name = true;
                continue;
            }
            let kind = self.kind(at);
            let value = self.value(&kind);
            let parameter = &self.parameters[at];
            by_name |= parameter.place == Place::Named;
            parts.push(if by_name {
                format!("{}={value}", parameter.name)
            } else {
                value
            });
        }
        parts.join(", ")
    }

    /// One of the kinds of a parameter, mostly the likeliest.
    fn kind(&mut self, at: usize) -> Kind {
        let parameter = &self.parameters[at];
        if !parameter.is_typed && self.rng.chance(0.1) {
            return Kind::Any;
        }
        let mut place = 0;
        while place + 1 < parameter.kinds.len() && self.rng.chance(0.35) {
            place += 1;
        }
        parameter.kinds[place].clone()
    }

    fn value(&mut self, kind: &Kind) -> String {
        Drawer {
            rng: &mut self.rng,
            dictionary: &self.dictionary,
        }
        .draw(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(parameters: &str) -> Target {
        let text = format!(
            r#"{{"name": "f", "line": 1, "source": "", "parameters": {parameters}, "calls": ["'a', 2"], "texts": [], "numbers": []}}"#
        );
        serde_json::from_str(&text).expect("a target")
    }

    #[test]
    fn arguments_are_of_the_kinds() {
        let target = target(
            r#"[{"name": "n", "place": "plain", "has_default": false, "kinds": ["int"], "is_typed": true, "is_object": false},
                {"name": "rest", "place": "rest", "has_default": true, "kinds": ["bool"], "is_typed": true, "is_object": false},
                {"name": "key", "place": "named", "has_default": true, "kinds": ["none"], "is_typed": true, "is_object": false}]"#,
        );
        let mut arguments = Arguments::new(&target, 1).expect("they can be drawn");
        assert_eq!(arguments.written()[0].args, "'a', 2");
        let drawn = arguments.drawn(40);
        assert_eq!(drawn.len(), 40);
        for Candidate { args, .. } in &drawn {
            let parts: Vec<_> = args.split(", ").collect();
            assert!(parts[0].parse::<i64>().is_ok(), "{args}");
            let is_known = |part: &&str| ["True", "False", "key=None"].contains(part);
            assert!(parts[1..].iter().all(is_known), "{args}");
        }
        let distinct: HashSet<_> = drawn.iter().map(|c| &c.args).collect();
        assert_eq!(distinct.len(), 40);
        assert!(!arguments.mutated(&["1"], 5).is_empty());
        assert!(arguments.mutated(&[], 5).is_empty());
    }

    #[test]
    fn what_cannot_be_drawn_is_left_to_what_is_written() {
        let parameters = r#"[{"name": "x", "place": "plain", "has_default": false, "kinds": [], "is_typed": true, "is_object": false}]"#;
        let mut known = target(parameters);
        assert!(
            Arguments::new(&known, 1)
                .expect("there is a call")
                .drawn(9)
                .is_empty()
        );
        known.calls.clear();
        assert!(Arguments::new(&known, 1).is_none());
    }
}
