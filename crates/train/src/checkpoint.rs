//! Checkpoints: folders `step-NNNNNN` from which a run goes on with the same bits.
//!
//! A checkpoint holds `config.json` and `model.safetensors` (f32, loadable as any model),
//! `optimizer.safetensors` (moments, and the mean of the weights if there is one) and `state.json`, which lists the SHA-256 of the other files.
//!
//! Promises: a checkpoint is written as `step-NNNNNN.tmp`, flushed to disk and then renamed, so a
//! kill at any time leaves all earlier checkpoints whole; a folder that is unfinished, damaged or
//! foreign is passed over with a message saying why; removing old ones never touches the newest.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use cwm_model::Model;
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::TrainConfig;
use crate::error::Error;
use crate::optimizer::{Moment, Moments};
use crate::plan::Plan;
use crate::spikes::Spikes;

const FORMAT: u32 = 2;
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const STATE_FILE: &str = "state.json";
const PREFIX: &str = "step-";
/// Ending of a checkpoint that is being written.
const UNFINISHED: &str = ".tmp";
/// Ending of a checkpoint that is being removed.
const REMOVED: &str = ".removed";

/// Where a run stands, apart from its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// Steps done.
    pub(crate) step: u64,
    /// Updates applied: steps less those skipped.
    pub(crate) updates: u64,
    /// Steps that made no update.
    pub(crate) skipped_steps: u64,
    /// Examples drawn from the data: where the next batch starts.
    pub(crate) drawn: u64,
    pub(crate) tokens_seen: u64,
    pub(crate) data_fingerprint: String,
    /// What steps were like lately.
    pub(crate) spikes: Spikes,
    /// Fingerprint of the data measured on.
    pub(crate) held_out: Option<String>,
    /// The evaluation with the lowest loss on it so far.
    pub(crate) best: Option<Best>,
    pub(crate) config: TrainConfig,
}

/// An evaluation that none before was better than.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Best {
    /// Steps done when it was made.
    pub(crate) step: u64,
    /// Its mean loss as bits, which JSON keeps to the last one.
    loss: u64,
}

impl Best {
    pub(crate) fn new(step: u64, loss: f64) -> Self {
        let loss = loss.to_bits();
        Self { step, loss }
    }

    pub(crate) fn loss(self) -> f64 {
        f64::from_bits(self.loss)
    }
}

/// Contents of `state.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    state: State,
    /// SHA-256 of every other file of the checkpoint, in hexadecimal.
    files: BTreeMap<String, String>,
}

/// Everything that a checkpoint holds.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) state: State,
    pub(crate) model: Model,
    /// Of all parameters.
    pub(crate) moments: Moments,
}

/// Writes a checkpoint below `dir` and returns its folder.
pub(crate) fn write(dir: &Path, snapshot: &Snapshot) -> Result<PathBuf, Error> {
    let Snapshot {
        state,
        model,
        moments,
    } = snapshot;
    let name = folder_name(state.step);
    let whole = dir.join(&name);
    let unfinished = dir.join(name + UNFINISHED);
    remove(&unfinished)?;
    fs::create_dir(&unfinished).map_err(Error::io("create", &unfinished))?;

    model
        .save(&unfinished, cwm_model::Dtype::F32)
        .map_err(Error::SaveModel)?;
    let path = unfinished.join(OPTIMIZER_FILE);
    let plan = Plan::new(&model.layout, &state.config.optimizer);
    let tensors = moments
        .entries(&plan)
        .into_iter()
        .map(|moment| (moment.name.clone(), moment));
    safetensors::serialize_to_file(tensors, None, &path)
        .map_err(|source| Error::SaveOptimizer { path, source })?;

    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&unfinished).map_err(Error::io("list", &unfinished))? {
        let entry = entry.map_err(Error::io("list", &unfinished))?;
        let path = entry.path();
        files.insert(
            file_name(&path),
            sha256(&path).map_err(Error::io("read back", &path))?,
        );
        sync(&path)?;
    }
    let manifest = Manifest {
        format: FORMAT,
        state: state.clone(),
        files,
    };
    let path = unfinished.join(STATE_FILE);
    let mut text = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| Error::io("write", &path)(error.into()))?;
    text.push(b'\n');
    fs::write(&path, text).map_err(Error::io("write", &path))?;
    sync(&path)?;
    sync(&unfinished)?;

    // Only a broken checkpoint can stand here: a run resumes from the newest whole one.
    discard(&whole)?;
    fs::rename(&unfinished, &whole).map_err(Error::io("rename", &unfinished))?;
    sync(dir)?;
    Ok(whole)
}

