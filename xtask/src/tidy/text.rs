//! Rules about single texts: blanks, length, opening words, words that must not
//! stay, links that lead nowhere.

use super::files::File;

/// Longest Rust file. One that needs more has more than one subject.
const MAX_LINES: usize = 800;

/// Leftovers of work in progress, with what they are found in. In pieces, so
/// that this file passes its own rule.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("#[ign", "ore"),
];

/// Traces of the machine something was made on, and hosts that only whoever
/// builds may choose.
const PRIVATE: &[&str] = &[
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("/t", "mp/"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("index", "-url"),
    concat!("index.crates", ".io"),
];

/// Applies the rules for one file.
pub(super) fn check(file: &File, findings: &mut Vec<String>) {
    let File { path, text } = file;
    let mut found = |line: usize, what: String| findings.push(format!("{path}:{line}: {what}"));
    let is_code = file.has_extension("rs") || file.has_extension("py");
    for (index, line) in text.split('\n').enumerate() {
        let number = index + 1;
        if line.trim_end() != line {
            found(number, "white space at the end of the line".into());
        }
        if let Some(word) = UNFINISHED
            .iter()
            .find(|word| is_code && line.contains(**word))
        {
            found(
                number,
                format!("`{word}`: finish it, or leave it out and say so"),
            );
        }
        if let Some(word) = PRIVATE.iter().find(|word| line.contains(**word)) {
            found(number, format!("`{word}` is of one machine or network"));
        }
    }
    let lines = text.lines().count();
    if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
        found(lines, "a text ends with exactly one newline".into());
    }
    if file.has_extension("rs") {
        if lines > MAX_LINES {
            found(
                lines,
                format!("more than {MAX_LINES} lines: split it by subject"),
            );
        }
        if !text.starts_with("//!") {
            found(
                1,
                "open with `//!`: what this is for and what it promises".into(),
            );
        }
    }
}

/// Checks that relative links of Markdown files lead somewhere. `exists` takes
/// a path from the workspace's folder.
pub(super) fn check_links(
    files: &[File],
    exists: impl Fn(&str) -> bool,
    findings: &mut Vec<String>,
) {
    for file in files.iter().filter(|file| file.has_extension("md")) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (line, target) in links(&file.text) {
            let path = target.split('#').next().unwrap_or_default();
            let is_elsewhere = target.contains("://") || target.starts_with("mailto:");
            if path.is_empty() || is_elsewhere || exists(&format!("./{folder}/{path}")) {
                continue;
            }
            findings.push(format!(
                "{}:{line}: there is no `{path}` to link to",
                file.path
            ));
        }
    }
}

/// Targets of the inline links of a Markdown text, with their lines. Code blocks
/// are left out.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Every other piece between backticks is code.
        for prose in line.split('`').step_by(2) {
            for rest in prose.split("](").skip(1) {
                if let Some((target, _)) = rest.split_once(')') {
                    links.push((index + 1, target));
                }
            }
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(
            &File {
                path: path.into(),
                text: text.into(),
            },
            &mut findings,
        );
        findings
    }

    #[track_caller]
    fn assert_found(path: &str, text: &str, what: &str) {
        let found = findings(path, text);
        assert!(found.len() == 1 && found[0].contains(what), "{found:?}");
    }

    #[test]
    fn tidy_texts_pass() {
        assert_eq!(findings("a.rs", "//! A.\n\nfn main() {}\n"), [""; 0]);
        assert_eq!(findings("a.md", "# A\n"), [""; 0]);
        assert_eq!(findings("a.toml", ""), [""; 0]);
    }

    #[test]
    fn blanks_are_found_with_their_line() {
        assert_found("a.md", "a\nb \n", "a.md:2: white space");
        assert_found("a.md", "a\r\n", "a.md:1: white space");
        assert_found("a.md", "a", "newline");
        assert_found("a.md", "a\n\n", "newline");
    }

    #[test]
    fn leftovers_are_found_in_code_only() {
        for word in UNFINISHED {
            assert_found("a.rs", &format!("//! A.\n// {word}\n"), "a.rs:2: ");
            assert_eq!(findings("a.md", &format!("{word}\n")), [""; 0]);
        }
    }

    #[test]
    fn private_places_are_found_everywhere() {
        for word in PRIVATE {
            assert_found("a.md", &format!("see {word}\n"), "of one machine");
        }
    }

    #[test]
    fn rust_files_are_short_and_open_with_their_purpose() {
        assert_found("a.rs", "fn main() {}\n", "open with");
        assert_found(
            "a.rs",
            &format!("//! A.\n{}", "\n//\n".repeat(400)),
            "800 lines",
        );
        assert_eq!(findings("a.py", "x = 1\n"), [""; 0]);
    }

    #[test]
    fn links_lead_somewhere() {
        let text =
            "[a](there.md#x) [b](https://b.invalid) [c](#c) `[d](d)`\n```\n[e](e)\n```\n[f](f)\n";
        let files = [File {
            path: "docs/a.md".into(),
            text: text.into(),
        }];
        let mut findings = Vec::new();
        check_links(&files, |path| path == "./docs/there.md", &mut findings);
        assert_eq!(findings, ["docs/a.md:5: there is no `f` to link to"]);
    }
}
