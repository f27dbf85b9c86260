//! The generator against its promises: pure, valid, terminating, within its bounds, and varied.
//!
//! Programs are run by a plain `python3`, not by the tracer, so that these tests stand on their own.
//! Where there is no `python3`, those that need it say that they are skipped.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::process::{Command, Stdio};

use cwm_data::{Level, Program, coverage, fingerprint, generate};
use cwm_trace::Entry;
use proptest::prelude::*;

/// Programs of levels 1 to 4 in equal shares.
fn sample(seed: u64, count: u64) -> Vec<Program> {
    (0..count)
        .map(|index| generate(seed, index, Level::ALL[(index % 4) as usize]))
        .collect()
}

/// Programs of level 5.
fn wide(seed: u64, count: u64) -> Vec<Program> {
    (0..count)
        .map(|index| generate(seed, index, Level::Five))
        .collect()
}

/// Programs of the default weights, 20,25,20,15,20.
fn mixed(seed: u64, count: u64) -> Vec<Program> {
    let level = |index: u64| match index % 20 {
        0..4 => Level::One,
        4..9 => Level::Two,
        9..13 => Level::Three,
        13..16 => Level::Four,
        _ => Level::Five,
    };
    (0..count)
        .map(|index| generate(seed, index, level(index)))
        .collect()
}

/// Runs `script` with `input`; `None` where there is no interpreter.
fn python(script: &str, input: &str) -> Option<String> {
    let spawned = Command::new("python3")
        .args(["-I", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        eprintln!("skipped: there is no python3 on the PATH");
        return None;
    };
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let writer = input.to_owned();
    let feed = std::thread::spawn(move || stdin.write_all(writer.as_bytes()));
    let output = child.wait_with_output().expect("python3 runs");
    feed.join()
        .expect("no panic")
        .expect("python3 reads its input");
    assert!(output.status.success(), "the checking script failed");
    Some(String::from_utf8(output.stdout).expect("ASCII answers"))
}

/// Runs each program and prints one line per program: how it ended and how many lines it ran.
const RUN_ALL: &str = r#"
import contextlib, io, json, sys

class Endless(BaseException):
    pass

for text in sys.stdin:
    source, function, args = json.loads(text)
    steps = 0
    def watch(frame, event, arg):
        global steps
        if frame.f_code.co_filename != 'program.py':
            return None
        steps += event == 'line'
        if steps > 2000:
            raise Endless
        return watch
    end = 'finished'
    try:
        code = compile(source, 'program.py', 'exec')
        if function:
            code = compile(f'{source}\n{function}({args})\n', 'program.py', 'exec')
        with contextlib.redirect_stdout(io.StringIO()):
            sys.settrace(watch)
            try:
                exec(code, {'__name__': '__main__'})
            finally:
                sys.settrace(None)
    except SyntaxError:
        end = 'syntax'
    except Endless:
        end = 'endless'
    except Exception as error:
        end = type(error).__name__
    print(end, steps)
"#;

/// How each program ended and how many lines it ran; `None` where there is no interpreter.
fn run_all(programs: &[Program]) -> Option<Vec<(String, u32)>> {
    let input: String = programs
        .iter()
        .map(|program| {
            let (function, args) = match &program.entry {
                Entry::Module => ("", ""),
                Entry::Call { function, args } => (function.as_str(), args.as_str()),
            };
            format!("{}\n", serde_json::json!([program.source, function, args]))
        })
        .collect();
    let answers = python(RUN_ALL, &input)?;
    let ends: Vec<_> = answers
        .lines()
        .filter_map(|answer| {
            let (end, steps) = answer.split_once(' ')?;
            Some((end.to_owned(), steps.parse().ok()?))
        })
        .collect();
    assert_eq!(ends.len(), programs.len());
    Some(ends)
}

/// For scripts that call one function twice and print both results: whether these differ.
const COMPARE: &str = r#"
import contextlib, io, json, re, sys

TWICE = re.compile(r"(?m)^(\w+) = (\w+)\(.*\)\n(\w+) = \2\(.*\)\nprint\(\1, \3\)\n\Z")
for text in sys.stdin:
    source = json.loads(text)
    names = TWICE.search(source)
    if names is None:
        continue
    space = {'__name__': '__main__'}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(source, 'program.py', 'exec'), space)
    except Exception:
        continue
    print(repr(space[names[1]]) != repr(space[names[3]]))
"#;

