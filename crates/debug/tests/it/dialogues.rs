//! Whole sessions as a user sees them.

use cwm_debug::{Console, Landing, Options, Style, render};
use cwm_trace::live::{Ahead, Behind, Exit, Jump};
use cwm_trace::{Entry, Event, EventKind, Local, Value};

use crate::fake::{Fake, FakeReality, calls, console, dialogue, program, say};

const COUNT: &str = "\
def count_letters(word, letter):
    total = 0
    for ch in word:
        if ch == letter:
            total += 1
    return total

print(count_letters('ab', 'b'))
";

const COUNT_RUN: &str = "
    call count_letters 1 0 0 word='ab'! letter='b'!
    line count_letters 2 0 0 word=.. letter=..
    line count_letters 3 0 0 word=.. letter=.. total=0
    line count_letters 4 0 0 word=.. letter=.. total=0 ch='a'
    line count_letters 3 0 0 word=.. letter=.. total=0 ch='a'
    line count_letters 4 0 0 word=.. letter=.. total=0 ch='b'~0.41
    line count_letters 5 0 0 word=.. letter=.. total=0 ch='b'
    line count_letters 3 0 0 word=.. letter=.. total=2~0.55 ch='b'
    line count_letters 6 0 0 word=.. letter=.. total=2 ch='b'
    return count_letters 6 0 0 -> 2
";

fn count() -> Console<Fake, FakeReality> {
    let real = COUNT_RUN
        .replace("total=2~0.55", "total=1")
        .replace("total=2", "total=1");
    let reality = FakeReality::new(&real.replace("-> 2", "-> 1"));
    let program = program(COUNT, "count_letters", "'ab', 'b'");
    Console::new(program, Fake::new(COUNT_RUN), reality, Options::default()).unwrap()
}

#[test]
fn stepping() {
    insta::assert_snapshot!(
        dialogue(&mut count(), &["s", "", "", "", "step 2", "print ch", "list"]),
        @r"
        predicting count_letters('ab', 'b') in t.py: nothing is executed unless you type `verify`
        call of count_letters, line 1  (depth 0)  frame 0  p 0.97
        -> 1 | def count_letters(word, letter):
            word = 'ab'  (given)
            letter = 'b'  (given)
        (cwm) s
        line 2 in count_letters  (depth 0)  frame 1  p 0.97
        -> 2 |     total = 0
            word = 'ab'  (given)
            letter = 'b'  (given)
        (cwm)
        line 3 in count_letters  (depth 0)  frame 2  p 0.97
        -> 3 |     for ch in word:
            word = 'ab'  (given)
            letter = 'b'  (given)
          * total = 0  (p 0.98)
        (cwm)
        line 4 in count_letters  (depth 0)  frame 3  p 0.97
        -> 4 |         if ch == letter:
            word = 'ab'  (given)
            letter = 'b'  (given)
            total = 0  (p 0.98)
          * ch = 'a'  (p 0.98)
        (cwm)
        line 3 in count_letters  (depth 0)  frame 4  p 0.97
        -> 3 |     for ch in word:
            word = 'ab'  (given)
            letter = 'b'  (given)
            total = 0  (p 0.98)
            ch = 'a'  (p 0.98)
        (cwm) step 2
        line 5 in count_letters  (depth 0)  frame 6  p 0.97
        -> 5 |             total += 1
            word = 'ab'  (given)
            letter = 'b'  (given)
            total = 0  (p 0.98)
            ch = 'b'  (p 0.98)
        (cwm) print ch
            ch = 'b'  (p 0.98)
        (cwm) list
            1 | def count_letters(word, letter):
            2 |     total = 0
            3 |     for ch in word:
            4 |         if ch == letter:
        ->  5 |             total += 1
            6 |     return total
            7 |
            8 | print(count_letters('ab', 'b'))
        "
    );
}

