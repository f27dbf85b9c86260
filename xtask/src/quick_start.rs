//! The first command of the README, on the file it names, fed through a pipe.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo;

const FILE: &str = "examples/find_the_bug.py";

/// What is typed: two steps, a look at the variables, and the comparison with a
/// real run. Whether that comparison agrees is the model's affair, not CI's.
const COMMANDS: &str = "step\nstep\nprint\nverify\nquit\n";

pub(crate) fn name() -> String {
    format!("cargo run --release -- debug {FILE}")
}

pub(crate) fn run(root: &Path) -> Result<()> {
    let mut child = cargo(root, &["run", "--release", "--quiet", "--", "debug", FILE])
        // A newcomer has the shipped model only.
        .env_remove("CWM_MODEL")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    if let Some(mut input) = child.stdin.take() {
        // A debugger that died early closes the pipe; its exit status tells more.
        let _ = input.write_all(COMMANDS.as_bytes());
    }
    let output = child
        .wait_with_output()
        .context("cannot read what the debugger printed")?;
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    ensure!(
        output.status.success(),
        "the debugger ended with {}",
        output.status
    );
    check(&said)
}

/// Whether the dialogue is one that a newcomer should see.
fn check(said: &str) -> Result<()> {
    if let Some(error) = said.lines().find(|line| line.starts_with("error:")) {
        bail!("the debugger answered `{error}`");
    }
    for frame in ["  frame 1  p ", "  frame 2  p "] {
        ensure!(
            said.contains(frame),
            "no predicted frame was printed (`{}`)",
            frame.trim()
        );
    }
    let verified = format!("executed {FILE} for real");
    ensure!(said.contains(&verified), "`verify` did not run the program");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
predicting examples/find_the_bug.py: nothing is executed unless you type `verify`
call of <module>, line 1  (depth 0)  frame 0  p 1.00
(cwm) step
line 5 in <module>  (depth 0)  frame 1  p 0.99
(cwm) step
line 13 in <module>  (depth 0)  frame 2  p 0.99
(cwm) verify
executed examples/find_the_bug.py for real: 15 frames observed
differs first at frame 3, line 5 in count_letters: variable `text`
";

    #[test]
    fn a_dialogue_passes_whether_or_not_the_prediction_was_right() {
        check(GOOD).unwrap();
    }

    #[test]
    fn what_is_missing_is_named() {
        let message = |said: &str| check(said).unwrap_err().to_string();
        assert!(message("").contains("frame 1"));
        assert!(message(&GOOD.replace("frame 2", "frame")).contains("frame 2"));
        assert!(message(&GOOD.replace("executed", "thought of")).contains("verify"));
        assert!(message(&format!("{GOOD}error: no model")).contains("no model"));
    }
}
