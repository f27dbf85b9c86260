//! Which runs a ladder has: each size at each budget, with each learning rate and batch of the search.
//!
//! Promises: a planned run's `M D` is within 1% of its budget; the same ladder gives the same runs
//! under the same names; planning again keeps every result.

use std::fs;
use std::path::Path;

use super::Error;
use super::ladder::{LADDER_FILE, Ladder, Search, Size, Weight, weight};
use super::sequence::{log_between, point};
use super::table::{Run, State, TABLE_FILE, read_table, write_table};

/// What planning came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Every run of the table.
    pub runs: Vec<Run>,
    /// How many of them were not in the table before.
    pub new: usize,
    /// What was left out, a line each.
    pub notes: Vec<String>,
}

/// Writes a ladder and the table of its runs into `dir`. If it holds a ladder already that trains in
/// the same way, runs are added and those it has stay as they are.
///
/// # Errors
/// When the folder cannot be written, or its runs were trained otherwise.
pub fn write_plan(ladder: &Ladder, dir: &Path) -> Result<Planned, Error> {
    let (planned, notes) = plan(ladder);
    let table = dir.join(TABLE_FILE);
    let mut runs = Vec::new();
    if table.exists() {
        let before = Ladder::load(&dir.join(LADDER_FILE))?;
        if let Some(field) = ladder.differs_from(&before) {
            let dir = dir.to_path_buf();
            return Err(Error::Changed { dir, field });
        }
        // A run that nobody plans any more and that has no result would only stand in the way.
        runs = read_table(&table)?;
        runs.retain(|run| run.state != State::Planned);
    }
    let kept = runs.len();
    for run in planned {
        if runs[..kept].iter().all(|known| known.id != run.id) {
            runs.push(run);
        }
    }
    fs::create_dir_all(dir).map_err(crate::Error::io("create", dir))?;
    ladder.save(dir)?;
    write_table(&table, &runs)?;
    Ok(Planned {
        new: runs.len() - kept,
        runs,
        notes,
    })
}

/// The runs of a ladder, and what had to be left out.
pub(crate) fn plan(ladder: &Ladder) -> (Vec<Run>, Vec<String>) {
    let mut runs: Vec<Run> = Vec::new();
    let mut notes = Vec::new();
    let mut place = 0;
    for (budget, name) in budgets(ladder) {
        for size in &ladder.sizes {
            let weight = weight(&ladder.config(size), ladder.row_tokens);
            let tokens = match budget {
                Budget::Compute(flops) => flops / weight.flops_per_token,
                Budget::Tokens(tokens) => tokens,
            };
            let (pairs, short) = pairs(ladder, tokens, place);
            place += 1;
            if short > 0 {
                notes.push(format!(
                    "{short} combinations of size `{}` and budget {name} are left out: fewer than {} steps",
                    size.name, ladder.min_steps
                ));
            }
            for (lr, batch) in pairs {
                for &seed in &ladder.seeds {
                    let run = planned(size, &name, weight, tokens, lr, batch, seed);
                    if runs.iter().all(|known| known.id != run.id) {
                        runs.push(run);
                    }
                }
            }
        }
    }
    (runs, notes)
}

#[derive(Clone, Copy)]
enum Budget {
    Compute(f64),
    Tokens(f64),
}

/// The budgets with their names.
fn budgets(ladder: &Ladder) -> Vec<(Budget, String)> {
    let compute = ladder.compute.iter();
    let compute = compute.map(|&flops| (Budget::Compute(flops), format!("{flops:e}")));
    let tokens = ladder.tokens.iter();
    let tokens = tokens.map(|&tokens| (Budget::Tokens(tokens), format!("{tokens:e}t")));
    compute.chain(tokens).collect()
}

/// Learning rates with batches for a run of `tokens` tokens, and how many were left out because
/// there would be too few steps.
fn pairs(ladder: &Ladder, tokens: f64, place: u64) -> (Vec<(f64, u64)>, usize) {
    let row = ladder.row_tokens as f64;
    let largest = tokens / ladder.min_steps as f64;
    let batch = |batch: f64| (batch / row).round().max(1.0) as u64 * ladder.row_tokens as u64;
    match &ladder.search {
        Search::Grid { lr, batch_tokens } => {
            let mut batches: Vec<u64> = batch_tokens.iter().map(|&b| batch(b as f64)).collect();
            batches.sort_unstable();
            batches.dedup();
            let fitting = batches.iter().filter(|batch| **batch as f64 <= largest);
            let pairs: Vec<_> = fitting
                .flat_map(|&batch| lr.iter().map(move |&lr| (lr, batch)))
                .collect();
            let short = lr.len() * batches.len() - pairs.len();
            (pairs, short)
        }
        Search::QuasiRandom {
            points,
            lr,
            batch_tokens,
        } => {
            // What would be too short is not tried, and its place goes to what is not.
            let whole_rows = (largest / row).floor() * row;
            let [low, high] = batch_tokens.map(|batch| batch as f64);
            let high = high.min(whole_rows);
            if high < low.max(row) {
                return (Vec::new(), *points as usize);
            }
            let pairs = (place * points..(place + 1) * points)
                .map(point)
                .map(|[x, y]| {
                    let lr = log_between(lr[0], lr[1], x);
                    let batch = batch(log_between(low, high, y)).min(whole_rows as u64);
                    (rounded(lr), batch)
                });
            (pairs.collect(), 0)
        }
    }
}