#[test]
fn breaking() {
    insta::assert_snapshot!(
        dialogue(
            &mut count(),
            &[
                "b 5",
                "b 4 if ch == 'b'",
                "b",
                "c",
                "c",
                "list",
                "delete 2",
                "delete 2",
                "b 7",
                "b 70",
                "until 6",
                "d all",
                "breakpoints",
            ]
        ),
        @r"
        predicting count_letters('ab', 'b') in t.py: nothing is executed unless you type `verify`
        call of count_letters, line 1  (depth 0)  frame 0  p 0.97
        -> 1 | def count_letters(word, letter):
            word = 'ab'  (given)
            letter = 'b'  (given)
        (cwm) b 5
        breakpoint 1 at line 5
        (cwm) b 4 if ch == 'b'
        breakpoint 2 at line 4 if ch == 'b'
        (cwm) b
        1: line 5
        2: line 4 if ch == 'b'
        (cwm) c
        breakpoint 2
        line 4 in count_letters  (depth 0)  frame 5  p 0.97
        -> 4 |         if ch == letter:
            word = 'ab'  (given)
            letter = 'b'  (given)
            total = 0  (p 0.98)
          * ch = 'b'  (p 0.41 ?)
        (cwm) c
        breakpoint 1
        line 5 in count_letters  (depth 0)  frame 6  p 0.97
        -> 5 |             total += 1
            word = 'ab'  (given)
            letter = 'b'  (given)
            total = 0  (p 0.98)
            ch = 'b'  (p 0.98)
        (cwm) list
            1 | def count_letters(word, letter):
            2 |     total = 0
            3 |     for ch in word:
          b 4 |         if ch == letter:
        ->b 5 |             total += 1
            6 |     return total
            7 |
            8 | print(count_letters('ab', 'b'))
        (cwm) delete 2
        deleted breakpoint 2
        (cwm) delete 2
        error: no breakpoint 2; `breakpoints` lists them
        (cwm) b 7
        error: line 7 holds no code; the nearest lines with code are 6 and 8
        (cwm) b 70
        error: line 70 holds no code; the nearest line with code is 8
        (cwm) until 6
        line 6 in count_letters  (depth 0)  frame 8  p 0.97
        -> 6 |     return total
            word = 'ab'  (given)
            letter = 'b'  (given)
            total = 2  (p 0.98)
            ch = 'b'  (p 0.98)
        (cwm) d all
        deleted breakpoint 1
        (cwm) breakpoints
        no breakpoints; `break LINE` adds one
        "
    );
}

