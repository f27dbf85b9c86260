//! Programs that never end, grow, recurse, print, crash or defend themselves, and requests that make
//! no sense: each gives a partial trace or an error that says what happened.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{any, call, interpreters, limits, module, on_each, text, verify};
use cwm_trace::{End, Event, EventKind, Trace};
use cwm_tracer::{Error, Interpreter, Limits, Mode, Request, Values, Worker, trace};

fn run(request: &Request<'_>, limits: &Limits) -> Trace {
    let trace = trace(any(), request, limits).expect("a trace");
    verify(&trace);
    trace
}

fn short() -> Limits {
    Limits {
        timeout: Duration::from_millis(700),
        ..limits()
    }
}

fn last_value(trace: &Trace) -> String {
    trace
        .events
        .last()
        .and_then(|e| e.value.as_ref())
        .map(|v| v.repr.to_string())
        .unwrap_or_default()
}

#[test]
fn an_endless_loop_ends_at_the_cap_on_events() {
    let request = module("n = 0\nwhile True:\n    n += 1\n");
    on_each(&request, |_, trace| {
        assert_eq!(trace.end, End::MaxEvents(10_000));
        assert_eq!(trace.events.len(), 10_000);
    });
}

#[test]
fn a_sleeping_program_is_stopped_and_its_trace_kept() {
    let request = module("import time\nprint('before')\nx = 5\ntime.sleep(60)\n");
    let trace = run(&request, &short());
    assert_eq!(trace.end, End::Timeout(0.7));
    assert!(
        text(&trace).ends_with("line <module>#0:4 x=5\n"),
        "{}",
        text(&trace)
    );
    assert_eq!(trace.stdout, "before\n");
}

#[test]
fn a_loop_inside_one_c_call_is_stopped() {
    let trace = run(&module("x = 1\nsum(iter(int, 1))\n"), &short());
    assert_eq!(trace.end, End::Timeout(0.7));
    assert!(
        text(&trace).ends_with("line <module>#0:2 x=1\n"),
        "{}",
        text(&trace)
    );
}

#[test]
fn endless_recursion_is_an_exception_of_the_program() {
    on_each(
        &module("def f(n):\n    return f(n + 1)\nf(0)\n"),
        |py, trace| {
            let End::Raised(error) = &trace.end else {
                panic!("{:?}: {:?}", py.version, trace.end)
            };
            assert!(error.starts_with("RecursionError("), "{error}");
            let depth = trace
                .events
                .iter()
                .filter(|e| e.kind == EventKind::Call)
                .count();
            assert!(
                (900..1400).contains(&depth),
                "{depth} calls on {:?}",
                py.version
            );
        },
    );
}

#[test]
fn a_recursion_limit_set_by_the_program_holds() {
    let source = "\
import sys
sys.setrecursionlimit(50)
def f(n):
    try:
        return f(n + 1)
    except RecursionError:
        return n
print(sys.getrecursionlimit(), f(0) < 500)
";
    on_each(&module(source), |_, trace| {
        assert_eq!(
            (trace.stdout.as_str(), &trace.end),
            ("50 True\n", &End::Finished)
        );
    });
}

#[test]
fn endless_allocation_ends_at_the_memory_limit() {
    let small = Limits {
        memory_bytes: 300 << 20,
        ..limits()
    };
    for source in [
        "x = 'ab'\nwhile True:\n    x += x\n",
        "x = []\nwhile True:\n    x.append(x * 2)\n    x += [0] * 10**7\n",
    ] {
        assert_eq!(
            run(&module(source), &small).end,
            End::OutOfMemory,
            "{source}"
        );
    }
    let caught = "try:\n    x = ' ' * 10**10\nexcept MemoryError:\n    x = 1\n";
    assert_eq!(run(&module(caught), &small).end, End::Finished);
}

#[test]
fn leaving_by_sys_exit_tells_the_status() {
    for (source, status, stderr) in [
        ("import sys\nsys.exit(3)\n", 3, ""),
        ("exit()\n", 0, ""),
        ("raise SystemExit('bye')\n", 1, "bye\n"),
        ("import sys\nsys.exit(-1)\n", -1, ""),
    ] {
        on_each(&module(source), |_, trace| {
            assert_eq!(
                (&trace.end, trace.stderr.as_str()),
                (&End::Exited(status), stderr)
            );
        });
    }
}

