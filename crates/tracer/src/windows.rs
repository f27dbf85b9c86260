//! The file that the logs of a program's threads share.
//!
//! It is made of windows: the first, of 64 KiB, is the main thread's; further ones are at distances of 1 MiB
//! and begin with the number of their thread and their size, two 32-bit numbers. A thread's log is what its
//! windows hold, in order. It begins with the number of bytes that are whole, a 64-bit number. All numbers are
//! little-endian. Everything is written by the traced process, which may do as it likes: what makes no
//! sense ends the reading and is no error.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const FIRST_WINDOW: u64 = 64 << 10;
const WINDOW: u64 = 1 << 20;
const HEAD: u64 = 8;

/// The log of the main thread, as far as it is whole.
///
/// # Errors
/// Those of reading the file.
pub(crate) fn main_log(file: &File) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    let mut log = part(file, 0, FIRST_WINDOW.min(size))?;
    for window in windows(file, size)?.remove(&0).unwrap_or_default() {
        if wanted(&log) <= log.len() {
            break;
        }
        log.extend(part(file, window.start, window.size)?);
    }
    Ok(whole(log))
}

/// The logs of the other threads, by their number.
///
/// # Errors
/// Those of reading the file.
pub(crate) fn other_logs(file: &File) -> io::Result<Vec<(u32, Vec<u8>)>> {
    let mut threads = windows(file, file.metadata()?.len())?;
    threads.remove(&0);
    let read = |(number, windows): (u32, Vec<Window>)| {
        let mut log = Vec::new();
        for window in windows {
            log.extend(part(file, window.start, window.size)?);
        }
        Ok((number, whole(log)))
    };
    threads.into_iter().map(read).collect()
}

/// What a window holds behind its head.
struct Window {
    start: u64,
    size: u64,
}

/// By thread: its windows, that at the beginning of the file aside.
fn windows(file: &File, size: u64) -> io::Result<BTreeMap<u32, Vec<Window>>> {
    let mut found = BTreeMap::<u32, Vec<Window>>::new();
    let mut at = FIRST_WINDOW;
    while at + HEAD <= size {
        let head = part(file, at, HEAD)?;
        let number = |from: usize| {
            head[from..from + 4]
                .iter()
                .rev()
                .fold(0, |n, &b| n << 8 | u32::from(b))
        };
        let end = at + u64::from(number(4));
        if number(4) as u64 <= WINDOW && at + HEAD < end && end <= size {
            let start = at + HEAD;
            let window = Window {
                start,
                size: end - start,
            };
            found.entry(number(0)).or_default().push(window);
        }
        at += WINDOW;
    }
    Ok(found)
}

fn part(file: &File, start: u64, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

/// How long a log is with its number, by that number.
fn wanted(log: &[u8]) -> usize {
    let number = log
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    usize::try_from(number)
        .unwrap_or(usize::MAX)
        .saturating_add(8)
}

/// The log without its number and what is not whole.
fn whole(mut log: Vec<u8>) -> Vec<u8> {
    log.truncate(wanted(&log));
    log.drain(..log.len().min(8));
    log
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A file of a main log that goes on in a second window, and of one thread's.
    fn file() -> File {
        let mut bytes = vec![b'm'; (FIRST_WINDOW + 2 * WINDOW) as usize];
        bytes[..8].copy_from_slice(&(FIRST_WINDOW + 10 - 8).to_le_bytes());
        let mut window = |at: u64, thread: u32, size: u64, fill: u8| {
            let window = &mut bytes[at as usize..(at + size) as usize];
            window.fill(fill);
            window[..4].copy_from_slice(&thread.to_le_bytes());
            window[4..8].copy_from_slice(&(size as u32).to_le_bytes());
        };
        window(FIRST_WINDOW, 1, FIRST_WINDOW, b't');
        window(FIRST_WINDOW + WINDOW, 0, WINDOW, b'n');
        let total = FIRST_WINDOW as usize + 8;
        bytes[total..total + 8].copy_from_slice(&3u64.to_le_bytes());
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&bytes).expect("it is written");
        file
    }

    #[test]
    fn logs_are_told_apart_by_their_windows() {
        let file = file();
        let main = main_log(&file).expect("a log");
        assert_eq!(main.len() as u64, FIRST_WINDOW + 2);
        assert!(
            main.ends_with(b"mnnnnnnnnnn"),
            "{:?}",
            &main[main.len() - 12..]
        );
        assert_eq!(other_logs(&file).expect("logs"), [(1, b"ttt".to_vec())]);
    }

    #[test]
    fn nonsense_and_files_that_are_cut_off_are_no_error() {
        let file = file();
        for size in [
            0,
            3,
            8,
            100,
            FIRST_WINDOW + 3,
            FIRST_WINDOW + 100,
            FIRST_WINDOW + WINDOW + 5,
        ] {
            file.set_len(size).expect("it is cut");
            let main = main_log(&file).expect("a log");
            assert!(main.len() as u64 <= size);
            other_logs(&file).expect("logs");
        }
        file.set_len(0).expect("it is cut");
        file.write_all_at(&[255; 3 << 20], 0)
            .expect("it is written");
        assert!(main_log(&file).expect("a log").len() < 3 << 20);
        assert!(other_logs(&file).expect("logs").is_empty());
    }
}
