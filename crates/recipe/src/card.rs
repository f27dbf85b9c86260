//! A model's card out of facts: its shape, its data, its training and what was measured, as Markdown.
//!
//! Promises: every number comes from a file that a command wrote; what is not given has no section; nothing is judged.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

/// What is known of a model.
#[derive(Clone, Debug, Default)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Number of parameters.
    pub parameters: usize,
    /// Its `config.json`.
    pub config: Value,
    /// What it was trained on.
    pub data: Vec<Data>,
    /// Reports of decontamination: those of `cwm data decontaminate`, by the name of their data.
    pub decontamination: Vec<(String, Value)>,
    /// Its runs of training, in order.
    pub training: Vec<Training>,
    /// What `cwm eval suite --json` printed.
    pub suite: Option<Value>,
    /// Sentences that a reader has to know first, such as that it was a rehearsal.
    pub notes: Vec<String>,
}

/// A source of data.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// Its name.
    pub name: String,
    /// Where its programs come from, with how many.
    pub origins: BTreeMap<String, usize>,
    /// Licences of the programs' texts (SPDX), with how many.
    pub licences: BTreeMap<String, usize>,
    /// Benchmarks that its programs were compared with, if it says so: items of each file.
    pub benchmarks: BTreeMap<String, u64>,
    /// Candidates that a benchmark has, which were left out.
    pub in_benchmarks: u64,
}

impl Data {
    /// Counts a program.
    pub fn add(&mut self, origin: String, licence: &str) {
        *self.origins.entry(origin).or_default() += 1;
        *self.licences.entry(licence.to_owned()).or_default() += 1;
    }

    fn programs(&self) -> usize {
        self.origins.values().sum()
    }
}

/// A run of training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Training {
    /// Steps done, and those planned.
    pub steps: [u64; 2],
    /// Tokens of all steps.
    pub tokens: u64,
    /// Time of all steps.
    pub seconds: f64,
    /// Settings, as the log has them.
    pub config: Value,
    /// Learned tokens of each source.
    pub targets: BTreeMap<String, u64>,
    /// Mean loss in nats of the last steps, at most 100.
    pub loss: Option<f64>,
}

/// Steps at the end of a run whose losses are averaged.
const LAST: usize = 100;

/// Names in a cell of a table at most.
const MOST_NAMED: usize = 8;

impl Training {
    /// Sums up the events of a log that count (`train.jsonl`).
    pub fn of(events: &[Value]) -> Self {
        let mut run = Self::default();
        let mut losses = Vec::new();
        for event in events {
            match event["event"].as_str() {
                Some("start" | "resume") => {
                    run.config = event["config"].clone();
                    run.steps[1] = event["steps"].as_u64().unwrap_or_default();
                }
                Some("step") => {
                    run.steps[0] = event["step"].as_u64().unwrap_or(run.steps[0]);
                    run.tokens += event["tokens"].as_u64().unwrap_or_default();
                    run.seconds += event["seconds"].as_f64().unwrap_or_default();
                    losses.extend(event["loss"].as_f64());
                    for source in event["sources"].as_array().into_iter().flatten() {
                        let name = source["name"].as_str().unwrap_or_default();
                        *run.targets.entry(name.to_owned()).or_default() +=
                            source["targets"].as_u64().unwrap_or_default();
                    }
                }
                _ => {}
            }
        }
        let last = &losses[losses.len().saturating_sub(LAST)..];
        run.loss = (!last.is_empty()).then(|| last.iter().sum::<f64>() / last.len() as f64);
        run
    }
}

impl Card {
    /// The card as Markdown.
    pub fn to_markdown(&self) -> String {
        let mut out = format!("# Model card: {}\n", self.name);
        if !self.notes.is_empty() {
            out += "\n";
            self.notes
                .iter()
                .for_each(|note| out += &format!("- **Note**: {}\n", plain(note)));
        }
        self.shape(&mut out);
        self.data(&mut out);
        self.decontamination(&mut out);
        self.training(&mut out);
        if let Some(suite) = &self.suite {
            scores(suite, &mut out);
        }
        out
    }

