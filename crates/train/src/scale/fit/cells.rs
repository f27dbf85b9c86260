//! Finished runs, grouped: budgets, in them the sizes, in these what was tried.
//!
//! A budget is the runs whose compute differs by less than a tenth. A cell is one size at one budget;
//! its best learning rate and batch are the lowest point of a bowl that is fitted to the better trials,
//! in logarithms, or the best trial where no bowl stands. Both say when they lie at the edge of what
//! was searched.

use super::least_squares::{Bowl, Edge, Lowest, Terms, mean};
use crate::batches::SplitMix64;
use crate::scale::Run;

/// Runs of one budget differ by less than this factor in compute.
const SAME_BUDGET: f64 = 1.1;
/// A bowl is fitted to this share of the trials, the better ones: far away, losses are no parabola.
const BETTER_SHARE: f64 = 0.6;
/// Trials that a bowl has beyond the numbers that it consists of, at least; with none there would be
/// no residual to judge it by.
const SPARE: usize = 2;

/// One learning rate and batch, and the mean loss of its seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trial {
    pub(crate) lr: f64,
    /// Tokens of a batch.
    pub(crate) batch: f64,
    pub(crate) loss: f64,
}

/// One size at one budget.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) size: String,
    /// Parameters without embeddings.
    pub(crate) n: f64,
    /// Tokens of a run, on average.
    pub(crate) tokens: f64,
    pub(crate) runs: usize,
    pub(crate) trials: Vec<Trial>,
    pub(crate) best: Best,
    fitted: Option<Fitted>,
}

/// The best learning rate and batch of a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Best {
    pub(crate) lr: f64,
    pub(crate) batch: f64,
    pub(crate) loss: f64,
    pub(crate) lr_edge: Option<Edge>,
    pub(crate) batch_edge: Option<Edge>,
    /// Whether it is the lowest point of a bowl, not the best trial.
    pub(crate) from_bowl: bool,
}

/// A bowl over some of the trials, and how far they are from it.
#[derive(Clone, Debug)]
struct Fitted {
    points: Vec<[f64; 2]>,
    /// The bowl's values there.
    values: Vec<f64>,
    /// Differences from them, widened by what the fit took away.
    residuals: Vec<f64>,
    terms: Terms,
}

/// The cells of one budget.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    /// Compute of a run, on average, in FLOP.
    pub(crate) compute: f64,
    /// By size, smallest first.
    pub(crate) cells: Vec<Cell>,
}

impl Budget {
    /// The cell with the lowest loss.
    pub(crate) fn best_cell(&self) -> usize {
        let loss = |index: &usize| self.cells[*index].best.loss;
        let cells = 0..self.cells.len();
        cells
            .min_by(|a, b| loss(a).total_cmp(&loss(b)))
            .unwrap_or_default()
    }
}

/// The finished runs by budget, cheapest first.
pub(crate) fn budgets(runs: &[&Run]) -> Vec<Budget> {
    let mut runs = runs.to_vec();
    runs.sort_by(|a, b| a.compute().total_cmp(&b.compute()));
    let mut budgets = Vec::new();
    while let Some(first) = runs.first() {
        let bound = first.compute() * SAME_BUDGET;
        let end = runs.partition_point(|run| run.compute() < bound);
        let group: Vec<&Run> = runs.drain(..end).collect();
        budgets.push(Budget {
            compute: mean(group.iter().map(|run| run.compute())),
            cells: cells(&group),
        });
    }
    budgets
}

fn cells(runs: &[&Run]) -> Vec<Cell> {
    let mut runs = runs.to_vec();
    let key = |run: &Run| (run.n_params_ne, run.size.clone());
    runs.sort_by_key(|run| key(run));
    let same = |a: &&Run, b: &&Run| key(a) == key(b);
    runs.chunk_by(same).map(Cell::new).collect()
}

impl Cell {
    fn new(runs: &[&Run]) -> Self {
        let trials = trials(runs);
        let (best, fitted) = best(&trials);
        Self {
            size: runs[0].size.clone(),
            n: runs[0].n_params_ne as f64,
            tokens: mean(runs.iter().map(|run| run.tokens as f64)),
            runs: runs.len(),
            trials,
            best,
            fitted,
        }
    }

    /// Whether more than one learning rate and more than one batch was tried.
    pub(crate) fn searched(&self) -> [bool; 2] {
        varies(&self.trials)
    }