#[test]
fn programs_compile_and_finish() {
    let programs = sample(11, 400);
    let Some(ends) = run_all(&programs) else {
        return;
    };
    let mut failed = 0;
    for (program, (end, _)) in programs.iter().zip(&ends) {
        let source = &program.source;
        assert_ne!(end, "syntax", "{}:\n{source}", program.family);
        assert_ne!(end, "endless", "{}:\n{source}", program.family);
        failed += usize::from(end != "finished" && !program.may_raise);
    }
    // The build drops what raises by accident; it must stay rare.
    assert!(
        failed * 100 <= programs.len(),
        "{failed} of {} raise by accident",
        programs.len()
    );
    let mut steps: Vec<u32> = ends.iter().map(|(_, steps)| *steps).collect();
    steps.sort_unstable();
    let median = steps[steps.len() / 2];
    assert!((6..=40).contains(&median), "median of {median} lines run");
}

/// Level 5 has mistakes in it: nearly all programs finish all the same, some raise, and few go on too long.
#[test]
fn wide_programs_compile_and_mostly_finish() {
    let programs = wide(13, 500);
    let Some(ends) = run_all(&programs) else {
        return;
    };
    let (mut by_accident, mut on_purpose) = (0, 0);
    for (program, (end, _)) in programs.iter().zip(&ends) {
        assert_ne!(end, "syntax", "{}:\n{}", program.family, program.source);
        let raised = usize::from(end != "finished");
        if program.may_raise {
            on_purpose += raised;
        } else {
            by_accident += raised;
        }
    }
    assert!(
        by_accident * 50 <= programs.len(),
        "{by_accident} raise by accident"
    );
    assert!(
        (3..=50).contains(&on_purpose),
        "{on_purpose} raise on purpose"
    );
}

/// What a program computes depends on what it starts from: two inputs, mostly two results.
#[test]
fn results_of_wide_programs_depend_on_their_inputs() {
    let programs = wide(14, 1_500);
    let lines = programs
        .iter()
        .map(|p| format!("{}\n", serde_json::json!(p.source)));
    let Some(answers) = python(COMPARE, &lines.collect::<String>()) else {
        return;
    };
    let compared = answers.lines().count();
    let differ = answers.lines().filter(|answer| *answer == "True").count();
    assert!(compared > 50, "{compared} programs");
    assert!(differ * 4 > compared * 3, "{differ} of {compared}");
}

#[test]
fn equal_arguments_give_equal_programs() {
    assert_eq!(wide(3, 200), wide(3, 200));
    assert_eq!(sample(3, 200), sample(3, 200));
    assert_ne!(sample(3, 50), sample(4, 50));
}

#[test]
fn programs_rarely_repeat() {
    let prints: HashSet<_> = sample(5, 2_000)
        .iter()
        .map(|p| fingerprint(&p.source, &p.entry))
        .collect();
    assert!(
        prints.len() >= 1_900,
        "{} distinct programs of 2000",
        prints.len()
    );
}

#[test]
fn sources_are_short() {
    let programs = sample(6, 2_000);
    let mut lines: Vec<usize> = programs.iter().map(|p| p.source.lines().count()).collect();
    lines.sort_unstable();
    let mean = lines.iter().sum::<usize>() as f64 / lines.len() as f64;
    assert!((8.0..14.0).contains(&mean), "{mean} lines on average");
    assert!(
        lines[lines.len() * 95 / 100] <= 24,
        "95% quantile {}",
        lines[lines.len() * 95 / 100]
    );
}

#[test]
fn calls_and_scripts_are_balanced() {
    let report = coverage(&sample(7, 4_000));
    let share = report.calls as f64 / report.programs as f64;
    assert!(
        (0.42..0.48).contains(&share),
        "{share} are entered by a call"
    );
}

