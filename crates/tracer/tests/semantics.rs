//! What a trace says about a program, on every CPython of the machine: the cases that tracers are
//! known to get wrong.

mod common;

use common::{call, interpreters, limits, line, module, on_each, text};
use cwm_trace::{End, EventKind, Trace};
use cwm_tracer::Worker;

/// The values returned or yielded by the functions of the given name, in order.
fn values(trace: &Trace, function: &str) -> Vec<String> {
    let of_function = |index: u32| trace.functions[index as usize].name == function;
    let left = trace
        .events
        .iter()
        .filter(|e| e.kind.leaves() && of_function(e.function));
    left.filter_map(|e| Some(e.value.as_ref()?.detailed().to_string()))
        .collect()
}

/// Kind and activation of every event but lines, as text.
fn skeleton(trace: &Trace) -> String {
    let kept = trace
        .events
        .iter()
        .filter(|event| event.kind != EventKind::Line);
    let words: Vec<_> = kept
        .map(|e| format!("{:?}{}", e.kind, e.activation).to_lowercase())
        .collect();
    words.join(" ")
}

#[test]
fn a_function_is_recorded_from_its_call_to_its_return() {
    let source = "\
def f(a, *rest, k=1):
    b = a + k
    for x in rest:
        b += x
    return b
";
    on_each(&call(source, "f", "1, 2, k=5"), |_, trace| {
        assert_eq!(trace.end, End::Finished);
        assert_eq!(
            text(trace),
            "\
call f#0:1 a=1 k=5 rest=(2,)
line f#0:2 a=1 k=5 rest=(2,)
line f#0:3 a=1 k=5 rest=(2,) b=6
line f#0:4 a=1 k=5 rest=(2,) b=6 x=2
line f#0:3 a=1 k=5 rest=(2,) b=8 x=2
line f#0:5 a=1 k=5 rest=(2,) b=8 x=2
return f#0:5 a=1 k=5 rest=(2,) b=8 x=2 -> 8
"
        );
    });
}

#[test]
fn locals_come_in_binding_order_and_deleted_ones_go() {
    let source = "\
def f(z):
    b = 1
    a = 2
    del b
    c = 3
    b = 4
    return z
";
    on_each(&call(source, "f", "0"), |_, trace| {
        let last = &trace.events[trace.events.len() - 2];
        assert_eq!(line(trace, last), "line f#0:7 z=0 a=2 c=3 b=4");
    });
}

#[test]
fn interleaved_generators_of_one_function_keep_their_activations() {
    let source = "\
def gen(n):
    got = yield n
    yield got

def f():
    a, b = gen(1), gen(2)
    next(a)
    next(b)
    a.send('x')
    b.send('y')
    return list(a), list(b)
";
    on_each(&call(source, "f", ""), |_, trace| {
        assert_eq!(
            skeleton(trace),
            "call0 call1 yield1 call2 yield2 resume1 yield1 resume2 yield2 resume1 return1 \
             resume2 return2 return0"
        );
        assert_eq!(
            values(trace, "gen"),
            ["1", "2", "'x'", "'y'", "None", "None"]
        );
    });
}

#[test]
fn yield_return_and_unwinding_are_told_apart() {
    let source = "\
def bare():
    yield
    return None

def inner():
    try:
        yield 1
    except ValueError:
        yield 'caught'

def outer():
    result = yield from inner()
    return result

def raises():
    return int('x')

def swallows():
    try:
        raises()
    finally:
        return None

def f():
    g = bare()
    list(g)
    h = outer()
    next(h)
    h.throw(ValueError('v'))
    h.close()
    k = bare()
    next(k)
    try:
        k.throw(KeyError('k'))
    except KeyError:
        pass
    swallows()
";
    on_each(&call(source, "f", ""), |py, trace| {
        let of = |name: &str| -> Vec<EventKind> {
            let here = |e: &&cwm_trace::Event| trace.functions[e.function as usize].name == name;
            let kept = trace.events.iter().filter(here).map(|e| e.kind);
            kept.filter(|kind| kind.leaves()).collect()
        };
        use EventKind::{Return, Unwind, Yield};
        assert_eq!(
            of("bare"),
            [Yield, Return, Yield, Unwind],
            "{:?}",
            py.version
        );
        assert_eq!(of("inner"), [Yield, Yield, Unwind], "{:?}", py.version);
        // Whether `throw` runs the delegating frame too depends on the version.
        let outer = of("outer");
        assert_eq!(
            (outer[0], outer.last()),
            (Yield, Some(&Unwind)),
            "{:?}",
            py.version
        );
        assert_eq!(of("raises"), [Unwind]);
        assert_eq!(of("swallows"), [Return]);
    });
}

