//! Least squares: lines, parabolas and bowls.

use serde::Serialize;

/// `y = a x^b`: a line through logarithms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Power {
    /// Natural logarithm of the factor.
    pub(crate) ln_a: f64,
    /// The exponent.
    pub(crate) b: f64,
}

impl Power {
    /// Through pairs of positive numbers, of which two must differ in `x`.
    pub(crate) fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let points: Vec<_> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
        // Logarithms of FLOP are far from 0; around their mean nothing cancels.
        let middle = mean(points.iter().map(|p| p.0));
        let rows: Vec<_> = points.iter().map(|p| vec![1.0, p.0 - middle]).collect();
        let values: Vec<_> = points.iter().map(|p| p.1).collect();
        let solution = solve(&rows, &values)?;
        Some(Self {
            ln_a: solution[0] - solution[1] * middle,
            b: solution[1],
        })
    }

    /// The value at `x`.
    pub(crate) fn at(self, x: f64) -> f64 {
        (self.ln_a + self.b * x.ln()).exp()
    }
}

/// Parabolas over one or two variables, fitted in variables of mean 0 and spread 1.
#[derive(Clone, Debug)]
pub(crate) struct Bowl {
    middle: [f64; 2],
    spread: [f64; 2],
    terms: Terms,
    coefficients: Vec<f64>,
}

/// The least value of a bowl within bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lowest {
    pub(crate) place: [f64; 2],
    pub(crate) edges: [Option<Edge>; 2],
}

/// A bound of a search at which its best value lies, so that a better one may lie beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Edge {
    /// The lower bound.
    Lowest,
    /// The upper bound.
    Highest,
}

/// What a bowl is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    /// A parabola in the first variable.
    First,
    /// A parabola in the second variable.
    Second,
    /// Parabolas in both, whose axes are those of the variables.
    Straight,
    /// Any parabola in both.
    Turned,
}

impl Terms {
    /// Numbers that have to be found.
    pub(crate) fn count(self) -> usize {
        match self {
            Self::First | Self::Second => 3,
            Self::Straight => 5,
            Self::Turned => 6,
        }
    }

    /// Whether a variable has a part in it.
    fn have(self, variable: usize) -> bool {
        match self {
            Self::First => variable == 0,
            Self::Second => variable == 1,
            Self::Straight | Self::Turned => true,
        }
    }

    fn row(self, [u, v]: [f64; 2]) -> Vec<f64> {
        match self {
            Self::First => vec![1.0, u, u * u],
            Self::Second => vec![1.0, v, v * v],
            Self::Straight => vec![1.0, u, u * u, v, v * v],
            Self::Turned => vec![1.0, u, u * u, v, v * v, u * v],
        }
    }
}

impl Bowl {
    /// The bowl nearest to the values at these points; `None` where they do not determine one.
    pub(crate) fn fit(points: &[[f64; 2]], values: &[f64], terms: Terms) -> Option<Self> {
        let middle = [0, 1].map(|i| mean(points.iter().map(|p| p[i])));
        let spread = [0, 1].map(|i| {
            let variance = mean(points.iter().map(|p| (p[i] - middle[i]).powi(2)));
            if variance > 0.0 { variance.sqrt() } else { 1.0 }
        });
        let mut bowl = Self {
            middle,
            spread,
            terms,
            coefficients: Vec::new(),
        };
        let rows: Vec<_> = points.iter().map(|&p| terms.row(bowl.scaled(p))).collect();
        bowl.coefficients = solve(&rows, values)?;
        Some(bowl)
    }

    fn scaled(&self, point: [f64; 2]) -> [f64; 2] {
        [0, 1].map(|i| (point[i] - self.middle[i]) / self.spread[i])
    }

    /// The value at a point.
    pub(crate) fn at(&self, point: [f64; 2]) -> f64 {
        let row = self.terms.row(self.scaled(point));
        row.iter().zip(&self.coefficients).map(|(x, c)| x * c).sum()
    }

