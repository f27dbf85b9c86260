//! Every number of a log under a name, for programs that have their own idea of a run.
//!
//! Promises: one list of names for all formats; a step or an evaluation is told whole, not thinned.

use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use super::event::{EvaluationLine, LogEvent, ScoreLine, StepLine};
use super::follow::{Follower, News};
use crate::Error;

/// The numbers of one event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scalars {
    /// `step` or `evaluation`.
    pub(super) event: &'static str,
    /// Steps done.
    pub(super) step: u64,
    /// Seconds that it took.
    pub(super) seconds: f64,
    /// Why no update was made.
    pub(super) skipped: Option<String>,
    /// Each number with its name, whose parts are parted by `/`.
    pub(super) values: Vec<(String, f64)>,
}

impl Scalars {
    /// The numbers of `event`, if it is one that tells some.
    pub(super) fn of(event: &LogEvent) -> Option<Self> {
        match event {
            LogEvent::Step(line) => Some(of_step(line)),
            LogEvent::Evaluation(line) => Some(of_evaluation(line)),
            _ => None,
        }
    }

    fn push(&mut self, name: String, value: Option<f64>) {
        let value = value.filter(|value| value.is_finite());
        self.values.extend(value.map(|value| (name, value)));
    }

    fn push_scores(&mut self, phase: &str, group: &str, scores: &[ScoreLine]) {
        for score in scores {
            let name = |what: &str| format!("{phase}/{group}/{}/{what}", score.name);
            self.push(name("loss"), score.loss);
            self.push(name("accuracy"), score.accuracy);
            self.push(name("frame_exact"), score.frame_exact);
        }
    }
}

fn of_step(line: &StepLine) -> Scalars {
    let mut scalars = Scalars {
        event: "step",
        step: line.step,
        seconds: line.seconds.unwrap_or_default(),
        skipped: line.skipped.clone(),
        values: Vec::new(),
    };
    let skipped = f64::from(u8::from(line.skipped.is_some()));
    let named = [
        ("train/loss", line.loss),
        ("train/accuracy", line.accuracy),
        ("optimizer/lr", line.lr),
        ("optimizer/muon_lr", line.muon_lr),
        ("optimizer/grad_norm", line.grad_norm),
        ("optimizer/skipped", Some(skipped)),
        ("data/epoch", line.epoch),
        ("data/tokens", Some(line.tokens as f64)),
        ("speed/tok_per_s", line.tok_per_s),
        ("speed/step_seconds", line.seconds),
        ("memory/rss_mb", line.rss_mb),
    ];
    for (name, value) in named {
        scalars.push(name.to_owned(), value);
    }
    scalars.push_scores("train", "source", &line.sources);
    scalars.push_scores("train", "kind", &line.kinds);
    scalars
}

fn of_evaluation(line: &EvaluationLine) -> Scalars {
    let mut scalars = Scalars {
        event: "evaluation",
        step: line.step,
        seconds: line.seconds.unwrap_or_default(),
        skipped: None,
        values: Vec::new(),
    };
    let named = [
        ("held_out/loss", line.loss),
        ("held_out/accuracy", line.accuracy),
        ("held_out/frame_exact", line.exact()),
        ("speed/evaluation_seconds", line.seconds),
    ];
    for (name, value) in named {
        scalars.push(name.to_owned(), value);
    }
    scalars.push_scores("held_out", "source", &line.sources);
    scalars.push_scores("held_out", "kind", &line.kinds);
    scalars
}

/// Calls `each` for the steps and evaluations of a run that count, and says when its log was last
/// written to.
pub(super) fn for_each_scalars(
    run: &Path,
    each: &mut dyn FnMut(Scalars),
) -> Result<SystemTime, Error> {
    let mut follower = Follower::new(run);
    let found = follower.poll(&mut |news| {
        if let News::Event(event) = news
            && let Some(scalars) = Scalars::of(&event)
        {
            each(scalars);
        }
    })?;
    match found {
        true => Ok(follower.modified().unwrap_or(SystemTime::UNIX_EPOCH)),
        false => Err(Error::NoLog {
            run: run.to_path_buf(),
        }),
    }
}

/// Writes runs as one table of comma-separated values: a row for each step and each evaluation, a
/// column for each name that occurs. `runs` are names and folders.
///
/// # Errors
/// When a run cannot be read or the table cannot be written.
pub fn write_csv(runs: &[(String, &Path)], out: &mut dyn Write) -> Result<(), Error> {
    let mut columns: Vec<String> = Vec::new();
    for (_, run) in runs {
        for_each_scalars(run, &mut |scalars| {
            for (name, _) in scalars.values {
                if !columns.contains(&name) {
                    columns.push(name);
                }
            }
        })?;
    }
    let fixed = ["run", "event", "step", "skipped"].map(str::to_owned);
    let mut written = write_row(out, fixed.iter().chain(&columns));
    for (run, path) in runs {
        for_each_scalars(path, &mut |scalars| {
            if written.is_ok() {
                written = write_row(out, row(run, &scalars, &columns).iter());
            }
        })?;
    }
    let done = written.and_then(|()| out.flush());
    done.map_err(Error::io("write", Path::new("the table")))
}

fn row(run: &str, scalars: &Scalars, columns: &[String]) -> Vec<String> {
    let fixed = [
        run.to_owned(),
        scalars.event.to_owned(),
        scalars.step.to_string(),
        scalars.skipped.clone().unwrap_or_default(),
    ];
    let values = columns.iter().map(|column| {
        let value = scalars.values.iter().find(|(name, _)| name == column);
        value.map_or_else(String::new, |(_, value)| value.to_string())
    });
    fixed.into_iter().chain(values).collect()
}

fn write_row<'a>(
    out: &mut dyn Write,
    cells: impl Iterator<Item = &'a String>,
) -> std::io::Result<()> {
    let cells: Vec<String> = cells.map(|cell| quoted(cell)).collect();
    writeln!(out, "{}", cells.join(","))
}

/// A cell by the rules of RFC 4180.
fn quoted(cell: &str) -> String {
    match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LOG_FILE;

    #[test]
    fn a_table_has_every_step_and_every_name() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let log = r#"{"event":"start","steps":2}
{"event":"step","step":1,"loss":2.5,"tokens":10,"sources":[{"name":"a,b","loss":1}]}
{"event":"step","step":2,"loss":9,"tokens":10}
{"event":"resume","step":1}
{"event":"step","step":2,"loss":null,"tokens":12,"skipped":"spike"}
{"event":"evaluation","step":2,"loss":0.1,"frames":4,"frame_exact":0.5}
"#;
        std::fs::write(dir.path().join(LOG_FILE), log).expect("writes");
        let mut out = Vec::new();
        write_csv(&[("my \"run\"".into(), dir.path())], &mut out).expect("a table");
        let expected = "\
run,event,step,skipped,train/loss,optimizer/skipped,data/tokens,\"train/source/a,b/loss\",held_out/loss,held_out/frame_exact
\"my \"\"run\"\"\",step,1,,2.5,0,10,1,,
\"my \"\"run\"\"\",step,2,spike,,1,12,,,
\"my \"\"run\"\"\",evaluation,2,,,,,,0.1,0.5
";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn a_run_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let error = write_csv(&[("r".into(), dir.path())], &mut Vec::new()).expect_err("no run");
        assert!(error.to_string().contains("no run in"), "{error}");
    }
}