    /// The best as it could also have come out: with residuals, or trials, drawn anew.
    pub(crate) fn redrawn(&self, chance: &mut SplitMix64) -> Best {
        let Some(fitted) = &self.fitted else {
            let drawn = self
                .trials
                .iter()
                .map(|_| self.trials[pick(chance, self.trials.len())]);
            return best_trial(&drawn.collect::<Vec<_>>()).unwrap_or(self.best);
        };
        let values: Vec<f64> = (fitted.values.iter())
            .map(|value| value + fitted.residuals[pick(chance, fitted.residuals.len())])
            .collect();
        let bowl = Bowl::fit(&fitted.points, &values, fitted.terms);
        let (low, high) = bounds(&self.trials);
        let lowest = bowl.and_then(|bowl| Some((bowl.lowest_within(low, high)?, bowl)));
        if let Some((lowest, bowl)) = lowest {
            return of_bowl(&bowl, lowest);
        }
        let trial = |(point, &loss): (&[f64; 2], &f64)| Trial {
            lr: point[0].exp(),
            batch: point[1].exp(),
            loss,
        };
        let drawn: Vec<Trial> = fitted.points.iter().zip(&values).map(trial).collect();
        best_trial(&drawn).unwrap_or(self.best)
    }
}

/// A number below `count`.
pub(crate) fn pick(chance: &mut SplitMix64, count: usize) -> usize {
    ((u128::from(chance.next()) * count as u128) >> 64) as usize
}

/// What was tried, the losses of seeds averaged. The batch is that of the steps as they were.
fn trials(runs: &[&Run]) -> Vec<Trial> {
    let mut runs = runs.to_vec();
    let key = |run: &Run| (run.batch_tokens, run.lr.to_bits());
    runs.sort_by_key(|run| key(run));
    let same = |a: &&Run, b: &&Run| key(a) == key(b);
    let mean_of = |runs: &[&Run], value: fn(&Run) -> f64| mean(runs.iter().map(|run| value(run)));
    runs.chunk_by(same)
        .map(|runs| Trial {
            lr: runs[0].lr,
            batch: mean_of(runs, |run| run.tokens as f64 / run.steps as f64),
            loss: mean_of(runs, |run| run.loss.unwrap_or(f64::INFINITY)),
        })
        .collect()
}

fn point(trial: &Trial) -> [f64; 2] {
    [trial.lr.ln(), trial.batch.ln()]
}

/// Lowest and highest of what was searched, in logarithms.
fn bounds(trials: &[Trial]) -> ([f64; 2], [f64; 2]) {
    let fold = |start: f64, of: fn(f64, f64) -> f64| {
        let points = trials.iter().map(point);
        points.fold([start; 2], |a, b| [of(a[0], b[0]), of(a[1], b[1])])
    };
    (
        fold(f64::INFINITY, f64::min),
        fold(f64::NEG_INFINITY, f64::max),
    )
}

fn varies(trials: &[Trial]) -> [bool; 2] {
    let (low, high) = bounds(trials);
    // Batches of one length are not all of one length to the last token.
    [0, 1].map(|i| high[i] - low[i] > 0.02)
}

fn best(trials: &[Trial]) -> (Best, Option<Fitted>) {
    let fallback = best_trial(trials).unwrap_or(Best {
        lr: f64::NAN,
        batch: f64::NAN,
        loss: f64::NAN,
        lr_edge: None,
        batch_edge: None,
        from_bowl: false,
    });
    let shapes: &[Terms] = match varies(trials) {
        [true, true] => &[Terms::Turned, Terms::Straight],
        [true, false] => &[Terms::First],
        [false, true] => &[Terms::Second],
        [false, false] => &[],
    };
    let mut better = trials.to_vec();
    better.sort_by(|a, b| a.loss.total_cmp(&b.loss));
    let (low, high) = bounds(trials);
    for &terms in shapes {
        let needed = terms.count() + SPARE;
        let share = (BETTER_SHARE * trials.len() as f64).ceil() as usize;
        let kept = &better[..share.max(needed).min(better.len())];
        if kept.len() < needed {
            continue;
        }
        let points: Vec<[f64; 2]> = kept.iter().map(point).collect();
        let losses: Vec<f64> = kept.iter().map(|trial| trial.loss).collect();
        let Some(bowl) = Bowl::fit(&points, &losses, terms) else {
            continue;
        };
        // No loss is below zero: a bowl that dips there does not describe these.
        let lowest = bowl.lowest_within(low, high);
        let Some(lowest) = lowest.filter(|lowest| bowl.at(lowest.place) > 0.0) else {
            continue;
        };
        let values: Vec<f64> = points.iter().map(|&point| bowl.at(point)).collect();
        let count = kept.len() as f64;
        let widened = (count / (count - terms.count() as f64)).sqrt();
        let differences = losses.iter().zip(&values);
        let residuals = differences.map(|(loss, value)| (loss - value) * widened);
        let fitted = Fitted {
            residuals: residuals.collect(),
            points,
            values,
            terms,
        };
        return (of_bowl(&bowl, lowest), Some(fitted));
    }
    (fallback, None)
}

