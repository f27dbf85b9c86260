//! What a stage file may say, and how that becomes a [`Plan`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cwm_data::pack::Kind;
use cwm_model::Llama3Scaling;
use serde::Deserialize;
use toml::Table;

use super::shape::{Shape, Size};
use super::{Begin, ModelPlan, Plan, Stage, StageError, TokenizerPlan};
use crate::mixture::MOST_SOURCES;
use crate::sources::dialogs::{Lesson, Speaker, Think};
use crate::sources::texts::Texts;
use crate::sources::windows::Ask;
use crate::sources::{Content, Source};
use crate::{TokenizerKind, TrainConfig};

/// Rows kept of one program where the file does not say.
const ROWS_PER_PROGRAM: usize = 3;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StageFile {
    stage: Stage,
    seed: u64,
    model: ModelTable,
    tokenizer: TokenizerTable,
    rows: RowsTable,
    source: Vec<SourceTable>,
    #[serde(default)]
    held_out: Vec<SourceTable>,
    train: Table,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelTable {
    preset: Option<Size>,
    shape: Option<Shape>,
    from: Option<PathBuf>,
    r#continue: Option<PathBuf>,
    num_hidden_layers: Option<usize>,
    rope_scaling: Option<ScalingTable>,
    max_position_embeddings: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScalingTable {
    factor: f64,
    low_freq_factor: f64,
    high_freq_factor: f64,
    original_max_position_embeddings: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenizerTable {
    kind: TokenizerKind,
    path: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RowsTable {
    tokens: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SourceKind {
    Windows,
    Jumps,
    Text,
    Dialogs,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceTable {
    name: String,
    path: OneOrMany,
    kind: SourceKind,
    share: Option<f64>,
    only: Option<Vec<String>>,
    rows_per_program: Option<usize>,
    weights: Option<BTreeMap<String, f32>>,
    learn: Option<Vec<Speaker>>,
    tool_share: Option<f64>,
    think: Option<Think>,
}

/// Reads a resolved table. Relative paths are those of `folder`.
pub(super) fn plan(table: Table, folder: &Path, threads: usize) -> Result<Plan, StageError> {
    let file: StageFile = table
        .try_into()
        .map_err(|error: toml::de::Error| StageError::Syntax(error.to_string()))?;
    let model = file.model.plan(file.stage, folder)?;
    let tokenizer = file.tokenizer.plan(folder)?;
    if file.rows.tokens < 2 {
        return Err(StageError::wrong("rows.tokens", "must be at least 2"));
    }
    let train = train_config(file.train, file.seed, threads)?;
    let seed = file.seed;
    let sources = file.source.into_iter().map(|table| {
        let share = table.share;
        let name = format!("source `{}`", table.name);
        let Some(share) = share.filter(|share| *share > 0.0 && share.is_finite()) else {
            let reason = match share {
                None => "is missing: say how often it is drawn, beside the other shares".to_owned(),
                Some(share) => format!("must be above 0, not {share}"),
            };
            return Err(StageError::wrong(format!("share of {name}"), reason));
        };
        Ok((table.source(folder, seed)?, share))
    });
    let sources: Vec<(Source, f64)> = sources.collect::<Result<_, _>>()?;
    let held_out = file.held_out.into_iter().map(|table| {
        if table.share.is_some() {
            let name = format!("share of held-out source `{}`", table.name);
            let reason = "means nothing: all of it is measured; leave the key out";
            return Err(StageError::wrong(name, reason));
        }
        table.source(folder, seed)
    });
    let held_out: Vec<Source> = held_out.collect::<Result<_, _>>()?;
    check_names("source", sources.iter().map(|(source, _)| source))?;
    check_names("held_out", held_out.iter())?;
    check_apart(sources.iter().map(|(source, _)| source), &held_out)?;
    Ok(Plan {
        stage: file.stage,
        seed,
        model,
        tokenizer,
        row_tokens: file.rows.tokens,
        sources,
        held_out,
        train,
    })
}

fn check_names<'a>(
    what: &'static str,
    sources: impl Iterator<Item = &'a Source>,
) -> Result<(), StageError> {
    let mut names: Vec<&str> = sources.map(|source| source.name.as_str()).collect();
    let count = names.len();
    if count > MOST_SOURCES {
        let reason = format!("names {count} sources; {MOST_SOURCES} are the most");
        return Err(StageError::wrong(what, reason));
    }
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            let reason = format!("has two sources named `{}`", pair[0]);
            Err(StageError::wrong(what, reason))
        }
        None if names.contains(&"") => Err(StageError::wrong(what, "has a source without a name")),
        None => Ok(()),
    }
}

/// Refuses a path that is both trained on and held out: only what names its group would be left out.
fn check_apart<'a>(
    sources: impl Iterator<Item = &'a Source>,
    held_out: &[Source],
) -> Result<(), StageError> {
    for source in sources {
        for held in held_out {
            if let Some(path) = source.paths.iter().find(|path| held.paths.contains(path)) {
                let reason = format!(
                    "is `{}`, which held-out source `{}` measures on; give each its own files",
                    path.display(),
                    held.name
                );
                let key = format!("path of source `{}`", source.name);
                return Err(StageError::wrong(key, reason));
            }
        }
    }
    Ok(())
}

fn train_config(mut table: Table, seed: u64, threads: usize) -> Result<TrainConfig, StageError> {
    if table.contains_key("seed") {
        let reason = "stands at the top of the file, since the weights come from it too";
        return Err(StageError::wrong("train.seed", reason));
    }
    // The largest seeds do not fit TOML's integers, and no file can hold one.
    table.insert("seed".to_owned(), toml::Value::Integer(seed as i64));
    table
        .entry("threads")
        .or_insert(toml::Value::Integer(threads as i64));
    let config: TrainConfig = table
        .try_into()
        .map_err(|error: toml::de::Error| StageError::Syntax(format!("in `[train]`: {error}")))?;
    config.validate()?;
    Ok(config)
}

impl ModelTable {
    fn plan(self, stage: Stage, folder: &Path) -> Result<ModelPlan, StageError> {
        let begin = match (self.preset, self.shape, self.from, self.r#continue) {
            (Some(size), None, None, None) => Begin::Size(size),
            (None, Some(shape), None, None) => Begin::Shape(Box::new(shape)),
            (None, None, Some(path), None) => Begin::From(folder.join(path)),
            (None, None, None, Some(path)) => Begin::Continue(folder.join(path)),
            _ => {
                let reason = "says not exactly one of `preset`, `shape`, `from` (weights alone) and \
                              `continue` (weights, optimiser and count of steps)";
                return Err(StageError::wrong("model", reason));
            }
        };
        if matches!(begin, Begin::Continue(_)) && stage != Stage::Mid {
            let reason = match stage {
                Stage::Pre => {
                    "does not go with stage `pre`; go on with a run in its own folder by --resume"
                }
                _ => "does not go with stage `sft`, which has a schedule of its own; use `from`",
            };
            return Err(StageError::wrong("model.continue", reason));
        }
        if stage == Stage::Pre && self.rope_scaling.is_some() {
            let reason =
                "does not go with stage `pre`, which is trained unscaled; `mid` switches it on";
            return Err(StageError::wrong("model.rope_scaling", reason));
        }
        if self.num_hidden_layers.is_some() && !matches!(begin, Begin::From(_)) {
            let reason = "goes with `from` alone, to make that model deeper; a new model says its layers in `shape`";
            return Err(StageError::wrong("model.num_hidden_layers", reason));
        }
        Ok(ModelPlan {
            begin,
            num_hidden_layers: self.num_hidden_layers,
            rope_scaling: self.rope_scaling.map(|table| Llama3Scaling {
                factor: table.factor,
                low_freq_factor: table.low_freq_factor,
                high_freq_factor: table.high_freq_factor,
                original_max_position_embeddings: table.original_max_position_embeddings,
            }),
            max_position_embeddings: self.max_position_embeddings,
        })
    }
}

impl TokenizerTable {
    fn plan(self, folder: &Path) -> Result<TokenizerPlan, StageError> {
        match (self.kind, self.path) {
            (TokenizerKind::Nano, None) => Ok(TokenizerPlan::Nano),
            (TokenizerKind::Bytes, None) => Ok(TokenizerPlan::Bytes),
            (TokenizerKind::Llama, Some(path)) => Ok(TokenizerPlan::Llama(folder.join(path))),
            (TokenizerKind::Llama, None) => Err(StageError::wrong(
                "tokenizer.path",
                "is missing: the vocabulary of Llama 3 comes from a file `tokenizer.model`, which is not ours to ship",
            )),
            (kind, Some(_)) => Err(StageError::wrong(
                "tokenizer.path",
                format!(
                    "does not go with kind `{}`, which needs no file",
                    kind.name()
                ),
            )),
        }
    }
}

impl SourceTable {
    fn source(self, folder: &Path, seed: u64) -> Result<Source, StageError> {
        self.check_keys()?;
        let paths = match self.path {
            OneOrMany::One(path) => vec![path],
            OneOrMany::Many(paths) => paths,
        };
        let wrong = |key: &str, reason: String| {
            Err(StageError::wrong(
                format!("{key} of source `{}`", self.name),
                reason,
            ))
        };
        let weights = self.weights.unwrap_or_default();
        let kinds = match self.kind {
            SourceKind::Windows | SourceKind::Jumps => Kind::ALL.map(Kind::name).to_vec(),
            SourceKind::Text | SourceKind::Dialogs => Texts::KINDS.to_vec(),
        };
        if let Some(name) = weights.keys().find(|name| !kinds.contains(&name.as_str())) {
            let known = kinds.join("`, `");
            return wrong(
                "weights",
                format!("have `{name}`, which is none of `{known}`"),
            );
        }
        if let Some((name, weight)) = weights.iter().find(|(_, w)| !(w.is_finite() && **w >= 0.0)) {
            return wrong(
                "weights",
                format!("give `{name}` {weight}; they must not be negative"),
            );
        }
        let content = match self.kind {
            SourceKind::Windows | SourceKind::Jumps => Content::Windows {
                ask: match self.kind {
                    SourceKind::Jumps => Ask::Jumps { seed },
                    _ => Ask::Frames,
                },
                rows_per_program: self.rows_per_program.unwrap_or(ROWS_PER_PROGRAM),
                weights,
            },
            SourceKind::Text => Content::Texts {
                only: self.only.unwrap_or_default(),
                weights,
            },
            SourceKind::Dialogs => {
                let learn = self.learn.unwrap_or_else(|| Lesson::default().learn);
                if learn.is_empty() {
                    return wrong(
                        "learn",
                        "names nobody, so nothing would be learned".to_owned(),
                    );
                }
                if self.tool_share.is_some() && !learn.contains(&Speaker::Tool) {
                    let reason = "means nothing unless `learn` has \"tool\"".to_owned();
                    return wrong("tool_share", reason);
                }
                let tool_share = self.tool_share.unwrap_or(1.0);
                if !(0.0..=1.0).contains(&tool_share) {
                    return wrong("tool_share", format!("must lie in 0..=1, not {tool_share}"));
                }
                Content::Dialogs(Lesson {
                    learn,
                    tool_share,
                    seed,
                    think: self.think,
                })
            }
        };
        Ok(Source {
            name: self.name,
            paths: paths.into_iter().map(|path| folder.join(path)).collect(),
            content,
        })
    }

    /// Refuses keys that mean something for another kind of source only.
    fn check_keys(&self) -> Result<(), StageError> {
        use SourceKind::{Dialogs, Jumps, Text, Windows};
        let given: [(&str, bool, &[SourceKind]); 6] = [
            ("only", self.only.is_some(), &[Text]),
            (
                "rows_per_program",
                self.rows_per_program.is_some(),
                &[Windows, Jumps],
            ),
            ("weights", self.weights.is_some(), &[Windows, Jumps, Text]),
            ("learn", self.learn.is_some(), &[Dialogs]),
            ("tool_share", self.tool_share.is_some(), &[Dialogs]),
            ("think", self.think.is_some(), &[Dialogs]),
        ];
        let strange = |(_, given, kinds): &&(&str, bool, &[SourceKind])| {
            *given && !kinds.contains(&self.kind)
        };
        match given.iter().find(strange) {
            None => Ok(()),
            Some((key, ..)) => {
                let kind = format!("{:?}", self.kind).to_lowercase();
                let name = format!("{key} of source `{}`", self.name);
                let reason = format!("does not go with kind `{kind}`; leave the key out");
                Err(StageError::wrong(name, reason))
            }
        }
    }
}
