//! Sources of texts in recipes: from real material to shards and back.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use cwm_data::text::Document;
use cwm_data::{Built, FolderError, Setup, TextRow, build_folder, open_records, read_texts};
use cwm_trace::{cwm, live, nd};
use cwm_tracer::Interpreter;

fn made(recipe: &str, base: &Path, folder: &Path) -> Result<Built, FolderError> {
    let setup = Setup {
        interpreter: Interpreter::find(None).expect("an interpreter"),
        threads: 2,
        base: base.to_owned(),
        against: Vec::new(),
        cache: base.join("cache"),
        index: None,
    };
    build_folder(recipe, &setup, folder, |_| {})
}

fn texts(built: &Built, source: &str, folder: &Path) -> Vec<TextRow> {
    let made = built
        .manifest
        .sources
        .iter()
        .find(|made| made.name == source)
        .expect("a source");
    let read =
        |name: &String| read_texts(File::open(folder.join(name)).expect("a file")).expect("texts");
    made.shards
        .iter()
        .flat_map(|shard| read(&shard.file))
        .collect()
}

const RENDERED: &str = "\
seed = 4
records_per_shard = 10

[[source]]
kind = 'generated'
name = 'programs'
count = 24
levels = [1, 1, 1, 1]
";

fn rendered(name: &str, rendering: &str, per_run: u32) -> String {
    format!(
        "[[source]]\nkind = 'rendered'\nname = '{name}'\nof = 'programs'\nrendering = '{rendering}'\nper_run = {per_run}\n"
    )
}

#[test]
fn runs_are_written_in_every_dialect_and_read_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = [
        RENDERED.to_owned(),
        rendered("meta", "cwm", 1),
        rendered("ours", "live", 1),
        rendered("walks", "nd", 3),
        rendered("back", "nd_inverse", 1),
        rendered("prose", "prose", 1),
    ]
    .concat();
    let built = made(&recipe, folder.path(), folder.path()).expect("a build");
    let records: Vec<_> = open_records(folder.path())
        .expect("records")
        .map(|r| r.expect("a record"))
        .collect();
    assert_eq!(records.len(), 24);

    let meta = texts(&built, "meta", folder.path());
    assert_eq!(meta.len(), 24);
    for (row, record) in meta.iter().zip(&records) {
        assert_eq!(
            row.text,
            cwm::render(&cwm::Document::from_trace(&record.trace))
        );
        assert_eq!((&*row.kind, &*row.group), ("cwm", record.group()));
    }
    for (row, record) in texts(&built, "ours", folder.path()).iter().zip(&records) {
        assert_eq!(
            live::parse(&row.text).document,
            live::Document::from_trace(&record.trace)
        );
    }
    let walks = texts(&built, "walks", folder.path());
    // Short runs have few different walks, and no text is there twice.
    assert!((30..=72).contains(&walks.len()), "{}", walks.len());
    let back = texts(&built, "back", folder.path());
    for row in walks.iter().chain(&back) {
        let parsed = nd::parse(&row.text);
        assert_eq!(nd::render(&parsed.document), row.text, "{}", row.id);
    }
    let prose = texts(&built, "prose", folder.path());
    assert!(prose.len() > 12, "{}", prose.len());
    for row in &prose {
        let document: Document = serde_json::from_str(&row.document).expect("a document");
        assert_eq!(document.render(), row.text);
    }

    // The same again, after losing a shard in the middle.
    fs::remove_file(folder.path().join("walks-00001.text.parquet")).expect("it was there");
    let again = made(&recipe, folder.path(), folder.path()).expect("a build");
    assert_eq!(again.manifest, built.manifest);
}

fn git(folder: &Path, arguments: &[&str]) -> bool {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .args(["-c", "user.name=a", "-c", "user.email=a@example.com"])
        .args(arguments);
    command.output().is_ok_and(|output| output.status.success())
}

