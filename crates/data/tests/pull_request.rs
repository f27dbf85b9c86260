//! A small repository, made for the test, becomes documents whose diffs lead from the files before to those afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use cwm_data::scrub::Scrubber;
use cwm_data::text::pull_request::{History, Limits, PullRequest, commits, pull_request};
use cwm_data::text::unified::{apply, parse};
use cwm_data::text::{Content, Document, Material, Objects, Origin, Skip};

fn git(folder: &Path, arguments: &[&str]) -> Option<()> {
    let status = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=A", "-c", "user.email=a@example.com"])
        .args(["-c", "commit.gpgsign=false", "-c", "core.autocrlf=false"])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok()?;
    assert!(status.success(), "git {arguments:?}");
    Some(())
}

/// Makes a repository; `None` without git.
fn repository() -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let write = |name: &str, text: &[u8]| {
        let path = at.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    let commit = |message: &str| {
        git(at, &["add", "-A"])?;
        git(at, &["commit", "-q", "--allow-empty", "-m", message])
    };
    git(at, &["init", "-q", "-b", "main"])?;
    let lines: String = (1..30).map(|i| format!("line {i}\n")).collect();
    write("src/a.py", lines.as_bytes());
    write("b.md", b"```\nfence\n```");
    commit("Begin")?;
    git(at, &["checkout", "-q", "-b", "topic"])?;
    write("src/a.py", lines.replace("line 7\n", "seven\n").as_bytes());
    write("new file.txt", b"new\n");
    commit("Step one")?;
    write(
        "src/a.py",
        lines
            .replace("line 7\n", "7\n")
            .replace("line 29\n", "")
            .as_bytes(),
    );
    git(at, &["mv", "b.md", "c.md"])?;
    commit("Step two")?;
    git(at, &["checkout", "-q", "main"])?;
    let message = "Merge pull request #3 from a/topic\n\nMake it seven\n\nIt was not.\n\nReviewed-by: B <b@corp.io>";
    git(at, &["merge", "-q", "--no-ff", "-m", message, "topic"])?;
    let settings = "url = 'x'\npassword = 'hunter2'\n";
    write("settings.py", settings.as_bytes());
    commit("Add settings (#4)\n\nAsk me@corp.io.")?;
    write("settings.py", settings.replace("'x'", "'y'").as_bytes());
    commit("Another address")?;
    write(
        "settings.py",
        settings
            .replace("'x'", "'y'")
            .replace("hunter2", "hunter3")
            .as_bytes(),
    );
    commit("Another password")?;
    write("image", b"\0\x01");
    commit("Add an image")?;
    commit("Nothing")?;
    write("many\nlines", b"x");
    commit("Odd")?;
    Some(folder)
}

fn material() -> Material {
    Material {
        licence: "MIT".into(),
        origin: Origin {
            project: "a/b".into(),
            ..Origin::default()
        },
    }
}

fn built(folder: &Path, history: History, limits: &Limits) -> Vec<Result<Document, Skip>> {
    let commits = commits(folder, "HEAD", history).expect("a history");
    let mut objects = Objects::open(folder).expect("git runs");
    let mut build = |commit: &String| {
        pull_request(
            &mut objects,
            commit,
            &material(),
            limits,
            &Scrubber::default(),
        )
        .expect("git answers")
    };
    commits.iter().map(&mut build).collect()
}

fn change(document: &Result<Document, Skip>) -> &PullRequest {
    match document {
        Ok(Document {
            content: Content::PullRequest(change),
            ..
        }) => change,
        other => panic!("no change but {other:?}"),
    }
}

#[test]
fn a_history_becomes_changes() {
    let Some(folder) = repository() else {
        eprintln!("skipped: there is no git on the PATH");
        return;
    };
    let documents = built(folder.path(), History::MainLine, &Limits::default());
    let reasons: Vec<_> = documents
        .iter()
        .map(|d| d.as_ref().err().copied())
        .collect();
    let (none, some) = (None, Some);
    assert_eq!(
        reasons,
        [
            some(Skip::NoBase),
            none,
            none,
            none,
            // The passwords are gone from both sides, so nothing is left.
            some(Skip::Empty),
            some(Skip::NotText),
            some(Skip::Empty),
            some(Skip::OddPath),
        ]
    );
    let merge = change(&documents[1]);
    assert_eq!((merge.number, &*merge.title), (Some(3), "Make it seven"));
    assert_eq!(merge.body, "It was not.\n");
    assert_eq!(merge.files.keys().collect::<Vec<_>>(), ["b.md", "src/a.py"]);
    assert!(
        merge.diff.contains("rename from b.md\nrename to c.md\n"),
        "{}",
        merge.diff
    );
    assert!(merge.diff.contains("-line 7\n+7\n"), "{}", merge.diff);
    let settings = change(&documents[2]);
    assert_eq!(
        (settings.number, &*settings.title),
        (Some(4), "Add settings")
    );
    assert_eq!(settings.body, "Ask user@example.com.\n");
    assert!(
        settings.diff.contains("+password = 'REDACTED_PASSWORD'\n"),
        "{}",
        settings.diff
    );
    // With its steps, the merge is told more than once.
    let all = built(folder.path(), History::All, &Limits::default());
    assert_eq!(all.iter().flatten().count(), 5);
}

