//! The answer of a fit as data: what was found, how sure it is, what is missing.

use serde::Serialize;

use super::Question;
use super::cells::{Cell, Trial};
use super::least_squares::{Edge, Power};
use super::loss_law::LossLaw;
use super::sample::{self, Level, Sample};
use crate::scale::table::{Run, State};

/// Draws that an interval needs: its ends are the 25th of 1000 from each side.
const FEWEST_DRAWS: usize = 40;

/// A number with its 95% interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// What the runs as they are give.
    pub value: f64,
    /// Lower end of the interval, if there could be one.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

/// How many runs came out how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Trained and measured: these are fitted.
    pub done: usize,
    /// Given up.
    pub diverged: usize,
    /// Not trained yet.
    pub planned: usize,
}

/// Everything that a ladder says.
#[derive(Clone, Debug, Serialize)]
pub struct Fit {
    /// How many runs there are.
    pub runs: Counts,
    /// What was found at each budget, cheapest first.
    pub budgets: Vec<BudgetReport>,
    /// The laws that could be fitted.
    pub laws: Laws,
    /// How well each budget is predicted by the others.
    pub left_out: Vec<LeftOut>,
    /// What was asked for.
    pub predictions: Vec<Prediction>,
    /// What is missing, and what is at the edge of a search, a line each.
    pub notes: Vec<String>,
    #[serde(skip)]
    pub(super) levels: Vec<Level>,
    #[serde(skip)]
    pub(super) whole: Sample,
    #[serde(skip)]
    pub(super) draws: Vec<Sample>,
}

/// The runs of one budget.
#[derive(Clone, Debug, Serialize)]
pub struct BudgetReport {
    /// Compute of a run, in FLOP.
    pub compute: f64,
    /// Its sizes, smallest first.
    pub sizes: Vec<CellReport>,
    /// Name of the size with the lowest loss.
    pub best_size: String,
    /// The best size by a parabola through the sizes.
    pub iso_flop: Option<BestSize>,
}

/// One size at one budget.
#[derive(Clone, Debug, Serialize)]
pub struct CellReport {
    /// Name of the size.
    pub size: String,
    /// Parameters without embeddings.
    pub n_params_ne: f64,
    /// Tokens of a run.
    pub tokens: f64,
    /// Finished runs.
    pub runs: usize,
    /// The best learning rate.
    pub lr: f64,
    /// The best batch, in tokens.
    pub batch_tokens: f64,
    /// The loss there.
    pub loss: f64,
    /// Whether these are of a fitted bowl; else they are those of the best run.
    pub from_bowl: bool,
    /// At which edge of the search the learning rate is.
    pub lr_edge: Option<Edge>,
    /// At which edge of the search the batch is.
    pub batch_edge: Option<Edge>,
    /// What was tried.
    pub trials: Vec<TrialReport>,
}

/// A learning rate and a batch that were tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TrialReport {
    /// Peak learning rate.
    pub lr: f64,
    /// Tokens of a batch.
    pub batch_tokens: f64,
    /// Held-out loss, the mean over seeds.
    pub loss: f64,
}

/// The best size of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BestSize {
    /// Parameters without embeddings.
    pub n_params_ne: f64,
    /// Tokens.
    pub tokens: f64,
    /// The loss there.
    pub loss: f64,
    /// Whether it is only the smallest or largest size that was tried.
    pub edge: Option<Edge>,
}

/// The laws that could be fitted.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Laws {
    /// Best learning rate, over compute in FLOP.
    pub lr: Option<PowerReport>,
    /// Best batch in tokens, over compute.
    pub batch_tokens: Option<PowerReport>,
    /// Best parameters without embeddings, over compute.
    pub n_params_ne: Option<PowerReport>,
    /// Best tokens, over compute.
    pub tokens: Option<PowerReport>,
    /// Lowest loss, over compute; it knows no irreducible loss.
    pub loss: Option<PowerReport>,
    /// Loss of a size and a number of tokens.
    pub loss_of_size_and_tokens: Option<LossLawReport>,
}

/// `a C^b`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PowerReport {
    /// The factor.
    pub a: Estimate,
    /// The exponent.
    pub b: Estimate,
    /// Budgets it was fitted to.
    pub budgets: usize,
}

