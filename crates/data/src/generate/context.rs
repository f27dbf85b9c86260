//! What one program under construction knows: its random stream, its names, and the literals drawn
//! last, so that a later hole can refer to them (a letter that does occur in the word).

use std::collections::HashMap;

use super::literal;
use super::names;
use super::rng::Rng;

/// Words that must not become identifiers, whatever a pool says.
const RESERVED: &[&str] = &[
    "if", "for", "in", "is", "or", "and", "not", "len", "sum", "max", "min",
];

/// The literals drawn most recently, by shape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recall {
    pub(crate) text: String,
    pub(crate) ints: Vec<i64>,
    pub(crate) words: Vec<String>,
    pub(crate) keys: Vec<String>,
    /// Length of the last sequence drawn.
    pub(crate) len: usize,
}

/// State of one program under construction.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) rng: Rng,
    /// Quotation mark the program uses.
    pub(crate) quote: char,
    pub(crate) recall: Recall,
    names: HashMap<String, String>,
    pools: HashMap<String, Vec<String>>,
}

impl Context {
    /// A context whose choices depend on nothing but the arguments.
    pub(crate) fn new(seed: u64, index: u64, purpose: u64) -> Self {
        let mut rng = Rng::new(seed, index, purpose);
        let quote = if rng.chance(0.3) { '"' } else { '\'' };
        Self {
            rng,
            quote,
            recall: Recall::default(),
            names: HashMap::new(),
            pools: HashMap::new(),
        }
    }

    /// Gives `role` its own candidates, in place of the common pool.
    pub(crate) fn define(&mut self, role: &str, candidates: &[String]) {
        self.pools.insert(role.to_owned(), candidates.to_vec());
    }

    /// The name of `role`, chosen at its first use. `x1` and `x2` share a pool but never a name.
    pub(crate) fn name(&mut self, role: &str) -> String {
        if let Some(name) = self.names.get(role) {
            return name.clone();
        }
        let base = role.trim_end_matches(|c: char| c.is_ascii_digit());
        let candidates: Vec<&str> = match self.pools.get(role) {
            Some(own) => own.iter().map(String::as_str).collect(),
            None => names::pool(base).to_vec(),
        };
        // Later entries of a pool are less usual, so earlier ones get more weight.
        let free: Vec<&str> = candidates
            .into_iter()
            .filter(|name| self.is_free(name))
            .collect();
        let weights: Vec<u32> = (0..free.len()).map(|i| if i < 3 { 3 } else { 2 }).collect();
        let name = if free.is_empty() {
            self.fallback(base)
        } else {
            free[self.rng.weighted(&weights)].to_owned()
        };
        self.names.insert(role.to_owned(), name.clone());
        name
    }

    fn is_free(&self, name: &str) -> bool {
        !RESERVED.contains(&name) && !self.names.values().any(|used| used == name)
    }

    fn fallback(&self, base: &str) -> String {
        (0..)
            .map(|n| {
                if n == 0 {
                    base.to_owned()
                } else {
                    format!("{base}{n}")
                }
            })
            .find(|name| self.is_free(name))
            .unwrap_or_default()
    }

    /// A letter as a literal, mostly one that occurs in the text drawn last.
    pub(crate) fn letter_literal(&mut self) -> String {
        let known: Vec<char> = self
            .recall
            .text
            .chars()
            .filter(|c| c.is_alphanumeric())
            .collect();
        let chosen = if !known.is_empty() && self.rng.chance(0.7) {
            *self.rng.pick(&known)
        } else {
            literal::letter(&mut self.rng)
        };
        self.quoted(&chosen.to_string())
    }

    /// `text` as a Python string literal. Generated texts hold no quotes or backslashes.
    pub(crate) fn quoted(&self, text: &str) -> String {
        format!("{0}{text}{0}", self.quote)
    }
}
