//! Checkpoints of a training run in a store, put there in the background while the run goes on.
//!
//! Promises: a network that fails costs a warning and never the run; of checkpoints that come faster
//! than they can be sent some are left out, but never the last; what is being sent stays as it is
//! though the run removes its old checkpoints meanwhile.

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cwm_store::{Error, Progress, Store, Version};
use cwm_tokenizer::nano::Vocabulary;
use cwm_train::{TOKENIZER_FILE, newest_checkpoint};
use indicatif::ProgressBar;

use crate::progress;

/// What waits to be sent, inside the folder of the run.
const UPLOAD: &str = ".upload";
/// What is being fetched, inside the folder of the run.
const FETCH: &str = ".fetch";

/// What says which vocabulary a run has: the first for that of the small model, the second for all.
const VOCABULARIES: [&str; 2] = [Vocabulary::FILE, TOKENIZER_FILE];

#[derive(clap::Args)]
pub(crate) struct StoreArgs {
    /// Keep checkpoints in a store too (DIR, file:///DIR or s3://BUCKET/PREFIX); with --resume, go on
    /// from there if that is further than --out
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Checkpoints kept in --store
    #[arg(long, value_name = "N", default_value = "2", requires = "store")]
    store_keep: NonZeroUsize,
}

/// A store that fits the run.
pub(crate) struct Remote {
    store: Store,
    keep: NonZeroUsize,
    /// Checkpoints in it that were found damaged: they stay until the run comes to these steps again.
    damaged: Vec<String>,
}

impl StoreArgs {
    /// Opens the store for a new run, which must find it empty.
    pub(crate) fn open(&self, run: &Path) -> Result<Option<Remote>> {
        let Some((remote, versions)) = self.checked(run)? else {
            return Ok(None);
        };
        if let Some(version) = versions.last() {
            bail!(
                "the store `{}` already has checkpoints of a run, up to `{}`; go on with it by \
                 --resume, or choose another store",
                remote.store.url(),
                version.name
            );
        }
        Ok(Some(remote))
    }

    /// Opens the store for a run that goes on, and fetches its newest whole checkpoint if the run
    /// has none that is as far.
    pub(crate) fn open_and_fetch(&self, run: &Path) -> Result<Option<Remote>> {
        let Some((mut remote, versions)) = self.checked(run)? else {
            return Ok(None);
        };
        let local = newest_checkpoint(run).ok();
        let local = local.and_then(|(path, _)| step_of(&name_of(&path)));
        for version in versions.iter().rev() {
            if local.is_some_and(|local| step_of(&version.name) <= Some(local)) {
                break;
            }
            match fetch_into(&remote.store, version, run) {
                Ok(()) => {
                    let url = remote.store.url();
                    eprintln!("fetched `{}` from `{url}`", version.name);
                    break;
                }
                Err(error) if is_damage(&error) => {
                    eprintln!("note: passed over `{}`: {error:#}", version.name);
                    remote.damaged.push(version.name.clone());
                }
                Err(error) => {
                    return Err(error.context(format!(
                        "cannot fetch `{}`; without --store the run goes on from what is in `{}`",
                        version.name,
                        run.display()
                    )));
                }
            }
        }
        Ok(Some(remote))
    }

    /// The store, and its versions, all of which are checkpoints.
    fn checked(&self, run: &Path) -> Result<Option<(Remote, Vec<Version>)>> {
        let Some(url) = &self.store else {
            return Ok(None);
        };
        let store = Store::create(url)?;
        let same = |folder: &Path| run.canonicalize().is_ok_and(|run| run == folder);
        ensure!(
            !store.local_folder().is_some_and(same),
            "--store is the folder of --out; choose another one"
        );
        let listing = store
            .listing()
            .with_context(|| format!("cannot use the store `{url}`"))?;
        for (name, reason) in &listing.damaged {
            eprintln!("note: `{name}` in the store is damaged: {reason}");
        }
        let foreign = listing.versions.iter().find(|v| step_of(&v.name).is_none());
        if let Some(version) = foreign {
            bail!(
                "the store `{url}` has `{}`, which is no checkpoint; choose another store",
                version.name
            );
        }
        let remote = Remote {
            store,
            keep: self.store_keep,
            damaged: listing.damaged.into_iter().map(|(name, _)| name).collect(),
        };
        Ok(Some((remote, listing.versions)))
    }
}

fn is_damage(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::Damaged { .. }))
}

/// Puts a version into the folder of a run, as if the run had written it. It gets its name last; a
/// damaged checkpoint of this name gives way.
fn fetch_into(store: &Store, version: &Version, run: &Path) -> Result<()> {
    let work = run.join(FETCH);
    remove(&work)?;
    let fetched = work.join(&version.name);
    fs::create_dir_all(&work).with_context(|| format!("cannot create `{}`", work.display()))?;
    let bar = progress::bytes("fetch");
    let done = store.fetch(version, &fetched, &mut |p| show(&bar, p));
    bar.finish_and_clear();
    done?;
    let moved = || {
        for name in VOCABULARIES {
            let (from, to) = (fetched.join(name), run.join(name));
            if from.exists() && !to.exists() {
                fs::copy(from, to)?;
            }
        }
        let whole = run.join(&version.name);
        if whole.exists() {
            fs::rename(&whole, work.join("damaged"))?;
        }
        fs::rename(&fetched, whole)
    };
    moved().with_context(|| format!("cannot put `{}` into `{}`", version.name, run.display()))?;
    remove(&work)
}

