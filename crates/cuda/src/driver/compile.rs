//! The compiler of kernels, NVRTC, which runs on the processor: neither a GPU nor a driver is needed.
//!
//! It makes machine code (a cubin), never PTX: a driver refuses PTX of a newer NVRTC than itself, while it
//! takes machine code of any NVRTC of its major version.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::path::Path;
use std::ptr;

use crate::driver::library::{self, NVRTC, functions, said};
use crate::error::Error;
use crate::kernel::{COMMON, Source};

/// `nvrtcResult`; 0 is success.
type Status = c_int;
type Program = *mut c_void;

/// `NVRTC_ERROR_BUILTIN_OPERATION_FAILURE`: the library's second file is missing.
const NO_BUILTINS: Status = 7;

functions! {
    /// Signatures as in `nvrtc.h`.
    struct Functions {
        nvrtcVersion(*mut c_int, *mut c_int) -> Status;
        nvrtcGetErrorString(Status) -> *const c_char;
        nvrtcCreateProgram(
            *mut Program,
            *const c_char,
            *const c_char,
            c_int,
            *const *const c_char,
            *const *const c_char
        ) -> Status;
        nvrtcDestroyProgram(*mut Program) -> Status;
        nvrtcCompileProgram(Program, c_int, *const *const c_char) -> Status;
        nvrtcGetCUBINSize(Program, *mut usize) -> Status;
        nvrtcGetCUBIN(Program, *mut c_char) -> Status;
        nvrtcGetProgramLogSize(Program, *mut usize) -> Status;
        nvrtcGetProgramLog(Program, *mut c_char) -> Status;
    }
}

/// What machine code is for: `sm_90` is version 9.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Architecture {
    /// Of the compute capability.
    pub major: u32,
    /// Of the compute capability.
    pub minor: u32,
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}{}", self.major, self.minor)
    }
}

/// What a kernel takes of a multiprocessor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The kernel.
    pub kernel: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of a thread in local memory: arrays whose places are not known to the compiler.
    pub stack_bytes: u32,
    /// Bytes of a thread that are stored and loaded again for want of registers.
    pub spill_bytes: u32,
    /// Shared memory of a block in bytes, besides the dynamic.
    pub static_shared: u32,
}

/// Machine code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// The file that the driver loads.
    pub cubin: Vec<u8>,
    /// What each kernel takes, in the order in which they were compiled.
    pub usage: Vec<Usage>,
}

/// The loaded library.
#[derive(Debug)]
pub struct Compiler {
    functions: Functions,
    version: (u32, u32),
}

impl Compiler {
    /// The newest that is found: where the loader looks, in the site-packages of `python3`, and in
    /// `/usr/local/cuda`.
    ///
    /// # Errors
    /// [`Error::NoLibrary`].
    pub fn find() -> Result<Self, Error> {
        Self::for_driver(library::NEWEST)
    }

    /// The one in this folder, or in one that `pip install --target` filled.
    ///
    /// # Errors
    /// [`Error::NoLibrary`].
    pub fn in_folder(folder: &Path) -> Result<Self, Error> {
        Self::over(NVRTC.load_in(folder)?, library::NEWEST)
    }

    /// The newest whose code a driver for this major version of CUDA takes.
    ///
    /// # Errors
    /// [`Error::NoLibrary`].
    pub(super) fn for_driver(major: u32) -> Result<Self, Error> {
        Self::over(NVRTC.load(major)?, major)
    }

    fn over(library: &'static libloading::Library, newest: u32) -> Result<Self, Error> {
        // SAFETY: the types are those of `nvrtc.h`, which are the same in all versions looked for.
        let functions = unsafe { Functions::of(library) };
        let functions = functions.map_err(|error| NVRTC.missing(newest, said(&error)))?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both are places for an int.
        let status = unsafe { (functions.nvrtcVersion)(&mut major, &mut minor) };
        let compiler = Self {
            functions,
            version: (major.unsigned_abs(), minor.unsigned_abs()),
        };
        compiler.check("nvrtcVersion", status)?;
        Ok(compiler)
    }

