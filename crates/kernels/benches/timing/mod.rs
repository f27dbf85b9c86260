//! Timing that a shared machine disturbs little: the CPU time of this thread instead of the wall
//! clock, and the best of the runs beside their median.

use std::time::Duration;

/// Runs per figure.
const RUNS: usize = 21;

/// The median and the best time of one `run`, in seconds; a run is repeated `batch` times.
pub(crate) fn seconds(batch: usize, mut run: impl FnMut()) -> [f64; 2] {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = thread_time();
            (0..batch).for_each(|_| run());
            (thread_time() - start).as_secs_f64() / batch as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    [times[RUNS / 2], times[0]]
}

/// Reproducible values in -1..1.
pub(crate) fn values(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((i * 7919 % 1013) as f32 - 506.0) / 506.0)
        .collect()
}

#[cfg(unix)]
fn thread_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live `timespec`, which the call fills in.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(failed, 0, "the thread's CPU clock cannot be read");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(not(unix))]
fn thread_time() -> Duration {
    use std::sync::LazyLock;
    use std::time::Instant;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}
