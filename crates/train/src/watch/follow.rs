//! Follows a log while it grows.
//!
//! Promises: every event that counts is delivered once and in order, however the file grows between
//! two looks; lines that a kill left unfinished, and steps that were redone after a resumption, are
//! not delivered. Where what was delivered no longer counts (a resumption, another file under the same
//! name), the reader is told to forget it, and gets everything anew. A line counts once it has its end.
//! Memory is that of the longest line, whatever the length of the log.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::event::LogEvent;
use crate::{Error, LOG_FILE};

/// Bytes by which a file is recognised. The first step is among them, whose duration differs between
/// two runs that are alike in all else.
const HEAD_BYTES: u64 = 4096;

/// What a look at the log brings.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// What was delivered before does not count any more.
    Restart,
    /// The next event that counts.
    Event(Box<LogEvent>),
}

/// A place in a log.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    /// End of the last line that was delivered.
    offset: u64,
    /// The beginning of what was read, at most [`HEAD_BYTES`].
    head: Vec<u8>,
    /// The newest step that was delivered.
    newest: Option<u64>,
    /// Events delivered, those of unknown kinds not counted.
    events: u64,
    modified: Option<SystemTime>,
}

impl Follower {
    /// The log of the run in the folder `run`, or the log `run` itself. It need not be there yet.
    pub fn new(run: &Path) -> Self {
        let path = match run.is_file() {
            true => run.to_path_buf(),
            false => run.join(LOG_FILE),
        };
        Self {
            path,
            offset: 0,
            head: Vec::new(),
            newest: None,
            events: 0,
            modified: None,
        }
    }

    /// The file that is followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// When the log was last written to, by the clock of its file system.
    pub fn modified(&self) -> Option<SystemTime> {
        self.modified
    }

    /// Delivers what has come since the last look, and says whether that was anything. A log that is
    /// not there brings nothing.
    ///
    /// # Errors
    /// When the log cannot be read, or is not that of a training run.
    pub fn poll(&mut self, sink: &mut dyn FnMut(News)) -> Result<bool, Error> {
        let path = self.path.clone();
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let had = self.events;
        let lines = self
            .read(&mut file, sink)
            .map_err(Error::io("read", &path))?;
        if self.events == 0 && lines.is_foreign {
            return Err(Error::NotALog { path });
        }
        Ok(lines.restarted || self.events != had)
    }

    fn read(&mut self, file: &mut File, sink: &mut dyn FnMut(News)) -> std::io::Result<Looked> {
        let metadata = file.metadata()?;
        self.modified = metadata.modified().ok();
        let length = metadata.len();
        let mut looked = Looked::default();
        if !self.is_same(file, length)? {
            looked.restarted = self.restart(sink);
        }
        if self.offset == 0 && length > 0 && first_byte(file)? != b'{' {
            looked.is_foreign = true;
            return Ok(looked);
        }
        let mut part = scan(file, self.offset, length)?;
        let kept = part.resumptions.iter().map(|&(_, step)| step).min();
        if kept.is_some_and(|step| self.newest > Some(step)) {
            looked.restarted |= self.restart(sink);
            part = scan(file, 0, length)?;
        }
        looked.is_foreign = self.deliver(file, part, sink)?;
        self.remember_head(file)?;
        Ok(looked)
    }

    /// Whether the file still begins with what was read, and is not shorter.
    fn is_same(&self, file: &mut File, length: u64) -> std::io::Result<bool> {
        Ok(length >= self.offset && bytes(file, 0, self.head.len() as u64)? == self.head)
    }

    fn restart(&mut self, sink: &mut dyn FnMut(News)) -> bool {
        let any = self.offset > 0;
        self.offset = 0;
        self.head.clear();
        self.newest = None;
        self.events = 0;
        if any {
            sink(News::Restart);
        }
        any
    }