#[test]
fn coroutines_and_asynchronous_generators_suspend_and_go_on() {
    let source = "\
import asyncio

async def ticks(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i

async def total(n):
    return sum([i async for i in ticks(n)])

async def f(n):
    return await asyncio.gather(total(n), total(n + 1))
";
    on_each(&call(source, "f", "2"), |py, trace| {
        assert_eq!(trace.end, End::Finished, "{:?}", py.version);
        assert_eq!(
            values(trace, "f").last().map(String::as_str),
            Some("[1, 3]")
        );
        assert!(trace.events.iter().any(|e| e.kind == EventKind::Resume));
    });
}

#[test]
fn exceptions_appear_in_every_activation_they_pass() {
    let source = "\
def deep(n):
    if n == 0:
        raise KeyError('deep')
    deep(n - 1)
";
    on_each(&call(source, "deep", "2"), |_, trace| {
        assert_eq!(
            skeleton(trace),
            "call0 call1 call2 exception2 unwind2 exception1 unwind1 exception0 unwind0"
        );
        assert_eq!(trace.end, End::Raised("KeyError('deep')".to_owned()));
        assert!(
            trace.stderr.ends_with("KeyError: 'deep'\n"),
            "{}",
            trace.stderr
        );
        assert!(!trace.stderr.contains("collector"), "{}", trace.stderr);
        assert!(!trace.stderr.contains("run_request"), "{}", trace.stderr);
        let raised = trace
            .events
            .iter()
            .filter(|e| e.kind == EventKind::Exception);
        assert!(raised.map(|e| e.line).eq([3, 4, 4]));
    });
}

#[test]
fn mutation_in_place_shows_in_every_frame_that_sees_the_object() {
    let source = "\
def push(target):
    target.append([0])
    target[0].append(1)

def f():
    xs = []
    alias = xs
    push(xs)
    del alias[0][0]
    return alias
";
    on_each(&call(source, "f", ""), |_, trace| {
        let text = text(trace);
        assert!(text.contains("line push#1:3 target=[[0]]\n"), "{text}");
        assert!(
            text.contains("line f#0:9 xs=[[0, 1]] alias=[[0, 1]]\n"),
            "{text}"
        );
        assert!(
            text.contains("line f#0:10 xs=[[1]] alias=[[1]]\n"),
            "{text}"
        );
    });
}

#[test]
fn closures_show_their_free_variables() {
    let source = "\
def f():
    count = 0
    def step(by=2):
        nonlocal count
        count += by
        return count
    step()
    return step() + count
";
    on_each(&call(source, "f", ""), |_, trace| {
        let text = text(trace);
        assert!(text.contains("call step#1:3 by=2 count=0\n"), "{text}");
        assert!(text.contains("line step#1:6 by=2 count=2\n"), "{text}");
        assert!(text.ends_with(" -> 8\n"), "{text}");
        assert!(text.contains("step=step(count=2)"), "{text}");
    });
}

#[test]
fn module_frames_list_what_the_program_binds() {
    let source = "\
'''Doc.'''
import math
from os.path import join
def helper(x):
    return x
class Point:
    unit = 1
    size = [unit, 2]
    del unit
twice = lambda v: v * 2
total = twice(3)
p = Point()
p.x = total
";
    on_each(&module(source), |_, trace| {
        let lines = text(trace);
        assert!(lines.starts_with("call <module>#0:"), "{lines}");
        assert!(
            lines.contains("line <module>#0:13 total=6 p=Point()\n"),
            "{lines}"
        );
        assert!(
            lines.contains("line Point#1:9 unit=1 size=[1, 2]\n"),
            "{lines}"
        );
        assert!(
            lines.ends_with("return <module>#0:13 total=6 p=Point(x=6) -> None\n"),
            "{lines}"
        );
        assert!(!lines.contains("math="), "{lines}");
    });
}

/// Reading `f_locals` from a Python trace function breaks these on 3.12.1.
#[test]
fn comprehensions_over_two_lines_give_their_true_results() {
    let source = "\
class Body:
    rows = [i
            for i in range(2)]
    names = sorted(vars())
made = [j
        for j in range(2)]
print(Body.rows, made, 'j' in globals(), 'i' in Body.names, hasattr(Body, 'i'))
";
    on_each(&module(source), |py, trace| {
        assert_eq!(
            trace.stdout, "[0, 1] [0, 1] False False False\n",
            "{:?}",
            py.version
        );
        assert_eq!(trace.stderr, "", "{:?}", py.version);
    });
}

#[test]
fn loops_on_one_line_have_an_event_for_each_round() {
    let source = "\
def f(n):
    while n: n -= 1
    return n
";
    on_each(&call(source, "f", "3"), |py, trace| {
        let rounds = trace
            .events
            .iter()
            .filter(|e| e.kind == EventKind::Line && e.line == 2);
        let expected = if py.version.1 < 10 { 5 } else { 4 };
        assert!(
            (3..=expected).contains(&rounds.count()),
            "{:?}\n{}",
            py.version,
            text(trace)
        );
    });
}

#[test]
fn instances_of_own_classes_are_written_with_attributes() {
    let source = "\
import collections
class Acc:
    def __init__(self):
        self.total, self.items = 3, [1, 2]
class Slotted(Acc):
    __slots__ = ('y', '_x', '__z', 'unset')
class Node:
    __slots__ = 'value', 'next'
    def __init__(self, value, next=None):
        self.value, self.next = value, next
class Own:
    def __repr__(self):
        return 'mine'
class Empty:
    pass
def show(v):
    return v
def f():
    s = Slotted()
    s.y, s._x, s._Slotted__z = 1, Empty(), 2
    show(s)
    loop = Node(1)
    loop.next = Node([loop])
    show(loop)
    show([Acc(), {'k': (Acc(),)}, Own(), 'x at 0x12'])
    show(collections.deque([Own()]))
    show(Own())
";
    on_each(&call(source, "f", ""), |_, trace| {
        assert_eq!(
            values(trace, "show"),
            [
                "Slotted(total=3, items=[1, 2], y=1, _x=Empty(), _Slotted__z=2)",
                "Node(value=1, next=Node(value=[Node(...)], next=None))",
                "[Acc(total=3, items=[1, 2]), {'k': (Acc(total=3, items=[1, 2]),)}, mine, \
                 'x at 0x12']",
                "deque([mine])",
                "mine",
            ]
        );
        let of_show = |e: &&cwm_trace::Event| {
            e.kind == EventKind::Return && trace.functions[e.function as usize].name == "show"
        };
        let reprs: Vec<_> = trace
            .events
            .iter()
            .filter(of_show)
            .filter_map(|e| e.value.as_ref())
            .collect();
        assert_eq!(&*reprs[0].repr, "<__main__.Slotted object>");
        assert_eq!(
            &*reprs[2].repr,
            "[<__main__.Acc object>, {'k': (<__main__.Acc object>,)}, mine, 'x at 0x12']"
        );
        assert!(reprs[3].detail.is_none() && reprs[4].detail.is_none());
    });
}

#[test]
fn values_are_what_repr_says() {
    let expressions = [
        "0",
        "-7",
        "2**63",
        "10**30",
        "True",
        "None",
        "...",
        "1j",
        "1e16",
        "1e-5",
        "0.0001",
        "0.1",
        "-0.0",
        "float('inf')",
        "float('nan')",
        "''",
        "'it\\'s'",
        "'\"'",
        "'\\'\"'",
        "'a\\n\\t\\\\\\x00\\x7f'",
        "'é\\ud800'",
        "b'x\\'\\xff'",
        "()",
        "(1,)",
        "[]",
        "[1, 'a']",
        "{}",
        "{(): [{}]}",
        "set()",
        "{1}",
        "frozenset()",
        "frozenset({'a'})",
        "range(3)",
        "slice(1, 2)",
        "{'a': 1}.items()",
        "[[1, [2, [3.5]]], (None, True)]",
        "int",
        "{1: {2: {3: ()}}}",
    ];
    let source = "def f(v):\n    return repr(v), v\n";
    for py in interpreters() {
        let mut worker = Worker::start(py, &limits()).expect("the worker starts");
        for expression in expressions {
            let request = call(source, "f", expression);
            let trace = worker.trace(&request).expect("a trace");
            let shown = &trace.events[0].locals[0].value;
            assert!(!shown.truncated && shown.detail.is_none());
            let python = call("def f(v):\n    print(repr(v))\n", "f", expression);
            let printed = worker.trace(&python).expect("a trace").stdout;
            assert_eq!(
                format!("{}\n", shown.repr),
                printed,
                "{expression} on {:?}",
                py.version
            );
        }
    }
}

#[test]
fn addresses_go_but_program_text_stays() {
    let source = "\
class Odd:
    def __repr__(self):
        return \"<it's at 0x7f00 and it's at 0x7f01, 'kept at 0x12'>\"
def f(*vs):
    return vs
def g():
    yield 1
lists = [0]
lists.append(lists)
ring = {}
ring['self'] = (ring,)
";
    let cases = [
        ("object()", "(<object object>,)"),
        (
            "g, g(), [].append",
            "(<function g>, <generator object g>, <built-in method append of list object>)",
        ),
        ("'x at 0xff', b' at 0xff'", "('x at 0xff', b' at 0xff')"),
        ("Odd()", "(<it's and it's, 'kept at 0x12'>,)"),
        ("lists", "([0, [...]],)"),
        ("ring", "({'self': ({...},)},)"),
    ];
    for (args, expected) in cases {
        on_each(&call(source, "f", args), |_, trace| {
            assert_eq!(values(trace, "f"), [expected]);
        });
    }
}

#[test]
fn long_values_are_cut_and_say_so() {
    let source = "def f(v):\n    return 0\n";
    let cases = [
        ("'x' * 10000", format!("'{}...", "x".repeat(1999))),
        ("'é' * 10000", format!("'{}...", "é".repeat(1999))),
        ("\"'\" * 5000", format!("\"{}...", "'".repeat(1999))),
        ("b'y' * 5000 + b'\"'", format!("b'{}...", "y".repeat(1998))),
        (
            "[0] * 5000",
            format!("{}...", &format!("[{}", "0, ".repeat(700))[..2000]),
        ),
        (
            "[['a'] * 3] * 5000",
            format!(
                "{}...",
                &format!("[{}", "['a', 'a', 'a'], ".repeat(200))[..2000]
            ),
        ),
    ];
    for (args, expected) in cases {
        on_each(&call(source, "f", args), |_, trace| {
            let value = &trace.events[0].locals[0].value;
            assert_eq!(*value.repr, *expected, "{args}");
            assert!(value.truncated);
        });
    }
    // The same length as the cap is whole.
    on_each(&call(source, "f", "'x' * 1998"), |_, trace| {
        assert!(!trace.events[0].locals[0].value.truncated);
    });
}

#[test]
fn a_generator_or_method_can_be_the_entry() {
    let source = "\
def count(n):
    for i in range(n):
        yield i
class Box:
    @staticmethod
    def make(v):
        return [v]
";
    on_each(&call(source, "count", "2"), |_, trace| {
        assert_eq!(
            skeleton(trace),
            "call0 yield0 resume0 yield0 resume0 return0"
        );
    });
    on_each(&call(source, "Box.make", "1"), |_, trace| {
        assert_eq!(values(trace, "make"), ["[1]"]);
    });
}

#[test]
fn the_script_part_does_not_run_when_a_function_is_the_entry() {
    let source = "\
def f():
    return __name__
if __name__ == '__main__':
    print('script')
";
    on_each(&call(source, "f", ""), |_, trace| {
        assert_eq!(
            (trace.stdout.as_str(), values(trace, "f")),
            ("", vec!["'__main__'".to_owned()])
        );
    });
    on_each(&module(source), |_, trace| {
        assert_eq!(trace.stdout, "script\n")
    });
}

/// `doctest` saves and restores the trace function.
#[test]
fn programs_that_juggle_the_trace_function_are_recorded_to_their_end() {
    let source = "\
import doctest, sys
def half(x):
    '''
    >>> half(4)
    2
    '''
    return x // 2
def f():
    doctest.testmod(sys.modules['__main__'])
    y = half(10)
    return y
";
    on_each(&call(source, "f", ""), |py, trace| {
        assert_eq!(trace.stdout, "", "{:?}", py.version);
        assert_eq!(values(trace, "half"), ["2", "5"], "{:?}", py.version);
        assert_eq!(values(trace, "f"), ["5"], "{:?}", py.version);
    });
}

#[test]
fn only_the_calling_thread_and_process_are_recorded() {
    let source = "\
import os, threading
def work(out):
    out.append(1)
def f():
    out = []
    t = threading.Thread(target=work, args=(out,))
    t.start()
    t.join()
    if os.fork() == 0:
        work(out)
        os._exit(0)
    os.wait()
    return out
";
    on_each(&call(source, "f", ""), |_, trace| {
        assert_eq!(trace.functions.len(), 1, "{}", text(trace));
        assert_eq!(values(trace, "f"), ["[1]"]);
    });
}

#[test]
fn standard_input_and_the_environment_are_the_requests_own() {
    let source = "\
import os, sys, random
print(input(), sys.stdin.read().split(), sys.argv, os.environ.get('USER'))
print([hash('a'), random.random()], file=sys.stderr)
";
    let big = format!("first\n{}", "word ".repeat(30_000));
    for py in interpreters() {
        let mut worker = Worker::start(py, &limits()).expect("the worker starts");
        let mut seen = Vec::new();
        for stdin in ["a b\nc d\n", "a b\nc d\n", &big] {
            let request = cwm_tracer::Request {
                stdin: stdin.as_bytes(),
                ..module(source)
            };
            seen.push(worker.trace(&request).expect("a trace"));
        }
        assert_eq!(seen[0].stdout, "a b ['c', 'd'] ['program.py'] None\n");
        assert_eq!(seen[0], seen[1], "two runs are equal");
        assert!(seen[2].stdout.matches("'word'").count() == 30_000);
    }
}

/// `text` is what Python itself says, and the trace shows it in quotes.
#[test]
fn numbers_are_written_as_python_writes_them() {
    let source = "\
import random, struct
def f(values):
    for value in values:
        text = repr(value)
def floats(seed):
    random.seed(seed)
    values = [float('1e%d' % n) for n in range(-325, 309)]
    values += [9.5 * 10.0**n for n in range(-10, 25)] + [2.0**n for n in range(-80, 80)]
    for _ in range(2500):
        values.append(struct.unpack('<d', struct.pack('<Q', random.getrandbits(64)))[0])
        values.append(round(random.uniform(-1e4, 1e4), random.randrange(6)))
    return values
def ints():
    return [s * (b**n + d) for b in (2, 10) for n in range(70) for d in (-1, 0, 1) for s in (1, -1)]
";
    let limits = cwm_tracer::Limits {
        max_events: 100_000,
        max_value_chars: 100,
        ..limits()
    };
    for py in interpreters() {
        let mut worker = Worker::start(py, &limits).expect("the worker starts");
        for args in ["floats(1)", "ints()"] {
            let trace = worker.trace(&call(source, "f", args)).expect("a trace");
            assert_eq!(trace.end, End::Finished);
            let mut seen = 0;
            // At the head of the loop both variables are of the same round.
            for event in trace.events.iter().filter(|e| e.line == 3) {
                let [_, value, text] = &event.locals[..] else {
                    continue;
                };
                assert_eq!(format!("'{}'", value.value.repr), *text.value.repr);
                seen += 1;
            }
            assert!(seen > 800, "{seen} numbers");
        }
    }
}
