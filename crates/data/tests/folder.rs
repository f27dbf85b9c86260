//! Folders of data: the same bytes however often the build was stopped, and clear words where it cannot go on.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::path::Path;

use cwm_data::{
    Built, FolderError, Record, Rejection, Setup, build_folder, fingerprint, read_shard,
    write_shard,
};
use cwm_tracer::Interpreter;
use proptest::prelude::*;

const RECIPE: &str = "\
seed = 11
records_per_shard = 12

[[source]]
kind = 'generated'
name = 'small'
count = 30
levels = [1, 0, 0, 0]

[[source]]
kind = 'generated'
name = 'mixed'
count = 20
levels = [1, 1, 1, 1, 3]
drills = 1
distinct = 'all'
";

fn made(recipe: &str, threads: usize, folder: &Path) -> Result<Built, FolderError> {
    let setup = Setup {
        interpreter: Interpreter::find(None).expect("an interpreter"),
        threads,
        base: folder.to_owned(),
        against: Vec::new(),
        cache: folder.join("cache"),
        index: None,
    };
    build_folder(recipe, &setup, folder, |_| {})
}

/// Names and contents of all files.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder");
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a name");
        (name, fs::read(entry.path()).expect("a file"))
    };
    entries.map(file).collect()
}

fn shard(folder: &Path, name: &str) -> Vec<Record> {
    read_shard(File::open(folder.join(name)).expect("a file")).expect("a shard")
}

#[test]
fn a_build_that_was_stopped_gives_the_same_bytes() {
    let whole = tempfile::tempdir().expect("a folder");
    let built = made(RECIPE, 1, whole.path()).expect("a build");
    assert!(built.manifest.complete && built.damaged.is_empty());
    let expected = files(whole.path());
    let names: Vec<_> = expected.keys().map(String::as_str).collect();
    let shards = [
        "mixed-00000",
        "mixed-00001",
        "small-00000",
        "small-00001",
        "small-00002",
    ];
    let shards = shards.map(|name| format!("{name}.parquet"));
    assert_eq!(names[1..], shards.each_ref().map(String::as_str));

    let records: Vec<_> = shards
        .iter()
        .flat_map(|name| shard(whole.path(), name))
        .collect();
    assert_eq!(records.len(), 50);
    let prints = records
        .iter()
        .map(|r| fingerprint(&r.trace.source, &r.trace.entry));
    assert_eq!(prints.collect::<HashSet<_>>().len(), 50);

    // As many threads as may be, and nothing to do a second time.
    let other = tempfile::tempdir().expect("a folder");
    made(RECIPE, 3, other.path()).expect("a build");
    assert!(files(other.path()) == expected);
    made(RECIPE, 2, other.path()).expect("nothing to do");
    assert!(files(other.path()) == expected);

    // What is gone, cut off or changed is made anew, with what depends on it.
    let path = |name: &str| other.path().join(name);
    for name in &shards {
        for damage in 0..3 {
            let mut bytes = expected[name].clone();
            match damage {
                0 => fs::remove_file(path(name)).expect("it is removed"),
                1 => fs::write(path(name), &bytes[..bytes.len() / 2]).expect("it is written"),
                _ => {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                    fs::write(path(name), bytes).expect("it is written");
                }
            }
            let built = made(RECIPE, 2, other.path()).expect("a build");
            assert_eq!(built.damaged, [name.as_str()]);
            assert!(files(other.path()) == expected, "{name} {damage}");
        }
    }

    // A shard that was written and not yet in the manifest is written again.
    fs::remove_file(path("manifest.json")).expect("it is removed");
    made(RECIPE, 2, other.path()).expect("a build");
    assert!(files(other.path()) == expected);
}

