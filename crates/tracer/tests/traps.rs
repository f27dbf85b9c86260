//! Traps that tracers are known to fall into: what is held, what is run, who else is about.

mod common;

use std::process::Command;

use common::{call, interpreters, limits, module, on_each, text, verify};
use cwm_trace::{End, EventKind};
use cwm_tracer::{Limits, Mode, Values, Worker};

/// Runs a program by every interpreter; it prints what it prints untraced.
fn prints_what_it_prints_untraced(source: &str, values: Values) {
    for py in interpreters() {
        let run = Command::new(&py.path)
            .args(["-s", "-B", "-c", source])
            .env("PYTHONHASHSEED", "0")
            .output()
            .expect("it runs");
        assert!(run.status.success(), "{:?}: {run:?}", py.version);
        let expected = String::from_utf8_lossy(&run.stdout);
        let limits = limits();
        let mut worker = Worker::start_in(py, &limits, Mode::Direct, values).expect("it starts");
        let trace = worker.trace(&module(source)).expect("a trace");
        verify(&trace);
        assert_eq!(trace.stdout, expected, "{:?}", py.version);
        assert_eq!(trace.end, End::Finished, "{:?}", py.version);
    }
}

#[test]
fn objects_die_when_they_would_die_untraced() {
    prints_what_it_prints_untraced(
        "\
import sys, weakref
class Dying:
    def __init__(self, name):
        self.name = name
    def __del__(self):
        print('gone', self.name)
def gen():
    try:
        yield 1
    finally:
        print('closed')
def f():
    first = Dying('first')
    link = weakref.ref(first)
    kept = [first]
    pair = (first, 1)
    table = {'k': first}
    first = None
    print(link() is None)
    kept = None
    pair = None
    table.clear()
    print(link() is None)
    g = gen()
    next(g)
    del g
    print('after')
    x = Dying('second')
    print(sys.getrefcount(x) < 10, sys.getrefcount([x]) < 10)
    kind = type('Kind', (), {})
    thing = kind()
    alive = weakref.ref(kind)
    import gc
    del kind, thing
    gc.collect()
    print(alive() is None)
    def inner():
        return thing2
    thing2 = Dying('third')
    captured = weakref.ref(inner)
    del inner
    print(captured() is None)
f()
print('end')
",
        Values::Repr,
    );
}

#[test]
fn no_comparison_hash_or_attribute_of_the_program_is_called() {
    prints_what_it_prints_untraced(
        "\
class Loud:
    def __eq__(self, other):
        print('eq')
        return True
    def __hash__(self):
        print('hash')
        return 1
    def __bool__(self):
        print('bool')
        return True
    def __len__(self):
        print('len')
        return 1
    def __getattribute__(self, name):
        print('get', name)
        return object.__getattribute__(self, name)
class Meta(type):
    def __instancecheck__(cls, other):
        print('instance')
        return False
class Made(metaclass=Meta):
    pass
def f():
    x = Loud()
    y = [x, (x,), {'k': x}]
    z = Made()
    y.append(z)
    w = lambda: x
    return 0
f()
print('end')
",
        Values::Repr,
    );
}

const STRANGERS: &str = "\
import collections, dataclasses, enum, sys
class Loud:
    def __repr__(self):
        print('repr')
        return 'loud'
    __str__ = __repr__
class Base(list):
    __repr__ = Loud.__repr__
    def __iter__(self):
        print('iter')
        return iter([])
    def __len__(self):
        print('len')
        return 0
class Table(dict):
    __repr__ = Loud.__repr__
    items = __repr__
class Word(str):
    __repr__ = Loud.__repr__
class Number(int):
    __repr__ = Loud.__repr__
class Trouble(Exception):
    __repr__ = Loud.__repr__
    args = property(Loud.__repr__)
class Point(collections.namedtuple('Point', 'x y')):
    __repr__ = Loud.__repr__
class Colour(enum.Enum):
    RED = 1
    __repr__ = Loud.__repr__
@dataclasses.dataclass
class Data:
    left: int
    right: list
class Meta(type):
    __repr__ = Loud.__repr__
class Made(metaclass=Meta):
    pass
class Plain:
    pass
def show(v):
    return 0
