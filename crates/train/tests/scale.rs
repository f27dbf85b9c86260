//! A ladder from plan to results, in one go and with interruptions.

use std::fs;
use std::path::Path;

use cwm_train::StepReport;
use cwm_train::scale::{
    Climb, Climbed, Effort, Ladder, RUNS_FOLDER, Run, State, TABLE_FILE, climb, read_table,
    write_plan, write_table,
};

const LADDER: &str = r#"
data = "arithmetic"
row_tokens = 32
compute = [6e7]

[optimizer]
kind = "muon"

[schedule]
warmup = 0.1
decay = 0.2

[search]
kind = "grid"
lr = [0.01, 0.03]
batch_tokens = [64]

[[size]]
name = "a"
hidden_size = 8
n_layers = 1
n_heads = 2
n_kv_heads = 1
head_dim = 4
intermediate_size = 16

[[size]]
name = "b"
hidden_size = 12
n_layers = 1
n_heads = 2
n_kv_heads = 1
head_dim = 4
intermediate_size = 16
"#;

fn plan(dir: &Path) -> Vec<Run> {
    let path = dir.join("LADDER.toml");
    fs::write(&path, LADDER).expect("writes");
    let ladder = Ladder::load(&path).expect("a ladder");
    write_plan(&ladder, dir).expect("plans").runs
}

fn effort(max_runs: Option<usize>) -> Effort {
    Effort {
        threads: 2,
        max_runs,
    }
}

/// The table, times left out.
fn results(dir: &Path) -> Vec<Run> {
    let mut runs = read_table(&dir.join(TABLE_FILE)).expect("a table");
    runs.iter_mut().for_each(|run| run.seconds = None);
    runs
}

/// Asks to stop after so many steps, and notes what it hears.
struct Stop {
    after: usize,
    steps: usize,
    starts: Vec<(String, u64)>,
}

impl Stop {
    fn after(after: usize) -> Self {
        Self {
            after,
            steps: 0,
            starts: Vec::new(),
        }
    }
}

impl Climb for Stop {
    fn start(&mut self, run: &Run, done: u64) {
        self.starts.push((run.id.clone(), done));
    }

    fn step(&mut self, _: &Run, _: &StepReport) {
        self.steps += 1;
    }

    fn should_stop(&mut self) -> bool {
        self.steps == self.after
    }
}

#[test]
fn interruptions_change_no_result() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let planned = plan(whole.path());
    assert_eq!(planned, plan(parts.path()));
    assert_eq!(planned.len(), 4);

    let climbed = climb(whole.path(), effort(None), &mut ()).expect("runs");
    let all = Climbed {
        done: 4,
        ..Climbed::default()
    };
    assert_eq!(climbed, all);
    let expected = results(whole.path());
    assert!(expected.iter().all(|run| run.loss.is_some()));
    assert!(expected[0].loss != expected[1].loss);

    let climbed = climb(parts.path(), effort(Some(1)), &mut ()).expect("runs");
    assert_eq!((climbed.done, climbed.left, climbed.stopped), (1, 3, false));
    let mut stop = Stop::after(7);
    let climbed = climb(parts.path(), effort(None), &mut stop).expect("stops");
    assert_eq!((climbed.done, climbed.left, climbed.stopped), (0, 3, true));
    let mut rest = Stop::after(0);
    let climbed = climb(parts.path(), effort(None), &mut rest).expect("goes on");
    assert_eq!((climbed.done, climbed.left), (3, 0));
    assert_eq!(rest.starts[0], (stop.starts[0].0.clone(), 7));
    assert_eq!(results(parts.path()), expected);

    for run in &expected {
        let folder = parts.path().join(RUNS_FOLDER).join(&run.id);
        let entries = fs::read_dir(&folder).expect("a folder");
        let folders = entries.filter(|entry| entry.as_ref().expect("entry").path().is_dir());
        assert_eq!(folders.count(), 0, "checkpoints of {}", run.id);
        assert!(folder.join("train.jsonl").is_file());
    }
    let again = climb(parts.path(), effort(None), &mut ()).expect("nothing to do");
    assert_eq!(again, Climbed::default());
}

#[test]
fn a_run_that_diverges_is_a_result() {
    let dir = tempfile::tempdir().unwrap();
    let mut runs = plan(dir.path());
    runs.truncate(2);
    runs[0].lr = 1e30;
    write_table(&dir.path().join(TABLE_FILE), &runs).expect("writes");
    let climbed = climb(dir.path(), effort(None), &mut ()).expect("goes on");
    assert_eq!((climbed.done, climbed.diverged, climbed.left), (1, 1, 0));
    let states: Vec<State> = results(dir.path()).iter().map(|run| run.state).collect();
    assert_eq!(states, [State::Diverged, State::Done]);
}

#[test]
fn a_size_that_the_ladder_lacks_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut runs = plan(dir.path());
    runs[0].size = "other".into();
    write_table(&dir.path().join(TABLE_FILE), &runs).expect("writes");
    let error = climb(dir.path(), effort(None), &mut ()).expect_err("unknown size");
    assert!(
        error.to_string().contains("plan the ladder again"),
        "{error}"
    );
}
