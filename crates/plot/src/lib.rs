//! Plots for people: lines and points over two axes as SVG, and a page of HTML that needs nothing else.
//!
//! Promises: numbers that an axis cannot show (not finite, or not positive on a logarithmic axis) are
//! left out; every text is escaped; series differ by dashes and markers as well as by colour, and the
//! ink is the page's own, so that a plot reads in the light, in the dark and in grey.

use std::collections::BTreeMap;
use std::fmt::Write as _;

const WIDTH: f64 = 680.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 50.0;
const LEGEND_LINE: f64 = 20.0;
/// Width of a character of the legend, rounded up: nothing measures text here.
const CHARACTER: f64 = 7.2;
/// An axis has about this many ticks.
const TICKS: f64 = 6.0;

/// Okabe and Ito's colours, without black and yellow, which one of the two grounds swallows.
const COLOURS: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
];
const DASHES: [&str; 5] = ["", "7 4", "2 3", "10 3 2 3", "4 2"];
const MARKERS: [Marker; 5] = [
    Marker::Circle,
    Marker::Square,
    Marker::Triangle,
    Marker::Diamond,
    Marker::Cross,
];

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}svg{max-width:100%;height:auto}\
table{border-collapse:collapse}td,th{text-align:right;padding:.15rem .8rem .15rem 0;font-variant-numeric:tabular-nums;font-weight:normal}\
th{border-bottom:1px solid}td:first-child,th:first-child{text-align:left}\
@media(prefers-color-scheme:dark){body{color:#e4e7eb;background:#14171a}}";

/// Series over two axes.
#[derive(Clone, Debug, Default)]
pub struct Plot {
    /// What is shown.
    pub title: String,
    /// What lies along the bottom, with its unit.
    pub x_label: String,
    /// What lies along the left, with its unit.
    pub y_label: String,
    /// Whether the bottom axis is logarithmic.
    pub log_x: bool,
    /// Whether the left axis is logarithmic.
    pub log_y: bool,
    /// What is drawn, later ones on top.
    pub series: Vec<Series>,
}

/// Some points. Series of one name look alike and share a line of the legend, so a fitted curve can
/// go with its points; an empty name is not in the legend.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Each `(x, y)`; a line joins them in this order.
    pub points: Vec<(f64, f64)>,
    /// How they are drawn.
    pub style: Style,
    /// An interval around the points: each `(x, low, high)`, `x` rising.
    pub band: Option<Vec<(f64, f64, f64)>>,
}

/// How points are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Joined by a line.
    #[default]
    Line,
    /// A marker each.
    Dots,
}

#[derive(Clone, Copy)]
enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
}

/// What makes series of one name alike.
#[derive(Clone, Copy)]
struct Look {
    colour: &'static str,
    dash: &'static str,
    marker: Marker,
}

impl Look {
    fn of(index: usize) -> Self {
        Self {
            colour: COLOURS[index % COLOURS.len()],
            dash: DASHES[index % DASHES.len()],
            marker: MARKERS[index % MARKERS.len()],
        }
    }
}

