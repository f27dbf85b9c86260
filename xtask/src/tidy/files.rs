//! The texts that are ours: found by walking the tree, without git, so that a
//! source archive can be checked too.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// A text file of the workspace.
#[derive(Debug)]
pub(super) struct File {
    /// From the workspace's folder, with `/` between the parts.
    pub(super) path: String,
    pub(super) text: String,
}

impl File {
    pub(super) fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|e| e == extension)
    }
}

/// Endings of files that people write. Weights, vocabularies and `Cargo.lock`
/// are made by programs.
const WRITTEN: &[&str] = &["md", "py", "rs", "sh", "toml", "txt", "yaml", "yml"];

/// Hidden folders of which every file is ours.
const OUR_HIDDEN: &[&str] = &[".cargo", ".ci"];

/// Folders that are made by programs or by experiments.
const NOT_OURS: &[&str] = &["target", "out", "__pycache__"];

/// Reads every text under `root`, sorted by path.
pub(super) fn read(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    walk(root, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<File>) -> Result<()> {
    let context = || format!("cannot list `{}`", folder.display());
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if entry.file_type().with_context(context)?.is_dir() {
            if is_ours(&name, &entry.path()) {
                walk(&entry.path(), &format!("{path}/"), files)?;
            }
        } else if is_written(&path) {
            let text = fs::read_to_string(entry.path())
                .with_context(|| format!("cannot read `{path}` as UTF-8"))?;
            files.push(File { path, text });
        }
    }
    Ok(())
}

fn is_ours(name: &str, folder: &Path) -> bool {
    let is_hidden = name.starts_with('.') && !OUR_HIDDEN.contains(&name);
    let is_python_environment = folder.join("pyvenv.cfg").exists();
    !is_hidden && !NOT_OURS.contains(&name) && !is_python_environment
}

fn is_written(path: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|e| e.to_str());
    let in_hidden = OUR_HIDDEN.iter().any(|folder| path.starts_with(folder));
    in_hidden || extension.is_some_and(|e| WRITTEN.contains(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_texts_are_told_from_made_ones() {
        for path in [
            "README.md",
            "crates/a/src/lib.rs",
            ".ci/run",
            ".cargo/config.toml",
        ] {
            assert!(is_written(path), "{path}");
        }
        for path in [
            "Cargo.lock",
            "models/nano/model.safetensors",
            "a/vocabulary.json",
            "LICENSE",
        ] {
            assert!(!is_written(path), "{path}");
        }
    }

    #[test]
    fn made_folders_are_left_out() {
        let nowhere = Path::new("no such folder");
        assert!(is_ours("crates", nowhere) && is_ours(".ci", nowhere));
        assert!(!is_ours("target", nowhere) && !is_ours(".git", nowhere));
    }
}
