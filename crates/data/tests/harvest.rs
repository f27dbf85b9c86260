//! Real functions: what is cut out, what is tried, what is kept, and that nothing bad happens on the way.
//!
//! Packages come from an index of files in a folder, which a small server hands out: no test needs the network.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use cwm_data::{
    ArgumentsFrom, Built, FolderError, Made, Origin, Record, Refusal, Setup, build_folder,
    read_shard,
};
use cwm_trace::{End, Entry};
use cwm_tracer::{Interpreter, Suite};

const GOOD: &str = r#"
"""A module."""
import math
from .helpers import clamp as limit, WORDS

FACTOR = 3
TABLE = {'a': 1,
         'b': 2}


def scaled(values, factor=FACTOR):
    """Scales.

    >>> scaled([1, 2, 3])
    [3, 6, 9]
    """
    total = 0
    for value in values:
        total += limit(value * factor, 0, 50)
    return total


def describe(n: int) -> str:
    if n < 0:
        raise ValueError('negative')
    root = math.isqrt(n)
    if root * root == n:
        return 'square'
    return 'even' if n % 2 == 0 else 'odd'


def look_up(key):
    if key in TABLE:
        return TABLE[key]
    return len(key) + len(WORDS)


def constant(x):
    return 7


def writes(path):
    open(path + '.out', 'w').write('x')
    return path


def needs_numpy(xs):
    return np.array(xs)


def by_chance(n: int):
    return random.random() * n


def takes_object(session: Session):
    return session.get('a')


def secretive(n: int):
    key = 'ghp_0123456789abcdefghijABCDEFGHIJ012345'
    return key[:n]


def addresses(n: int):
    return object().__hash__() + n


def place(n: int):
    return id(n)
"#;

/// A function without an end, which takes its time.
const SPINS: &str = "\n\ndef spins(n: int):\n    return sum(range(10 ** 12 + n))\n";

const HELPERS: &str =
    "WORDS = ['x', 'y']\n\n\ndef clamp(value, low, high):\n    return max(low, min(high, value))\n";

const TESTS: &str = "import pytest\nfrom pkg.good import describe, look_up\n\n\n@pytest.mark.parametrize('n, expected', [(16, 'square'), (6, 'even')])\ndef test_describe(n, expected):\n    assert describe(n) == expected\n\n\ndef test_look_up():\n    key = 'b'\n    assert look_up(key) == 2\n";

/// Names and texts of the files of a package.
fn package() -> BTreeMap<&'static str, Vec<u8>> {
    let files: [(&str, &[u8]); 7] = [
        (
            "PKG-INFO",
            b"Metadata-Version: 2.1\nName: pkg\nVersion: 1.0\nLicense: MIT\n",
        ),
        ("pkg/__init__.py", b""),
        ("pkg/good.py", GOOD.as_bytes()),
        ("pkg/helpers.py", HELPERS.as_bytes()),
        ("pkg/latin.py", b"# \xe9\ndef f(x):\n    return x\n"),
        ("pkg/two.py", b"print 'Python 2'\n"),
        ("tests/test_good.py", TESTS.as_bytes()),
    ];
    files.map(|(name, text)| (name, text.to_vec())).into()
}

/// A source distribution, as the interpreter at hand packs it.
fn sdist(folder: &Path, name: &str, version: &str, files: &BTreeMap<&str, Vec<u8>>) -> PathBuf {
    let stem = format!("{name}-{version}");
    for (file, text) in files {
        let path = folder.join(&stem).join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    let archive = folder.join(format!("{stem}.tar.gz"));
    let script =
        "import sys, tarfile; tarfile.open(sys.argv[1], 'w:gz').add(sys.argv[2], sys.argv[3])";
    let py = Interpreter::find(None).expect("an interpreter");
    let mut command = Command::new(&py.path);
    command
        .args(["-c", script])
        .arg(&archive)
        .arg(folder.join(&stem))
        .arg(&stem);
    assert!(command.status().expect("it starts").success());
    archive
}

/// An index of archives; gives its address.
fn serve(archives: &[PathBuf]) -> String {
    let archives: Arc<[PathBuf]> = archives.into();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, &archives);
        }
    });
    format!("http://{address}/simple")
}

