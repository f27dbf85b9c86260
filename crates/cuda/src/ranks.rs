//! What devices of several ranks do together, on device memory: sums and copies of shards.
//!
//! A device that knows how says so by [`Device::ranks`](crate::Device::ranks). The real one goes through NCCL
//! (`driver`), the emulator through the memory that threads of one process share.
//!
//! Promises: an operation returns once it is done on this rank's device, or fails when a rank is gone; all
//! ranks must ask for the same operations in the same order. The emulator adds up in the order of the ranks; the order
//! of real devices is NCCL's affair, which may be another with other connections between them.

use std::fmt;
use std::ops::Range;

use crate::device::Buffer;
use crate::error::Error;

/// How a device finds those of other ranks.
pub trait Rendezvous: fmt::Debug {
    /// What devices speak with each other, with its version: those of all ranks must speak the same.
    fn protocol(&self) -> String;

    /// Which device it is: no other of the ranks may have the same name.
    ///
    /// # Errors
    /// When the device cannot say.
    fn place(&self) -> Result<String, Error>;

    /// What one rank makes, and all are given, to find each other once.
    ///
    /// # Errors
    /// When the device cannot be reached by others.
    fn id(&self) -> Result<Vec<u8>, Error>;

    /// Waits until all ranks have joined. Every rank calls this with the same `id`.
    ///
    /// # Errors
    /// When `id` is none, or the devices cannot reach each other.
    fn join(&self, id: &[u8], rank: usize, size: usize) -> Result<Box<dyn DeviceRanks>, Error>;
}

/// The device of this rank among those of all, which have come together.
pub trait DeviceRanks: fmt::Debug + Send {
    /// Adds up the buffers of all ranks, each shard for the rank of its number: there the shard holds the sum
    /// afterwards. What the other shards of a buffer hold then is not defined.
    ///
    /// # Errors
    /// When a rank is gone or a device lost. The group is of no use then.
    ///
    /// # Panics
    /// Unless there is a shard for each rank, one after another and within the buffer.
    fn sum_shards(
        &mut self,
        buffer: &mut Buffer<f32>,
        shards: &[Range<usize>],
    ) -> Result<(), Error>;

    /// Brings each shard from the rank of its number to all others.
    ///
    /// # Errors
    /// As [`sum_shards`](DeviceRanks::sum_shards).
    ///
    /// # Panics
    /// As [`sum_shards`](DeviceRanks::sum_shards).
    fn gather_shards(
        &mut self,
        buffer: &mut Buffer<f32>,
        shards: &[Range<usize>],
    ) -> Result<(), Error>;
}

/// Refuses what no caller may ask for.
#[cfg(any(feature = "driver", feature = "emulator"))]
pub(crate) fn check_shards(buffer: &Buffer<f32>, shards: &[Range<usize>], size: usize) {
    assert_eq!(shards.len(), size, "there is a shard for each rank");
    let mut end = shards.first().map_or(0, |shard| shard.start);
    for shard in shards {
        let follows = shard.start == end && shard.end >= end && shard.end <= buffer.len();
        assert!(
            follows,
            "shard {shard:?} does not follow {end} within {} numbers",
            buffer.len()
        );
        end = shard.end;
    }
}
