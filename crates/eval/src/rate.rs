//! A share of successes.

/// Successes among trials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Successes.
    pub hits: u64,
    /// Trials.
    pub count: u64,
}

impl Rate {
    /// Counts one trial.
    pub fn add(&mut self, hit: bool) {
        self.hits += u64::from(hit);
        self.count += 1;
    }

    /// Adds another rate's trials.
    pub fn merge(&mut self, other: Self) {
        self.hits += other.hits;
        self.count += other.count;
    }

    /// The share, in 0..=1; `None` without trials.
    pub fn value(self) -> Option<f64> {
        (self.count > 0).then(|| self.hits as f64 / self.count as f64)
    }

    /// The 95 % score interval of Wilson (1927); `None` without trials.
    pub fn wilson(self) -> Option<(f64, f64)> {
        const Z: f64 = 1.959_963_984_540_054;
        let p = self.value()?;
        let n = self.count as f64;
        let centre = p + Z * Z / (2.0 * n);
        let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        Some((
            ((centre - half) / scale).max(0.0),
            ((centre + half) / scale).min(1.0),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_of_known_cases() {
        let (low, high) = Rate { hits: 8, count: 10 }.wilson().unwrap();
        assert!(
            (low - 0.4902).abs() < 1e-3 && (high - 0.9433).abs() < 1e-3,
            "{low} {high}"
        );
        let (low, high) = Rate { hits: 0, count: 20 }.wilson().unwrap();
        assert!(low == 0.0 && (high - 0.1611).abs() < 1e-3, "{high}");
        assert_eq!(Rate::default().wilson(), None);
    }
}
