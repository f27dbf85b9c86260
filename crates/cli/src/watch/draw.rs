//! The dashboard as a function of what is known: no terminal, no clock, no file.

use cwm_train::watch::{Figures, RunState, short};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{
    Axis, Block, Cell, Chart, Clear, Dataset, GraphType, Paragraph, Row, Table,
};

use super::chart::{Curve, Drawn, Metric};
use super::summary::{SCORE_HEADS, ScoreRow, score_rows};

/// Columns of the figures, borders included.
const PANEL_WIDTH: u16 = 44;
/// Below this width the chart has the whole of it.
const WIDE: u16 = 76;
/// Below this height the tables are only shown on demand: figures need the room.
const HIGH: u16 = 32;
/// Below this width tables lie under one another.
const TWO_TABLES: u16 = 90;
/// Rows of a table at most.
const MOST_ROWS: u16 = 8;

const COLOURS: [Color; 6] = [
    Color::Cyan,
    Color::Yellow,
    Color::Green,
    Color::Magenta,
    Color::Blue,
    Color::Red,
];

const HELP: &str = "\
q       quit (the run goes on)
tab     next metric
⇧tab    metric before
l       logarithmic axis
t       only the tables of sources and kinds
?       this help

loss and acc are running means of training;
h. and exact are the last held-out evaluation;
silent: no line for long; the run may be dead";

/// What the keys have changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) metric: Metric,
    pub(super) log: bool,
    pub(super) tables: bool,
    pub(super) help: bool,
    /// Whether colours may be used.
    pub(super) colour: bool,
}

/// What is shown.
pub(super) struct Shown<'a> {
    /// What the run is called.
    pub(super) run: &'a str,
    pub(super) state: &'a RunState,
    pub(super) figures: &'a Figures,
    /// Shown in place of all else while there is nothing to show.
    pub(super) waiting: Option<&'a str>,
}

pub(super) fn draw(frame: &mut Frame<'_>, shown: &Shown<'_>, view: &View) {
    let [top, middle, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(title(shown, top.width), top);
    let keys = "q quit  tab metric  l log axis  t tables  ? help";
    frame.render_widget(Line::styled(keys, Modifier::DIM), bottom);
    match shown.waiting {
        Some(message) => {
            let text = Paragraph::new(message).wrap(ratatui::widgets::Wrap { trim: true });
            frame.render_widget(text.block(Block::bordered()), middle);
        }
        None => draw_run(frame, middle, shown, view),
    }
    if view.help {
        draw_help(frame, middle);
    }
}

/// Name, state and a bar of the steps done.
fn title<'a>(shown: &Shown<'_>, width: u16) -> Line<'a> {
    let text = format!("{}: {}", shown.run, shown.figures.status.text());
    let (step, steps) = (shown.figures.step, shown.figures.steps.unwrap_or_default());
    let room = (width as usize).saturating_sub(text.chars().count() + 10);
    let room = room.min(40);
    if steps == 0 || room < 10 {
        return Line::styled(text, Modifier::BOLD);
    }
    let share = step.min(steps) as f64 / steps as f64;
    let done = (room as f64 * share) as usize;
    let (done, left) = ("=".repeat(done), " ".repeat(room - done));
    let bar = format!(" [{done}{left}] {:.1}%", 100.0 * share);
    Line::styled(text + &bar, Modifier::BOLD)
}

fn draw_run(frame: &mut Frame<'_>, area: Rect, shown: &Shown<'_>, view: &View) {
    let (train, held_out) = (&shown.state.train, &shown.state.held_out);
    let tables = [
        ("source", score_rows(&train.sources, &held_out.sources)),
        ("kind", score_rows(&train.kinds, &held_out.kinds)),
    ];
    if view.tables {
        return draw_tables(frame, area, &tables);
    }
    let rows = tables.iter().map(|(_, rows)| rows.len()).max().unwrap_or(0);
    let height = match rows {
        0 => 0,
        _ if area.height < HIGH || area.width < TWO_TABLES => 0,
        rows => (rows as u16).min(MOST_ROWS) + 3,
    };
    let [upper, lower] =
        Layout::vertical([Constraint::Min(1), Constraint::Length(height)]).areas(area);
    let panel = if upper.width < WIDE { 0 } else { PANEL_WIDTH };
    let [left, right] =
        Layout::horizontal([Constraint::Min(1), Constraint::Length(panel)]).areas(upper);
    draw_chart(frame, left, shown.state, view);
    draw_figures(frame, right, shown.figures);
    draw_tables(frame, lower, &tables);
}

fn draw_tables(frame: &mut Frame<'_>, area: Rect, tables: &[(&str, Vec<ScoreRow>); 2]) {
    let halves = [Constraint::Fill(1); 2];
    let layout = match area.width < TWO_TABLES {
        true => Layout::vertical(halves),
        false => Layout::horizontal(halves),
    };
    let halves: [Rect; 2] = layout.areas(area);
    for ((what, rows), area) in tables.iter().zip(halves) {
        draw_scores(frame, area, what, rows);
    }
}

fn draw_figures(frame: &mut Frame<'_>, area: Rect, figures: &Figures) {
    let lines = figures
        .lines()
        .into_iter()
        .map(|(label, value)| Line::from(format!("{label:<18}{value}")));
    let text = Text::from_iter(lines);
    frame.render_widget(Paragraph::new(text).block(Block::bordered()), area);
}