    /// Where the value is least between `low` and `high`, if the bowl stands upright, and for each
    /// variable the side on which the bowl goes on down, if it does.
    pub(crate) fn lowest_within(&self, low: [f64; 2], high: [f64; 2]) -> Option<Lowest> {
        let free = self.lowest()?;
        let held = |place: [f64; 2], i: usize| match place[i] {
            x if !self.terms.have(i) => (x, None),
            x if x < low[i] => (low[i], Some(Edge::Lowest)),
            x if x > high[i] => (high[i], Some(Edge::Highest)),
            x => (x, None),
        };
        if [0, 1].iter().all(|&i| held(free, i).1.is_none()) {
            let edges = [None, None];
            return Some(Lowest { place: free, edges });
        }
        // The bowl is convex, so its least value within lies on a side, and the other variable is there
        // where its own parabola is least.
        let mut best: Option<(f64, Lowest)> = None;
        for i in 0..2 {
            let (fixed, edge) = held(free, i);
            if edge.is_none() {
                continue;
            }
            let mut place = free;
            place[i] = fixed;
            place[1 - i] = self.vertex_beside(i, fixed)?;
            let (other, other_edge) = held(place, 1 - i);
            place[1 - i] = other;
            let mut edges = [edge; 2];
            edges[1 - i] = other_edge;
            let value = self.at(place);
            if best.as_ref().is_none_or(|(least, _)| value < *least) {
                best = Some((value, Lowest { place, edges }));
            }
        }
        best.map(|(_, lowest)| lowest)
    }

    /// Where the other variable has its least value, variable `fixed` being held at `at`.
    fn vertex_beside(&self, fixed: usize, at: f64) -> Option<f64> {
        let other = 1 - fixed;
        let c = &self.coefficients;
        let at = (at - self.middle[fixed]) / self.spread[fixed];
        let place = match self.terms {
            // The other variable has no part in it.
            Terms::First | Terms::Second => 0.0,
            Terms::Straight => vertex(c[1 + 2 * other], c[2 + 2 * other])?,
            Terms::Turned => vertex(c[1 + 2 * other] + c[5] * at, c[2 + 2 * other])?,
        };
        Some(self.middle[other] + self.spread[other] * place)
    }

    /// Where the value is least, if the bowl stands upright. A variable that has no part in it is at
    /// its mean.
    pub(crate) fn lowest(&self) -> Option<[f64; 2]> {
        let c = &self.coefficients;
        let (u, v) = match self.terms {
            Terms::First => (vertex(c[1], c[2])?, 0.0),
            Terms::Second => (0.0, vertex(c[1], c[2])?),
            Terms::Straight => (vertex(c[1], c[2])?, vertex(c[3], c[4])?),
            Terms::Turned => {
                let determinant = 4.0 * c[2] * c[4] - c[5] * c[5];
                if c[2] <= 0.0 || determinant <= 0.0 {
                    return None;
                }
                (
                    (c[5] * c[3] - 2.0 * c[4] * c[1]) / determinant,
                    (c[5] * c[1] - 2.0 * c[2] * c[3]) / determinant,
                )
            }
        };
        let place = [u, v];
        Some([0, 1].map(|i| self.middle[i] + self.spread[i] * place[i]))
    }
}

fn vertex(linear: f64, square: f64) -> Option<f64> {
    (square > 0.0).then(|| -linear / (2.0 * square))
}

pub(crate) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value;
        count += 1.0;
    }
    sum / count
}

