//! Threads that share the work of one operation.
//!
//! Decoding one token is a chain of some forty short products, each a few microseconds long, so
//! handing out work has to cost less than a microsecond, and an idle machine must stay idle. A
//! [`Pool`] is made for that: an operation is cut into chunks, which threads claim one by one from
//! an atomic counter. Workers look out for the next operation for about [`SPINS`] rounds and then
//! sleep. The caller works too, and never waits for a worker that has not claimed anything. Where
//! other processes want the cores, a worker may be stopped in the middle of a chunk for
//! milliseconds; when that is seen, the caller works alone for a while, and for longer where such
//! stalls cost more than sharing saves ([`Caution`]).
//!
//! What a chunk computes must not depend on who computes it; then neither the number of threads nor
//! their luck changes a result.

use std::any::Any;
use std::cell::UnsafeCell;
use std::fmt;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::caution::Caution;

/// Rounds (of a few nanoseconds to some forty, by processor) a worker looks out before it sleeps.
const SPINS: u32 = 20_000;

/// Rounds the caller waits for the last chunks before it lets other threads run.
const PATIENCE: u32 = 2_000;

/// The shortest wait for a worker's last chunk that says it was stopped, if it is also many times
/// as long as the caller's own chunks took.
const STALLED: Duration = Duration::from_micros(200);
const STALLED_CHUNKS: u32 = 4;

/// A fixed number of threads, the caller's included.
///
/// Made once and shared. If two callers want it at the same time, the second does its work alone.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held while an operation runs.
    busy: Mutex<()>,
}

