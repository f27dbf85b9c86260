//! The threads that are recorded: each has a recorder and a log of its own.
//!
//! A foreign `repr` gives up the interpreter lock in the middle of a record, so that events of other
//! threads come meanwhile: nothing is shared between recorders but the table of known code. A thread is
//! met at its first event in known code, and forgotten when the interpreter clears its state.

use std::cell::{Cell, UnsafeCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::ops::{Deref, DerefMut};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};

use crate::address::ByAddress;
use crate::activation::is_known;
use crate::bytes_of;
use crate::ffi::*;
use crate::held::Held;
use crate::log::{self, Log};
use crate::record::{Fail, Recorder};

/// A thread of the program.
struct Thread {
    state: usize,
    /// None until Python has begun its log.
    recorder: UnsafeCell<Option<Recorder>>,
    /// Rendering a value may run code of the program, which may call back here: then there is no recorder
    /// to be had.
    is_busy: Cell<bool>,
    /// Whether nothing more of it is to be recorded.
    is_over: Cell<bool>,
}

struct Table(UnsafeCell<Option<ByAddress<Box<Thread>>>>);

// SAFETY: every access holds the interpreter lock.
unsafe impl Sync for Table {}

/// By the address of the interpreter's thread state.
static TABLE: Table = Table(UnsafeCell::new(None));
/// The thread that was last asked for, as nearly always the next one is.
static LAST: AtomicPtr<Thread> = AtomicPtr::new(null_mut());
/// The log of the thread that `configure` was called on.
static MAIN_LOG: AtomicPtr<Log> = AtomicPtr::new(null_mut());
/// The callable that begins the log of one more thread and gives its settings; NULL if only one thread
/// is recorded.
static BEGIN: AtomicPtr<Object> = AtomicPtr::new(null_mut());
/// Tells the code of frames; NULL if only one thread is recorded.
static FRAMES: AtomicPtr<FrameApi> = AtomicPtr::new(null_mut());
/// The process that `record_all` was called in.
static PROCESS: AtomicI32 = AtomicI32::new(0);
/// Set in a process that the program has forked.
static IS_DISOWNED: AtomicBool = AtomicBool::new(false);

/// What the state of a thread keeps us under, and what it keeps.
const KEY: &CStr = c"cwm_native.thread";
/// The END record of a thread that has ended.
const ENDED: &[u8] = &[7 | 2 << 3, 0];

/// The table of threads.
#[expect(clippy::mut_from_ref, reason = "the lock makes it ours; no reference is kept")]
fn table() -> &'static mut ByAddress<Box<Thread>> {
    // SAFETY: under the lock; callers drop the reference before anything else can run.
    unsafe { (*TABLE.0.get()).get_or_insert_with(HashMap::default) }
}

/// A recorder, taken until the end of one event.
pub struct Taken(&'static Thread, &'static mut Recorder);

impl Deref for Taken {
    type Target = Recorder;
    fn deref(&self) -> &Recorder {
        self.1
    }
}

impl DerefMut for Taken {
    fn deref_mut(&mut self) -> &mut Recorder {
        self.1
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.is_busy.set(false);
    }
}

impl Taken {
    /// Ends an event; a failure is reported to Python, which ends the process, or else the recording.
    pub fn is_fine(&self, outcome: Result<(), Fail>) -> bool {
        if outcome.is_err() {
            self.report_failure();
        }
        // SAFETY: the lock is held, as in every function that Python calls.
        outcome.is_ok() || unsafe { PyErr_Occurred().is_null() }
    }
}

/// This thread, if it is known.
#[inline(always)]
fn current() -> Option<&'static Thread> {
    // SAFETY: the lock is held, as in every function that Python calls.
    let state = unsafe { PyThreadState_Get() } as usize;
    // SAFETY: NULL, or a thread that is in the table: it is taken from here before it is dropped.
    let last = unsafe { LAST.load(Ordering::Relaxed).as_ref() };
    match last {
        Some(last) if last.state == state => Some(last),
        _ => look_up(state),
    }
}

