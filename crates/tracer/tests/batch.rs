//! Many runs of programs: shared processes that nobody notices, limits, checks, and typed outcomes.

mod common;

use std::time::Duration;

use common::{any, call, interpreters, limits, text, verify};
use cwm_trace::Entry;
use cwm_tracer::{
    Batch, BatchOptions, Call, Collector, Interpreter, Limit, Limits, Mode, Outcome, Program,
    Request, Run, Sharing, Worker,
};

fn program(source: &str) -> Program<'_> {
    Program {
        file: "program.py",
        source,
        stdin: b"",
        arguments: &[],
    }
}

fn calls(of: &[(&str, &str)]) -> Vec<Call> {
    let call = |&(function, args): &(&str, &str)| Call {
        function: function.to_owned(),
        args: args.to_owned(),
    };
    of.iter().map(call).collect()
}

fn options() -> BatchOptions {
    BatchOptions {
        // No clock decides, however busy the machine is, where a test does not ask for it.
        limits: Limits {
            timeout: Duration::from_secs(300),
            ..limits()
        },
        ..BatchOptions::default()
    }
}

fn run_with(
    py: &Interpreter,
    options: BatchOptions,
    source: &str,
    of: &[(&str, &str)],
) -> Vec<Run> {
    let mut batch = Batch::start(py, options).expect("it starts");
    let runs = batch.calls(&program(source), &calls(of)).expect("runs");
    assert_eq!(runs.len(), of.len());
    for run in &runs {
        if let Some(trace) = &run.trace {
            verify(trace);
        }
    }
    runs
}

fn script(options: BatchOptions, source: &str) -> Run {
    let mut batch = Batch::start(any(), options).expect("it starts");
    let run = batch.script(&program(source)).expect("a run");
    if let Some(trace) = &run.trace {
        verify(trace);
    }
    run
}

/// Kinds and details, a line each.
fn outcomes(runs: &[Run]) -> Vec<String> {
    let one = |run: &Run| format!("{} {}", run.outcome.kind(), run.outcome.detail());
    runs.iter()
        .map(|run| one(run).trim_end().to_owned())
        .collect()
}

/// Every way to make calls of some programs gives the same traces as a process for each.
fn agree(sources: &[&str], of: &[(&str, &str)]) {
    for py in interpreters() {
        let mut worker = Worker::start(py, &limits()).expect("it starts");
        for (mode, sharing) in [
            (Mode::Direct, Sharing::WhereUnnoticed),
            (Mode::Direct, Sharing::Never),
            (Mode::Python, Sharing::WhereUnnoticed),
        ] {
            let options = BatchOptions {
                mode,
                sharing,
                ..options()
            };
            let mut batch = Batch::start(py, options).expect("it starts");
            for source in sources {
                let runs = batch.calls(&program(source), &calls(of)).expect("runs");
                assert_eq!(runs.len(), of.len());
                for (run, (function, args)) in runs.iter().zip(of) {
                    let alone = worker.trace(&call(source, function, args));
                    let what = format!("{:?} {mode:?} {sharing:?} {function}({args})", py.version);
                    let (Some(trace), Ok(alone)) = (&run.trace, alone) else {
                        assert!(matches!(run.outcome, Outcome::Refused(_)), "{what}");
                        continue;
                    };
                    verify(trace);
                    assert_eq!(text(trace), text(&alone), "{what}");
                    assert_eq!(trace.functions, alone.functions, "{what}");
                    assert_eq!(trace.stdout, alone.stdout, "{what}");
                    assert_eq!(trace.end, alone.end, "{what}");
                }
            }
        }
    }
}

