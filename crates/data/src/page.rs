//! A census as one HTML page that needs nothing else: no script, no font, no network.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use crate::census::{CensusReport, Histogram};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}\
td,th{text-align:left;padding:.15rem .6rem .15rem 0;vertical-align:middle;font-weight:normal}td.n{text-align:right;font-variant-numeric:tabular-nums;width:6rem}\
th{width:16rem;overflow-wrap:anywhere}.bar{background:#3b6ea8;height:.8rem;display:block;min-width:1px}\
@media(prefers-color-scheme:dark){body{color:#e4e7eb;background:#14171a}.bar{background:#6ea3dd}}";

/// Rows of a long table; the rest is counted together.
const MOST_ROWS: usize = 60;

/// Writes the page. `title` says what was counted.
pub fn page(title: &str, report: &CensusReport) -> String {
    let mut page = Page { out: String::new() };
    let title = escaped(title);
    let _ = write!(
        page.out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    page.overview(report);
    page.histogram("Events of a run", &report.events);
    page.histogram("Lines of a program", &report.lines);
    page.histogram("Characters of a value", &report.value_chars);
    page.counts("Events", &report.runs.kinds);
    page.counts("Values that lines bind or change", &report.values);
    page.counts("What runs give", &report.results);
    page.counts("What runs raise", &report.exceptions);
    let records = report
        .sources
        .iter()
        .map(|(name, share)| (name, share.records))
        .collect();
    page.counts("Sources, by records", &records);
    page.counts("Licences, by records", &report.licences);
    page.counts("Arguments of people's functions", &report.arguments);
    page.counts("Methods, by programs", &report.coverage.methods);
    page.counts("Builtins, by programs", &report.coverage.functions);
    page.counts("Statements, by programs", &report.coverage.statements);
    page.counts("Expressions, by programs", &report.coverage.expressions);
    page.out.push_str("</body></html>\n");
    page.out
}

struct Page {
    out: String,
}

impl Page {
    fn overview(&mut self, report: &CensusReport) {
        let of = &report.runs;
        let rows: [(&str, String); 9] = [
            ("Records", grouped(report.records)),
            ("Programs", grouped(report.programs)),
            (
                "Functions and programs kept apart in splits",
                grouped(report.groups),
            ),
            ("Of mutants", grouped(report.mutants)),
            ("Events", grouped(of.events as usize)),
            (
                "Events of a run: median, 90%, most",
                summary(&of.events_per_trace),
            ),
            (
                "Depth of a run: median, 90%, most",
                summary(&of.depth_per_trace),
            ),
            (
                "Variables of a line: median, 90%, most",
                summary(&of.locals_per_line),
            ),
            (
                "Bytes of a value: median, 90%, most",
                summary(&of.value_bytes),
            ),
        ];
        self.out.push_str("<table>\n");
        for (name, value) in rows {
            let _ = writeln!(
                self.out,
                "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>"
            );
        }
        self.out.push_str("</table>\n");
    }

    fn histogram(&mut self, title: &str, histogram: &Histogram) {
        let bins = histogram.bins().filter(|(_, count)| *count > 0);
        let name = |(low, high): (usize, usize)| {
            if low == high {
                low.to_string()
            } else {
                format!("{low} to {high}")
            }
        };
        self.table(
            title,
            &bins
                .map(|(bounds, count)| (name(bounds), count))
                .collect::<Vec<_>>(),
        );
    }

    fn counts<K: Display + Ord, N: TryInto<usize> + Copy>(
        &mut self,
        title: &str,
        counts: &BTreeMap<K, N>,
    ) {
        let number = |count: &N| (*count).try_into().unwrap_or(usize::MAX);
        let mut rows: Vec<_> = counts
            .iter()
            .map(|(name, count)| (name.to_string(), number(count)))
            .collect();
        rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        if rows.len() > MOST_ROWS {
            let rest = rows.split_off(MOST_ROWS - 1);
            let sum = rest.iter().map(|(_, count)| count).sum();
            rows.push((format!("{} others", rest.len()), sum));
        }
        self.table(title, &rows);
    }

    fn table(&mut self, title: &str, rows: &[(String, usize)]) {
        if rows.is_empty() {
            return;
        }
        let _ = writeln!(self.out, "<h2>{}</h2>\n<table>", escaped(title));
        let most = rows
            .iter()
            .map(|(_, count)| *count)
            .max()
            .unwrap_or(1)
            .max(1);
        for (name, count) in rows {
            let width = 100.0 * *count as f64 / most as f64;
            let _ = writeln!(
                self.out,
                "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td><span class=\"bar\" style=\"width:{width:.1}%\"></span></td></tr>",
                escaped(name),
                grouped(*count)
            );
        }
        self.out.push_str("</table>\n");
    }
}

fn summary(of: &cwm_trace::statistics::Summary) -> String {
    format!("{}, {}, {}", of.median, of.p90, of.max)
}

/// A number with commas between thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_written_for_people() {
        assert_eq!(
            [grouped(0), grouped(999), grouped(1234567)],
            ["0", "999", "1,234,567"]
        );
        assert_eq!(escaped("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
    }
}
