//! Kernel sources as libraries of the processor: compiled once, kept beside the executable, loaded once.
//!
//! Promises: what a library is made of is in its name, so that a changed source is compiled anew;
//! processes that compile the same at once do not see half a file. No source runs twice at once, as the
//! emulator's state in C++ is static.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::{env, fs};

use libloading::Library;
use sha2::{Digest, Sha256};

use super::refused;
use crate::device::{Argument, Launch};
use crate::error::Error;
use crate::kernel::{COMMON, Kernel};

const EMULATOR: &str = include_str!("emulator.h");

/// No contraction: a kernel's products and sums round as they are written. Types are accessed as others
/// (16 bytes at a time), which a GPU's compiler allows. `emulator.h` receives what the checks find.
const OPTIONS: &[&str] = &[
    "-std=c++17",
    "-O2",
    "-fPIC",
    "-fno-strict-aliasing",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-fno-exceptions",
    "-fno-rtti",
    "-fsanitize=alignment,null,bounds",
    "-DCWM_EMULATOR",
    "-x",
    "c++",
    "-include",
    "emulator.h",
    "-c",
];

/// The address of a source, and its macros.
type Key = (usize, Vec<u32>);

/// Libraries of this process.
static LOADED: LazyLock<Mutex<HashMap<Key, Compiled>>> = LazyLock::new(Mutex::default);

/// A library, once it is loaded. The lock is held while it is compiled or runs, and it is never unloaded.
#[derive(Clone, Debug, Default)]
pub(super) struct Compiled(Arc<Mutex<Option<Library>>>);

/// A C++ compiler.
#[derive(Debug)]
pub(super) struct Compiler {
    program: String,
    /// What it says of itself.
    version: Vec<u8>,
    /// Where libraries are kept.
    folder: PathBuf,
}

/// An argument as `emulator.h` has it.
#[repr(C)]
struct RawArgument {
    kind: u32,
    word: u32,
    pointer: *mut c_void,
}

/// A launch as `emulator.h` has it.
#[repr(C)]
struct RawLaunch {
    grid: [u32; 3],
    threads: u32,
    shared_bytes: u32,
    n_arguments: u32,
    arguments: *const RawArgument,
}

impl Compiler {
    /// `$CXX`, or else one of the usual names.
    pub(super) fn find() -> Result<Self, Error> {
        let named = env::var("CXX").ok().filter(|program| !program.is_empty());
        let programs = match named {
            Some(program) => vec![program],
            None => ["c++", "g++", "clang++"].map(str::to_owned).to_vec(),
        };
        let found = programs.iter().find_map(|program| {
            let output = Command::new(program).arg("--version").output().ok()?;
            output
                .status
                .success()
                .then(|| (program.clone(), output.stdout))
        });
        let Some((program, version)) = found else {
            return Err(refused(format!(
                "no C++ compiler was found ({}); install one, or name it in CXX",
                programs.join(", ")
            )));
        };
        let executable = env::current_exe();
        let executable = executable
            .map_err(|error| refused(format!("where this program lies is unknown: {error}")))?;
        let folder = executable.with_file_name("emulated-kernels");
        fs::create_dir_all(&folder).map_err(|error| cannot_write(&folder, &error))?;
        Ok(Self {
            program,
            version,
            folder,
        })
    }

    /// The library of a kernel's source and macros, compiled if it was not.
    pub(super) fn library(&self, kernel: &Kernel) -> Result<Compiled, Error> {
        let source = std::ptr::from_ref(kernel.source).addr();
        let key: Key = (source, kernel.macros.clone());
        let compiled = {
            let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.entry(key).or_default().clone()
        };
        let mut library = compiled.0.lock().unwrap_or_else(PoisonError::into_inner);
        if library.is_none() {
            let path = self.folder.join(self.library_name(kernel));
            if !path.exists() {
                self.compile(kernel, &path)?;
            }
            // SAFETY: the library is what this process or another made of a source of this crate; its only
            // initialisers are those of constants.
            let opened = unsafe { Library::new(&path) };
            *library =
                Some(opened.map_err(|error| refused(format!("{}: {error}", path.display())))?);
        }
        drop(library);
        Ok(compiled)
    }

