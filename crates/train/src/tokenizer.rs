//! The vocabulary of a run, and the note of it that lies beside the checkpoints.
//!
//! Weights mean nothing without the vocabulary they were trained with, so a run is never gone on with under another one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cwm_tokenizer::llama::{Llama, LoadError, Special};
use cwm_tokenizer::nano::{Vocabulary, VocabularyError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Name of the note beside the checkpoints.
pub const TOKENIZER_FILE: &str = "cwm-tokenizer.json";

const FORMAT: &str = "cwm-tokenizer-1";

/// Which vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerKind {
    /// That of the small model, for windows.
    Nano,
    /// Bytes and reserved tokens, for texts; needs no file.
    Bytes,
    /// That of Llama 3 with CWM's reserved tokens, for texts, from a file.
    Llama,
}

impl TokenizerKind {
    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nano => "nano",
            Self::Bytes => "bytes",
            Self::Llama => "llama",
        }
    }
}

/// A vocabulary that is ready for use.
#[derive(Clone, Debug)]
pub enum Tokenizer {
    /// That of the small model.
    Nano(Arc<Vocabulary>),
    /// Bytes or Llama 3.
    Text {
        /// The tokenizer.
        llama: Arc<Llama>,
        /// SHA-256 of its file; none for bytes.
        sha256: Option<String>,
    },
}

/// What can go wrong with the vocabulary of a run.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The vocabulary file cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The small model's vocabulary beside a run is another one.
    #[error(transparent)]
    Nano(#[from] VocabularyError),
    /// The note beside the checkpoints cannot be read or written.
    #[error("cannot use `{}`: {reason}", path.display())]
    Note {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The run was made with another vocabulary.
    #[error(
        "the run in `{}` was made with the tokenizer {was}, not {is}; go on with that one, or begin a new run in another folder",
        run.display()
    )]
    Differs {
        /// Folder of the run.
        run: PathBuf,
        /// What it was made with.
        was: String,
        /// What was given now.
        is: String,
    },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    format: String,
    kind: TokenizerKind,
    vocabulary: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

impl Note {
    fn describe(&self) -> String {
        let Self {
            kind, vocabulary, ..
        } = self;
        let file = self.sha256.as_deref().map(|hash| format!(" (file {hash})"));
        let kind = kind.name();
        format!("`{kind}` of {vocabulary} ids{}", file.unwrap_or_default())
    }
}

impl Tokenizer {
    /// The vocabulary of the small model.
    pub fn nano() -> Self {
        Self::Nano(Arc::new(Vocabulary::default()))
    }

    /// Bytes.
    pub fn bytes() -> Self {
        Self::Text {
            llama: Arc::new(Llama::bytes()),
            sha256: None,
        }
    }

    /// Llama 3's vocabulary from its `tokenizer.model`.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn llama(path: &Path) -> Result<Self, TokenizerError> {
        let llama = Arc::new(Llama::from_file(path)?);
        let bytes = fs::read(path).map_err(|source| LoadError::Io {
            path: path.to_owned(),
            source,
        })?;
        let digest = Sha256::digest(&bytes);
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self::Text {
            llama,
            sha256: Some(sha256),
        })
    }

    /// Which one it is.
    pub fn kind(&self) -> TokenizerKind {
        match self {
            Self::Nano(_) => TokenizerKind::Nano,
            Self::Text { sha256: None, .. } => TokenizerKind::Bytes,
            Self::Text { .. } => TokenizerKind::Llama,
        }
    }

    /// How many ids there are.
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Nano(vocabulary) => vocabulary.len(),
            Self::Text { llama, .. } => llama.vocabulary(),
        }
    }

    /// The id that opens a text, and those that end one.
    pub fn ends(&self) -> (u32, Vec<u32>) {
        match self {
            Self::Nano(_) => (1, vec![0]),
            Self::Text { llama, .. } => {
                let mut stop = llama.stop_ids().to_vec();
                stop.sort_unstable();
                (llama.id(Special::BeginOfText), stop)
            }
        }
    }

    fn note(&self) -> Note {
        Note {
            format: FORMAT.to_owned(),
            kind: self.kind(),
            vocabulary: self.vocabulary(),
            sha256: match self {
                Self::Nano(_) => None,
                Self::Text { sha256, .. } => sha256.clone(),
            },
        }
    }

    /// Writes what vocabulary it is into the folder of a run.
    ///
    /// # Errors
    /// [`TokenizerError::Note`].
    pub fn save(&self, run: &Path) -> Result<(), TokenizerError> {
        let write = |name: &str, text: String| {
            let path = run.join(name);
            fs::write(&path, text).map_err(|error| TokenizerError::Note {
                path,
                reason: error.to_string(),
            })
        };
        if let Self::Nano(vocabulary) = self {
            write(Vocabulary::FILE, vocabulary.to_json())?;
        }
        let mut text = serde_json::to_string_pretty(&self.note()).unwrap_or_default();
        text.push('\n');
        write(TOKENIZER_FILE, text)
    }

    /// Makes sure that a run was made with this vocabulary. One from before the note was kept has that of the small
    /// model.
    ///
    /// # Errors
    /// [`TokenizerError::Differs`], or that the files beside the run cannot be used.
    pub fn check(&self, run: &Path) -> Result<(), TokenizerError> {
        let path = run.join(TOKENIZER_FILE);
        let differs = |was| TokenizerError::Differs {
            run: run.to_owned(),
            was,
            is: self.note().describe(),
        };
        if path.exists() {
            let broken = |reason: String| TokenizerError::Note {
                path: path.clone(),
                reason,
            };
            let text = fs::read(&path).map_err(|error| broken(error.to_string()))?;
            let note: Note =
                serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
            if note != self.note() {
                return Err(differs(note.describe()));
            }
        } else if self.kind() != TokenizerKind::Nano {
            return Err(differs("of the small model (`nano`)".to_owned()));
        }
        if self.kind() == TokenizerKind::Nano {
            Vocabulary::load(&run.join(Vocabulary::FILE))?;
        }
        Ok(())
    }
}