    fn shape(&self, out: &mut String) {
        *out += "\n## Shape\n\n| | |\n|---|---|\n";
        row(
            out,
            &["parameters".to_owned(), grouped(self.parameters as u64)],
        );
        let keys = [
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "intermediate_size",
            "vocab_size",
            "max_position_embeddings",
            "sliding_window",
            "n_previous_embeddings",
            "dtype",
        ];
        for key in keys {
            if let Some(value) = self.config.get(key).filter(|value| !value.is_null()) {
                row(out, &[format!("`{key}`"), shown(value)]);
            }
        }
        let types = self.config["layer_types"].as_array();
        let full = types.into_iter().flatten().enumerate();
        let full: Vec<String> = full
            .filter(|(_, kind)| *kind == "full_attention")
            .map(|(place, _)| (place + 1).to_string())
            .collect();
        if !full.is_empty() {
            row(
                out,
                &["layers that see everything".to_owned(), full.join(", ")],
            );
        }
        if let Some(places) = self.config["run_embedding"]["n_places"].as_u64() {
            row(
                out,
                &["places in a number or text".to_owned(), places.to_string()],
            );
        }
    }

    fn data(&self, out: &mut String) {
        if self.data.is_empty() {
            return;
        }
        *out += "\n## Data\n\n| source | programs | learned tokens | from | licences |\n|---|---|---|---|---|\n";
        for data in &self.data {
            let learned: Option<u64> = (self.training.iter())
                .filter_map(|run| run.targets.get(&data.name))
                .copied()
                .reduce(|a, b| a + b);
            let cells = [
                plain(&data.name),
                grouped(data.programs() as u64),
                learned.map_or("-".to_owned(), grouped),
                listed(&data.origins),
                listed(&data.licences),
            ];
            row(out, &cells);
        }
    }

    fn decontamination(&self, out: &mut String) {
        let built = self.data.iter().filter(|data| !data.benchmarks.is_empty());
        let mut lines: Vec<String> = Vec::new();
        for data in built {
            let items = data.benchmarks.iter();
            let items: Vec<String> = items
                .map(|(file, items)| format!("{} ({} items)", file_name(file), grouped(*items)))
                .collect();
            lines.push(format!(
                "- {}: {} candidates left out, against {}.",
                plain(&data.name),
                grouped(data.in_benchmarks),
                items.join(", ")
            ));
        }
        for (name, report) in &self.decontamination {
            lines.push(decontaminated(name, report));
        }
        if !lines.is_empty() {
            let _ = write!(out, "\n## Decontamination\n\n{}\n", lines.join("\n"));
        }
    }

    fn training(&self, out: &mut String) {
        if self.training.is_empty() {
            return;
        }
        *out += "\n## Training\n";
        for run in &self.training {
            *out += "\n| | |\n|---|---|\n";
            let [done, all] = run.steps.map(grouped);
            row(out, &["steps".to_owned(), format!("{done} of {all}")]);
            row(out, &["tokens".to_owned(), grouped(run.tokens)]);
            row(
                out,
                &["hours".to_owned(), format!("{:.2}", run.seconds / 3600.0)],
            );
            if let Some(loss) = run.loss {
                row(
                    out,
                    &["loss at the end, in nats".to_owned(), format!("{loss:.4}")],
                );
            }
            for key in ["batch_tokens", "precision", "seed", "threads"] {
                if let Some(value) = run.config.get(key) {
                    row(out, &[format!("`{key}`"), shown(value)]);
                }
            }
            for table in ["optimizer", "schedule"] {
                let pairs = run.config[table].as_object().into_iter().flatten();
                let pairs: Vec<String> = pairs
                    .filter(|(_, value)| !value.is_null())
                    .map(|(key, value)| format!("{key} {}", shown(value)))
                    .collect();
                if !pairs.is_empty() {
                    row(out, &[table.to_owned(), pairs.join(", ")]);
                }
            }
        }
    }
}

