//! Threads of the program: each has a trace of its own, in which nothing of another appears. Processes of
//! the program are in none.

mod common;

use common::{call, interpreters, limits, module, text, verify};
use cwm_trace::{End, EventKind, Trace};
use cwm_tracer::{Interpreter, Limits, Mode, Request, Values, Worker};

const MODES: [Mode; 3] = [Mode::Direct, Mode::Api, Mode::Python];

/// Runs a request with all threads in every mode of every interpreter.
fn on_each(request: &Request<'_>, check: impl Fn(&Interpreter, &[Trace])) {
    on_each_within(&limits(), request, check);
}

fn on_each_within(limits: &Limits, request: &Request<'_>, check: impl Fn(&Interpreter, &[Trace])) {
    on_each_mode(limits, request, |py, _, traces| check(py, traces));
}

fn on_each_mode(
    limits: &Limits,
    request: &Request<'_>,
    check: impl Fn(&Interpreter, Mode, &[Trace]),
) {
    for py in interpreters() {
        for mode in MODES {
            let mut worker = Worker::start_in(py, limits, mode, Values::Repr).expect("it starts");
            let traces = worker.trace_threads(request).expect("traces");
            assert!(traces[0].thread.is_none());
            for (number, trace) in (0..).zip(&traces) {
                let of = trace.thread.as_ref().map_or(0, |thread| thread.number);
                assert_eq!(of, number, "{:?}", py.version);
                verify(trace);
            }
            check(py, mode, &traces);
        }
    }
}

fn name(trace: &Trace) -> &str {
    trace.thread.as_ref().map_or("", |thread| &thread.name)
}

const TWO: &str = "\
import threading
def square(n):
    total = 0
    for i in range(n):
        total += n
    return total
def f():
    found = []
    threads = [threading.Thread(target=lambda n=n: found.append(square(n)), name='t%d' % n) for n in (2, 3)]
    for t in threads:
        t.start()
        t.join()
    return found
";

#[test]
fn each_thread_has_its_own_activations() {
    on_each(&call(TWO, "f", ""), |py, traces| {
        assert_eq!(traces.len(), 3, "{:?}", py.version);
        assert_eq!(
            traces.iter().map(name).collect::<Vec<_>>(),
            ["", "t2", "t3"]
        );
        assert_eq!(
            text(&traces[1]),
            "\
call <lambda>#0:9 n=2 found=[]
line <lambda>#0:9 n=2 found=[]
call square#1:2 n=2
line square#1:3 n=2
line square#1:4 n=2 total=0
line square#1:5 n=2 total=0 i=0
line square#1:4 n=2 total=2 i=0
line square#1:5 n=2 total=2 i=1
line square#1:4 n=2 total=4 i=1
line square#1:6 n=2 total=4 i=1
return square#1:6 n=2 total=4 i=1 -> 4
return <lambda>#0:9 n=2 found=[4] -> None
",
            "{:?}",
            py.version
        );
        assert!(traces.iter().all(|trace| trace.end == End::Finished));
        let main = text(&traces[0]);
        assert!(!main.contains("square#"), "{main}");
        let last = traces[0].events.last().and_then(|e| e.value.as_ref());
        assert_eq!(last.map(|value| &*value.repr), Some("[4, 9]"));
    });
}

/// Threads that run at the same time, switched in the middle of everything, one of them by a `repr`.
#[test]
fn threads_that_run_at_once_are_kept_apart() {
    let source = "\
import sys, threading, time
sys.setswitchinterval(1e-5)
class Slow:
    def __init__(self, n):
        self.n = n
    def __repr__(self):
        time.sleep(0.0005)
        return 'slow %d' % self.n
def work(n):
    shown = Slow(n)
    rows = [[n] * 3]
    for i in range(30):
        rows[0][0] = i * n
    return rows
def f():
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
f()
";
    on_each(&module(source), |py, traces| {
        assert_eq!(traces.len(), 5, "{:?}", py.version);
        let mut seen = Vec::new();
        for trace in &traces[1..] {
            assert_eq!(trace.end, End::Finished);
            let first = &trace.events[0];
            let n: i64 = first.locals[0].value.repr.parse().expect("a number");
            seen.push(n);
            let calls = |e: &&cwm_trace::Event| e.kind == EventKind::Call;
            // `work` and `Slow.__init__`; what a `repr` does is not recorded.
            assert_eq!(trace.events.iter().filter(calls).count(), 2);
            let lines = |e: &&cwm_trace::Event| e.kind == EventKind::Line;
            assert_eq!(trace.events.iter().filter(lines).count(), 1 + 2 + 61 + 1);
            let value = trace.events.last().and_then(|e| e.value.as_ref());
            let wanted = format!("[[{}, {n}, {n}]]", 29 * n);
            assert_eq!(value.map(|v| v.repr.to_string()), Some(wanted));
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3]);
    });
}

