//! Prose about recorded runs says what the traces say, and all of it can be read back.

use std::collections::{BTreeMap, HashMap, HashSet};

use cwm_data::scrub::Scrubber;
use cwm_data::text::prose::{
    Fact, Limits, RewriteError, Rewriter, facts, final_output, prose, read_facts, rewritten,
    write_facts,
};
use cwm_data::text::{Content, Material, Origin, Skip, TraceProse};
use cwm_data::{Level, generate};
use cwm_trace::{End, Entry, EventKind, Trace};
use cwm_tracer::{Batch, BatchOptions, Interpreter};

const PROGRAM: &str = r#"
class Acc:
    total = 0

    def add(self, n):
        self.total += n
        return self

def gen(n):
    for i in range(n):
        got = yield i

def f(x):
    a = Acc()
    for i in gen(x):
        a.add(i)
    try:
        raise ValueError('a`b. And; c, and ``d`` 12')
    except ValueError as e:
        x = [j for j in range(2)]
    del x
    total = 0
    for k in range(3, 12):
        total += k
    while total > 30:
        for z in range(4):
            total -= z
        total -= 1
    if total == 29:
        return {'a': total, 'b': a.total}
    return 1

def g(x):
    return h(x - 1) if x else 1 / x

def h(x):
    return g(x)
"#;

fn traces(programs: &[(&str, Entry)]) -> Option<Vec<Trace>> {
    let Ok(interpreter) = Interpreter::find(None) else {
        eprintln!("skipped: there is no Python 3.8 or later on the PATH");
        return None;
    };
    let mut batch = Batch::start(&interpreter, BatchOptions::default()).expect("it starts");
    let runs = batch.programs("program.py", programs).expect("it runs");
    Some(
        runs.into_iter()
            .map(|run| run.trace.expect("a trace"))
            .collect(),
    )
}

fn call(function: &str, args: &str) -> Entry {
    Entry::Call {
        function: function.into(),
        args: args.into(),
    }
}

/// Runs of a program with everything in it, and of generated ones.
fn many() -> Option<Vec<Trace>> {
    let generated: Vec<_> = (0..40)
        .map(|index| generate(5, index, Level::ALL[index as usize % 4]))
        .collect();
    let mut programs: Vec<(&str, Entry)> = generated
        .iter()
        .map(|program| (&*program.source, program.entry.clone()))
        .collect();
    programs.push((PROGRAM, call("f", "3")));
    programs.push((PROGRAM, call("g", "2")));
    programs.push((
        "print('a', 1)\nx = [i for i in range(9)]\nprint(x)\n",
        Entry::Module,
    ));
    programs.push(("import sys\nprint(1)\nsys.exit(3)\n", Entry::Module));
    traces(&programs)
}

fn material() -> Material {
    Material {
        licence: "MIT".into(),
        origin: Origin {
            project: "tests".into(),
            version: "1".into(),
            path: "program.py".into(),
        },
    }
}

fn told(trace: &Trace, seed: u64) -> Result<TraceProse, Skip> {
    let document = prose(
        trace,
        seed,
        &material(),
        &Limits::default(),
        &Scrubber::default(),
    )?;
    match document.content {
        Content::TraceProse(prose) => Ok(prose),
        other => panic!("no prose but {other:?}"),
    }
}

#[test]
fn all_that_is_said_is_read_back_and_true() {
    let Some(traces) = many() else { return };
    let mut texts = HashSet::new();
    for (number, trace) in traces.iter().enumerate() {
        let truth = facts(trace);
        for seed in 0..5 {
            let text = write_facts(&truth, seed);
            let stated =
                read_facts(&text).unwrap_or_else(|error| panic!("{number}: {error}\n{text}"));
            assert_eq!(stated.len(), truth.len(), "{text}");
            for (stated, truth) in stated.iter().zip(&truth) {
                assert!(stated.agrees(truth), "{stated:?} but {truth:?} in {text}");
            }
            texts.insert(text);
        }
    }
    // Seeds choose other words.
    assert!(texts.len() > traces.len() * 4, "{}", texts.len());
}

/// The two values of each `` LEFT `a` MIDDLE `b` `` in a text.
fn spans<'a>(text: &'a str, left: &str, middle: &str) -> Vec<(&'a str, &'a str)> {
    let pair = |(at, _): (usize, &str)| {
        let (first, rest) = text[at + left.len()..].strip_prefix('`')?.split_once('`')?;
        let second = rest.strip_prefix(middle)?.strip_prefix('`')?;
        let second = second.split_once('`')?.0;
        // Spans with backticks in them have longer fences, and are left to the other tests.
        (!first.is_empty() && !second.is_empty()).then_some((first, second))
    };
    text.match_indices(left).filter_map(pair).collect()
}

