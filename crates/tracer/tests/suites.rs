//! Test suites under pytest: each test is a trace, and comes out as it would without us.

mod common;

use std::path::Path;
use std::process::Command;

use common::{interpreters, text, verify};
use cwm_trace::End;
use cwm_tracer::{
    Interpreter, Mode, Test, TestOptions, TestOutput, TestsError, TestsReport, Values, trace_tests,
};

/// Interpreters that have pytest: those of the machine, and those that `CWM_PYTEST_PYTHONS` names
/// (separated by colons).
fn with_pytest() -> Vec<Interpreter> {
    let named = std::env::var("CWM_PYTEST_PYTHONS").unwrap_or_default();
    let named = named.split(':').filter(|path| !path.is_empty());
    let named = named.map(|path| Interpreter::find(Some(Path::new(path))).expect("it works"));
    let all: Vec<_> = interpreters().iter().cloned().chain(named).collect();
    let (found, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|py| {
        let output = Command::new(&py.path)
            .args(["-c", "import pytest"])
            .output();
        output.is_ok_and(|output| output.status.success())
    });
    for py in others {
        eprintln!("SKIPPED: no pytest for {}", py.path.display());
    }
    found
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    folder
}

fn options(folder: &Path) -> TestOptions {
    TestOptions {
        roots: vec![folder.to_owned()],
        mode: Mode::Direct,
        values: Values::Safe,
        max_events: 1000,
        max_value_chars: 2000,
        output: TestOutput::Nowhere,
    }
}

fn run(py: &Interpreter, options: &TestOptions, folder: &Path) -> (Vec<Test>, TestsReport) {
    let mut tests = Vec::new();
    let place = folder.display().to_string();
    let arguments = ["-q", "-p", "no:cacheprovider", "--rootdir", &place, &place];
    let report = trace_tests(py, options, &arguments.map(str::to_owned), |test| {
        verify(&test.trace);
        tests.push(test);
        Ok(())
    });
    (tests, report.expect("a report"))
}

const LIBRARY: &str = "\
def double(n):
    return n * 2

class Shy:
    shown = 0
    def __repr__(self):
        Shy.shown += 1
        return 'Shy()'

def count(n):
    while n:
        n -= 1
        yield n
";

const TESTS: &str = "\
import os, sys, unittest
import pytest
from library import double, Shy, count

@pytest.fixture
def two():
    yield double(1)

def test_passes(two):
    assert double(two) == 4

def test_fails():
    x = double(2)
    assert x == 5

@pytest.mark.skip
def test_skipped():
    pass

@pytest.mark.xfail
def test_expected():
    raise KeyError(1)

def test_shy():
    shy = Shy()
    other = shy
    assert Shy.shown == 0

def test_long():
    for i in range(2000):
        pass

@pytest.fixture
def broken():
    raise ValueError

def test_error(broken):
    pass

class TestCase(unittest.TestCase):
    def setUp(self):
        self.x = double(3)
    def test_method(self):
        self.assertEqual(self.x, 6)

def test_generator():
    assert list(count(2)) == [1, 0]

def test_recursion():
    def deeper(n):
        return deeper(n + 1)
    with pytest.raises(RecursionError):
        deeper(0)

def test_trace_function():
    before = sys.gettrace()
    sys.settrace(None)
    sys.settrace(before)
    assert double(1) == 2

def test_fork():
    pid = os.fork()
    if pid == 0:
        double(8)
        os._exit(0)
    os.waitpid(pid, 0)
";