#[test]
fn other_kinds_come_from_folders_and_files() {
    let base = tempfile::tempdir().expect("a folder");
    let project = base.path().join("project");
    fs::create_dir_all(&project).expect("a folder");
    if !git(&project, &["init", "-q"]) {
        eprintln!("SKIPPED: git is not installed");
        return;
    }
    let write = |name: &str, text: &str| fs::write(project.join(name), text).expect("written");
    write("code.py", "def double(x):\n    return x * 2\n");
    assert!(git(&project, &["add", "."]) && git(&project, &["commit", "-qm", "Add double"]));
    write("code.py", "def double(x):\n    return x + x\n");
    assert!(git(
        &project,
        &[
            "commit",
            "-qam",
            "Add instead of multiplying\n\nIt works for more types."
        ]
    ));
    write(
        "proof.lean",
        "/-- Nothing is added. -/\ntheorem add_nothing (n : Nat) : n + 0 = n := by\n  simp\n",
    );
    write("broken.py", "def f(:\n");
    let recipe = "seed = 1\n\
        [[source]]\nkind = 'changes'\nname = 'changes'\nrepository = 'project'\nproject = 'p'\nlicence = 'MIT'\n\
        [[source]]\nkind = 'compiled'\nname = 'compiled'\nfolder = 'project'\ntranslations = ['bytecode']\nproject = 'p'\nlicence = 'MIT'\n\
        [[source]]\nkind = 'lean'\nname = 'lean'\nfolder = 'project'\nproject = 'p'\nlicence = 'MIT'\n";
    let out = base.path().join("out");
    let built = made(recipe, base.path(), &out).expect("a build");
    let changes = texts(&built, "changes", &out);
    assert_eq!(changes.len(), 1);
    assert!(
        changes[0].text.contains("+    return x + x")
            && changes[0].text.contains("It works for more types.")
    );
    let compiled = texts(&built, "compiled", &out);
    assert_eq!(compiled.len(), 1);
    assert!(compiled[0].text.contains("def double"));
    let lean = texts(&built, "lean", &out);
    let kinds: Vec<_> = lean.iter().map(|row| &*row.kind).collect();
    assert_eq!(kinds, ["lean_translation", "lean_proof"]);
    let skipped = &built.manifest.sources[1].report.skipped;
    assert_eq!(skipped.values().sum::<usize>(), 1, "{skipped:?}");
    assert!(built.manifest.complete);
}

#[test]
fn benchmarks_are_left_out_of_texts_too() {
    let base = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(base.path().join(name), text).expect("written");
    let copied = "def ours(values):\n    total = 0\n    for value in values:\n        if value % 3 == 1 and value > 7:\n            total += value * 2 - 5\n    return total\n";
    write("copied.py", copied);
    write("own.py", "def other(x):\n    return x\n");
    let item = serde_json::json!({"prompt": "", "code": copied});
    write("items.jsonl", &item.to_string());
    let recipe = "seed = 1\nagainst = ['items.jsonl']\n[[source]]\nkind = 'compiled'\nname = 'c'\nfolder = '.'\ntranslations = ['bytecode']\nproject = 'p'\nlicence = 'MIT'\n";
    let out = base.path().join("out");
    let built = made(recipe, base.path(), &out).expect("a build");
    let names: Vec<_> = texts(&built, "c", &out)
        .into_iter()
        .map(|row| row.id)
        .collect();
    assert!(names.len() == 1 && names[0].contains("own.py"), "{names:?}");
}

#[test]
fn what_cannot_be_followed_is_said() {
    let base = tempfile::tempdir().expect("a folder");
    for (source, said) in [
        (
            "kind = 'rendered'\nname = 'a'\nof = 'b'\nrendering = 'nd'\n",
            "no source of programs above it",
        ),
        (
            "kind = 'changes'\nname = 'a'\nrepository = 'nowhere'\nproject = 'p'\nlicence = 'MIT'\n",
            "nowhere",
        ),
        (
            "kind = 'lean'\nname = 'a'\nfolder = 'nowhere'\nproject = 'p'\nlicence = 'MIT'\n",
            "nowhere",
        ),
        (
            "kind = 'trajectories'\nname = 'a'\nfile = 'nowhere.jsonl'\nproject = 'p'\nlicence = 'MIT'\n",
            "nowhere.jsonl",
        ),
        (
            "kind = 'compiled'\nname = 'a'\nfolder = '.'\ntranslations = []\nproject = 'p'\nlicence = 'MIT'\n",
            "names no translations",
        ),
    ] {
        let recipe = format!("seed = 1\n[[source]]\n{source}");
        let error = made(&recipe, base.path(), &base.path().join("out"))
            .expect_err(source)
            .to_string();
        assert!(error.contains(said), "{error}");
        let _ = fs::remove_dir_all(base.path().join("out"));
    }
}