#[test]
fn the_language_is_covered() {
    let report = coverage(&sample(8, 6_000));
    let seen = |counts: &BTreeMap<String, usize>, names: &[&str]| {
        for name in names {
            assert!(
                counts.get(*name).is_some_and(|&n| n >= 3),
                "{name} is missing: {report}"
            );
        }
    };
    seen(
        &report.statements,
        &[
            "for", "while", "if", "elif", "else", "def", "class", "return", "yield", "break",
            "continue", "try", "except", "finally", "raise", "assert", "nonlocal",
        ],
    );
    seen(
        &report.expressions,
        &[
            "lambda",
            "f-string",
            "slice",
            "and",
            "or",
            "not",
            "conditional expression",
            "//",
            "%",
        ],
    );
    seen(
        &report.functions,
        &[
            "print",
            "len",
            "range",
            "sum",
            "min",
            "max",
            "sorted",
            "enumerate",
            "zip",
            "ord",
            "chr",
            "str",
            "int",
            "abs",
            "set",
            "list",
            "next",
            "isinstance",
        ],
    );
    seen(
        &report.methods,
        &[
            "append",
            "pop",
            "insert",
            "sort",
            "reverse",
            "upper",
            "lower",
            "replace",
            "split",
            "join",
            "strip",
            "startswith",
            "count",
            "find",
            "isdigit",
            "isalpha",
            "get",
            "items",
        ],
    );
    assert!(
        report.families.len() > 250,
        "{} families",
        report.families.len()
    );
    let grammar = report.families["grammar"] as f64 / report.programs as f64;
    assert!((0.3..0.55).contains(&grammar), "{grammar} from the grammar");
}

#[test]
fn a_small_sample_of_the_default_weights_has_most_builtins_and_methods() {
    let report = coverage(&mixed(8, 3_000));
    assert!(
        report.operations() >= 120,
        "{}: {report}",
        report.operations()
    );
}

/// Every construct that 100,000 programs of the default weights must have; a fifth of them is of level 5, and the
/// sample is half of these.
#[test]
fn the_breadth_of_the_language_is_covered() {
    let report = coverage(&wide(8, 10_000));
    let statements = [
        "for",
        "while",
        "if",
        "elif",
        "else",
        "def",
        "class",
        "return",
        "yield",
        "break",
        "continue",
        "try",
        "except",
        "finally",
        "raise",
        "assert",
        "nonlocal",
        "global",
        "del",
        "with",
        "pass",
        "import",
        "from",
        "loop else",
        "try else",
        "method",
        "nested function",
        "inheritance",
        "raise from",
        "yield from",
        "@",
        "property",
        "data class",
        "class method",
        "static method",
        "special method",
    ];
    for name in statements {
        assert!(
            report.statements.contains_key(name),
            "{name} is missing: {report}"
        );
    }
    let expressions = [
        "list comprehension",
        "set comprehension",
        "dict comprehension",
        "generator expression",
        "nested comprehension",
        "filtered comprehension",
        "lambda",
        "f-string",
        "format specification",
        "conversion",
        "conditional expression",
        "slice",
        "slice with step",
        "starred",
        "*args",
        "**kwargs",
        "** unpacking",
        "default argument",
        "keyword argument",
        "unpacking",
        "chained comparison",
        "recursion",
        "annotation",
        "float",
        "bytes",
        "and",
        "or",
        "not",
        "in",
        "is",
        ":=",
        "+",
        "-",
        "*",
        "/",
        "//",
        "%",
        "**",
        "<<",
        ">>",
        "&",
        "|",
        "^",
        "~",
        "==",
        "!=",
        "<",
        ">",
        "<=",
        ">=",
        "+=",
        "-=",
        "*=",
        "//=",
        "%=",
    ];
    for name in expressions {
        assert!(
            report.expressions.contains_key(name),
            "{name} is missing: {report}"
        );
    }
    let methods = [
        "split",
        "rsplit",
        "splitlines",
        "join",
        "strip",
        "lstrip",
        "rstrip",
        "partition",
        "rpartition",
        "replace",
        "find",
        "rfind",
        "index",
        "rindex",
        "count",
        "startswith",
        "endswith",
        "zfill",
        "ljust",
        "rjust",
        "center",
        "upper",
        "lower",
        "title",
        "capitalize",
        "swapcase",
        "casefold",
        "isalpha",
        "isdigit",
        "isalnum",
        "isspace",
        "isupper",
        "islower",
        "istitle",
        "isnumeric",
        "isidentifier",
        "removeprefix",
        "removesuffix",
        "expandtabs",
        "translate",
        "maketrans",
        "format",
        "encode",
        "decode",
        "append",
        "extend",
        "insert",
        "remove",
        "pop",
        "clear",
        "sort",
        "reverse",
        "copy",
        "get",
        "keys",
        "values",
        "items",
        "update",
        "setdefault",
        "popitem",
        "fromkeys",
        "add",
        "discard",
        "union",
        "intersection",
        "difference",
        "symmetric_difference",
        "issubset",
        "issuperset",
        "isdisjoint",
        "bit_length",
        "is_integer",
        "send",
        "popleft",
        "appendleft",
        "rotate",
        "most_common",
    ];
    for name in methods {
        assert!(
            report.methods.contains_key(name),
            "{name} is missing: {report}"
        );
    }
    let functions = [
        "abs",
        "divmod",
        "pow",
        "round",
        "sum",
        "min",
        "max",
        "sorted",
        "reversed",
        "enumerate",
        "zip",
        "map",
        "filter",
        "any",
        "all",
        "len",
        "range",
        "int",
        "float",
        "str",
        "bool",
        "list",
        "tuple",
        "dict",
        "set",
        "frozenset",
        "chr",
        "ord",
        "hex",
        "bin",
        "oct",
        "repr",
        "isinstance",
        "type",
        "callable",
        "getattr",
        "hasattr",
        "iter",
        "next",
        "slice",
        "print",
        "format",
        "ascii",
        "bytes",
        "super",
        "property",
    ];
    for name in functions {
        assert!(
            report.functions.contains_key(name),
            "{name} is missing: {report}"
        );
    }
}