impl Plot {
    /// The plot as one `<svg>` element. It says so where there is nothing to show.
    pub fn svg(&self) -> String {
        let looks = self.looks();
        let legend = legend_rows(&self.legend(&looks));
        let height = HEIGHT + legend.len() as f64 * LEGEND_LINE;
        let title = escaped(&self.title);
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\" \
             font-family=\"system-ui,sans-serif\" font-size=\"12\" fill=\"currentColor\">\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"14\" font-weight=\"600\">{title}</text>\n"
        );
        let shown: Vec<(f64, f64)> = self.series.iter().flat_map(|s| self.extent(s)).collect();
        if shown.is_empty() {
            let _ = writeln!(
                out,
                "<text x=\"{LEFT}\" y=\"60\">nothing to show</text></svg>"
            );
            return out;
        }
        let x = Axis::over(shown.iter().map(|p| p.0), self.log_x, LEFT, WIDTH - RIGHT);
        let y = Axis::over(shown.iter().map(|p| p.1), self.log_y, HEIGHT - BOTTOM, TOP);
        self.write_axes(&mut out, &x, &y);
        for series in &self.series {
            let look = looks.get(series.name.as_str()).copied();
            write_series(&mut out, series, look.unwrap_or(Look::of(0)), &x, &y);
        }
        write_legend(&mut out, &legend);
        out.push_str("</svg>\n");
        out
    }

    /// The looks of the names, in the order in which they first occur.
    fn looks(&self) -> BTreeMap<&str, Look> {
        let mut looks = BTreeMap::new();
        for series in &self.series {
            let next = Look::of(looks.len());
            looks.entry(series.name.as_str()).or_insert(next);
        }
        looks
    }

    /// Each name with its look and whether it has lines and dots.
    fn legend<'a>(&'a self, looks: &BTreeMap<&str, Look>) -> Vec<Entry<'a>> {
        let mut entries: Vec<Entry<'_>> = Vec::new();
        for series in self.series.iter().filter(|series| !series.name.is_empty()) {
            let at = entries.iter().position(|entry| entry.name == series.name);
            let at = at.unwrap_or_else(|| {
                entries.push(Entry {
                    name: &series.name,
                    look: looks[series.name.as_str()],
                    line: false,
                    dots: false,
                });
                entries.len() - 1
            });
            match series.style {
                Style::Line => entries[at].line = true,
                Style::Dots => entries[at].dots = true,
            }
        }
        entries
    }

    /// All corners of a series that the axes can show.
    fn extent(&self, series: &Series) -> Vec<(f64, f64)> {
        let band = series.band.iter().flatten();
        let corners = band.flat_map(|&(x, low, high)| [(x, low), (x, high)]);
        let fits = |value: f64, log: bool| value.is_finite() && (!log || value > 0.0);
        (series.points.iter().copied().chain(corners))
            .filter(|&(x, y)| fits(x, self.log_x) && fits(y, self.log_y))
            .collect()
    }

    fn write_axes(&self, out: &mut String, x: &Axis, y: &Axis) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in x.ticks() {
            let at = x.place(tick);
            let _ = writeln!(
                out,
                "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"currentColor\" stroke-opacity=\".15\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 17.0,
                number(tick)
            );
        }
        for tick in y.ticks() {
            let at = y.place(tick);
            let _ = writeln!(
                out,
                "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"currentColor\" stroke-opacity=\".15\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 7.0,
                at + 4.0,
                number(tick)
            );
        }
        let (middle_x, middle_y) = ((LEFT + right) / 2.0, (TOP + bottom) / 2.0);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"currentColor\"/>\n\
             <text x=\"{middle_x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(14 {middle_y:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 10.0,
            escaped(&self.x_label),
            escaped(&self.y_label)
        );
    }
}

/// A name of the legend.
#[derive(Clone, Copy)]
struct Entry<'a> {
    name: &'a str,
    look: Look,
    line: bool,
    dots: bool,
}

impl Entry<'_> {
    fn width(&self) -> f64 {
        50.0 + CHARACTER * self.name.chars().count() as f64
    }
}

/// Entries broken into rows that fit the width.
fn legend_rows<'a>(entries: &[Entry<'a>]) -> Vec<Vec<Entry<'a>>> {
    let mut rows: Vec<Vec<Entry<'a>>> = Vec::new();
    let mut used = f64::INFINITY;
    for entry in entries {
        if used + entry.width() > WIDTH - RIGHT {
            rows.push(Vec::new());
            used = LEFT;
        }
        used += entry.width();
        rows.last_mut()
            .expect("the first entry opens a row")
            .push(*entry);
    }
    rows
}

fn write_legend(out: &mut String, rows: &[Vec<Entry<'_>>]) {
    for (row, entries) in rows.iter().enumerate() {
        let (mut x, y) = (LEFT, HEIGHT + 6.0 + row as f64 * LEGEND_LINE);
        for entry in entries {
            if entry.line {
                write_path(out, &format!("M{x:.1} {y:.1}h28"), entry.look);
            }
            if entry.dots {
                write_marker(out, entry.look, x + 14.0, y, None);
            }
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                x + 34.0,
                y + 4.0,
                escaped(entry.name)
            );
            x += entry.width();
        }
    }
}

fn write_series(out: &mut String, series: &Series, look: Look, x: &Axis, y: &Axis) {
    if let Some(band) = &series.band {
        let low = band.iter().map(|&(at, low, _)| (at, low));
        let high = band.iter().rev().map(|&(at, _, high)| (at, high));
        let corners: Vec<(f64, f64)> = low.chain(high).collect();
        let _ = writeln!(
            out,
            "<path d=\"{}Z\" fill=\"{}\" fill-opacity=\".18\"/>",
            path(&corners, x, y),
            look.colour
        );
    }
    match series.style {
        Style::Line => write_path(out, &path(&series.points, x, y), look),
        Style::Dots => {
            for &(at, value) in &series.points {
                if x.shows(at) && y.shows(value) {
                    let told = format!("{}, {}", number(at), number(value));
                    write_marker(out, look, x.place(at), y.place(value), Some(&told));
                }
            }
        }
    }
}

/// The commands that join the points; a point that cannot be shown breaks the line.
fn path(points: &[(f64, f64)], x: &Axis, y: &Axis) -> String {
    let mut out = String::new();
    let mut command = 'M';
    for &(at, value) in points {
        if !x.shows(at) || !y.shows(value) {
            command = 'M';
            continue;
        }
        let _ = write!(out, "{command}{:.1} {:.1}", x.place(at), y.place(value));
        command = 'L';
    }
    out
}

