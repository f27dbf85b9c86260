//! The table of a ladder: `runs.csv`, one line a run, from plan to result.
//!
//! Promises: a table that is written is read back equal; it appears whole or not at all; a line that
//! cannot be read is refused with its number and the name of its column. Values hold no commas, so
//! nothing is quoted.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::Error;

/// Name of the table in a ladder's folder.
pub const TABLE_FILE: &str = "runs.csv";

/// Names of the columns, in order.
pub const COLUMNS: [&str; 13] = [
    "id",
    "size",
    "n_params",
    "n_params_ne",
    "flops_per_token",
    "tokens",
    "steps",
    "batch_tokens",
    "lr",
    "seed",
    "state",
    "loss",
    "seconds",
];

/// One training run of a ladder.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Name, also of its folder: letters, digits and `._+-`.
    pub id: String,
    /// Name of the model's size.
    pub size: String,
    /// Parameters in all.
    pub n_params: u64,
    /// Parameters without embeddings and head, `N_ne`.
    pub n_params_ne: u64,
    /// `M = 6 N_ne + 6 d L S`: floating-point operations of a token, forward and backward.
    pub flops_per_token: f64,
    /// `D`: tokens trained on; as planned, and once done as it was.
    pub tokens: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Tokens of a batch.
    pub batch_tokens: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// Seed of weights and data order.
    pub seed: u64,
    /// Where it stands.
    pub state: State,
    /// Held-out loss of the trained model, in nats; those that are done have one.
    pub loss: Option<f64>,
    /// Time that its steps took.
    pub seconds: Option<f64>,
}

impl Run {
    /// `C = M D`, in floating-point operations.
    pub fn compute(&self) -> f64 {
        self.flops_per_token * self.tokens as f64
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not begun or not finished.
    Planned,
    /// Trained and measured.
    Done,
    /// Given up: its loss was no number any more.
    Diverged,
}

impl State {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Planned, "planned"),
        (Self::Done, "done"),
        (Self::Diverged, "diverged"),
    ];

    /// The word in the table.
    pub fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(state, _)| *state == self);
        named.map_or("", |(_, name)| name)
    }
}

/// Reads a table.
///
/// # Errors
/// When the file cannot be read or a line is not a run, naming line and column.
pub fn read_table(path: &Path) -> Result<Vec<Run>, Error> {
    let text = fs::read_to_string(path).map_err(crate::Error::io("read", path))?;
    parse_table(&text).map_err(|reason| Error::Table {
        path: path.to_path_buf(),
        reason,
    })
}

/// Writes a table, whole or not at all.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_table(path: &Path, runs: &[Run]) -> Result<(), Error> {
    write_atomically(path, &format_table(runs))
}

/// Puts a text in the place of a file, whole or not at all.
pub(crate) fn write_atomically(path: &Path, text: &str) -> Result<(), Error> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, text).map_err(crate::Error::io("write", &temporary))?;
    fs::File::open(&temporary)
        .and_then(|file| file.sync_all())
        .map_err(crate::Error::io("flush", &temporary))?;
    fs::rename(&temporary, path).map_err(crate::Error::io("replace", path))?;
    Ok(())
}

fn format_table(runs: &[Run]) -> String {
    let mut out = COLUMNS.join(",");
    out.push('\n');
    let optional = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    for run in runs {
        let _ = writeln!(
            out,
            "{},{},{},{},{},{},{},{},{},{},{},{},{}",
            run.id,
            run.size,
            run.n_params,
            run.n_params_ne,
            run.flops_per_token,
            run.tokens,
            run.steps,
            run.batch_tokens,
            run.lr,
            run.seed,
            run.state.name(),
            optional(run.loss),
            optional(run.seconds),
        );
    }
    out
}

/// The runs of a text; errors are reasons for a person.
fn parse_table(text: &str) -> Result<Vec<Run>, String> {
    let mut lines = text.lines().enumerate();
    let head = lines.next().map_or("", |(_, line)| line);
    if head != COLUMNS.join(",") {
        return Err(format!(
            "its first line is `{head}`, not `{}`",
            COLUMNS.join(",")
        ));
    }
    let mut seen = HashSet::new();
    let mut runs = Vec::new();
    for (index, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let run = parse_run(line).map_err(|(column, reason)| match column {
            Some(column) => format!("line {}, column `{column}`: {reason}", index + 1),
            None => format!("line {}: {reason}", index + 1),
        })?;
        if !seen.insert(run.id.clone()) {
            return Err(format!(
                "line {}, column `id`: `{}` is there twice",
                index + 1,
                run.id
            ));
        }
        runs.push(run);
    }
    Ok(runs)
}

/// What is wrong with a line, and in which column.
type Refusal = (Option<&'static str>, String);

fn parse_run(line: &str) -> Result<Run, Refusal> {
    let cells: Vec<&str> = line.split(',').collect();
    if cells.len() != COLUMNS.len() {
        let reason = format!("{} values, not {}", cells.len(), COLUMNS.len());
        return Err((None, reason));
    }
    let cell = |column: usize| (COLUMNS[column], cells[column]);
    let run = Run {
        id: name(cell(0))?,
        size: name(cell(1))?,
        n_params: count(cell(2))?,
        n_params_ne: count(cell(3))?,
        flops_per_token: positive(cell(4))?,
        tokens: count(cell(5))?,
        steps: count(cell(6))?,
        batch_tokens: count(cell(7))?,
        lr: positive(cell(8))?,
        seed: whole(cell(9))?,
        state: state(cell(10))?,
        loss: optional(cell(11), positive)?,
        seconds: optional(cell(12), not_negative)?,
    };
    if (run.state == State::Done) != run.loss.is_some() {
        let reason = "a run has a loss when it is done, and only then".to_owned();
        return Err((Some("loss"), reason));
    }
    Ok(run)
}

type Cell<'a> = (&'static str, &'a str);

fn refuse<T>((column, text): Cell<'_>, expected: &str) -> Result<T, Refusal> {
    Err((Some(column), format!("`{text}` is not {expected}")))
}

/// Whether a text can be the name of a folder anywhere.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    !text.is_empty() && !text.starts_with('.') && text.chars().all(plain)
}

