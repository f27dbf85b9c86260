//! Tests of packages: calls are seen, and nothing that a test does gets out.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::interpreters;
use cwm_tracer::{Interpreter, Suite, SuiteRequest, WrittenCalls, calls_in_tests};

const MODULE: &str = r#"
def join(first, *rest, sep=', ', **more):
    """Joins.

    >>> join('a', 'b')
    'a, b'
    """
    return sep.join((first,) + rest) + ''.join(sorted(more))


def outer(n):
    return inner([n, {'k': n}])


def inner(values):
    return len(values)


def takes_objects(thing):
    return thing


class Holder:
    def join(self, x):
        return x
"#;

const TESTS: &str = r#"
import os, subprocess, sys, unittest
from pkg.code import Holder, inner, join, outer, takes_objects

HERE = os.path.dirname(os.path.abspath(__file__))


class Cases(unittest.TestCase):
    def test_join(self):
        self.assertEqual(join('x', sep='-'), 'x')
        join('p', q=1)
        Holder().join(5)

    def test_fails(self):
        outer(7)
        self.fail('it does')

    def test_objects(self):
        takes_objects(object())
        takes_objects(float('nan'))

    def test_writes(self):
        open(os.path.join(HERE, 'made'), 'w').write('x')

    def test_starts(self):
        subprocess.run(['touch', os.path.join(HERE, 'made')])


def test_plain():
    print('noise')
    sys.stdout = None
    inner([1, 2])


def test_with_fixture(tmp_path):
    inner([3])
"#;

fn package(folder: &Path, tests: &str) {
    fs::create_dir_all(folder.join("src/pkg")).expect("a folder");
    fs::create_dir_all(folder.join("tests")).expect("a folder");
    fs::write(folder.join("src/pkg/__init__.py"), "").expect("written");
    fs::write(folder.join("src/pkg/code.py"), MODULE).expect("written");
    fs::write(folder.join("src/pkg/needs.py"), "import absent_package\n").expect("written");
    fs::write(folder.join("tests/test_code.py"), tests).expect("written");
}

fn run(py: &Interpreter, tests: &str, seconds: u32) -> (Suite, WrittenCalls, usize) {
    let folder = tempfile::tempdir().expect("a folder");
    package(folder.path(), tests);
    let request = SuiteRequest {
        root: folder.path(),
        modules: &["src/pkg/__init__.py", "src/pkg/code.py", "src/pkg/needs.py"],
        tests: &["tests/test_code.py"],
        seconds,
        memory: 2 << 30,
    };
    let (suite, calls) = calls_in_tests(py, &request).expect("a process");
    let left = fs::read_dir(folder.path().join("tests"))
        .expect("a folder")
        .count();
    (suite, calls, left)
}

#[test]
fn calls_with_literals_are_seen_wherever_they_are_made() {
    for py in interpreters() {
        let (suite, calls, left) = run(py, TESTS, 60);
        assert_eq!(suite, Suite::Ran, "{}", py.version_text());
        let found = &calls["src/pkg/code.py"];
        let expected = BTreeMap::from([
            ("inner", vec!["[7, {'k': 7}]", "[1, 2]"]),
            (
                "join",
                vec!["'a', 'b', sep=', '", "'x', sep='-'", "'p', sep=', ', q=1"],
            ),
            ("outer", vec!["7"]),
        ]);
        for (name, mut args) in expected {
            let mut seen = found[name].clone();
            seen.sort();
            args.sort();
            assert_eq!(seen, args, "{name} on {}", py.version_text());
        }
        assert!(found.get("takes_objects").is_none_or(Vec::is_empty));
        assert_eq!(left, 1, "a test wrote a file");
    }
}

#[test]
fn tests_without_an_end_give_nothing() {
    let py = &interpreters()[0];
    let endless = "from pkg.code import inner\n\ndef test_it():\n    inner([1])\n    while True:\n        pass\n";
    let (suite, calls, _) = run(py, endless, 2);
    assert_eq!((suite, calls.len()), (Suite::OverTime, 0));
    let caught = "import unittest\nfrom pkg.code import inner\n\nclass T(unittest.TestCase):\n    def test_a(self):\n        inner([1])\n        while True:\n            pass\n\n    def test_b(self):\n        inner([2])\n";
    let (suite, calls, _) = run(py, caught, 2);
    assert_eq!((suite, calls.len()), (Suite::OverTime, 0));
    let dies = "import os\nfrom pkg.code import inner\n\ndef test_it():\n    inner([1])\n    os._exit(3)\n";
    let (suite, calls, _) = run(py, dies, 30);
    assert_eq!((suite, calls.len()), (Suite::Died, 0));
}
