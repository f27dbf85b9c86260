//! The views of a trace for people: listing, timeline, statistics.

mod literate;

use cwm_trace::statistics::Statistics;
use cwm_trace::{End, Trace, listing, perfetto};
use proptest::prelude::*;

const SOURCE: &str = "\
def half(n):
    if n % 2:
        raise ValueError('odd')
    return n // 2

def f(n):
    try:
        half(n)
    except ValueError as e:
        del n
    return 'done'
";

const TABLE: &str = r#"entry f
call f 6 {"n": "3"}
line f 7 {"n": "3"}
line f 8 {"n": "3"}
call half 1 {"n": "3"}
line half 2 {"n": "3"}
line half 3 {"n": "3"}
exception half 3 "ValueError('odd')"
unwind half 3 {"n": "3"}
exception f 8 "ValueError('odd')"
line f 9 {"n": "3"}
line f 10 {"n": "3", "e": "ValueError('odd')"}
line f 11 {}
return f 11 {} "'done'"
"#;

fn trace() -> Trace {
    literate::trace(SOURCE, TABLE)
}

#[test]
fn a_listing_shows_lines_depth_and_changes() {
    let text = listing::listing(&trace(), 13);
    let body = text.split_once('\n').expect("a heading").1;
    insta::assert_snapshot!(body, @r"
     0  call f  # n = 3
     1         7 |     try:
     2         8 |         half(n)
     3      call half  # n = 3
     4             2 |     if n % 2:
     5             3 |         raise ValueError('odd')
     6          exception ValueError('o…
     7      unwind half
     8      exception ValueError('o…
     9         9 |     except ValueError as e:
    10        10 |         del n  # e = ValueError('o…
    11        11 |     return 'done'  # del n, del e
    12  return 'done'
    ");
}

#[test]
fn a_timeline_has_a_slice_for_each_activation_and_line() {
    let timeline = perfetto::perfetto(&trace());
    let events = timeline["traceEvents"].as_array().expect("an array");
    let shown: Vec<String> = events[1..]
        .iter()
        .map(|e| {
            format!(
                "{} {} {}",
                e["ts"],
                e["ph"].as_str().unwrap_or("?"),
                e["name"]
            )
        })
        .map(|line| line.replace(" null", ""))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    0 B "f"
    1 B "7: try:"
    2 E
    2 B "8: half(n)"
    3 B "half"
    4 B "2: if n % 2:"
    5 E
    5 B "3: raise ValueError('odd')"
    6 i "ValueError('odd')"
    7 E
    7 E
    8 i "ValueError('odd')"
    9 E
    9 B "9: except ValueError as e:"
    10 E
    10 B "10: del n"
    11 E
    11 B "11: return 'done'"
    12 E
    12 E
    "#);
}

#[test]
fn statistics_add_up() {
    let mut statistics = Statistics::default();
    assert_eq!(statistics.report().events_per_trace.max, 0);
    statistics.add(&trace());
    let mut cut = trace();
    cut.events.truncate(4);
    cut.end = End::MaxEvents(4);
    statistics.add(&cut);
    let report = statistics.report();
    assert_eq!((report.traces, report.events), (2, 17));
    assert_eq!(report.kinds["line"], 9);
    assert_eq!(report.ends["max_events"], 1);
    let summary = report.events_per_trace;
    assert_eq!((summary.min, summary.median, summary.max), (4, 4, 13));
    assert_eq!(summary.mean, 8.5);
    assert_eq!(report.depth_per_trace.max, 2);
    assert_eq!(report.locals_per_line.max, 2);
}

proptest! {
    /// Slices nest, and each event has its line in the listing, whatever is
    /// left out of the trace.
    #[test]
    fn any_part_of_a_trace_can_be_viewed(kept in prop::collection::vec(any::<bool>(), 13)) {
        let mut trace = trace();
        let mut keep = kept.iter();
        trace.events.retain(|_| *keep.next().unwrap_or(&true));
        let listed = listing::listing(&trace, 60).lines().count();
        prop_assert!(listed > trace.events.len());
        let timeline = perfetto::perfetto(&trace);
        let mut open = 0_i32;
        for event in timeline["traceEvents"].as_array().into_iter().flatten() {
            match event["ph"].as_str() {
                Some("B") => open += 1,
                Some("E") => open -= 1,
                _ => {}
            }
            prop_assert!(open >= 0);
        }
        prop_assert_eq!(open, 0);
    }
}
