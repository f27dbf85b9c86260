//! Reads the history of a local repository through the `git` command.
//!
//! Only plumbing commands are used, which run nothing that a repository could configure (hooks,
//! filters, external diffs), and none that writes. Objects that a partial copy lacks are reported
//! missing and are not fetched.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {
    /// The command cannot be run or talked to.
    #[error("cannot run `git {command}` in `{}`: {source}", folder.display())]
    Io {
        /// What was asked of it.
        command: &'static str,
        /// The repository.
        folder: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It refuses.
    #[error("`git {command}` in `{}` says: {said}", folder.display())]
    Refused {
        /// What was asked of it.
        command: &'static str,
        /// The repository.
        folder: PathBuf,
        /// Its last line.
        said: String,
    },
    /// It answers in another form than it documents.
    #[error("`git {0}` gives an answer that cannot be read")]
    Answer(&'static str),
}

fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).stdin(Stdio::null());
    // A caller that is itself called by git must not send these commands elsewhere.
    for variable in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
    ] {
        command.env_remove(variable);
    }
    command
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C");
    command
}

/// What a command writes.
fn output(folder: &Path, command: &'static str, arguments: &[&str]) -> Result<Vec<u8>, GitError> {
    let failed = |source| GitError::Io {
        command,
        folder: folder.to_owned(),
        source,
    };
    let output = git(folder).arg(command).args(arguments).output();
    let output = output.map_err(failed)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(GitError::Refused {
        command,
        folder: folder.to_owned(),
        said: said.lines().last().unwrap_or("nothing").to_owned(),
    })
}

/// Which commits of a history count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// The main line: what was merged counts as one change, as pull requests do.
    MainLine,
    /// Every commit, those inside of merged branches too.
    All,
}

/// The hash of the commit that `tip` (a branch, a tag, a hash, `HEAD`) names now.
///
/// # Errors
/// When git cannot be run, or there is no such commit.
pub(crate) fn commit_of(folder: &Path, tip: &str) -> Result<String, GitError> {
    let commit = format!("{tip}^{{commit}}");
    let arguments = ["--verify", "--end-of-options", &commit];
    let answer = output(folder, "rev-parse", &arguments)?;
    let hash = String::from_utf8_lossy(&answer).trim().to_owned();
    match !hash.is_empty() && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(hash),
        false => Err(GitError::Answer("rev-parse")),
    }
}

/// The commits that `tip` (a branch, a tag, a hash, `HEAD`) leads back to, oldest first.
///
/// # Errors
/// When git cannot be run, or there is no such commit.
pub fn commits(folder: &Path, tip: &str, history: History) -> Result<Vec<String>, GitError> {
    let mut arguments = vec!["--reverse", "--topo-order"];
    if history == History::MainLine {
        arguments.push("--first-parent");
    }
    // What begins with a dash is no commit, and must not be taken for an option.
    arguments.extend(["--end-of-options", tip, "--"]);
    let listed = output(folder, "rev-list", &arguments)?;
    let listed = String::from_utf8(listed).map_err(|_| GitError::Answer("rev-list"))?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// A file that a commit touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) old: Option<Blob>,
    pub(super) new: Option<Blob>,
}

/// A file in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) path: Vec<u8>,
    pub(super) mode: String,
    pub(super) id: String,
}