    /// Delivers the events of `part` that count, and says whether a line was none.
    fn deliver(
        &mut self,
        file: &mut File,
        part: Part,
        sink: &mut dyn FnMut(News),
    ) -> std::io::Result<bool> {
        let mut is_foreign = false;
        let mut ahead = part.horizons();
        for_each_line(file, part.begin, part.end, &mut |at, line| {
            while ahead
                .front()
                .is_some_and(|&(resumed_at, _)| resumed_at <= at)
            {
                ahead.pop_front();
            }
            let event = LogEvent::parse(line);
            is_foreign |= !matches!(&event, Some(event) if *event != LogEvent::Other)
                && !line.trim_ascii().is_empty();
            let Some(event) = event else { return };
            let step = event.step();
            let counts = ahead.front().is_none_or(|&(_, kept)| step <= Some(kept));
            if event == LogEvent::Other || !counts {
                return;
            }
            self.events += 1;
            self.newest = match event {
                LogEvent::Start(_) => None,
                _ => self.newest.max(step),
            };
            sink(News::Event(Box::new(event)));
        })?;
        self.offset = part.end;
        Ok(is_foreign)
    }

    fn remember_head(&mut self, file: &mut File) -> std::io::Result<()> {
        if (self.head.len() as u64) < HEAD_BYTES {
            self.head = bytes(file, 0, self.offset.min(HEAD_BYTES))?;
        }
        Ok(())
    }
}

/// What a look came upon.
#[derive(Default)]
struct Looked {
    restarted: bool,
    /// Whether there was a whole line that is no event.
    is_foreign: bool,
}

/// Whole lines of a log.
struct Part {
    /// The last start, or where the part begins.
    begin: u64,
    /// End of the last whole line.
    end: u64,
    /// Where the log says that the run went on, and from which step.
    resumptions: Vec<(u64, u64)>,
}

impl Part {
    /// For each resumption, the last step that counts of what stands above it: a later resumption
    /// from an earlier step undoes more.
    fn horizons(&self) -> VecDeque<(u64, u64)> {
        let mut least = u64::MAX;
        let mut horizons = VecDeque::with_capacity(self.resumptions.len());
        for &(at, step) in self.resumptions.iter().rev() {
            least = least.min(step);
            horizons.push_front((at, least));
        }
        horizons
    }
}

/// Finds the whole lines from `from` on, and the resumptions among them.
fn scan(file: &mut File, from: u64, length: u64) -> std::io::Result<Part> {
    let mut part = Part {
        begin: from,
        end: from,
        resumptions: Vec::new(),
    };
    for_each_line(file, from, length, &mut |at, line| {
        part.end = at + line.len() as u64;
        // Most lines are steps, and parsing each of them twice would double the time.
        let is_mark = std::str::from_utf8(line)
            .is_ok_and(|text| text.contains("\"resume\"") || text.contains("\"start\""));
        if !is_mark {
            return;
        }
        match LogEvent::parse(line) {
            Some(LogEvent::Start(_)) => {
                part.begin = at;
                part.resumptions.clear();
            }
            Some(LogEvent::Resume(line)) => part.resumptions.push((at, line.step)),
            _ => {}
        }
    })?;
    Ok(part)
}

/// Calls `each` with the place of every line that is whole, and the line with its end.
fn for_each_line(
    file: &mut File,
    from: u64,
    to: u64,
    each: &mut dyn FnMut(u64, &[u8]),
) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::with_capacity(1 << 16, file.take(to.saturating_sub(from)));
    let (mut at, mut line) = (from, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Ok(());
        }
        each(at, &line);
        at += read as u64;
    }
}