#[test]
fn diffs_lead_from_the_files_before_to_those_afterwards() {
    let Some(folder) = repository() else {
        eprintln!("skipped: there is no git on the PATH");
        return;
    };
    let tree = |commit: &str| -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let git = |arguments: &[&str]| {
            let output = Command::new("git")
                .current_dir(folder.path())
                .args(arguments)
                .output();
            output.expect("git runs").stdout
        };
        let names = git(&["ls-tree", "-r", "-z", "--name-only", commit]);
        for name in String::from_utf8(names)
            .expect("UTF-8")
            .split_terminator('\0')
        {
            let text = git(&["show", &format!("{commit}:{name}")]);
            let text = String::from_utf8_lossy(&text).into_owned();
            files.insert(
                name.to_owned(),
                Scrubber::default().scrub(&text).text.into_owned(),
            );
        }
        files
    };
    let documents = built(folder.path(), History::All, &Limits::default());
    for document in documents.iter().flatten() {
        let content = Ok(document.clone());
        let change = change(&content);
        let diff = parse(&change.diff).expect("our own form");
        let after = apply(&change.files, &diff).expect("it applies");
        let commit = &document.origin.version;
        let wanted = tree(commit);
        for (path, text) in &after {
            assert_eq!(wanted.get(path), Some(text), "{path}");
        }
        let before = tree(&format!("{commit}^"));
        assert!(
            change
                .files
                .iter()
                .all(|(path, text)| before.get(path) == Some(text))
        );
        assert_eq!(document.id, format!("pull_request:a/b:{commit}"));
    }
}

#[test]
fn renderings_and_json_are_read_back() {
    let Some(folder) = repository() else {
        eprintln!("skipped: there is no git on the PATH");
        return;
    };
    let documents = built(folder.path(), History::All, &Limits::default());
    for document in documents.iter().flatten() {
        let content = Ok(document.clone());
        let wanted = PullRequest {
            number: None,
            ..change(&content).clone()
        };
        assert_eq!(PullRequest::parse(&document.render()), Ok(wanted));
        let json = serde_json::to_string(document).expect("JSON");
        let found: Document = serde_json::from_str(&json).expect("JSON");
        assert_eq!(&found, document);
        for more in ["\"extra\":1,\"title\"", "\"extra\":1,\"number\""] {
            let key = more.rsplit(',').next().expect("a key");
            let wrong = json.replacen(key, more, 1);
            let refused = serde_json::from_str::<Document>(&wrong).is_err();
            assert!(refused || wrong == json, "{wrong}");
        }
    }
}

#[test]
fn limits_hold() {
    let Some(folder) = repository() else {
        eprintln!("skipped: there is no git on the PATH");
        return;
    };
    let base = Limits::default();
    for limits in [
        Limits { files: 1, ..base },
        Limits { bytes: 100, ..base },
        Limits {
            diff_bytes: 100,
            ..base
        },
    ] {
        let documents = built(folder.path(), History::MainLine, &limits);
        assert_eq!(documents[1], Err(Skip::TooLarge), "{limits:?}");
    }
}

#[test]
fn a_copy_without_its_past_lacks_what_it_lacks() {
    let Some(folder) = repository() else {
        eprintln!("skipped: there is no git on the PATH");
        return;
    };
    let copy = tempfile::tempdir().expect("a folder");
    let address = format!("file://{}", folder.path().display());
    let arguments = ["clone", "-q", "--bare", "--depth", "4", &address, "."];
    assert_eq!(git(copy.path(), &arguments), Some(()));
    let documents = built(copy.path(), History::MainLine, &Limits::default());
    assert_eq!(documents[0], Err(Skip::Missing));
    assert_eq!(documents[1], Err(Skip::NotText));
}

#[test]
fn what_is_no_repository_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    for tip in ["HEAD", "--all"] {
        let error = commits(folder.path(), tip, History::All).expect_err("no repository");
        assert!(
            error.to_string().starts_with("`git rev-list` in")
                || error.to_string().contains("cannot run"),
            "{error}"
        );
    }
}