#[test]
fn the_words_mean_what_they_say() {
    let Some(traces) = many() else { return };
    let mut checked = [0; 3];
    for trace in &traces {
        let truth = facts(trace);
        let (mut changes, mut values) = (HashSet::new(), HashSet::new());
        for fact in &truth {
            if let Fact::Becomes { name, value, from } = fact {
                changes.extend(from.as_deref().map(|from| (from, value.as_str())));
                values.insert((name.as_str(), value.as_str()));
            }
        }
        for seed in 0..5 {
            // Without looking at the table of forms, which reading and writing share.
            let text = write_facts(&truth, seed);
            for middle in [" to ", " into "] {
                for found in spans(&text, "from ", middle) {
                    assert!(changes.contains(&found), "{found:?} in {text}");
                    checked[0] += 1;
                }
            }
            for (left, middle) in [
                (" sets ", " to "),
                ("", " becomes "),
                (" gives ", " the value "),
            ] {
                for found in spans(&text, left, middle) {
                    assert!(values.contains(&found), "{found:?} in {text}");
                    checked[1] += 1;
                }
            }
            for found in spans(&text, "", " returns ") {
                let is_true = |fact: &Fact| matches!(fact, Fact::Returned { function, value } if (function.as_str(), value.as_str()) == found);
                assert!(truth.iter().any(is_true), "{found:?} in {text}");
                checked[2] += 1;
            }
        }
    }
    assert!(checked.iter().all(|&count| count > 50), "{checked:?}");
}

/// Plays facts: the variables of each function by its name, as they are at the end.
fn played(facts: &[Fact]) -> HashMap<String, BTreeMap<String, String>> {
    let mut stack: Vec<String> = Vec::new();
    let mut variables: HashMap<String, BTreeMap<String, String>> = HashMap::new();
    let mut current = String::new();
    for fact in facts {
        match fact {
            Fact::Called {
                function,
                arguments,
                ..
            } => {
                stack.push(function.clone());
                current.clone_from(function);
                variables.insert(function.clone(), arguments.iter().cloned().collect());
            }
            Fact::In { function } | Fact::Resumed { function } => current.clone_from(function),
            Fact::Becomes { name, value, .. } => {
                let own = variables.entry(current.clone()).or_default();
                own.insert(name.clone(), value.clone());
            }
            Fact::Unbound { name } => {
                variables.entry(current.clone()).or_default().remove(name);
            }
            Fact::Left { variables: left } => {
                variables
                    .entry(current.clone())
                    .or_default()
                    .extend(left.iter().cloned());
            }
            _ => {}
        }
    }
    variables
}

#[test]
fn statements_about_variables_lead_to_what_the_trace_ends_with() {
    let Some(traces) = many() else { return };
    let mut checked = 0;
    for trace in &traces {
        let text = write_facts(&facts(trace), 1);
        let found = played(&read_facts(&text).expect("our own words"));
        let mut wanted: HashMap<String, BTreeMap<String, String>> = HashMap::new();
        for event in &trace.events {
            if matches!(
                event.kind,
                EventKind::Exception | EventKind::Yield | EventKind::Resume
            ) {
                continue;
            }
            let function = &trace.functions[event.function as usize].name;
            let own = event
                .locals
                .iter()
                .filter(|local| !local.name.starts_with('.'));
            let own = own.map(|l| (l.name.to_string(), l.value.detailed().to_string()));
            wanted.insert(function.clone(), own.collect());
        }
        // Of functions that call themselves or run side by side, a name does not say which one is meant.
        for (function, variables) in wanted {
            let calls = trace.events.iter().filter(|e| e.kind.enters());
            let calls = calls.filter(|e| trace.functions[e.function as usize].name == function);
            if calls.count() == 1 {
                assert_eq!(found.get(&function), Some(&variables), "{function}: {text}");
                checked += variables.len();
            }
        }
    }
    assert!(checked > 100, "{checked}");
}

#[test]
fn long_loops_are_summed_up_and_the_rest_is_told() {
    let Some(traces) = traces(&[(PROGRAM, call("f", "3"))]) else {
        return;
    };
    let all = facts(&traces[0]);
    let repeats: Vec<_> = all
        .iter()
        .filter_map(|fact| match fact {
            Fact::Repeats { line, times } => Some((*line, *times)),
            _ => None,
        })
        .collect();
    // Nine rounds on line 23, of which two are told; the others have too few to sum up, or call functions.
    assert_eq!(repeats[0], (23, 7));
    assert!(all.contains(&Fact::Took {
        name: "k".into(),
        values: (5..12).map(|k| k.to_string()).collect(),
    }));
    assert!(all.iter().any(|fact| matches!(fact, Fact::Left { variables } if variables.contains(&("total".into(), "63".into())))));
    let outcomes = all.iter().filter_map(|fact| match fact {
        Fact::Ran {
            line,
            holds: Some(holds),
            next,
            ..
        } => Some((*line, *holds, *next)),
        _ => None,
    });
    let mut outcomes: Vec<_> = outcomes.collect();
    outcomes.dedup();
    let (inside, behind, last) = (Some(26), Some(29), Some(31));
    let wanted = [(25, true, inside), (25, false, behind), (29, false, last)];
    assert_eq!(outcomes, wanted);
    let told = told(&traces[0], 3).expect("prose");
    assert_eq!(
        told.output,
        format!(
            "{}\n",
            traces[0]
                .events
                .last()
                .and_then(|e| e.value.clone())
                .expect("a value")
                .repr
        )
    );
}