#[test]
fn threads_of_every_kind_are_recorded() {
    let source = "\
import _thread, threading
from concurrent.futures import ThreadPoolExecutor
def double(n):
    return 2 * n
def fail():
    raise KeyError('lost')
def low(lock):
    double(1)
    lock.release()
lock = _thread.allocate_lock()
lock.acquire()
_thread.start_new_thread(low, (lock,))
lock.acquire()
with ThreadPoolExecutor(1) as pool:
    print(list(pool.map(double, [5, 6])))
t = threading.Thread(target=fail, name='failing')
t.start()
t.join()
def late():
    double(7)
threading.Thread(target=late, name='late').start()
";
    on_each(&module(source), |py, traces| {
        let shown: Vec<_> = traces[1..]
            .iter()
            .map(|trace| {
                let functions = trace.functions.iter().map(|f| f.name.as_str());
                let calls = trace.events.iter().filter(|e| e.kind == EventKind::Call);
                let calls = calls.count();
                (
                    functions.collect::<Vec<_>>().join(" "),
                    calls,
                    trace.end.clone(),
                )
            })
            .collect();
        let raised = End::Raised("KeyError('lost')".to_owned());
        let wanted = [
            ("low double", 2, End::Finished),
            ("double", 2, End::Finished),
            ("fail", 1, raised),
            ("late double", 2, End::Finished),
        ];
        let wanted = wanted.map(|(functions, calls, end)| (functions.to_owned(), calls, end));
        // The lock is released before the first thread is at its end.
        let mut shown = shown;
        shown[0].2 = End::Finished;
        assert_eq!(shown, wanted, "{:?}", py.version);
        assert_eq!(traces[0].stdout, "[10, 12]\n");
    });
}

#[test]
fn a_thread_that_never_ends_is_cut_and_the_others_are_not() {
    let source = "\
import threading
far = threading.Event()
def spin():
    n = 0
    while True:
        n += 1
        if n == 1000:
            far.set()
def f():
    threading.Thread(target=spin, daemon=True).start()
    far.wait()
    return 'done'
";
    let few = Limits {
        max_events: 300,
        ..limits()
    };
    on_each_within(&few, &call(source, "f", ""), |py, traces| {
        assert_eq!(traces[0].end, End::Finished, "{:?}", py.version);
        assert_eq!(traces[1].end, End::MaxEvents(300), "{:?}", py.version);
        assert_eq!(traces[1].events.len(), 300);
    });
}

/// Forked by each of the ways that there are, from the main thread and from another.
#[test]
fn processes_of_the_program_write_into_no_log() {
    let source = "\
import multiprocessing, os, subprocess, sys, threading
def child_work(n):
    inside = n
    return inside
def forks():
    pid = os.fork()
    if pid == 0:
        child_work(1)
        t = threading.Thread(target=child_work, args=(2,))
        t.start()
        t.join()
        os._exit(0)
    os.waitpid(pid, 0)
def f():
    forks()
    t = threading.Thread(target=forks)
    t.start()
    t.join()
    context = multiprocessing.get_context('fork')
    p = context.Process(target=child_work, args=(3,))
    p.start()
    p.join()
    subprocess.run([sys.executable, '-c', 'x = 1'])
    return p.exitcode
";
    on_each(&call(source, "f", ""), |py, traces| {
        assert_eq!(traces.len(), 2, "{:?}", py.version);
        for trace in traces {
            assert_eq!(trace.end, End::Finished, "{:?}", py.version);
            let functions = || trace.functions.iter().map(|f| f.name.as_str());
            assert!(
                functions().all(|name| name != "child_work"),
                "{:?}",
                py.version
            );
        }
        let value = traces[0].events.last().and_then(|e| e.value.as_ref());
        assert_eq!(value.map(|v| &*v.repr), Some("0"), "{:?}", py.version);
    });
}