    fn library_name(&self, kernel: &Kernel) -> String {
        let mut hash = Sha256::new();
        hash.update(&self.version);
        for text in [&self.program, EMULATOR, COMMON, kernel.source.text] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        for option in OPTIONS
            .iter()
            .map(|&option| option.to_owned())
            .chain(kernel.options())
        {
            hash.update(option);
            hash.update([0]);
        }
        let digest: String = hash.finalize()[..12]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{}-{digest}{}", kernel.source.name, env::consts::DLL_SUFFIX)
    }

    fn compile(&self, kernel: &Kernel, path: &Path) -> Result<(), Error> {
        let failed = |error| cannot_write(&self.folder, &error);
        let work = tempfile::tempdir_in(&self.folder).map_err(failed)?;
        let name = kernel.source.name;
        let texts = [
            ("emulator.h", EMULATOR),
            ("common.cuh", COMMON),
            (name, kernel.source.text),
        ];
        for (name, text) in texts {
            fs::write(work.path().join(name), text).map_err(failed)?;
        }
        let run = |command: &mut Command| {
            let output = command.current_dir(&work).output();
            let output = output.map_err(|error| refused(format!("{}: {error}", self.program)))?;
            if output.status.success() {
                return Ok(());
            }
            Err(Error::Compile {
                source_name: name,
                architecture: format!("the emulator ({})", self.program),
                log: String::from_utf8_lossy(&output.stderr).into_owned(),
            })
        };
        // In two steps, so that the compiler's own library for checks is not linked.
        run(Command::new(&self.program)
            .args(OPTIONS)
            .args(kernel.options())
            .args([name, "-o", "kernel.o"]))?;
        run(Command::new(&self.program).args(["-shared", "kernel.o", "-o", "kernel.library"]))?;
        fs::rename(work.path().join("kernel.library"), path).map_err(failed)
    }
}

fn cannot_write(folder: &Path, error: &std::io::Error) -> Error {
    refused(format!(
        "compiled kernels cannot be kept in {}: {error}",
        folder.display()
    ))
}

impl Compiled {
    /// Runs a kernel to its end.
    ///
    /// # Safety
    /// What the kernel does with these arguments stays within memory that is the caller's.
    pub(super) unsafe fn run(
        &self,
        name: &str,
        launch: Launch,
        arguments: &[Argument],
    ) -> Result<(), Error> {
        let library = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let library = (library.as_ref()).expect("a library is handed out once it is loaded");
        let symbol = format!("{name}_emulated");
        // SAFETY: KERNEL of emulator.h declares the function with this type.
        let kernel = unsafe {
            library.get::<unsafe extern "C" fn(*const RawLaunch) -> *const c_char>(&symbol)
        };
        let kernel = kernel
            .map_err(|error| refused(format!("kernel {name} is not in its source: {error}")))?;
        let arguments: Vec<RawArgument> = arguments.iter().map(RawArgument::new).collect();
        let launch = RawLaunch {
            grid: launch.grid,
            threads: launch.threads,
            shared_bytes: launch.shared_bytes,
            n_arguments: arguments.len() as u32,
            arguments: arguments.as_ptr(),
        };
        // SAFETY: the structures are those of emulator.h and live until it returns; the lock keeps others
        // out of its static state; the caller answers for what the kernel does.
        let message = unsafe { kernel(&launch) };
        if message.is_null() {
            return Ok(());
        }
        // SAFETY: a message is text that ends with 0 and stays until the next launch.
        let message = unsafe { CStr::from_ptr(message) };
        Err(refused(message.to_string_lossy().into_owned()))
    }
}

impl RawArgument {
    fn new(argument: &Argument) -> Self {
        let (kind, word, address) = match *argument {
            Argument::Pointer(address) => (0, 0, address),
            Argument::U32(value) => (1, value, 0),
            Argument::F32(value) => (2, value.to_bits(), 0),
        };
        Self {
            kind,
            word,
            pointer: std::ptr::with_exposed_provenance_mut(address as usize),
        }
    }
}
