//! Ranks that are threads of one process: for tests, and the simplest definition of an exchange.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::{Collective, CollectiveError};

/// A rank among threads.
#[derive(Debug)]
pub struct ThreadRank {
    rank: usize,
    /// To each rank, this one included.
    to: Vec<Sender<Vec<u8>>>,
    /// From each rank, this one included.
    from: Vec<Receiver<Vec<u8>>>,
}

/// `size` ranks, each to be moved to a thread of its own.
pub fn thread_ranks(size: usize) -> Vec<ThreadRank> {
    let mut ranks: Vec<ThreadRank> = (0..size)
        .map(|rank| ThreadRank {
            rank,
            to: Vec::new(),
            from: Vec::new(),
        })
        .collect();
    for from in 0..size {
        for to in 0..size {
            let (sender, receiver) = channel();
            ranks[from].to.push(sender);
            ranks[to].from.push(receiver);
        }
    }
    ranks
}

impl Collective for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn exchange(&mut self, outgoing: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        let lost = |rank| CollectiveError::RankLost {
            rank,
            reason: "its thread has ended".to_owned(),
        };
        for (rank, (sender, part)) in self.to.iter().zip(outgoing).enumerate() {
            sender.send(part).map_err(|_| lost(rank))?;
        }
        let received = self.from.iter().enumerate();
        received
            .map(|(rank, receiver)| receiver.recv().map_err(|_| lost(rank)))
            .collect()
    }
}