#[test]
fn verifying() {
    insta::assert_snapshot!(
        dialogue(&mut count(), &["step 3", "verify", "continue", "verify"]),
        @r"
        predicting count_letters('ab', 'b') in t.py: nothing is executed unless you type `verify`
        call of count_letters, line 1  (depth 0)  frame 0  p 0.97
        -> 1 | def count_letters(word, letter):
            word = 'ab'  (given)
            letter = 'b'  (given)
        (cwm) step 3
        line 4 in count_letters  (depth 0)  frame 3  p 0.97
        -> 4 |         if ch == letter:
            word = 'ab'  (given)
            letter = 'b'  (given)
            total = 0  (p 0.98)
          * ch = 'a'  (p 0.98)
        (cwm) verify
        executed t.py for real: 10 frames observed
        agrees so far: 4 frames as in the real run
        (cwm) continue
        the run ended
        return from count_letters, line 6  (depth 0)  frame 9  p 0.97
        -> 6 |     return total
            returned 2  (p 0.98)
        (cwm) verify
        not executed again: comparing with the 10 frames observed before
        differs first at frame 7, line 3 in count_letters: variable `total`
          predicted  2  (p 0.55)
          real       1  (observed)
        you are at frame 9, 2 past it
        "
    );
    insta::assert_snapshot!(dialogue(&mut calls(), &["continue", "verify"]), @r"
    predicting f(3) in t.py: nothing is executed unless you type `verify`
    call of f, line 5  (depth 0)  frame 0  p 0.97
    -> 5 | def f(a):
        a = 3  (given)
    (cwm) continue
    the run ended
    return from f, line 7  (depth 0)  frame 7  p 0.97
    -> 7 |     return b * 2
        returned 8  (p 0.98)
    (cwm) verify
    executed t.py for real: 8 frames observed
    agrees to the end: 8 frames as in the real run, which returned 8
    ");
}

#[test]
fn forking() {
    insta::assert_snapshot!(
        dialogue(
            &mut calls(),
            &[
                "step",
                "next",
                "set b = 10",
                "p",
                "step",
                "step",
                "forks",
                "switch 0",
                "switch 2",
                "set c = 1",
                "set b = 11",
            ]
        ),
        @r"
        predicting f(3) in t.py: nothing is executed unless you type `verify`
        call of f, line 5  (depth 0)  frame 0  p 0.97
        -> 5 | def f(a):
            a = 3  (given)
        (cwm) step
        line 6 in f  (depth 0)  frame 1  p 0.97
        -> 6 |     b = g(a)
            a = 3  (given)
        (cwm) next
        line 7 in f  (depth 0)  frame 6  p 0.97
        -> 7 |     return b * 2
            a = 3  (given)
          * b = 4  (p 0.98)
        (cwm) set b = 10
        set b on new fork 1; the old run is kept
        line 7 in f  (depth 0)  frame 6  fork 1  p 0.97
        -> 7 |     return b * 2
            a = 3  (given)
          * b = 10  (given)
        (cwm) p
            a = 3  (given)
          * b = 10  (given)
        (cwm) step
        return from f, line 7  (depth 0)  frame 7  fork 1  p 0.97
        -> 7 |     return b * 2
            returned 20  (p 0.98)
        (cwm) step
        the run ends here; `back`, `reset`, `set` and `switch` still work
        return from f, line 7  (depth 0)  frame 7  fork 1  p 0.97
        -> 7 |     return b * 2
            returned 20  (p 0.98)
        (cwm) forks
           0: the original run; 7 frames so far
        -> 1: b = 10 at frame 6 (line 7) of the original run; 8 frames, ended
        (cwm) switch 0
        on the original run
        line 7 in f  (depth 0)  frame 6  p 0.97
        -> 7 |     return b * 2
            a = 3  (given)
          * b = 4  (p 0.98)
        (cwm) switch 2
        error: no fork 2; `forks` lists them
        (cwm) set c = 1
        error: no variable `c` here; there are a, b
        (cwm) set b = 11
        error: cannot set `b`: `11` is not in the script
        "
    );
}

#[test]
fn the_call_stack() {
    insta::assert_snapshot!(
        dialogue(&mut calls(), &["step 4", "where", "list 1", "out", "where", "next"]),
        @r"
        predicting f(3) in t.py: nothing is executed unless you type `verify`
        call of f, line 5  (depth 0)  frame 0  p 0.97
        -> 5 | def f(a):
            a = 3  (given)
        (cwm) step 4
        line 3 in g  (depth 1)  frame 4  p 0.97
        -> 3 |     return y
            x = 3  (p 0.98)
          * y = 4  (p 0.98)
        (cwm) where
        -> line 3 in g  | return y
           line 6 in f  | b = g(a)
        (cwm) list 1
            1 | def g(x):
            2 |     y = x + 1
        ->  3 |     return y
            4 |
            5 | def f(a):
            6 |     b = g(a)
        (cwm) out
        return from g, line 3  (depth 1)  frame 5  p 0.97
        -> 3 |     return y
            returned 4  (p 0.98)
        (cwm) where
        -> line 3 in g  | return y
           line 6 in f  | b = g(a)
        (cwm) next
        line 7 in f  (depth 0)  frame 6  p 0.97
        -> 7 |     return b * 2
            a = 3  (given)
          * b = 4  (p 0.98)
        "
    );
}

#[test]
fn an_exception_leaves_the_program() {
    let source = "def f(xs):\n    return xs[9]\n\nf([])\n";
    let script = "
        call <module> 1 0 0
        line <module> 1 0 0
        line <module> 4 0 0 f=<function>
        call f 1 1 1 xs=[]
        line f 2 1 1 xs=..
        exception f 2 1 1 -> IndexError('list~0.9
        unwind f 2 1 1 -> IndexError('list~0.9
        exception <module> 4 0 0 -> IndexError('list~0.9
        unwind <module> 4 0 0 -> IndexError('list~0.9
    ";
    let mut program = program(source, "", "");
    program.entry = Entry::Module;
    let mut console = console(program, Fake::new(script));
    insta::assert_snapshot!(dialogue(&mut console, &["step 4", "n", "n", "where", "c"]), @r"
    predicting t.py: nothing is executed unless you type `verify`
    call of <module>, line 1  (depth 0)  frame 0  p 0.97
    -> 1 | def f(xs):
    (cwm) step 4
    line 2 in f  (depth 1)  frame 4  p 0.97
    -> 2 |     return xs[9]
        xs = []  (p 0.98)
    (cwm) n
    exception in f, line 2  (depth 1)  frame 5  p 0.97
    -> 2 |     return xs[9]
        raised IndexError('list  (p 0.90)
    (cwm) n
    exception leaves f, line 2  (depth 1)  frame 6  p 0.97
    -> 2 |     return xs[9]
        raised IndexError('list  (p 0.90)
    (cwm) where
    -> line 2 in f  | return xs[9]
       line 4 in <module>  | f([])
    (cwm) c
    the run ended
    exception leaves <module>, line 4  (depth 0)  frame 8  p 0.97
    -> 4 | f([])
        raised IndexError('list  (p 0.90)
    ");
}

#[test]
fn mistakes() {
    insta::assert_snapshot!(
        dialogue(
            &mut count(),
            &[
                "",
                "back",
                "stpe",
                "word",
                "total = 3",
                "frobnicate",
                "print wrod",
                "print len(word)",
                "set word",
                "until",
                "until 7",
                "switch 3",
                "list 99",
                "help frob",
                "help step",
                "quit",
            ]
        ),
        @r"
        predicting count_letters('ab', 'b') in t.py: nothing is executed unless you type `verify`
        call of count_letters, line 1  (depth 0)  frame 0  p 0.97
        -> 1 | def count_letters(word, letter):
            word = 'ab'  (given)
            letter = 'b'  (given)
        (cwm)
        error: there is no step to repeat yet; `help` lists the commands
        (cwm) back
        error: nothing to go back to: this is where the session began
        (cwm) stpe
        error: unknown command `stpe`; did you mean `step`?
        (cwm) word
        error: unknown command `word`; did you mean `print word`?
        (cwm) total = 3
        error: unknown command `total`; did you mean `set total = 3`?
        (cwm) frobnicate
        error: unknown command `frobnicate`; `help` lists the commands
        (cwm) print wrod
        error: no variable `wrod` here; there are word, letter
        (cwm) print len(word)
        error: only a variable can be printed: nothing is executed here, so expressions have no value
        (cwm) set word
        error: `=` is missing; usage: `set NAME = VALUE`
        (cwm) until
        error: a line number is missing; usage: `until LINE`
        (cwm) until 7
        error: line 7 holds no code; the nearest lines with code are 6 and 8
        (cwm) switch 3
        error: no fork 3; `forks` lists them
        (cwm) list 99
        error: line 99 does not exist; the last line is 8
        (cwm) help frob
        error: `frob` is no command; `help` lists them
        (cwm) help step
        step [COUNT]  go one frame on, into calls (s)
        (cwm) quit
        "
    );
}

#[test]
fn help() {
    insta::assert_snapshot!(render(&count().execute("help"), Style::Plain), @r"
    step [COUNT]                     go one frame on, into calls (s)
    next [COUNT]                     go to the next line here, over all calls (n)
    out                              go to where this function returns (o, finish)
    continue                         go on to a breakpoint or the end (c)
    until LINE                       go on to a line, in any function
    back                             undo the last command that moved (u)
    jump ACTION                      name at once where over, out, to LINE, end, before, into or input leads; you stay (j)
    leap                             go where `jump over` leads, on a new fork: past this line's calls without their frames
    break [LINE [if NAME == VALUE]]  stop at a line (== != < <= > >=); alone: list breakpoints (b)
    delete NUMBER|all                delete a breakpoint (d)
    breakpoints                      list breakpoints
    print [NAME]                     show a variable in full; alone: all of them (p)
    locals                           show all variables of this function
    where                            show the call stack (w, bt)
    list [LINE]                      show the source around here, or around a line (l)
    set NAME = VALUE                 what if: fork here with another value
    forks                            list the forks made by `set`
    switch NUMBER                    go to a fork; 0 is the original run
    verify                           RUN the program and compare it with the prediction
    reset                            go back to the first frame
    help [COMMAND]                   explain the commands (h, ?)
    quit                             leave (q, exit)
    An empty line repeats the last step, next, out, continue or until.
    * changed by the last line   p probability   ? more likely wrong than right
    ");
}

#[test]
fn leaping() {
    let script = "call f 1 0 0 x=3!\nline f 2 0 0 x=..\ncall g 5 1 1 n=3\nline g 6 1 1 n=..\nreturn g 6 1 1 -> 6\nline f 3 0 0 x=.. y=6\nreturn f 3 0 0 -> 6";
    let fake = Fake::new(script)
        .with_leap((0, 1), Some((0, 5)))
        .with_leap((0, 5), None);
    let asked = fake.asked.clone();
    let text = "def f(x):\n    y = g(x)\n    return y\ndef g(n):\n    return 2 * n\n";
    let reality = FakeReality::new(script);
    let mut console = Console::new(program(text, "f", "3"), fake, reality, Options::default())
        .expect("a first frame");
    let lines = [
        "leap", "step", "leap", "forks", "verify", "leap", "step", "back", "back", "leap",
        "switch 0", "forks", "next", "where",
    ];
    insta::assert_snapshot!(dialogue(&mut console, &lines), @r"
    predicting f(3) in t.py: nothing is executed unless you type `verify`
    call of f, line 1  (depth 0)  frame 0  p 0.97
    -> 1 | def f(x):
        x = 3  (given)
    (cwm) leap
    error: cannot jump: no such leap
    (cwm) step
    line 2 in f  (depth 0)  frame 1  p 0.97
    -> 2 |     y = g(x)
        x = 3  (given)
    (cwm) leap
    over the calls of the line, on fork 1; what happened in them is not known
    line 3 in f  (depth 0)  frame 2  fork 1  p 0.97
    -> 3 |     return y
        x = 3  (given)
      * y = 6  (p 0.98)
    (cwm) forks
       0: the original run; 2 frames so far
    -> 1: leap from frame 1 (line 2) of the original run; 3 frames so far
    (cwm) verify
    executed t.py for real: 7 frames observed
    this fork leaves out frames before frame 2, which the real program does not do: only what comes before is compared
    agrees so far: 2 frames as in the real run
    (cwm) leap
    error: cannot jump: the run seems to end inside this line; `step` into it
    (cwm) step
    return from f, line 3  (depth 0)  frame 3  fork 1  p 0.97
    -> 3 |     return y
        returned 6  (p 0.98)
    (cwm) back
    line 3 in f  (depth 0)  frame 2  fork 1  p 0.97
    -> 3 |     return y
        x = 3  (given)
      * y = 6  (p 0.98)
    (cwm) back
    line 2 in f  (depth 0)  frame 1  p 0.97
    -> 2 |     y = g(x)
        x = 3  (given)
    (cwm) leap
    over the calls of the line, on fork 1; what happened in them is not known
    line 3 in f  (depth 0)  frame 2  fork 1  p 0.97
    -> 3 |     return y
        x = 3  (given)
      * y = 6  (p 0.98)
    (cwm) switch 0
    on the original run
    line 2 in f  (depth 0)  frame 1  p 0.97
    -> 2 |     y = g(x)
        x = 3  (given)
    (cwm) forks
    -> 0: the original run; 2 frames so far
       1: leap from frame 1 (line 2) of the original run; 4 frames so far
    (cwm) next
    line 3 in f  (depth 0)  frame 5  p 0.97
    -> 3 |     return y
        x = 3  (given)
      * y = 6  (p 0.98)
    (cwm) where
    -> line 3 in f  | return y
    ");
    // A leap that is known is not asked for again.
    assert_eq!(asked.get(), 9);
}

#[test]
fn jumping() {
    let state = |kind, line, locals: &[(&str, &str)], value: Option<&str>| Landing::State {
        function: "f".into(),
        event: Event {
            kind,
            activation: 0,
            function: 0,
            line,
            locals: locals
                .iter()
                .map(|&(name, value)| Local {
                    name: name.into(),
                    value: Value::new(value),
                })
                .collect(),
            value: value.map(Value::new),
        },
    };
    let fake = Fake::new("call f 1 0 0 x=3!\nline f 2 0 0 x=..")
        .with_jump(
            Jump::Ahead(Ahead::Over),
            state(EventKind::Line, 3, &[("x", "3"), ("y", "6")], None),
        )
        .with_jump(
            Jump::Ahead(Ahead::Leave),
            state(EventKind::Return, 3, &[], Some("6")),
        )
        .with_jump(Jump::Ahead(Ahead::Until(2)), Landing::Exit(Exit::Error))
        .with_jump(
            Jump::Behind(Behind::Input),
            state(EventKind::Call, 1, &[("x", "3")], None),
        );
    let text = "def f(x):\n    y = 2 * x\n    return y\n";
    let mut console = console(program(text, "f", "3"), fake);
    let lines = [
        "step",
        "jump over",
        "j out",
        "jump to 2",
        "jump input",
        "jump end",
        "jump to 9",
        "jump up",
        "where",
    ];
    insta::assert_snapshot!(dialogue(&mut console, &lines), @r"
    predicting f(3) in t.py: nothing is executed unless you type `verify`
    call of f, line 1  (depth 0)  frame 0  p 0.97
    -> 1 | def f(x):
        x = 3  (given)
    (cwm) step
    line 2 in f  (depth 0)  frame 1  p 0.97
    -> 2 |     y = 2 * x
        x = 3  (given)
    (cwm) jump over
    jump over: f, line 3  p 0.75
       3 |     return y
        x = 3
        y = 6
    (named at once, without a step on the way; you stay)
    (cwm) j out
    jump out: return of f  p 0.75
        6
    (named at once, without a step on the way; you stay)
    (cwm) jump to 2
    jump to 2: the run ends by an exception  p 0.75
    (named at once, without a step on the way; you stay)
    (cwm) jump input
    jump input: call of f, line 1  p 0.75
       1 | def f(x):
        x = 3
    (named at once, without a step on the way; you stay)
    (cwm) jump end
    error: cannot jump: no such jump
    (cwm) jump to 9
    error: line 9 holds no code; the nearest line with code is 3
    (cwm) jump up
    error: `up` is no action; there are over, out, to LINE, end, before, into and input; usage: `jump ACTION`
    (cwm) where
    -> line 2 in f  | y = 2 * x
    ");
}

#[test]
fn crowds_and_giants_are_cut_and_print_shows_all() {
    let crowd: String = (0..20).map(|i| format!(" v{i}={i}")).collect();
    let giant = "7".repeat(200);
    let script = format!("call f 1 0 0{crowd}\nline f 2 0 0{crowd} big={giant}");
    let mut console = console(program("def f():\n    pass\n", "f", ""), Fake::new(&script));
    insta::assert_snapshot!(dialogue(&mut console, &["step", "print big"]), @r"
    predicting f() in t.py: nothing is executed unless you type `verify`
    call of f, line 1  (depth 0)  frame 0  p 0.97
    -> 1 | def f():
        (20 more; `locals` shows all)
    (cwm) step
    line 2 in f  (depth 0)  frame 1  p 0.97
    -> 2 |     pass
      * big = 7777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777… (40 more characters)  (p 0.98)
        (20 more; `locals` shows all)
    (cwm) print big
      * big = 77777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777  (p 0.98)
    ");
}

#[test]
fn values_cannot_write_to_the_terminal() {
    let script = "call f 1 0 0 x=\u{1b}]0;owned\u{7}";
    let mut console = console(program("def f(x): \u{1b}[2J\n", "f", ""), Fake::new(script));
    let mut text = dialogue(&mut console, &["p x", "list"]);
    text.push_str(&say(&mut console, "\u{1b}[31m"));
    assert!(
        !text.contains('\u{1b}') && !text.contains('\u{7}'),
        "{text:?}"
    );
}

#[test]
fn replies_are_json() {
    let mut console = count();
    let json = |reply| serde_json::to_string_pretty(&reply).unwrap();
    insta::assert_snapshot!(json(console.execute("step 5")), @r#"
    {
      "reply": "frame",
      "why": "arrived",
      "passed": 5,
      "index": 5,
      "fork": 0,
      "source": "        if ch == letter:",
      "frame": {
        "kind": "line",
        "function": "count_letters",
        "line": 4,
        "depth": 0,
        "activation": 0,
        "locals": [
          {
            "name": "word",
            "value": "'ab'",
            "origin": "given",
            "changed": false
          },
          {
            "name": "letter",
            "value": "'b'",
            "origin": "given",
            "changed": false
          },
          {
            "name": "total",
            "value": "0",
            "origin": "predicted",
            "probability": 0.98,
            "changed": false
          },
          {
            "name": "ch",
            "value": "'b'",
            "origin": "predicted",
            "probability": 0.41,
            "changed": true
          }
        ],
        "value": null,
        "probability": 0.97
      }
    }
    "#);
    insta::assert_snapshot!(json(console.execute("c")), @r#"
    {
      "reply": "frame",
      "why": "ended",
      "passed": 4,
      "index": 9,
      "fork": 0,
      "source": "    return total",
      "frame": {
        "kind": "return",
        "function": "count_letters",
        "line": 6,
        "depth": 0,
        "activation": 0,
        "locals": [],
        "value": {
          "value": "2",
          "origin": "predicted",
          "probability": 0.98
        },
        "probability": 0.97
      }
    }
    "#);
    insta::assert_snapshot!(json(console.execute("verify")), @r#"
    {
      "reply": "verified",
      "file": "t.py",
      "executed": true,
      "real_frames": 10,
      "real_whole": true,
      "real_output": "1",
      "compared": 10,
      "finished": true,
      "edited_at": null,
      "leapt": false,
      "index": 9,
      "agrees": false,
      "divergence": {
        "frame": 7,
        "aspect": "variable",
        "variable": "total",
        "predicted": "2",
        "probability": 0.55,
        "real": "1",
        "line": 3,
        "function": "count_letters"
      }
    }
    "#);
    insta::assert_snapshot!(json(console.execute("nonsense")), @r#"
    {
      "reply": "refused",
      "message": "unknown command `nonsense`; `help` lists the commands"
    }
    "#);
}
