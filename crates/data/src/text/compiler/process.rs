//! Runs a compiler on a text, within limits on time, memory and output.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// What one translation may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Seconds, by the clock and of processor time.
    pub seconds: u32,
    /// Address space in MiB.
    pub memory: u32,
    /// Bytes of the source.
    pub source_bytes: usize,
    /// Bytes of the translation.
    pub output_bytes: usize,
}

impl Default for Limits {
    /// What a document of some 30,000 tokens needs.
    fn default() -> Self {
        Self {
            seconds: 20,
            memory: 4096,
            source_bytes: 32 << 10,
            output_bytes: 64 << 10,
        }
    }
}

/// Why there is no output.
#[derive(Debug)]
pub(super) enum Failure {
    /// The program is not there.
    Start,
    /// It says no.
    Refused,
    TimedOut,
    TooLarge,
}

/// The shell sets the limits, which hold for whatever the compiler starts as well. Where a system
/// knows one of them not, the clock is still there.
const SCRIPT: &str =
    "ulimit -t \"$1\" 2>/dev/null; ulimit -v \"$2\" 2>/dev/null; ulimit -c 0; shift 2; exec \"$@\"";

/// Variables that a compiler may see. Others could get into what it makes.
const PASSED: [&str; 6] = [
    "PATH",
    "HOME",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "TMPDIR",
];

/// What `program` writes to standard output when it reads `input`.
pub(super) fn run(
    program: &str,
    arguments: &[String],
    input: &str,
    limits: &Limits,
) -> Result<Vec<u8>, Failure> {
    let mut child = Command::new("sh")
        .args(["-c", SCRIPT, "sh"])
        .arg(limits.seconds.to_string())
        .arg((u64::from(limits.memory) * 1024).to_string())
        .arg(program)
        .args(arguments)
        .env_clear()
        .envs(
            PASSED
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        )
        // Dates that a source asks for are those of this moment.
        .env("SOURCE_DATE_EPOCH", "0")
        .env("LC_ALL", "C")
        // A folder with settings of a project would be heeded.
        .current_dir(std::env::temp_dir())
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|_| Failure::Start)?;
    let group = child.id();
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let input = input.to_owned();
    // A compiler that stops reading early has its reasons, and says them by its status.
    let writer = std::thread::spawn(move || stdin.map(|mut pipe| pipe.write_all(input.as_bytes())));
    let (sender, receiver) = mpsc::channel();
    let most = limits.output_bytes as u64 + 1;
    std::thread::spawn(move || sender.send(read(stdout, most)));
    let time = Duration::from_secs(u64::from(limits.seconds));
    let output = match receiver.recv_timeout(time) {
        Ok(Ok(output)) if output.len() as u64 == most => Err(Failure::TooLarge),
        Ok(Ok(output)) => Ok(output),
        Ok(Err(_)) => Err(Failure::Refused),
        Err(_) => Err(Failure::TimedOut),
    };
    if output.is_err() {
        kill(group);
    }
    let status = child.wait();
    // The pipe is closed on the other side by now.
    let _ = writer.join();
    let output = output?;
    match status {
        Ok(status) if status.success() => Ok(output),
        Ok(status) if status.code() == Some(127) => Err(Failure::Start),
        _ => Err(Failure::Refused),
    }
}

fn read(pipe: Option<impl Read>, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Ends the compiler and what it started. What has ended already is not there to be killed.
fn kill(group: u32) {
    let _ = Command::new("kill")
        .args(["-KILL", "--", &format!("-{group}")])
        .stderr(Stdio::null())
        .status();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(script: &str, limits: Limits) -> Result<Vec<u8>, Failure> {
        run("sh", &["-c".into(), script.into()], "text", &limits)
    }

    #[test]
    fn output_and_failures_are_told_apart() {
        let limits = Limits::default();
        assert_eq!(ran("cat", limits).ok(), Some(b"text".to_vec()));
        assert!(matches!(ran("exit 1", limits), Err(Failure::Refused)));
        let missing = run("no-such-compiler", &[], "", &limits);
        assert!(matches!(missing, Err(Failure::Start)));
        let small = Limits {
            output_bytes: 3,
            ..limits
        };
        assert!(matches!(ran("cat", small), Err(Failure::TooLarge)));
        assert!(matches!(ran("yes", small), Err(Failure::TooLarge)));
        assert_eq!(ran("printf abc", small).ok(), Some(b"abc".to_vec()));
    }

    #[test]
    fn what_never_ends_is_stopped_with_all_that_it_started() {
        let limits = Limits {
            seconds: 1,
            ..Limits::default()
        };
        // The child of the shell holds the pipe open.
        assert!(matches!(
            ran("sleep 1000 & wait", limits),
            Err(Failure::TimedOut)
        ));
    }
}