#[test]
fn calls_of_functions_have_the_traces_they_would_have_alone() {
    let source = "\
import math, random
print('loaded')
SCALE = (2, 3)

class Point:
    kind = 'point'
    def __init__(self, x):
        self.x = x
    def scaled(self):
        return Point(self.x * SCALE[0])

def fact(n):
    print('n is', n)
    return 1 if n < 2 else n * fact(n - 1)

def numbers(n):
    total = 0
    for i in range(n):
        total += i
        yield total

async def later(x):
    return x + 1

def fails(x):
    y = [x]
    return y[x]

def draws():
    return random.randrange(1000)
";
    let of = [
        ("fact", "3"),
        ("numbers", "3"),
        ("later", "1"),
        ("fails", "5"),
        ("fails", "0"),
        ("draws", ""),
        ("Point", "4"),
        ("Point.scaled", "Point(5)"),
        ("fact", "1, 2"),
        ("nothing", ""),
        ("fact", "1)(2"),
        ("draws", ""),
        ("fact", "4"),
    ];
    agree(&[source], &of);
}

/// Plain arguments are read without a compiler: the same values, and the same ones twice.
#[test]
fn arguments_mean_what_they_mean_in_python() {
    let source = "\
def f(*a, **k):
    same = [x is y for x in a for y in a]
    kinds = [type(x).__name__ for x in a]
    known = [x is 'abc' for x in a]
    return a
";
    let of = [
        "",
        "1, -2, +3, 007",
        "1000, 1000, 1e3, 1e3, 1.50, .5, 5.",
        "[1, [2, []]], [1, [2, []]],",
        "12345678901234567890123, -0, -0.0, 1_000, 1e400, -1e400",
        "'abc', \"abc\", 'a b', 'a b', 'it', 'é', ''",
        "'abc' 'd', e'x', b'x', f'x', 'x\\n', \"it's\", '\"', 'a#b', 'a,b', ' [1] '",
        "'1, 2', ['a', 'abc'], 'a\tb'",
        "e, 1",
        "1 2",
        "[1, 2",
        "'a",
        "1), (2",
        "k=1",
        "-1 - 1, [0][0], 1.e",
    ];
    let of: Vec<_> = of.map(|args| ("f", args)).to_vec();
    agree(&[source], &of);
}

#[test]
fn a_call_never_finds_what_another_left_behind() {
    let of = [("f", "1"), ("f", "2"), ("f", "3")];
    let sources = [
        "seen = []\ndef f(x):\n    seen.append(x)\n    return seen\n",
        "count = 0\ndef f(x):\n    global count\n    count += x\n    return count\n",
        "def f(x, acc=[]):\n    acc.append(x)\n    return acc\n",
        "def f(x):\n    f.n = getattr(f, 'n', 0) + x\n    return f.n\n",
        "class C:\n    n = 0\ndef f(x):\n    C.n += x\n    return C.n\n",
        "class C:\n    def __init__(self):\n        self.n = 0\nc = C()\ndef f(x):\n    c.n += x\n    return c.n\n",
        "class C(list): pass\nc = C()\ndef f(x):\n    c.append(x)\n    return len(c)\n",
        "def make():\n    n = 0\n    def f(x):\n        nonlocal n\n        n += x\n        return n\n    return f\nf = make()\n",
        "import os\ndef f(x):\n    os.environ['A'] = os.environ.get('A', '') + str(x)\n    return os.environ['A']\n",
        "import functools\n@functools.lru_cache(None)\ndef g(x):\n    return x\ndef f(x):\n    return g(1)\n",
        "it = iter(range(9))\ndef f(x):\n    return next(it)\n",
        "from collections import Counter\nc = Counter()\ndef f(x):\n    c[x] += 1\n    return c\n",
        "def f(x):\n    import sys\n    sys.setrecursionlimit(sys.getrecursionlimit() + x)\n    return sys.getrecursionlimit()\n",
        "add = [].append\ndef f(x):\n    add(x)\n    return add.__self__\n",
        "d = {'a': {'b': set()}}\ndef f(x):\n    d['a']['b'].add(x)\n    return len(d['a']['b'])\n",
    ];
    agree(&sources, &of);
}

