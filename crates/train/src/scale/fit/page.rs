//! A fit as one page with plots.

use super::cells::{Cell, Trial};
use super::least_squares::Power;
use super::report::Fit;
use super::sample::{Level, Sample};
use super::tables;
use cwm_plot::{Plot, Series, Style, escaped, html_page, html_table};

/// Points of a drawn curve.
const CURVE: usize = 60;

/// The page. `title` says whose ladder it is.
pub fn page(title: &str, fit: &Fit) -> String {
    let mut sections = vec![(
        "Runs".to_owned(),
        format!("<p>{}.</p>", tables::counts(fit)),
    )];
    if !fit.notes.is_empty() {
        let notes: String = (fit.notes.iter())
            .map(|note| format!("<li>{}</li>\n", escaped(note)))
            .collect();
        sections.push((
            "What is missing or at an edge".into(),
            format!("<ul>\n{notes}</ul>"),
        ));
    }
    for level in &fit.levels {
        let heading = format!(
            "Loss over learning rate, {} FLOP",
            tables::rough(level.budget.compute)
        );
        sections.push((heading, over_rates(level).svg()));
    }
    sections.push(("Loss over size (isoFLOP)".into(), over_sizes(fit).svg()));
    let laws: [(&str, &str, Law, Found); 3] = [
        (
            "Learning rate",
            "peak learning rate",
            |s| s.lr,
            |level| level.use_lr.then(|| best(level).lr),
        ),
        (
            "Batch",
            "tokens of a batch",
            |s| s.batch,
            |level| level.use_batch.then(|| best(level).batch),
        ),
        (
            "Size",
            "parameters without embeddings",
            |s| s.size,
            |level| {
                let found = level.iso_flop.as_ref().filter(|_| level.use_size);
                found.map(|found| found.n)
            },
        ),
    ];
    for (name, label, law, found) in laws {
        let plot = over_compute(fit, name, label, law, found);
        sections.push((format!("{name} over compute"), plot.svg()));
    }
    for table in tables::all(fit) {
        sections.push((table.title.to_owned(), html_table(&table.head, &table.rows)));
    }
    html_page(title, &sections)
}

type Law = fn(&Sample) -> Option<Power>;
type Found = fn(&Level) -> Option<f64>;

fn best(level: &Level) -> super::cells::Best {
    level.budget.cells[level.best_cell].best
}

/// The trials of a budget, a series for each size, with the best of each size on a line of its own.
fn over_rates(level: &Level) -> Plot {
    let of_cell = |cell: &Cell| {
        let point = |trial: &Trial| (trial.lr, trial.loss);
        let trials = Series {
            name: cell.size.clone(),
            points: cell.trials.iter().map(point).collect(),
            style: Style::Dots,
            band: None,
        };
        let lowest = Series {
            name: format!("{}, best", cell.size),
            points: vec![(cell.best.lr, cell.best.loss)],
            style: Style::Dots,
            band: None,
        };
        [trials, lowest]
    };
    Plot {
        title: "Each run, and the best of each size".into(),
        x_label: "peak learning rate".into(),
        y_label: "held-out loss, nats".into(),
        log_x: true,
        // A run that nearly diverged would press the others flat.
        log_y: true,
        series: level.budget.cells.iter().flat_map(of_cell).collect(),
    }
}

/// The best loss of each size, a series for each budget, with the parabola and its minimum.
fn over_sizes(fit: &Fit) -> Plot {
    let mut series = Vec::new();
    for level in &fit.levels {
        let name = format!("{} FLOP", tables::rough(level.budget.compute));
        let cells = &level.budget.cells;
        series.push(Series {
            name: name.clone(),
            points: cells.iter().map(|cell| (cell.n, cell.best.loss)).collect(),
            style: Style::Dots,
            band: None,
        });
        let Some(found) = &level.iso_flop else {
            continue;
        };
        let ends = (cells[0].n, cells[cells.len() - 1].n);
        let at = |n: f64| (n, found.parabola.at([n.ln(), 0.0]));
        series.push(Series {
            name,
            points: between(ends.0, ends.1).map(at).collect(),
            style: Style::Line,
            band: None,
        });
        series.push(Series {
            name: "minimum".into(),
            points: vec![(found.n, found.loss)],
            style: Style::Dots,
            band: None,
        });
    }
    Plot {
        title: "Tuned loss of each size, and parabolas".into(),
        x_label: "parameters without embeddings".into(),
        y_label: "held-out loss, nats".into(),
        log_x: true,
        log_y: false,
        series,
    }
}

/// What was found at each budget, and the law through it with its interval.
fn over_compute(fit: &Fit, name: &str, label: &str, law: Law, found: Found) -> Plot {
    let budgets = fit.levels.iter();
    let found = budgets.filter_map(|level| Some((level.budget.compute, found(level)?)));
    let mut series = vec![Series {
        name: "found".into(),
        points: found.collect(),
        style: Style::Dots,
        band: None,
    }];
    if law(&fit.whole).is_some() {
        let asked = fit.predictions.iter().map(|p| p.compute);
        let computes = (fit.levels.iter().map(|level| level.budget.compute)).chain(asked);
        let low = computes.clone().fold(f64::INFINITY, f64::min);
        let high = computes.fold(0.0, f64::max);
        let at = |compute: f64| {
            let estimate = fit.estimate(|sample| Some(law(sample)?.at(compute)));
            estimate.map(|estimate| (compute, estimate))
        };
        let curve: Vec<_> = between(low, high).filter_map(at).collect();
        let band = curve
            .iter()
            .filter_map(|(compute, estimate)| Some((*compute, estimate.low?, estimate.high?)));
        series.push(Series {
            name: "law with its 95% interval".into(),
            points: curve
                .iter()
                .map(|(compute, e)| (*compute, e.value))
                .collect(),
            style: Style::Line,
            band: Some(band.collect()),
        });
    }
    Plot {
        title: name.to_owned(),
        x_label: "compute, FLOP".into(),
        y_label: label.to_owned(),
        log_x: true,
        log_y: true,
        series,
    }
}

/// Numbers from `low` to `high` by equal ratios.
fn between(low: f64, high: f64) -> impl Iterator<Item = f64> {
    let last = (CURVE - 1) as f64;
    (0..CURVE).map(move |i| crate::scale::sequence::log_between(low, high, i as f64 / last))
}
