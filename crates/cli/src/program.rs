//! The flags that name a program, and running it for real.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cwm_trace::{Entry, Trace};
use cwm_tracer::{Interpreter, Limits, ModuleRequest, Request, check_syntax};

/// A program and its entry scope.
#[derive(clap::Args)]
pub(crate) struct ProgramArgs {
    /// Python file
    pub(crate) file: PathBuf,
    /// Function to enter; without it the file runs as a script
    #[arg(long, value_name = "FUNC")]
    pub(crate) entry: Option<String>,
    /// Its arguments as Python source, such as "3, sep=','"
    #[arg(
        long,
        value_name = "ARGS",
        requires = "entry",
        allow_hyphen_values = true
    )]
    pub(crate) args: Option<String>,
}

impl ProgramArgs {
    /// Text of the file.
    pub(crate) fn source(&self) -> Result<String> {
        let shown = self.file.display();
        let bytes = std::fs::read(&self.file).with_context(|| format!("cannot read `{shown}`"))?;
        let Ok(source) = String::from_utf8(bytes) else {
            bail!("`{shown}` is not UTF-8 text, so it is no Python file this tool can read");
        };
        ensure!(
            !source.contains('\0'),
            "`{shown}` contains null bytes, so it is no Python file"
        );
        Ok(source)
    }

    /// Text of the file as a model sees it: with plain newlines and without a
    /// byte order mark. It must compile if there is an interpreter to say so;
    /// nothing of it is executed.
    pub(crate) fn checked_source(&self, python: Option<&Path>) -> Result<String> {
        let text = self.source()?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let source = text.replace("\r\n", "\n").replace('\r', "\n");
        match Interpreter::find(python) {
            Ok(interpreter) => check_syntax(&interpreter, &self.file_text(), &source)?,
            Err(error) if python.is_some() => return Err(error.into()),
            Err(_) => {}
        }
        Ok(source)
    }

    /// Which scope to enter.
    pub(crate) fn entry(&self) -> Entry {
        match &self.entry {
            None => Entry::Module,
            Some(function) => Entry::Call {
                function: function.clone(),
                args: self.args.clone().unwrap_or_default(),
            },
        }
    }

    pub(crate) fn file_text(&self) -> String {
        self.file.display().to_string()
    }
}

/// How a program is run for real.
#[derive(clap::Args)]
pub(crate) struct RunArgs {
    /// File the program reads as standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) stdin: Option<PathBuf>,
    /// Python interpreter, 3.8 or later [default: python3 on the PATH]
    #[arg(long, value_name = "PATH")]
    pub(crate) python: Option<PathBuf>,
    /// Events to record before the program is stopped
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_events)]
    pub(crate) max_events: u64,
    /// Seconds before the program is stopped
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub(crate) timeout: f64,
}

impl RunArgs {
    /// Runs the program and records it.
    pub(crate) fn trace(&self, file: &str, source: &str, entry: Entry) -> Result<Trace> {
        self.trace_with(file, source, entry, &[])
    }

    /// The same with arguments for the program itself.
    pub(crate) fn trace_with(
        &self,
        file: &str,
        source: &str,
        entry: Entry,
        arguments: &[String],
    ) -> Result<Trace> {
        self.recorded(file, source, entry, arguments, cwm_tracer::trace)
    }

    /// The same with all threads: the main one's trace first.
    pub(crate) fn trace_threads(
        &self,
        file: &str,
        source: &str,
        entry: Entry,
        arguments: &[String],
    ) -> Result<Vec<Trace>> {
        self.recorded(file, source, entry, arguments, cwm_tracer::trace_threads)
    }

    /// What `record` makes of the program.
    fn recorded<T>(
        &self,
        file: &str,
        source: &str,
        entry: Entry,
        arguments: &[String],
        record: impl Fn(&Interpreter, &Request<'_>, &Limits) -> Result<T, cwm_tracer::Error>,
    ) -> Result<T> {
        let stdin = self.stdin()?;
        let interpreter = Interpreter::find(self.python.as_deref())?;
        let request = Request {
            file,
            source,
            entry,
            stdin: &stdin,
            arguments,
        };
        Ok(record(&interpreter, &request, &self.limits()?)?)
    }

    /// Runs a module, looked for in the current folder first, and records it.
    pub(crate) fn trace_module(&self, module: &str, arguments: &[String]) -> Result<Trace> {
        self.recorded_module(module, arguments, cwm_tracer::trace_module)
    }

    /// The same with all threads: the main one's trace first.
    pub(crate) fn trace_module_threads(
        &self,
        module: &str,
        arguments: &[String],
    ) -> Result<Vec<Trace>> {
        self.recorded_module(module, arguments, cwm_tracer::trace_module_threads)
    }

    /// What `record` makes of a module.
    fn recorded_module<T>(
        &self,
        module: &str,
        arguments: &[String],
        record: impl Fn(&Interpreter, &ModuleRequest<'_>, &Limits) -> Result<T, cwm_tracer::Error>,
    ) -> Result<T> {
        let stdin = self.stdin()?;
        let interpreter = Interpreter::find(self.python.as_deref())?;
        let folder = std::env::current_dir().context("cannot find the current folder")?;
        let request = ModuleRequest {
            module,
            folder: &folder,
            stdin: &stdin,
            arguments,
        };
        Ok(record(&interpreter, &request, &self.limits()?)?)
    }

    fn stdin(&self) -> Result<Vec<u8>> {
        match &self.stdin {
            None => Ok(Vec::new()),
            Some(path) => read(path),
        }
    }

    /// What programs read and the interpreter to run them, for those who run many.
    pub(crate) fn parts(&self) -> Result<(Vec<u8>, Interpreter, Limits)> {
        let interpreter = Interpreter::find(self.python.as_deref())?;
        Ok((self.stdin()?, interpreter, self.limits()?))
    }

    fn limits(&self) -> Result<Limits> {
        let usable = self.timeout.is_finite() && self.timeout > 0.0 && self.timeout < 1e6;
        ensure!(
            usable,
            "--timeout must be a positive number of seconds, not {}",
            self.timeout
        );
        let timeout = Duration::from_secs_f64(self.timeout);
        Ok(Limits {
            max_events: self.max_events,
            timeout,
            ..Limits::default()
        })
    }
}

/// One thread per processor.
pub(crate) fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Reads a file, naming it on failure.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
}