#[test]
fn programs_without_a_state_share_a_process() {
    // Output buffered in a process of its own would tell; the process's number does it too.
    let source = "\
import dataclasses, enum, re
WORD = re.compile('a+')
class Colour(enum.Enum):
    RED = 1
@dataclasses.dataclass
class Box:
    size: int = 3
BOXES = [Box(1), Box(2)]
def f(x):
    return id(BOXES)
";
    let runs = run_with(any(), options(), source, &[("f", "1"); 5]);
    let value = |run: &Run| {
        run.trace
            .as_ref()
            .and_then(|t| t.events.last()?.value.clone())
    };
    assert!(runs.iter().all(|run| value(run) == value(&runs[0])));
    assert_eq!(outcomes(&runs), ["finished"; 5]);
}

#[test]
fn what_a_call_does_to_its_process_ends_with_it() {
    let source = "\
import sys, os, time, signal
def f(how):
    x = how
    if how == 'leave':
        os._exit(4)
    if how == 'exit':
        sys.exit(3)
    if how == 'kill':
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == 'loop':
        while True:
            x = 1
    if how == 'sleep':
        time.sleep(60)
    if how == 'grow':
        x = ' ' * 10**10
    if how == 'raise':
        raise KeyError(how)
    if how == 'recurse':
        f(how)
    return x
";
    let of = [
        "1", "'leave'", "'exit'", "'kill'", "'loop'", "'sleep'", "'grow'", "'raise'", "2",
    ];
    let of: Vec<_> = of.iter().map(|args| ("f", *args)).collect();
    for sharing in [Sharing::WhereUnnoticed, Sharing::Never] {
        let options = BatchOptions {
            sharing,
            limits: Limits {
                timeout: Duration::from_secs(5),
                max_events: 2_000,
                ..limits()
            },
            ..options()
        };
        let runs = run_with(any(), options, source, &of);
        assert_eq!(
            outcomes(&runs),
            [
                "finished",
                "left status 4",
                "exited status 3",
                "crashed signal 11",
                "stopped: events",
                "stopped: wall time",
                "stopped: memory",
                "raised KeyError('raise')",
                "finished",
            ]
        );
        for run in &runs {
            let trace = run.trace.as_ref().expect("frames are kept");
            assert!(trace.events.len() >= 3, "{:?}", run.outcome);
            assert_eq!(run.kept().is_some(), run.outcome.is_sound());
        }
    }
}

#[test]
fn a_shared_process_is_watched_call_by_call() {
    let source = "\
def f(x):
    if x == 3:
        sum(iter(int, 1))
    return x
";
    let of: Vec<_> = ["1", "2", "3", "4", "5"]
        .iter()
        .map(|args| ("f", *args))
        .collect();
    let options = BatchOptions {
        limits: Limits {
            timeout: Duration::from_secs(2),
            ..limits()
        },
        ..options()
    };
    let runs = run_with(any(), options, source, &of);
    assert_eq!(
        outcomes(&runs),
        [
            "finished",
            "finished",
            "stopped: wall time",
            "finished",
            "finished"
        ]
    );
}

#[test]
fn limits_of_the_process_have_outcomes() {
    let tight = |change: &dyn Fn(&mut Limits)| {
        let mut limits = options().limits;
        change(&mut limits);
        BatchOptions {
            limits,
            ..options()
        }
    };
    let cpu = tight(&|limits| {
        limits.cpu_time = Some(Duration::from_secs(1));
        limits.timeout = Duration::from_secs(300);
    });
    let run = script(cpu, "x = 1\nsum(iter(int, 1))\n");
    assert!(
        matches!(run.outcome, Outcome::Stopped(Limit::CpuTime)),
        "{:?}",
        run.outcome
    );

    let small = || tight(&|limits| limits.file_bytes = 1 << 20);
    let run = script(small(), "while True:\n    print('x' * 10000)\n");
    assert!(
        matches!(run.outcome, Outcome::Stopped(Limit::Output)),
        "{:?}",
        run.outcome
    );
    let trace = run.trace.expect("a trace");
    assert!(trace.stdout.len() >= 1_000_000 && trace.events.len() > 100);

    let writes = "\
import tempfile
with tempfile.TemporaryFile() as file:
    file.write(b'x' * 2**21)
    file.flush()
";
    let run = script(small(), writes);
    assert!(
        matches!(&run.outcome, Outcome::Raised(what) if what.contains("27")),
        "{:?}",
        run.outcome
    );

    let memory = tight(&|limits| limits.memory_bytes = 300 << 20);
    let run = script(memory, "x = ['a' * 10**8 for _ in 'abcdefgh']\n");
    assert!(
        matches!(run.outcome, Outcome::Stopped(Limit::Memory)),
        "{:?}",
        run.outcome
    );

    // The log of a long run is larger than what the program may write.
    let long = tight(&|limits| {
        limits.file_bytes = 1 << 20;
        limits.max_events = 100_000;
    });
    let run = script(long, "for i in range(30000):\n    t = str(i) * 30\n");
    assert!(
        matches!(run.outcome, Outcome::Finished),
        "{:?}",
        run.outcome
    );
}