fn of_bowl(bowl: &Bowl, lowest: Lowest) -> Best {
    Best {
        lr: lowest.place[0].exp(),
        batch: lowest.place[1].exp(),
        loss: bowl.at(lowest.place),
        lr_edge: lowest.edges[0],
        batch_edge: lowest.edges[1],
        from_bowl: true,
    }
}

fn best_trial(trials: &[Trial]) -> Option<Best> {
    let best = trials.iter().min_by(|a, b| a.loss.total_cmp(&b.loss))?;
    let (low, high) = bounds(trials);
    let varies = varies(trials);
    let edge = |i: usize| match point(best)[i] {
        _ if !varies[i] => None,
        x if x == low[i] => Some(Edge::Lowest),
        x if x == high[i] => Some(Edge::Highest),
        _ => None,
    };
    Some(Best {
        lr: best.lr,
        batch: best.batch,
        loss: best.loss,
        lr_edge: edge(0),
        batch_edge: edge(1),
        from_bowl: false,
    })
}

/// The best size of a budget, by a parabola of the loss in the logarithm of the size.
#[derive(Clone, Debug)]
pub(crate) struct IsoFlop {
    /// Parameters without embeddings at the minimum.
    pub(crate) n: f64,
    /// Tokens that the budget has for such a model.
    pub(crate) tokens: f64,
    pub(crate) loss: f64,
    pub(crate) edge: Option<Edge>,
    pub(crate) parabola: Bowl,
}

/// Sizes of a budget that a parabola needs.
pub(crate) const FEWEST_SIZES: usize = 3;

/// The best size, from the size, tokens and loss of each cell, smallest first. With `chance`, the
/// losses are drawn anew from the parabola and their distances to it.
pub(crate) fn iso_flop(
    cells: &[(f64, f64, f64)],
    chance: Option<&mut SplitMix64>,
) -> Option<IsoFlop> {
    if cells.len() < FEWEST_SIZES {
        return None;
    }
    let points: Vec<[f64; 2]> = cells.iter().map(|cell| [cell.0.ln(), 0.0]).collect();
    let losses: Vec<f64> = cells.iter().map(|cell| cell.2).collect();
    let mut parabola = Bowl::fit(&points, &losses, Terms::First)?;
    if let Some(chance) = chance
        && cells.len() > FEWEST_SIZES
    {
        let count = cells.len();
        let widened = (count as f64 / (count - FEWEST_SIZES) as f64).sqrt();
        let values: Vec<f64> = points.iter().map(|&point| parabola.at(point)).collect();
        let redrawn: Vec<f64> = (values.iter())
            .map(|value| {
                let other = pick(chance, count);
                value + widened * (losses[other] - values[other])
            })
            .collect();
        parabola = Bowl::fit(&points, &redrawn, Terms::First)?;
    }
    let (low, high) = (points[0], points[points.len() - 1]);
    let lowest = parabola.lowest_within(low, high)?;
    if parabola.at(lowest.place) <= 0.0 {
        return None;
    }
    let n = lowest.place[0];
    Some(IsoFlop {
        n: n.exp(),
        tokens: tokens_at(cells, n).exp(),
        loss: parabola.at(lowest.place),
        edge: lowest.edges[0],
        parabola,
    })
}

