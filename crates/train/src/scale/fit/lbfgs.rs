//! L-BFGS: the least value of a smooth function of a few variables.
//!
//! Two-loop recursion (Nocedal 1980) with the bisection line search of Lewis and Overton (2013), whose
//! weak Wolfe conditions also hold up where a function is smooth only almost everywhere.

use std::collections::VecDeque;

/// Pairs that stand for the curvature.
const MEMORY: usize = 10;
/// Share of the promised decrease that a step must bring, and of the slope that may be left.
const ARMIJO: f64 = 1e-4;
const WOLFE: f64 = 0.9;
const LINE_STEPS: usize = 50;

/// Where a search ended.
#[derive(Clone, Debug)]
pub(crate) struct Minimum {
    /// The place.
    pub(crate) x: Vec<f64>,
    /// The value there.
    pub(crate) value: f64,
}

/// Goes down from `start`. `function` returns its value and fills in its gradient; a value that is no
/// number is one that is too large. Ends where the slope is nothing against the value, or where no step
/// helps any more.
pub(crate) fn minimise(
    mut function: impl FnMut(&[f64], &mut [f64]) -> f64,
    start: &[f64],
    most_iterations: usize,
) -> Minimum {
    let mut x = start.to_vec();
    let mut gradient = vec![0.0; x.len()];
    let mut value = function(&x, &mut gradient);
    let mut memory: VecDeque<Pair> = VecDeque::new();
    for _ in 0..most_iterations {
        let steepest = gradient.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
        if steepest <= 1e-12 * (1.0 + value.abs()) {
            break;
        }
        let mut direction = descent(&gradient, &memory);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 || !slope.is_finite() {
            memory.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = dot(&direction, &gradient);
        }
        let first = match memory.is_empty() {
            // Nothing is known of the scale yet.
            true => 1.0 / (-slope).sqrt().max(1.0),
            false => 1.0,
        };
        let from = Point {
            x: &x,
            value,
            slope,
        };
        let Some(step) = line_search(&mut function, &from, &direction, first) else {
            if memory.is_empty() {
                break;
            }
            memory.clear();
            continue;
        };
        remember(&mut memory, &x, &gradient, &step);
        (x, value, gradient) = (step.x, step.value, step.gradient);
    }
    Minimum { x, value }
}

/// A step and what it did to the gradient.
struct Pair {
    moved: Vec<f64>,
    turned: Vec<f64>,
    /// 1 over their product.
    rho: f64,
}

struct Point<'a> {
    x: &'a [f64],
    value: f64,
    slope: f64,
}