fn answer(mut stream: TcpStream, archives: &[PathBuf]) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1).unwrap_or_default();
    let last = path
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let file_name = |path: &PathBuf| {
        path.file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    };
    let (status, kind, body) = if let Some(archive) = archives.iter().find(|a| file_name(a) == last)
    {
        (
            "200 OK",
            "application/octet-stream",
            fs::read(archive).expect("an archive"),
        )
    } else {
        let of = archives
            .iter()
            .map(file_name)
            .filter(|name| name.starts_with(&format!("{last}-")));
        let links: String = of
            .map(|name| format!("<a href=\"../../files/{name}\">{name}</a>"))
            .collect();
        match links.is_empty() {
            true => ("404 Not Found", "text/plain", Vec::new()),
            false => ("200 OK", "text/html", links.into_bytes()),
        }
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(&[head.as_bytes(), &body].concat());
}

fn made(
    recipe: &str,
    folder: &Path,
    cache: &Path,
    index: &str,
    threads: usize,
) -> Result<Built, FolderError> {
    let setup = Setup {
        interpreter: Interpreter::find(None).expect("an interpreter"),
        threads,
        base: folder.to_owned(),
        against: Vec::new(),
        cache: cache.to_owned(),
        index: Some(index.to_owned()),
    };
    build_folder(recipe, &setup, folder, |_| {})
}

fn recipe(packages: &str) -> String {
    format!(
        "seed = 3\nrecords_per_shard = 4\n[[source]]\nkind = 'packages'\nname = 'real'\npackages = {packages}\n"
    )
}

fn records(made: &Made, folder: &Path) -> Vec<Record> {
    let read = |file: &String| {
        read_shard(File::open(folder.join(file)).expect("a file")).expect("a shard")
    };
    made.shards
        .iter()
        .flat_map(|shard| read(&shard.file))
        .collect()
}

/// The function that a record calls, and its arguments.
fn call(record: &Record) -> (&str, &str) {
    match &record.trace.entry {
        Entry::Call { function, args } => (function, args),
        Entry::Module => panic!("{} calls nothing", record.id),
    }
}

