//! Stage files as tables: what a file, its preset and the defaults say together, and what none of them says.

use std::fmt::Write;

use toml::{Table, Value};

use super::presets::{PRESETS, TRAIN, preset};
use super::{Stage, StageError};

/// What stands in a preset where nobody but the user can know.
const UNKNOWN: &str = "unknown";

/// Keys without which nothing can be trained.
const REQUIRED: [&[&str]; 10] = [
    &["stage"],
    &["model"],
    &["tokenizer", "kind"],
    &["rows", "tokens"],
    &["source"],
    &["train", "steps"],
    &["train", "batch_tokens"],
    &["train", "optimizer", "kind"],
    &["train", "optimizer", "lr"],
    &["train", "schedule", "kind"],
];

/// Keys of `[model]` of which a file has exactly one.
pub(super) const BEGINNINGS: [&str; 4] = ["preset", "shape", "from", "continue"];

/// The order in which tables are printed.
const ORDER: [&str; 7] = [
    "model",
    "tokenizer",
    "rows",
    "train",
    "source",
    "held_out",
    "preset",
];

/// A stage file with its preset and the defaults filled in. `stage` and `name` of a preset are what the command
/// line says; a file may say them itself.
pub(super) fn resolve(
    text: &str,
    stage: Option<Stage>,
    name: Option<&str>,
) -> Result<Table, StageError> {
    let mut file: Table = text
        .parse()
        .map_err(|error: toml::de::Error| StageError::Syntax(error.to_string()))?;
    let stage = agree(&mut file, "stage", stage.map(Stage::name))?;
    let name = agree(&mut file, "preset", name)?;
    let mut table = match (&name, &stage) {
        (None, _) => Table::new(),
        (Some(_), None) => {
            let reason = "is missing, and a preset has a file for each: `pre`, `mid`, `sft`";
            return Err(StageError::wrong("stage", reason));
        }
        (Some(name), Some(stage)) => {
            let text = Stage::of(stage).and_then(|stage| preset(name, stage));
            let unknown = || {
                let known = PRESETS.join("`, `");
                StageError::wrong("preset", format!("`{name}` is none of `{known}`"))
            };
            parse_own(&text.ok_or_else(unknown)?)
        }
    };
    merge(&mut table, file);
    if let Some(stage) = stage {
        table.insert("stage".to_owned(), Value::String(stage));
    }
    table.entry("seed").or_insert(Value::Integer(1));
    let mut train = parse_own(TRAIN);
    if let Some(Value::Table(given)) = table.remove("train") {
        merge(&mut train, given);
    }
    table.insert("train".to_owned(), Value::Table(train));
    Ok(table)
}

fn parse_own(text: &str) -> Table {
    text.parse()
        .expect("the files of presets are part of the crate and tested")
}

/// Takes a key out of a file that the command line may have named too.
fn agree(
    file: &mut Table,
    key: &'static str,
    given: Option<&str>,
) -> Result<Option<String>, StageError> {
    let said = match file.remove(key) {
        None => None,
        Some(Value::String(said)) => Some(said),
        Some(_) => return Err(StageError::wrong(key, "is not a string")),
    };
    match (said, given) {
        (Some(said), Some(given)) if said != given => Err(StageError::wrong(
            key,
            format!("is `{said}` in the file, but --{key} says `{given}`; leave one of them out"),
        )),
        (said, given) => Ok(said.or(given.map(str::to_owned))),
    }
}

/// Puts the keys of `over` into `table`. Tables are merged key by key, unless they are of different kinds.
fn merge(table: &mut Table, over: Table) {
    for (key, value) in over {
        let kind = |table: &Table| table.get("kind").cloned();
        match (table.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above))
                if kind(&above).is_none_or(|new| kind(below) == Some(new)) =>
            {
                if key == "model" && BEGINNINGS.iter().any(|key| above.contains_key(*key)) {
                    below.retain(|key, _| !BEGINNINGS.contains(&key));
                }
                merge(below, above);
            }
            // The moments and the clipping are the same under every rule.
            (Some(Value::Table(below)), Value::Table(above)) if key == "optimizer" => {
                below.extend(above);
            }
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

/// What has to be set before the table can be run, by dotted name.
pub(super) fn missing(table: &Table) -> Vec<String> {
    let mut missing = Vec::new();
    unknown(table, "", &mut missing);
    for path in REQUIRED {
        let name = path.join(".");
        if !has(table, path) && !missing.iter().any(|known| name.starts_with(known.as_str())) {
            missing.push(name);
        }
    }
    missing
}

fn has(table: &Table, path: &[&str]) -> bool {
    match path {
        [] => true,
        [key, rest @ ..] => match table.get(*key) {
            None => false,
            Some(Value::Table(inner)) => has(inner, rest),
            // What is no table is refused later, by its type.
            Some(_) => true,
        },
    }
}

fn unknown(table: &Table, above: &str, found: &mut Vec<String>) {
    for (key, value) in table {
        let name = match above {
            "" => key.clone(),
            above => format!("{above}.{key}"),
        };
        match value {
            Value::Table(inner) => unknown(inner, &name, found),
            Value::String(text) if text == UNKNOWN => found.push(name),
            _ => {}
        }
    }
}

/// The table as a file: what belongs together side by side.
pub(super) fn print(table: &Table) -> String {
    let mut out = String::new();
    for key in ["stage", "seed"] {
        if let Some(value) = table.get(key) {
            let _ = writeln!(out, "{key} = {value}");
        }
    }
    let others = table.keys().map(String::as_str);
    let others = others.filter(|key| !ORDER.contains(key) && !["stage", "seed"].contains(key));
    for key in ORDER.into_iter().chain(others) {
        if let Some(value) = table.get(key) {
            let one = Table::from_iter([(key.to_owned(), value.clone())]);
            let _ = write!(out, "\n{one}");
        }
    }
    out
}