/// What happens in a thread is recorded in every mode as it would be in the main thread.
#[test]
fn every_mode_records_a_thread_in_the_same_way() {
    let source = format!(
        "{}\n\
import threading
def deep(n):
    return deep(n + 1)
def caught():
    try:
        deep(0)
    except RecursionError as error:
        found = str(error)
    return found
def started(*functions):
    for at, function in enumerate(functions):
        t = threading.Thread(target=function, name='t%d' % at)
        t.start()
        t.join()
",
        include_str!("torture.py")
    );
    let request = call(&source, "started", "everything, caught");
    for py in interpreters() {
        let run = |mode| {
            let mut worker =
                Worker::start_in(py, &limits(), mode, Values::Repr).expect("it starts");
            worker.trace_threads(&request).expect("traces")
        };
        let [direct, api, python] = MODES.map(run);
        for (mode, others) in [(Mode::Api, &api), (Mode::Python, &python)] {
            assert_eq!(direct.len(), 3, "{:?}", py.version);
            assert_eq!(others.len(), 3, "{:?} {mode:?}", py.version);
            for (one, other) in direct.iter().zip(others).skip(1) {
                let what = format!("{:?} {mode:?} {}", py.version, name(one));
                let (left, right) = (text(one), text(other));
                let mut pairs = left.lines().zip(right.lines());
                assert_eq!(pairs.find(|(a, b)| a != b), None, "{what}");
                assert_eq!(one.events, other.events, "{what}");
                assert_eq!(one.functions, other.functions, "{what}");
                assert_eq!(one.thread, other.thread, "{what}");
                assert_eq!(one.end, other.end, "{what}");
            }
        }
        let calls = |trace: &Trace| {
            let calls = trace.events.iter().filter(|e| e.kind == EventKind::Call);
            calls.count()
        };
        assert!(direct[1].events.len() > 300);
        assert!((900..1002).contains(&calls(&direct[2])), "{:?}", py.version);
    }
}