#[test]
fn functions_stand_alone_and_run_on_good_arguments() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = package();
    files.insert("pkg/good.py", [GOOD, SPINS].concat().into_bytes());
    let index = serve(&[sdist(folder.path(), "pkg", "1.0", &files)]);
    let out = folder.path().join("out");
    let built = made(
        &recipe("['pkg==1.0']"),
        &out,
        &folder.path().join("cache"),
        &index,
        2,
    )
    .expect("a build");
    let source = &built.manifest.sources[0];
    let records = records(source, &out);
    let functions: HashSet<_> = records.iter().map(|record| call(record).0).collect();
    assert_eq!(
        functions,
        HashSet::from(["scaled", "describe", "look_up", "clamp"])
    );
    let rejected: BTreeMap<_, _> = source
        .report
        .rejected
        .iter()
        .map(|(reason, n)| (reason.to_string(), *n))
        .collect();
    let expected = [
        ("always gives the same", 1),
        ("not Python", 1),
        ("not always the same", 1),
        ("not finished", 1),
        ("not in the encoding that it names", 1),
        ("private", 1),
        ("depends on chance, the clock or the machine", 1),
        ("needs a name from elsewhere", 2),
        ("reaches for files, processes or the network", 1),
        ("takes what cannot be made up", 1),
    ];
    assert_eq!(
        rejected,
        expected.map(|(reason, n)| (reason.to_owned(), n)).into()
    );

    for record in &records {
        assert!(
            matches!(record.trace.end, End::Finished | End::Raised(_)),
            "{}",
            record.id
        );
        assert!(!record.trace.source.contains(">>>") && !record.trace.source.contains("A module"));
        assert_eq!(record.origin.licence(), "MIT");
    }
    let of = |name: &str| {
        records
            .iter()
            .filter(|record| call(record).0 == name)
            .collect::<Vec<_>>()
    };
    let scaled = of("scaled");
    assert_eq!(
        scaled[0].trace.source,
        "def clamp(value, low, high):\n    return max(low, min(high, value))\n\nlimit = clamp\nFACTOR = 3\n\ndef scaled(values, factor=FACTOR):\n    total = 0\n    for value in values:\n        total += limit(value * factor, 0, 50)\n    return total\n"
    );
    assert!(scaled.iter().any(|record| call(record).1 == "[1, 2, 3]"));
    let written = |record: &&&Record| matches!(&record.origin, Origin::Harvested(h) if h.arguments == ArgumentsFrom::Written);
    let describe = of("describe");
    let from_test: Vec<_> = describe
        .iter()
        .filter(written)
        .map(|record| call(record).1)
        .collect();
    assert_eq!(from_test.len(), 2, "{from_test:?}");
    assert!(from_test.contains(&"16") && from_test.contains(&"6"));
    // Every way through the function is taken: negative, square, even, odd.
    let ends: HashSet<_> = describe
        .iter()
        .map(|r| {
            r.trace
                .events
                .last()
                .and_then(|e| e.value.as_ref())
                .map(|v| v.detailed().to_string())
        })
        .collect();
    assert!(ends.len() >= 4, "{ends:?}");
    assert!(of("look_up").iter().any(|record| call(record).1 == "'b'"));
    for group in records.chunk_by(|a, b| a.group() == b.group()) {
        assert!((3..=6).contains(&group.len()), "{}", group[0].id);
        let args: HashSet<_> = group.iter().map(|record| call(record).1).collect();
        assert_eq!(args.len(), group.len());
    }
    let left: Vec<_> = fs::read_dir(".")
        .expect("a folder")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().ends_with(".out")),
        "{left:?}"
    );
}

#[test]
fn a_build_is_the_same_however_it_was_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut other = package();
    other.insert(
        "pkg/good.py",
        GOOD.replace("factor", "times")
            .replace("'square'", "'whole'")
            .into_bytes(),
    );
    let archives = [
        sdist(folder.path(), "pkg", "1.0", &package()),
        sdist(folder.path(), "other", "2.0", &other),
    ];
    let index = serve(&archives);
    let recipe = recipe("['pkg==1.0', 'other==2.0']");
    let cache = folder.path().join("cache");
    let whole = folder.path().join("whole");
    let first = made(&recipe, &whole, &cache, &index, 2)
        .expect("a build")
        .manifest;
    assert!(first.sources[0].shards.len() > 2);
    // Clamp and look_up are the same in both.
    let repeated = first.sources[0]
        .report
        .rejected
        .iter()
        .find(|(reason, _)| reason.to_string() == "repeated");
    assert!(
        repeated.is_some_and(|(_, n)| *n >= 2),
        "{:?}",
        first.sources[0].report
    );

    // A build that was stopped after its first shard, and goes on with one thread.
    let part = folder.path().join("part");
    made(&recipe, &part, &cache, &index, 1).expect("a build");
    let last = &first.sources[0].shards[1..];
    for shard in last {
        fs::remove_file(part.join(&shard.file)).expect("it was there");
    }
    let again = made(&recipe, &part, &cache, &index, 1).expect("a build");
    assert_eq!(again.damaged, [last[0].file.clone()]);
    assert_eq!(again.manifest, first);
}

