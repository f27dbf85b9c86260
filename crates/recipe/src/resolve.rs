//! From a recipe and what is given with it to command lines: [`Recipe::plan`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sha2::{Digest, Sha256};
use toml::{Table, Value};

use crate::record::hex;
use crate::template::{Piece, pieces};
use crate::{Recipe, RecipeError, Step, Word};

/// What a recipe is run with.
#[derive(Clone, Debug)]
pub struct Given {
    /// The folder that all steps write into.
    pub out: String,
    /// Paths of inputs by name.
    pub inputs: BTreeMap<String, String>,
    /// What scaled counts are multiplied by: 1, unless it is a rehearsal.
    pub scale: f64,
}

impl Given {
    /// Folder of a step's products.
    pub fn folder(&self, step: &str) -> String {
        format!("{}/{step}", self.out)
    }

    /// The file that a step's command reads.
    pub fn file(&self, step: &str) -> String {
        format!("{}/{step}.toml", self.out)
    }
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For each step of the recipe.
    pub steps: Vec<Resolved>,
    /// How what is made differs from what the recipe says, a sentence each.
    pub differences: Vec<String>,
}

/// What becomes of a step.
#[derive(Clone, Debug)]
pub enum Resolved {
    /// It can be run.
    Ready(Ready),
    /// It is skipped, for this reason.
    Skipped(String),
}

/// A step that can be run.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    /// The command line.
    pub arguments: Vec<String>,
    /// Text of the file that the command reads.
    pub file: Option<String>,
    /// Names of the inputs it reads.
    pub inputs: BTreeSet<String>,
    /// Names of the steps it reads.
    pub steps: BTreeSet<String>,
    /// Command line and file with names in place of paths: the same wherever it is run.
    symbolic: String,
}

impl Ready {
    /// What tells this step from another one: what is run, and the digests of all that it reads.
    pub fn key(&self, reads: &BTreeMap<String, String>) -> String {
        let text = json!([self.symbolic, reads]).to_string();
        hex(&Sha256::digest(text))
    }
}

/// Why a text cannot be resolved.
enum Absent {
    Input(String),
    Step(String),
}

/// How placeholders are written out.
#[derive(Clone, Copy)]
enum Names {
    Paths,
    Symbols,
}

struct Resolver<'a> {
    step: &'a Step,
    given: &'a Given,
    skipped: &'a BTreeSet<&'a str>,
    names: Names,
    ready: Ready,
    differences: Vec<String>,
}

impl Recipe {
    /// What is to be done with what is given.
    ///
    /// # Errors
    /// When an input is not one of the recipe's, or one that a step cannot do without is missing.
    pub fn plan(&self, given: &Given) -> Result<Plan, RecipeError> {
        if let Some(name) = given
            .inputs
            .keys()
            .find(|name| !self.inputs.contains_key(*name))
        {
            let known: Vec<&str> = self.inputs.keys().map(String::as_str).collect();
            let known = match known.is_empty() {
                true => "none".to_owned(),
                false => format!("`{}`", known.join("`, `")),
            };
            let name = name.clone();
            return Err(RecipeError::NoSuchInput { name, known });
        }
        let mut plan = Plan {
            steps: Vec::new(),
            differences: Vec::new(),
        };
        if given.scale != 1.0 {
            let text = format!(
                "It is a rehearsal: counts are multiplied by {}.",
                given.scale
            );
            plan.differences.push(text);
        }
        let mut skipped = BTreeSet::new();
        for step in &self.steps {
            let resolve = |names| {
                Resolver {
                    step,
                    given,
                    skipped: &skipped,
                    names,
                    ready: Ready::default(),
                    differences: Vec::new(),
                }
                .resolve()
            };
            let resolved = match resolve(Names::Paths) {
                Ok((mut ready, differences)) => {
                    if let Ok((symbols, _)) = resolve(Names::Symbols) {
                        let file = &symbols.file;
                        ready.symbolic = json!([symbols.arguments, file, step.stdout]).to_string();
                    }
                    plan.differences.extend(differences);
                    Resolved::Ready(ready)
                }
                Err(absent) if step.optional => {
                    let why = match absent {
                        Absent::Input(name) => format!("input `{name}` was not given"),
                        Absent::Step(name) => format!("step `{name}` was skipped"),
                    };
                    let text = format!("Step `{}` was skipped, since {why}.", step.name);
                    plan.differences.push(text);
                    skipped.insert(step.name.as_str());
                    Resolved::Skipped(why)
                }
                Err(absent) => return Err(self.missing(step, &absent)),
            };
            plan.steps.push(resolved);
        }
        Ok(plan)
    }