#[test]
fn what_cannot_be_gone_on_with_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let small = RECIPE
        .replace("count = 30", "count = 3")
        .replace("count = 20", "count = 2");
    made(&small, 1, folder.path()).expect("a build");
    let before = files(folder.path());
    let error =
        made(&small.replace("seed = 11", "seed = 12"), 1, folder.path()).expect_err("another");
    assert!(matches!(error, FolderError::OtherRecipe(_)), "{error}");
    assert!(files(folder.path()) == before);

    let path = folder.path().join("manifest.json");
    let text = fs::read_to_string(&path).expect("a manifest");
    let (start, rest) = text.split_once("\"python\": \"").expect("a version");
    let (_, end) = rest.split_once('"').expect("its end");
    fs::write(&path, format!("{start}\"python\": \"2.7\"{end}")).expect("it is written");
    let error = made(&small, 1, folder.path())
        .expect_err("another interpreter")
        .to_string();
    assert!(error.contains("begun with Python 2.7"), "{error}");
    for other in ["{}", "", "[1]", &text.replace("cwm.data", "else")] {
        fs::write(&path, other).expect("it is written");
        let error = made(&small, 1, folder.path()).expect_err("none of ours");
        assert!(matches!(error, FolderError::NotOurs { .. }), "{error}");
    }

    let error = made(&small, 1, &path.join("below"))
        .expect_err("a file is no folder")
        .to_string();
    assert!(error.starts_with("cannot create `"), "{error}");
    let error = made("seed = 1", 1, folder.path())
        .expect_err("no recipe")
        .to_string();
    assert!(error.contains("source"), "{error}");
}

#[test]
fn inputs_that_have_changed_are_not_mixed() {
    let base = tempfile::tempdir().expect("a folder");
    let problems = base.path().join("problems.jsonl");
    let problem = |name: &str| {
        let code = format!("def {name}(n):\n    total = n + 1\n    return total * 2\n");
        let tests: Vec<String> = (1..5)
            .map(|n| format!("assert {name}({n}) == {}", 2 * n + 2))
            .collect();
        serde_json::json!({ "code": code, "test_list": tests }).to_string() + "\n"
    };
    fs::write(&problems, problem("twice")).expect("it is written");
    let recipe = "\
seed = 1
[[source]]
kind = 'problems'
name = 'tasks'
file = '../problems.jsonl'
licence = 'CC-BY-4.0'
";
    let folder = base.path().join("made");
    fs::create_dir(&folder).expect("it is made");
    let built = made(recipe, 1, &folder).expect("a build");
    let [input] = &built.manifest.sources[0].inputs[..] else {
        panic!("{:?}", built.manifest.sources[0].inputs)
    };
    assert_eq!(input.path, "../problems.jsonl");
    assert!(input.pin.starts_with("sha256:"), "{}", input.pin);
    made(recipe, 1, &folder).expect("the same again");

    fs::write(&problems, problem("thrice")).expect("it is written");
    let error = made(recipe, 1, &folder).expect_err("changed").to_string();
    assert!(error.contains("`../problems.jsonl`"), "{error}");
    assert!(error.contains("has changed"), "{error}");
}

/// A shard of a few records.
fn sample() -> (Vec<Record>, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a folder");
    made(&RECIPE.replace("count = 30", "count = 4"), 1, folder.path()).expect("a build");
    let records = shard(folder.path(), "small-00000.parquet");
    let mut bytes = Vec::new();
    write_shard(&records, "small", &mut bytes).expect("a shard");
    assert!(bytes == fs::read(folder.path().join("small-00000.parquet")).expect("a file"));
    (records, bytes)
}

#[test]
fn damaged_shards_never_panic() {
    let (records, bytes) = sample();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("shard");
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("it is written");
        read_shard(File::open(&path).expect("it is there"))
    };
    assert_eq!(read(&bytes).expect("it is whole"), records);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
    let damage = (0..bytes.len(), any::<u8>(), any::<bool>());
    let outcome = runner.run(&damage, |(at, byte, cut)| {
        let mut damaged = bytes.clone();
        damaged[at] = byte;
        damaged.truncate(if cut { at } else { bytes.len() });
        // Whatever it gives, it gives it without a panic.
        let _ = read(&damaged);
        Ok(())
    });
    outcome.expect("no panic");
}

#[test]
fn a_build_that_goes_on_knows_what_is_there() {
    let recipe = "seed = 5\nrecords_per_shard = 450\n[[source]]\nkind = 'generated'\nname = 'alike'\ncount = 700\nlevels = [0, 0, 0, 1, 1]\ndistinct = 'all'\n";
    let folder = tempfile::tempdir().expect("a folder");
    let whole = made(recipe, 2, folder.path()).expect("a build").manifest;
    let rejected = &whole.sources[0].report.rejected;
    assert!(
        rejected.contains_key(&Rejection::NearDuplicate),
        "{rejected:?}"
    );
    fs::remove_file(folder.path().join("alike-00001.parquet")).expect("it was there");
    let again = made(recipe, 1, folder.path()).expect("a build").manifest;
    assert_eq!(again, whole);
}
