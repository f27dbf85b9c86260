//! Sums over the GPUs of several ranks, through NCCL.
//!
//! Shards are of different lengths, which NCCL's reduce-scatter and all-gather do not take: each shard is
//! reduced to, or broadcast from, its rank, all of them in one group. The group's work goes through the
//! device's own stream, and the host waits for it here: NCCL tells of a lost rank only when asked, and a
//! kernel that waits for one would otherwise keep the host waiting for good.
//!
//! Only a stand-in library has tested this; NCCL itself was never run from here on several GPUs.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::Range;
use std::ptr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cudarc::nccl::sys::{cudaStream_t, ncclComm_t, ncclDataType_t, ncclRedOp_t, ncclUniqueId};

use crate::device::{Address, Buffer};
use crate::driver::context::Context;
use crate::driver::library::{NCCL, functions, said};
use crate::error::Error;
use crate::ranks::{DeviceRanks, Rendezvous, check_shards};

/// `ncclResult_t`, of which later versions have more than this build knows.
type Status = u32;

const SUCCESS: Status = 0;
/// Work goes on in the background.
const IN_PROGRESS: Status = 7;
/// After these the communicator is of no use: the driver's errors, the system's, and those of another rank.
const LOST: [Status; 3] = [1, 2, 6];

/// How long an operation may take, connections between the GPUs included; whoever asks for one knows that the
/// other ranks do so at the same time.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks at whether it is done: short beside an operation.
const PAUSE: Duration = Duration::from_micros(50);

functions! {
    /// Signatures as in `nccl.h`.
    struct Functions {
        ncclGetVersion(*mut c_int) -> Status;
        ncclGetErrorString(Status) -> *const c_char;
        ncclGetLastError(ncclComm_t) -> *const c_char;
        ncclGetUniqueId(*mut ncclUniqueId) -> Status;
        ncclCommInitRank(*mut ncclComm_t, c_int, ncclUniqueId, c_int) -> Status;
        ncclCommGetAsyncError(ncclComm_t, *mut Status) -> Status;
        ncclCommDestroy(ncclComm_t) -> Status;
        ncclCommAbort(ncclComm_t) -> Status;
        ncclGroupStart() -> Status;
        ncclGroupEnd() -> Status;
        ncclReduce(
            *const c_void,
            *mut c_void,
            usize,
            ncclDataType_t,
            ncclRedOp_t,
            c_int,
            ncclComm_t,
            cudaStream_t
        ) -> Status;
        ncclBroadcast(
            *const c_void,
            *mut c_void,
            usize,
            ncclDataType_t,
            c_int,
            ncclComm_t,
            cudaStream_t
        ) -> Status;
    }
}

/// Calls a function of the library, and makes an [`Error`] of what it answers.
macro_rules! ask {
    ($functions:expr, $function:ident($($argument:expr),* $(,)?)) => {
        $functions.check(stringify!($function), ($functions.$function)($($argument),*))
    };
}

impl Functions {
    /// An error that names the call, unless it succeeded.
    fn check(&self, call: &'static str, status: Status) -> Result<(), Error> {
        if status == SUCCESS {
            return Ok(());
        }
        // SAFETY: any number is answered with a static string; what was noted last is asked for without a
        // communicator, and is a string of the library's.
        let (name, last) = unsafe {
            (
                CStr::from_ptr((self.ncclGetErrorString)(status)),
                text((self.ncclGetLastError)(ptr::null_mut())),
            )
        };
        let mut reason = name.to_string_lossy().into_owned();
        if !last.is_empty() {
            reason = format!("{reason} ({last})");
        }
        Err(match LOST.contains(&status) {
            true => Error::Lost { call, reason },
            false => Error::Call { call, reason },
        })
    }
}

/// # Safety
/// A string of the library's, or null.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: it is no null, and ends with one as the caller promises.
    let string = unsafe { CStr::from_ptr(string) };
    string.to_string_lossy().trim().to_owned()
}

/// The library, for one GPU.
#[derive(Debug)]
pub(super) struct Nccl {
    functions: Arc<Functions>,
    version: c_int,
    context: Arc<Context>,
}

impl Nccl {
    /// As installed, for a driver of this major version of CUDA.
    ///
    /// # Errors
    /// [`Error::NoLibrary`].
    pub(super) fn load(context: &Arc<Context>, driver: u32) -> Result<Self, Error> {
        let library = NCCL.load(driver)?;
        // SAFETY: the types are those of `nccl.h`, which have been the same since NCCL 2.13.
        let functions = unsafe { Functions::of(library) };
        let functions = functions.map_err(|error| NCCL.missing(driver, said(&error)))?;
        let mut version = 0;
        // SAFETY: may be asked at any time.
        unsafe { ask!(functions, ncclGetVersion(&mut version))? };
        Ok(Self {
            functions: Arc::new(functions),
            version,
            context: Arc::clone(context),
        })
    }
}

impl Rendezvous for Nccl {
    fn protocol(&self) -> String {
        let version = self.version;
        let (major, minor, patch) = (version / 10_000, version / 100 % 100, version % 100);
        format!("NCCL {major}.{minor}.{patch}")
    }

    fn place(&self) -> Result<String, Error> {
        self.context.uuid()
    }