#[test]
fn calls_that_tests_make_are_seen_while_they_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = package();
    let test = "from pkg.good import describe\n\n\ndef test_describe():\n    for root in range(30, 32):\n        assert describe(root ** 2) == 'square'\n";
    files.insert("tests/test_good.py", test.as_bytes().to_vec());
    // A module that cannot be imported has no tests.
    let good = GOOD.replace("session: Session", "session");
    files.insert("pkg/good.py", good.into_bytes());
    let index = serve(&[sdist(folder.path(), "pkg", "1.0", &files)]);
    let out = folder.path().join("out");
    let recipe = recipe("['pkg==1.0']") + "suites = 30\n";
    let built = made(&recipe, &out, &folder.path().join("cache"), &index, 1).expect("a build");
    let source = &built.manifest.sources[0];
    assert_eq!(source.corpora[0].suite, Some(Suite::Ran));
    let records = records(source, &out);
    let written = |record: &&Record| matches!(&record.origin, Origin::Harvested(h) if h.arguments == ArgumentsFrom::Written);
    let args: Vec<_> = records.iter().filter(written).map(call).collect();
    assert!(args.contains(&("describe", "900")), "{args:?}");
}

#[test]
fn mutants_do_something_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let index = serve(&[sdist(folder.path(), "pkg", "1.0", &package())]);
    let out = folder.path().join("out");
    let recipe = recipe("['pkg==1.0']") + "keep = { mutants = 2 }\n";
    let built = made(&recipe, &out, &folder.path().join("cache"), &index, 2).expect("a build");
    let records = records(&built.manifest.sources[0], &out);
    let mutation = |record: &&Record| match &record.origin {
        Origin::Harvested(harvested) => harvested.mutation.clone(),
        Origin::Generated { .. } => None,
    };
    let (mutants, originals): (Vec<_>, Vec<_>) = records
        .iter()
        .partition(|record| mutation(record).is_some());
    let changes: HashSet<_> = mutants.iter().filter_map(mutation).collect();
    assert!(changes.len() >= 4, "{changes:?}");
    for mutant in mutants {
        let original = originals
            .iter()
            .find(|record| record.group() == mutant.group())
            .expect("its function");
        let differing = original
            .trace
            .source
            .lines()
            .zip(mutant.trace.source.lines())
            .filter(|(a, b)| a != b);
        assert_eq!(differing.count(), 1, "{}", mutant.id);
    }
}

#[test]
fn packages_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut gpl = package();
    gpl.insert(
        "PKG-INFO",
        b"Name: gpl\nVersion: 1.0\nLicense-Expression: GPL-3.0-only\n".to_vec(),
    );
    let mut silent = package();
    silent.insert("PKG-INFO", b"Name: silent\nVersion: 1.0\n".to_vec());
    let broken = folder.path().join("broken-1.0.tar.gz");
    fs::write(&broken, b"this is no archive").expect("written");
    let archives = [
        sdist(folder.path(), "pkg", "1.0", &package()),
        sdist(folder.path(), "gpl", "1.0", &gpl),
        sdist(folder.path(), "silent", "1.0", &silent),
        broken,
    ];
    let index = serve(&archives);
    let recipe =
        recipe("['gpl==1.0', 'silent==1.0', 'broken==1.0', 'pkg==9.9', 'absent==1.0', 'pkg==1.0']");
    let out = folder.path().join("out");
    let built = made(&recipe, &out, &folder.path().join("cache"), &index, 2).expect("a build");
    let corpora = &built.manifest.sources[0].corpora;
    let refused: Vec<_> = corpora.iter().map(|corpus| corpus.refused).collect();
    let expected = [
        Refusal::Licence,
        Refusal::Licence,
        Refusal::Damaged,
        Refusal::NoSuchVersion,
        Refusal::NotInIndex,
    ];
    assert_eq!(refused[..5], expected.map(Some));
    assert_eq!(refused[5], None);
    assert_eq!(corpora[0].licence, "GPL-3.0-only");
    assert!(built.manifest.complete && built.manifest.sources[0].report.functions == 4);
}

