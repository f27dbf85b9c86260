//! The texts of a folder, in a fixed order.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Skip;

/// Why a folder cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{}`: {source}", path.display())]
pub struct FileError {
    /// The file or folder.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

/// Paths of all files below `folder` with an ending such as `py`, with `/` between their parts,
/// sorted by bytes. Links are not followed: they could lead anywhere. Hidden folders are left out,
/// and names that are no UTF-8.
///
/// # Errors
/// [`FileError`] with the folder that cannot be listed.
pub fn files(folder: &Path, extension: &str) -> Result<Vec<String>, FileError> {
    let mut found = Vec::new();
    walk(folder, "", extension, &mut found)?;
    found.sort();
    Ok(found)
}

fn walk(
    folder: &Path,
    prefix: &str,
    extension: &str,
    found: &mut Vec<String>,
) -> Result<(), FileError> {
    let failed = |source| FileError {
        path: folder.to_owned(),
        source,
    };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = format!("{prefix}{name}");
        if kind.is_dir() && !name.starts_with('.') {
            walk(&entry.path(), &format!("{path}/"), extension, found)?;
        } else if kind.is_file() && Path::new(&name).extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    Ok(())
}

/// The text of a file of at most `bytes`.
///
/// # Errors
/// [`FileError`] if it cannot be read. One that is too large or no text is `Ok(Err(_))`.
pub fn read_text(path: &Path, bytes: usize) -> Result<Result<String, Skip>, FileError> {
    let failed = |source| FileError {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(failed)?.len() > bytes as u64 {
        return Ok(Err(Skip::TooLarge));
    }
    let read = fs::read(path).map_err(failed)?;
    let text = String::from_utf8(read).map_err(|_| Skip::NotText);
    Ok(text.and_then(|text| {
        if text.contains('\0') {
            Err(Skip::NotText)
        } else {
            Ok(text)
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_listed_in_order_and_read_if_they_are_texts() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        for (name, text) in [
            ("b.py", &b"b"[..]),
            ("a/c.py", b"c"),
            ("a/d.rs", b""),
            ("a.py", b"\0"),
            (".git/x.py", b""),
            ("e.py", b"\xff"),
        ] {
            fs::create_dir_all(at.join(name).parent().expect("a folder")).expect("a folder");
            fs::write(at.join(name), text).expect("a file");
        }
        let found = files(at, "py").expect("a folder");
        assert_eq!(found, ["a.py", "a/c.py", "b.py", "e.py"]);
        let read = |name: &str, bytes| read_text(&at.join(name), bytes).expect("a file");
        assert_eq!(read("a/c.py", 1), Ok("c".to_owned()));
        assert_eq!(read("a/c.py", 0), Err(Skip::TooLarge));
        assert_eq!(read("a.py", 9), Err(Skip::NotText));
        assert_eq!(read("e.py", 9), Err(Skip::NotText));
        let error = files(&at.join("no"), "py")
            .expect_err("no folder")
            .to_string();
        assert!(error.starts_with("cannot read `"), "{error}");
    }
}