#[test]
fn the_number_of_processes_is_limited() {
    let options = BatchOptions {
        limits: Limits {
            processes: Some(2),
            ..limits()
        },
        ..options()
    };
    let source = "\
import os, threading, time
print(os.getuid())
threads = [threading.Thread(target=time.sleep, args=(1,), daemon=True) for _ in range(9)]
for thread in threads:
    thread.start()
";
    let run = script(options, source);
    let trace = run.trace.as_ref().expect("a trace");
    if trace.stdout == "0\n" {
        eprintln!("SKIPPED: the superuser is not held to a number of processes");
        assert!(
            matches!(run.outcome, Outcome::Finished),
            "{:?}",
            run.outcome
        );
    } else {
        let refused = matches!(&run.outcome, Outcome::Raised(what) if what.contains("thread"));
        assert!(refused, "{:?}", run.outcome);
    }
}

#[test]
fn what_is_not_always_the_same_is_found() {
    let options = BatchOptions {
        double_run: true,
        ..options()
    };
    let source = "\
import time, os
class A: pass
def same(x):
    return {str(x), 'b', 'c'}
def clock():
    return time.time()
def address():
    return id(A()) % 1000003
def unknown():
    return os.urandom(4)
def order():
    return [type(x).__name__ for x in {A, int, same}], sorted([id(object()), id([])])[0] // 16
";
    let of = [
        ("same", "1"),
        ("clock", ""),
        ("address", ""),
        ("unknown", ""),
        ("same", "2"),
    ];
    for py in interpreters() {
        let runs = run_with(py, options.clone(), source, &of);
        let kinds: Vec<_> = runs.iter().map(|run| run.outcome.kind()).collect();
        let wanted = [
            "finished",
            "nondeterministic",
            "nondeterministic",
            "nondeterministic",
            "finished",
        ];
        assert_eq!(kinds, wanted, "{:?} {:?}", py.version, outcomes(&runs));
        assert!(runs[1].trace.is_some() && runs[1].kept().is_none());
    }
}

#[test]
fn what_tracing_changes_is_found() {
    let options = BatchOptions {
        check_untraced: true,
        ..options()
    };
    let source = "\
import sys
shown = 0
class Loud:
    def __repr__(self):
        global shown
        shown += 1
        return 'Loud()'
def counts():
    loud = Loud()
    other = 1
    return shown
def prints():
    print(sys.gettrace() is None or hasattr(sys, 'monitoring'))
    return 1
def plain(x):
    print(x)
    return [x, Loud()]
def fails(x):
    raise ValueError(x)
def leaves():
    sys.exit(2)
";
    let of = [
        ("counts", ""),
        ("plain", "1"),
        ("fails", "1"),
        ("leaves", ""),
        ("plain", ""),
    ];
    for py in interpreters() {
        let runs = run_with(py, options.clone(), source, &of);
        let kinds: Vec<_> = runs.iter().map(|run| run.outcome.kind()).collect();
        let wanted = [
            "changed by tracing",
            "finished",
            "raised",
            "exited",
            "refused",
        ];
        assert_eq!(kinds, wanted, "{:?} {:?}", py.version, outcomes(&runs));
        assert_eq!(runs[1].result.as_deref(), Some("[1, Loud()]"));
        if py.version.1 < 12 {
            let runs = run_with(py, options.clone(), source, &[("prints", "")]);
            assert_eq!(runs[0].outcome.kind(), "changed by tracing");
            let said = runs[0].outcome.detail();
            assert!(said.starts_with("standard output: `False"), "{said}");
        }
    }
}

