//! A curve of bounded length, however long the run.
//!
//! Promises: what is pushed is summed up and never dropped, so means and extremes stay those of all
//! samples; memory is that of [`MOST_POINTS`] points; and what a series holds depends on the samples
//! alone, not on when they came.

use serde::{Serialize, Serializer};

/// Points of a series at most: more than a screen or a page has columns.
pub const MOST_POINTS: usize = 4096;

/// Consecutive samples, summed up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Mean step of the samples.
    pub step: f64,
    /// Mean of the samples.
    pub mean: f64,
    /// Smallest sample.
    pub min: f64,
    /// Largest sample.
    pub max: f64,
    /// Samples.
    pub count: u64,
}

/// As `[step, mean, min, max]`: a log has thousands of them.
impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.step, self.mean, self.min, self.max].serialize(serializer)
    }
}

impl Point {
    fn merge(&mut self, other: &Self) {
        let count = self.count + other.count;
        let weight = other.count as f64 / count as f64;
        self.step += weight * (other.step - self.step);
        self.mean += weight * (other.mean - self.mean);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.count = count;
    }
}

/// A number that is told at some steps of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// The newest sample.
    pub last: Option<f64>,
    /// Samples of a full point: a power of two.
    pub width: u64,
    /// Points, oldest first. All but the last are full.
    pub points: Vec<Point>,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            last: None,
            width: 1,
            points: Vec::new(),
        }
    }
}

impl Series {
    /// Appends a sample. What is absent or not a number is no sample: the log writes both as null.
    pub fn push(&mut self, step: u64, value: Option<f64>) {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            return;
        };
        self.last = Some(value);
        let sample = Point {
            step: step as f64,
            mean: value,
            min: value,
            max: value,
            count: 1,
        };
        if let Some(open) = self.points.last_mut().filter(|p| p.count < self.width) {
            open.merge(&sample);
            return;
        }
        if self.points.len() == MOST_POINTS {
            self.halve();
        }
        self.points.push(sample);
    }

    /// Merges neighbours; a last one without a neighbour stays.
    fn halve(&mut self) {
        let merged = self.points.chunks(2).map(|pair| {
            let mut point = pair[0];
            pair[1..].iter().for_each(|other| point.merge(other));
            point
        });
        self.points = merged.collect();
        self.width *= 2;
    }

    /// The same curve with `most` points or fewer.
    pub fn thinned(&self, most: usize) -> Self {
        let mut thin = self.clone();
        while thin.points.len() > most.max(1) {
            thin.halve();
        }
        thin
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Samples pushed.
    pub fn samples(&self) -> u64 {
        self.points.iter().map(|point| point.count).sum()
    }

    /// Mean of all samples.
    pub fn mean(&self) -> Option<f64> {
        let samples = self.samples();
        let sum = |sum: f64, point: &Point| sum + point.mean * point.count as f64;
        (samples > 0).then(|| self.points.iter().fold(0.0, sum) / samples as f64)
    }

    /// The points as `(step, mean)`.
    pub fn means(&self) -> Vec<(f64, f64)> {
        self.points.iter().map(|p| (p.step, p.mean)).collect()
    }

    /// The points as `(step, value)` of a running mean. Long series are smoothed more: a sample loses
    /// half its weight after a thirtieth of all samples, within 2 and 50. The first values are means
    /// of what there was, not drawn towards zero.
    pub fn smoothed(&self) -> Vec<(f64, f64)> {
        self.smoothed_by((self.samples() as f64 / 30.0).clamp(2.0, 50.0))
    }

    /// The value of a noisy curve now: the last one of the running mean.
    pub fn present(&self) -> Option<f64> {
        self.smoothed().last().map(|&(_, value)| value)
    }

    fn smoothed_by(&self, half_life: f64) -> Vec<(f64, f64)> {
        let (mut sum, mut weight) = (0.0, 0.0);
        let smooth = |point: &Point| {
            let keep = 0.5_f64.powf(point.count as f64 / half_life);
            sum = keep * sum + (1.0 - keep) * point.mean;
            weight = keep * weight + (1.0 - keep);
            (point.step, sum / weight)
        };
        self.points.iter().map(smooth).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(samples: u64) -> Series {
        let mut series = Series::default();
        for step in 1..=samples {
            series.push(step, Some((step % 7) as f64));
        }
        series
    }

    #[test]
    fn short_runs_are_kept_sample_by_sample() {
        let series = series(MOST_POINTS as u64);
        assert_eq!(series.width, 1);
        assert_eq!(series.points.len(), MOST_POINTS);
        assert_eq!(series.points[9].step, 10.0);
        assert_eq!(series.points[9].mean, 3.0);
    }

    #[test]
    fn long_runs_keep_their_sums_and_extremes() {
        let samples = 1_000_003;
        let series = series(samples);
        assert_eq!(series.width, 256);
        assert!(series.points.len() <= MOST_POINTS);
        assert_eq!(series.samples(), samples);
        let full = &series.points[..series.points.len() - 1];
        assert!(full.iter().all(|p| p.count == 256));
        assert!(full.iter().all(|p| p.min == 0.0 && p.max == 6.0));
        assert_eq!(full[0].step, 128.5);
        let exact = (1..=samples).map(|s| (s % 7) as f64).sum::<f64>() / samples as f64;
        assert!((series.mean().expect("samples") - exact).abs() < 1e-9);
    }

    #[test]
    fn thinning_keeps_every_sample() {
        let series = series(4000);
        let thin = series.thinned(700);
        assert_eq!((thin.points.len(), thin.width), (500, 8));
        assert_eq!(thin.samples(), 4000);
        assert_eq!(series.thinned(4000), series);
        assert_eq!(series.thinned(0).points.len(), 1);
    }

    #[test]
    fn what_is_no_number_is_no_sample() {
        let mut series = Series::default();
        series.push(1, None);
        series.push(2, Some(f64::NAN));
        series.push(3, Some(f64::INFINITY));
        assert_eq!(series, Series::default());
        assert_eq!(series.mean(), None);
    }

    #[test]
    fn smoothing_halves_and_begins_at_the_first_value() {
        let mut series = Series::default();
        series.push(1, Some(4.0));
        series.push(2, Some(0.0));
        // Weights 1/2 for the newest and 1/4 for the one before: (0 + 4/4) / (3/4).
        assert_eq!(series.smoothed_by(1.0), vec![(1.0, 4.0), (2.0, 4.0 / 3.0)]);
    }
}
