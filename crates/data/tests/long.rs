//! Level 6: every idiom gives long runs that are kept, most programs are, and no two builds differ.
//!
//! Where there is no interpreter, the tests that need one say that they are skipped.

use std::collections::{BTreeMap, HashSet};

use cwm_data::{Level, Program, Rejection, coverage, events_of, fingerprint, generate, judge};
use cwm_trace::Trace;
use cwm_tracer::{Batch, BatchOptions, Interpreter, Limits};

fn programs(seed: u64, count: u64) -> Vec<Program> {
    (0..count)
        .map(|index| generate(seed, index, Level::Six))
        .collect()
}

/// Names of the idioms of level 6, as they stand in their files.
fn families() -> HashSet<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/idioms");
    let files = std::fs::read_dir(folder).expect("idioms").map(|entry| {
        let path = entry.expect("readable").path();
        std::fs::read_to_string(path).expect("text")
    });
    let text = files.collect::<String>();
    let headers = text.lines().filter_map(|line| line.strip_prefix("== "));
    let long = headers.filter_map(|header| {
        let (name, rest) = header.split_once(' ')?;
        (rest.split(' ').next() == Some("6")).then(|| name.to_owned())
    });
    long.collect()
}

/// How each program runs; `None` where there is no interpreter.
fn runs(programs: &[Program]) -> Option<Vec<Option<Trace>>> {
    let Ok(interpreter) = Interpreter::find(None) else {
        eprintln!("skipped: there is no Python 3.8 or later on the PATH");
        return None;
    };
    let options = BatchOptions {
        limits: Limits {
            max_events: 4_100,
            ..Limits::default()
        },
        ..BatchOptions::default()
    };
    let mut batch = Batch::start(&interpreter, options).expect("it starts");
    let sources: Vec<_> = programs
        .iter()
        .map(|p| (&*p.source, p.entry.clone()))
        .collect();
    let runs = batch.programs("program.py", &sources).expect("runs");
    Some(runs.into_iter().map(|run| run.trace).collect())
}

/// How the programs of one idiom fared.
#[derive(Default, Debug)]
struct Fate {
    events: Vec<usize>,
    rejected: BTreeMap<Rejection, usize>,
    example: Option<String>,
}

#[test]
fn every_idiom_gives_long_runs_that_are_kept() {
    let families = families();
    assert!(families.len() >= 60, "{} idioms", families.len());
    let programs = programs(31, 20 * families.len() as u64);
    let Some(runs) = runs(&programs) else {
        return;
    };
    let mut fates: BTreeMap<&str, Fate> = BTreeMap::new();
    for (program, trace) in programs.iter().zip(&runs) {
        let fate = fates.entry(program.family).or_default();
        let judged = trace
            .as_ref()
            .map_or(Err(Rejection::NotPython), |trace| judge(program, trace));
        match (judged, trace) {
            (Ok(()), Some(trace)) => fate.events.push(trace.events.len()),
            (Err(reason), trace) => {
                *fate.rejected.entry(reason).or_default() += 1;
                let end = trace.as_ref().map(|t| (&t.end, t.events.len()));
                fate.example = Some(format!("{reason}: {end:?}\n{}", program.source));
            }
            (Ok(()), None) => unreachable!("what did not run is not kept"),
        }
    }
    let mut all: Vec<usize> = Vec::new();
    for family in &families {
        let fate = fates
            .get(&**family)
            .unwrap_or_else(|| panic!("{family} is never made"));
        let rejected: usize = fate.rejected.values().sum();
        assert!(
            fate.events.len() > rejected,
            "{family}: {} kept, left out {:?}: {}",
            fate.events.len(),
            fate.rejected,
            fate.example.as_deref().unwrap_or_default()
        );
        all.extend(&fate.events);
    }
    all.sort_unstable();
    let median = all[all.len() / 2];
    assert!(
        all.len() * 10 >= programs.len() * 9,
        "{} of {} kept",
        all.len(),
        programs.len()
    );
    assert!((300..=1_200).contains(&median), "median {median}");
}

#[test]
fn programs_are_varied() {
    let made = programs(32, 3_000);
    assert_eq!(made[..200], programs(32, 200));
    assert_ne!(made[..50], programs(33, 50));
    let prints: HashSet<_> = made
        .iter()
        .map(|p| fingerprint(&p.source, &p.entry))
        .collect();
    assert!(prints.len() >= 2_900, "{} distinct programs", prints.len());
    let report = coverage(&made);
    assert!(report.families.len() >= 60, "{report}");
    assert!(made.iter().all(|p| p.level == 6 && !p.may_raise));
    assert_eq!(events_of(6), 150..=4_000);
    assert_eq!(events_of(5), 3..=120);
}