    /// Its version, such as 13 and 0.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// The source with these values of its macros as machine code.
    ///
    /// # Errors
    /// [`Error::Compile`] with the compiler's messages, which name the source's lines;
    /// [`Error::NoLibrary`] if a part of the compiler is missing.
    ///
    /// # Panics
    /// As [`Source::options`].
    pub fn compile(
        &self,
        source: &Source,
        macros: &[u32],
        architecture: Architecture,
    ) -> Result<Compiled, Error> {
        let refused = |log: String| Error::Compile {
            source_name: source.name,
            architecture: architecture.to_string(),
            log,
        };
        let program = self.program(source).map_err(|error| match error {
            Created::NotText => refused("it contains a byte 0".to_owned()),
            Created::Refused(error) => error,
        })?;
        let mut options = options(architecture);
        options.extend(source.options(macros));
        let options: Result<Vec<CString>, _> = options.into_iter().map(CString::new).collect();
        let options = options.map_err(|_| refused("an option contains a byte 0".to_owned()))?;
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        // SAFETY: the program is alive, and so many options are strings that outlive the call.
        let status = unsafe {
            (self.functions.nvrtcCompileProgram)(
                program.handle,
                pointers.len() as c_int,
                pointers.as_ptr(),
            )
        };
        let log = program.log()?;
        match status {
            0 => Ok(Compiled {
                cubin: program.cubin()?,
                usage: usage(&log),
            }),
            NO_BUILTINS => Err(NVRTC.missing(self.version.0, log.trim().to_owned())),
            status => {
                let said = if log.trim().is_empty() {
                    self.text(status)
                } else {
                    log
                };
                Err(refused(said.trim().to_owned()))
            }
        }
    }

    fn program(&self, source: &Source) -> Result<OpenProgram<'_>, Created> {
        let not_text = |_| Created::NotText;
        let text = CString::new(source.text).map_err(not_text)?;
        let name = CString::new(source.name).map_err(not_text)?;
        let common = CString::new(COMMON).map_err(not_text)?;
        let mut handle = ptr::null_mut();
        // SAFETY: all are strings that outlive the call, which copies them; there is one header.
        let status = unsafe {
            (self.functions.nvrtcCreateProgram)(
                &mut handle,
                text.as_ptr(),
                name.as_ptr(),
                1,
                [common.as_ptr()].as_ptr(),
                [c"common.cuh".as_ptr()].as_ptr(),
            )
        };
        self.check("nvrtcCreateProgram", status)
            .map_err(Created::Refused)?;
        Ok(OpenProgram {
            compiler: self,
            handle,
        })
    }

    fn check(&self, call: &'static str, status: Status) -> Result<(), Error> {
        match status {
            0 => Ok(()),
            status => Err(Error::Call {
                call,
                reason: self.text(status),
            }),
        }
    }

    fn text(&self, status: Status) -> String {
        // SAFETY: any number is answered with a static string.
        let text = unsafe { CStr::from_ptr((self.functions.nvrtcGetErrorString)(status)) };
        text.to_string_lossy().into_owned()
    }
}

/// Everything that decides on the code besides the texts, the macros and the compiler's version.
pub(super) fn options(architecture: Architecture) -> Vec<String> {
    vec![
        format!("--gpu-architecture={architecture}"),
        "--std=c++17".to_owned(),
        "--ptxas-options=-v".to_owned(),
    ]
}

/// Why there is no program.
enum Created {
    NotText,
    Refused(Error),
}

/// A program of the library, destroyed when it is dropped.
struct OpenProgram<'a> {
    compiler: &'a Compiler,
    handle: Program,
}