#[test]
fn a_program_that_cannot_be_loaded_is_one_outcome_for_all_calls() {
    let of = [("f", "1"), ("f", "2")];
    for (source, wanted) in [
        ("def f(:\n", "refused program.py:1: "),
        ("def f(x): pass\nraise KeyError(4)\n", "raised KeyError(4)"),
        ("import os\ndef f(x): pass\nos._exit(9)\n", "left status 9"),
        ("import sys\nsys.exit('no')\n", "exited status 1"),
    ] {
        let runs = run_with(any(), options(), source, &of);
        for said in outcomes(&runs) {
            assert!(said.starts_with(wanted), "{source}: {said}");
        }
    }
}

#[test]
fn scripts_are_runs_too() {
    let run = script(options(), "import sys\nx = len(sys.argv)\nprint(x)\n");
    assert_eq!(run.outcome.kind(), "finished");
    let trace = run.trace.expect("a trace");
    assert_eq!(trace.stdout, "1\n");
    assert!(
        text(&trace).ends_with("return <module>#0:3 x=1 -> None\n"),
        "{}",
        text(&trace)
    );
    let checked = BatchOptions {
        check_untraced: true,
        double_run: true,
        ..options()
    };
    let run = script(checked, "import time\nprint(time.perf_counter())\n");
    assert_eq!(run.outcome.kind(), "nondeterministic");
    assert!(script(options(), "x = \n").trace.is_none());
}

#[test]
fn many_calls_are_made_in_order() {
    let source = "def f(n):\n    return n * 2\n";
    let args: Vec<_> = (0..2500).map(|n| n.to_string()).collect();
    let of: Vec<_> = args.iter().map(|args| ("f", args.as_str())).collect();
    let runs = run_with(any(), options(), source, &of);
    for (n, run) in runs.iter().enumerate() {
        let trace = run.kept().expect("a trace");
        assert_eq!(trace.events.len(), 3);
        let value = trace.events[2].value.as_ref().expect("a value");
        assert_eq!(*value.repr, (n * 2).to_string());
    }
    let worker = Worker::start(any(), &limits()).expect("it starts");
    if worker.collector() == Collector::Python {
        eprintln!("SKIPPED: only the collector in Python was tested");
    }
}

/// Programs that would notice one another if they could.
const NEIGHBOURS: &[(&str, &str, &str)] = &[
    ("x = 1\nprint('one', x)\n", "", ""),
    (
        "def f(a, b=2):\n    print(a)\n    return a * b\nprint('loaded')\n",
        "f",
        "21",
    ),
    (
        "print(sorted(name for name in globals() if name[0] != '_'))\n",
        "",
        "",
    ),
    ("import math\nmath.pi = 3\n", "", ""),
    ("import math\nprint(math.pi)\n", "", ""),
    (
        "import builtins\nbuiltins.divmod = lambda a, b: 7\n",
        "",
        "",
    ),
    ("print(divmod(7, 2))\n", "", ""),
    (
        "def g():\n    try:\n        yield 1\n    finally:\n        print('late')\nheld = g()\nnext(held)\n\
         ring = [held]\nring.append(ring)\ndel held\n",
        "",
        "",
    ),
    (
        "rows = [[n] for n in range(3000)]\nprint(len(rows))\n",
        "",
        "",
    ),
    (
        "class A:\n    def __del__(self):\n        print('gone')\na = A()\n",
        "",
        "",
    ),
    ("import random\nprint(random.random())\n", "", ""),
    (
        "from random import randint\nprint(randint(0, 9), randint(0, 9))\n",
        "",
        "",
    ),
    ("x = = 2\n", "", ""),
    ("def f():\n    return 1\n", "missing", ""),
    ("def f(a):\n    return a\n", "f", "1, 2, 3"),
    ("def f(n):\n    return f(n + 1)\n", "f", "0"),
    ("{}['k']\n", "", ""),
    ("import sys\nprint('leaving')\nsys.exit(3)\n", "", ""),
    ("import os\nos._exit(5)\n", "", ""),
    ("while True: pass\n", "", ""),
    ("a = 'x\0y'\n", "", ""),
    (
        "total = 0\nfor n in range(5):\n    total += n\nprint(total)\n",
        "",
        "",
    ),
    (
        "class Account:\n    def __init__(self, total):\n        self.total = total\n    def add(self, n):\n        \
         self.total += n\n        return self\ndef f(n):\n    return Account(n).add(2)\n",
        "f",
        "5",
    ),
];

