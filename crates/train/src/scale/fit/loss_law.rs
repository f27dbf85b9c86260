//! `L(N, D) = E + A / N^alpha + B / D^beta` (Hoffmann et al. 2022, approach 3).
//!
//! The sum of Huber losses of the residuals of `ln L` is minimised with L-BFGS, from many starts, over
//! `ln E`, `ln A`, `ln B`, `alpha` and `beta`. Logarithms of `N` and `D` are taken from their means, so
//! that coefficients and exponents can be found apart.

use super::lbfgs::minimise;
use super::least_squares::mean;

/// Residuals of `ln L` beyond this count only linearly.
const DELTA: f64 = 1e-3;
/// The first search is smoother: with the small delta alone, far starts creep.
const FIRST_DELTA: f64 = 0.1;
const MOST_ITERATIONS: usize = 400;
/// Fewer points than this leave the five coefficients open.
pub(crate) const FEWEST_POINTS: usize = 7;
/// Distinct sizes and distinct numbers of tokens that are needed.
pub(crate) const FEWEST_VALUES: usize = 3;

/// A tuned run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    /// Parameters without embeddings.
    pub(crate) n: f64,
    /// Tokens.
    pub(crate) d: f64,
    /// Loss in nats.
    pub(crate) loss: f64,
}

/// The five numbers of the law, `A` and `B` as logarithms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LossLaw {
    /// Loss that neither size nor data removes.
    pub(crate) e: f64,
    pub(crate) ln_a: f64,
    pub(crate) ln_b: f64,
    pub(crate) alpha: f64,
    pub(crate) beta: f64,
}

impl LossLaw {
    /// Why it is no law, if it is none.
    pub(crate) fn absurd(&self) -> Option<String> {
        let exponents = [("alpha", self.alpha), ("beta", self.beta)];
        let (name, value) = exponents.into_iter().find(|(_, value)| *value <= 0.0)?;
        Some(format!(
            "the nearest one has {name} = {value:.2}, by which more would be worse; give it a wider range of sizes and budgets"
        ))
    }

    /// The loss of a model of `n` parameters after `d` tokens.
    pub(crate) fn at(&self, n: f64, d: f64) -> f64 {
        self.e + (self.ln_a - self.alpha * n.ln()).exp() + (self.ln_b - self.beta * d.ln()).exp()
    }
}

/// Why points do not determine a law, if they do not.
pub(crate) fn missing(points: &[Point]) -> Option<String> {
    let sizes = distinct(points.iter().map(|point| point.n));
    let tokens = distinct(points.iter().map(|point| point.d));
    let lacks = [
        (points.len(), FEWEST_POINTS, "pairs of size and tokens"),
        (sizes, FEWEST_VALUES, "sizes"),
        (tokens, FEWEST_VALUES, "numbers of tokens"),
    ];
    let lacks: Vec<String> = (lacks.iter().filter(|(found, needed, _)| found < needed))
        .map(|(found, needed, what)| format!("{found} of {needed} {what}"))
        .collect();
    (!lacks.is_empty()).then(|| lacks.join(", "))
}

fn distinct(values: impl Iterator<Item = f64>) -> usize {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    // Whole batches make the tokens of one budget differ a little.
    values.dedup_by(|next, value| *next < *value * 1.02);
    values.len()
}

/// The law nearest to the points; `start` is a law near it, where one is known.
pub(crate) fn fit(points: &[Point], start: Option<&LossLaw>) -> Option<LossLaw> {
    if missing(points).is_some() {
        return None;
    }
    let problem = Problem::new(points);
    let starts = match start {
        Some(law) => vec![problem.variables(law)],
        None => problem.starts(),
    };
    let best = starts
        .iter()
        .map(|start| {
            let near = minimise(
                |x, g| problem.value(x, g, FIRST_DELTA),
                start,
                MOST_ITERATIONS,
            );
            minimise(|x, g| problem.value(x, g, DELTA), &near.x, MOST_ITERATIONS)
        })
        .filter(|found| found.value.is_finite())
        .min_by(|a, b| a.value.total_cmp(&b.value))?;
    Some(problem.law(&best.x))
}

/// The points as logarithms around their means.
struct Problem {
    middle: (f64, f64),
    /// `ln N`, `ln D` from their means, and `ln L`.
    points: Vec<(f64, f64, f64)>,
}

impl Problem {
    fn new(points: &[Point]) -> Self {
        let middle = (
            mean(points.iter().map(|p| p.n.ln())),
            mean(points.iter().map(|p| p.d.ln())),
        );
        let centred = |p: &Point| (p.n.ln() - middle.0, p.d.ln() - middle.1, p.loss.ln());
        Self {
            middle,
            points: points.iter().map(centred).collect(),
        }
    }

    fn law(&self, x: &[f64]) -> LossLaw {
        let [e, a, b, alpha, beta] = [0, 1, 2, 3, 4].map(|i| x[i]);
        LossLaw {
            e: e.exp(),
            ln_a: a + alpha * self.middle.0,
            ln_b: b + beta * self.middle.1,
            alpha,
            beta,
        }
    }

    fn variables(&self, law: &LossLaw) -> Vec<f64> {
        vec![
            law.e.max(f64::MIN_POSITIVE).ln(),
            law.ln_a - law.alpha * self.middle.0,
            law.ln_b - law.beta * self.middle.1,
            law.alpha,
            law.beta,
        ]
    }