#[cold]
fn look_up(state: usize) -> Option<&'static Thread> {
    let found: *const Thread = &**table().get(&state)?;
    LAST.store(found.cast_mut(), Ordering::Relaxed);
    // SAFETY: threads are boxed, and dropped only when the interpreter drops their state.
    unsafe { found.as_ref() }
}

/// Whether this thread is recorded.
pub fn is_recorded() -> bool {
    if IS_DISOWNED.load(Ordering::Relaxed) {
        return false;
    }
    match current() {
        Some(thread) => !thread.is_over.get(),
        None => !BEGIN.load(Ordering::Relaxed).is_null(),
    }
}

/// The recorder of this thread, if it is recorded and its recorder is not at work. `code` tells what is
/// executed, from which it follows whether to begin with a thread.
#[inline(always)]
pub fn recorder(code: impl FnOnce() -> *mut Object) -> Option<Taken> {
    let thread = match current() {
        Some(thread) => thread,
        None => begin(code)?,
    };
    if thread.is_busy.get() || thread.is_over.get() {
        return None;
    }
    // SAFETY: only this thread gets here, and the flag keeps it from getting here twice.
    let recorder = unsafe { (*thread.recorder.get()).as_mut()? };
    thread.is_busy.set(true);
    Some(Taken(thread, recorder))
}

/// Begins a recording on this thread, and forgets all that there was.
pub unsafe fn configure(settings: *mut Object) -> Result<(), Fail> {
    if current().is_some_and(|thread| thread.is_busy.get()) {
        // Not the collector, then.
        return Ok(());
    }
    // SAFETY: the collector passes one dictionary with the keys that `Recorder::new` reads.
    unsafe {
        let recorder = Recorder::new(settings)?;
        LAST.store(null_mut(), Ordering::Relaxed);
        MAIN_LOG.store(std::ptr::from_ref(recorder.log()).cast_mut(), Ordering::Relaxed);
        let state = PyThreadState_Get() as usize;
        drop(std::mem::take(table()));
        table().insert(state, Thread::new(state, Some(recorder)));
    }
    Ok(())
}

impl Thread {
    fn new(state: usize, recorder: Option<Recorder>) -> Box<Self> {
        let is_busy = Cell::new(recorder.is_none());
        let recorder = UnsafeCell::new(recorder);
        Box::new(Self { state, recorder, is_busy, is_over: Cell::new(false) })
    }
}

/// The code object of a frame, for threads that have no recorder yet.
pub unsafe fn code_of(frame: *mut Object) -> *mut Object {
    // SAFETY: NULL, or what `record_all` has left there for ever; the caller passes a live frame.
    unsafe { FRAMES.load(Ordering::Relaxed).as_ref().map_or(null_mut(), |frames| frames.code(frame)) }
}

/// From now on every thread of this process is recorded. `begin` is a callable that lives for ever.
pub fn record_all(begin: *mut Object) {
    // SAFETY: no preconditions beyond the lock.
    let frames = unsafe { Box::new(FrameApi::new()) };
    FRAMES.store(Box::into_raw(frames), Ordering::Relaxed);
    // SAFETY: no preconditions.
    PROCESS.store(unsafe { getpid() }, Ordering::Relaxed);
    BEGIN.store(begin, Ordering::Relaxed);
}

