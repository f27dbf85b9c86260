//! `cwm data stats`, `show`, `sample` and `diff`: looking at recorded programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use cwm_data::{
    Census, CensusReport, Comparison, Difference, Histogram, Origin, Record, TextRow, draw_records,
    open_records, open_texts, page, write_record,
};
use cwm_trace::{Entry, listing};

use crate::data::Partial;
use crate::progress;

#[derive(Args)]
pub(crate) struct StatsArgs {
    /// Folders of `cwm data build`, shards, or files of JSON lines
    #[arg(value_name = "PATH", required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Write a page with distributions that needs nothing but a browser
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// The figures as JSON on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct ShowArgs {
    /// A folder of `cwm data build`, a shard, or a file of JSON lines
    #[arg(value_name = "PATH")]
    data: PathBuf,
    /// Name of the record, its number, counted from 0, or how its name alone begins
    #[arg(value_name = "RECORD")]
    record: String,
    /// Cut values at this many characters
    #[arg(long, value_name = "N", default_value_t = listing::DEFAULT_VALUE_WIDTH)]
    value_width: usize,
    /// The record as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct SampleArgs {
    /// A folder of `cwm data build`, a shard, or a file of JSON lines
    #[arg(value_name = "PATH")]
    data: PathBuf,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 10)]
    count: usize,
    /// The same seed draws the same records
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write whole records instead of a line about each
    #[arg(long, value_name = "FILE.jsonl")]
    out: Option<PathBuf>,
    /// Whole records as JSON lines on standard output
    #[arg(long, conflicts_with = "out")]
    json: bool,
}

#[derive(Args)]
pub(crate) struct DiffArgs {
    /// A folder of `cwm data build`, a shard, or a file of JSON lines
    first: PathBuf,
    /// Another one
    second: PathBuf,
    /// Names shown of each kind of difference
    #[arg(long, value_name = "N", default_value_t = 10)]
    names: usize,
    /// All names, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct TextsArgs {
    /// A folder of `cwm data build`, or a shard of texts
    #[arg(value_name = "PATH")]
    data: PathBuf,
    /// Only texts of this kind, such as nd, trace_prose or pull_request
    #[arg(long)]
    kind: Option<String>,
    /// Show the text of this name, rather than how many there are
    #[arg(long, value_name = "NAME")]
    show: Option<String>,
    /// All texts as JSON lines on standard output, with name, kind, licence and group
    #[arg(long)]
    json: bool,
}

pub(crate) fn texts(args: &TextsArgs) -> Result<()> {
    let mut kinds: BTreeMap<String, (usize, usize, String)> = BTreeMap::new();
    let mut out = std::io::stdout().lock();
    for text in open_texts(&args.data)? {
        let text = text?;
        if args.kind.as_ref().is_some_and(|kind| *kind != text.kind) {
            continue;
        }
        if args.show.as_ref() == Some(&text.id) {
            writeln!(out, "{}", shown(&text.text))?;
            return Ok(());
        }
        if args.json {
            let TextRow {
                id,
                kind,
                licence,
                group,
                text,
                ..
            } = &text;
            let row = serde_json::json!({"id": id, "kind": kind, "licence": licence, "group": group, "text": text});
            writeln!(out, "{row}")?;
        }
        let of_kind = kinds.entry(text.kind).or_insert((0, 0, text.id));
        of_kind.0 += 1;
        of_kind.1 += text.text.chars().count();
    }
    let shown = args.data.display();
    if let Some(name) = &args.show {
        bail!("`{shown}` has no text `{name}`; `cwm data texts {shown}` shows a name of each kind");
    }
    if kinds.is_empty() {
        bail!("`{shown}` has no such texts; shards of texts are called *.text.parquet");
    }
    if !args.json {
        for (kind, (count, chars, first)) in &kinds {
            writeln!(
                out,
                "{kind}: {count} texts, {chars} characters, such as {first}"
            )?;
        }
    }
    Ok(())
}

