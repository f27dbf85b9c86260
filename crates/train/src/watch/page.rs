//! Runs as one page that needs nothing else: their plots over one another, and tables beside.
//!
//! Promises: a plot that would have nothing to show is left out; a source or kind looks alike in
//! training (a line) and held out (points); skipped steps are marked on the norm of the gradient.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::figures::Figures;
use super::series::Series;
use super::state::{Curves, RunState, Score};
use cwm_plot::{self as plot, Plot, Style, html_page, html_table};

/// Points of a line on the page: a plot has hardly more columns.
const LINE_POINTS: usize = 700;
/// Points that are drawn as markers.
const MARKED_POINTS: usize = 200;

/// A run with its name on the page.
#[derive(Clone, Debug, Serialize)]
pub struct NamedRun<'a> {
    /// What it is called.
    pub run: String,
    /// Its figures.
    pub figures: Figures,
    /// All that its log says.
    pub state: &'a RunState,
}

/// The page about `runs`.
pub fn page(runs: &[NamedRun<'_>]) -> String {
    let names: Vec<&str> = runs.iter().map(|run| run.run.as_str()).collect();
    let mut sections = vec![("Figures".to_owned(), figures_table(&names, runs))];
    let plots = [
        ("Loss", losses(runs)),
        ("Accuracy", accuracies(runs)),
        ("Exact frames", exact(runs)),
        ("Optimiser", optimizer(runs)),
        ("Machine", machine(runs)),
    ];
    for (heading, plots) in plots {
        let body: String = plots.iter().map(Plot::svg).collect();
        if !body.is_empty() {
            sections.push((heading.to_owned(), body));
        }
    }
    for (heading, of) in [("Configuration", true), ("Environment", false)] {
        let facts: Vec<_> = runs.iter().map(|run| facts(run.state, of)).collect();
        if facts.iter().any(|facts| !facts.is_empty()) {
            sections.push((heading.to_owned(), facts_table(&names, &facts)));
        }
    }
    html_page(&format!("Training: {}", names.join(", ")), &sections)
}

/// A row for each figure that some run has, a column for each run.
fn figures_table(names: &[&str], runs: &[NamedRun<'_>]) -> String {
    let columns: Vec<Vec<_>> = runs.iter().map(|run| run.figures.lines()).collect();
    // Later runs may know figures that the first does not.
    let mut labels: Vec<&str> = Vec::new();
    for (label, _) in columns.iter().flatten() {
        if !labels.contains(label) {
            labels.push(label);
        }
    }
    let cell = |label: &str, column: &Vec<(&str, String)>| {
        let line = column.iter().find(|(of, _)| *of == label);
        line.map_or_else(String::new, |(_, value)| value.clone())
    };
    let rows: Vec<Vec<String>> = (labels.iter())
        .map(|label| {
            let cells = columns.iter().map(|column| cell(label, column));
            std::iter::once((*label).to_owned()).chain(cells).collect()
        })
        .collect();
    html_table(&head(names), &rows)
}

fn facts_table(names: &[&str], facts: &[BTreeMap<String, String>]) -> String {
    let mut keys: Vec<&String> = facts.iter().flat_map(BTreeMap::keys).collect();
    keys.sort();
    keys.dedup();
    let rows: Vec<Vec<String>> = (keys.iter())
        .map(|key| {
            let cells = facts.iter().map(|of| of.get(*key).cloned());
            let cells = cells.map(Option::unwrap_or_default);
            std::iter::once((*key).clone()).chain(cells).collect()
        })
        .collect();
    html_table(&head(names), &rows)
}

fn head<'a>(names: &[&'a str]) -> Vec<&'a str> {
    std::iter::once("").chain(names.iter().copied()).collect()
}

/// What the log says about the configuration of a run, or about all else that it was begun with.
fn facts(state: &RunState, configuration: bool) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let setup = &state.setup;
    for (key, value) in &setup.rest {
        match (key.as_str(), configuration) {
            ("config", true) => flatten("", value, &mut facts),
            ("config", false) | (_, true) => {}
            (key, false) => flatten(key, value, &mut facts),
        }
    }
    if !configuration && let Some(parameters) = setup.parameters {
        facts.insert("parameters".to_owned(), parameters.to_string());
    }
    facts
}

/// Objects become dotted names.
fn flatten(name: &str, value: &Value, facts: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let dot = if name.is_empty() { "" } else { "." };
                flatten(&format!("{name}{dot}{key}"), value, facts);
            }
        }
        Value::String(text) => {
            facts.insert(name.to_owned(), text.clone());
        }
        other => {
            facts.insert(name.to_owned(), other.to_string());
        }
    }
}

