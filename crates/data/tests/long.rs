//! Level 6: every idiom gives long runs that are kept, nearly all programs are, and no two builds differ.
//!
//! Where there is no interpreter, the tests that need one say that they are skipped.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;

use cwm_data::{
    Distinct, Level, Plan, Program, Record, Rejection, build, coverage, events_of, fingerprint,
    generate, judge, read_records, read_shard, write_shard,
};
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

/// What a build of level 6 and a few others writes; `None` where there is no interpreter.
fn built(threads: usize) -> Option<Vec<u8>> {
    let Ok(interpreter) = Interpreter::find(None) else {
        eprintln!("skipped: there is no Python 3.8 or later on the PATH");
        return None;
    };
    let plan = Plan {
        seed: 34,
        count: 260,
        mix: [1, 0, 0, 0, 1, 8].into(),
        drills: 0,
        distinct: Distinct::All,
        threads,
        excluded: HashSet::new(),
    };
    let mut out = Vec::new();
    build(&plan, &interpreter, &mut out, |_| {}).expect("the build succeeds");
    Some(out)
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let (Some(one), Some(three)) = (built(1), built(3)) else {
        return;
    };
    assert!(
        one == three,
        "one and three threads wrote different records"
    );
    let records: Vec<Record> = read_records(&one[..])
        .map(|record| record.expect("a whole record"))
        .collect();
    let long = |record: &&Record| record.origin.level() == Some(6);
    let events = records.iter().filter(long).map(|r| r.trace.events.len());
    let events: Vec<usize> = events.collect();
    assert!(events.len() > 150 && events.len() < 250, "{}", events.len());
    assert!(events.iter().all(|events| events_of(6).contains(events)));
    assert!(events.iter().any(|&events| events > 1_000));

    // Records as long as these are written page by page.
    let mut bytes = Vec::new();
    write_shard(&records, "long", &mut bytes).expect("a shard");
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&bytes).expect("written");
    assert!(read_shard(file).expect("a shard") == records);
    for line in one
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let record: Record = serde_json::from_slice(line).expect("a record");
        assert!(serde_json::to_vec(&record).expect("JSON") == line);
    }
}