/// Tokens for a size between those of the cells, in logarithms.
fn tokens_at(cells: &[(f64, f64, f64)], n: f64) -> f64 {
    let after = cells.partition_point(|cell| cell.0.ln() < n);
    let after = after.clamp(1, cells.len() - 1);
    let [(n0, d0), (n1, d1)] = [after - 1, after].map(|i| (cells[i].0.ln(), cells[i].1.ln()));
    d0 + (d1 - d0) * (n - n0) / (n1 - n0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::State;

    fn run(size: &str, n: u64, tokens: u64, lr: f64, batch: u64, loss: f64) -> Run {
        Run {
            id: String::new(),
            size: size.into(),
            n_params: n,
            n_params_ne: n,
            flops_per_token: 6.0 * n as f64,
            tokens,
            steps: tokens / batch,
            batch_tokens: batch,
            lr,
            seed: 1,
            state: State::Done,
            loss: Some(loss),
            seconds: None,
        }
    }

    /// A grid of rates and batches with its best place at `lr` and `batch`.
    fn grid(lr: f64, batch: f64) -> Vec<Run> {
        let mut runs = Vec::new();
        for i in 0..5 {
            for j in 0..4 {
                let (rate, tokens) = (1e-3 * 2f64.powi(i), 1000 * 2u64.pow(j));
                let (u, v) = ((rate / lr).ln(), (tokens as f64 / batch).ln());
                let loss = 3.0 + 0.05 * u * u + 0.02 * v * v;
                runs.push(run("a", 1000, 4_000_000, rate, tokens, loss));
            }
        }
        runs
    }

    fn one_cell(runs: &[Run]) -> Cell {
        let runs: Vec<&Run> = runs.iter().collect();
        let mut budgets = budgets(&runs);
        assert_eq!((budgets.len(), budgets[0].cells.len()), (1, 1));
        budgets.remove(0).cells.remove(0)
    }

    #[test]
    fn runs_are_grouped_by_compute_and_size() {
        let runs = [
            run("b", 200, 500_000, 0.1, 100, 2.0),
            run("a", 100, 1_000_000, 0.1, 100, 2.0),
            run("a", 100, 1_050_000, 0.2, 100, 2.5),
            run("a", 100, 1_200_000, 0.1, 100, 1.9),
        ];
        let runs: Vec<&Run> = runs.iter().collect();
        let budgets = budgets(&runs);
        let shape: Vec<Vec<(&str, usize)>> = (budgets.iter())
            .map(|b| b.cells.iter().map(|c| (c.size.as_str(), c.runs)).collect())
            .collect();
        assert_eq!(shape, [vec![("a", 2), ("b", 1)], vec![("a", 1)]]);
    }

    #[test]
    fn the_best_lies_between_the_trials() {
        let best = one_cell(&grid(4.3e-3, 2600.0)).best;
        assert!((best.lr / 4.3e-3 - 1.0).abs() < 1e-6, "{best:?}");
        assert!((best.batch / 2600.0 - 1.0).abs() < 1e-6, "{best:?}");
        assert!((best.loss - 3.0).abs() < 1e-9 && best.from_bowl);
        assert_eq!((best.lr_edge, best.batch_edge), (None, None));
    }

    #[test]
    fn edges_of_the_search_are_told() {
        let best = one_cell(&grid(4.3e-3, 90.0)).best;
        assert_eq!((best.lr_edge, best.batch_edge), (None, Some(Edge::Lowest)));
        assert!((best.lr / 4.3e-3 - 1.0).abs() < 1e-6, "{best:?}");
        assert!((best.batch - 1000.0).abs() < 1e-6, "{best:?}");
        let best = one_cell(&grid(0.1, 2600.0)).best;
        assert_eq!((best.lr_edge, best.batch_edge), (Some(Edge::Highest), None));

        // Too few for a bowl: the best trial, and the same honesty.
        let few: Vec<Run> = grid(1e-4, 2600.0).into_iter().step_by(5).collect();
        let best = one_cell(&few).best;
        assert!(!best.from_bowl);
        assert_eq!(best.lr_edge, Some(Edge::Lowest));
    }

    #[test]
    fn seeds_are_averaged() {
        let mut runs = grid(4.3e-3, 2600.0);
        let mut again = grid(4.3e-3, 2600.0);
        runs.iter_mut()
            .for_each(|run| run.loss = run.loss.map(|loss| loss + 0.2));
        again.iter_mut().for_each(|run| run.seed = 2);
        runs.extend(again);
        let cell = one_cell(&runs);
        assert_eq!((cell.runs, cell.trials.len()), (40, 20));
        assert!((cell.best.loss - 3.1).abs() < 1e-9, "{:?}", cell.best);
    }

    #[test]
    fn the_best_size_is_the_parabolas() {
        let cells: Vec<(f64, f64, f64)> = (0..4)
            .map(|i| 1e5 * 2f64.powi(i))
            .map(|n| (n, 1e12 / n, 2.0 + (n / 3e5).ln().powi(2)))
            .collect();
        let best = iso_flop(&cells, None).expect("determined");
        assert!((best.n / 3e5 - 1.0).abs() < 1e-9, "{best:?}");
        assert!((best.tokens / (1e12 / 3e5) - 1.0).abs() < 1e-9, "{best:?}");
        assert_eq!(best.edge, None);
        assert!(iso_flop(&cells[..2], None).is_none());
        let side = iso_flop(
            &cells[2..]
                .iter()
                .copied()
                .chain([(1e6, 1e6, 3.5)])
                .collect::<Vec<_>>(),
            None,
        );
        assert_eq!(side.map(|side| side.edge), Some(Some(Edge::Lowest)));
    }
}