/// Which number of a score is plotted.
type Pick = fn(&Score) -> &Series;

fn losses(runs: &[NamedRun<'_>]) -> Vec<Plot> {
    scores(runs, "Loss", "nats", Scale::Logarithmic, |score| {
        &score.loss
    })
}

fn accuracies(runs: &[NamedRun<'_>]) -> Vec<Plot> {
    let label = "share of targets";
    scores(runs, "Accuracy", label, Scale::Linear, |score| {
        &score.accuracy
    })
}

/// All targets, then by source, then by kind.
fn scores(runs: &[NamedRun<'_>], what: &str, label: &str, scale: Scale, pick: Pick) -> Vec<Plot> {
    let all = runs.iter().flat_map(|run| {
        let name = name_of(runs, run, "all targets");
        both(&name, &run.state.train.all, &run.state.held_out.all, pick)
    });
    let titles = [
        format!("{what} (line: training, running mean; points: held out)"),
        format!("{what} by source"),
        format!("{what} by kind of target"),
    ];
    let groups = [
        all.collect(),
        grouped(runs, |curves| &curves.sources, pick),
        grouped(runs, |curves| &curves.kinds, pick),
    ];
    let plots = titles.into_iter().zip(groups);
    plots
        .filter_map(|(title, series)| plot_of(title, label, scale, series))
        .collect()
}

fn grouped(
    runs: &[NamedRun<'_>],
    group: fn(&Curves) -> &BTreeMap<String, Score>,
    pick: Pick,
) -> Vec<plot::Series> {
    let nothing = Score::default();
    let mut series = Vec::new();
    for run in runs {
        let (train, held_out) = (group(&run.state.train), group(&run.state.held_out));
        let mut names: Vec<&String> = train.keys().chain(held_out.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let of = |scores: &'_ BTreeMap<String, Score>| scores.get(name).cloned();
            let (train, held_out) = (of(train), of(held_out));
            let train = train.as_ref().unwrap_or(&nothing);
            let held_out = held_out.as_ref().unwrap_or(&nothing);
            series.extend(both(&name_of(runs, run, name), train, held_out, pick));
        }
    }
    series
}

/// A curve of training as a line and of held-out data as points, under one name.
fn both(name: &str, train: &Score, held_out: &Score, pick: Pick) -> Vec<plot::Series> {
    vec![
        smoothed(name, pick(train)),
        marked(name, &pick(held_out).thinned(MARKED_POINTS)),
    ]
}

fn exact(runs: &[NamedRun<'_>]) -> Vec<Plot> {
    let mut series = Vec::new();
    for run in runs {
        let held_out = &run.state.held_out;
        let whole = std::iter::once(("whole frame", &held_out.all));
        let kinds = held_out
            .kinds
            .iter()
            .map(|(kind, score)| (kind.as_str(), score));
        for (name, score) in whole.chain(kinds) {
            let name = name_of(runs, run, name);
            let exact = score.frame_exact.thinned(MARKED_POINTS);
            // A single evaluation makes no line.
            series.extend([line(&name, exact.means()), marked(&name, &exact)]);
        }
    }
    let title = "Held-out frames with all targets right".to_owned();
    let plot = plot_of(title, "share of frames", Scale::Linear, series);
    plot.into_iter().collect()
}

fn optimizer(runs: &[NamedRun<'_>]) -> Vec<Plot> {
    let (mut rates, mut norms) = (Vec::new(), Vec::new());
    for run in runs {
        let state = run.state;
        for (name, series) in [("AdamW", &state.lr), ("Muon", &state.muon_lr)] {
            rates.push(line(
                &name_of(runs, run, name),
                series.thinned(LINE_POINTS).means(),
            ));
        }
        let norm = state.grad_norm.thinned(LINE_POINTS);
        let band = norm.points.iter().map(|p| (p.step, p.min, p.max)).collect();
        norms.push(plot::Series {
            // A band around single samples is none.
            band: (norm.width > 1).then_some(band),
            ..line(&name_of(runs, run, "norm"), norm.means())
        });
        for (reason, skips) in &state.skips {
            let name = name_of(runs, run, &format!("skipped: {}", reason.replace('_', " ")));
            norms.push(marked(&name, &skips.thinned(MARKED_POINTS)));
        }
    }
    let rates = plot_of("Learning rate".to_owned(), "rate", Scale::Linear, rates);
    let title = "Norm of the gradient before clipping".to_owned();
    let norms = plot_of(title, "norm", Scale::Logarithmic, norms);
    rates.into_iter().chain(norms).collect()
}

fn machine(runs: &[NamedRun<'_>]) -> Vec<Plot> {
    let of = |title: &str, label: &str, pick: fn(&RunState) -> &Series| {
        let series = runs.iter().map(|run| {
            let series = pick(run.state).thinned(LINE_POINTS);
            line(&name_of(runs, run, ""), series.means())
        });
        plot_of(title.to_owned(), label, Scale::Linear, series.collect())
    };
    let speed = of("Speed", "tokens per second", |state| &state.tok_per_s);
    let memory = of("Resident memory", "MB", |state| &state.rss_mb);
    speed.into_iter().chain(memory).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Scale {
    Linear,
    Logarithmic,
}

/// The plot over steps, unless there is nothing to plot.
fn plot_of(title: String, label: &str, scale: Scale, series: Vec<plot::Series>) -> Option<Plot> {
    let series: Vec<_> = series
        .into_iter()
        .filter(|s| !s.points.is_empty())
        .collect();
    (!series.is_empty()).then(|| Plot {
        title,
        x_label: "step".to_owned(),
        y_label: label.to_owned(),
        log_y: scale == Scale::Logarithmic,
        series,
        ..Plot::default()
    })
}

/// What a curve of one of `runs` is called: the run's name is said where there are others.
fn name_of(runs: &[NamedRun<'_>], run: &NamedRun<'_>, what: &str) -> String {
    match (runs.len(), what) {
        (1, _) => what.to_owned(),
        (_, "") => run.run.clone(),
        _ => format!("{}: {what}", run.run),
    }
}

fn line(name: &str, points: Vec<(f64, f64)>) -> plot::Series {
    plot::Series {
        name: name.to_owned(),
        points,
        ..plot::Series::default()
    }
}

fn smoothed(name: &str, series: &Series) -> plot::Series {
    line(name, series.thinned(LINE_POINTS).smoothed())
}

fn marked(name: &str, series: &Series) -> plot::Series {
    plot::Series {
        style: Style::Dots,
        ..line(name, series.means())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::event::LogEvent;
    use super::*;

    fn state(lines: &str) -> RunState {
        let mut state = RunState::default();
        for line in lines.lines() {
            state.push(&LogEvent::parse(line.as_bytes()).expect("an event"));
        }
        state
    }

    fn named<'a>(run: &str, state: &'a RunState) -> NamedRun<'a> {
        NamedRun {
            run: run.to_owned(),
            figures: state.figures(Some(Duration::ZERO), None),
            state,
        }
    }

    const LOG: &str = r#"{"event":"start","steps":2,"parameters":5,"threads":2,"config":{"seed":1,"optimizer":{"lr":0.5}}}
{"event":"step","step":1,"loss":3,"grad_norm":1,"tokens":9,"sources":[{"name":"a<b","loss":2}]}
{"event":"step","step":2,"loss":2,"grad_norm":4,"tokens":9,"skipped":"spike"}
{"event":"evaluation","step":2,"loss":2.5,"frames":3,"frame_exact":0.5,"kinds":[{"name":"action","loss":1,"frame_exact":0.6}]}"#;

    #[test]
    fn a_page_shows_what_a_log_has_and_nothing_else() {
        let state = state(LOG);
        let page = page(&[named("one", &state)]);
        for part in [
            "<title>Training: one</title>",
            "Loss by source",
            "a&lt;b",
            "Held-out frames",
            "skipped: spike",
            "<td>optimizer.lr</td><td>0.5</td>",
            "<td>parameters</td><td>5</td>",
            "<td>threads</td><td>2</td>",
        ] {
            assert!(page.contains(part), "{part}");
        }
        for absent in [
            "Resident memory",
            "Learning rate",
            "Accuracy",
            "nothing to show",
            "NaN",
        ] {
            assert!(!page.contains(absent), "{absent}");
        }
    }

    #[test]
    fn several_runs_lie_over_one_another() {
        let first = state(LOG);
        let second = state(&LOG.replace("\"seed\":1", "\"seed\":2"));
        let page = page(&[named("one", &first), named("two", &second)]);
        assert!(page.contains(">one: all targets</text>"));
        assert!(page.contains(">two: all targets</text>"));
        assert!(page.contains("<td>seed</td><td>1</td><td>2</td>"));
        let loss_plots = page.matches("points: held out)</text>").count();
        assert_eq!(loss_plots, 1);
    }
}
