//! A run as plain text: its figures, then its scores by source and by kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use cwm_train::watch::{Figures, RunState, Score};

use super::printable;

/// Headings of the scores after the name.
pub(super) const SCORE_HEADS: [&str; 5] = ["loss", "acc", "h.loss", "h.acc", "exact"];

/// The scores of one source or kind, as they are shown.
pub(super) struct ScoreRow {
    pub(super) name: String,
    /// In the order of [`SCORE_HEADS`]: training, then held out; empty where not known.
    pub(super) cells: [String; 5],
}

/// The scores of every name that occurs in training or held out.
pub(super) fn score_rows(
    train: &BTreeMap<String, Score>,
    held_out: &BTreeMap<String, Score>,
) -> Vec<ScoreRow> {
    let names: BTreeSet<&String> = train.keys().chain(held_out.keys()).collect();
    let cell = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.4}"));
    let row = |name: &String| {
        let (train, held_out) = (train.get(name), held_out.get(name));
        ScoreRow {
            name: printable(name),
            cells: [
                cell(train.and_then(|score| score.loss.present())),
                cell(train.and_then(|score| score.accuracy.present())),
                cell(held_out.and_then(|score| score.loss.last)),
                cell(held_out.and_then(|score| score.accuracy.last)),
                cell(held_out.and_then(|score| score.frame_exact.last)),
            ],
        }
    };
    names.into_iter().map(row).collect()
}

/// The whole summary.
pub(super) fn summary(run: &str, state: &RunState, figures: &Figures) -> String {
    let mut text = format!("{:<18}{run}\n", "run");
    for (label, value) in figures.lines() {
        let _ = writeln!(text, "{label:<18}{}", printable(&value));
    }
    let tables = [
        ("source", &state.train.sources, &state.held_out.sources),
        ("kind", &state.train.kinds, &state.held_out.kinds),
    ];
    for (what, train, held_out) in tables {
        let rows = score_rows(train, held_out);
        if !rows.is_empty() {
            text.push('\n');
            write_row(&mut text, what, &SCORE_HEADS);
            rows.iter()
                .for_each(|row| write_row(&mut text, &row.name, &row.cells));
        }
    }
    if text.contains("h.loss") {
        text.push_str(
            "\nloss and acc: training, running means; h. and exact: held out, the last\n",
        );
    }
    text
}

fn write_row<C: AsRef<str>>(text: &mut String, name: &str, cells: &[C]) {
    let mut line = format!("{name:<18}");
    for cell in cells {
        let _ = write!(line, "{:>8}", cell.as_ref());
    }
    let _ = writeln!(text, "{}", line.trim_end());
}
