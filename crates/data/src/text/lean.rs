//! Lean 4: theorems with their proofs, what they say in words beside what they say in Lean, and the
//! states of proofs.
//!
//! Files are cut into commands by [`split`], which knows comments, strings and the words that begin
//! a command, and nothing else of the language: a file of any version can be cut, and the pieces
//! are always the whole file.
//!
//! What a tactic does to the goals is known to Lean alone. [`steps`] reads it from a file of JSON
//! lines that a tool such as LeanDojo can be made to write, one object for each tactic:
//!
//! ```json
//! {"theorem": "Nat.foo", "state_before": "n : Nat\n⊢ n = n", "tactic": "rfl", "state_after": "no goals"}
//! ```

mod declaration;
mod mask;
mod split;

use std::collections::HashSet;
use std::io::{self, BufRead};

use serde::{Deserialize, Serialize};

use super::layout::{self, ParseError, Reader};
use super::{Content, Document, Harvest, Material, Skip};
use crate::scrub::Scrubber;

pub use declaration::{Declaration, Proof, declaration};
pub use split::{Piece, split};

/// A theorem with its proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeanProof {
    /// Its name, with its namespaces.
    pub name: String,
    /// The commands of the file that are in force: imports, open namespaces, variables. May be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context: String,
    /// What it says, with the blanks behind it: statement and proof together are the declaration.
    pub statement: String,
    /// The proof, from `:=` on (or from the first case, or from `where`).
    pub proof: String,
}

/// What a theorem says, in words and in Lean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeanTranslation {
    /// Its name, with its namespaces.
    pub name: String,
    /// The words, from the comment before it.
    pub informal: String,
    /// The statement, without attributes, modifiers and proof.
    pub formal: String,
}

/// What one tactic does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeanStep {
    /// The theorem that is proved.
    pub theorem: String,
    /// The goals before.
    #[serde(rename = "state_before")]
    pub before: String,
    /// The tactic.
    pub tactic: String,
    /// The goals afterwards; `no goals` if nothing is left to prove.
    #[serde(rename = "state_after")]
    pub after: String,
}

const LEAN: &str = "lean";

impl LeanProof {
    /// The text a model trains on: what is in force, then the declaration.
    pub fn render(&self) -> String {
        let mut out = String::new();
        layout::heading(&mut out, 1, &format!("Proof of {}", self.name));
        if !self.context.is_empty() {
            layout::heading(&mut out, 2, "Context");
            layout::block(&mut out, LEAN, &self.context);
            layout::heading(&mut out, 2, "Theorem");
        }
        layout::block(&mut out, LEAN, &format!("{}{}", self.statement, self.proof));
        out
    }

    /// Reads a rendering back, and finds the proof in the declaration again.
    ///
    /// # Errors
    /// [`ParseError`], with the line.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut reader = Reader::new(text);
        let name = reader.heading(1, "Proof of ")?.to_owned();
        let mut context = String::new();
        if reader.heading_if(2, "Context").is_some() {
            context = reader.block_of(LEAN)?;
            reader.heading(2, "Theorem")?;
        }
        let wrong = reader.expected("a theorem with its proof");
        let whole = reader.block_of(LEAN)?;
        reader.end()?;
        let proof = declaration(&whole).and_then(|found| found.proof);
        let (statement, proof) = whole.split_at(proof.ok_or(wrong)?.start);
        Ok(Self {
            name,
            context,
            statement: statement.to_owned(),
            proof: proof.to_owned(),
        })
    }
}

impl LeanTranslation {
    /// The text a model trains on.
    pub fn render(&self) -> String {
        let mut out = String::new();
        layout::heading(&mut out, 1, &format!("Statement of {}", self.name));
        layout::block(&mut out, "text", &self.informal);
        layout::block(&mut out, LEAN, &self.formal);
        out
    }

    /// Reads a rendering back.
    ///
    /// # Errors
    /// [`ParseError`], with the line.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut reader = Reader::new(text);
        let name = reader.heading(1, "Statement of ")?.to_owned();
        let informal = reader.block_of("text")?;
        let formal = reader.block_of(LEAN)?;
        reader.end()?;
        Ok(Self {
            name,
            informal,
            formal,
        })
    }
}

impl LeanStep {
    /// The text a model trains on: goals, tactic, goals.
    pub fn render(&self) -> String {
        let mut out = String::new();
        layout::heading(&mut out, 1, &format!("Step of {}", self.theorem));
        for text in [&self.before, &self.tactic, &self.after] {
            layout::block(&mut out, LEAN, text);
        }
        out
    }

    /// Reads a rendering back.
    ///
    /// # Errors
    /// [`ParseError`], with the line.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut reader = Reader::new(text);
        let theorem = reader.heading(1, "Step of ")?.to_owned();
        let before = reader.block_of(LEAN)?;
        let tactic = reader.block_of(LEAN)?;
        let after = reader.block_of(LEAN)?;
        reader.end()?;
        Ok(Self {
            theorem,
            before,
            tactic,
            after,
        })
    }
}

