//! Ranks that train one model together: how they exchange what each has computed.
//!
//! Everything goes through one operation, [`Collective::exchange`], in which every rank sends
//! something to every rank. Sums are not part of it: who adds up what in which order is decided by
//! the trainer, so that the number of ranks changes no bit.
//!
//! Promises: an exchange returns when all ranks have sent their parts, or fails with the rank that
//! is gone; ranks that were started with different intentions are told so before any work.

mod tcp;
mod threads;

use std::io;
use std::net::SocketAddr;

pub use tcp::{TcpRank, TcpSettings};
pub use threads::{ThreadRank, thread_ranks};

/// One of several ranks that work in step.
pub trait Collective: Send + std::fmt::Debug {
    /// Number of this rank, from 0. Rank 0 keeps the folder of the run.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// Sends `outgoing[r]` to rank `r` and returns what each rank has sent to this one, by rank.
    /// All ranks must call it alike, and `outgoing` must have [`size`](Collective::size) parts.
    ///
    /// # Errors
    /// [`CollectiveError`] naming the rank that is gone; the collective is of no use then.
    fn exchange(&mut self, outgoing: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, CollectiveError>;
}

/// Why ranks cannot work together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectiveError {
    /// A rank ended, or its machine is gone.
    #[error(
        "rank {rank} is gone ({reason}): start all ranks again with --resume, \
         they go on from the last checkpoint"
    )]
    RankLost {
        /// Which one.
        rank: usize,
        /// What was seen of it.
        reason: String,
    },
    /// Rank 0 cannot listen where the others look for it.
    #[error("rank 0 cannot listen at {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Reason given by the system.
        source: io::Error,
    },
    /// This machine does not let the rank do what it must.
    #[error("rank {rank} cannot reach other ranks from here: {source}")]
    Local {
        /// This rank.
        rank: usize,
        /// Reason given by the system.
        source: io::Error,
    },
    /// Another rank hung up before all had come together.
    #[error(
        "rank {peer} hung up while the ranks were joining ({reason}): its own message says why; \
         nothing has been trained yet"
    )]
    HungUp {
        /// The other rank.
        peer: usize,
        /// What was seen of it.
        reason: String,
    },
    /// Nobody answered for another rank.
    #[error(
        "rank {rank} found no rank {peer} at {address} within {waited_s} s ({reason}): \
         start it there, or check the address and what lies between"
    )]
    NotFound {
        /// Who asked.
        rank: usize,
        /// For whom.
        peer: usize,
        /// Where.
        address: String,
        /// For how many seconds.
        waited_s: u64,
        /// The last thing that went wrong.
        reason: String,
    },
    /// Not all ranks came.
    #[error("only {found} of {expected} ranks came within {waited_s} s; missing: {missing}")]
    Missing {
        /// How many came, this one included.
        found: usize,
        /// How many there should be.
        expected: usize,
        /// Numbers of those that did not.
        missing: String,
        /// For how many seconds they were waited for.
        waited_s: u64,
    },
    /// A rank was started for another number of ranks, or with a number that is taken.
    #[error("{address} asked to be rank {rank} of {size}, {reason}")]
    Misfit {
        /// Who asked.
        address: SocketAddr,
        /// Which number it has.
        rank: usize,
        /// How many ranks it expects.
        size: usize,
        /// What is wrong with that.
        reason: String,
    },
    /// A number of ranks that cannot be.
    #[error("rank {rank} of {size} cannot be: ranks are numbered from 0")]
    Number {
        /// Which number.
        rank: usize,
        /// Of how many.
        size: usize,
    },
}

/// A rank alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Solo;

impl Collective for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn exchange(&mut self, outgoing: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        Ok(outgoing)
    }
}

/// Every rank gets what every rank gives, by rank.
pub(crate) fn all_gather(
    ranks: &mut dyn Collective,
    given: Vec<u8>,
) -> Result<Vec<Vec<u8>>, CollectiveError> {
    let others = vec![given; ranks.size()];
    ranks.exchange(others)
}

/// Rank 0's part of `outgoing` reaches each rank; what others pass is ignored.
pub(crate) fn scatter(
    ranks: &mut dyn Collective,
    outgoing: Option<Vec<Vec<u8>>>,
) -> Result<Vec<u8>, CollectiveError> {
    let outgoing = outgoing.unwrap_or_else(|| vec![Vec::new(); ranks.size()]);
    let mut received = ranks.exchange(outgoing)?;
    Ok(received.swap_remove(0))
}

/// Rank 0 gets what every rank gives, by rank; the others get nothing.
pub(crate) fn gather(
    ranks: &mut dyn Collective,
    given: Vec<u8>,
) -> Result<Vec<Vec<u8>>, CollectiveError> {
    let mut outgoing = vec![Vec::new(); ranks.size()];
    outgoing[0] = given;
    ranks.exchange(outgoing)
}

/// Numbers as little-endian bytes, after those in `bytes`.
pub(crate) fn push_f32(bytes: &mut Vec<u8>, numbers: &[f32]) {
    bytes.reserve(numbers.len() * 4);
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

/// Takes numbers off the front of `bytes`, as many as there are in `numbers`; `None` if there are
/// too few.
pub(crate) fn take_f32(bytes: &mut &[u8], numbers: &mut [f32]) -> Option<()> {
    let (head, rest) = bytes.split_at_checked(numbers.len() * 4)?;
    let (words, _) = head.as_chunks::<4>();
    for (number, word) in numbers.iter_mut().zip(words) {
        *number = f32::from_le_bytes(*word);
    }
    *bytes = rest;
    Some(())
}

/// Numbers as little-endian bytes.
pub(crate) fn bytes_of_f64(numbers: &[f64]) -> Vec<u8> {
    let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
    bytes.collect()
}

/// The numbers in `bytes`.
pub(crate) fn f64_of_bytes(bytes: &[u8]) -> Vec<f64> {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|word| f64::from_le_bytes(*word)).collect()
}