#[test]
fn programs_have_the_traces_they_would_have_alone() {
    let entry = |function: &str, args: &str| match function {
        "" => Entry::Module,
        _ => Entry::Call {
            function: function.to_owned(),
            args: args.to_owned(),
        },
    };
    let limits = Limits {
        max_events: 300,
        timeout: Duration::from_secs(1),
        ..limits()
    };
    let programs = NEIGHBOURS.iter();
    let programs: Vec<_> = programs
        .map(|(source, f, args)| (*source, entry(f, args)))
        .collect();
    for py in interpreters() {
        let mut worker = Worker::start(py, &limits).expect("it starts");
        for (mode, sharing) in [
            (Mode::Direct, Sharing::WhereUnnoticed),
            (Mode::Direct, Sharing::Never),
            (Mode::Python, Sharing::WhereUnnoticed),
        ] {
            let options = BatchOptions {
                limits: limits.clone(),
                mode,
                sharing,
                ..options()
            };
            let mut batch = Batch::start(py, options).expect("it starts");
            let runs = batch.programs("program.py", &programs).expect("runs");
            assert_eq!(runs.len(), programs.len());
            for (run, (source, entry)) in runs.iter().zip(&programs) {
                let what = format!("{:?} {mode:?} {sharing:?}\n{source}", py.version);
                let request = Request {
                    file: "program.py",
                    source,
                    entry: entry.clone(),
                    stdin: b"",
                    arguments: &[],
                };
                let alone = worker.trace(&request);
                let (Some(trace), Ok(alone)) = (&run.trace, &alone) else {
                    let (Outcome::Refused(a), Err(b)) = (&run.outcome, &alone) else {
                        panic!("{what}: {run:?}, alone {alone:?}");
                    };
                    assert_eq!(a.to_string(), b.to_string(), "{what}");
                    continue;
                };
                verify(trace);
                assert_eq!(text(trace), text(alone), "{what}");
                assert_eq!(trace.functions, alone.functions, "{what}");
                assert_eq!(trace.source, alone.source, "{what}");
                assert_eq!(trace.entry, alone.entry, "{what}");
                assert_eq!(trace.stdout, alone.stdout, "{what}");
                assert_eq!(trace.end, alone.end, "{what}");
            }
        }
    }
}

#[test]
fn trials_share_a_process_whatever_they_do() {
    let source = "import os\nseen = []\n\ndef f(x):\n    seen.append(x)\n    if x == 3:\n        os._exit(5)\n    return len(seen)\n";
    let of: Vec<_> = ["1", "2", "3", "4"].map(|args| ("f", args)).to_vec();
    for py in interpreters() {
        let results = |sharing| -> Vec<String> {
            let options = BatchOptions {
                sharing,
                check_untraced: false,
                ..options()
            };
            let runs = run_with(py, options, source, &of);
            let last = |run: &Run| {
                run.trace
                    .as_ref()
                    .and_then(|t| t.events.last()?.value.clone())
            };
            let text = |run: &Run| {
                last(run).map_or(run.outcome.kind().to_owned(), |v| v.detailed().to_string())
            };
            runs.iter().map(text).collect()
        };
        assert_eq!(results(Sharing::WhereUnnoticed), ["1", "1", "left", "1"]);
        assert_eq!(results(Sharing::Always), ["1", "2", "left", "1"]);
    }
}