fn write_path(out: &mut String, path: &str, look: Look) {
    let dash = match look.dash {
        "" => String::new(),
        dash => format!(" stroke-dasharray=\"{dash}\""),
    };
    let _ = writeln!(
        out,
        "<path d=\"{path}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{dash}/>",
        look.colour
    );
}

/// A marker around a place; `told` is what a pointer on it reads.
fn write_marker(out: &mut String, look: Look, x: f64, y: f64, told: Option<&str>) {
    let around = |path: &str| format!("M{x:.1} {y:.1}{path}");
    let path = match look.marker {
        Marker::Circle => around("m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z"),
        Marker::Square => around("m-3.5 -3.5h7v7h-7z"),
        Marker::Triangle => around("m0 -5l4.5 8h-9z"),
        Marker::Diamond => around("m0 -5l5 5l-5 5l-5 -5z"),
        Marker::Cross => around("m-4 -4l8 8m0 -8l-8 8"),
    };
    let told = told.map_or_else(String::new, |told| format!("<title>{told}</title>"));
    let _ = writeln!(
        out,
        "<path d=\"{path}\" fill=\"{0}\" fill-opacity=\".5\" stroke=\"{0}\" stroke-width=\"1.5\">{told}</path>",
        look.colour
    );
}

/// Values along one side, and where they lie in the picture.
struct Axis {
    low: f64,
    high: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis that holds all values, of which there is one at least, with a little air.
    fn over(values: impl Iterator<Item = f64> + Clone, log: bool, from: f64, to: f64) -> Self {
        let scaled = values.map(|value| if log { value.log10() } else { value });
        let low = scaled.clone().fold(f64::INFINITY, f64::min);
        let high = scaled.fold(f64::NEG_INFINITY, f64::max);
        let air = match (high - low) * 0.04 {
            0.0 if log => 0.3,
            0.0 => (low.abs() * 0.1).max(0.5),
            air => air,
        };
        Self {
            low: low - air,
            high: high + air,
            log,
            from,
            to,
        }
    }

    fn shows(&self, value: f64) -> bool {
        value.is_finite() && (!self.log || value > 0.0)
    }

    fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round values that lie on the axis.
    fn ticks(&self) -> Vec<f64> {
        if !self.log {
            return linear_ticks(self.low, self.high);
        }
        let (first, last) = (self.low.floor() as i32, self.high.ceil() as i32);
        // Many decades: some of them. Few: parts of them too. Hardly one: as if linear.
        let every = ((last - first) as f64 / TICKS).ceil().max(1.0) as i32;
        let decades = |parts: &[f64]| -> Vec<f64> {
            (first..=last)
                .filter(|decade| decade.rem_euclid(every) == 0)
                .flat_map(|decade| parts.iter().map(move |part| part * 10f64.powi(decade)))
                .filter(|tick| (self.low..=self.high).contains(&tick.log10()))
                .collect()
        };
        let coarse = decades(&[1.0]);
        if coarse.len() >= 4 {
            return coarse;
        }
        let fine = decades(&[1.0, 2.0, 5.0]);
        if fine.len() >= 3 {
            return fine;
        }
        linear_ticks(10f64.powf(self.low), 10f64.powf(self.high))
    }
}

/// Multiples of 1, 2 or 5 times a power of ten between two values.
fn linear_ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let step = match rough / power {
        part if part < 1.5 => power,
        part if part < 3.5 => 2.0 * power,
        part if part < 7.5 => 5.0 * power,
        _ => 10.0 * power,
    };
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|n| n as f64 * step).collect()
}

/// A number as people write it: at most five digits, powers of ten where it is far from 1.
pub fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if !value.is_finite() {
        return "-".into();
    }
    if !(1e-3..1e5).contains(&value.abs()) {
        let text = format!("{value:.3e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        let digits = match digits.contains('.') {
            true => digits.trim_end_matches('0').trim_end_matches('.'),
            false => digits,
        };
        return format!("{digits}e{power}");
    }
    let decimals = (4 - value.abs().log10().floor() as i32).clamp(0, 7) as usize;
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A page with a heading and sections, each a heading and its HTML (which is taken as it is).
pub fn html_page(title: &str, sections: &[(String, String)]) -> String {
    let title = escaped(title);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    for (heading, body) in sections {
        let _ = writeln!(out, "<h2>{}</h2>\n{body}", escaped(heading));
    }
    out.push_str("</body></html>\n");
    out
}

