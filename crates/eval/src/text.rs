//! How well a model foretells text: its loss per token.

use cwm_engine::{Engine, Result, Session, Want, logprob};

use crate::parallel;

/// Loss over some tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TextLoss {
    /// Tokens that were foretold: all but the first of each piece.
    pub tokens: u64,
    /// Sum of their negative log-probabilities, in nats.
    pub nats: f64,
}

impl TextLoss {
    /// Nats per token; `None` without tokens.
    pub fn mean(self) -> Option<f64> {
        (self.tokens > 0).then(|| self.nats / self.tokens as f64)
    }

    /// `exp` of the [mean](Self::mean).
    pub fn perplexity(self) -> Option<f64> {
        self.mean().map(f64::exp)
    }
}

/// Tokens whose logits are held at once.
const CHUNK: usize = 64;

/// The loss of a model on pieces of text, each of which it sees from its beginning. `done` is told
/// how many pieces are done.
///
/// # Errors
/// When a piece does not fit the model or its logits are not numbers.
pub fn loss(
    engine: &Engine,
    pieces: &[Vec<u32>],
    threads: usize,
    done: impl Fn(usize) + Sync,
) -> Result<TextLoss> {
    let one = |index: usize| piece_loss(engine, &pieces[index]);
    let mut total = TextLoss::default();
    for found in parallel::map(pieces.len(), threads, one, done) {
        let found = found?;
        total.tokens += found.tokens;
        total.nats += found.nats;
    }
    Ok(total)
}

fn piece_loss(engine: &Engine, ids: &[u32]) -> Result<TextLoss> {
    let mut session = Session::new(engine);
    let mut found = TextLoss::default();
    for (number, chunk) in ids.chunks(CHUNK).enumerate() {
        let logits = session.extend(engine, chunk, Want::All)?;
        let next = ids.iter().skip(number * CHUNK + 1);
        for (row, &id) in logits.rows().zip(next) {
            found.nats -= logprob(row, id)?;
            found.tokens += 1;
        }
    }
    Ok(found)
}