/// The theorems of a file: a proof for each, and a translation where words stand before it.
///
/// What `scrubber` finds is replaced before; a file longer than `bytes` is too large. Proofs that
/// are left open by `sorry` are counted as unfinished; their statements still are translations.
pub fn theorems(source: &str, material: &Material, bytes: usize, scrubber: &Scrubber) -> Harvest {
    if source.len() > bytes {
        return Harvest::nothing(Skip::TooLarge);
    }
    let source = scrubber.scrub(source).text;
    let mut harvest = Harvest::default();
    let mut scope = Scope::default();
    for piece in split(&source) {
        let found = declaration(piece.text).filter(|_| piece.is_theorem());
        let Some(found) = found else {
            scope.enter(&piece);
            continue;
        };
        let name = scope.name(found.name);
        if let (Some(informal), false) = (found.words, found.name.is_empty()) {
            let translation = Content::LeanTranslation(LeanTranslation {
                name: name.clone(),
                informal: format!("{informal}\n"),
                formal: format!("{}\n", found.claim()),
            });
            harvest.take(Ok(Document::new(material, &name, translation)));
        }
        let proof = proof(&found, &name, &scope).map(Content::LeanProof);
        harvest.take(proof.map(|content| Document::new(material, &name, content)));
    }
    if harvest == Harvest::default() {
        return Harvest::nothing(Skip::Empty);
    }
    harvest
}

fn proof(found: &Declaration, name: &str, scope: &Scope) -> Result<LeanProof, Skip> {
    let proof = found.proof.as_ref().ok_or(Skip::Empty)?;
    if found.name.is_empty() {
        return Err(Skip::NoDescription);
    }
    if found.has_gap {
        return Err(Skip::Unfinished);
    }
    let text = found.text[proof.start..].trim_end();
    Ok(LeanProof {
        name: name.to_owned(),
        context: scope.text(),
        statement: found.statement().to_owned(),
        proof: format!("{text}\n"),
    })
}

/// What is in force at a place in a file.
#[derive(Debug, Default)]
struct Scope {
    /// Commands outside of all namespaces and sections, then those of each that is open, its own line first.
    lines: Vec<String>,
    /// For each open namespace or section its name, if it is a namespace, and how many lines there
    /// were before it.
    open: Vec<(Option<String>, usize)>,
}

impl Scope {
    fn enter(&mut self, piece: &Piece) {
        let code = piece.code();
        match piece.keyword {
            "namespace" | "section" => {
                let name = code.split_whitespace().next_back().unwrap_or_default();
                let name = (piece.keyword == "namespace").then(|| name.to_owned());
                self.open.push((name, self.lines.len()));
                self.lines.push(code);
            }
            "end" => {
                if let Some((_, lines)) = self.open.pop() {
                    self.lines.truncate(lines);
                }
            }
            "import" | "open" | "variable" | "variables" | "universe" | "universes" => {
                self.lines.push(code);
            }
            _ => {}
        }
    }

    fn name(&self, own: &str) -> String {
        if let Some(absolute) = own.strip_prefix("_root_.") {
            return absolute.to_owned();
        }
        let spaces = self.open.iter().filter_map(|(name, _)| name.as_deref());
        spaces.chain([own]).collect::<Vec<_>>().join(".")
    }

    fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// The steps of proofs in a file of JSON lines, in the form that this module describes. Blank lines
/// are skipped; others that do not follow the form are counted as malformed, steps that are there
/// already as repeated.
///
/// # Errors
/// Those of the reader.
pub fn steps(input: impl BufRead, material: &Material, scrubber: &Scrubber) -> io::Result<Harvest> {
    let mut harvest = Harvest::default();
    let mut seen = HashSet::new();
    for (number, line) in (1u64..).zip(input.lines()) {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let step = step(&line, scrubber);
        let step = step.and_then(|step| match seen.insert(step.render()) {
            true => Ok(step),
            false => Err(Skip::Repeated),
        });
        harvest.take(step.map(|step| {
            let part = format!("{}:{number}", step.theorem);
            Document::new(material, &part, Content::LeanStep(step))
        }));
    }
    Ok(harvest)
}

fn step(line: &str, scrubber: &Scrubber) -> Result<LeanStep, Skip> {
    let step: LeanStep = serde_json::from_str(line).map_err(|_| Skip::Malformed)?;
    let is_name = !step.theorem.is_empty() && step.theorem == layout::one_line(&step.theorem);
    let is_whole = [&step.before, &step.tactic, &step.after];
    if !is_name || is_whole.iter().any(|text| text.trim().is_empty()) {
        return Err(Skip::Malformed);
    }
    let ended = |text: &str| format!("{}\n", text.trim_end());
    // A state is what Lean printed: with anything replaced it would follow from nothing.
    if !scrubber.scrub(line).findings.is_empty() {
        return Err(Skip::Private);
    }
    Ok(LeanStep {
        before: ended(&step.before),
        tactic: ended(&step.tactic),
        after: ended(&step.after),
        ..step
    })
}
