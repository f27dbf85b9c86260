//! What a source reads that its recipe only names, and what it was when it was read.
//!
//! Promises: two builds with the same recipe, interpreter and inputs make the same shards; a folder
//! that was begun with other inputs than those at hand is refused, not mixed.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::build::{BuildError, hex};
use crate::folder::FolderError;
use crate::manifest::file;
use crate::recipe::Source;
use crate::text::{commit_of, files};
use crate::text_source::TextError;

/// A file, a folder or a repository that a source reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// As in the recipe.
    pub path: String,
    /// `sha256:` and the hash of the file, or of the folder's files with their names; `git:` and the
    /// hash of the commit that a repository is read from.
    pub pin: String,
}

/// What `source` reads, as it is now. Packages are pinned in the recipe, and Python's library by the
/// interpreter's version.
pub(crate) fn inputs(source: &Source, base: &Path) -> Result<Vec<Input>, FolderError> {
    let mut found = Vec::new();
    let mut push = |path: &str, pin: String| {
        found.push(Input {
            path: path.to_owned(),
            pin,
        });
    };
    match source {
        Source::Problems { file, .. } | Source::Trajectories { file, .. } => {
            push(file, of_file(&base.join(file))?);
        }
        Source::Changes {
            repository, tip, ..
        } => {
            let commit = commit_of(&base.join(repository), tip)
                .map_err(|error| BuildError::from(TextError::from(error)))?;
            push(repository, format!("git:{commit}"));
        }
        Source::Compiled {
            folder,
            translations,
            ..
        } => {
            let extensions = translations
                .iter()
                .map(|translation| translation.extension());
            push(folder, of_folder(&base.join(folder), extensions)?);
        }
        Source::Lean { folder, steps, .. } => {
            push(folder, of_folder(&base.join(folder), ["lean"])?);
            if let Some(steps) = steps {
                push(steps, of_file(&base.join(steps))?);
            }
        }
        Source::Generated { .. }
        | Source::Packages { .. }
        | Source::Library { .. }
        | Source::Rendered { .. }
        | Source::Bytecode { .. }
        | Source::Kernels { .. } => {}
    }
    Ok(found)
}

fn of_file(path: &Path) -> Result<String, FolderError> {
    let bytes = fs::read(path).map_err(file("read", path))?;
    Ok(format!("sha256:{}", hex(&Sha256::digest(&bytes))))
}

/// Of the files with these endings, in the order of their names.
fn of_folder<'a>(
    folder: &Path,
    extensions: impl IntoIterator<Item = &'a str>,
) -> Result<String, FolderError> {
    let mut extensions: Vec<&str> = extensions.into_iter().collect();
    extensions.sort_unstable();
    extensions.dedup();
    let mut hasher = Sha256::new();
    for extension in extensions {
        let names =
            files(folder, extension).map_err(|error| BuildError::from(TextError::from(error)))?;
        for name in names {
            // A name ends where the hash begins, which is of one length.
            hasher.update(format!("{name}\n{}\n", of_file(&folder.join(&name))?));
        }
    }
    Ok(format!("sha256:{}", hex(&hasher.finalize())))
}