#[test]
fn documents_are_read_back_and_state_the_final_output() {
    let Some(traces) = many() else { return };
    let mut outputs = Vec::new();
    for trace in &traces {
        let Ok(prose) = told(trace, 9) else { continue };
        let rendered = Content::TraceProse(prose.clone()).render();
        let found = TraceProse::parse(&rendered).expect("our own form");
        assert_eq!(found, prose);
        assert_eq!(found.output, final_output(trace));
        assert_eq!(found.source, trace.source);
        outputs.push(found.output);
        assert_eq!(told(trace, 9), Ok(prose));
    }
    let last: Vec<&str> = outputs
        .iter()
        .rev()
        .take(3)
        .rev()
        .map(String::as_str)
        .collect();
    assert_eq!(
        last,
        [
            "raises ZeroDivisionError('division by zero')\n",
            "a 1\n[0, 1, 2, 3, 4, 5, 6, 7, 8]\n",
            "1\nexits with status 3\n"
        ]
    );
}

#[test]
fn runs_that_cannot_be_told_are_counted_by_reason() {
    let Some(traces) = traces(&[
        ("def f(x):\n    return x\n", call("f", "'a.b@corp.io'")),
        (PROGRAM, call("f", "1")),
    ]) else {
        return;
    };
    assert_eq!(told(&traces[0], 1), Err(Skip::Private));
    let changed = |change: &dyn Fn(&mut Trace)| {
        let mut trace = traces[1].clone();
        change(&mut trace);
        told(&trace, 1)
    };
    assert!(changed(&|_| {}).is_ok());
    assert_eq!(
        changed(&|trace| trace.end = End::Timeout(1.0)),
        Err(Skip::Unfinished)
    );
    assert_eq!(changed(&|trace| trace.events.clear()), Err(Skip::Empty));
    assert_eq!(
        changed(&|trace| trace.source = "x".repeat(1 << 20)),
        Err(Skip::TooLarge)
    );
    let cut = |trace: &mut Trace| {
        let event = trace
            .events
            .iter_mut()
            .find(|event| !event.locals.is_empty());
        event.expect("locals").locals[0].value.truncated = true;
    };
    assert_eq!(changed(&cut), Err(Skip::CutValues));
}

/// Answers with what it was given.
struct Double(&'static str);

impl Rewriter for Double {
    fn name(&self) -> &str {
        "double"
    }

    fn rewrite(&self, request: &str) -> Result<String, RewriteError> {
        assert!(
            request.contains("def f(x):") && request.contains("```\n4\n```"),
            "{request}"
        );
        match self.0 {
            "" => Err(RewriteError {
                model: "double".into(),
                reason: "no connection".into(),
            }),
            answer => Ok(answer.to_owned()),
        }
    }
}

#[test]
fn a_rewrite_is_kept_if_its_final_output_is_true() {
    let Some(traces) = traces(&[("def f(x):\n    return x + 1\n", call("f", "3"))]) else {
        return;
    };
    let prose = told(&traces[0], 1).expect("prose");
    let answer = |text| rewritten(&prose, &Double(text));
    let good = answer("We add one.\n\nFinal output:\n\n```\n4\n```\n").expect("an answer");
    let good = good.expect("a true one");
    assert_eq!(
        (&*good.text, &*good.rewritten_by),
        ("We add one.", "double")
    );
    let rendered = Content::TraceProse(good).render();
    assert!(TraceProse::parse(&rendered).is_ok());
    for (text, reason) in [
        (
            "We add one.\n\nFinal output:\n```\n5\n```",
            Skip::NotFaithful,
        ),
        ("We add one.\n\nFinal output: 4", Skip::Malformed),
        ("It is 4.", Skip::Malformed),
        ("Final output:\n```\n4\n```", Skip::Malformed),
        (
            "## Final output\n\nx\nFinal output:\n```\n4\n```",
            Skip::Malformed,
        ),
    ] {
        assert_eq!(answer(text).expect("an answer"), Err(reason), "{text}");
    }
    let error = answer("").expect_err("no connection");
    assert_eq!(
        error.to_string(),
        "the model `double` did not rewrite a text: no connection"
    );
}

#[test]
fn text_of_others_is_no_prose_of_ours() {
    for text in [
        "Hello.",
        "Line 3 sets `x` to.",
        "Line sets `x` to `1`.",
        "`a",
        "Line 99999999999 runs.",
    ] {
        assert!(read_facts(text).is_err(), "{text}");
    }
    assert_eq!(read_facts(""), Ok(vec![]));
}