pub(crate) fn stats(args: &StatsArgs) -> Result<()> {
    let mut census = Census::default();
    let bar = progress::spinner("stats");
    for path in &args.data {
        for record in open_records(path)? {
            census.add(&record?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let report = census.report();
    if let Some(path) = &args.html {
        let names: Vec<_> = args
            .data
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let shown = path.display();
        std::fs::write(path, page(&names.join(", "), &report))
            .with_context(|| format!("cannot write `{shown}`"))?;
        eprintln!("wrote `{shown}`");
    }
    if args.json {
        writeln!(
            std::io::stdout().lock(),
            "{}",
            serde_json::to_string_pretty(&report)?
        )?;
    } else {
        write!(std::io::stdout().lock(), "{}", tables(&report))?;
    }
    Ok(())
}

/// Rows of a table beyond which the rest is counted together.
const MOST_ROWS: usize = 12;

fn tables(report: &CensusReport) -> String {
    let CensusReport {
        records,
        programs,
        groups,
        mutants,
        runs,
        ..
    } = report;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{records} records of {programs} programs in {groups} groups, {mutants} of mutants"
    );
    let _ = writeln!(
        out,
        "{} events; of a run {}",
        runs.events,
        spread(&runs.events_per_trace)
    );
    let _ = writeln!(out, "depth of a run {}", spread(&runs.depth_per_trace));
    let _ = writeln!(out, "bytes of a value {}", spread(&runs.value_bytes));
    histogram(&mut out, "events of a run", &report.events);
    histogram(&mut out, "lines of a program", &report.lines);
    let sources = report
        .sources
        .iter()
        .map(|(name, share)| (name.clone(), share.records));
    table(&mut out, "records by source", &sources.collect::<Vec<_>>());
    table(&mut out, "records by licence", &named(&report.licences));
    table(
        &mut out,
        "arguments of people's functions",
        &named(&report.arguments),
    );
    table(&mut out, "events", &named(&runs.kinds));
    table(
        &mut out,
        "values that lines bind or change",
        &named(&report.values),
    );
    table(&mut out, "what runs give", &named(&report.results));
    table(&mut out, "what runs raise", &named(&report.exceptions));
    let coverage = &report.coverage;
    let _ = writeln!(
        out,
        "\n{} builtins and methods, {} kinds of statements, {} of expressions",
        coverage.operations(),
        coverage.statements.len(),
        coverage.expressions.len()
    );
    out
}

fn spread(of: &cwm_trace::statistics::Summary) -> String {
    format!(
        "{} (median), {} (90%), {} (most)",
        of.median, of.p90, of.max
    )
}

fn named<K: ToString, N: TryInto<usize> + Copy>(counts: &BTreeMap<K, N>) -> Vec<(String, usize)> {
    let number = |count: &N| (*count).try_into().unwrap_or(usize::MAX);
    counts
        .iter()
        .map(|(name, count)| (name.to_string(), number(count)))
        .collect()
}

fn table(out: &mut String, title: &str, rows: &[(String, usize)]) {
    if rows.is_empty() {
        return;
    }
    let mut rows = rows.to_vec();
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    if rows.len() > MOST_ROWS {
        let rest = rows.split_off(MOST_ROWS - 1);
        rows.push((
            format!("{} others", rest.len()),
            rest.iter().map(|(_, count)| count).sum(),
        ));
    }
    draw(out, title, &rows);
}

fn histogram(out: &mut String, title: &str, histogram: &Histogram) {
    let name = |(low, high)| {
        if low == high {
            format!("{low}")
        } else {
            format!("{low} to {high}")
        }
    };
    let bins = histogram.bins().filter(|(_, count)| *count > 0);
    draw(
        out,
        title,
        &bins
            .map(|(bounds, count)| (name(bounds), count))
            .collect::<Vec<_>>(),
    );
}

fn draw(out: &mut String, title: &str, rows: &[(String, usize)]) {
    let all: usize = rows.iter().map(|(_, count)| count).sum();
    let most = rows
        .iter()
        .map(|(_, count)| *count)
        .max()
        .unwrap_or(0)
        .max(1);
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let _ = writeln!(out, "\n{title}");
    for (name, count) in rows {
        let bar = "#".repeat((30 * count).div_ceil(most));
        let share = 100.0 * *count as f64 / all.max(1) as f64;
        let _ = writeln!(out, "  {name:width$} {count:>9} {share:>5.1}% {bar}");
    }
}

pub(crate) fn show(args: &ShowArgs) -> Result<()> {
    let record = find(args)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?;
        return Ok(());
    }
    writeln!(
        out,
        "{}\n{}\n\n{}",
        record.id,
        origin(&record),
        shown(&record.trace.source)
    )?;
    write!(
        out,
        "{}",
        shown(&listing::listing(&record.trace, args.value_width))
    )?;
    Ok(())
}

/// A text as it may go to a terminal: what would control it is escaped.
fn shown(text: &str) -> String {
    let is_plain = |c: char| !c.is_control() || c == '\n' || c == '\t';
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}

/// The record of a name or of a number, or else the only one whose name begins so.
fn find(args: &ShowArgs) -> Result<Record> {
    let number: Option<usize> = args.record.parse().ok();
    let (mut by_number, mut beginning, mut total) = (None, Vec::new(), 0);
    for (at, record) in open_records(&args.data)?.enumerate() {
        let record = record?;
        total += 1;
        if record.id == args.record {
            return Ok(record);
        }
        if number.is_none() && record.id.starts_with(&args.record) {
            beginning.push(record);
        } else if number == Some(at) {
            by_number = Some(record);
        }
    }
    let shown = args.data.display();
    match (by_number, beginning.len()) {
        (Some(record), _) => Ok(record),
        (None, 1) => Ok(beginning.remove(0)),
        (None, 0) if number.is_some() => {
            bail!("`{shown}` has {total} records; their numbers are from 0")
        }
        (None, 0) => bail!(
            "`{shown}` has no record `{}` among {total}; `cwm data sample` shows some names",
            args.record
        ),
        (None, count) => {
            let names: Vec<_> = beginning
                .iter()
                .take(5)
                .map(|record| record.id.as_str())
                .collect();
            bail!(
                "{count} records of `{shown}` begin so, such as {}",
                names.join(", ")
            )
        }
    }
}

fn origin(record: &Record) -> String {
    match &record.origin {
        Origin::Generated { seed, index, level } => {
            format!("generated: seed {seed}, index {index}, level {level}")
        }
        Origin::Harvested(from) => {
            let mutation = from
                .mutation
                .as_ref()
                .map_or_else(String::new, |change| format!("; mutant: {change}"));
            format!(
                "{} {}, {} line {} ({}){mutation}",
                from.package, from.version, from.file, from.line, from.licence
            )
        }
    }
}

pub(crate) fn sample(args: &SampleArgs) -> Result<()> {
    let drawn = draw_records(open_records(&args.data)?, args.count, args.seed)?;
    if let Some(path) = &args.out {
        let mut out = Partial::create(path)?;
        for record in &drawn {
            write_record(&mut out.file, record)?;
        }
        return out.keep();
    }
    let mut out = std::io::stdout().lock();
    for record in &drawn {
        if args.json {
            write_record(&mut out, record)?;
        } else {
            writeln!(out, "{}  {}", record.id, shown(&line(record)))?;
        }
    }
    Ok(())
}

/// What a record calls, with how many events, to what end.
fn line(record: &Record) -> String {
    let trace = &record.trace;
    let entry = match &trace.entry {
        Entry::Module => "module".to_owned(),
        Entry::Call { function, args } => format!("{function}({args})"),
    };
    let last = trace.events.last().and_then(|event| event.value.as_ref());
    let value = last.map_or_else(String::new, |value| format!(" -> {}", value.detailed()));
    let text = format!("{entry}{value}  [{} events]", trace.events.len());
    text.replace(['\n', '\r'], " ")
}

pub(crate) fn diff(args: &DiffArgs) -> Result<()> {
    let mut comparison = Comparison::default();
    for record in open_records(&args.first)? {
        comparison.add_first(&record?);
    }
    for record in open_records(&args.second)? {
        comparison.add_second(&record?);
    }
    let difference = comparison.difference();
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&difference)?)?;
        return Ok(());
    }
    let Difference {
        same,
        only_first,
        only_second,
        other_program,
        other_run,
    } = &difference;
    writeln!(out, "{same} records are the same in both")?;
    let (first, second) = (args.first.display(), args.second.display());
    for (what, names) in [
        (format!("only in `{first}`"), only_first),
        (format!("only in `{second}`"), only_second),
        ("with another program".to_owned(), other_program),
        ("with another run of the same program".to_owned(), other_run),
    ] {
        if names.is_empty() {
            continue;
        }
        writeln!(out, "{} {what}", names.len())?;
        for name in names.iter().take(args.names) {
            writeln!(out, "  {name}")?;
        }
        if names.len() > args.names {
            writeln!(out, "  and {} more", names.len() - args.names)?;
        }
    }
    Ok(())
}