/// A thread's own events must not put back what another has written in the meantime.
#[test]
fn variables_that_threads_share_are_not_disturbed() {
    let source = "\
import sys, threading
sys.setswitchinterval(1e-4)
def f():
    total = 0
    lock = threading.Lock()
    def add(n):
        nonlocal total
        for i in range(n):
            with lock:
                total += 1
    threads = [threading.Thread(target=add, args=(200,)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return total
";
    on_each_mode(&limits(), &call(source, "f", ""), |py, mode, traces| {
        assert_eq!(traces.len(), 5, "{:?}", py.version);
        let value = traces[0].events.last().and_then(|e| e.value.as_ref());
        let total: u32 = value.map_or(0, |v| v.repr.parse().expect("a number"));
        // Before 3.10 the interpreter writes what `f_locals` showed back after every event, and a thread may be
        // stopped between the two: the fallback in Python, which has no other way to see them, loses a
        // write now and then.
        let least = match mode {
            Mode::Python if py.version < (3, 10, 0) => 760,
            _ => 800,
        };
        assert!(
            (least..=800).contains(&total),
            "{total}, {:?} {mode:?}",
            py.version
        );
    });
}

/// The interpreter gives a new thread the identifier, and the memory, of one that is over.
#[test]
fn each_of_many_threads_has_a_log_of_its_own() {
    let source = "\
import threading, time
def work(n):
    found = n * n
    return found
def f():
    for n in range(40):
        t = threading.Thread(target=work, args=(n,))
        t.start()
        t.join()
        # It has no code of the program.
        t = threading.Thread(target=time.sleep, args=(0,))
        t.start()
        t.join()
";
    on_each(&call(source, "f", ""), |py, traces| {
        assert_eq!(traces.len(), 41, "{:?}", py.version);
        for (n, trace) in (0..).zip(&traces[1..]) {
            assert_eq!(trace.end, End::Finished, "{:?}", py.version);
            let wanted = format!(
                "call work#0:2 n={n}\nline work#0:3 n={n}\nline work#0:4 n={n} found={0}\n\
                 return work#0:4 n={n} found={0} -> {0}\n",
                n * n
            );
            assert_eq!(text(trace), wanted, "{:?}", py.version);
        }
    });
}

#[test]
fn nothing_is_lost_of_a_thread_that_is_still_running_at_the_end() {
    let source = "\
import threading
far = threading.Event()
def work():
    n = 0
    while True:
        text = str(n) * 600
        n += 1
        if n == 2000:
            far.set()
def f():
    threading.Thread(target=work, daemon=True).start()
    far.wait()
";
    let many = Limits {
        max_events: 5_000_000,
        ..limits()
    };
    on_each_within(&many, &call(source, "f", ""), |py, traces| {
        assert_eq!(traces[0].end, End::Finished, "{:?}", py.version);
        let End::Crashed(why) = &traces[1].end else {
            panic!("{:?}: {:?}", py.version, traces[1].end);
        };
        assert!(why.contains("still running"), "{why}");
        let has_come_far = |e: &cwm_trace::Event| e.line == 9;
        let far = traces[1].events.iter().find(|&e| has_come_far(e));
        let far = far.expect("the line before the end of the main thread");
        let n = far.locals.iter().find(|local| &*local.name == "n");
        assert_eq!(n.map(|n| &*n.value.repr), Some("2000"));
    });
}

/// Up to 3.11 what records is a trace function, which programs save, hand on and put back.
#[test]
fn programs_that_handle_trace_functions_keep_the_threads_apart() {
    let source = "\
import sys, threading
mine = sys.gettrace()
def inside(n):
    return n
def work():
    trace = sys.gettrace()
    sys.settrace(None)
    inside(1)
    sys.settrace(trace)
    del trace
    inside(2)
def lent():
    sys.settrace(mine)
    inside(3)
for target in work, lent:
    t = threading.Thread(target=target)
    t.start()
    t.join()
threading.settrace(mine)
t = threading.Thread(target=inside, args=(4,))
t.start()
t.join()
";
    on_each(&module(source), |py, traces| {
        assert_eq!(traces.len(), 4, "{:?}", py.version);
        let calls = |trace: &Trace| {
            let calls = trace.events.iter().filter(|e| e.kind == EventKind::Call);
            let names = calls.map(|e| {
                let function = &trace.functions[e.function as usize].name;
                let n = e.locals.first().map(|local| local.value.repr.to_string());
                format!("{function}({})", n.unwrap_or_default())
            });
            names.collect::<Vec<_>>().join(" ")
        };
        let work = if py.version.1 < 12 {
            "work() inside(2)"
        } else {
            "work() inside(1) inside(2)"
        };
        assert_eq!(calls(&traces[1]), work, "{:?}", py.version);
        assert_eq!(calls(&traces[2]), "lent() inside(3)", "{:?}", py.version);
        assert_eq!(calls(&traces[3]), "inside(4)", "{:?}", py.version);
        assert!(traces.iter().all(|trace| trace.end == End::Finished));
    });
}

/// Without being asked for, threads are not recorded and the main thread's trace is the same.
#[test]
fn the_main_trace_does_not_depend_on_the_others() {
    let source = "\
import sys
from concurrent.futures import ThreadPoolExecutor
def down(n):
    while n: n -= 1
    return n
def f():
    with ThreadPoolExecutor(1, '', sys.settrace, (sys.gettrace(),)) as pool:
        found = list(pool.map(down, [2, 3]))
    return found, down(3)
";
    for py in interpreters() {
        for mode in MODES {
            let mut worker =
                Worker::start_in(py, &limits(), mode, Values::Repr).expect("it starts");
            let alone = worker.trace(&call(source, "f", "")).expect("a trace");
            let traces = worker
                .trace_threads(&call(source, "f", ""))
                .expect("traces");
            assert_eq!(text(&alone), text(&traces[0]), "{:?} {mode:?}", py.version);
            assert_eq!(alone, traces[0], "{:?} {mode:?}", py.version);
            assert_eq!(traces.len(), 2, "{:?} {mode:?}", py.version);
        }
    }
}