/// What differs between two commits, renamed files recognised.
pub(super) fn touched(folder: &Path, old: &str, new: &str) -> Result<Vec<Touched>, GitError> {
    const TASK: &str = "diff-tree";
    let arguments = [
        "-r",
        "-z",
        "--raw",
        "-M50%",
        "-l1000",
        "--no-abbrev",
        old,
        new,
        "--",
    ];
    let raw = output(folder, TASK, &arguments)?;
    let mut fields = raw.split(|&byte| byte == 0);
    let mut all = Vec::new();
    while let Some(head) = fields.next().filter(|head| !head.is_empty()) {
        let wrong = GitError::Answer(TASK);
        let head = std::str::from_utf8(head).map_err(|_| GitError::Answer(TASK))?;
        let [old_mode, new_mode, old_id, new_id, status] = head.split(' ').collect::<Vec<_>>()[..]
        else {
            return Err(wrong);
        };
        let first = fields.next().ok_or(GitError::Answer(TASK))?.to_vec();
        let second = if status.starts_with(['R', 'C']) {
            fields.next().ok_or(wrong)?.to_vec()
        } else {
            first.clone()
        };
        let blob = |path: Vec<u8>, mode: &str, id: &str| Blob {
            path,
            mode: mode.trim_start_matches(':').to_owned(),
            id: id.to_owned(),
        };
        let (is_new, is_gone) = (status == "A", status == "D");
        all.push(Touched {
            old: (!is_new).then(|| blob(first, old_mode, old_id)),
            new: (!is_gone).then(|| blob(second, new_mode, new_id)),
        });
    }
    Ok(all)
}

/// An open `git cat-file`, which hands out objects.
#[derive(Debug)]
pub struct Objects {
    folder: PathBuf,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

const TASK: &str = "cat-file";

impl Objects {
    /// Starts it on a repository.
    ///
    /// # Errors
    /// When git cannot be run.
    pub fn open(folder: &Path) -> Result<Self, GitError> {
        let failed = |source| GitError::Io {
            command: TASK,
            folder: folder.to_owned(),
            source,
        };
        let mut child = git(folder)
            .args([TASK, "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or(GitError::Answer(TASK))?;
        Ok(Self {
            folder: folder.to_owned(),
            child,
            input,
            output: BufReader::new(output),
        })
    }

    /// The repository.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// An object of at most `most` bytes. Larger ones are not kept in memory.
    pub(super) fn read(&mut self, id: &str, most: usize) -> Result<Object, GitError> {
        let folder = self.folder.clone();
        let failed = move |source| GitError::Io {
            command: TASK,
            folder: folder.clone(),
            source,
        };
        let input = self.input.as_mut().ok_or(GitError::Answer(TASK))?;
        let asked = writeln!(input, "{id}").and_then(|()| input.flush());
        asked.map_err(&failed)?;
        let mut head = String::new();
        self.output.read_line(&mut head).map_err(&failed)?;
        if head.trim_end().ends_with(" missing") {
            return Ok(Object::Missing);
        }
        let size = head.trim_end().rsplit(' ').next();
        let size = size.and_then(|size| size.parse::<usize>().ok());
        let size = size.ok_or(GitError::Answer(TASK))?;
        // A line end follows.
        let mut answer = (&mut self.output).take(size as u64 + 1);
        if size > most {
            io::copy(&mut answer, &mut io::sink()).map_err(&failed)?;
            return Ok(Object::TooLarge);
        }
        let mut bytes = Vec::with_capacity(size + 1);
        answer.read_to_end(&mut bytes).map_err(&failed)?;
        if bytes.pop() != Some(b'\n') || bytes.len() != size {
            return Err(GitError::Answer(TASK));
        }
        Ok(Object::Bytes(bytes))
    }
}

/// What there is of an object.
pub(super) enum Object {
    Bytes(Vec<u8>),
    TooLarge,
    /// This copy lacks it.
    Missing,
}

impl Drop for Objects {
    fn drop(&mut self) {
        // Without input it ends by itself; waiting leaves no zombie behind.
        self.input = None;
        let _ = self.child.wait();
    }
}

/// Parents and message of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) parents: Vec<String>,
    pub(super) message: String,
}

/// Reads the object of a commit; `None` if its message is not UTF-8.
pub(super) fn parse_commit(bytes: Vec<u8>) -> Option<Commit> {
    let text = String::from_utf8(bytes).ok()?;
    let (head, message) = text.split_once("\n\n").unwrap_or((&text, ""));
    let parents = head.lines().filter_map(|line| line.strip_prefix("parent "));
    Some(Commit {
        parents: parents.map(str::to_owned).collect(),
        message: message.to_owned(),
    })
}