/// What `cwm data decontaminate` found, in a line.
fn decontaminated(name: &str, report: &Value) -> String {
    let number = |key: &str| report[key].as_u64().unwrap_or_default();
    let (programs, kept) = (number("programs"), number("kept"));
    let files = report["benchmarks"].as_object().into_iter().flatten();
    let files: Vec<String> = files
        .map(|(file, summary)| {
            let items = summary["items"].as_u64().unwrap_or_default();
            format!("{} ({} items)", file_name(file), grouped(items))
        })
        .collect();
    format!(
        "- {}: {} of {} programs left out, against {}.",
        plain(name),
        grouped(programs.saturating_sub(kept)),
        grouped(programs),
        files.join(", ")
    )
}

fn scores(suite: &Value, out: &mut String) {
    *out += "\n## Scores\n\nFrames and states are given the real ones before; runs and outputs are free.\n\n\
             | set | runs | frames | state | run | output | not an echo | (echo) | calibration error | longest right run |\n\
             |---|---|---|---|---|---|---|---|---|---|\n";
    let sets = suite["sets"].as_array().into_iter().flatten();
    for set in sets {
        let share = |value: &Value| value.as_f64().map_or("-".to_owned(), |x| format!("{x:.3}"));
        let detail = &set["detail"];
        let cells = [
            plain(set["name"].as_str().unwrap_or_default()),
            shown(&set["items"]),
            share(&set["frame_exact"]),
            share(&set["state_exact"]),
            share(&set["trace_exact"]),
            share(&set["output_exact"]),
            share(&set["output_exact_non_echo"]),
            share(&detail["baselines"]["echo_output"]["value"]),
            share(&detail["calibration_error"]),
            shown(&detail["longest_exact"]),
        ];
        row(out, &cells);
    }
    *out += "\n";
    for set in suite["sets"].as_array().into_iter().flatten() {
        let [name, about] = ["name", "about"].map(|key| set[key].as_str().unwrap_or_default());
        let left_out = set["left_out"].as_object().into_iter().flatten();
        let left_out: String = left_out
            .map(|(why, n)| format!(" Left out, {}: {}.", plain(why), shown(n)))
            .collect();
        let about = about.split(' ').map(|word| match word.starts_with('/') {
            true => file_name(word),
            false => plain(word),
        });
        let about: Vec<String> = about.collect();
        let _ = writeln!(out, "- {}: {}{left_out}", plain(name), about.join(" "));
    }
}

fn row(out: &mut String, cells: &[String]) {
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

/// Names with their counts, the largest first, and how many more there are.
fn listed(counts: &BTreeMap<String, usize>) -> String {
    if let (1, Some((name, _))) = (counts.len(), counts.first_key_value()) {
        return plain(name);
    }
    let mut ordered: Vec<(&String, &usize)> = counts.iter().collect();
    ordered.sort_by(|a, b| b.1.cmp(a.1));
    let (named, others) = ordered.split_at(ordered.len().min(MOST_NAMED));
    let one = |(name, count): &(&String, &usize)| {
        format!("{} ({})", plain(name), grouped(**count as u64))
    };
    let mut parts: Vec<String> = named.iter().map(one).collect();
    if !others.is_empty() {
        let count: usize = others.iter().map(|(_, count)| **count).sum();
        parts.push(format!(
            "{} others ({})",
            others.len(),
            grouped(count as u64)
        ));
    }
    parts.join(", ")
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        Value::Number(number) => number
            .as_u64()
            .map_or_else(|| number.to_string(), |n| n.to_string()),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(" and "),
        Value::Null => "-".to_owned(),
        other => plain(&other.to_string()),
    }
}

/// A path says where a file lay on the machine; its name is what tells.
fn file_name(path: &str) -> String {
    plain(path.rsplit('/').next().unwrap_or(path))
}