    fn id(&self) -> Result<Vec<u8>, Error> {
        self.context.enter()?;
        let mut id = ncclUniqueId { internal: [0; _] };
        // SAFETY: it fills what it is given.
        unsafe { ask!(self.functions, ncclGetUniqueId(&mut id))? };
        Ok(id.internal.iter().map(|c| c.cast_unsigned()).collect())
    }

    fn join(&self, id: &[u8], rank: usize, size: usize) -> Result<Box<dyn DeviceRanks>, Error> {
        const CALL: &str = "ncclCommInitRank";
        let wrong = |what: &str| Error::Call {
            call: CALL,
            reason: format!("{what} cannot be"),
        };
        let id: Vec<c_char> = id.iter().map(|byte| byte.cast_signed()).collect();
        let id = id.try_into().map_err(|_| wrong("an id of this length"))?;
        let id = ncclUniqueId { internal: id };
        let number = |number| c_int::try_from(number).map_err(|_| wrong("so many ranks"));
        let (of, own) = (number(size)?, number(rank)?);
        self.context.enter()?;
        let mut communicator = ptr::null_mut();
        // SAFETY: the device's context is current, and it fills what it is given.
        unsafe {
            ask!(
                self.functions,
                ncclCommInitRank(&mut communicator, of, id, own)
            )?;
        }
        Ok(Box::new(Communicator {
            functions: Arc::clone(&self.functions),
            communicator,
            size,
            is_lost: false,
            context: Arc::clone(&self.context),
        }))
    }
}

/// This rank among those that have joined.
#[derive(Debug)]
struct Communicator {
    functions: Arc<Functions>,
    communicator: ncclComm_t,
    size: usize,
    /// Whether an operation failed: the others may never come to the end of it.
    is_lost: bool,
    context: Arc<Context>,
}

// SAFETY: a communicator may be used from any thread, by one at a time.
unsafe impl Send for Communicator {}

impl Communicator {
    /// Asks for one operation for each shard that is not empty, by `enqueue(shard's address, length, rank)`,
    /// and waits until all are done.
    fn for_shards(
        &mut self,
        buffer: &Buffer<f32>,
        shards: &[Range<usize>],
        enqueue: impl Fn(&Self, Address, usize, c_int) -> Result<(), Error>,
    ) -> Result<(), Error> {
        check_shards(buffer, shards, self.size);
        let done = self.grouped(|| {
            let mut ranks = (0..).zip(shards);
            ranks.try_for_each(|(rank, shard)| match shard.is_empty() {
                true => Ok(()),
                false => enqueue(self, buffer.at(shard.start), shard.len(), rank),
            })
        });
        let done = done.and_then(|()| self.wait());
        self.is_lost |= done.is_err();
        done
    }

    /// Does what `enqueue` asks for as one operation.
    fn grouped(&self, enqueue: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        self.context.enter()?;
        // SAFETY: the device's context is current; the group is ended below.
        unsafe { ask!(self.functions, ncclGroupStart())? };
        let asked = enqueue();
        // SAFETY: it was begun.
        let ended = unsafe { ask!(self.functions, ncclGroupEnd()) };
        asked.and(ended)
    }

    /// Waits until the stream has done its work, or NCCL knows that it never will.
    fn wait(&self) -> Result<(), Error> {
        const CALL: &str = "ncclCommGetAsyncError";
        let begun = Instant::now();
        while !self.context.is_done()? {
            let mut status = SUCCESS;
            // SAFETY: the communicator is alive.
            unsafe {
                ask!(
                    self.functions,
                    ncclCommGetAsyncError(self.communicator, &mut status)
                )?;
            }
            if status != IN_PROGRESS {
                self.functions.check(CALL, status)?;
            }
            if begun.elapsed() > PATIENCE {
                return Err(Error::Lost {
                    call: CALL,
                    reason: format!("the other ranks have not come in {} s", PATIENCE.as_secs()),
                });
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl DeviceRanks for Communicator {
    fn sum_shards(
        &mut self,
        buffer: &mut Buffer<f32>,
        shards: &[Range<usize>],
    ) -> Result<(), Error> {
        self.for_shards(buffer, shards, |this, address, len, rank| {
            // SAFETY: so many numbers are within the buffer, which is in no other work; in place is allowed.
            unsafe {
                ask!(
                    this.functions,
                    ncclReduce(
                        address as *const c_void,
                        address as *mut c_void,
                        len,
                        ncclDataType_t::ncclFloat32,
                        ncclRedOp_t::ncclSum,
                        rank,
                        this.communicator,
                        this.context.stream().cast(),
                    )
                )
            }
        })
    }

    fn gather_shards(
        &mut self,
        buffer: &mut Buffer<f32>,
        shards: &[Range<usize>],
    ) -> Result<(), Error> {
        self.for_shards(buffer, shards, |this, address, len, rank| {
            // SAFETY: as above.
            unsafe {
                ask!(
                    this.functions,
                    ncclBroadcast(
                        address as *const c_void,
                        address as *mut c_void,
                        len,
                        ncclDataType_t::ncclFloat32,
                        rank,
                        this.communicator,
                        this.context.stream().cast(),
                    )
                )
            }
        })
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        if self.context.enter().is_err() {
            return;
        }
        // SAFETY: it was made and is not used again; a failure leaves nothing to do. Destroying waits for work
        // in progress, which after an error may never end.
        let _ = unsafe {
            match self.is_lost {
                true => ask!(self.functions, ncclCommAbort(self.communicator)),
                false => ask!(self.functions, ncclCommDestroy(self.communicator)),
            }
        };
    }
}
