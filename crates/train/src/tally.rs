//! Sums of losses and hits over examples, told apart by source and by kind of target.
//!
//! Promises: adding tallies up in one order gives the same bits wherever they were made, so a
//! tally travels between threads and ranks as plain numbers without loss.

use cwm_model::Outcome;

use crate::dataset::{Dataset, Example};
use crate::report::Score;

/// Names by which a data set tells its targets apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Names {
    sources: Vec<String>,
    kinds: Vec<String>,
}

impl Names {
    pub(crate) fn of(data: &dyn Dataset) -> Self {
        Self {
            sources: data.sources(),
            kinds: data.kinds(),
        }
    }

    /// A tally of nothing.
    pub(crate) fn tally(&self) -> Tally {
        Tally {
            total: Sums::default(),
            sources: vec![Sums::default(); self.sources.len()],
            kinds: vec![Sums::default(); self.kinds.len()],
        }
    }

    /// Scores of the sources that occur.
    pub(crate) fn sources(&self, tally: &Tally) -> Vec<Score> {
        scores(&self.sources, &tally.sources)
    }

    /// Scores of the kinds that occur.
    pub(crate) fn kinds(&self, tally: &Tally) -> Vec<Score> {
        scores(&self.kinds, &tally.kinds)
    }
}

fn scores(names: &[String], sums: &[Sums]) -> Vec<Score> {
    let pairs = names
        .iter()
        .zip(sums)
        .filter(|(_, sums)| sums.targets > 0.0);
    pairs
        .map(|(name, sums)| Score {
            name: name.clone(),
            loss: sums.mean_loss(),
            accuracy: sums.accuracy(),
            targets: sums.targets as usize,
            frame_exact: (sums.frames > 0.0).then(|| sums.frame_exact()),
        })
        .collect()
}

/// Sums over targets of a non-zero weight. Counts are floats, exact up to 2^53, so that a tally
/// is a list of numbers of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    /// Of `-weight * ln p(target)`, in nats.
    pub(crate) loss: f64,
    pub(crate) weight: f64,
    pub(crate) targets: f64,
    pub(crate) correct: f64,
    /// Frames with such targets, and those in which all of them were right.
    pub(crate) frames: f64,
    pub(crate) exact: f64,
}

impl Sums {
    const NUMBERS: usize = 6;

    pub(crate) fn mean_loss(&self) -> f64 {
        // Nothing counted is no loss.
        self.loss / self.weight.max(f64::MIN_POSITIVE)
    }

    pub(crate) fn accuracy(&self) -> f64 {
        self.correct / self.targets.max(1.0)
    }

    pub(crate) fn frame_exact(&self) -> f64 {
        self.exact / self.frames.max(1.0)
    }

    fn numbers(&self) -> [f64; Self::NUMBERS] {
        let Self {
            loss,
            weight,
            targets,
            correct,
            frames,
            exact,
        } = *self;
        [loss, weight, targets, correct, frames, exact]
    }

    fn add(&mut self, other: &[f64]) {
        let sums = [
            &mut self.loss,
            &mut self.weight,
            &mut self.targets,
            &mut self.correct,
            &mut self.frames,
            &mut self.exact,
        ];
        for (sum, other) in sums.into_iter().zip(other) {
            *sum += other;
        }
    }

    fn count(&mut self, weight: f32, outcome: Outcome) {
        let correct = f64::from(u8::from(outcome.correct));
        self.add(&[outcome.loss, weight.into(), 1.0, correct]);
    }

    fn count_frame(&mut self, exact: bool) {
        self.frames += 1.0;
        self.exact += f64::from(u8::from(exact));
    }
}

/// Sums over examples.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tally {
    pub(crate) total: Sums,
    sources: Vec<Sums>,
    kinds: Vec<Sums>,
}

impl Tally {
    /// Counts one example by what became of its targets.
    pub(crate) fn count(&mut self, example: &Example, outcomes: &[Outcome]) {
        let Self {
            total,
            sources,
            kinds,
        } = self;
        let source = &mut sources[usize::from(example.source)];
        let pairs = example.targets.iter().zip(outcomes).enumerate();
        for (index, (target, &outcome)) in pairs.filter(|(_, (target, _))| target.weight != 0.0) {
            total.count(target.weight, outcome);
            source.count(target.weight, outcome);
            kinds[example.kind(index)].count(target.weight, outcome);
        }
        let mut start = 0;
        // Of the frame at hand, by kind: whether all targets were right; none without any.
        let mut right = vec![None; kinds.len()];
        for &end in &example.frames {
            right.fill(None);
            for index in start..end as usize {
                if example.targets[index].weight != 0.0 {
                    let so_far: &mut Option<bool> = &mut right[example.kind(index)];
                    *so_far = Some(so_far.unwrap_or(true) && outcomes[index].correct);
                }
            }
            start = end as usize;
            if right.iter().all(Option::is_none) {
                continue;
            }
            let exact = right.iter().all(|right| right.unwrap_or(true));
            total.count_frame(exact);
            source.count_frame(exact);
            for (sums, right) in kinds.iter_mut().zip(&right) {
                if let Some(right) = *right {
                    sums.count_frame(right);
                }
            }
        }
    }

    /// All sums, in an order that follows from the names.
    pub(crate) fn numbers(&self) -> Vec<f64> {
        let parts = [&self.total].into_iter().chain(&self.sources);
        let sums = parts.chain(&self.kinds);
        sums.flat_map(Sums::numbers).collect()
    }

    /// Adds what [`numbers`](Tally::numbers) gave of a tally with the same names.
    pub(crate) fn add(&mut self, numbers: &[f64]) {
        let parts = [&mut self.total].into_iter().chain(&mut self.sources);
        let sums = parts.chain(&mut self.kinds);
        for (sums, numbers) in sums.zip(numbers.chunks_exact(Sums::NUMBERS)) {
            sums.add(numbers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cwm_model::Target;

    fn outcome(loss: f64, correct: bool) -> Outcome {
        Outcome { loss, correct }
    }

    #[test]
    fn sums_are_kept_by_source_kind_and_frame() {
        let names = Names {
            sources: vec!["a".into(), "b".into()],
            kinds: vec!["action".into(), "state".into()],
        };
        let target = |weight| Target {
            row: 0,
            id: 0,
            weight,
        };
        let example = Example {
            targets: vec![target(1.0), target(2.0), target(1.0), target(0.0)],
            kinds: vec![0, 1, 0, 1],
            frames: vec![2, 4],
            source: 1,
            ..Example::default()
        };
        let outcomes = [
            outcome(0.5, true),
            outcome(3.0, false),
            outcome(0.25, true),
            outcome(9.0, false),
        ];
        let mut tally = names.tally();
        tally.count(&example, &outcomes);
        assert_eq!(tally.total.targets, 3.0, "weight 0 does not count");
        assert_eq!(tally.total.mean_loss(), 3.75 / 4.0);
        assert_eq!((tally.total.frames, tally.total.exact), (2.0, 1.0));

        let sources = names.sources(&tally);
        assert_eq!(sources.len(), 1);
        assert_eq!((&*sources[0].name, sources[0].targets), ("b", 3));
        let kinds = names.kinds(&tally);
        assert_eq!(
            (&*kinds[0].name, kinds[0].frame_exact),
            ("action", Some(1.0))
        );
        assert_eq!(
            (&*kinds[1].name, kinds[1].frame_exact),
            ("state", Some(0.0))
        );

        let mut twice = tally.clone();
        twice.add(&tally.numbers());
        assert_eq!(twice.total.loss, 7.5);
        assert_eq!(twice.kinds[0].frames, 4.0);
    }
}
