//! Whether a text is Python at all, without running any of it.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::{Error, Interpreter};

/// Compiles standard input and prints what is wrong with it: line, message and text, a line each.
const COMPILE: &str = "\
import sys
source = sys.stdin.buffer.read()
try:
    compile(source, 'program', 'exec', dont_inherit=True)
except SyntaxError as error:
    text = (error.text or '').strip()
    print(error.lineno or 0, error.msg, text, sep='\\n')
except (ValueError, MemoryError, RecursionError) as error:
    print(0, error, '', sep='\\n')
";

/// Compiles `source`, executing nothing of it.
///
/// # Errors
/// [`Error::NotPython`] where it does not compile; [`Error::CannotStart`] where the interpreter does
/// not.
pub fn check_syntax(py: &Interpreter, file: &str, source: &str) -> Result<(), Error> {
    let cannot_start = |source| Error::CannotStart {
        path: py.path.clone(),
        source,
    };
    let mut child = Command::new(&py.path)
        .args(["-S", "-E", "-X", "utf8", "-W", "ignore", "-c", COMPILE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(cannot_start)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(source.as_bytes()).map_err(cannot_start)?;
    }
    let output = child.wait_with_output().map_err(cannot_start)?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut lines = said.lines();
    let Some(line) = lines.next() else {
        return Ok(());
    };
    Err(Error::NotPython {
        file: file.to_owned(),
        line: line.parse().unwrap_or(0),
        message: lines.next().unwrap_or_default().to_owned(),
        text: lines.next().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_python_compiles() {
        let Ok(py) = Interpreter::find(None) else {
            eprintln!("skipped: no interpreter");
            return;
        };
        let check = |source: &str| check_syntax(&py, "t.py", source).map_err(|e| e.to_string());
        assert_eq!(check("raise SystemExit(print('not run'))\n"), Ok(()));
        assert_eq!(check("é = 'ü'\n"), Ok(()));
        let error = check("x = 1\ndef f(:\n").unwrap_err();
        assert!(error.starts_with("t.py:2"), "{error}");
        assert!(check("a\0b").is_err());
        assert!(check(&"(".repeat(5000)).is_err());
    }
}
