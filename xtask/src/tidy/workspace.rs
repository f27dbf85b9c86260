//! Rules about the crates: their manifests, their place in the code map, and
//! who may know whom.

use super::files::File;

/// Which crates of the workspace each library may depend on: the invariant
/// sentences of ARCHITECTURE.md as a table. The binary may know all of them.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("trace", &[]),
    ("kernels", &[]),
    ("plot", &[]),
    ("recipe", &[]),
    ("tracer", &["trace"]),
    ("tokenizer", &["trace"]),
    ("debug", &["trace"]),
    ("model", &["kernels"]),
    ("engine", &["trace", "tokenizer", "kernels", "model"]),
    ("cuda", &["kernels", "model", "engine"]),
    ("data", &["trace", "tracer", "tokenizer"]),
    (
        "train",
        &[
            "trace",
            "tokenizer",
            "kernels",
            "model",
            "cuda",
            "data",
            "plot",
        ],
    ),
    ("eval", &["trace", "tracer", "tokenizer", "engine", "plot"]),
    ("store", &[]),
];

/// Applies all rules about crates.
pub(super) fn check(files: &[File], findings: &mut Vec<String>) {
    let map = files.iter().find(|file| file.path == "ARCHITECTURE.md");
    for file in files.iter().filter(|file| is_member(&file.path)) {
        check_manifest(file, findings);
        let folder = file.path.trim_end_matches("/Cargo.toml");
        if !map.is_some_and(|map| map.text.contains(&format!("`{folder}`"))) {
            findings.push(format!("ARCHITECTURE.md: the code map lacks `{folder}`"));
        }
        if let Some(name) = folder.strip_prefix("crates/").filter(|name| *name != "cli") {
            check_knowledge(name, file, findings);
        }
    }
}

/// Whether a path is the manifest of a crate of the workspace: the `members` of
/// the root manifest.
fn is_member(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(
        parts[..],
        ["xtask", "Cargo.toml"] | ["crates", _, "Cargo.toml"]
    )
}

fn check_manifest(file: &File, findings: &mut Vec<String>) {
    let has = |line: &str| file.text.lines().any(|l| l == line);
    let description = file
        .text
        .lines()
        .find_map(|line| line.strip_prefix("description = "));
    if description.is_none_or(|text| text.trim_matches('"').is_empty()) {
        findings.push(format!(
            "{}: say in `description` what the crate is for",
            file.path
        ));
    }
    if !has("[lints]") || !has("workspace = true") {
        findings.push(format!(
            "{}: take over the lints with `[lints] workspace = true`",
            file.path
        ));
    }
}

/// Compares the crate's dependencies, not those of its tests, with the table.
fn check_knowledge(name: &str, file: &File, findings: &mut Vec<String>) {
    let Some((_, may_know)) = MAY_KNOW.iter().find(|(crate_name, _)| *crate_name == name) else {
        findings.push(format!(
            "{}: say in xtask's `MAY_KNOW` what `{name}` may know",
            file.path
        ));
        return;
    };
    let dependencies = file
        .text
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['));
    for line in dependencies {
        let known = line
            .split(['.', ' ', '='])
            .next()
            .and_then(|word| word.strip_prefix("cwm-"));
        if let Some(known) = known.filter(|known| !may_know.contains(known)) {
            findings.push(format!("{}: `{name}` must not know `{known}`", file.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
[package]
name = \"cwm-tracer\"
description = \"Records runs\"

[lints]
workspace = true

[dependencies]
cwm-trace.workspace = true
libc.workspace = true

[dev-dependencies]
cwm-debug.workspace = true
";

    fn findings(path: &str, manifest: &str, map: &str) -> Vec<String> {
        let files = [
            File {
                path: "ARCHITECTURE.md".into(),
                text: map.into(),
            },
            File {
                path: path.into(),
                text: manifest.into(),
            },
        ];
        let mut findings = Vec::new();
        check(&files, &mut findings);
        findings
    }

    #[track_caller]
    fn assert_found(path: &str, manifest: &str, map: &str, what: &str) {
        let found = findings(path, manifest, map);
        assert!(found.len() == 1 && found[0].contains(what), "{found:?}");
    }

    const PATH: &str = "crates/tracer/Cargo.toml";
    const MAP: &str = "`crates/tracer`: runs Python";

    #[test]
    fn a_good_crate_passes() {
        assert_eq!(findings(PATH, GOOD, MAP), [""; 0]);
        assert_eq!(findings("crates/tracer/fuzz/Cargo.toml", "", MAP), [""; 0]);
    }

    #[test]
    fn manifests_say_what_they_must() {
        assert_found(PATH, &GOOD.replace("Records runs", ""), MAP, "description");
        assert_found(PATH, &GOOD.replace("[lints]", "[badges]"), MAP, "lints");
    }

    #[test]
    fn crates_are_on_the_map_and_in_the_table() {
        assert_found(PATH, GOOD, "", "lacks `crates/tracer`");
        assert_found("crates/new/Cargo.toml", GOOD, "`crates/new`", "MAY_KNOW");
    }

    #[test]
    fn knowledge_flows_one_way() {
        let curious = GOOD.replace("libc.", "cwm-model.");
        assert_found(PATH, &curious, MAP, "`tracer` must not know `model`");
    }
}