fn name(cell: Cell<'_>) -> Result<String, Refusal> {
    match is_name(cell.1) {
        true => Ok(cell.1.to_owned()),
        false => refuse(cell, "a name of letters, digits and `._+-`"),
    }
}

fn whole(cell: Cell<'_>) -> Result<u64, Refusal> {
    cell.1.parse().or_else(|_| refuse(cell, "a whole number"))
}

fn count(cell: Cell<'_>) -> Result<u64, Refusal> {
    match whole(cell)? {
        0 => refuse(cell, "positive"),
        count => Ok(count),
    }
}

fn number(cell: Cell<'_>) -> Result<f64, Refusal> {
    match cell.1.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => refuse(cell, "a number"),
    }
}

fn positive(cell: Cell<'_>) -> Result<f64, Refusal> {
    match number(cell)? {
        value if value > 0.0 => Ok(value),
        _ => refuse(cell, "positive"),
    }
}

fn not_negative(cell: Cell<'_>) -> Result<f64, Refusal> {
    match number(cell)? {
        value if value >= 0.0 => Ok(value),
        _ => refuse(cell, "0 or more"),
    }
}

fn optional(
    cell: Cell<'_>,
    read: impl FnOnce(Cell<'_>) -> Result<f64, Refusal>,
) -> Result<Option<f64>, Refusal> {
    match cell.1 {
        "" => Ok(None),
        _ => read(cell).map(Some),
    }
}

fn state(cell: Cell<'_>) -> Result<State, Refusal> {
    let known = State::ALL.iter().find(|(_, name)| *name == cell.1);
    known.map_or_else(
        || refuse(cell, "`planned`, `done` or `diverged`"),
        |(state, _)| Ok(*state),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_run() -> impl Strategy<Value = Run> {
        let positive = prop::num::f64::POSITIVE | prop::num::f64::SUBNORMAL;
        let positive = positive.prop_map(|x: f64| x.abs());
        let counts = (1u64.., 1u64.., 1u64.., 1u64.., 1u64.., any::<u64>());
        let result = prop_oneof![
            Just((State::Planned, None)),
            Just((State::Diverged, None)),
            positive.clone().prop_map(|loss| (State::Done, Some(loss))),
        ];
        let seconds = prop::option::of(prop_oneof![Just(0.0), positive.clone()]);
        let size = "[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,8}";
        (size, counts, positive.clone(), positive, result, seconds).prop_map(
            |(size, counts, flops_per_token, lr, (state, loss), seconds)| Run {
                id: String::new(),
                size,
                n_params: counts.0,
                n_params_ne: counts.1,
                flops_per_token,
                tokens: counts.2,
                steps: counts.3,
                batch_tokens: counts.4,
                lr,
                seed: counts.5,
                state,
                loss,
                seconds,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(mut runs in prop::collection::vec(any_run(), 0..6)) {
            for (index, run) in runs.iter_mut().enumerate() {
                run.id = format!("{}_{index}", run.size);
            }
            prop_assert_eq!(parse_table(&format_table(&runs)), Ok(runs));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let head = COLUMNS.join(",");
            let _ = parse_table(&text);
            let _ = parse_table(&format!("{head}\n{text}"));
        }
    }

    #[test]
    fn refusals_name_line_and_column() {
        let good = "a,tiny,100,80,600,1000,10,100,0.001,1,planned,,";
        let refused = |line: &str| {
            let table = format!("{}\n{good}\n{line}\n", COLUMNS.join(","));
            parse_table(&table).expect_err(line)
        };
        let line = |column: usize, value: &str| {
            let mut cells: Vec<&str> = good.split(',').collect();
            cells[0] = "b";
            cells[column] = value;
            cells.join(",")
        };
        assert_eq!(refused(good), "line 3, column `id`: `a` is there twice");
        assert_eq!(refused("b,tiny"), "line 3: 2 values, not 13");
        for (column, value, reason) in [
            (
                0,
                "../x",
                "`../x` is not a name of letters, digits and `._+-`",
            ),
            (1, "", "`` is not a name of letters, digits and `._+-`"),
            (2, "1e6", "`1e6` is not a whole number"),
            (4, "inf", "`inf` is not a number"),
            (6, "0", "`0` is not positive"),
            (8, "-1", "`-1` is not positive"),
            (
                10,
                "ready",
                "`ready` is not `planned`, `done` or `diverged`",
            ),
            (11, "1.5", "a run has a loss when it is done, and only then"),
            (12, "-3", "`-3` is not 0 or more"),
        ] {
            let expected = format!("line 3, column `{}`: {reason}", COLUMNS[column]);
            assert_eq!(refused(&line(column, value)), expected);
        }
        let other = parse_table("id,loss\n").expect_err("another head");
        assert!(
            other.starts_with("its first line is `id,loss`, not `id,size,"),
            "{other}"
        );
    }
}