def f():
    inside = Loud()
    ring = Base([1])
    ring.append(ring)
    plain = Plain()
    plain.part = [inside]
    for v in (inside, Base([inside, 2]), Table(k=inside), Word('w'), Number(3), ring,
              Trouble('t', inside), Trouble('one'), Point(1, inside), Colour.RED,
              Data(1, [inside]), Made, Made(), plain, inside.__repr__, collections.deque([inside]),
              {'k': [inside]}, KeyError(inside), Plain, len, 2**70, 1j,
              collections.defaultdict(Plain, k=inside), {1: inside}.values()):
        show(v)
f()
print('end')
";

/// Nor to find out what they are.
#[test]
fn in_safe_mode_no_object_is_asked_what_it_is() {
    prints_what_it_prints_untraced(include_str!("torture_strangers.py"), Values::Safe);
}

/// What was shown is not kept for long if it is large.
#[test]
fn large_values_are_let_go() {
    let source = "\
keep = []
def f(i):
    t = [chr(97 + i) * 100_000_000]
    return len(t[0])
for i in range(20):
    # The next list comes to lie elsewhere.
    keep.append([])
    f(i)
print('fine')
";
    let limits = Limits {
        memory_bytes: 1 << 30,
        ..limits()
    };
    for py in interpreters() {
        let mut worker = Worker::start(py, &limits).expect("it starts");
        let trace = worker.trace(&module(source)).expect("a trace");
        assert_eq!(trace.end, End::Finished, "{:?}", py.version);
        assert_eq!(trace.stdout, "fine\n", "{:?}", py.version);
    }
}

/// Nothing of the program is run to show its objects, whatever they are.
#[test]
fn in_safe_mode_no_code_of_the_program_is_run() {
    prints_what_it_prints_untraced(STRANGERS, Values::Safe);
    let expected = "\
<__main__.Loud object>
[<__main__.Loud object>, 2]
{'k': <__main__.Loud object>}
'w'
3
[1, ...]
Trouble('t', <__main__.Loud object>)
Trouble('one')
Point(x=1, y=<__main__.Loud object>)
<Colour.RED: 1>
Data(left=1, right=[<__main__.Loud object>])
<class '__main__.Made'>
Made()
Plain(part=[<__main__.Loud object>])
<bound method Loud.__repr__ of <__main__.Loud object>>
deque([<__main__.Loud object>])
{'k': [<__main__.Loud object>]}
KeyError(<__main__.Loud object>)
<class '__main__.Plain'>
<built-in function len>
1180591620717411303424
1j
defaultdict(<class '__main__.Plain'>, {'k': <__main__.Loud object>})
dict_values([<__main__.Loud object>])
";
    for py in interpreters() {
        for mode in [Mode::Direct, Mode::Api, Mode::Python] {
            let limits = limits();
            let mut worker = Worker::start_in(py, &limits, mode, Values::Safe).expect("it starts");
            let trace = worker.trace(&module(STRANGERS)).expect("a trace");
            verify(&trace);
            let is_call = |e: &&cwm_trace::Event| {
                e.kind == EventKind::Call && trace.functions[e.function as usize].name == "show"
            };
            let calls = trace.events.iter().filter(is_call);
            let shown: String = calls
                .map(|e| format!("{}\n", e.locals[0].value.detailed()))
                .collect();
            assert_eq!(shown, expected, "{:?} {mode:?}", py.version);
        }
    }
}

/// `repr` is called, but whatever it does to us fails.
#[test]
fn a_repr_that_reaches_for_the_tracer_gets_nowhere() {
    let source = "\
import os, sys, threading
class Reaches:
    def __repr__(self):
        trace = sys.gettrace()
        if trace is not None:
            trace(sys._getframe(), 'call', None)
            trace(sys._getframe(), 'line', None)
            trace(1, 2, 3)
            sys.settrace(None)
            sys.settrace(trace)
        sys.setrecursionlimit(900)
        return 'reached'
class Forks:
    def __repr__(self):
        pid = os.fork()
        if pid == 0:
            return 'child'
        os.waitpid(pid, 0)
        return 'parent'
class Starts:
    def __repr__(self):
        thread = threading.Thread(target=work, args=([],))
        thread.start()
        thread.join()
        return 'started'
def work(out):
    for i in range(50):
        out.append(i)
def f(v, parent):
    a = 1
    if os.getpid() != parent:
        os._exit(0)
    b = [v]
    if os.getpid() != parent:
        os._exit(0)
    return b
";
    for (args, shown) in [
        ("Reaches(), os.getpid()", "[reached]"),
        ("Forks(), os.getpid()", "[parent]"),
        ("Starts(), os.getpid()", "[started]"),
    ] {
        on_each(&call(source, "f", args), |py, trace| {
            assert_eq!(trace.end, End::Finished, "{:?} {args}", py.version);
            let value = trace.events.last().and_then(|e| e.value.as_ref());
            assert_eq!(
                value.map(|v| &*v.repr),
                Some(shown),
                "{:?}\n{}",
                py.version,
                text(trace)
            );
        });
    }
}