#[test]
fn an_index_that_does_not_answer_stops_the_build_and_nothing_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = sdist(folder.path(), "pkg", "1.0", &package());
    let (out, cache) = (folder.path().join("out"), folder.path().join("cache"));
    let recipe = recipe("['pkg==1.0']");
    let error = made(&recipe, &out, &cache, "file:///nowhere", 1).expect_err("no index");
    assert!(
        error.to_string().contains("cannot fetch `pkg==1.0`"),
        "{error}"
    );
    let index = serve(&[archive]);
    assert!(
        made(&recipe, &out, &cache, &index, 1)
            .expect("a build")
            .manifest
            .complete
    );
    // What is in the cache needs no index.
    let again = folder.path().join("again");
    assert!(
        made(&recipe, &again, &cache, "file:///nowhere", 1)
            .expect("a build")
            .manifest
            .complete
    );
}

#[test]
fn problems_have_the_inputs_of_their_tests_and_benchmarks_are_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let double = r"def double(x):\r\n    y = x * 2\r\n    return y";
    let halve = r"def halve(number):\r\n    half = number // 2\r\n    return half";
    let problems = format!(
        "{{\"task_id\": 1, \"code\": \"{double}\", \"test_list\": [\"assert double(4) == 8\", \"assert double([1]) == [1, 1]\"]}}\n{{\"task_id\": 2, \"code\": \"{halve}\", \"test_list\": []}}\n"
    );
    fs::write(folder.path().join("problems.jsonl"), problems).expect("written");
    // The second one with other names is a benchmark.
    let item = r#"{"code": "def f(n):\n    h = n // 2\n    return h", "input": "9"}"#;
    fs::write(folder.path().join("items.jsonl"), item).expect("written");
    let recipe = "seed = 1\nagainst = ['items.jsonl']\n[[source]]\nkind = 'problems'\nname = 'p'\nfile = 'problems.jsonl'\nlicence = 'CC-BY-4.0'\n";
    let built = made(
        recipe,
        folder.path(),
        &folder.path().join("cache"),
        "file:///nowhere",
        1,
    )
    .expect("a build");
    let source = &built.manifest.sources[0];
    let records = records(source, folder.path());
    assert!(records.iter().all(|record| call(record).0 == "double"));
    let calls: Vec<_> = records.iter().map(|record| call(record).1).collect();
    assert!(calls.contains(&"4") && calls.contains(&"[1]"), "{calls:?}");
    assert_eq!(built.manifest.against[0].summary.items, 1);
    let rejected: Vec<_> = source
        .report
        .rejected
        .iter()
        .map(|(reason, n)| (reason.to_string(), *n))
        .collect();
    assert_eq!(rejected, [("in a benchmark".to_owned(), 1)]);

    // One that the recipe does not name keeps the same out.
    let again = folder.path().join("again");
    let setup = Setup {
        interpreter: Interpreter::find(None).expect("an interpreter"),
        threads: 1,
        base: folder.path().to_owned(),
        against: vec![folder.path().join("items.jsonl")],
        cache: folder.path().join("cache"),
        index: None,
    };
    let unnamed = recipe.replace("against = ['items.jsonl']\n", "");
    let given = build_folder(&unnamed, &setup, &again, |_| {}).expect("a build");
    assert_eq!(given.manifest.sources[0].shards, source.shards);
}

/// A file of a package with this text, cut up: names and programs of the functions, and what was rejected.
fn programs(files: &[(&'static str, &str)]) -> (BTreeMap<String, String>, BTreeMap<String, usize>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut package = BTreeMap::from([
        (
            "PKG-INFO",
            b"Name: pkg\nVersion: 1.0\nLicense: MIT\n".to_vec(),
        ),
        ("pkg/__init__.py", Vec::new()),
    ]);
    package.extend(
        files
            .iter()
            .map(|(name, text)| (*name, text.as_bytes().to_vec())),
    );
    let index = serve(&[sdist(folder.path(), "pkg", "1.0", &package)]);
    let out = folder.path().join("out");
    let recipe = recipe("['pkg==1.0']");
    let built = made(&recipe, &out, &folder.path().join("cache"), &index, 1).expect("a build");
    let source = &built.manifest.sources[0];
    let records = records(source, &out);
    let of = |record: &Record| (call(record).0.to_owned(), record.trace.source.clone());
    let rejected = source
        .report
        .rejected
        .iter()
        .map(|(reason, n)| (reason.to_string(), *n));
    (records.iter().map(of).collect(), rejected.collect())
}