fn bytes(file: &mut File, from: u64, count: u64) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(count).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn first_byte(file: &mut File) -> std::io::Result<u8> {
    Ok(bytes(file, 0, 1)?.first().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::super::{RunState, Watch};
    use super::*;

    /// A log in a folder, and what a reader of it knows.
    struct Fixture {
        dir: tempfile::TempDir,
        follower: Follower,
        known: Vec<String>,
        restarts: usize,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("temporary folder");
            let follower = Follower::new(dir.path());
            Self {
                dir,
                follower,
                known: Vec::new(),
                restarts: 0,
            }
        }

        fn write(&self, text: &str) {
            std::fs::write(self.dir.path().join(LOG_FILE), text).expect("writes");
        }

        fn append(&self, bytes: &[u8]) {
            let mut options = File::options();
            let file = options.create(true).append(true);
            let mut file = file.open(self.dir.path().join(LOG_FILE)).expect("opens");
            file.write_all(bytes).expect("writes");
        }

        fn poll(&mut self) -> bool {
            let (known, restarts) = (&mut self.known, &mut self.restarts);
            let polled = self.follower.poll(&mut |news| match news {
                News::Restart => {
                    known.clear();
                    *restarts += 1;
                }
                News::Event(event) => {
                    if matches!(*event, LogEvent::Start(_)) {
                        known.clear();
                    }
                    known.push(word(&event));
                }
            });
            polled.expect("a log")
        }
    }

    fn word(event: &LogEvent) -> String {
        match event {
            LogEvent::Start(_) => "start".into(),
            LogEvent::Resume(line) => format!("resume {}", line.step),
            LogEvent::Step(line) => format!("step {} {:?}", line.step, line.loss),
            LogEvent::Checkpoint(line) => format!("checkpoint {}", line.step),
            other => format!("{other:?}"),
        }
    }

    fn history(dir: &Path) -> Vec<String> {
        let events = crate::history(dir).expect("reads");
        let words = events.iter().map(|event| {
            let event = LogEvent::parse(event.to_string().as_bytes());
            word(&event.expect("an event"))
        });
        words.collect()
    }

    const START: &str = "{\"event\":\"start\",\"steps\":9}\n";

    #[test]
    fn a_line_counts_once_it_is_whole() {
        let mut fixture = Fixture::new();
        assert!(!fixture.poll());
        fixture.append(START.as_bytes());
        fixture.append(b"{\"event\":\"step\",\"step\":1");
        assert!(fixture.poll());
        assert_eq!(fixture.known, ["start"]);
        assert!(!fixture.poll());
        fixture.append(b",\"loss\":2.5}\n");
        assert!(fixture.poll());
        assert_eq!(fixture.known, ["start", "step 1 Some(2.5)"]);
        assert_eq!(fixture.restarts, 0);
    }

    #[test]
    fn a_resumption_takes_back_what_was_told() {
        let mut fixture = Fixture::new();
        fixture.append(START.as_bytes());
        fixture.append(b"{\"event\":\"step\",\"step\":1}\n{\"event\":\"step\",\"step\":2}\n{\"ev");
        fixture.poll();
        assert_eq!(fixture.known.len(), 3);
        fixture.append(b"\n{\"event\":\"resume\",\"step\":1}\n");
        fixture.poll();
        assert_eq!(fixture.known, ["start", "step 1 None", "resume 1"]);
        assert_eq!(fixture.restarts, 1);
        // One that undoes nothing needs no new beginning.
        fixture.append(b"{\"event\":\"resume\",\"step\":1}\n");
        fixture.poll();
        assert_eq!(fixture.restarts, 1);
        assert_eq!(fixture.known.len(), 4);
    }

    #[test]
    fn another_file_under_the_name_is_read_from_its_beginning() {
        let mut fixture = Fixture::new();
        fixture.write(&format!(
            "{START}{{\"event\":\"step\",\"step\":1,\"loss\":3}}\n"
        ));
        fixture.poll();
        // Shorter, then as long as what was read but different.
        fixture.write(START);
        assert!(fixture.poll());
        assert_eq!(fixture.known, ["start"]);
        fixture.write(&START.replace('9', "8"));
        assert!(fixture.poll());
        assert_eq!(fixture.restarts, 2);
        // Gone, then back: nothing is lost or told twice.
        std::fs::remove_file(fixture.follower.path()).expect("removes");
        assert!(!fixture.poll());
        fixture.write(&START.replace('9', "8"));
        assert!(!fixture.poll());
        assert_eq!(fixture.known, ["start"]);
    }

    #[test]
    fn what_another_program_wrote_is_refused() {
        for text in ["hello\n", "\u{0}\u{1}", "{\"level\":\"info\"}\n"] {
            let mut fixture = Fixture::new();
            fixture.write(text);
            let error = fixture.follower.poll(&mut |_| {}).expect_err("no log");
            assert!(error.to_string().contains("is not the log"), "{error}");
        }
        let mut fixture = Fixture::new();
        fixture.write("{\"event\":\"sta");
        assert!(!fixture.poll());
    }

    /// The text of a log in which a run is killed and resumed again and again.
    fn log() -> impl Strategy<Value = String> {
        let part = (1_u64..6, 0_u64..8, any::<bool>(), any::<bool>());
        prop::collection::vec(part, 0..6).prop_map(|parts| {
            let mut text = START.to_owned();
            let (mut step, mut draw) = (0_u64, 0);
            for (steps, back, is_torn, is_new) in parts {
                for _ in 0..steps {
                    step += 1;
                    draw += 1;
                    let line = format!(
                        "{{\"event\":\"step\",\"step\":{step},\"loss\":{draw}}}\n\
                         {{\"event\":\"checkpoint\",\"step\":{step},\"name\":\"c\"}}\n"
                    );
                    text.push_str(&line);
                }
                if is_torn {
                    text.push_str("{\"event\":\"step\",\"st\n");
                }
                step = step.saturating_sub(back);
                if is_new && back == 7 {
                    step = 0;
                    text.push_str(START);
                } else {
                    text.push_str(&format!("{{\"event\":\"resume\",\"step\":{step}}}\n"));
                }
            }
            text
        })
    }

    proptest! {
        #[test]
        fn anything_can_be_read(
            lines in prop::collection::vec(
                prop_oneof![
                    any::<String>(),
                    "\\{\"event\":\"(start|step|resume|evaluation|end)\",\"step\":[0-9]{1,20},\
                     \"(tokens|steps|loss|seconds)\":(-?[0-9]{1,20}|null|[0-9]e[0-9]{1,3})\\}",
                ],
                0..12,
            ),
        ) {
            let fixture = Fixture::new();
            let mut watch = Watch::new(fixture.dir.path());
            for line in lines {
                fixture.append(format!("{line}\n").as_bytes());
                if let Err(error) = watch.poll() {
                    prop_assert!(matches!(error, Error::NotALog { .. }), "{error}");
                }
            }
            let figures = watch.figures(SystemTime::UNIX_EPOCH, Some(1.0));
            prop_assert!(!figures.lines().is_empty());
        }

        #[test]
        fn chunks_make_no_difference(text in log(), mut cuts in prop::collection::vec(0_usize..2000, 0..8)) {
            let mut fixture = Fixture::new();
            let mut watch = Watch::new(fixture.dir.path());
            cuts.iter_mut().for_each(|cut| *cut = (*cut).min(text.len()));
            cuts.push(text.len());
            cuts.sort_unstable();
            let mut from = 0;
            for cut in cuts {
                fixture.append(&text.as_bytes()[from..cut]);
                fixture.poll();
                watch.poll().expect("a log");
                from = cut;
            }
            prop_assert_eq!(&fixture.known, &history(fixture.dir.path()));
            let mut state = RunState::default();
            for event in crate::history(fixture.dir.path()).expect("reads") {
                state.push(&LogEvent::parse(event.to_string().as_bytes()).expect("an event"));
            }
            prop_assert_eq!(watch.state(), &state);
        }
    }
}