/// Makes this thread known, if all are recorded and it executes known code.
#[cold]
fn begin(code: impl FnOnce() -> *mut Object) -> Option<&'static Thread> {
    let begin = BEGIN.load(Ordering::Relaxed);
    if begin.is_null() || IS_DISOWNED.load(Ordering::Relaxed) || !is_known(code()) {
        return None;
    }
    // SAFETY: the lock is held. The thread counts as busy until its recorder is there: making it runs
    // Python, and so perhaps code of the program.
    unsafe {
        let state = PyThreadState_Get() as usize;
        table().insert(state, Thread::new(state, None));
        let thread = look_up(state)?;
        let settings = Held(PyObject_CallFunctionObjArgs(begin, null_mut::<Object>()));
        let is_kept = !settings.0.is_null() && keep(thread);
        let recorder = if is_kept { Recorder::new(settings.0).ok() } else { None };
        if recorder.is_none() {
            // Python has been told already, unless memory is short: the thread then goes unrecorded.
            PyErr_Clear();
        }
        *thread.recorder.get() = recorder.map(Recorder::of_thread);
        thread.is_busy.set(false);
        Some(thread)
    }
}

/// Has the state of a thread tell us when it ends.
unsafe fn keep(thread: &'static Thread) -> bool {
    // SAFETY: the dictionary is the thread's own; the capsule is owned until that has it.
    unsafe {
        let dict = PyThreadState_GetDict();
        let pointer = std::ptr::from_ref(thread).cast_mut().cast();
        let capsule = Held(PyCapsule_New(pointer, KEY.as_ptr(), Some(forget)));
        !dict.is_null()
            && !capsule.0.is_null()
            && PyDict_SetItemString(dict, KEY.as_ptr(), capsule.0) == 0
    }
}

/// The end of a thread.
unsafe extern "C" fn forget(capsule: *mut Object) {
    // SAFETY: no preconditions.
    if unsafe { getpid() } != PROCESS.load(Ordering::Relaxed) {
        // A forked process clears the threads it did not inherit, before it disowns the logs.
        return;
    }
    // SAFETY: the capsule holds the address of a thread; it is compared before it is used.
    let known = unsafe { PyCapsule_GetPointer(capsule, KEY.as_ptr()) } as usize;
    let found = table().iter().find(|(_, thread)| std::ptr::from_ref(&***thread) as usize == known);
    let Some(state) = found.map(|(&state, _)| state) else { return };
    LAST.store(null_mut(), Ordering::Relaxed);
    let Some(thread) = table().remove(&state) else { return };
    if thread.is_busy.get() {
        // Code of the program does this to us in the middle of an event: let it be.
        std::mem::forget(thread);
        return;
    }
    // SAFETY: nothing else uses the recorder.
    if let Some(recorder) = unsafe { (*thread.recorder.get()).as_ref() } {
        // A log that cannot be written any more misses its end, which says so.
        let _ = recorder.log().write(ENDED);
    }
}

/// Adds to the log of the main thread.
pub unsafe fn write(record: *mut Object) -> Result<(), Fail> {
    // SAFETY: the collector passes a live bytes object; logs live for ever.
    unsafe {
        let record = bytes_of(record).ok_or(Fail)?;
        MAIN_LOG.load(Ordering::Relaxed).as_ref().map_or(Ok(()), |log| log.write(record))
    }
}

/// What `Recorder::renew` does, on this thread.
pub fn renew(max_events: u64, has_entry: bool) {
    let Some(thread) = current().filter(|thread| !thread.is_busy.get()) else { return };
    // SAFETY: this thread only, and nothing uses the recorder.
    if let Some(recorder) = unsafe { (*thread.recorder.get()).as_mut() } {
        recorder.renew(max_events, has_entry);
        thread.is_over.set(false);
    }
}

/// Records nothing more of this thread.
pub fn silence() {
    if let Some(thread) = current() {
        thread.is_over.set(true);
    }
}

/// The logs are another process's from now on.
pub fn disown() {
    IS_DISOWNED.store(true, Ordering::Relaxed);
    log::silence();
    for thread in table().values() {
        thread.is_over.set(true);
    }
}

/// How many events of this thread were recorded.
pub fn events() -> u64 {
    let Some(thread) = current().filter(|thread| !thread.is_busy.get()) else { return 0 };
    // SAFETY: a plain read, while nothing else uses the recorder.
    unsafe { (*thread.recorder.get()).as_ref().map_or(0, Recorder::events) }
}
