//! One row of tokens and who sees whom in it.
//!
//! A row may hold several documents and a prefix that some of them share; its
//! spans say which keys each query sees, its positions feed RoPE and the
//! sliding window. Rows are checked once here, so that nothing after needs to.

use cwm_kernels::Span;

use crate::{Config, RowError};

/// One row to train on or to score.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Token ids.
    pub ids: &'a [u32],
    /// Position of each token in its document, counting a shared prefix.
    pub positions: &'a [u32],
    /// Keys each token sees in full layers. Sliding layers narrow them to
    /// keys whose position is less than the window before the query's.
    pub spans: &'a [Span],
    /// What is to be predicted. The head runs only for rows named here.
    pub targets: &'a [Target],
}

/// One prediction that counts in the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Index of the token whose output predicts.
    pub row: u32,
    /// The id that should follow.
    pub id: u32,
    /// Its weight in the loss.
    pub weight: f32,
}

/// What a row cost. Sums, so that rows and threads can be added up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowLoss {
    /// Sum of `-weight * ln p(target)`, in nats.
    pub loss_sum: f64,
    /// Sum of weights.
    pub weight_sum: f64,
    /// Targets that had the highest logit.
    pub correct: usize,
    /// Number of targets.
    pub n_targets: usize,
}

/// How one target came out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// `-weight * ln p(target)`, in nats.
    pub loss: f64,
    /// Whether it had the highest logit.
    pub correct: bool,
}

/// Spans of one document: each token sees itself and all before it.
pub fn causal_spans(n: usize) -> Vec<Span> {
    vec![Span::causal_from(0); n]
}

/// Positions and spans of documents that lie side by side in one row and do
/// not see each other.
pub fn packed_spans(lengths: &[usize]) -> (Vec<u32>, Vec<Span>) {
    let total = lengths.iter().sum();
    let mut positions = Vec::with_capacity(total);
    let mut spans = Vec::with_capacity(total);
    for &length in lengths {
        let start = spans.len() as u32;
        positions.extend(0..length as u32);
        spans.extend(std::iter::repeat_n(Span::causal_from(start), length));
    }
    (positions, spans)
}

/// Narrows the spans of full layers to a window of `window` positions: query
/// `i` keeps keys `j` with `positions[i] - positions[j] < window`. Within the
/// prefix and within `start..=i` positions must not fall.
pub fn window_spans(out: &mut Vec<Span>, spans: &[Span], positions: &[u32], window: usize) {
    let reach = u32::try_from(window).unwrap_or(u32::MAX).saturating_sub(1);
    let narrow = |(query, span): (usize, &Span)| {
        let oldest = positions[query].saturating_sub(reach);
        let first_visible = |from: u32, to: u32| {
            let keys = &positions[from as usize..to as usize];
            from + keys.partition_point(|&position| position < oldest) as u32
        };
        Span {
            prefix_start: first_visible(span.prefix_start, span.prefix_end),
            prefix_end: span.prefix_end,
            start: first_visible(span.start, query as u32),
        }
    };
    out.clear();
    out.extend(spans.iter().enumerate().map(narrow));
}

/// Checks tokens, positions and spans against each other and the model.
/// `falls` is a buffer to reuse.
pub(crate) fn check_tokens(
    config: &Config,
    ids: &[u32],
    positions: &[u32],
    spans: &[Span],
    falls: &mut Vec<u32>,
) -> Result<(), RowError> {
    if ids.is_empty() {
        return Err(RowError::Empty);
    }
    for (what, found) in [("positions", positions.len()), ("spans", spans.len())] {
        if found != ids.len() {
            return Err(RowError::Length {
                what,
                ids: ids.len(),
                found,
            });
        }
    }
    let vocab_size = config.vocab_size;
    if let Some((index, &id)) = (ids.iter().enumerate()).find(|&(_, &id)| id as usize >= vocab_size)
    {
        return Err(RowError::Id {
            index,
            id,
            vocab_size,
        });
    }
    let max = config.max_position_embeddings;
    if let Some((index, &position)) =
        (positions.iter().enumerate()).find(|&(_, &position)| position as usize >= max)
    {
        return Err(RowError::Position {
            index,
            position,
            max,
        });
    }
    check_spans(positions, spans, falls)
}

fn check_spans(positions: &[u32], spans: &[Span], falls: &mut Vec<u32>) -> Result<(), RowError> {
    // falls[i]: the last index up to i whose position is below its
    // predecessor's. A range a..=b is free of falls when falls[b] <= a.
    falls.clear();
    let mut last = 0;
    for index in 0..positions.len() {
        if index > 0 && positions[index] < positions[index - 1] {
            last = index as u32;
        }
        falls.push(last);
    }
    for (index, span) in spans.iter().enumerate() {
        let ordered = span.prefix_start <= span.prefix_end
            && (span.prefix_start == span.prefix_end || span.prefix_end <= span.start)
            && span.start as usize <= index;
        if !ordered {
            return Err(RowError::Span { index, span: *span });
        }
        let mut seen = [
            (span.prefix_start, span.prefix_end),
            (span.start, index as u32 + 1),
        ]
        .into_iter()
        .filter(|(first, end)| first < end)
        .map(|(first, end)| (first, falls[end as usize - 1]));
        if let Some((_, fall)) = seen.find(|(first, fall)| fall > first) {
            let fall = fall as usize;
            return Err(RowError::Descending { index, fall });
        }
    }
    Ok(())
}

/// Checks that targets name rows and ids that exist.
pub(crate) fn check_targets(
    config: &Config,
    rows: usize,
    targets: &[Target],
) -> Result<(), RowError> {
    let wrong = |t: &Target| t.row as usize >= rows || t.id as usize >= config.vocab_size;
    match targets.iter().position(wrong) {
        None => Ok(()),
        Some(index) => Err(RowError::Target {
            index,
            row: targets[index].row,
            id: targets[index].id,
            rows,
            vocab_size: config.vocab_size,
        }),
    }
}
