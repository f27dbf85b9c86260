//! What a ladder says about models larger than its own.
//!
//! From the finished runs: for each budget the best learning rate and batch and the best size, each
//! with a warning where it lies at the edge of what was tried; power laws of these over compute; the
//! loss law `E + A / N^alpha + B / D^beta`; predictions; and how far off each budget would have been
//! predicted by the others.
//!
//! Promises: what cannot be fitted is left out with the reason, not guessed; every number of a law has
//! a 95% interval by a bootstrap, which is the same at every call.

mod cells;
mod lbfgs;
mod least_squares;
mod loss_law;
mod page;
mod report;
mod sample;
mod tables;

use super::table::{Run, State};
use crate::batches::SplitMix64;
use cells::{Budget, FEWEST_SIZES, budgets};
use sample::{Level, Sample};

pub use least_squares::Edge;
pub use page::page;
pub use report::{
    BestSize, BudgetReport, CellReport, Counts, Estimate, Fit, Laws, LeftOut, LossLawReport,
    PowerReport, Prediction, TrialReport,
};
use tables::rough;
pub use tables::tables;

/// What is asked of a fit.
#[derive(Clone, Debug)]
pub struct Question {
    /// Budgets to predict for, in FLOP.
    pub predict: Vec<f64>,
    /// Draws of the bootstrap.
    pub draws: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
}

impl Default for Question {
    fn default() -> Self {
        Self {
            predict: Vec::new(),
            draws: 1000,
            seed: 1,
        }
    }
}

/// Fits all laws for which there are enough finished runs.
pub fn fit(runs: &[Run], question: &Question) -> Fit {
    let done: Vec<&Run> = runs.iter().filter(|r| r.state == State::Done).collect();
    let mut notes = Vec::new();
    let levels = levels(budgets(&done), &mut notes);
    let levels: Vec<&Level> = levels.iter().collect();
    let (whole, no_loss_law) = sample::fit(&levels);
    let mut chance = SplitMix64(question.seed);
    let draws: Vec<Sample> = (0..question.draws)
        .map(|_| sample::redraw(&levels, &whole, &mut chance))
        .collect();
    note_missing(&levels, &whole, &mut notes);
    if let Some(reason) = no_loss_law {
        notes.push(format!("L(N, D) is not fitted: {reason}"));
    }
    report::report(runs, &levels, whole, draws, question, notes)
}

/// The budgets with what of each may be used.
fn levels(budgets: Vec<Budget>, notes: &mut Vec<String>) -> Vec<Level> {
    let cells = || budgets.iter().flat_map(|budget| &budget.cells);
    // Where nothing was searched, what was used is all that there is to fit.
    let searched = [0, 1].map(|i| cells().any(|cell| cell.searched()[i]));
    for (searched, what) in searched.into_iter().zip(["learning rate", "batch"]) {
        if !searched && cells().next().is_some() {
            notes.push(format!(
                "no size was tried with more than one {what} at one budget: its law is that of what was used, which need not be best"
            ));
        }
    }
    let level = |budget: Budget| {
        note_edges(&budget, notes);
        let best_cell = budget.best_cell();
        let cell = &budget.cells[best_cell];
        let usable =
            |i: usize, edge: Option<Edge>| !searched[i] || (cell.searched()[i] && edge.is_none());
        let mut level = Level {
            use_lr: usable(0, cell.best.lr_edge),
            use_batch: usable(1, cell.best.batch_edge),
            use_size: false,
            iso_flop: None,
            best_cell,
            budget,
        };
        let bests: Vec<_> = level.budget.cells.iter().map(|cell| cell.best).collect();
        level.iso_flop = sample::best_size(&level, &bests, None);
        level.use_size = level
            .iso_flop
            .as_ref()
            .is_some_and(|found| found.edge.is_none());
        note_sizes(&level, notes);
        level
    };
    budgets.into_iter().map(level).collect()
}

fn note_edges(budget: &Budget, notes: &mut Vec<String>) {
    for cell in &budget.cells {
        let best = &cell.best;
        let edges = [
            ("learning rate", best.lr, best.lr_edge),
            ("batch", best.batch, best.batch_edge),
        ];
        for (what, value, edge) in edges {
            let Some(edge) = edge else { continue };
            let (side, further) = match edge {
                Edge::Lowest => ("lower", "lower"),
                Edge::Highest => ("upper", "higher"),
            };
            notes.push(format!(
                "budget {}, size `{}`: the best {what} is at the {side} edge of the search ({}); search {further}",
                rough(budget.compute),
                cell.size,
                rough(value),
            ));
        }
    }
}

/// Says where the best size is not among those that were tried.
fn note_sizes(level: &Level, notes: &mut Vec<String>) {
    let enough = level.budget.cells.len() >= FEWEST_SIZES;
    let what = match &level.iso_flop {
        None if enough => {
            "the losses of its sizes form no parabola with a minimum; try more seeds or sizes"
        }
        None => return,
        Some(found) => match found.edge {
            None => return,
            Some(Edge::Lowest) => {
                "the loss still falls at the smallest size that was tried; add a smaller one"
            }
            Some(Edge::Highest) => {
                "the loss still falls at the largest size that was tried; add a larger one"
            }
        },
    };
    notes.push(format!("budget {}: {what}", rough(level.budget.compute)));
}

/// Says for each law that was not fitted what it lacks.
fn note_missing(levels: &[&Level], whole: &Sample, notes: &mut Vec<String>) {
    let count = |used: fn(&Level) -> bool| levels.iter().filter(|level| used(level)).count();
    let two = |law: &str, what: &str, found: usize| {
        format!("{law} not fitted: 2 budgets {what} are needed, and there are {found}")
    };
    if whole.lr.is_none() {
        let what = "whose best learning rate lies inside the range searched";
        notes.push(two("LR(C) is", what, count(|level| level.use_lr)));
    }
    if whole.batch.is_none() {
        let what = "whose best batch lies inside the range searched";
        notes.push(two("BS(C) is", what, count(|level| level.use_batch)));
    }
    if whole.size.is_none() {
        let what = format!(
            "with {FEWEST_SIZES} sizes or more and the lowest loss at none of the outermost"
        );
        notes.push(two(
            "N(C) and D(C) are",
            &what,
            count(|level| level.use_size),
        ));
    }
    if whole.loss.is_none() {
        notes.push(two("L(C) is", "with finished runs", levels.len()));
    }
}

#[cfg(test)]
mod tests;
