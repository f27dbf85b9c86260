//! Diffs lead from one text to the other: our own, and those of git.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use cwm_data::text::unified::{ApplyError, Change, DiffError, MAX_EDITS, apply, diff, parse};
use proptest::prelude::*;

fn files(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
    files.iter().map(owned).collect()
}

fn change(old: &str, new: &str) -> String {
    diff(Change {
        old: Some(("a.txt", old)),
        new: Some(("a.txt", new)),
    })
    .expect("a small change")
}

fn applied(before: &[(&str, &str)], text: &str) -> Result<BTreeMap<String, String>, ApplyError> {
    apply(&files(before), &parse(text).expect(text))
}

#[test]
fn a_change_is_written_as_git_writes_it() {
    let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13";
    let new = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n10\n11\n12\n13\n";
    assert_eq!(
        change(old, new),
        "diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n\
         @@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n\
         @@ -10,4 +10,4 @@\n 10\n 11\n 12\n-13\n\\ No newline at end of file\n+13\n"
    );
    assert_eq!(change(old, old), "");
}

#[test]
fn files_come_go_and_move() {
    let make = |old, new| diff(Change { old, new }).expect("a small change");
    let text = [
        make(None, Some(("new.txt", "x\n"))),
        make(Some(("old.txt", "y")), None),
        make(Some(("a b.txt", "z\n")), Some(("c d.txt", "z\nz\n"))),
        make(Some(("e", "")), Some(("f", ""))),
        make(None, Some(("empty", ""))),
    ]
    .concat();
    let before = [
        ("a b.txt", "z\n"),
        ("e", ""),
        ("old.txt", "y"),
        ("stays", "s"),
    ];
    let after = [
        ("c d.txt", "z\nz\n"),
        ("empty", ""),
        ("f", ""),
        ("new.txt", "x\n"),
        ("stays", "s"),
    ];
    assert_eq!(applied(&before, &text), Ok(files(&after)));
}

#[test]
fn nothing_is_searched_for_and_nothing_guessed() {
    let text = change("a\nb\nc\n", "a\nB\nc\n");
    let mismatch = ApplyError::Mismatch {
        path: "a.txt".into(),
        line: 1,
    };
    assert_eq!(applied(&[("a.txt", "x\na\nb\nc\n")], &text), Err(mismatch));
    assert_eq!(applied(&[], &text), Err(ApplyError::NoFile("a.txt".into())));
    let place = ApplyError::Place {
        path: "a.txt".into(),
        line: 9,
    };
    let beyond = text.replace("@@ -1,3 +1,3 @@", "@@ -9,3 +9,3 @@");
    assert_eq!(applied(&[("a.txt", "a\nb\nc\n")], &beyond), Err(place));
    let shifted = text.replace("@@ -1,3 +1,3 @@", "@@ -1,3 +2,3 @@");
    assert!(applied(&[("a.txt", "a\nb\nc\n")], &shifted).is_err());
    let new = diff(Change {
        old: None,
        new: Some(("a.txt", "x\n")),
    });
    let exists = Err(ApplyError::Exists("a.txt".into()));
    assert_eq!(applied(&[("a.txt", "")], &new.expect("small")), exists);
}

#[test]
fn what_is_no_diff_is_refused_with_its_line() {
    let head = "diff --git a/x b/x\n--- a/x\n+++ b/x\n";
    for (text, error) in [
        ("x\n".to_owned(), DiffError::Line(1)),
        (
            "diff --git \"a/\\t\" \"b/\\t\"\n".into(),
            DiffError::Quoted(1),
        ),
        (
            "diff --git a/x b/x\nBinary files a/x and b/x differ\n".into(),
            DiffError::Binary(2),
        ),
        ("diff --git a/x b/x\n--- a/x\n".into(), DiffError::Line(3)),
        (format!("{head}@@ -1 +1 @@\n-a\n"), DiffError::Count(4)),
        (
            format!("{head}@@ -1 +1 @@\n-a\n-b\n+c\n"),
            DiffError::Count(4),
        ),
        (
            format!("{head}@@ -1 +1 @@\n-a\n+b\n+c\n"),
            DiffError::Line(7),
        ),
        (format!("{head}@@ -a +1 @@\n"), DiffError::Line(4)),
        ("diff --git a/x b/y\n".into(), DiffError::Line(1)),
    ] {
        assert_eq!(parse(&text), Err(error), "{text}");
    }
}