struct Shared {
    /// Number of the operation in the upper half, chunks left to claim in the lower.
    claims: AtomicU64,
    /// Chunks that are not done.
    pending: AtomicUsize,
    job: UnsafeCell<Job>,
    sleeping: AtomicUsize,
    /// Whether sharing has paid so far, and since when it counts time.
    caution: Caution,
    epoch: Instant,
    stop: AtomicBool,
    /// What the first chunk that panicked left behind.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written only by the caller that holds `Pool::busy` while no chunk is left to
// claim and none is pending, and read only by a thread that has claimed a chunk, which makes it
// pending until after the last read. The claim (an acquiring exchange on `claims`) orders the read
// behind the write, which a releasing store on `claims` follows.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in `job` is to something `Sync`.
unsafe impl Send for Shared {}

/// A slice that threads take their own parts of.
struct Parts<T>(*mut T);

// SAFETY: see `Parts::slice`.
unsafe impl<T: Send> Sync for Parts<T> {}

impl<T> Parts<T> {
    /// A part of the slice.
    ///
    /// # Safety
    /// It lies inside the slice, which is exclusively borrowed for as long, and nobody else has a
    /// part that overlaps.
    #[expect(clippy::mut_from_ref, reason = "parts are disjoint by contract")]
    unsafe fn slice(&self, begin: usize, len: usize) -> &mut [T] {
        // SAFETY: passed on from the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(begin), len) }
    }
}

/// The operation under way: a borrowed closure without its lifetime.
#[derive(Clone, Copy)]
struct Job {
    work: *const (dyn Fn(usize) + Sync),
    chunks: usize,
}

impl Pool {
    /// A pool of `threads` threads, of which `threads - 1` are started now. Where the system
    /// refuses to start one, the pool is smaller ([`Pool::threads`]).
    #[must_use]
    pub fn new(threads: usize) -> Self {
        fn nothing(_: usize) {}
        let work: &'static (dyn Fn(usize) + Sync) = &nothing;
        let shared = Arc::new(Shared {
            claims: AtomicU64::new(0),
            pending: AtomicUsize::new(0),
            job: UnsafeCell::new(Job { work, chunks: 0 }),
            sleeping: AtomicUsize::new(0),
            caution: Caution::new(),
            epoch: Instant::now(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let workers = (1..threads).map_while(|index| {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("cwm-kernels-{index}"))
                .spawn(move || shared.serve())
                .ok()
        });
        Self {
            workers: workers.collect(),
            shared,
            busy: Mutex::new(()),
        }
    }

    /// A pool that starts no thread: the caller does everything.
    #[must_use]
    pub fn solo() -> Self {
        Self::new(1)
    }

    /// Threads that work, the caller's included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` once for each chunk of `chunk_len` elements of `data` (the last may be shorter)
    /// with its number, as [`Pool::run`] does.
    ///
    /// # Panics
    /// When a call panics, or `chunk_len` is 0.
    pub fn for_each_chunk<T: Send>(
        &self,
        data: &mut [T],
        chunk_len: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let len = data.len();
        let parts = Parts(data.as_mut_ptr());
        self.run(len.div_ceil(chunk_len), &|chunk| {
            let begin = chunk * chunk_len;
            // SAFETY: chunks do not overlap, each number is passed once, and `data` is borrowed
            // until all calls have returned.
            let part = unsafe { parts.slice(begin, chunk_len.min(len - begin)) };
            work(chunk, part);
        });
    }

    /// Calls `work` once for each of `0..chunks`, in any order and on any thread, and returns when
    /// all calls have. No call may wait for another: they may all run on one thread.
    ///
    /// # Panics
    /// When a call panics: with its message, after the others are done.
    pub fn run(&self, chunks: usize, work: &(dyn Fn(usize) + Sync)) {
        let alone = self.workers.is_empty()
            || chunks < 2
            || self.shared.caution.is_alone(|| self.shared.now());
        let busy = if alone {
            None
        } else {
            self.busy.try_lock().ok()
        };
        let Some(_busy) = busy else {
            return (0..chunks).for_each(work);
        };
        let shared = &*self.shared;
        // SAFETY: only the lifetime is dropped, and this function does not return (nor unwind, see
        // `finish`) before every claimed chunk is done and none is left to claim.
        let work = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync), *const (dyn Fn(usize) + Sync)>(
                work,
            )
        };
        // A chunk count beyond 32 bits would not fit the counter; no operation comes near it.
        assert!(chunks < u32::MAX as usize, "too many chunks: {chunks}");
        // SAFETY: no chunk is pending and none can be claimed: the last operation of this pool was
        // waited for, and `busy` keeps other callers out.
        unsafe { *shared.job.get() = Job { work, chunks } };
        shared.pending.store(chunks, Ordering::Relaxed);
        let number = (shared.claims.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        shared
            .claims
            .store(number << 32 | chunks as u64, Ordering::SeqCst);
        if shared.sleeping.load(Ordering::SeqCst) > 0 {
            self.workers
                .iter()
                .for_each(|worker| worker.thread().unpark());
        }
        let began = Instant::now();
        let mut own = 0;
        while shared.work_on_one() {
            own += 1;
        }
        shared.finish(began, own);
    }
}

impl Shared {
    /// Nanoseconds since the pool was made.
    fn now(&self) -> u64 {
        nanoseconds(self.epoch.elapsed())
    }

    /// The life of a worker.
    fn serve(&self) {
        let mut idle = 0;
        while !self.stop.load(Ordering::Relaxed) {
            if self.work_on_one() {
                idle = 0;
            } else if idle < SPINS {
                idle += 1;
                spin_loop();
            } else {
                self.sleep();
                idle = 0;
            }
        }
    }

    /// Sleeps until there may be work. The caller publishes work before it counts sleepers, and a
    /// worker counts itself before it looks for work, so one of the two sees the other.
    fn sleep(&self) {
        self.sleeping.fetch_add(1, Ordering::SeqCst);
        let nothing = self.claims.load(Ordering::SeqCst) as u32 == 0;
        if nothing && !self.stop.load(Ordering::SeqCst) {
            thread::park();
        }
        self.sleeping.fetch_sub(1, Ordering::SeqCst);
    }