    /// The three terms share the typical loss in several ways, with several exponents.
    fn starts(&self) -> Vec<Vec<f64>> {
        let typical = mean(self.points.iter().map(|p| p.2));
        let mut starts = Vec::new();
        for constant in [0.1, 0.5, 0.9] {
            for by_size in [0.25, 0.75] {
                for alpha in [0.1, 0.3, 0.8] {
                    for beta in [0.1, 0.3, 0.8] {
                        let rest: f64 = 1.0 - constant;
                        let a = typical + (rest * by_size).ln();
                        let b = typical + (rest * (1.0 - by_size)).ln();
                        starts.push(vec![typical + f64::ln(constant), a, b, alpha, beta]);
                    }
                }
            }
        }
        starts
    }

    /// Sum of the Huber losses in units of `delta`, and its gradient.
    fn value(&self, x: &[f64], gradient: &mut [f64], delta: f64) -> f64 {
        gradient.fill(0.0);
        let mut sum = 0.0;
        for &(n, d, ln_loss) in &self.points {
            let terms = [x[0], x[1] - x[3] * n, x[2] - x[4] * d];
            let largest = terms.into_iter().fold(f64::NEG_INFINITY, f64::max);
            let shares = terms.map(|term| (term - largest).exp());
            let whole: f64 = shares.iter().sum();
            let residual = (largest + whole.ln() - ln_loss) / delta;
            let slope = residual.clamp(-1.0, 1.0);
            sum += match residual.abs() <= 1.0 {
                true => 0.5 * residual * residual,
                false => residual.abs() - 0.5,
            };
            let [e, a, b] = shares.map(|share| slope * share / whole / delta);
            for (g, part) in gradient.iter_mut().zip([e, a, b, -a * n, -b * d]) {
                *g += part;
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batches::SplitMix64;

    /// Hoffmann et al.'s published coefficients.
    fn chinchilla() -> LossLaw {
        LossLaw {
            e: 1.69,
            ln_a: 406.4f64.ln(),
            ln_b: 410.7f64.ln(),
            alpha: 0.34,
            beta: 0.28,
        }
    }

    fn points(law: &LossLaw, noise: f64) -> Vec<Point> {
        let mut chance = SplitMix64(9);
        let mut uniform = || (chance.next() >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
        let mut points = Vec::new();
        for size in 0..6 {
            for tokens in 0..6 {
                let n = 5e7 * 3f64.powi(size);
                let d = 1e9 * 3f64.powi(tokens);
                let loss = law.at(n, d) * (noise * uniform()).exp();
                points.push(Point { n, d, loss });
            }
        }
        points
    }

    #[test]
    fn exact_points_give_the_law_back() {
        let law = chinchilla();
        let found = fit(&points(&law, 0.0), None).expect("determined");
        for (found, expected) in [
            (found.e, law.e),
            (found.ln_a, law.ln_a),
            (found.ln_b, law.ln_b),
            (found.alpha, law.alpha),
            (found.beta, law.beta),
        ] {
            assert!(
                (found / expected - 1.0).abs() < 1e-3,
                "{found} is not {expected}"
            );
        }
    }

    #[test]
    fn outliers_hardly_count() {
        let law = chinchilla();
        let mut points = points(&law, 1e-3);
        points[7].loss *= 1.5;
        points[20].loss *= 1.2;
        let found = fit(&points, None).expect("determined");
        assert!((found.e - law.e).abs() < 0.03, "{found:?}");
        assert!((found.alpha - law.alpha).abs() < 0.02, "{found:?}");
        assert!((found.at(1e11, 1e13) / law.at(1e11, 1e13) - 1.0).abs() < 0.01);
    }

    #[test]
    fn the_gradient_is_that_of_the_value() {
        let problem = Problem::new(&points(&chinchilla(), 0.1));
        let x = [0.4, -0.3, -0.5, 0.3, 0.25];
        for delta in [1e-3, 0.1] {
            let mut gradient = [0.0; 5];
            problem.value(&x, &mut gradient, delta);
            for i in 0..5 {
                let at = |step: f64| {
                    let mut x = x;
                    x[i] += step;
                    problem.value(&x, &mut [0.0; 5], delta)
                };
                let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
                let difference = (gradient[i] - slope).abs() / slope.abs().max(1.0);
                assert!(difference < 1e-4, "{i}: {} {slope}", gradient[i]);
            }
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let all = points(&chinchilla(), 0.0);
        assert_eq!(missing(&all), None);
        let some: Vec<Point> = all.iter().filter(|p| p.n < 2e8).copied().collect();
        assert_eq!(missing(&some).as_deref(), Some("2 of 3 sizes"));
        let lacks = missing(&all[..2]).expect("too few");
        assert_eq!(
            lacks,
            "2 of 7 pairs of size and tokens, 1 of 3 sizes, 2 of 3 numbers of tokens"
        );
        assert_eq!(fit(&some, None), None);
        assert_eq!(chinchilla().absurd(), None);
        let absurd = LossLaw {
            beta: -0.1,
            ..chinchilla()
        };
        let reason = absurd.absurd().expect("more data, more loss");
        assert!(
            reason.starts_with("the nearest one has beta = -0.10"),
            "{reason}"
        );
    }
}