#[test]
fn a_change_that_is_too_large_has_no_diff() {
    let lines = |mark: &str| {
        (0..MAX_EDITS)
            .map(|i| format!("{mark}{i}\n"))
            .collect::<String>()
    };
    let (old, new) = (lines("a"), lines("b"));
    let change = Change {
        old: Some(("x", &old)),
        new: Some(("x", &new)),
    };
    assert_eq!(diff(change), None);
}

/// Texts of few different lines, so that much is alike.
fn text() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "[ab]?",
        Just("é\r".into()),
        Just("-- x".into()),
        Just("\\ x".into())
    ];
    let lines = prop::collection::vec(line, 0..30);
    (lines, any::<bool>()).prop_map(|(lines, has_end)| {
        let text = lines.join("\n");
        if has_end && !text.is_empty() {
            text + "\n"
        } else {
            text
        }
    })
}

proptest! {
    #[test]
    fn our_diffs_lead_to_the_new_text(old in text(), new in text()) {
        let text = change(&old, &new);
        let after = applied(&[("a.txt", &old)], &text);
        prop_assert_eq!(after, Ok(files(&[("a.txt", &new)])));
    }

    #[test]
    fn any_text_is_a_diff_or_refused(text in "(diff --git a/x b/x\n|--- a/x\n|\\+\\+\\+ b/x\n|@@ -1,2 \\+1 @@\n|[-+ \\\\]é\n|\\PC|\n){0,12}") {
        if let Ok(diff) = parse(&text) {
            let _ = apply(&files(&[("x", "é\né\n")]), &diff);
        }
    }
}

/// What git makes of two texts; `None` without git.
fn git_diff(old: &str, new: &str, context: &str) -> Option<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let side = folder.path().join(name);
        std::fs::create_dir(&side).expect("a folder");
        std::fs::write(side.join("a.txt"), text).expect("a file");
    };
    write("old", old);
    write("new", new);
    let output = Command::new("git")
        .args(["-c", "core.autocrlf=false", "-c", "core.safecrlf=false"])
        .args([
            "diff",
            "--no-index",
            "--no-color",
            "--no-prefix",
            "--no-ext-diff",
            context,
        ])
        .args(["old/a.txt", "new/a.txt"])
        .current_dir(folder.path())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let text = text.replace(
        "diff --git old/a.txt new/a.txt",
        "diff --git a/a.txt b/a.txt",
    );
    Some(
        text.replace("--- old/", "--- a/")
            .replace("+++ new/", "+++ b/"),
    )
}

#[test]
fn diffs_of_git_lead_to_the_new_text() {
    if git_diff("a", "b", "-U3").is_none() {
        eprintln!("skipped: there is no git on the PATH");
        return;
    }
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(60));
    let cases = (
        text(),
        text(),
        prop_oneof![Just("-U0"), Just("-U1"), Just("-U3")],
    );
    let result = runner.run(&cases, |(old, new, context)| {
        let text = git_diff(&old, &new, context).expect("git is there");
        let after = applied(&[("a.txt", &old)], &text);
        prop_assert_eq!(after, Ok(files(&[("a.txt", &new)])), "{}", text);
        Ok(())
    });
    result.expect("git and we agree");
}

#[test]
fn git_applies_our_diffs() {
    let (old, new) = ("a\nb\n\nc\r\nd", "a\nB\n\nc\nd\ne\n");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a.txt"), old).expect("a file");
    std::fs::write(folder.path().join("x.diff"), change(old, new)).expect("a file");
    let status = Command::new("git")
        .args([
            "-c",
            "core.autocrlf=false",
            "apply",
            "--whitespace=nowarn",
            "x.diff",
        ])
        .current_dir(folder.path())
        .env(
            "GIT_CEILING_DIRECTORIES",
            folder.path().parent().expect("a parent"),
        )
        .status();
    let Ok(status) = status else {
        eprintln!("skipped: there is no git on the PATH");
        return;
    };
    assert!(status.success());
    let found = std::fs::read_to_string(folder.path().join("a.txt")).expect("a file");
    assert_eq!(found, new);
}