#[test]
fn a_level_is_a_number_from_zero_to_six() {
    assert_eq!(Level::ALL.map(Level::number), [1, 2, 3, 4, 5, 6]);
    assert_eq!(Level::try_from(3), Ok(Level::Three));
    assert_eq!(Level::try_from(0), Ok(Level::Drill));
    let error = Level::try_from(7).expect_err("no level 7");
    assert_eq!(
        error.to_string(),
        "there is no level 7: levels are 1 to 6, and 0 for drills"
    );
}

/// Drills repeat statements that real programs have rarely; nearly all must run, or their makers
/// would choose among those that do.
#[test]
fn drills_compile_and_finish() {
    let drills: Vec<Program> = (0..300)
        .map(|index| generate(12, index, Level::Drill))
        .collect();
    let Some(ends) = run_all(&drills) else {
        return;
    };
    let count = |what: &str| ends.iter().filter(|(end, _)| end == what).count();
    let finished = count("finished");
    assert_eq!(count("syntax") + count("NameError") + count("endless"), 0);
    assert!(finished * 10 >= drills.len() * 9, "{finished} finished");
}

/// Sources of the programs in `examples/`.
fn examples() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    std::fs::read_dir(folder)
        .expect("the workspace has examples")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "py"))
        .map(|path| {
            let name = path.file_stem().map(|s| s.to_string_lossy().into_owned());
            (
                name.unwrap_or_default(),
                std::fs::read_to_string(&path).expect("readable"),
            )
        })
        .collect()
}

#[test]
fn no_example_is_generated() {
    let examples = examples();
    assert!(examples.len() >= 12, "{} examples", examples.len());
    let generated: HashSet<_> = sample(9, 4_000)
        .iter()
        .map(|p| fingerprint(&p.source, &p.entry))
        .collect();
    for (name, source) in &examples {
        assert!(
            !generated.contains(&fingerprint(source, &Entry::Module)),
            "{name} was generated"
        );
    }
}

#[test]
fn examples_run_and_print() {
    for (name, source) in examples() {
        let lines = source.lines().count();
        assert!((8..=30).contains(&lines), "{name} has {lines} lines");
        assert!(
            source.starts_with("# "),
            "{name} does not say what to look at"
        );
        let line = serde_json::json!([source, "", ""]).to_string();
        let Some(answer) = python(RUN_ALL, &line) else {
            return;
        };
        let (end, steps) = answer.trim().split_once(' ').expect("two words");
        assert_eq!(end, "finished", "{name}");
        let steps: u32 = steps.parse().expect("a number");
        assert!((8..=80).contains(&steps), "{name} runs {steps} lines");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_seed_gives_a_well_formed_program(seed: u64, index: u64, level in 0usize..6) {
        let level = Level::ALL[level];
        let program = generate(seed, index, level);
        prop_assert_eq!(program.level, level.number());
        prop_assert!(program.source.ends_with('\n') && program.source.is_ascii());
        // No hole of the template language is left over.
        prop_assert!(!program.source.contains(['$', '«', '»']));
        if let Entry::Call { function, .. } = &program.entry {
            let definition = format!("def {function}(");
            prop_assert!(program.source.contains(&definition));
        }
        prop_assert_eq!(&program, &generate(seed, index, level));
    }
}
