//! Texts in the vocabulary of Llama 3 or in bytes: runs in the `cwm` and `nd` dialects, whose units are frames, and
//! plain text, whose units are tokens.

use std::collections::BTreeMap;
use std::sync::Arc;

use cwm_model::{Target, causal_spans};
use cwm_tokenizer::llama::{Llama, Special};

use super::markup::{self, Dialect, Kind, Marks};
use super::{Digest, weights_by_name};
use crate::Example;
use crate::packed::{Documents, PackedStats, Piece};

/// Texts as ids.
#[derive(Debug)]
pub struct Texts {
    llama: Arc<Llama>,
    marks: Marks,
    texts: Vec<Text>,
    weights: [f32; Kind::NAMES.len()],
    digest: Digest,
}

#[derive(Debug)]
struct Text {
    ids: Box<[u32]>,
    dialect: Dialect,
    /// Where the units end, that of the context first; none for plain text.
    ends: Box<[u32]>,
    /// Units, rising, at which a run can be taken up.
    starts: Box<[u32]>,
}

impl Texts {
    /// Names of the kinds of targets.
    pub const KINDS: [&str; 7] = Kind::NAMES;

    /// No text yet. `weights` are those of kinds of targets that do not have weight 1.
    pub fn new(llama: Arc<Llama>, weights: &BTreeMap<String, f32>) -> Self {
        Self {
            marks: Marks::new(&llama),
            llama,
            texts: Vec::new(),
            weights: weights_by_name(Self::KINDS, weights),
            digest: Digest::default(),
        }
    }

    /// Adds a text of a kind, such as `cwm` or `pull_request`. A run that does not fit into a row of `row_tokens` and
    /// cannot be taken up in another one ends where the row does, and what is left out is counted.
    pub fn push(&mut self, kind: &str, text: &str, row_tokens: usize, stats: &mut PackedStats) {
        if text.is_empty() {
            return stats.drop("empty text", 1);
        }
        let dialect = Dialect::of(kind);
        let added = match dialect {
            Dialect::Plain => Some(self.plain(text)),
            Dialect::Cwm | Dialect::Nd => self.run(dialect, text, row_tokens, stats),
        };
        let Some(added) = added else {
            return stats.drop("text that is not of its dialect", 1);
        };
        if added.ends.len() == 1 {
            return stats.drop("run without a frame", 1);
        }
        self.digest.add(&added.ids);
        self.texts.push(added);
    }

    fn plain(&self, text: &str) -> Text {
        let mut ids = vec![self.llama.id(Special::BeginOfText)];
        self.llama.encode_into(text, &mut ids);
        ids.push(self.llama.id(Special::EndOfText));
        Text {
            ids: ids.into(),
            dialect: Dialect::Plain,
            ends: Box::default(),
            starts: Box::default(),
        }
    }

    fn run(
        &self,
        dialect: Dialect,
        text: &str,
        row_tokens: usize,
        stats: &mut PackedStats,
    ) -> Option<Text> {
        let text = text.trim_end();
        let starts = markup::starts(dialect, text)?;
        let mut ids = self.llama.encode_markup(text, dialect.markup());
        let mut ends = self.marks.ends(&ids);
        if ids.len() > row_tokens && starts.is_empty() {
            let fitting = ends
                .partition_point(|&end| end as usize <= row_tokens)
                .max(1);
            stats.drop(
                "frame behind the row, where no run can be taken up",
                ends.len() - fitting,
            );
            ends.truncate(fitting);
            ids.truncate(ends[fitting - 1] as usize);
        }
        Some(Text {
            ids: ids.into(),
            dialect,
            ends: ends.into(),
            starts: starts.into(),
        })
    }

    /// Appends the target of the token at `at` of the example, unless it counts nothing.
    fn target(&self, example: &mut Example, at: usize, kind: Kind) {
        let weight = self.weights[kind as usize];
        if at > 0 && weight > 0.0 {
            example.targets.push(Target {
                row: at as u32 - 1,
                id: example.ids[at],
                weight,
            });
            example.kinds.push(kind as u8);
        }
    }
}

impl Text {
    fn context(&self) -> usize {
        self.ends.first().map_or(0, |&end| end as usize)
    }

    /// Where a unit begins in `ids`.
    fn begins(&self, unit: usize) -> usize {
        match self.dialect {
            Dialect::Plain => unit,
            Dialect::Cwm | Dialect::Nd => self.ends[unit] as usize,
        }
    }
}

impl Documents for Texts {
    fn len(&self) -> usize {
        self.texts.len()
    }

    fn units(&self, document: usize) -> usize {
        let text = &self.texts[document];
        match text.dialect {
            Dialect::Plain => text.ids.len(),
            Dialect::Cwm | Dialect::Nd => text.ends.len() - 1,
        }
    }

    fn context(&self, document: usize) -> usize {
        self.texts[document].context()
    }

    fn tokens_before(&self, document: usize, unit: usize) -> usize {
        let text = &self.texts[document];
        text.begins(unit) - text.context()
    }

    fn may_begin(&self, document: usize, unit: usize) -> bool {
        let text = &self.texts[document];
        unit == 0
            || text.dialect == Dialect::Plain
            || text.starts.binary_search(&(unit as u32)).is_ok()
    }

    fn opening(&self, document: usize, unit: usize) -> Vec<u32> {
        let text = &self.texts[document];
        if text.dialect == Dialect::Plain {
            // The token before, from which the first one is predicted.
            return vec![text.ids[unit - 1]];
        }
        let markup = text.dialect.markup();
        let whole = self.llama.decode_markup(&text.ids, markup);
        let whole = whole.expect("the ids were made by this tokenizer");
        let opening = markup::opening(text.dialect, &whole, unit);
        self.llama.encode_markup(&opening, markup)
    }

    fn example(&self, piece: &Piece) -> Example {
        let text = &self.texts[piece.document as usize];
        let units = piece.units.start as usize..piece.units.end as usize;
        let context = &text.ids[..text.context()];
        let first = text.begins(units.start);
        let told = context.len() + piece.opening.len();
        let ids = [
            context,
            &piece.opening,
            &text.ids[first..text.begins(units.end)],
        ]
        .concat();
        let mut example = Example {
            positions: (0..ids.len() as u32).collect(),
            spans: causal_spans(ids.len()),
            ids,
            ..Example::default()
        };
        if text.dialect == Dialect::Plain {
            for at in told..example.ids.len() {
                self.target(&mut example, at, Kind::Text);
            }
            return example;
        }
        let mut actions = Vec::new();
        for unit in units.clone() {
            let (begin, end) = (text.begins(unit), text.begins(unit + 1));
            let (kinds, framed) = self.marks.kinds(text.dialect, &text.ids[begin..end]);
            let begin = told + begin - first;
            for (at, kind) in (begin..).zip(&kinds[..framed]) {
                self.target(&mut example, at, *kind);
            }
            example.end_frame();
            actions.extend((begin + framed..).zip(kinds[framed..].iter().copied()));
        }
        // What belongs to no frame comes last.
        let source = (units.start == 0).then_some(0..context.len());
        for at in source.into_iter().flatten() {
            self.target(&mut example, at, Kind::Context);
        }
        for (at, kind) in actions {
            self.target(&mut example, at, kind);
        }
        example
    }

    fn kinds(&self) -> Vec<String> {
        Self::KINDS.map(str::to_owned).to_vec()
    }

    fn fingerprint(&self) -> String {
        format!("{}{:?}", self.digest.hex(), self.weights)
    }
}
