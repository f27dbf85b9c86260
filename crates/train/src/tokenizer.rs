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
    /// The vocabulary file cannot be used. This is told with its own cause.
    #[error("{0}")]
    Load(LoadError),
    /// The small model's vocabulary beside a run is another one. This is told with its own cause.
    #[error("{0}")]
    Nano(VocabularyError),
    /// The note beside the checkpoints cannot be read or written.
    #[error("cannot use `{}`: {reason}", path.display())]
    Note {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The run or model was made with another vocabulary.
    #[error(
        "what is in `{}` was made with the tokenizer {was}, not {is}; go on with that one, or begin a new run in another folder",
        run.display()
    )]
    Differs {
        /// Folder of the run or model.
        run: PathBuf,
        /// What it was made with.
        was: String,
        /// What was given now.
        is: String,
    },
}

impl From<LoadError> for TokenizerError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

impl From<VocabularyError> for TokenizerError {
    fn from(error: VocabularyError) -> Self {
        Self::Nano(error)
    }
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
    /// The note in a folder, if there is one.
    fn read(folder: &Path) -> Result<Option<Self>, TokenizerError> {
        let path = folder.join(TOKENIZER_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let broken = |reason: String| TokenizerError::Note {
            path: path.clone(),
            reason,
        };
        let text = fs::read(&path).map_err(|error| broken(error.to_string()))?;
        let note = serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
        Ok(Some(note))
    }

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
        let sha256 = crate::hex::hex(&Sha256::digest(&bytes));
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

    /// Which one the run in a folder was made with, by its note alone. One from before the note was kept has that of
    /// the small model.
    ///
    /// # Errors
    /// [`TokenizerError::Note`].
    pub fn kind_of(run: &Path) -> Result<TokenizerKind, TokenizerError> {
        let note = Note::read(run)?;
        Ok(note.map_or(TokenizerKind::Nano, |note| note.kind))
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

    /// Writes what vocabulary it is into the folder of a run, and removes what tells of another one.
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
        match self {
            Self::Nano(vocabulary) => write(Vocabulary::FILE, vocabulary.to_json())?,
            // A start that failed may have left it.
            Self::Text { .. } => forget(&run.join(Vocabulary::FILE))?,
        }
        let mut text = serde_json::to_string_pretty(&self.note()).unwrap_or_default();
        text.push('\n');
        write(TOKENIZER_FILE, text)
    }

    /// Whether a folder has a note of a vocabulary.
    pub(crate) fn is_noted(folder: &Path) -> bool {
        folder.join(TOKENIZER_FILE).exists() || folder.join(Vocabulary::FILE).exists()
    }

    /// Makes sure that a model that [notes](Self::is_noted) it was made with this vocabulary or, of the small model, an
    /// earlier one of which this is the longer.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(crate) fn check_origin(&self, model: &Path) -> Result<(), TokenizerError> {
        match (self.kind(), Self::kind_of(model)?) {
            (TokenizerKind::Nano, TokenizerKind::Nano) => {
                Vocabulary::load(&model.join(Vocabulary::FILE))?;
                Ok(())
            }
            _ => self.check(model),
        }
    }

    /// Makes sure that a run was made with this vocabulary. One from before the note was kept has that of the small
    /// model.
    ///
    /// # Errors
    /// [`TokenizerError::Differs`], or that the files beside the run cannot be used.
    pub fn check(&self, run: &Path) -> Result<(), TokenizerError> {
        let differs = |was| TokenizerError::Differs {
            run: run.to_owned(),
            was,
            is: self.note().describe(),
        };
        match Note::read(run)? {
            Some(note) if note != self.note() => return Err(differs(note.describe())),
            None if self.kind() != TokenizerKind::Nano => {
                return Err(differs("of the small model (`nano`)".to_owned()));
            }
            _ => {}
        }
        if self.kind() == TokenizerKind::Nano {
            Vocabulary::load(&run.join(Vocabulary::FILE))?;
        }
        Ok(())
    }
}

/// Removes a file, if there is one.
fn forget(path: &Path) -> Result<(), TokenizerError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(TokenizerError::Note {
            path: path.to_owned(),
            reason: error.to_string(),
        }),
        _ => Ok(()),
    }
}