impl OpenProgram<'_> {
    fn log(&self) -> Result<String, Error> {
        let functions = &self.compiler.functions;
        let bytes = self.bytes(
            "nvrtcGetProgramLog",
            functions.nvrtcGetProgramLogSize,
            functions.nvrtcGetProgramLog,
        )?;
        let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn cubin(&self) -> Result<Vec<u8>, Error> {
        let functions = &self.compiler.functions;
        self.bytes(
            "nvrtcGetCUBIN",
            functions.nvrtcGetCUBINSize,
            functions.nvrtcGetCUBIN,
        )
    }

    fn bytes(
        &self,
        call: &'static str,
        size: unsafe extern "C" fn(Program, *mut usize) -> Status,
        get: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    ) -> Result<Vec<u8>, Error> {
        let mut len = 0;
        // SAFETY: the program is alive, and `len` is a place for a size.
        let status = unsafe { size(self.handle, &mut len) };
        self.compiler.check(call, status)?;
        let mut bytes = vec![0_u8; len];
        // SAFETY: the program is alive, and `bytes` has the length that was asked for.
        let status = unsafe { get(self.handle, bytes.as_mut_ptr().cast()) };
        self.compiler.check(call, status)?;
        Ok(bytes)
    }
}

impl Drop for OpenProgram<'_> {
    fn drop(&mut self) {
        // SAFETY: it was created and is not used again. A failure leaves nothing to do.
        unsafe { (self.compiler.functions.nvrtcDestroyProgram)(&mut self.handle) };
    }
}

/// What `ptxas -v` says of each kernel, in lines such as these:
///
/// ```text
/// ptxas info    : Compiling entry function 'name' for 'sm_90'
/// ptxas info    : Function properties for name
/// ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
/// ptxas info    : Used 9 registers, used 1 barriers, 308 bytes smem
/// ```
fn usage(log: &str) -> Vec<Usage> {
    let mut all: Vec<Usage> = Vec::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            all.push(Usage {
                kernel: rest.split('\'').next().unwrap_or_default().to_owned(),
                registers: 0,
                stack_bytes: 0,
                spill_bytes: 0,
                static_shared: 0,
            });
            continue;
        }
        let Some(usage) = all.last_mut() else {
            continue;
        };
        let number = |unit: &str| number_before(line, unit).unwrap_or(0);
        usage.registers += number(" registers");
        usage.stack_bytes += number(" bytes stack frame");
        usage.spill_bytes += number(" bytes spill stores") + number(" bytes spill loads");
        usage.static_shared += number(" bytes smem");
    }
    all
}

/// The number that ends where `unit` begins.
fn number_before(line: &str, unit: &str) -> Option<u32> {
    let before = &line[..line.find(unit)?];
    before.rsplit([' ', '\t']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_assembler_says_is_read() {
        let log = "ptxas info    : 0 bytes gmem\n\
            ptxas info    : Compiling entry function 'second' for 'sm_80'\n\
            ptxas info    : Function properties for second\n\
            ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
            ptxas info    : Used 9 registers, used 1 barriers, 308 bytes smem, 360 bytes cmem[0]\n\
            ptxas info    : Compile time = 2.461 ms\n\
            ptxas info    : Compiling entry function 'first' for 'sm_80'\n\
            ptxas info    : Function properties for first\n\
            ptxas         .     256 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads\n\
            ptxas info    : Used 32 registers, used 0 barriers, 256 bytes cumulative stack size\n";
        let kernel = |kernel: &str, registers, stack_bytes, spill_bytes, static_shared| Usage {
            kernel: kernel.to_owned(),
            registers,
            stack_bytes,
            spill_bytes,
            static_shared,
        };
        let expected = [
            kernel("second", 9, 0, 0, 308),
            kernel("first", 32, 256, 28, 0),
        ];
        assert_eq!(usage(log), expected);
        assert_eq!(usage("common.cuh(3): warning #177-D"), []);
    }

    #[test]
    fn an_architecture_is_named_as_the_compiler_wants_it() {
        let names = [(8, 0), (9, 0), (12, 1)]
            .map(|(major, minor)| Architecture { major, minor }.to_string());
        assert_eq!(names, ["sm_80", "sm_90", "sm_121"]);
    }
}