fn draw_scores(frame: &mut Frame<'_>, area: Rect, what: &str, rows: &[ScoreRow]) {
    let right = |text: String| Cell::from(Text::from(text).right_aligned());
    let head = SCORE_HEADS.map(|head| right(head.to_owned()));
    let head = std::iter::once(Cell::from(what.to_owned())).chain(head);
    let body = rows.iter().map(|row| {
        let name = std::iter::once(Cell::from(row.name.clone()));
        Row::new(name.chain(row.cells.clone().map(right)))
    });
    let widths = std::iter::once(Constraint::Min(6)).chain([Constraint::Length(6); 5]);
    let table = Table::new(body, widths)
        .header(Row::new(head).style(Modifier::BOLD))
        .block(Block::bordered());
    frame.render_widget(table, area);
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let width = area.width.min(50);
    let height = area.height.min(HELP.lines().count() as u16 + 2);
    let area = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, area);
    frame.render_widget(
        Paragraph::new(HELP).block(Block::bordered().title("keys")),
        area,
    );
}

fn draw_chart(frame: &mut Frame<'_>, area: Rect, state: &RunState, view: &View) {
    let scale = if view.log { ", logarithmic" } else { "" };
    let curves = scaled(view.metric.curves(state), view.log);
    let styles = styles(&curves, view.colour);
    let block = Block::bordered()
        .title(format!("{}{scale}", view.metric.title()))
        .title_bottom(legend(&curves, &styles));
    let (Some(x), Some(y)) = (range(&curves, |p| p.0), range(&curves, |p| p.1)) else {
        frame.render_widget(
            Paragraph::new("the log has none of it yet").block(block),
            area,
        );
        return;
    };
    let told = |value: f64| short(if view.log { 10f64.powf(value) } else { value });
    let middle = (y[0] + y[1]) / 2.0;
    let x_axis = Axis::default()
        .bounds(x)
        .labels([format!("{:.0}", x[0]), format!("step {:.0}", x[1])]);
    let y_axis = Axis::default()
        .bounds(y)
        .labels([told(y[0]), told(middle), told(y[1])]);
    let chart = Chart::new(datasets(&curves, &styles))
        .block(block)
        .x_axis(x_axis)
        .y_axis(y_axis)
        .legend_position(None);
    frame.render_widget(chart, area);
}

/// Curves as they lie on the axis; what a logarithmic one cannot show is left out.
fn scaled(mut curves: Vec<Curve>, log: bool) -> Vec<Curve> {
    if log {
        for curve in &mut curves {
            curve.points.retain(|point| point.1 > 0.0);
            curve
                .points
                .iter_mut()
                .for_each(|point| point.1 = point.1.log10());
        }
        curves.retain(|curve| !curve.points.is_empty());
    }
    curves
}

/// The least and the greatest of a coordinate, apart from each other even where all are the same.
fn range(curves: &[Curve], pick: fn(&(f64, f64)) -> f64) -> Option<[f64; 2]> {
    let values = || {
        curves
            .iter()
            .flat_map(|curve| curve.points.iter().map(pick))
    };
    let low = values().reduce(f64::min)?;
    let high = values().reduce(f64::max)?;
    let air = match high > low {
        true => 0.0,
        false => (low.abs() * 0.1).max(0.5),
    };
    Some([low - air, high + air])
}

/// The style of each curve. Colours only help: the legend names the marks too.
fn styles(curves: &[Curve], colour: bool) -> Vec<Style> {
    let mut colours = COLOURS.into_iter().cycle();
    let style = |curve: &Curve| match (colour, curve.drawn) {
        (false, _) => Style::new(),
        (true, Drawn::Noise) => Style::new().fg(Color::DarkGray),
        (true, _) => Style::new().fg(colours.next().unwrap_or_default()),
    };
    curves.iter().map(style).collect()
}

/// The names of the curves on the lower border, where no curve lies under them.
fn legend<'a>(curves: &[Curve], styles: &[Style]) -> Line<'a> {
    let named = curves
        .iter()
        .zip(styles)
        .filter(|(c, _)| !c.name.is_empty());
    let spans = named.map(|(curve, style)| {
        let mark = match curve.drawn {
            Drawn::Marks => "•",
            Drawn::Line | Drawn::Noise => "⠤",
        };
        Span::styled(format!(" {mark} {} ", curve.name), *style)
    });
    Line::from_iter(spans)
}

fn datasets<'a>(curves: &'a [Curve], styles: &[Style]) -> Vec<Dataset<'a>> {
    let dataset = |(curve, style): (&'a Curve, &Style)| {
        let (marker, graph) = match curve.drawn {
            Drawn::Line => (Marker::Braille, GraphType::Line),
            Drawn::Noise => (Marker::Braille, GraphType::Scatter),
            Drawn::Marks => (Marker::Dot, GraphType::Scatter),
        };
        Dataset::default()
            .marker(marker)
            .graph_type(graph)
            .style(*style)
            .data(&curve.points)
    };
    curves.iter().zip(styles).map(dataset).collect()
}

#[cfg(test)]
mod tests;