#[test]
fn a_program_means_what_the_package_means() {
    let tables = "TABLE = {}\nfor i in range(4):\n    TABLE[i] = i * i\nNAMES = []\nNAMES.append('a')\n\n\ndef f(n: int):\n    return TABLE.get(n, -1)\n\n\ndef g(n: int):\n    return NAMES * n\n";
    let (found, _) = programs(&[("pkg/a.py", tables)]);
    assert!(found["f"].contains("TABLE[i] = i * i"), "{}", found["f"]);
    assert!(found["g"].contains("NAMES.append('a')"), "{}", found["g"]);

    // `helper` of b needs the builtin that a has for itself, and HIGH is another in each.
    let a = "from .b import helper, high\n\n\ndef max(x):\n    return x\n\n\nLOW, HIGH = 0, 10\n\n\ndef f(n: int):\n    return helper(max(n), 3)\n\n\ndef g(n: int):\n    return high(n) + LOW\n";
    let b = "HIGH = 99\n\n\ndef helper(x, y):\n    return max(x, y)\n\n\ndef high(n):\n    return n + HIGH\n";
    let (found, rejected) = programs(&[("pkg/a.py", a), ("pkg/b.py", b)]);
    assert!(
        !found.contains_key("f") && !found.contains_key("g"),
        "{found:?}"
    );
    assert_eq!(rejected["needs two things of one name"], 2);

    // The same import twice is one thing.
    let a = "import re\nfrom .b import helper\n\n\ndef g(s: str):\n    return helper(s) + 'x'\n\n\ndef f(s: str):\n    return helper(s) + g(s) + re.sub('a', 'b', s)\n";
    let b = "import re\n\n\ndef helper(s):\n    return re.sub('b', 'c', s)\n";
    let (found, _) = programs(&[("pkg/a.py", a), ("pkg/b.py", b)]);
    assert!(found.contains_key("f"), "{found:?}");
}

#[test]
fn what_is_not_the_packages_own_stays_out() {
    let a = "from ._vendor.gpl import helper\nfrom math import *\nimport datetime\nimport attr\n\n\ndef f(n: int):\n    return helper(n)\n\n\ndef stars(x: int, y: int):\n    return pow(x, y)\n\n\ndef age(year: int):\n    return datetime.date.today().year - year\n\n\ndef late(n: int):\n    import time\n    return n + int(time.time()) // 86400\n";
    let vendored = "def helper(n):\n    return n + 1\n";
    let marked =
        "# SPDX-License-Identifier: GPL-2.0-only\n\n\ndef theirs(n: int):\n    return n + 1\n";
    let (found, rejected) = programs(&[
        ("pkg/a.py", a),
        ("pkg/_vendor/__init__.py", ""),
        ("pkg/_vendor/gpl.py", vendored),
        ("pkg/marked.py", marked),
    ]);
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(rejected["depends on chance, the clock or the machine"], 2);
    assert_eq!(rejected["under another licence than the package"], 1);
}

#[test]
fn sets_are_in_one_order_and_places_are_those_of_nobody() {
    let source = "import os\n\n\ndef f(items):\n    \"\"\"Counts.\n\n    >>> f({'a', 'b', 'c', 'd', 'e'})\n    5\n    >>> f({'x', 'yy', 'zzz'})\n    3\n    >>> f({'q'})\n    1\n    \"\"\"\n    return len(items)\n\n\ndef place(data: str):\n    return os.path.abspath(data)\n";
    let build = |name: &str| {
        let folder = tempfile::tempdir().expect("a folder");
        let base = folder.path().join(name);
        let files = BTreeMap::from([
            (
                "PKG-INFO",
                b"Name: pkg\nVersion: 1.0\nLicense: MIT\n".to_vec(),
            ),
            ("pkg/__init__.py", Vec::new()),
            ("pkg/a.py", source.as_bytes().to_vec()),
        ]);
        fs::create_dir_all(&base).expect("a folder");
        let index = serve(&[sdist(folder.path(), "pkg", "1.0", &files)]);
        let recipe = recipe("['pkg==1.0']") + "suites = 20\n";
        let built = made(&recipe, &base, &base.join("cache"), &index, 2).expect("a build");
        let shards = &built.manifest.sources[0].shards;
        shards
            .iter()
            .map(|shard| shard.sha256.clone())
            .collect::<Vec<_>>()
    };
    let first = build("data");
    assert!(!first.is_empty());
    for name in ["data", "elsewhere", "items"] {
        assert_eq!(build(name), first, "{name}");
    }
}

