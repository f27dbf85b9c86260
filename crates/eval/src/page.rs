//! A [`Suite`] as one HTML page that needs nothing else: tables with intervals, and plots.

use std::collections::BTreeMap;

use cwm_plot::{Plot, Series, Style, html_page, html_table, number};

use crate::Rate;
use crate::suite::{Measured, Suite};

/// Writes the page.
pub fn page(suite: &Suite) -> String {
    let title = format!("What {} can execute", suite.model.display());
    let mut sections = vec![("All sets".to_owned(), overview(&suite.sets))];
    sections.push(("Does 0.9 mean 90%?".to_owned(), calibration(&suite.sets)));
    sections.push((
        "By length and depth".to_owned(),
        over_sets(
            &suite.sets,
            "Whole runs, by frames",
            "frames of the run, at most",
            true,
            |set| points(&set.detail.by_length),
        ) + &over_sets(
            &suite.sets,
            "Frames, by depth",
            "activations below",
            false,
            |set| points(&set.detail.by_depth),
        ),
    ));
    for set in &suite.sets {
        sections.push((set.name.clone(), one_set(set)));
    }
    html_page(&title, &sections)
}

fn overview(sets: &[Measured]) -> String {
    let head = [
        "",
        "runs",
        "frames",
        "frame exact",
        "state",
        "whole run",
        "of at most 32",
        "output",
        "not an echo",
        "echo alone",
        "next line alone",
        "calibration error",
    ];
    let rows: Vec<Vec<String>> = sets
        .iter()
        .map(|set| {
            let (report, detail) = (&set.report, &set.detail);
            let mut row = vec![
                set.name.clone(),
                report.items.to_string(),
                report.frame_exact.count.to_string(),
            ];
            row.extend(
                [
                    report.frame_exact,
                    report.state_exact,
                    report.trace_exact,
                    detail.short_exact,
                    report.output_exact,
                    report.output_exact_non_echo,
                    detail.baselines.echo_output,
                    detail.baselines.next_line_frame,
                ]
                .map(share),
            );
            row.push(detail.calibration.error().map_or("-".to_owned(), number));
            row
        })
        .collect();
    html_table(&head, &rows)
}

fn one_set(set: &Measured) -> String {
    let mut out = format!("<p>{}</p>\n", cwm_plot::escaped(&set.about));
    if !set.left_out.is_empty() {
        let left_out = set
            .left_out
            .iter()
            .map(|(why, n)| vec![why.clone(), n.to_string()]);
        out += &html_table(&["left out", "runs"], &left_out.collect::<Vec<_>>());
    }
    let main = set.report.rates();
    let baselines = set.detail.baselines.rates();
    out += &table(
        "",
        main.iter().map(|(name, rate)| ((*name).to_owned(), *rate)),
    );
    out += &table(
        "without a model",
        baselines.iter().map(|(n, rate)| ((*n).to_owned(), *rate)),
    );
    if !set.jumps.by_action.is_empty() {
        let jumps = set
            .jumps
            .rates()
            .map(|(action, rate)| (action.to_owned(), rate));
        out += &table("jumps, named at once", jumps);
    }
    out += &table("frames by kind", named(&set.detail.by_kind));
    out += &table("new values by type", named(&set.detail.by_type));
    out += &table("frames by depth", named(&set.detail.by_depth));
    out += &table(
        "whole runs by frames, at most",
        named(&set.detail.by_length),
    );
    let wrong = set
        .detail
        .first_wrong
        .iter()
        .map(|(to, n)| vec![to.to_string(), n.to_string()]);
    out += &html_table(
        &["first wrong frame, at most", "runs"],
        &wrong.collect::<Vec<_>>(),
    );
    out + &format!(
        "<p>Longest run that is right to its end: {} frames.</p>\n",
        set.detail.longest_exact
    )
}

fn named<K: ToString>(rates: &BTreeMap<K, Rate>) -> impl Iterator<Item = (String, Rate)> {
    rates.iter().map(|(key, rate)| (key.to_string(), *rate))
}

fn table(heading: &str, rates: impl Iterator<Item = (String, Rate)>) -> String {
    let rows: Vec<Vec<String>> = rates
        .map(|(name, rate)| {
            let interval = rate
                .wilson()
                .map(|(low, high)| format!("{low:.3} to {high:.3}"));
            vec![
                name,
                share(rate),
                interval.unwrap_or_default(),
                rate.count.to_string(),
            ]
        })
        .collect();
    html_table(&[heading, "share", "95%", "of"], &rows)
}

fn share(rate: Rate) -> String {
    rate.value()
        .map_or("-".to_owned(), |value| format!("{value:.3}"))
}

fn points<K: Copy + TryInto<u32>>(rates: &BTreeMap<K, Rate>) -> Vec<(f64, f64)> {
    let known = rates.iter().filter_map(|(key, rate)| {
        let key: u32 = (*key).try_into().ok()?;
        Some((f64::from(key), rate.value()?))
    });
    known.collect()
}

fn calibration(sets: &[Measured]) -> String {
    let ideal = Series {
        name: "as it should be".to_owned(),
        points: vec![(0.0, 0.0), (1.0, 1.0)],
        ..Series::default()
    };
    let found = sets.iter().map(|set| {
        let bins = set.detail.calibration.bins().iter().filter_map(|bin| {
            let mean = bin.probability / bin.rate.count.max(1) as f64;
            Some((mean, bin.rate.value()?))
        });
        Series {
            name: set.name.clone(),
            points: bins.collect(),
            style: Style::Dots,
            ..Series::default()
        }
    });
    Plot {
        title: "Frames that are right, by their probability".to_owned(),
        x_label: "mean probability of the tenth".to_owned(),
        y_label: "share right".to_owned(),
        series: std::iter::once(ideal).chain(found).collect(),
        ..Plot::default()
    }
    .svg()
}

fn over_sets(
    sets: &[Measured],
    title: &str,
    x_label: &str,
    log_x: bool,
    of: impl Fn(&Measured) -> Vec<(f64, f64)>,
) -> String {
    let series = sets.iter().map(|set| Series {
        name: set.name.clone(),
        points: of(set),
        ..Series::default()
    });
    Plot {
        title: title.to_owned(),
        x_label: x_label.to_owned(),
        y_label: "share right".to_owned(),
        log_x,
        series: series.collect(),
        ..Plot::default()
    }
    .svg()
}
