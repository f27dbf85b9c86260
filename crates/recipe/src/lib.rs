//! How a model is made: a [`Recipe`] of steps, each a command of `cwm`, and whether it came out the same.
//!
//! ```toml
//! name = "nano"
//! about = "The small model"
//!
//! [inputs]                      # what the recipe does not make; given when it is run
//! problems = { about = "MBPP's train split, from its repository", sha256 = "…" }
//!
//! [[step]]                      # in order; a step may read what stands above it
//! name = "programs"
//! about = "Generated programs"
//! run = ["data", "generate", "--seed", "1", "--count", "{scaled:80000}", "--out", "{out}/programs.jsonl"]
//! sha256 = { "programs.jsonl" = "…" }
//!
//! [[step]]
//! name = "people"
//! about = "Problems with tests"
//! optional = true               # skipped, and said to be, where an input is not given
//! run = ["data", "build", "{file}", "--out", "{out}"]
//! [step.file]                   # a TOML file that the command reads as `{file}`
//! seed = 5
//! source = [{ kind = "problems", name = "mbpp", file = "{input:problems}", licence = "CC-BY-4.0" }]
//!
//! [[step]]
//! name = "scores"
//! about = "Figures"
//! stdout = "suite.json"         # where standard output goes, in `{out}`
//! run = ["eval", "suite", "--json", ["--mbpp", "{input:problems}"]]
//! ```
//!
//! Placeholders stand in the words of `run` and the texts of `file`: `{out}` is the step's own folder, `{file}` its
//! file, `{input:NAME}` an input, `{step:NAME}` the folder of a step above, `{scaled:N}` a count that a rehearsal
//! makes smaller. In `file`, a text that is `{scaled:N}` and nothing else is a number. A word that ends in `/*.EXT`
//! stands for the files of that folder with that ending, by name.
//!
//! What cannot be had is left out only where the recipe allows it: a list within `run` when something that it names
//! is absent, a table in a list of `file` when it names a step that was skipped, a step that is `optional`. All else
//! is an error before anything is made. What was left out is told in [`Plan::differences`].

pub mod card;
mod record;
mod resolve;
mod template;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

pub use record::{Product, Record, RecordError, digest, products, products_digest};
pub use resolve::{Given, Plan, Ready, Resolved};

use template::{Piece, pieces};

/// First words of what a step may run.
const COMMANDS: [&str; 5] = ["data", "train", "export", "eval", "card"];

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// It is not TOML, or has a key or a value that it may not have.
    #[error("{0}")]
    Syntax(String),
    /// A step cannot work.
    #[error("step `{step}` {reason}")]
    Step {
        /// Its name.
        step: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// An input is not one of the recipe's.
    #[error("the recipe has no input `{name}`; it has {known}")]
    NoSuchInput {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A hash is none.
    #[error("`sha256` of {of} is not 64 hexadecimal digits")]
    Hash {
        /// What it is the hash of.
        of: String,
    },
}

impl RecipeError {
    fn step(step: &str, reason: impl Into<String>) -> Self {
        Self::Step {
            step: step.to_owned(),
            reason: reason.into(),
        }
    }
}

/// How a model is made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the model.
    pub name: String,
    /// What it is, in a line.
    pub about: String,
    /// What is not made by it.
    #[serde(default)]
    pub inputs: BTreeMap<String, Input>,
    /// What is done, in order.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
}

/// A file or folder that a recipe does not make.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What it is, and where to get it.
    pub about: String,
    /// [`digest`] of what the model was made with.
    pub sha256: Option<String>,
}

/// One thing that is done.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Name, also of the folder of its products.
    pub name: String,
    /// What it does, in a line.
    pub about: String,
    /// The command and its arguments.
    run: Vec<Word>,
    /// The file that the command reads.
    file: Option<toml::Table>,
    /// The product that standard output is kept as.
    pub stdout: Option<String>,
    /// Hashes of products, by their paths in the step's folder.
    #[serde(default)]
    pub sha256: BTreeMap<String, String>,
    /// Whether it is skipped where something that it reads is absent.
    #[serde(default)]
    pub optional: bool,
}

/// A word of a command line, or words that are left out together.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Word {
    One(String),
    Group(Vec<String>),
}

