//! Points that fill a square evenly, however many of them are taken.
//!
//! Roberts' R2 sequence (2018): an additive recurrence whose steps are powers of the plastic number,
//! the golden ratio's kin in two dimensions. Any stretch of it is as even as its beginning, so that
//! several searches can take one stretch each.

/// The real root of `x^3 = x + 1`.
const PLASTIC: f64 = 1.324_717_957_244_746;

/// Point number `index` in the unit square, both coordinates in `0..1`.
pub fn point(index: u64) -> [f64; 2] {
    // One turn of the recurrence is an addition; a product loses no digits that matter below 2^30.
    let turns = index as f64 + 1.0;
    [1.0 / PLASTIC, 1.0 / (PLASTIC * PLASTIC)].map(|step| (0.5 + turns * step).fract())
}

/// The value a share of the way from `low` to `high`, both positive, by equal ratios.
pub(crate) fn log_between(low: f64, high: f64, share: f64) -> f64 {
    (low.ln() + share * (high.ln() - low.ln())).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batches::SplitMix64;

    /// How far the share of points in a box at the origin is from its area, at worst, over a lattice.
    fn discrepancy(points: &[[f64; 2]]) -> f64 {
        let mut worst: f64 = 0.0;
        for (i, j) in (1..=32).flat_map(|i| (1..=32).map(move |j| (i, j))) {
            let (x, y) = (f64::from(i) / 32.0, f64::from(j) / 32.0);
            let inside = points.iter().filter(|p| p[0] < x && p[1] < y).count();
            worst = worst.max((inside as f64 / points.len() as f64 - x * y).abs());
        }
        worst
    }

    #[test]
    fn any_stretch_is_more_even_than_chance() {
        for start in [0, 16, 1000, 1 << 20] {
            let points: Vec<_> = (start..start + 256).map(point).collect();
            assert!(points.iter().flatten().all(|c| (0.0..1.0).contains(c)));
            let found = discrepancy(&points);
            assert!(found < 0.025, "{start}: {found}");
            // A short stretch reaches every quarter.
            for (x, y) in [(0.0, 0.0), (0.0, 0.5), (0.5, 0.0), (0.5, 0.5)] {
                let quarter =
                    |p: &&[f64; 2]| (x..x + 0.5).contains(&p[0]) && (y..y + 0.5).contains(&p[1]);
                assert!(points[..8].iter().any(|p| quarter(&p)), "{start}: {x} {y}");
            }
        }
        let mut random = SplitMix64(1);
        let mut chance = || (random.next() >> 11) as f64 / (1u64 << 53) as f64;
        let points: Vec<_> = (0..256).map(|_| [chance(), chance()]).collect();
        assert!(discrepancy(&points) > 0.04);
    }

    #[test]
    fn ratios_are_equal() {
        assert!((log_between(1e-3, 1e-1, 0.5) - 1e-2).abs() < 1e-12);
        assert!((log_between(8.0, 512.0, 1.0) - 512.0).abs() < 1e-9);
    }
}