/// Coefficients that bring `rows` nearest to `values`, by the normal equations: the rows are few, and
/// their entries near 1.
fn solve(rows: &[Vec<f64>], values: &[f64]) -> Option<Vec<f64>> {
    let width = rows.first()?.len();
    // The last column is the right side.
    let mut matrix = vec![vec![0.0; width + 1]; width];
    for (row, value) in rows.iter().zip(values) {
        for i in 0..width {
            for j in 0..width {
                matrix[i][j] += row[i] * row[j];
            }
            matrix[i][width] += row[i] * value;
        }
    }
    let scale = (0..width).map(|i| matrix[i][i]).fold(0.0, f64::max);
    for column in 0..width {
        let size = |row: &usize| matrix[*row][column].abs();
        let pivot = (column..width).max_by(|a, b| size(a).total_cmp(&size(b)))?;
        // Points that do not determine the solution leave nothing but rounding here.
        let largest = size(&pivot);
        if largest.is_nan() || largest <= 1e-10 * scale {
            return None;
        }
        matrix.swap(column, pivot);
        let (upper, lower) = matrix.split_at_mut(column + 1);
        let upper = &upper[column];
        for row in lower {
            let factor = row[column] / upper[column];
            for (entry, above) in row.iter_mut().zip(upper) {
                *entry -= factor * above;
            }
        }
    }
    let mut solution = vec![0.0; width];
    for i in (0..width).rev() {
        let known: f64 = (i + 1..width).map(|j| matrix[i][j] * solution[j]).sum();
        solution[i] = (matrix[i][width] - known) / matrix[i][i];
    }
    solution.iter().all(|x| x.is_finite()).then_some(solution)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_found_far_from_one() {
        let points: Vec<_> = (0..8)
            .map(|i| 2e18 * 100f64.powf(f64::from(i) / 7.0))
            .map(|c| (c, 19.29 * c.powf(-0.177)))
            .collect();
        let power = Power::fit(&points).expect("determined");
        assert!((power.ln_a.exp() - 19.29).abs() < 1e-8, "{power:?}");
        assert!((power.b + 0.177).abs() < 1e-12, "{power:?}");
        assert!((power.at(1e24) / (19.29 * 1e24f64.powf(-0.177)) - 1.0).abs() < 1e-9);
        assert_eq!(Power::fit(&points[..1]), None);
        assert_eq!(Power::fit(&[(2.0, 1.0), (2.0, 3.0)]), None);
    }

    #[test]
    fn bowls_are_found_and_their_least_values() {
        let value = |[x, y]: [f64; 2]| {
            let (u, v) = (x + 5.0, y - 9.0);
            2.0 + 0.3 * u * u + 0.1 * v * v + 0.2 * u * v
        };
        let points: Vec<[f64; 2]> = (0..4)
            .flat_map(|i| (0..3).map(move |j| [f64::from(i) - 7.0, f64::from(j) + 8.5]))
            .collect();
        let values: Vec<f64> = points.iter().map(|&p| value(p)).collect();
        let bowl = Bowl::fit(&points, &values, Terms::Turned).expect("determined");
        let lowest = bowl.lowest().expect("upright");
        assert!(
            (lowest[0] + 5.0).abs() < 1e-9 && (lowest[1] - 9.0).abs() < 1e-9,
            "{lowest:?}"
        );
        assert!((bowl.at(lowest) - 2.0).abs() < 1e-9);
        // On a line through the points, one variable cannot be told from the other.
        let line: Vec<[f64; 2]> = (0..9).map(|i| [f64::from(i), 2.0 * f64::from(i)]).collect();
        assert!(Bowl::fit(&line, &[1.0; 9], Terms::Turned).is_none());
        // A saddle and a hill have no least value.
        let saddle: Vec<f64> = points.iter().map(|p| p[0] * p[0] - p[1] * p[1]).collect();
        for terms in [Terms::Straight, Terms::Turned] {
            let bowl = Bowl::fit(&points, &saddle, terms).expect("determined");
            assert_eq!(bowl.lowest(), None);
        }
    }

    #[test]
    fn bounds_hold_and_are_told() {
        let points: Vec<[f64; 2]> = (0..4)
            .flat_map(|i| (0..4).map(move |j| [f64::from(i), f64::from(j)]))
            .collect();
        let value = |[x, y]: [f64; 2]| {
            let (u, v) = (x - 1.0, y - 5.0);
            u * u + v * v + u * v
        };
        let values: Vec<f64> = points.iter().map(|&p| value(p)).collect();
        let bowl = Bowl::fit(&points, &values, Terms::Turned).expect("determined");
        let within = |high| bowl.lowest_within([0.0, 0.0], high).expect("upright");
        let inside = within([3.0, 6.0]);
        assert_eq!(inside.edges, [None, None]);
        // With y held at 3, the least value moves to x = 2.
        let held = within([3.0, 3.0]);
        assert_eq!(held.edges, [None, Some(Edge::Highest)]);
        assert!(
            (held.place[0] - 2.0).abs() < 1e-9 && held.place[1] == 3.0,
            "{held:?}"
        );
        let corner = within([0.5, 3.0]);
        assert_eq!(corner.edges, [Some(Edge::Highest); 2]);
        assert_eq!(corner.place, [0.5, 3.0]);
    }

    #[test]
    fn one_variable_is_enough() {
        let points: Vec<[f64; 2]> = (0..5).map(|i| [f64::from(i), 7.0]).collect();
        let values: Vec<f64> = points.iter().map(|p| (p[0] - 1.5).powi(2)).collect();
        let bowl = Bowl::fit(&points, &values, Terms::First).expect("determined");
        let lowest = bowl.lowest().expect("upright");
        assert!(
            (lowest[0] - 1.5).abs() < 1e-12 && lowest[1] == 7.0,
            "{lowest:?}"
        );
    }
}