#[test]
fn the_death_of_the_interpreter_keeps_every_event_before_it() {
    for (source, said) in [
        ("import os\nx = 1\nos._exit(4)\n", "status 4"),
        (
            "import os\nx = 1\nos.kill(os.getpid(), 11)\n",
            "segmentation fault",
        ),
        ("import os\nx = 1\nos.abort()\n", "abort"),
    ] {
        let trace = run(&module(source), &limits());
        let End::Crashed(why) = &trace.end else {
            panic!("{:?}", trace.end)
        };
        assert!(why.contains(said), "{why}");
        assert!(
            text(&trace).ends_with("line <module>#0:3 x=1\n"),
            "{}",
            text(&trace)
        );
    }
}

#[test]
fn output_is_capped_and_does_not_block_the_program() {
    let small = Limits {
        max_output_bytes: 1000,
        ..limits()
    };
    let trace = run(&module("print('x' * 10**6)\nprint('y' * 10**6)\n"), &small);
    assert_eq!((trace.stdout.len(), &trace.end), (1000, &End::Finished));
}

#[test]
fn hostile_reprs_are_contained() {
    let source = "\
import sys, os
class Raises:
    def __repr__(self): raise RuntimeError('no')
class Exits:
    def __repr__(self): sys.exit(3)
class Loops:
    def __repr__(self):
        while True: pass
class Huge:
    def __repr__(self): return 'h' * 10**7
class Recurses:
    def __repr__(self): return repr(self)
class Wrong:
    def __repr__(self): return 3
class Empties:
    def __init__(self, owner): self.owner = owner
    def __repr__(self):
        self.owner.clear()
        return 'emptied'
class Meta(type):
    def __hash__(cls): raise RuntimeError('hash')
    def __eq__(cls, other): raise RuntimeError('eq')
    def __getattribute__(cls, name): raise RuntimeError(name)
class Strange(metaclass=Meta):
    __class__ = property(lambda self: 1 // 0)
def f(v):
    return v
owner = [1]
owner += [Empties(owner), 2]
";
    let cases = [
        ("Raises()", "<repr failed: RuntimeError>"),
        ("[Raises(), 1]", "[<repr failed: RuntimeError>, 1]"),
        ("{1: Raises()}", "{1: <repr failed: RuntimeError>}"),
        ("Exits()", "<repr failed: SystemExit>"),
        ("Loops()", "<repr failed: TimeoutError>"),
        ("Recurses()", "<repr failed: RecursionError>"),
        ("Wrong()", "<repr failed: TypeError>"),
        ("owner", "[1, emptied, 2]"),
        ("Strange()", "<__main__.Strange object>"),
    ];
    for (args, expected) in cases {
        on_each(&call(source, "f", args), |py, trace| {
            let first = &trace.events[0].locals[0].value;
            assert_eq!(
                (&*first.repr, &trace.end),
                (expected, &End::Finished),
                "{:?}",
                py.version
            );
        });
    }
    on_each(&call(source, "f", "Huge()"), |_, trace| {
        let value = &trace.events[0].locals[0].value;
        assert!(value.truncated && value.repr.starts_with("hhh") && value.repr.len() == 2003);
    });
}

#[test]
fn a_slow_repr_does_not_hang_the_run() {
    let source = "\
class Slow:
    def __repr__(self):
        return str(sum(range(3 * 10**5)))
def f():
    s = [Slow()]
    for i in range(10**6):
        t = i
";
    let limits = Limits {
        timeout: Duration::from_secs(300),
        ..limits()
    };
    for py in interpreters() {
        for mode in [Mode::Direct, Mode::Python] {
            let mut worker = Worker::start_in(py, &limits, mode, Values::Repr).expect("it starts");
            let trace = worker.trace(&call(source, "f", "")).expect("a trace");
            assert_eq!(trace.end, End::MaxEvents(10_000), "{:?}", py.version);
            let slow = |event: &Event| {
                let local = event.locals.iter().find(|local| &*local.name == "s")?;
                Some((local.value.repr.to_string(), local.value.truncated))
            };
            let seen: Vec<_> = trace.events.iter().filter_map(slow).collect();
            assert_eq!(seen[0], ("[44999850000]".to_owned(), false), "{mode:?}");
            let last = ("[<Slow object>]".to_owned(), true);
            assert_eq!(seen[seen.len() - 1], last, "{mode:?}");
        }
    }
}

#[test]
fn files_that_are_not_python_are_named_with_line_and_text() {
    let error = trace(any(), &module("x = 1\ny = = 2\n"), &limits()).expect_err("a syntax error");
    let Error::NotPython { line, text, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((*line, text.trim()), (2, "y = = 2"));
    assert!(
        error
            .to_string()
            .starts_with("program.py:2: invalid syntax"),
        "{error}"
    );
    for source in ["x = '\0'", &"(".repeat(5000), "\u{1}\u{2}", "def f(:"] {
        let error = trace(any(), &module(source), &limits()).expect_err("not Python");
        assert!(matches!(error, Error::NotPython { .. }), "{error}");
    }
    let trace = run(&module("\u{feff}x = 1\r\ny = 2\r\n"), &limits());
    assert_eq!(trace.end, End::Finished);
}

#[test]
fn a_missing_entry_lists_what_there_is() {
    let source = "def one(): pass\nclass A:\n    def two(self): pass\nthree = 3\n";
    for name in ["onne", "three", "A.x", "", "one.two"] {
        let error = trace(any(), &call(source, name, ""), &limits()).expect_err("no such entry");
        let Error::MissingEntry { available, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(available[..], ["one", "A.two"]);
    }
    let error = trace(any(), &call("x = 1\n", "f", ""), &limits()).expect_err("no entry");
    assert_eq!(
        error.to_string(),
        "program.py has no function `f`; it defines no function at all"
    );
}

#[test]
fn wrong_arguments_are_told_before_anything_runs() {
    let source = "def f(a):\n    raise TypeError('from the body')\n";
    for args in [
        "",
        "1, 2",
        "b=1",
        "1 +",
        "1)(2",
        "nope",
        "1/0",
        "1); print(2",
    ] {
        let error = trace(any(), &call(source, "f", args), &limits()).expect_err(args);
        assert!(
            matches!(error, Error::BadArguments { .. }),
            "{args}: {error}"
        );
    }
    let trace = run(&call(source, "f", "1 # one\n"), &limits());
    assert_eq!(
        trace.end,
        End::Raised("TypeError('from the body')".to_owned())
    );
}

#[test]
fn a_module_that_fails_before_the_entry_gives_an_empty_trace() {
    let trace = run(
        &call("def f(): pass\nraise ValueError(1)\n", "f", ""),
        &limits(),
    );
    assert_eq!(trace.end, End::Raised("ValueError(1)".to_owned()));
    assert!(trace.events.is_empty());
}

#[test]
fn what_is_no_interpreter_is_refused() {
    let find = |path: &str| Interpreter::find(Some(Path::new(path))).expect_err(path);
    assert!(matches!(
        find("/nonexistent/python"),
        Error::CannotStart { .. }
    ));
    assert!(matches!(find("true"), Error::NotCPython { .. }));
    assert!(matches!(find("/"), Error::CannotStart { .. }));
}

#[test]
fn a_worker_outlives_what_programs_do() {
    let mut worker = Worker::start(any(), &short()).expect("the worker starts");
    let good = call("def f(x):\n    return x + 1\n", "f", "41");
    let bad = [
        "import os\nos.kill(os.getpid(), 9)\n",
        "while True: pass\n",
        "import os\nos.kill(os.getppid(), 9)\nimport time\ntime.sleep(9)\n",
        "import os\nos.closerange(0, 1000)\n",
        "import os\nif os.fork() == 0:\n    while True: pass\n",
        "import os\nfor fd in range(3, 50):\n    try: os.write(fd, b'Dxxxx')\n    except OSError: pass\n",
        "import signal\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n    except OSError: pass\nwhile True:\n    pass\n",
        "import sys\nsys.stdout.close()\nsys.stderr = None\n1/0\n",
        "import atexit, time\natexit.register(time.sleep, 50)\n",
    ];
    for source in bad {
        let began = Instant::now();
        let outcome = worker.trace(&module(source)).expect("a trace");
        verify(&outcome);
        assert!(began.elapsed() < Duration::from_secs(6), "{source}");
        let trace = worker.trace(&good).expect("a trace");
        assert_eq!(
            (last_value(&trace).as_str(), &trace.end),
            ("42", &End::Finished),
            "{source}"
        );
        assert!(worker.trace(&module("def")).is_err());
    }
}