/// Text that neither ends a cell of a table nor steers a terminal.
fn plain(text: &str) -> String {
    let escape = |c: char| match c {
        '|' => "\\|".to_owned(),
        c if c.is_control() => " ".to_owned(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_log_is_summed_up() {
        let step = |step: u64, loss: f64| {
            json!({"event": "step", "step": step, "tokens": 1000, "seconds": 0.5, "loss": loss,
                   "sources": [{"name": "a", "targets": 7}]})
        };
        let start = json!({"event": "start", "steps": 3, "config": {"seed": 4}});
        let run = Training::of(&[start, step(1, 2.0), step(2, 1.0)]);
        let expected = Training {
            steps: [2, 3],
            tokens: 2000,
            seconds: 1.0,
            config: json!({"seed": 4}),
            targets: [("a".to_owned(), 14)].into(),
            loss: Some(1.5),
        };
        assert_eq!(run, expected);
    }

    #[test]
    fn a_card_has_what_is_known_and_nothing_else() {
        let mut data = Data {
            name: "a".to_owned(),
            benchmarks: [("/x/mbpp_dev.jsonl".to_owned(), 1200)].into(),
            in_benchmarks: 3,
            ..Data::default()
        };
        (0..1500).for_each(|_| data.add("generated, seed 1".to_owned(), "MIT"));
        data.add("python 3.11.7".to_owned(), "PSF-2.0");
        let report =
            json!({"programs": 50, "kept": 46, "benchmarks": {"b/he.jsonl": {"items": 9}}});
        let suite = json!({"sets": [{"name": "level 1", "about": "2 programs of /x/y.jsonl.", "items": 2, "frame_exact": 0.5,
            "state_exact": null, "left_out": {"more than 9 events": 4},
            "detail": {"longest_exact": 7, "calibration_error": 0.25}}]});
        let card = Card {
            name: "small|er".to_owned(),
            parameters: 1_690_752,
            config: json!({"hidden_size": 128, "layer_types": ["sliding_attention", "full_attention"]}),
            data: vec![data],
            decontamination: vec![("c".to_owned(), report)],
            training: vec![Training {
                steps: [2, 3],
                tokens: 2000,
                seconds: 1800.0,
                config: json!({"optimizer": {"kind": "muon", "lr": 0.001, "embedding_lr": null, "betas": [0.9, 0.95]}}),
                targets: [("a".to_owned(), 1400)].into(),
                loss: None,
            }],
            suite: Some(suite),
            notes: vec!["It is a rehearsal.".to_owned()],
        };
        let expected = "# Model card: small|er

- **Note**: It is a rehearsal.

## Shape

| | |
|---|---|
| parameters | 1,690,752 |
| `hidden_size` | 128 |
| layers that see everything | 2 |

## Data

| source | programs | learned tokens | from | licences |
|---|---|---|---|---|
| a | 1,501 | 1,400 | generated, seed 1 (1,500), python 3.11.7 (1) | MIT (1,500), PSF-2.0 (1) |

## Decontamination

- a: 3 candidates left out, against mbpp_dev.jsonl (1,200 items).
- c: 4 of 50 programs left out, against he.jsonl (9 items).

## Training

| | |
|---|---|
| steps | 2 of 3 |
| tokens | 2,000 |
| hours | 0.50 |
| optimizer | kind muon, lr 0.001, betas 0.9 and 0.95 |

## Scores

Frames and states are given the real ones before; runs and outputs are free.

| set | runs | frames | state | run | output | not an echo | (echo) | calibration error | longest right run |
|---|---|---|---|---|---|---|---|---|---|
| level 1 | 2 | 0.500 | - | - | - | - | - | 0.250 | 7 |

- level 1: 2 programs of y.jsonl. Left out, more than 9 events: 4.
";
        assert_eq!(card.to_markdown(), expected);
        let bare = Card::default().to_markdown();
        assert_eq!(bare.matches("\n## ").count(), 1, "{bare}");
    }
}