#[test]
fn each_test_is_a_trace_and_comes_out_as_ever() {
    for py in with_pytest() {
        for mode in [Mode::Direct, Mode::Python] {
            let folder = folder(&[("library.py", LIBRARY), ("test_it.py", TESTS)]);
            let options = TestOptions {
                mode,
                ..options(folder.path())
            };
            let (tests, report) = run(&py, &options, folder.path());
            assert_eq!(report.status, Some(1), "{:?}", py.version);
            let of = |name: &str| {
                let mut found = tests.iter().filter(|test| test.id.ends_with(name));
                found.next().unwrap_or_else(|| panic!("no {name}"))
            };
            for (name, outcome, end) in [
                ("::test_passes", "passed", "Finished"),
                ("::test_fails", "failed", "Raised"),
                ("::test_skipped", "skipped", "Finished"),
                ("::test_expected", "xfailed", "Raised(\"KeyError(1)\")"),
                ("::test_shy", "passed", "Finished"),
                ("::test_long", "passed", "MaxEvents(1000)"),
                ("::test_error", "error", "Finished"),
                ("::TestCase::test_method", "passed", "Finished"),
                ("::test_generator", "passed", "Finished"),
                ("::test_recursion", "passed", "MaxEvents(1000)"),
                ("::test_trace_function", "passed", "Finished"),
                ("::test_fork", "passed", "Finished"),
            ] {
                let test = of(name);
                assert_eq!(test.outcome, outcome, "{name} {:?} {mode:?}", py.version);
                let found = format!("{:?}", test.trace.end);
                assert!(
                    found.starts_with(end),
                    "{name} {:?} {mode:?}: {found}",
                    py.version
                );
            }
            let passes = text(&of("::test_passes").trace);
            assert!(passes.starts_with("call test_passes#0:"), "{passes}");
            assert!(
                passes.contains("call double#1:1 n=2\nline double#1:2 n=2\n"),
                "{passes}"
            );
            assert!(
                !passes.contains("n=1"),
                "fixtures are not recorded: {passes}"
            );
            let trace = &of("::test_passes").trace;
            assert!(trace.file.ends_with("test_it.py"), "{}", trace.file);
            assert_eq!(trace.source, TESTS);
            assert_eq!(trace.other_files[0].text, LIBRARY);
            assert_eq!(of("::test_long").trace.events.len(), 1000);
            assert!(of("::test_error").trace.events.is_empty());
            let method = text(&of("::test_method").trace);
            assert!(method.starts_with("call setUp#0"), "{method}");
            assert!(!text(&of("::test_fork").trace).contains("n=8"));
            if py.version.1 != 12 || mode == Mode::Direct {
                assert!(text(&of("::test_trace_function").trace).contains("call double"));
            }
        }
    }
}

#[test]
fn only_what_is_included_is_recorded() {
    for py in with_pytest() {
        let folder = folder(&[("library.py", LIBRARY), ("test_it.py", TESTS)]);
        let options = TestOptions {
            roots: vec![folder.path().join("library.py")],
            ..options(folder.path())
        };
        let (tests, _) = run(&py, &options, folder.path());
        let passes = tests.iter().find(|test| test.id.ends_with("test_passes"));
        let trace = &passes.expect("the test").trace;
        assert!(
            text(trace).starts_with("call double#0:1 n=2\n"),
            "{}",
            text(trace)
        );
        assert!(trace.file.ends_with("library.py") && trace.other_files.is_empty());
    }
}

#[test]
fn the_death_of_the_process_keeps_what_was_recorded() {
    let source = "\
import os
def test_one():
    x = 1
def test_two():
    y = 2
    os._exit(7)
def test_three():
    pass
";
    for py in with_pytest() {
        let folder = folder(&[("test_it.py", source)]);
        let (tests, report) = run(&py, &options(folder.path()), folder.path());
        assert_eq!((report.status, report.process.code()), (None, Some(7)));
        assert_eq!(tests.len(), 2);
        assert_eq!(
            (tests[0].outcome.as_str(), &tests[0].trace.end),
            ("passed", &End::Finished)
        );
        assert_eq!(tests[1].outcome, "");
        assert!(matches!(tests[1].trace.end, End::Crashed(_)));
        assert!(text(&tests[1].trace).ends_with("line test_two#0:6 y=2\n"));
    }
}

#[test]
fn an_interpreter_without_pytest_is_told() {
    let Some(py) = interpreters().iter().find(|py| {
        let output = Command::new(&py.path)
            .args(["-c", "import pytest"])
            .output();
        output.is_ok_and(|output| !output.status.success())
    }) else {
        eprintln!("SKIPPED: every interpreter has pytest");
        return;
    };
    let folder = folder(&[]);
    let error = trace_tests(py, &options(folder.path()), &[], |_| Ok(())).expect_err("no pytest");
    assert!(matches!(error, TestsError::NoPytest { .. }), "{error}");
    assert!(
        error.to_string().contains("-m pip install pytest"),
        "{error}"
    );
}
