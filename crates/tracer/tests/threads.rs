//! Threads of the program: each has a trace of its own, in which nothing of another appears. Processes of
//! the program are in none.

mod common;

use common::{call, interpreters, limits, module, text, verify};
use cwm_trace::{End, EventKind, Trace};
use cwm_tracer::{Interpreter, Mode, Request, Values, Worker};

/// Runs a request with all threads by every interpreter, by direct reading and by the public API.
fn on_each(request: &Request<'_>, check: impl Fn(&Interpreter, &[Trace])) {
    for py in interpreters() {
        for mode in [Mode::Direct, Mode::Api] {
            let mut worker =
                Worker::start_in(py, &limits(), mode, Values::Repr).expect("it starts");
            let traces = worker.trace_threads(request).expect("traces");
            assert!(traces[0].thread.is_none());
            for (number, trace) in (0..).zip(&traces) {
                let of = trace.thread.as_ref().map_or(0, |thread| thread.number);
                assert_eq!(of, number, "{:?}", py.version);
                verify(trace);
            }
            check(py, &traces);
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
    let few = cwm_tracer::Limits {
        max_events: 300,
        ..limits()
    };
    for py in interpreters() {
        let mut worker = Worker::start(py, &few).expect("it starts");
        let traces = worker
            .trace_threads(&call(source, "f", ""))
            .expect("traces");
        assert_eq!(traces[0].end, End::Finished, "{:?}", py.version);
        assert_eq!(traces[1].end, End::MaxEvents(300), "{:?}", py.version);
        assert_eq!(traces[1].events.len(), 300);
    }
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

/// Without being asked for, threads are not recorded and the main thread's trace is the same.
#[test]
fn the_main_trace_does_not_depend_on_the_others() {
    let source = "\
from concurrent.futures import ThreadPoolExecutor
def square(n):
    return n * n
def f():
    with ThreadPoolExecutor(1) as pool:
        found = list(pool.map(square, [2, 3]))
    return found
";
    for py in interpreters() {
        let mut worker = Worker::start(py, &limits()).expect("it starts");
        let alone = worker.trace(&call(source, "f", "")).expect("a trace");
        let traces = worker
            .trace_threads(&call(source, "f", ""))
            .expect("traces");
        assert_eq!(text(&alone), text(&traces[0]), "{:?}", py.version);
        assert_eq!(alone, traces[0], "{:?}", py.version);
        assert_eq!(traces.len(), 2, "{:?}", py.version);
    }
}
