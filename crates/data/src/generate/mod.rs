//! Random Python programs, each a pure function of a seed and an index.
//!
//! Half of them come from a statement grammar ([`grammar`], [`wide`] for level 5), half from parametrised
//! idioms of textbook code ([`idiom`]); both give a [`block::Block`], which [`assemble`] turns into a script
//! or into functions with a call. Programs of levels 1 to 4 end by construction, use nothing but builtins,
//! print at most their result, and hold small values only. Those of level 5 import what computes from the
//! standard library, print on the way, and may have a mistake that makes them raise or go on too long.
//! Those of level 6 come from idioms of their own that loop and recurse for hundreds to thousands of events; they
//! keep the promises of levels 1 to 4.
//! [`drill`] writes exercises for training.

mod assemble;
mod block;
mod constructs;
mod context;
mod coverage;
mod drill;
mod exprs;
mod grammar;
mod idiom;
mod literal;
mod mix;
pub(crate) mod names;
pub(crate) mod rng;
mod template;
mod wide;

use std::fmt;

use cwm_trace::Entry;
use serde::{Deserialize, Serialize};

use context::Context;
pub use coverage::{Coverage, coverage};
pub use mix::{Mix, NoMix};

/// How demanding a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Level {
    /// Not programs but drills: single operations in a row, for training.
    Drill = 0,
    /// Assignments, conditions, simple loops, methods of texts and lists.
    One = 1,
    /// `while`, early exits, dicts, sets, comprehensions, text parsing.
    Two = 2,
    /// Nested loops, helper functions, recursion, sorting and searching.
    Three = 3,
    /// Classes, exceptions, generators, closures, memo tables.
    Four = 4,
    /// The breadth of textbook Python: floats, nearly all builtins and methods, protocols of classes,
    /// modules of the standard library that compute, and mistakes.
    Five = 5,
    /// Long runs: sorting, searching, tables, graphs, simulations and machines, for hundreds to thousands of
    /// events with small values.
    Six = 6,
}

impl Level {
    /// The levels of programs, easiest first.
    pub const ALL: [Self; 6] = [
        Self::One,
        Self::Two,
        Self::Three,
        Self::Four,
        Self::Five,
        Self::Six,
    ];

    /// 1 to 6, or 0 for drills.
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// A number that is not a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no level {0}: levels are 1 to 6, and 0 for drills")]
pub struct NoSuchLevel(pub u8);

impl TryFrom<u8> for Level {
    type Error = NoSuchLevel;

    fn try_from(number: u8) -> Result<Self, NoSuchLevel> {
        [Self::Drill]
            .into_iter()
            .chain(Self::ALL)
            .find(|level| level.number() == number)
            .ok_or(NoSuchLevel(number))
    }
}

impl From<Level> for u8 {
    fn from(level: Level) -> Self {
        level.number()
    }
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.number())
    }
}

/// A generated program and the scope of it to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Python source, ending with a newline.
    pub source: String,
    /// The scope to record.
    pub entry: Entry,
    /// Level it was generated for, 1 to 6, or 0 for drills.
    pub level: u8,
    /// Name of the idiom it was made from; `grammar` for the statement grammar, `drill` for drills.
    pub family: &'static str,
    /// Whether an exception may end it, on purpose.
    pub may_raise: bool,
}

/// Distinguishes the random streams of this module from others with the same seed.
const PURPOSE: u64 = 0x67656e;

/// Share of the programs of level 5 that have a mistake.
const FAULTY: f64 = 0.07;

/// The program number `index` of the series `seed` at `level`: equal arguments, equal program.
pub fn generate(seed: u64, index: u64, level: Level) -> Program {
    let mut context = Context::new(seed, index, PURPOSE + u64::from(level.number()));
    if level == Level::Drill {
        let (source, entry) = drill::write(&mut context);
        return Program {
            source,
            entry,
            level: level.number(),
            family: "drill",
            may_raise: false,
        };
    }
    let idiom = choose_idiom(level, &mut context);
    let (family, mut block) = match idiom {
        Some(idiom) => (idiom.name.as_str(), idiom.expand(&mut context)),
        None if level == Level::Five => ("wide", wide::write(&mut context)),
        None => ("grammar", grammar::write(level.number(), &mut context)),
    };
    if level == Level::Five && context.rng.chance(FAULTY) {
        wide::fault::plant(&mut block, &mut context);
    }
    let may_raise = block.may_raise;
    let assemble::Assembled { mut source, entry } = assemble::assemble(&block, &mut context);
    if level == Level::Five {
        source = wide::imports::with_imports(&source);
    }
    Program {
        source,
        entry,
        level: level.number(),
        family,
        may_raise,
    }
}

/// An idiom of the level or, less often, of an easier one; `None` means the grammar.
fn choose_idiom(level: Level, context: &mut Context) -> Option<&'static idiom::Idiom> {
    let grammar_share = [0.6, 0.5, 0.4, 0.1, 0.45, 0.0][usize::from(level.number()) - 1];
    if context.rng.chance(grammar_share) {
        return None;
    }
    let library = idiom::library();
    let weights: Vec<u32> = library
        .iter()
        .map(|idiom| match level.number().checked_sub(idiom.level) {
            Some(0) => idiom.weight * 8,
            // The easier ones do not run for long.
            Some(1) if level != Level::Six => idiom.weight,
            _ => 0,
        })
        .collect();
    Some(&library[context.rng.weighted(&weights)])
}