/// Reads the newest whole checkpoint below `dir`; the strings say what was passed over and why.
pub(crate) fn load_newest(dir: &Path) -> Result<(Snapshot, Vec<String>), Error> {
    newest(dir, load)
}

/// The newest whole checkpoint below `dir`, for those who want its weights
/// (`cwm_model::Model::load`); the strings say what was passed over and why.
///
/// # Errors
/// When the folder cannot be read or has no whole checkpoint.
pub fn newest_checkpoint(dir: &Path) -> Result<(PathBuf, Vec<String>), Error> {
    newest(dir, |path, _| Ok(path.to_path_buf()))
}

/// The checkpoint of `step` below `dir`, which must be whole.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn checkpoint_at(dir: &Path, step: u64) -> Result<PathBuf, Error> {
    let path = dir.join(folder_name(step));
    match verify(&path) {
        Ok(_) => Ok(path),
        Err(reason) => Err(Error::NoCheckpoint {
            dir: dir.to_path_buf(),
            tried: vec![format!("`{}`: {reason}", file_name(&path))],
        }),
    }
}

/// Goes from the newest checkpoint down to one that verifies and that `read` accepts.
fn newest<T>(
    dir: &Path,
    read: impl Fn(&Path, Manifest) -> Result<T, String>,
) -> Result<(T, Vec<String>), Error> {
    let mut passed_over: Vec<String> = folders(dir)?
        .into_iter()
        .filter(|(name, _)| name.ends_with(UNFINISHED))
        .map(|(name, _)| format!("passed over `{name}`: it was never finished"))
        .collect();
    for (_, path) in list(dir)?.into_iter().rev() {
        match verify(&path).and_then(|manifest| read(&path, manifest)) {
            Ok(loaded) => return Ok((loaded, passed_over)),
            Err(reason) => {
                passed_over.push(format!("passed over `{}`: {reason}", file_name(&path)));
            }
        }
    }
    Err(Error::NoCheckpoint {
        dir: dir.to_path_buf(),
        tried: passed_over,
    })
}

/// Folders with a finished checkpoint's name, oldest first. They may still be damaged.
pub(crate) fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut found: Vec<(u64, PathBuf)> = folders(dir)?
        .into_iter()
        .filter_map(|(name, path)| Some((step_of(&name)?, path)))
        .collect();
    found.sort();
    Ok(found)
}

/// Keeps the checkpoint of `newest`, the `keep_last - 1` before it and the one of `best`; removes
/// other older ones and leftovers of interrupted writes.
pub(crate) fn prune(
    dir: &Path,
    newest: u64,
    keep_last: usize,
    best: Option<u64>,
) -> Result<(), Error> {
    let older: Vec<_> = list(dir)?
        .into_iter()
        .filter(|&(step, _)| step < newest)
        .collect();
    let excess = (older.len() + 1).saturating_sub(keep_last);
    for (step, path) in older.into_iter().take(excess) {
        if best != Some(step) {
            discard(&path)?;
        }
    }
    for (name, path) in folders(dir)? {
        if name.ends_with(UNFINISHED) || name.ends_with(REMOVED) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Reads `state.json` and checks the other files against it; errors are reasons for a person.
fn verify(path: &Path) -> Result<Manifest, String> {
    let text = fs::read(path.join(STATE_FILE))
        .map_err(|error| format!("`{STATE_FILE}` cannot be read ({error})"))?;
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| format!("`{STATE_FILE}` is damaged or of another version ({error})"))?;
    if manifest.format != FORMAT {
        let found = manifest.format;
        return Err(format!(
            "it has format {found}, and this program reads format {FORMAT}"
        ));
    }
    for name in [OPTIMIZER_FILE, cwm_model::CONFIG_FILE] {
        if !manifest.files.contains_key(name) {
            return Err(format!("`{STATE_FILE}` does not list `{name}`"));
        }
    }
    for (name, expected) in &manifest.files {
        let found = sha256(&path.join(name))
            .map_err(|error| format!("`{name}` cannot be read ({error})"))?;
        if found != *expected {
            return Err(format!(
                "`{name}` is damaged: its SHA-256 is not the one recorded"
            ));
        }
    }
    Ok(manifest)
}

fn load(path: &Path, manifest: Manifest) -> Result<Snapshot, String> {
    let state = manifest.state;
    state.config.validate().map_err(|error| error.to_string())?;
    let model = Model::load(path).map_err(|error| error.to_string())?;
    let plan = Plan::new(&model.layout, &state.config.optimizer);
    let with_ema = state.config.ema.is_some();
    let mut moments = Moments::new(&plan.whole(), &model.params, with_ema);
    let bytes = fs::read(path.join(OPTIMIZER_FILE)).map_err(|error| error.to_string())?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| error.to_string())?;
    moments.restore(&plan, |name, shape, values| {
        read_moment(&tensors, name, shape, values)
    })?;
    Ok(Snapshot {
        state,
        model,
        moments,
    })
}

