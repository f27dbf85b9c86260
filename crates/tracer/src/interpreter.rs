//! Finding a CPython that can be traced.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Collector, Error, Limits, Worker};

/// The oldest version whose trace events the collector understands.
const OLDEST: (u8, u8) = (3, 8);

/// Prints one line that only an interpreter could print: implementation, version, real path.
const PROBE: &str = "import sys; v = sys.version_info; \
    print('cwm', getattr(sys, 'implementation', sys).name, v[0], v[1], v[2], sys.executable)";

/// A CPython that was run once and answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The executable itself, launchers such as version managers' shims resolved.
    pub path: PathBuf,
    /// Version: major, minor, micro.
    pub version: (u8, u8, u8),
}

impl Interpreter {
    /// The chosen interpreter (a path, or a name on the `PATH`), or else the first of `python3` and
    /// `python` on the `PATH` that works.
    ///
    /// # Errors
    /// [`Error::NoPython`] when nothing was chosen and nothing is installed; otherwise what is wrong
    /// with the chosen one, or with the last one tried.
    pub fn find(choice: Option<&Path>) -> Result<Self, Error> {
        if let Some(path) = choice {
            return Self::probe(path);
        }
        let mut outcome = Err(Error::NoPython);
        for name in ["python3", "python"] {
            match Self::probe(Path::new(name)) {
                Ok(found) => return Ok(found),
                Err(Error::CannotStart { source, .. })
                    if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Version as text, such as `3.11.7`.
    pub fn version_text(&self) -> String {
        let (major, minor, micro) = self.version;
        format!("{major}.{minor}.{micro}")
    }

    /// What will handle the events when this interpreter is traced: starts it once to see.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn collector(&self) -> Result<Collector, Error> {
        Ok(Worker::start(self, &Limits::default())?.collector())
    }

    fn probe(path: &Path) -> Result<Self, Error> {
        let output = Command::new(path)
            .args(["-S", "-c", PROBE])
            .stdin(Stdio::null())
            .output()
            .map_err(|source| Error::CannotStart {
                path: path.to_owned(),
                source,
            })?;
        let said = String::from_utf8_lossy(&output.stdout);
        let Some((implementation, version, executable)) = parse_probe(&said) else {
            let heard = if said.trim().is_empty() {
                String::from_utf8_lossy(&output.stderr).into_owned()
            } else {
                said.into_owned()
            };
            return Err(Error::NotCPython {
                path: path.to_owned(),
                said: last_line(&heard),
            });
        };
        if (version.0, version.1) < OLDEST {
            return Err(Error::OldPython {
                path: path.to_owned(),
                version,
            });
        }
        if implementation != "cpython" {
            let said = format!("it is {implementation}");
            return Err(Error::NotCPython {
                path: path.to_owned(),
                said,
            });
        }
        // An embedded or oddly built interpreter may not know its own path.
        let resolved = if executable.is_empty() {
            path
        } else {
            Path::new(executable)
        };
        Ok(Self {
            path: resolved.to_owned(),
            version,
        })
    }
}

type Version = (u8, u8, u8);

fn parse_probe(said: &str) -> Option<(&str, Version, &str)> {
    let line = said.lines().last()?.strip_prefix("cwm ")?;
    let mut fields = line.splitn(5, ' ');
    let implementation = fields.next()?;
    let mut number = || fields.next()?.parse::<u8>().ok();
    let version = (number()?, number()?, number()?);
    Some((implementation, version, fields.next().unwrap_or_default()))
}

fn last_line(text: &str) -> String {
    let line = text.lines().rfind(|line| !line.trim().is_empty());
    line.map_or_else(
        || "it printed nothing".to_owned(),
        |line| format!("it said `{}`", line.trim()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_answers_are_parsed_and_other_output_is_not() {
        assert_eq!(
            parse_probe("cwm cpython 3 11 7 /opt/my python/bin/python3\n"),
            Some(("cpython", (3, 11, 7), "/opt/my python/bin/python3"))
        );
        assert_eq!(parse_probe("cwm cpython 3 11\n"), None);
        assert_eq!(parse_probe("GNU bash, version 5\n"), None);
        assert_eq!(parse_probe(""), None);
    }
}
