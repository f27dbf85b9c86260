//! Emulated devices of several ranks, which are threads of one process: they reach into each other's memory.
//!
//! Promises: sums are made in the order of the ranks. A rank that leaves is told of to those that wait.

use std::collections::HashMap;
use std::mem;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::device::{Address, Buffer};
use crate::error::Error;
use crate::ranks::{DeviceRanks, Rendezvous, check_shards};

/// Numbers that this process has given out.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Groups that not all ranks have joined yet, by their ids.
static GROUPS: LazyLock<Mutex<HashMap<u64, Forming>>> = LazyLock::new(Mutex::default);

/// A group that is not complete.
#[derive(Debug)]
struct Forming {
    group: Arc<Group>,
    missing: usize,
}

/// The shared memory; see the module.
#[derive(Debug)]
pub(super) struct SharedMemory;

impl Rendezvous for SharedMemory {
    fn protocol(&self) -> String {
        "shared memory".to_owned()
    }

    /// Another one each time: a device may stand for several.
    fn place(&self) -> Result<String, Error> {
        Ok(NEXT.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn id(&self) -> Result<Vec<u8>, Error> {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(id.to_le_bytes().to_vec())
    }

    fn join(&self, id: &[u8], rank: usize, size: usize) -> Result<Box<dyn DeviceRanks>, Error> {
        let id = id.try_into().map_err(|_| Error::Emulator {
            reason: format!("{id:?} is no id of a group of ranks"),
        })?;
        let id = u64::from_le_bytes(id);
        let mut groups = lock(&GROUPS);
        let forming = groups.entry(id).or_insert_with(|| Forming {
            group: Arc::new(Group::new(size)),
            missing: size,
        });
        let group = Arc::clone(&forming.group);
        forming.missing -= 1;
        if forming.missing == 0 {
            groups.remove(&id);
        }
        Ok(Box::new(Member { group, rank }))
    }
}

/// Ranks that work together.
#[derive(Debug)]
struct Group {
    size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Where the buffers of those begin that have come to the operation at hand, by rank.
    come: HashMap<usize, Address>,
    /// Operations done.
    done: u64,
    /// A rank that has left.
    gone: Option<usize>,
}

impl Group {
    fn new(size: usize) -> Self {
        Self {
            size,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Waits until all ranks have come; the last one does the work on the buffers of all, by rank.
    fn together(
        &self,
        call: &'static str,
        rank: usize,
        buffer: Address,
        work: impl FnOnce(&[Address]),
    ) -> Result<(), Error> {
        let mut state = lock(&self.state);
        state.come.insert(rank, buffer);
        if state.come.len() == self.size {
            let come = mem::take(&mut state.come);
            let addresses: Vec<Address> = (0..self.size).map(|rank| come[&rank]).collect();
            work(&addresses);
            state.done += 1;
            self.changed.notify_all();
            return Ok(());
        }
        let before = state.done;
        while state.done == before {
            if let Some(gone) = state.gone {
                state.come.remove(&rank);
                return Err(Error::Lost {
                    call,
                    reason: format!("the device of rank {gone} is gone"),
                });
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

/// One rank of a group.
#[derive(Debug)]
struct Member {
    group: Arc<Group>,
    rank: usize,
}

impl DeviceRanks for Member {
    fn sum_shards(
        &mut self,
        buffer: &mut Buffer<f32>,
        shards: &[Range<usize>],
    ) -> Result<(), Error> {
        check_shards(buffer, shards, self.group.size);
        let sum = |buffers: &[Address]| {
            for (shard, &owner) in shards.iter().zip(buffers) {
                let mut sums = vec![0.0; shard.len()];
                for &buffer in buffers {
                    // SAFETY: all ranks wait in here with buffers of this length, as they ask for the same.
                    let terms = unsafe { numbers(buffer, shard) };
                    sums.iter_mut()
                        .zip(&*terms)
                        .for_each(|(sum, term)| *sum += term);
                }
                // SAFETY: as above, and no other slice of it is alive.
                unsafe { numbers(owner, shard) }.copy_from_slice(&sums);
            }
        };
        let (group, at) = (&self.group, buffer.address());
        group.together("sum_shards", self.rank, at, sum)
    }

    fn gather_shards(
        &mut self,
        buffer: &mut Buffer<f32>,
        shards: &[Range<usize>],
    ) -> Result<(), Error> {
        check_shards(buffer, shards, self.group.size);
        let gather = |buffers: &[Address]| {
            for (shard, &owner) in shards.iter().zip(buffers) {
                // SAFETY: as for sums; what is copied from is no slice any more when others are made.
                let values = unsafe { numbers(owner, shard) }.to_vec();
                for &buffer in buffers {
                    // SAFETY: as above.
                    unsafe { numbers(buffer, shard) }.copy_from_slice(&values);
                }
            }
        };
        let (group, at) = (&self.group, buffer.address());
        group.together("gather_shards", self.rank, at, gather)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        lock(&self.group.state).gone = Some(self.rank);
        self.group.changed.notify_all();
    }
}

/// A shard of the buffer that begins at this address.
///
/// # Safety
/// The shard is within the buffer, which outlives the slice, and nobody else uses the shard meanwhile.
unsafe fn numbers<'a>(buffer: Address, shard: &Range<usize>) -> &'a mut [f32] {
    let first = buffer as usize + shard.start * size_of::<f32>();
    let first = std::ptr::with_exposed_provenance_mut(first);
    // SAFETY: as the caller promises; every pattern of bits is a number.
    unsafe { std::slice::from_raw_parts_mut(first, shard.len()) }
}

/// What is locked here is whole even if a thread panicked while it held the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
