//! A fit as text for a terminal, and the rows that the page shows too.

use std::fmt::Write as _;

use super::report::{CellReport, Estimate, Fit, LossLawReport, PowerReport};
use cwm_plot::number;

/// Heads and rows of a table. The first column holds names.
pub(super) struct Table {
    pub(super) title: &'static str,
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

/// All tables of a fit, one below the other, then what is missing.
pub fn tables(fit: &Fit) -> String {
    let mut out = format!("{}\n", counts(fit));
    for table in all(fit) {
        let _ = write!(out, "\n{}\n{}", table.title, aligned(&table));
    }
    if !fit.notes.is_empty() {
        out.push('\n');
    }
    for note in &fit.notes {
        let _ = writeln!(out, "note: {note}");
    }
    out
}

/// How many runs there are, as a sentence.
pub(super) fn counts(fit: &Fit) -> String {
    let runs = fit.runs;
    format!(
        "{} runs are done, {} diverged, {} are still planned",
        runs.done, runs.diverged, runs.planned
    )
}

/// The tables that have rows.
pub(super) fn all(fit: &Fit) -> Vec<Table> {
    let tables = [
        searches(fit),
        sizes(fit),
        laws(fit),
        left_out(fit),
        predictions(fit),
    ];
    tables.into_iter().filter(|t| !t.rows.is_empty()).collect()
}

fn searches(fit: &Fit) -> Table {
    let mut rows = Vec::new();
    for budget in &fit.budgets {
        for cell in &budget.sizes {
            let mark = if cell.size == budget.best_size {
                " *"
            } else {
                ""
            };
            rows.push(vec![
                format!("{}{mark}", rough(budget.compute)),
                cell.size.clone(),
                rough(cell.n_params_ne),
                rough(cell.tokens),
                cell.runs.to_string(),
                rough(cell.lr),
                rough(cell.batch_tokens),
                number(cell.loss),
                how(cell).to_owned(),
            ]);
        }
    }
    Table {
        title: "Best learning rate and batch of each size at each budget (* lowest loss)",
        head: vec![
            "FLOP", "size", "N", "tokens", "runs", "lr", "batch", "loss", "by",
        ],
        rows,
    }
}

/// Where the best of a cell comes from.
fn how(cell: &CellReport) -> &'static str {
    let edge = cell.lr_edge.is_some() || cell.batch_edge.is_some();
    match (cell.from_bowl, edge) {
        (true, false) => "fit",
        (true, true) => "fit, at an edge",
        (false, false) => "best run",
        (false, true) => "best run, at an edge",
    }
}

fn sizes(fit: &Fit) -> Table {
    let budgets = fit.budgets.iter();
    let row = |budget: &super::BudgetReport| {
        let found = budget.iso_flop?;
        Some(vec![
            rough(budget.compute),
            rough(found.n_params_ne),
            rough(found.tokens),
            rough(found.tokens / found.n_params_ne),
            number(found.loss),
            match found.edge {
                None => "minimum".to_owned(),
                Some(_) => "at an edge".to_owned(),
            },
        ])
    };
    Table {
        title: "Best size of each budget (isoFLOP)",
        head: vec!["FLOP", "N", "tokens", "tokens / N", "loss", ""],
        rows: budgets.filter_map(row).collect(),
    }
}

fn laws(fit: &Fit) -> Table {
    let laws = &fit.laws;
    let mut rows = Vec::new();
    let powers = [
        ("LR(C) = a C^b", laws.lr),
        ("BS(C) = a C^b", laws.batch_tokens),
        ("N(C) = a C^b", laws.n_params_ne),
        ("D(C) = a C^b", laws.tokens),
        ("L(C) = a C^b", laws.loss),
    ];
    for (name, law) in powers {
        if let Some(PowerReport { a, b, budgets }) = law {
            let from = format!("{budgets} budgets");
            rows.push(vec![
                name.to_owned(),
                "a".into(),
                value(a),
                interval(a),
                from,
            ]);
            rows.push(vec![
                String::new(),
                "b".into(),
                value(b),
                interval(b),
                String::new(),
            ]);
        }
    }
    if let Some(law) = laws.loss_of_size_and_tokens {
        let LossLawReport {
            e,
            a,
            b,
            alpha,
            beta,
            points,
        } = law;
        let names = ["E", "A", "alpha", "B", "beta"];
        for (index, (name, of)) in names.into_iter().zip([e, a, alpha, b, beta]).enumerate() {
            let (law, from) = match index {
                0 => (
                    "L(N, D) = E + A / N^alpha + B / D^beta",
                    format!("{points} points"),
                ),
                _ => ("", String::new()),
            };
            rows.push(vec![law.into(), name.into(), value(of), interval(of), from]);
        }
    }
    Table {
        title: "Laws, C in FLOP, N without embeddings, D in tokens",
        head: vec!["law", "", "value", "95% interval", "from"],
        rows,
    }
}

fn left_out(fit: &Fit) -> Table {
    let factor = |factor: Option<f64>| factor.map_or_else(|| "-".into(), |f| format!("x {f:.3}"));
    let row = |left_out: &super::LeftOut| {
        let by = match left_out.by_loss_law {
            true => "L(N, D)",
            false => "L(C)",
        };
        let error = left_out.loss_error;
        vec![
            rough(left_out.compute),
            error.map_or_else(|| "-".into(), |error| format!("{:.2}%", 100.0 * error)),
            error.map_or("-", |_| by).to_owned(),
            factor(left_out.lr_factor),
            factor(left_out.batch_factor),
            factor(left_out.size_factor),
        ]
    };
    Table {
        title: "Each budget, predicted from the others (predicted / found)",
        head: vec!["FLOP", "loss error", "by", "lr", "batch", "N"],
        rows: fit.left_out.iter().filter(|of| told(of)).map(row).collect(),
    }
}

/// Whether the other budgets say anything about one.
fn told(left_out: &super::LeftOut) -> bool {
    let factors = [
        left_out.loss_error,
        left_out.lr_factor,
        left_out.batch_factor,
        left_out.size_factor,
    ];
    factors.iter().any(Option::is_some)
}

fn predictions(fit: &Fit) -> Table {
    let cell = |estimate: Option<Estimate>| {
        estimate.map_or_else(|| "-".into(), |e| format!("{} {}", value(e), interval(e)))
    };
    let row = |p: &super::Prediction| {
        vec![
            rough(p.compute),
            match p.extrapolation {
                1.0 => "within".into(),
                factor => format!("x {}", rough(factor)),
            },
            cell(p.lr),
            cell(p.batch_tokens),
            cell(p.n_params_ne),
            cell(p.tokens),
            cell(p.loss),
        ]
    };
    Table {
        title: "Predictions, with 95% intervals",
        head: vec!["FLOP", "beyond", "lr", "batch", "N", "tokens", "loss"],
        rows: fit.predictions.iter().map(row).collect(),
    }
}

/// A number of three digits.
pub(super) fn rough(value: f64) -> String {
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    number(rounded)
}

fn value(estimate: Estimate) -> String {
    number(estimate.value)
}

fn interval(estimate: Estimate) -> String {
    match (estimate.low, estimate.high) {
        (Some(low), Some(high)) => format!("[{}, {}]", rough(low), rough(high)),
        _ => "no interval".to_owned(),
    }
}

/// A table with columns as wide as their widest cell; numbers stand right.
fn aligned(table: &Table) -> String {
    let head: Vec<String> = table.head.iter().map(|&name| name.to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&head).chain(&table.rows).collect();
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(text, "  {cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        let _ = writeln!(out, "{}", text.trim_end());
    }
    out
}
