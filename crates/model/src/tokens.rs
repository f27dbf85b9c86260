//! Tokens with their places in a row, and what makes up their embeddings.

use std::iter::successors;
use std::ops::Range;

use cwm_kernels::Span;

use crate::row::{check_targets, check_tokens};
use crate::{Config, Layout, Row, RowError};

/// Tokens that [`check_tokens`] has passed.
#[derive(Clone, Copy)]
pub(crate) struct Tokens<'a> {
    pub(crate) ids: &'a [u32],
    pub(crate) positions: &'a [u32],
    pub(crate) spans: &'a [Span],
}

impl Tokens<'_> {
    /// Index of the token before that at `index` in the text it belongs to,
    /// if it sees one.
    fn before(&self, index: usize) -> Option<usize> {
        let span = self.spans[index];
        if index > span.start as usize {
            Some(index - 1)
        } else if span.prefix_start < span.prefix_end {
            Some(span.prefix_end as usize - 1)
        } else {
            None
        }
    }

    /// What makes up the embedding of the token at `index`: tables in the
    /// flat vector, and the row to look up in each.
    pub(crate) fn embedded(
        &self,
        layout: &Layout,
        places: &[Option<u32>],
        index: usize,
    ) -> impl Iterator<Item = (Range<usize>, u32)> {
        let seen = successors(Some(index), |&index| self.before(index));
        let tables = layout.embeddings().cloned();
        let run = layout.run_embedding();
        let place = run.zip(places.get(index).copied().flatten());
        tables.zip(seen.map(|index| self.ids[index])).chain(place)
    }

    /// The place of each token in its run, if the model looks at it.
    pub(crate) fn places(&self, out: &mut Vec<Option<u32>>, config: &Config) {
        out.clear();
        let Some(runs) = &config.run_embedding else {
            return;
        };
        for (index, &id) in self.ids.iter().enumerate() {
            let before = self.before(index);
            out.push(runs.place(id, before.map(|index| (self.ids[index], out[index]))));
        }
    }

    pub(crate) fn last_position(&self) -> u32 {
        self.positions.iter().copied().max().unwrap_or(0)
    }
}

/// What makes up the embeddings of a row's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookups {
    /// Entries of a token.
    pub per_token: usize,
    /// Where in the flat vector of parameters the vectors begin that a token's embedding is the sum of, token
    /// after token; `None` where there is nothing to add.
    pub starts: Vec<Option<usize>>,
}

impl Lookups {
    /// Of a row of a model with this layout.
    ///
    /// # Errors
    /// When the row does not fit the model or itself.
    pub fn new(config: &Config, layout: &Layout, row: &Row<'_>) -> Result<Self, RowError> {
        let Row {
            ids,
            positions,
            spans,
            targets,
        } = *row;
        check_tokens(config, ids, positions, spans, &mut Vec::new())?;
        check_targets(config, ids.len(), targets)?;
        let tokens = Tokens {
            ids,
            positions,
            spans,
        };
        let mut places = Vec::new();
        tokens.places(&mut places, config);
        let runs = usize::from(layout.run_embedding().is_some());
        let per_token = layout.embeddings().count() + runs;
        let mut starts = Vec::with_capacity(ids.len() * per_token);
        for index in 0..ids.len() {
            let rows = tokens.embedded(layout, &places, index);
            let start =
                |(table, row): (Range<usize>, u32)| table.start + row as usize * config.hidden_size;
            starts.extend(rows.map(|row| Some(start(row))));
            starts.resize((index + 1) * per_token, None);
        }
        Ok(Self { per_token, starts })
    }
}