/// A table as HTML; its cells are text.
pub fn html_table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut out = String::from("<table>\n<tr>");
    for name in head {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escaped(name));
    }
    out.push_str("</tr>\n");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            let _ = write!(out, "<td>{}</td>", escaped(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table>\n");
    out
}

/// Text as it stands in HTML, attributes included.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(low: f64, high: f64, log: bool) -> Axis {
        Axis::over([low, high].into_iter(), log, 0.0, 100.0)
    }

    #[test]
    fn ticks_are_round_and_lie_on_the_axis() {
        let ticks = |low, high, log| -> Vec<String> {
            let axis = axis(low, high, log);
            axis.ticks().into_iter().map(number).collect()
        };
        assert_eq!(
            ticks(0.0, 1.0, false),
            ["0", "0.2", "0.4", "0.6", "0.8", "1"]
        );
        assert_eq!(ticks(2.31, 2.37, false)[..3], ["2.31", "2.32", "2.33"]);
        assert_eq!(ticks(1e18, 1e21, true), ["1e18", "1e19", "1e20", "1e21"]);
        assert_eq!(
            ticks(1e-3, 2e-2, true),
            ["0.001", "0.002", "0.005", "0.01", "0.02"]
        );
        assert_eq!(
            ticks(3.1, 3.4, true),
            ["3.1", "3.15", "3.2", "3.25", "3.3", "3.35", "3.4"]
        );
        // A single value has an axis too.
        assert!(!ticks(5.0, 5.0, false).is_empty());
        assert!(!ticks(0.0, 0.0, false).is_empty());
        assert!(!ticks(5.0, 5.0, true).is_empty());
        let many = ticks(1e-12, 1e30, true);
        assert!(many.len() < 10, "{many:?}");
    }

    #[test]
    fn numbers_are_short() {
        let written: Vec<String> = [0.0, 1.0, 12345.6, 1e5, 2.5e18, 0.012, 1e-4, -3.25, f64::NAN]
            .into_iter()
            .map(number)
            .collect();
        assert_eq!(
            written,
            [
                "0", "1", "12346", "1e5", "2.5e18", "0.012", "1e-4", "-3.25", "-"
            ]
        );
    }

    #[test]
    fn what_an_axis_cannot_show_breaks_the_line_and_is_left_out() {
        let plot = Plot {
            title: "a < b & \"c\"".into(),
            log_y: true,
            series: vec![Series {
                name: "one".into(),
                points: vec![
                    (1.0, 1.0),
                    (2.0, 0.0),
                    (3.0, 10.0),
                    (4.0, f64::NAN),
                    (5.0, 100.0),
                ],
                ..Series::default()
            }],
            ..Plot::default()
        };
        let svg = plot.svg();
        assert!(svg.contains("a &lt; b &amp; &quot;c&quot;"), "{svg}");
        let line = svg.lines().find(|line| line.contains("stroke-width=\"2\""));
        let line = line.expect("a line");
        assert_eq!(
            (line.matches('M').count(), line.matches('L').count()),
            (3, 0),
            "{line}"
        );
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(Plot::default().svg().contains("nothing to show"));
    }

    #[test]
    fn a_curve_looks_like_its_points_and_unlike_others() {
        let series = |name: &str, style| Series {
            name: name.into(),
            points: vec![(1.0, 1.0), (2.0, 2.0)],
            style,
            band: (style == Style::Line).then(|| vec![(1.0, 0.5, 1.5), (2.0, 1.0, 3.0)]),
        };
        let plot = Plot {
            series: vec![
                series("first", Style::Line),
                series("first", Style::Dots),
                series("second", Style::Line),
                series("", Style::Dots),
            ],
            ..Plot::default()
        };
        let svg = plot.svg();
        assert_eq!(svg.matches(">first</text>").count(), 1);
        assert_eq!(svg.matches("fill-opacity=\".18\"").count(), 2);
        let solid = svg.matches("stroke-width=\"2\"/>").count();
        let dashed = svg.matches("stroke-dasharray=\"7 4\"").count();
        assert_eq!(
            (solid, dashed),
            (2, 2),
            "each line, and again in the legend"
        );
        // Points of the first and of the nameless series, and the first's marker in the legend.
        assert_eq!(svg.matches("stroke-width=\"1.5\"").count(), 5);
        assert_eq!(svg.matches("<title>").count(), 4);
    }

    #[test]
    fn pages_stand_alone() {
        let table = html_table(&["size", "a&b"], &[vec!["s<1".into(), "2".into()]]);
        let page = html_page("Loss & more", &[("Table".into(), table)]);
        for part in [
            "<title>Loss &amp; more</title>",
            "<td>s&lt;1</td>",
            "a&amp;b",
            "</html>",
        ] {
            assert!(page.contains(part), "{part}");
        }
        for foreign in ["<script", "http", "src=", "@import"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }
}