fn read_moment(
    tensors: &SafeTensors<'_>,
    name: &str,
    shape: &[usize],
    values: &mut [f32],
) -> Result<(), String> {
    let tensor = tensors
        .tensor(name)
        .map_err(|error| format!("`{name}`: {error}"))?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
        let (dtype, found) = (tensor.dtype(), tensor.shape());
        return Err(format!(
            "moment `{name}` is {dtype:?} {found:?}, expected F32 {shape:?}"
        ));
    }
    let (words, _) = tensor.data().as_chunks::<4>();
    for (value, word) in values.iter_mut().zip(words) {
        *value = f32::from_le_bytes(*word);
    }
    Ok(())
}

/// The model of the newest whole checkpoint below `dir`, with the running mean of its weights in
/// the place of the weights; the strings say which checkpoints were passed over and why.
///
/// # Errors
/// When there is no whole checkpoint, or the run keeps no mean.
pub fn load_ema(dir: &Path) -> Result<(Model, Vec<String>), Error> {
    let (snapshot, passed_over) = load_newest(dir)?;
    let mut model = snapshot.model;
    let ema = snapshot.moments.ema.ok_or_else(|| Error::NoEma {
        dir: dir.to_path_buf(),
    })?;
    model.params = ema;
    Ok((model, passed_over))
}

impl View for Moment<&[f32]> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        for value in self.values {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes.into()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

fn folder_name(step: u64) -> String {
    format!("{PREFIX}{step:06}")
}

fn step_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    let plain = digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// Names and paths of everything that starts like a checkpoint.
fn folders(dir: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let name = file_name(&path);
        let endings = [UNFINISHED, REMOVED];
        let step = endings
            .iter()
            .find_map(|ending| name.strip_suffix(ending))
            .unwrap_or(&name);
        if step_of(step).is_some() {
            found.push((name, path));
        }
    }
    found.sort();
    Ok(found)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Removes a finished checkpoint; it loses its name first, so that a kill in between leaves no
/// damaged checkpoint.
fn discard(path: &Path) -> Result<(), Error> {
    if !path.exists() {
        return Ok(());
    }
    let mut removed = path.as_os_str().to_owned();
    removed.push(REMOVED);
    let removed = PathBuf::from(removed);
    remove(&removed)?;
    fs::rename(path, &removed).map_err(Error::io("rename", path))?;
    remove(&removed)
}

fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(crate::hex::hex(&hasher.finalize()))
}

/// Waits until a file or folder is on the disk, where the system can open folders.
fn sync(path: &Path) -> Result<(), Error> {
    if path.is_dir() && !cfg!(unix) {
        return Ok(());
    }
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(Error::io("flush", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_and_parse() {
        assert_eq!(folder_name(42), "step-000042");
        assert_eq!(step_of("step-000042"), Some(42));
        assert_eq!(step_of("step-1234567"), Some(1_234_567));
        for foreign in [
            "step-42",
            "step-00004x",
            "step-000042.tmp",
            "steps",
            "step-",
        ] {
            assert_eq!(step_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn pruning_keeps_the_newest_and_what_it_does_not_know() {
        let dir = tempfile::tempdir().expect("temporary folder");
        for name in [
            "step-000001",
            "step-000002",
            "step-000003",
            "step-000009",
            "notes",
        ] {
            fs::create_dir(dir.path().join(name)).expect("creates");
        }
        for leftover in ["step-000004.tmp", "step-000002.removed"] {
            fs::create_dir(dir.path().join(leftover)).expect("creates");
        }
        prune(dir.path(), 3, 2, None).expect("prunes");
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .expect("lists")
            .map(|entry| file_name(&entry.expect("entry").path()))
            .collect();
        left.sort();
        assert_eq!(left, ["notes", "step-000002", "step-000003", "step-000009"]);

        prune(dir.path(), 9, 1, Some(2)).expect("prunes");
        assert!(dir.path().join("step-000002").exists(), "the best stays");
        assert!(!dir.path().join("step-000003").exists());
    }
}
