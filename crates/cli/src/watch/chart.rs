//! What the dashboard plots: a choice of metrics, and the curves of each.

use std::collections::BTreeMap;

use cwm_train::watch::{Curves, RunState, Score, Series};

use super::printable;

/// Curves of groups that fit a chart; the tables tell the rest.
const MOST_CURVES: usize = 6;

/// What is plotted over the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    Loss,
    LossBySource,
    LossByKind,
    Accuracy,
    ExactFrames,
    LearningRate,
    GradientNorm,
    Speed,
    Memory,
}

impl Metric {
    /// All, in the order in which the key goes through them.
    const ALL: [Self; 9] = [
        Self::Loss,
        Self::LossBySource,
        Self::LossByKind,
        Self::Accuracy,
        Self::ExactFrames,
        Self::LearningRate,
        Self::GradientNorm,
        Self::Speed,
        Self::Memory,
    ];

    /// The metric that many places further on, in a circle.
    pub(super) fn further(self, places: isize) -> Self {
        let at = Self::ALL.iter().position(|metric| *metric == self);
        let at = at.unwrap_or_default() as isize + places;
        Self::ALL[at.rem_euclid(Self::ALL.len() as isize) as usize]
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Loss => "loss, nats",
            Self::LossBySource => "loss by source, nats",
            Self::LossByKind => "loss by kind, nats",
            Self::Accuracy => "accuracy",
            Self::ExactFrames => "held-out frames exact",
            Self::LearningRate => "learning rate",
            Self::GradientNorm => "gradient norm",
            Self::Speed => "speed, tok/s",
            Self::Memory => "memory, MB",
        }
    }

    /// The curves of this metric that have points.
    pub(super) fn curves(self, state: &RunState) -> Vec<Curve> {
        let mut curves = match self {
            Self::Loss => scores(&state.train.all, &state.held_out.all, |score| &score.loss),
            Self::Accuracy => scores(&state.train.all, &state.held_out.all, |s| &s.accuracy),
            Self::LossBySource => by_group(&state.train, |curves| &curves.sources),
            Self::LossByKind => by_group(&state.train, |curves| &curves.kinds),
            Self::ExactFrames => exact(&state.held_out),
            Self::LearningRate => vec![
                Curve::line("AdamW", state.lr.means()),
                Curve::line("Muon", state.muon_lr.means()),
            ],
            Self::GradientNorm => gradient(state),
            Self::Speed => vec![Curve::line("", state.tok_per_s.means())],
            Self::Memory => vec![Curve::line("", state.rss_mb.means())],
        };
        curves.retain(|curve| !curve.points.is_empty());
        curves
    }
}

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drawn {
    /// Joined points.
    Line,
    /// Points in the background.
    Noise,
    /// Points that matter each.
    Marks,
}

/// Points over steps.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// Name in the legend; empty for none.
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) drawn: Drawn,
}

impl Curve {
    fn new(name: &str, points: Vec<(f64, f64)>, drawn: Drawn) -> Self {
        let name = printable(name);
        Self {
            name,
            points,
            drawn,
        }
    }

    fn line(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self::new(name, points, Drawn::Line)
    }
}

fn scores(train: &Score, held_out: &Score, pick: fn(&Score) -> &Series) -> Vec<Curve> {
    vec![
        Curve::new("", pick(train).means(), Drawn::Noise),
        Curve::line("training", pick(train).smoothed()),
        Curve::new("held out", pick(held_out).means(), Drawn::Marks),
    ]
}

fn by_group(curves: &Curves, group: fn(&Curves) -> &BTreeMap<String, Score>) -> Vec<Curve> {
    let groups = group(curves).iter().take(MOST_CURVES);
    groups
        .map(|(name, score)| Curve::line(name, score.loss.smoothed()))
        .collect()
}

fn exact(held_out: &Curves) -> Vec<Curve> {
    let whole = Curve::line("whole frame", held_out.all.frame_exact.means());
    let kinds = held_out.kinds.iter();
    let kinds = kinds.map(|(name, score)| Curve::line(name, score.frame_exact.means()));
    let some = kinds.filter(|curve| !curve.points.is_empty());
    std::iter::once(whole)
        .chain(some.take(MOST_CURVES - 1))
        .collect()
}

fn gradient(state: &RunState) -> Vec<Curve> {
    let norm = Curve::line("norm", state.grad_norm.means());
    let skips = state.skips.iter().map(|(reason, skips)| {
        let name = format!("skipped: {}", reason.replace('_', " "));
        Curve::new(&name, skips.means(), Drawn::Marks)
    });
    std::iter::once(norm).chain(skips).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_go_round() {
        assert_eq!(Metric::Loss.further(1), Metric::LossBySource);
        assert_eq!(Metric::Loss.further(-1), Metric::Memory);
        assert_eq!(Metric::Memory.further(1), Metric::Loss);
    }
}