struct Step {
    x: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

/// The direction in which the remembered curvature says that the least value lies.
fn descent(gradient: &[f64], memory: &VecDeque<Pair>) -> Vec<f64> {
    let mut q = gradient.to_vec();
    let mut alphas = Vec::with_capacity(memory.len());
    for pair in memory.iter().rev() {
        let alpha = pair.rho * dot(&pair.moved, &q);
        add(&mut q, -alpha, &pair.turned);
        alphas.push(alpha);
    }
    if let Some(last) = memory.back() {
        let scale = 1.0 / (last.rho * dot(&last.turned, &last.turned));
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for (pair, alpha) in memory.iter().zip(alphas.into_iter().rev()) {
        let beta = pair.rho * dot(&pair.turned, &q);
        add(&mut q, alpha - beta, &pair.moved);
    }
    q.iter_mut().for_each(|q| *q = -*q);
    q
}

fn remember(memory: &mut VecDeque<Pair>, x: &[f64], gradient: &[f64], step: &Step) {
    let difference = |to: &[f64], from: &[f64]| -> Vec<f64> {
        to.iter().zip(from).map(|(to, from)| to - from).collect()
    };
    let moved = difference(&step.x, x);
    let turned = difference(&step.gradient, gradient);
    let product = dot(&moved, &turned);
    // Anything else would make the curvature negative.
    if product > 1e-300 && product.is_finite() {
        if memory.len() == MEMORY {
            memory.pop_front();
        }
        memory.push_back(Pair {
            moved,
            turned,
            rho: 1.0 / product,
        });
    }
}

/// A step that goes down enough and ends where it is flatter; else the best that goes down enough.
fn line_search(
    function: &mut impl FnMut(&[f64], &mut [f64]) -> f64,
    from: &Point<'_>,
    direction: &[f64],
    first: f64,
) -> Option<Step> {
    let (mut low, mut high, mut length) = (0.0, f64::INFINITY, first);
    let mut good = None;
    for _ in 0..LINE_STEPS {
        let mut x = from.x.to_vec();
        add(&mut x, length, direction);
        let mut gradient = vec![0.0; x.len()];
        let value = function(&x, &mut gradient);
        let slope = dot(&gradient, direction);
        let lower = value <= from.value + ARMIJO * length * from.slope;
        if !(lower && slope.is_finite()) || x == from.x {
            high = length;
        } else {
            low = length;
            let flat = slope >= WOLFE * from.slope;
            good = Some(Step { x, value, gradient });
            if flat {
                break;
            }
        }
        length = match high.is_finite() {
            true => 0.5 * (low + high),
            false => 2.0 * low,
        };
    }
    good
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, other: &[f64]) {
    for (to, other) in to.iter_mut().zip(other) {
        *to += factor * other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rosenbrocks_valley_is_followed_to_its_end() {
        for start in [[-1.2, 1.0], [5.0, -7.0], [0.0, 0.0]] {
            let mut calls = 0;
            let rosenbrock = |x: &[f64], gradient: &mut [f64]| {
                calls += 1;
                let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
                gradient[0] = -2.0 * a - 400.0 * x[0] * b;
                gradient[1] = 200.0 * b;
                a * a + 100.0 * b * b
            };
            let found = minimise(rosenbrock, &start, 500);
            assert!(found.value < 1e-20, "{start:?}: {}", found.value);
            assert!((found.x[0] - 1.0).abs() < 1e-8 && (found.x[1] - 1.0).abs() < 1e-8);
            assert!(calls < 300, "{start:?}: {calls} calls");
        }
    }

    #[test]
    fn many_variables_and_kinks_do_no_harm() {
        // Widely different curvatures.
        let bowl = |x: &[f64], gradient: &mut [f64]| {
            let scales = (0..).map(|i| 10f64.powi(i % 5));
            let mut value = 0.0;
            for ((x, g), scale) in x.iter().zip(gradient).zip(scales) {
                *g = scale * (x - 3.0);
                value += 0.5 * scale * (x - 3.0) * (x - 3.0);
            }
            value
        };
        let found = minimise(bowl, &[0.0; 30], 1000);
        assert!(found.x.iter().all(|x| (x - 3.0).abs() < 1e-5), "{found:?}");
        // A sum of absolute values has its least value at the median.
        let median = |x: &[f64], gradient: &mut [f64]| {
            let points = [1.0, 2.0, 4.0, 8.0, 9.0];
            gradient[0] = points.iter().map(|p| (x[0] - p).signum()).sum();
            points.iter().map(|p| (x[0] - p).abs()).sum()
        };
        let found = minimise(median, &[100.0], 200);
        assert!((found.x[0] - 4.0).abs() < 1e-3, "{found:?}");
    }

    #[test]
    fn what_is_no_number_is_not_entered() {
        // Defined for positive x alone; least at 1.
        let log = |x: &[f64], gradient: &mut [f64]| {
            gradient[0] = 1.0 - 1.0 / x[0];
            if x[0] > 0.0 {
                x[0] - x[0].ln()
            } else {
                f64::NAN
            }
        };
        let found = minimise(log, &[20.0], 100);
        assert!((found.x[0] - 1.0).abs() < 1e-6, "{found:?}");
    }
}