/// `E + A / N^alpha + B / D^beta`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LossLawReport {
    /// Loss that neither size nor data removes.
    pub e: Estimate,
    /// Factor of the size.
    pub a: Estimate,
    /// Factor of the tokens.
    pub b: Estimate,
    /// Exponent of the size.
    pub alpha: Estimate,
    /// Exponent of the tokens.
    pub beta: Estimate,
    /// Pairs of size and tokens it was fitted to.
    pub points: usize,
}

/// A budget beside what the others say about it. A factor is predicted over found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LeftOut {
    /// Compute, in FLOP.
    pub compute: f64,
    /// Mean distance of the losses of its sizes from the loss law, or of its lowest loss from the power
    /// law where there is no loss law, as a share of the loss.
    pub loss_error: Option<f64>,
    /// Whether that is by the loss law.
    pub by_loss_law: bool,
    /// Factor of the learning rate.
    pub lr_factor: Option<f64>,
    /// Factor of the batch.
    pub batch_factor: Option<f64>,
    /// Factor of the size.
    pub size_factor: Option<f64>,
}

/// What the laws say about a budget.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Compute, in FLOP.
    pub compute: f64,
    /// How many times more (or, below 1, less) than the nearest budget of the ladder; 1 within.
    pub extrapolation: f64,
    /// Peak learning rate.
    pub lr: Option<Estimate>,
    /// Tokens of a batch.
    pub batch_tokens: Option<Estimate>,
    /// Parameters without embeddings.
    pub n_params_ne: Option<Estimate>,
    /// Tokens.
    pub tokens: Option<Estimate>,
    /// Held-out loss in nats.
    pub loss: Option<Estimate>,
}

/// Puts the answer together.
pub(super) fn report(
    runs: &[Run],
    levels: &[&Level],
    whole: Sample,
    draws: Vec<Sample>,
    question: &Question,
    notes: Vec<String>,
) -> Fit {
    let count = |state: State| runs.iter().filter(|run| run.state == state).count();
    let mut fit = Fit {
        runs: Counts {
            done: count(State::Done),
            diverged: count(State::Diverged),
            planned: count(State::Planned),
        },
        budgets: levels.iter().map(|level| budget_report(level)).collect(),
        laws: laws(levels, &whole, &draws),
        left_out: left_out(levels),
        predictions: Vec::new(),
        notes,
        levels: levels.iter().map(|level| (*level).clone()).collect(),
        whole,
        draws,
    };
    let predictions = question.predict.iter().map(|&compute| fit.predict(compute));
    fit.predictions = predictions.collect();
    fit
}

impl Fit {
    /// What the laws say about a budget of `compute` FLOP.
    pub fn predict(&self, compute: f64) -> Prediction {
        let at = |law: fn(&Sample) -> Option<Power>| {
            self.estimate(|sample| Some(law(sample)?.at(compute)))
        };
        let within = self.levels.iter().map(|level| level.budget.compute);
        let lowest = within.clone().fold(f64::INFINITY, f64::min);
        let highest = within.fold(0.0, f64::max);
        Prediction {
            compute,
            extrapolation: match compute {
                compute if compute < lowest => compute / lowest,
                compute if compute > highest => compute / highest,
                _ => 1.0,
            },
            lr: at(|sample| sample.lr),
            batch_tokens: at(|sample| sample.batch),
            n_params_ne: at(|sample| sample.size),
            tokens: at(|sample| sample.tokens),
            loss: self.estimate(|sample| sample.loss_at(compute)),
        }
    }

