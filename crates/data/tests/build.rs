//! Building a data set end to end, with the real interpreter.

use std::collections::HashSet;

use cwm_data::minhash::{NearIndex, Signature};
use cwm_data::{
    Distinct, Origin, Plan, Record, Rejection, Report, build, fingerprint, generate, read_records,
};
use cwm_tracer::Interpreter;

fn plan(count: usize, threads: usize) -> Plan {
    Plan {
        seed: 21,
        count,
        mix: [1, 1, 1, 1].into(),
        distinct: Distinct::default(),
        drills: 0,
        threads,
        excluded: HashSet::new(),
    }
}

/// The bytes and the report of a build; `None` where there is no interpreter.
fn run(plan: &Plan) -> Option<(Vec<u8>, Report)> {
    let Ok(interpreter) = Interpreter::find(None) else {
        eprintln!("skipped: there is no Python 3.8 or later on the PATH");
        return None;
    };
    let mut out = Vec::new();
    let report = build(plan, &interpreter, &mut out, |_| {}).expect("the build succeeds");
    Some((out, report))
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let Some((one, report)) = run(&plan(60, 1)) else {
        return;
    };
    let Some((three, _)) = run(&plan(60, 3)) else {
        return;
    };
    assert!(
        one == three,
        "one thread and three threads wrote different records"
    );
    assert_eq!(report.kept, 60);
    let rejected: usize = report.rejected.values().sum();
    assert!(rejected * 5 <= report.candidates, "{report:?}");
}

#[test]
fn records_hold_the_generated_programs() {
    let Some((bytes, _)) = run(&plan(40, 2)) else {
        return;
    };
    let records: Vec<_> = read_records(&bytes[..])
        .map(|record| record.expect("a whole record"))
        .collect();
    assert_eq!(records.len(), 40);
    let mut before = None;
    for record in &records {
        let Origin::Generated { seed, index, level } = record.origin else {
            panic!("{:?}", record.origin);
        };
        assert!(before.replace(index) < Some(index));
        let level = level.try_into().expect("a level");
        let program = generate(seed, index, level);
        assert_eq!(record.trace.source, program.source);
        assert_eq!(record.trace.entry, program.entry);
        assert!(record.trace.end.is_complete());
        assert!((3..=120).contains(&record.trace.events.len()));
    }
}

#[test]
fn excluded_programs_do_not_appear() {
    let Some((bytes, _)) = run(&plan(20, 2)) else {
        return;
    };
    let first: HashSet<_> = read_records(&bytes[..])
        .map(|record| record.expect("a whole record").trace)
        .map(|trace| fingerprint(&trace.source, &trace.entry))
        .collect();
    let Some((bytes, report)) = run(&Plan {
        excluded: first.clone(),
        ..plan(20, 2)
    }) else {
        return;
    };
    assert!(report.candidates >= 40);
    for record in read_records(&bytes[..]) {
        let trace = record.expect("a whole record").trace;
        assert!(!first.contains(&fingerprint(&trace.source, &trace.entry)));
    }
}

fn records(bytes: &[u8]) -> Vec<Record> {
    read_records(bytes)
        .map(|record| record.expect("a whole record"))
        .collect()
}

/// A plan whose programs are of two levels that have many that are alike.
fn alike(distinct: Distinct) -> Plan {
    Plan {
        mix: [0, 0, 0, 1, 1].into(),
        distinct,
        ..plan(700, 2)
    }
}

#[test]
fn near_duplicates_are_left_out_where_the_plan_says() {
    let Some((wide, report)) = run(&alike(Distinct::Wide)) else {
        return;
    };
    let near = |report: &Report| report.rejected.get(&Rejection::NearDuplicate).copied();
    assert!(near(&report).is_some(), "{report:?}");
    let Some((all, more)) = run(&alike(Distinct::All)) else {
        return;
    };
    assert!(near(&more) > near(&report), "{more:?} {report:?}");
    for (bytes, compared) in [(wide, 5..=5), (all, 4..=5)] {
        let mut index = NearIndex::default();
        for record in records(&bytes) {
            let level = record.origin.level().expect("it is generated");
            if compared.contains(&level) {
                let signature = Signature::of(&record.trace.source, &record.trace.entry);
                assert_eq!(index.find(&signature), None, "{}", record.trace.source);
                index.insert(signature);
            }
        }
    }
}