/// A rate of three digits, so that the name of a run says it all.
fn rounded(lr: f64) -> f64 {
    format!("{lr:.2e}").parse().unwrap_or(lr)
}

fn planned(
    size: &Size,
    budget: &str,
    weight: Weight,
    tokens: f64,
    lr: f64,
    batch: u64,
    seed: u64,
) -> Run {
    let steps = (tokens / batch as f64).round().max(1.0) as u64;
    Run {
        id: format!("{}_{budget}_b{batch}_lr{lr:e}_s{seed}", size.name),
        size: size.name.clone(),
        n_params: weight.n_params,
        n_params_ne: weight.n_params_ne,
        flops_per_token: weight.flops_per_token,
        tokens: steps * batch,
        steps,
        batch_tokens: batch,
        lr,
        seed,
        state: State::Planned,
        loss: None,
        seconds: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ladder::tests::SMALL;
    use super::*;

    fn ladder(from: &str, to: &str) -> Ladder {
        assert!(SMALL.contains(from), "{from}");
        Ladder::parse(&SMALL.replacen(from, to, 1)).expect("parses")
    }

    #[test]
    fn budgets_are_met_within_a_hundredth() {
        let quasi = "kind = \"quasi-random\"\npoints = 9";
        for ladder in [
            ladder("kind = \"grid\"", "kind = \"grid\""),
            ladder("kind = \"grid\"", quasi),
            ladder("[64, 128]", "[32, 96, 1000]"),
        ] {
            let (runs, _) = plan(&ladder);
            for &budget in &ladder.compute {
                let name = format!("_{budget:e}_");
                let runs: Vec<_> = runs.iter().filter(|run| run.id.contains(&name)).collect();
                assert!(runs.len() >= 8, "{}", runs.len());
                for run in runs {
                    assert!((run.compute() / budget - 1.0).abs() < 0.01, "{run:?}");
                    assert!(
                        run.steps >= 50 && run.batch_tokens.is_multiple_of(32),
                        "{run:?}"
                    );
                    assert!((3e-3..=1e-2).contains(&run.lr), "{run:?}");
                }
            }
        }
    }

    #[test]
    fn budgets_in_tokens_are_those_of_every_size() {
        let ladder = ladder("compute = [3e8, 6e8]", "tokens = [64000]\nseeds = [1, 2]");
        let (runs, notes) = plan(&ladder);
        assert_eq!((runs.len(), notes.len()), (2 * 4 * 2, 0));
        assert!(runs.iter().all(|run| run.tokens == 64_000));
        assert_eq!(runs[1].id, "a_6.4e4t_b64_lr3e-3_s2");
    }

    #[test]
    fn what_is_too_short_is_left_out_and_told() {
        let (runs, notes) = plan(&ladder("[64, 128]", "[64, 1000000]"));
        assert_eq!(runs.len(), 8);
        assert_eq!(notes.len(), 4);
        assert_eq!(
            notes[0],
            "2 combinations of size `a` and budget 3e8 are left out: fewer than 50 steps"
        );
    }

    #[test]
    fn planning_again_adds_and_keeps() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let first = write_plan(&ladder("[64, 128]", "[64]"), dir.path()).expect("plans");
        assert_eq!((first.runs.len(), first.new), (8, 8));
        let table = dir.path().join(TABLE_FILE);
        let mut runs = read_table(&table).expect("reads");
        runs[3].state = State::Done;
        runs[3].loss = Some(2.0);
        write_table(&table, &runs).expect("writes");

        let more = write_plan(&ladder("[64, 128]", "[64, 96]"), dir.path()).expect("plans");
        assert_eq!((more.runs.len(), more.new), (16, 15));
        assert_eq!(more.runs[0], runs[3]);
        assert_eq!(read_table(&table).expect("reads"), more.runs);

        let other = ladder("warmup = 0.1", "warmup = 0.2");
        let error = write_plan(&other, dir.path()).expect_err("another schedule");
        assert!(error.to_string().contains("another `schedule`"), "{error}");
        let other = ladder("hidden_size = 16", "hidden_size = 24");
        let error = write_plan(&other, dir.path()).expect_err("another shape");
        assert!(error.to_string().contains("size `b`"), "{error}");
    }
}