/// Sends checkpoints in the background.
pub(crate) struct Mirror {
    run: PathBuf,
    url: String,
    sender: Sender<PathBuf>,
    worker: JoinHandle<Result<()>>,
    /// How far the transfer in hand is.
    progress: Arc<Mutex<Progress>>,
    /// The checkpoint that was handed over last.
    last: Option<PathBuf>,
    bar: ProgressBar,
}

impl Mirror {
    /// Begins to wait for checkpoints of the run in a folder, which must be locked. Warnings go
    /// around `bar`.
    pub(crate) fn start(remote: Remote, run: &Path, bar: &ProgressBar) -> Result<Self> {
        remove(&run.join(UPLOAD))?;
        let (sender, receiver) = mpsc::channel();
        let progress = Arc::new(Mutex::new(Progress { done: 0, total: 0 }));
        let url = remote.store.url().to_owned();
        let worker = {
            let (progress, bar) = (progress.clone(), bar.clone());
            thread::spawn(move || send_newest(remote, &receiver, &progress, &bar))
        };
        Ok(Self {
            run: run.to_path_buf(),
            url,
            sender,
            worker,
            progress,
            last: None,
            bar: bar.clone(),
        })
    }

    /// Hands over a checkpoint that is whole, and returns at once.
    pub(crate) fn checkpoint(&mut self, path: &Path) {
        match stage(&self.run, path) {
            // Where nobody listens any more, `finish` says why.
            Ok(staged) => drop(self.sender.send(staged)),
            Err(error) => warn(&self.bar, &name_of(path), &error),
        }
        self.last = Some(path.to_path_buf());
    }

    /// Waits until `last`, the last checkpoint of the run, is in the store, with a progress bar.
    pub(crate) fn finish(mut self, last: Option<&Path>) -> Result<()> {
        if let Some(path) = last.filter(|path| self.last.as_deref() != Some(*path)) {
            self.checkpoint(path);
        }
        let name = self.last.as_deref().map(name_of);
        drop(self.sender);
        let bar = progress::bytes("store");
        while !self.worker.is_finished() {
            if let Ok(progress) = self.progress.lock() {
                show(&bar, *progress);
            }
            thread::sleep(Duration::from_millis(20));
        }
        bar.finish_and_clear();
        let sent = match self.worker.join() {
            Ok(sent) => sent,
            Err(_) => bail!("the thread that sends checkpoints has panicked"),
        };
        let _ = fs::remove_dir(self.run.join(UPLOAD));
        let Some(name) = name else {
            return Ok(());
        };
        let url = self.url;
        sent.with_context(|| {
            format!(
                "the last checkpoint, `{name}`, is not in the store `{url}`; the same command with \
                 --resume tries again"
            )
        })?;
        eprintln!("stored `{name}` in `{url}`");
        Ok(())
    }
}

/// Sends what is newest until nothing more can come; the answer is that of the last one.
fn send_newest(
    mut remote: Remote,
    receiver: &Receiver<PathBuf>,
    progress: &Mutex<Progress>,
    bar: &ProgressBar,
) -> Result<()> {
    let mut last = Ok(());
    while let Ok(staged) = receiver.recv() {
        let staged = receiver.try_iter().fold(staged, |older, newer| {
            discard(&older);
            newer
        });
        let name = name_of(&staged);
        last = send(&mut remote, &name, &staged, progress);
        if let Err(error) = &last {
            warn(bar, &name, error);
        } else if let Err(error) = remote.store.prune(remote.keep) {
            bar.suspend(|| eprintln!("warning: old checkpoints stay in the store: {error}"));
        }
        discard(&staged);
    }
    last
}

fn send(remote: &mut Remote, name: &str, staged: &Path, progress: &Mutex<Progress>) -> Result<()> {
    if let Some(at) = remote.damaged.iter().position(|damaged| damaged == name) {
        remote.store.remove(name)?;
        remote.damaged.swap_remove(at);
    }
    let mut tell = |now| {
        if let Ok(mut progress) = progress.lock() {
            *progress = now;
        }
    };
    remote.store.put_folder(name, staged, &mut tell)?;
    Ok(())
}

fn warn(bar: &ProgressBar, name: &str, error: &anyhow::Error) {
    bar.suspend(|| eprintln!("warning: `{name}` was not stored: {error:#}"));
}

/// A folder with the files of a checkpoint and the run's vocabulary, without which it is no model. The
/// files are links, so it costs nothing and keeps them when the run removes the checkpoint.
fn stage(run: &Path, checkpoint: &Path) -> Result<PathBuf> {
    let staged = run.join(UPLOAD).join(name_of(checkpoint));
    let fill = || -> io::Result<()> {
        fs::create_dir_all(&staged)?;
        for entry in fs::read_dir(checkpoint)? {
            let entry = entry?;
            link(&entry.path(), &staged.join(entry.file_name()))?;
        }
        for name in VOCABULARIES {
            let (from, to) = (run.join(name), staged.join(name));
            if from.exists() && !to.exists() {
                link(&from, &to)?;
            }
        }
        Ok(())
    };
    remove(&staged)?;
    fill().with_context(|| format!("cannot write into `{}`", staged.display()))?;
    Ok(staged)
}

/// Another name for a file, or a copy where the disk knows no such names.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ()))
}

/// Removes what was staged. What cannot be removed goes when the next run starts.
fn discard(staged: &Path) {
    let _ = fs::remove_dir_all(staged);
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", folder.display()))
        }
        _ => Ok(()),
    }
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_length(progress.total);
    bar.set_position(progress.done);
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The step of a checkpoint's name.
fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix("step-")?.parse().ok()
}