impl Word {
    fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Group(texts) => texts,
        }
    }
}

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    /// [`RecipeError`], by the name of the step.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        let recipe: Self =
            toml::from_str(text).map_err(|error| RecipeError::Syntax(error.to_string()))?;
        for (name, input) in &recipe.inputs {
            let hash = input.sha256.iter();
            check_hashes(hash, || format!("input `{name}`"))?;
        }
        let names: BTreeSet<&str> = recipe.steps.iter().map(|step| step.name.as_str()).collect();
        let mut above = BTreeSet::new();
        for step in &recipe.steps {
            step.check()?;
            step.check_placeholders(&recipe.inputs, &names, &above)?;
            if !above.insert(step.name.as_str()) {
                let reason = "stands in the recipe twice; give each its own name";
                return Err(RecipeError::step(&step.name, reason));
            }
        }
        Ok(recipe)
    }

    /// The step of this name.
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }
}

fn check_hashes<'a>(
    mut hashes: impl Iterator<Item = &'a String>,
    of: impl Fn() -> String,
) -> Result<(), RecipeError> {
    let is_hash =
        |hash: &String| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    match hashes.all(is_hash) {
        true => Ok(()),
        false => Err(RecipeError::Hash { of: of() }),
    }
}

impl Step {
    /// The command it runs, such as `train`.
    pub fn command(&self) -> &str {
        match self.run.first() {
            Some(Word::One(command)) => command,
            _ => "",
        }
    }

    fn check(&self) -> Result<(), RecipeError> {
        let wrong = |reason: String| Err(RecipeError::step(&self.name, reason));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if self.name.is_empty() || !self.name.bytes().all(plain) {
            return wrong("is not named by letters, digits, `_` and `-`".to_owned());
        }
        if !COMMANDS.contains(&self.command()) {
            let known = COMMANDS.join("`, `");
            return wrong(format!(
                "runs `{}`, which is none of `{known}`",
                self.command()
            ));
        }
        if let Some(file) = self.stdout.as_deref()
            && (file.is_empty() || file.contains('/') || file.starts_with('.'))
        {
            return wrong(format!(
                "keeps standard output as `{file}`, which is no plain name"
            ));
        }
        check_hashes(self.sha256.values(), || {
            format!("a product of step `{}`", self.name)
        })
    }

    /// Whether all that placeholders name is there, and no earlier than it is made.
    fn check_placeholders(
        &self,
        inputs: &BTreeMap<String, Input>,
        names: &BTreeSet<&str>,
        above: &BTreeSet<&str>,
    ) -> Result<(), RecipeError> {
        let mut texts: Vec<&str> = Vec::new();
        let words = self.run.iter().flat_map(Word::texts);
        texts.extend(words.map(String::as_str));
        self.file
            .iter()
            .for_each(|file| texts_of(file.values(), &mut texts));
        let mut names_file = false;
        for text in texts {
            let found = pieces(text).map_err(|reason| RecipeError::step(&self.name, reason))?;
            for piece in found {
                let reason = match piece {
                    Piece::Input(name) if !inputs.contains_key(name) => {
                        format!("reads input `{name}`, which `[inputs]` does not have")
                    }
                    Piece::Step(name) if !names.contains(name) => {
                        format!("reads step `{name}`, which does not exist")
                    }
                    Piece::Step(name) if !above.contains(name) => {
                        format!("reads step `{name}`, which does not stand above it")
                    }
                    Piece::File if self.file.is_none() => {
                        "names `{file}`, but has no table `[step.file]`".to_owned()
                    }
                    Piece::File => {
                        names_file = true;
                        continue;
                    }
                    _ => continue,
                };
                return Err(RecipeError::step(&self.name, reason));
            }
        }
        match self.file.is_some() && !names_file {
            true => Err(RecipeError::step(
                &self.name,
                "has a table `[step.file]` that its `run` does not name as `{file}`",
            )),
            false => Ok(()),
        }
    }
}

/// All texts within values.
fn texts_of<'a>(values: impl Iterator<Item = &'a toml::Value>, texts: &mut Vec<&'a str>) {
    for value in values {
        match value {
            toml::Value::String(text) => texts.push(text),
            toml::Value::Array(values) => texts_of(values.iter(), texts),
            toml::Value::Table(table) => texts_of(table.values(), texts),
            _ => {}
        }
    }
}