#[test]
fn a_program_that_puts_the_trace_function_back_loses_nothing_after_that() {
    let source = "\
import sys
def inner(n):
    m = n
    return m
def f():
    trace = sys.gettrace()
    sys.settrace(None)
    x = 1
    sys.settrace(trace)
    y = 2
    z = inner(3)
    return z
";
    on_each(&call(source, "f", ""), |py, trace| {
        let text = text(trace);
        let tail = "\
line f#0:11 trace=T x=1 y=2
call inner#1:2 n=3
line inner#1:3 n=3
line inner#1:4 n=3 m=3
return inner#1:4 n=3 m=3 -> 3
line f#0:12 trace=T x=1 y=2 z=3
return f#0:12 trace=T x=1 y=2 z=3 -> 3
";
        // What stands for the tracer differs by version.
        let shown = text
            .replace("<built-in function trace>", "T")
            .replace("trace=None", "trace=T");
        assert!(shown.ends_with(tail), "{:?}\n{text}", py.version);
    });
}

/// The interpreter lock is given up inside a `__repr__` while other threads run traced functions.
#[test]
fn other_threads_do_not_disturb_the_recording() {
    let source = "\
import threading, time
stop = []
shared = [[0] * 20 for _ in range(5)]
class Slow:
    def __repr__(self):
        time.sleep(0.001)
        return 'slow'
def busy():
    while not stop:
        row = [i for i in range(20)]
        shared[0] = row
        shared.append(row)
        shared.pop()
def f():
    threads = [threading.Thread(target=busy) for _ in range(3)]
    for t in threads:
        t.start()
    s = [Slow(), shared]
    for i in range(30):
        x = i
    stop.append(1)
    for t in threads:
        t.join()
    return x
";
    on_each(&call(source, "f", ""), |py, trace| {
        assert_eq!(trace.end, End::Finished, "{:?}", py.version);
        let is_busy = |f: &cwm_trace::Function| f.name == "busy";
        assert!(!trace.functions.iter().any(is_busy), "{:?}", py.version);
        let value = trace.events.last().and_then(|e| e.value.as_ref());
        assert_eq!(value.map(|v| &*v.repr), Some("29"), "{:?}", py.version);
    });
}

/// A container that its own elements change while it is shown.
#[test]
fn containers_may_change_under_our_hands() {
    let source = "\
class Changes:
    def __init__(self, step):
        self.step = step
    def __repr__(self):
        self.step()
        return 'changed'
def f(n):
    xs = []
    xs += [Changes(xs.clear), [1], (2,), xs]
    d = {}
    d[1], d[2] = Changes(d.clear), [d]
    s = {1, 2}
    class Own:
        pass
    own = Own()
    own.part = Changes(lambda: vars(own).clear())
    own.rest = [s]
    def captures():
        return own, part
    part = Changes(lambda: captures.__closure__)
    for i in range(n):
        xs.append(Changes(xs.clear))
        d[i] = Changes(d.clear)
        own.part = Changes(lambda: vars(own).clear())
    return xs
";
    on_each(&call(source, "f", "5"), |py, trace| {
        assert_eq!(trace.end, End::Finished, "{:?}", py.version);
    });
}

/// Without the layout nothing may change but the speed.
#[test]
fn a_layout_is_proved_and_a_wrong_one_refused() {
    let check = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/layout_check.py");
    let layout = concat!(env!("CARGO_MANIFEST_DIR"), "/python/layout.py");
    for py in interpreters() {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            eprintln!("SKIPPED: {:?} is not read directly here", py.version);
            continue;
        }
        let run = Command::new(&py.path).args([check, layout]).output();
        let run = run.expect("it runs");
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{:?}: {said}", py.version);
    }
}

#[test]
fn every_mode_can_be_asked_for() {
    let py = common::any();
    for mode in [Mode::Api, Mode::Python] {
        let worker = Worker::start_in(py, &limits(), mode, Values::Repr).expect("it starts");
        assert!(worker.mode() == mode || worker.mode() == Mode::Python);
    }
}