#[test]
fn archives_with_odd_names_hurt_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let marker = folder.path().join("evil.py").display().to_string();
    let script = r#"
import io, sys, tarfile
archive, marker = sys.argv[1:]
good = b'def f(n: int):\n    return n + 1\n'
with tarfile.open(archive, 'w:gz') as tar:
    for name, data in [('p-1/PKG-INFO', b'Name: p\nVersion: 1\nLicense: MIT\n'), ('setup.py', b'x = 1\n'),
                       ('p-1/' + marker, b'x = 1\n'), ('p-1/../../evil.py', b'x = 1\n'), ('/' + marker, b'x = 1\n'),
                       ('p-1/t\udce9st.py', b'x = 1\n'), ('p-1/p/__init__.py', b''), ('p-1/p/good.py', good)]:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
"#;
    let archive = folder.path().join("p-1.tar.gz");
    let py = Interpreter::find(None).expect("an interpreter");
    let mut command = Command::new(&py.path);
    command.args(["-c", script]).arg(&archive).arg(&marker);
    assert!(command.status().expect("it starts").success());
    let index = serve(&[archive]);
    let (out, cache) = (
        folder.path().join("a/b/out"),
        folder.path().join("a/b/cache"),
    );
    let built = made(&recipe("['p==1']"), &out, &cache, &index, 1).expect("a build");
    let source = &built.manifest.sources[0];
    assert_eq!(source.report.functions, 1, "{source:?}");
    assert!(!Path::new(&marker).exists() && !folder.path().join("a/evil.py").exists());
}

#[test]
fn licences_that_contradict_one_another_are_unknown() {
    let folder = tempfile::tempdir().expect("a folder");
    const CLASSIFIER: &str = "Classifier: License :: OSI Approved :: ";
    let said = [
        (
            format!("License: MIT\n{CLASSIFIER}GNU General Public License v3 (GPLv3)\n"),
            "unknown",
        ),
        (
            format!("License: GPL-3.0-only\n{CLASSIFIER}MIT License\n"),
            "unknown",
        ),
        (
            format!("License: BSD\n{CLASSIFIER}BSD License\n"),
            "BSD-3-Clause",
        ),
        (format!("{CLASSIFIER}MIT License\n"), "MIT"),
        (String::new(), "unknown"),
    ];
    let mut archives = Vec::new();
    for (number, (metadata, _)) in said.iter().enumerate() {
        let text = format!("Name: p{number}\nVersion: 1.0\n{metadata}");
        let mut files = package();
        files.insert("PKG-INFO", text.into_bytes());
        files.retain(|name, _| *name == "PKG-INFO" || *name == "pkg/helpers.py");
        archives.push(sdist(folder.path(), &format!("p{number}"), "1.0", &files));
    }
    let index = serve(&archives);
    let recipe = recipe("['p0==1.0', 'p1==1.0', 'p2==1.0', 'p3==1.0', 'p4==1.0']");
    let out = folder.path().join("out");
    let built = made(&recipe, &out, &folder.path().join("cache"), &index, 1).expect("a build");
    let corpora = &built.manifest.sources[0].corpora;
    let licences: Vec<_> = corpora
        .iter()
        .map(|corpus| corpus.licence.as_str())
        .collect();
    assert_eq!(licences, said.map(|(_, licence)| licence));
}
