//! What a generation may ask for beside a sampler: a [`Constraint`], which says what may come next,
//! and a [`Drafter`], which guesses what will.
//!
//! A constraint decides *which* tokens come out; whoever generates follows it exactly. A drafter
//! decides only how *soon* they come out: each guess is verified against the model, so a run with
//! a drafter yields the tokens of a run without one, bit for bit. Both are told of every token in
//! order, exactly once, and can be told to forget the newest ones.

use crate::error::Result;

/// Which tokens may come next, given the ones that came before: a grammar, a list of answers, a
/// protocol.
///
/// It knows the generated tokens only; the prompt is its maker's business. Between two calls of
/// [`Constraint::accept`] or [`Constraint::rollback`] the other methods give equal answers,
/// however often they are called.
pub trait Constraint {
    /// What may come next.
    ///
    /// Allowing nothing while the constraint is not complete is a dead end: the generation fails
    /// with [`Error::NothingAllowed`](crate::Error::NothingAllowed).
    fn mask(&mut self) -> crate::Mask<'_>;

    /// Appends to `out` the longest run of tokens that is forced now: the tokens that come next
    /// whatever the model says. May append none, even where the mask allows a single token.
    ///
    /// Nothing is accepted by this call: each token of the run is accepted in turn as it is used.
    fn forced(&mut self, out: &mut Vec<u32>);

    /// Goes on by one token.
    ///
    /// # Errors
    /// When the token is not allowed here; the constraint is then unchanged.
    fn accept(&mut self, id: u32) -> Result<()>;

    /// Forgets the last `n` accepted tokens; all of them when there were fewer.
    fn rollback(&mut self, n: usize);

    /// Is everything said, so that the generation ends here? Where the end is a choice of the
    /// model's, this is false and the mask allows an end token.
    fn is_complete(&self) -> bool;
}

/// Guesses the next tokens, so that several can be verified in one pass over the weights.
///
/// Guesses may be wrong, illegal or missing; that costs time and nothing else.
pub trait Drafter {
    /// Appends to `out` at most `max` guesses of what comes after the tokens seen so far, in order.
    ///
    /// Nothing is accepted by this call.
    fn draft(&mut self, max: usize, out: &mut Vec<u32>);

    /// Goes on by these tokens: first the prompt, then what was generated, in pieces of any length.
    fn accept(&mut self, ids: &[u32]);

    /// Forgets the last `n` accepted tokens; all of them when there were fewer.
    fn rollback(&mut self, n: usize);
}