    /// A number that follows from the laws, with its interval.
    pub(super) fn estimate(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<Estimate> {
        estimate(&self.whole, &self.draws, of)
    }
}

fn estimate(
    whole: &Sample,
    draws: &[Sample],
    of: impl Fn(&Sample) -> Option<f64>,
) -> Option<Estimate> {
    let value = of(whole)?;
    let mut drawn: Vec<f64> = draws
        .iter()
        .filter_map(of)
        .filter(|x| !x.is_nan())
        .collect();
    drawn.sort_by(f64::total_cmp);
    let place = |share: f64| {
        let last = drawn.len().saturating_sub(1) as f64;
        drawn.get((share * last).round() as usize).copied()
    };
    let enough = drawn.len() >= FEWEST_DRAWS;
    Some(Estimate {
        value,
        low: place(0.025).filter(|_| enough),
        high: place(0.975).filter(|_| enough),
    })
}

fn budget_report(level: &Level) -> BudgetReport {
    let cells = &level.budget.cells;
    BudgetReport {
        compute: level.budget.compute,
        sizes: cells.iter().map(cell_report).collect(),
        best_size: cells[level.best_cell].size.clone(),
        iso_flop: level.iso_flop.as_ref().map(|found| BestSize {
            n_params_ne: found.n,
            tokens: found.tokens,
            loss: found.loss,
            edge: found.edge,
        }),
    }
}

fn cell_report(cell: &Cell) -> CellReport {
    let trial = |trial: &Trial| TrialReport {
        lr: trial.lr,
        batch_tokens: trial.batch,
        loss: trial.loss,
    };
    CellReport {
        size: cell.size.clone(),
        n_params_ne: cell.n,
        tokens: cell.tokens,
        runs: cell.runs,
        lr: cell.best.lr,
        batch_tokens: cell.best.batch,
        loss: cell.best.loss,
        from_bowl: cell.best.from_bowl,
        lr_edge: cell.best.lr_edge,
        batch_edge: cell.best.batch_edge,
        trials: cell.trials.iter().map(trial).collect(),
    }
}

fn laws(levels: &[&Level], whole: &Sample, draws: &[Sample]) -> Laws {
    let count = |used: fn(&Level) -> bool| levels.iter().filter(|level| used(level)).count();
    let power = |law: fn(&Sample) -> Option<Power>, budgets: usize| {
        Some(PowerReport {
            a: estimate(whole, draws, |sample| Some(law(sample)?.ln_a.exp()))?,
            b: estimate(whole, draws, |sample| Some(law(sample)?.b))?,
            budgets,
        })
    };
    let number =
        |of: fn(&LossLaw) -> f64| estimate(whole, draws, |sample| sample.loss_law.as_ref().map(of));
    let loss_law = || {
        Some(LossLawReport {
            e: number(|law| law.e)?,
            a: number(|law| law.ln_a.exp())?,
            b: number(|law| law.ln_b.exp())?,
            alpha: number(|law| law.alpha)?,
            beta: number(|law| law.beta)?,
            points: levels.iter().map(|level| level.budget.cells.len()).sum(),
        })
    };
    let sizes = count(|level| level.use_size);
    Laws {
        lr: power(|sample| sample.lr, count(|level| level.use_lr)),
        batch_tokens: power(|sample| sample.batch, count(|level| level.use_batch)),
        n_params_ne: power(|sample| sample.size, sizes),
        tokens: power(|sample| sample.tokens, sizes),
        loss: power(|sample| sample.loss, levels.len()),
        loss_of_size_and_tokens: loss_law(),
    }
}

/// Predicts each budget from the others.
fn left_out(levels: &[&Level]) -> Vec<LeftOut> {
    let others = |index: usize| -> Vec<&Level> {
        let (before, after) = (&levels[..index], &levels[index + 1..]);
        before.iter().chain(after).copied().collect()
    };
    let levels = levels.iter().enumerate();
    levels
        .map(|(index, level)| compared(level, &sample::fit(&others(index)).0))
        .collect()
}

fn compared(level: &Level, from_others: &Sample) -> LeftOut {
    let compute = level.budget.compute;
    let cells = &level.budget.cells;
    let best = &cells[level.best_cell].best;
    let factor = |law: Option<Power>, found: Option<f64>| Some(law?.at(compute) / found?);
    let error = |predicted: f64, found: f64| (predicted / found - 1.0).abs();
    let by_law = from_others.loss_law.map(|law| {
        let errors = cells
            .iter()
            .map(|cell| error(law.at(cell.n, cell.tokens), cell.best.loss));
        errors.sum::<f64>() / cells.len() as f64
    });
    let lowest = level
        .iso_flop
        .as_ref()
        .map_or(best.loss, |found| found.loss);
    let by_power = || Some(error(from_others.loss?.at(compute), lowest));
    let size = level.iso_flop.as_ref().filter(|_| level.use_size);
    LeftOut {
        compute,
        loss_error: by_law.or_else(by_power),
        by_loss_law: by_law.is_some(),
        lr_factor: factor(from_others.lr, level.use_lr.then_some(best.lr)),
        batch_factor: factor(from_others.batch, level.use_batch.then_some(best.batch)),
        size_factor: factor(from_others.size, size.map(|found| found.n)),
    }
}
