//! Guarded runs: what they may not do does not happen, and everything else is as ever.

mod common;

use std::path::Path;

use common::{interpreters, limits, text};
use cwm_tracer::{Batch, BatchOptions, Call, Interpreter, Mode, Outcome, Program, Run};

fn run(py: &Interpreter, mode: Mode, source: &str) -> Run {
    let options = BatchOptions {
        limits: limits(),
        mode,
        guarded: true,
        ..BatchOptions::default()
    };
    let mut batch = Batch::start(py, options).expect("it starts");
    let program = Program {
        file: "program.py",
        source,
        stdin: b"",
        arguments: &[],
    };
    let call = Call {
        function: "f".to_owned(),
        args: String::new(),
    };
    let mut runs = batch.calls(&program, &[call]).expect("runs");
    runs.pop().expect("one run")
}

/// The audit event for which a function with this body is ended.
fn forbidden(py: &Interpreter, body: &str) -> String {
    let source = format!("import os\n\ndef f():\n    x = 1\n    {body}\n    y = 2\n");
    let run = run(py, Mode::Direct, &source);
    match run.outcome {
        Outcome::Forbidden(what) => what.split(' ').next().unwrap_or_default().to_owned(),
        other => panic!("{body} on {}: {other:?}", py.version_text()),
    }
}

#[test]
fn what_is_forbidden_does_not_happen() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("kept"), "as it was").expect("written");
    let kept = path("kept");
    let cases = [
        (format!("open({:?}, 'w')", path("new")), "open"),
        (format!("open({kept:?}, 'a').write('more')"), "open"),
        (format!("open({kept:?}).read()"), "open"),
        (
            format!("os.open({:?}, os.O_CREAT | os.O_RDWR)", path("new")),
            "open",
        ),
        (
            format!(
                "__import__('pathlib').Path({:?}).write_text('x')",
                path("new")
            ),
            "open",
        ),
        (format!("os.remove({kept:?})"), "os.remove"),
        (
            format!("os.rename({kept:?}, {:?})", path("new")),
            "os.rename",
        ),
        (format!("os.mkdir({:?})", path("new")), "os.mkdir"),
        (format!("os.listdir({:?})", path("")), "os.listdir"),
        (format!("os.system('touch {}')", path("new")), "os.system"),
        (
            format!("os.popen('touch {}').read()", path("new")),
            "subprocess.Popen",
        ),
        (
            format!("__import__('subprocess').run(['touch', {:?}])", path("new")),
            "subprocess.Popen",
        ),
        ("os.kill(os.getppid(), 9)".to_owned(), "os.kill"),
        ("os.fork()".to_owned(), "os.fork"),
        (
            "__import__('socket').create_connection(('127.0.0.1', 9))".to_owned(),
            "socket.getaddrinfo",
        ),
    ];
    for py in interpreters() {
        for (body, event) in &cases {
            // Versions announce a thing at different points of its way.
            let found = forbidden(py, body);
            let kind = |event: &str| event.split('.').next().map(str::to_owned);
            assert_eq!(kind(&found), kind(event), "{body} on {}", py.version_text());
        }
    }
    let names = std::fs::read_dir(folder.path()).expect("a folder");
    assert_eq!(names.count(), 1, "something was made");
    let left = std::fs::read_to_string(Path::new(&kept)).expect("still there");
    assert_eq!(left, "as it was");
}

#[test]
fn a_program_cannot_hide_it_from_itself() {
    let source = "def f():\n    try:\n        open('/etc/hostname')\n    except BaseException:\n        return 'caught'\n";
    for py in interpreters() {
        let run = run(py, Mode::Direct, source);
        assert!(
            matches!(run.outcome, Outcome::Forbidden(_)),
            "{:?}",
            run.outcome
        );
        let trace = run.trace.expect("what came before is recorded");
        assert!(text(&trace).contains("line f#0:3"), "{}", text(&trace));
    }
}

#[test]
fn the_library_may_be_read_and_imported() {
    let source = "def f():\n    import json.tool, decimal, fractions, linecache\n    line = linecache.getline(decimal.__file__, 1)\n    print(len(line) > 0)\n    return str(decimal.Decimal('1.10'))\n";
    for py in interpreters() {
        for mode in [Mode::Direct, Mode::Python] {
            let run = run(py, mode, source);
            assert!(
                matches!(run.outcome, Outcome::Finished),
                "{:?}",
                run.outcome
            );
            assert_eq!(run.trace.expect("a trace").stdout, "True\n");
        }
    }
}