    fn missing(&self, step: &Step, absent: &Absent) -> RecipeError {
        let reason = match absent {
            Absent::Input(name) => format!(
                "needs the input `{name}`; give it with `--set {name}=PATH`. It is: {}",
                self.inputs.get(name).map_or("", |input| &input.about)
            ),
            Absent::Step(name) => {
                format!("needs step `{name}`, which is skipped for want of an input")
            }
        };
        RecipeError::step(&step.name, reason)
    }
}

impl Resolver<'_> {
    fn resolve(mut self) -> Result<(Ready, Vec<String>), Absent> {
        for word in &self.step.run {
            match word {
                Word::One(text) => {
                    let text = self.text(text)?;
                    self.ready.arguments.push(text);
                }
                Word::Group(texts) => {
                    let before = self.ready.clone();
                    let group: Result<Vec<String>, Absent> =
                        texts.iter().map(|text| self.text(text)).collect();
                    match group {
                        Ok(group) => self.ready.arguments.extend(group),
                        Err(absent) => {
                            self.ready = before;
                            self.leave_out(&texts.join(" "), &absent);
                        }
                    }
                }
            }
        }
        if let Some(file) = &self.step.file {
            let file = self.table(file)?;
            self.ready.file = Some(file.to_string());
        }
        Ok((self.ready, self.differences))
    }

    fn leave_out(&mut self, what: &str, absent: &Absent) {
        let why = match absent {
            Absent::Input(name) => format!("input `{name}` was not given"),
            Absent::Step(name) => format!("step `{name}` was skipped"),
        };
        let step = &self.step.name;
        self.differences
            .push(format!("Step `{step}` did without `{what}`, since {why}."));
    }

    fn table(&mut self, table: &Table) -> Result<Table, Absent> {
        let pairs = table.iter();
        pairs
            .map(|(key, value)| Ok((key.clone(), self.value(value)?)))
            .collect()
    }

    fn value(&mut self, value: &Value) -> Result<Value, Absent> {
        Ok(match value {
            Value::String(text) => match pieces(text).as_deref() {
                Ok([Piece::Scaled(count)]) => Value::Integer(self.scaled(*count) as i64),
                _ => Value::String(self.text(text)?),
            },
            Value::Table(table) => Value::Table(self.table(table)?),
            Value::Array(values) => Value::Array(self.array(values)?),
            other => other.clone(),
        })
    }

    fn array(&mut self, values: &[Value]) -> Result<Vec<Value>, Absent> {
        let mut kept = Vec::new();
        for value in values {
            let before = self.ready.clone();
            match (self.value(value), value) {
                (Ok(value), _) => kept.push(value),
                (Err(absent @ Absent::Step(_)), Value::Table(table)) => {
                    self.ready = before;
                    let name = table.get("name").and_then(Value::as_str);
                    self.leave_out(name.unwrap_or("one table of its file"), &absent);
                }
                (Err(absent), _) => return Err(absent),
            }
        }
        Ok(kept)
    }

    fn text(&mut self, text: &str) -> Result<String, Absent> {
        let found = pieces(text).expect("texts are checked when a recipe is read");
        let mut out = String::new();
        for piece in found {
            match piece {
                Piece::Plain(plain) => out += plain,
                Piece::Out => out += &self.named("{out}", |given, step| given.folder(step)),
                Piece::File => out += &self.named("{file}", |given, step| given.file(step)),
                Piece::Input(name) => {
                    let path = self.given.inputs.get(name);
                    let path = path.ok_or_else(|| Absent::Input(name.to_owned()))?.clone();
                    self.ready.inputs.insert(name.to_owned());
                    out += &self.named(&format!("{{input:{name}}}"), |_, _| path);
                }
                Piece::Step(name) => {
                    if self.skipped.contains(name) {
                        return Err(Absent::Step(name.to_owned()));
                    }
                    self.ready.steps.insert(name.to_owned());
                    out += &self.named(&format!("{{step:{name}}}"), |given, _| given.folder(name));
                }
                Piece::Scaled(count) => out += &self.scaled(count).to_string(),
            }
        }
        Ok(out)
    }

    fn named(&self, symbol: &str, path: impl FnOnce(&Given, &str) -> String) -> String {
        match self.names {
            Names::Symbols => symbol.to_owned(),
            Names::Paths => path(self.given, &self.step.name),
        }
    }

    fn scaled(&self, count: u64) -> u64 {
        match self.given.scale {
            1.0 => count,
            scale => ((count as f64 * scale).round() as u64).max(1),
        }
    }
}