    /// Claims a chunk and does it; false if there was none.
    fn work_on_one(&self) -> bool {
        let mut seen = self.claims.load(Ordering::Relaxed);
        let left = loop {
            let left = seen as u32 as usize;
            if left == 0 {
                return false;
            }
            match self.claims.compare_exchange_weak(
                seen,
                seen - 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => break left,
                Err(now) => seen = now,
            }
        };
        // SAFETY: the chunk is claimed and pending, so the job is not replaced, and what it points
        // to lives, until `pending` is lowered below.
        let (job, work) = unsafe {
            let job = *self.job.get();
            (job, &*job.work)
        };
        let result = catch_unwind(AssertUnwindSafe(|| work(job.chunks - left)));
        if let Err(panic) = result {
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(panic);
        }
        self.pending.fetch_sub(1, Ordering::Release);
        true
    }

    /// Waits until every chunk is done, and passes a panic on. The caller has done `own` chunks since
    /// it `began`.
    fn finish(&self, began: Instant, own: u32) {
        let busy = began.elapsed();
        let mut waited = 0;
        while self.pending.load(Ordering::Acquire) > 0 {
            waited += 1;
            if waited < PATIENCE {
                spin_loop();
            } else {
                thread::yield_now();
            }
        }
        // A wait within the caller's patience is too short to be a stall.
        let lost = match waited {
            PATIENCE.. => began.elapsed() - busy,
            _ => Duration::ZERO,
        };
        if lost > STALLED.max(busy / own.max(1) * STALLED_CHUNKS) {
            self.caution.stalled(self.now(), nanoseconds(lost));
        } else {
            // The others have worked for about as long as the caller.
            self.caution.saved(nanoseconds(busy));
        }
        let mut panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(panic) = panic.take() {
            resume_unwind(panic);
        }
    }
}

/// A time in whole nanoseconds, of which 64 bits hold centuries.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches what chunks throw, so there is no panic to pass on.
            let _ = worker.join();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pool: &Pool, chunks: usize) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
        pool.run(chunks, &|chunk| {
            counts[chunk].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_chunk_is_done_once_by_any_number_of_threads() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for chunks in (0..40).chain([1_000]) {
                assert_eq!(counts(&pool, chunks), vec![1; chunks], "{threads} threads");
            }
        }
    }

    #[test]
    fn every_part_of_a_slice_is_visited_once() {
        let pool = Pool::new(3);
        for len in [0, 1, 7, 100] {
            let mut data = vec![0; len];
            pool.for_each_chunk(&mut data, 7, |chunk, part| {
                assert_eq!(part.len(), 7.min(len - chunk * 7));
                part.iter_mut().for_each(|x| *x += chunk + 1);
            });
            let want: Vec<usize> = (0..len).map(|at| at / 7 + 1).collect();
            assert_eq!(data, want);
        }
    }

    #[test]
    fn workers_that_sleep_are_woken() {
        let pool = Pool::new(3);
        for _ in 0..3 {
            while pool.shared.sleeping.load(Ordering::SeqCst) < 2 {
                thread::yield_now();
            }
            // Two chunks that wait for each other, which no other caller may do, need two threads.
            pool.shared.caution.forgive();
            let met = AtomicUsize::new(0);
            pool.run(2, &|_| {
                met.fetch_add(1, Ordering::SeqCst);
                while met.load(Ordering::SeqCst) < 2 {
                    thread::yield_now();
                }
            });
        }
    }

    #[test]
    fn callers_on_many_threads_all_get_their_work_done() {
        let pool = Pool::new(2);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..200).for_each(|_| assert_eq!(counts(&pool, 9), [1; 9])));
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(8, &|chunk| assert!(chunk != 5, "chunk five"));
        }));
        let message = *caught.unwrap_err().downcast::<&str>().unwrap();
        assert_eq!(message, "chunk five");
        assert_eq!(counts(&pool, 8), [1; 8]);
    }
}
