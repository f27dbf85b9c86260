//! The activations of a recorded thread, and the records about them: `Recorder` of
//! `python/recorder.py` again.

use std::ffi::{CStr, c_int};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::activation::{Activation, Info, Place, known};
use crate::address::ByAddress;
use crate::encode::{Encoder, Kind, end_record};
use crate::ffi::*;
use crate::held::Held;
use crate::layout::{Ints, Layout, through_cell};
use crate::log::{Begun, Log};
use crate::render::{Helpers, Rendered, Renderer};
use crate::shadow::Change;
use crate::{namespace, settrace, small_int};

/// A Python exception is set, or Python has been told.
pub struct Fail;

/// How many activations the program may have on the stack. Outside the recorder, since code of the
/// program can change it while the recorder is at work.
pub static DEPTH_LIMIT: AtomicI64 = AtomicI64::new(i64::MAX);

pub struct Recorder {
    log: &'static Log,
    frames: FrameApi,
    layout: Option<&'static Layout>,
    infos: Vec<Info>,
    by_code: ByAddress<usize>,
    /// Activations that run, innermost last.
    stack: Vec<Box<Activation>>,
    suspended: ByAddress<Box<Activation>>,
    renderer: Renderer,
    encoder: Encoder,
    scratch: Rendered,
    functions: u64,
    started: u64,
    events: u64,
    max_events: u64,
    log_cap: u64,
    /// The activation with which the run ends.
    entry: u64,
    is_main: bool,
    op_return: i32,
    op_yield: i32,
    op_yield_from: i32,
    op_resume: i32,
    on_full: *mut Object,
    on_failure: *mut Object,
    on_over: *mut Object,
    disable: *mut Object,
    /// Up to 3.9 a frame under a Python trace function stays on the line of its last line event, while
    /// the C API tells the line of the instruction.
    stays_on_line: bool,
    over: bool,
}

impl Recorder {
    /// Reads its settings from a dictionary.
    pub unsafe fn new(settings: *mut Object) -> Result<Self, Fail> {
        // SAFETY: the collector passes a dictionary; each value found is kept alive for ever.
        unsafe {
            let object = |key: &CStr| {
                let value = PyDict_GetItemString(settings, key.as_ptr());
                if value.is_null() {
                    PyErr_SetString(PyExc_KeyError, key.as_ptr());
                    return Err(Fail);
                }
                Py_IncRef(value);
                Ok(value)
            };
            let number = |key: &CStr| {
                let mut overflow = 0;
                Ok(PyLong_AsLongLongAndOverflow(object(key)?, &mut overflow))
            };
            let log = Log::go_on(Begun {
                first_window: object(c"first_window")?,
                first_window_size: number(c"first_window_size")? as usize,
                head: number(c"head")? as usize,
                written: number(c"written")? as usize,
                next_window: object(c"next_window")?,
                window_size: number(c"window_size")? as usize,
            })?;
            let layout = layout_of(object(c"layout")?);
            let helpers = Helpers {
                whole: object(c"render")?,
                foreign: object(c"foreign")?,
                constant: object(c"constant")?,
                describe: object(c"describe")?,
                slots: object(c"slots")?,
            };
            settrace::stand_by(object(c"trampoline")?);
            DEPTH_LIMIT.store(number(c"depth_limit")?, Ordering::Relaxed);
            Ok(Self {
                log,
                frames: FrameApi::new(),
                layout,
                infos: Vec::new(),
                by_code: ByAddress::default(),
                stack: Vec::new(),
                suspended: ByAddress::default(),
                renderer: Renderer::new(layout, number(c"max_chars")? as usize, helpers),
                encoder: Encoder::default(),
                scratch: Rendered::default(),
                functions: 0,
                started: 0,
                events: 0,
                max_events: number(c"max_events")? as u64,
                log_cap: number(c"log_cap")? as u64,
                entry: 0,
                is_main: true,
                op_return: number(c"op_return")? as i32,
                op_yield: number(c"op_yield")? as i32,
                op_yield_from: number(c"op_yield_from")? as i32,
                op_resume: number(c"op_resume")? as i32,
                on_full: object(c"on_full")?,
                on_failure: object(c"on_failure")?,
                on_over: object(c"on_over")?,
                disable: object(c"disable")?,
                stays_on_line: object(c"stays_on_line")? == &raw mut _Py_TrueStruct,
                over: false,
            })
        }
    }

    pub fn disable(&self) -> *mut Object {
        self.disable
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    /// Begins another run of at most so many events, with nothing on the stack. It ends with its first
    /// activation if that is its entry.
    pub fn renew(&mut self, max_events: u64, has_entry: bool) {
        self.stack.clear();
        self.suspended.clear();
        self.max_events = self.events.saturating_add(max_events);
        self.entry = if has_entry { self.started } else { u64::MAX };
        self.over = false;
    }

    pub fn log(&self) -> &'static Log {
        self.log
    }

    /// The same for a thread that the program has started. It does not end with one of its activations.
    pub fn of_thread(mut self) -> Self {
        self.entry = u64::MAX;
        self.is_main = false;
        self
    }

    /// Takes over the code objects that were made known since.
    #[cold]
    fn catch_up(&mut self) {
        while let Some(args) = known(self.infos.len()) {
            // SAFETY: the collector passed these objects and they stay alive.
            let Some(info) = (unsafe { Info::new(&args) }) else { break };
            self.by_code.insert(args[0] as usize, self.infos.len());
            self.infos.push(info);
        }
    }

    /// The code object of a frame, if it is of the traced file and recording goes on.
    pub unsafe fn info_of_frame(&mut self, frame: *mut Object) -> Option<usize> {
        if let Some(act) = self.stack.last().filter(|act| act.frame == frame as usize) {
            // SAFETY: the frame is live. Its address may have been another's, so its code is compared.
            let code = unsafe { self.code(frame) };
            if self.infos[act.info].code == code {
                return (!self.over).then_some(act.info);
            }
        }
        // SAFETY: the frame is live.
        unsafe { self.info_of_code(self.code(frame)) }
    }

    unsafe fn code(&self, frame: *mut Object) -> *mut Object {
        // SAFETY: the caller passes a live frame.
        unsafe {
            match &self.layout {
                Some(layout) => layout.code(frame),
                None => self.frames.code(frame),
            }
        }
    }

    #[inline(always)]
    pub fn info_of_code(&mut self, code: *mut Object) -> Option<usize> {
        if self.over {
            return None;
        }
        let found = self.by_code.get(&(code as usize)).copied();
        if found.is_none() && known(self.infos.len()).is_some() {
            self.catch_up();
            return self.by_code.get(&(code as usize)).copied();
        }
        found
    }

    /// Asks for no line events of a frame of another file: silence is cheaper.
    pub unsafe fn skip_lines(&self, frame: *mut Object) {
        if let Some(layout) = self.layout.filter(|_| !self.over) {
            // SAFETY: the caller passes a live frame.
            unsafe { layout.skip_lines(frame) };
        }
    }

    /// Whether the program must not go deeper; then the exception is set.
    pub unsafe fn too_deep(&self) -> bool {
        let deep = self.stack.len() as i64 >= DEPTH_LIMIT.load(Ordering::Relaxed);
        if deep {
            let message = c"maximum recursion depth exceeded";
            // SAFETY: the exception type is a live static object.
            unsafe { PyErr_SetString(PyExc_RecursionError, message.as_ptr()) };
        }
        deep
    }

    /// A call event; without `resumed` it is told by where the frame stands.
    pub fn enter(&mut self, frame: *mut Object, info: usize, resumed: Option<bool>) -> Result<(), Fail> {
        // SAFETY: the frame is live.
        let resumed = resumed.unwrap_or_else(|| unsafe { self.is_resumed(frame, info) });
        let old = self.forget(frame);
        let (kind, act) = match old {
            Some(act) if resumed && act.info == info => (Kind::Resume, act),
            _ => (Kind::Call, self.fresh(frame, info)?),
        };
        self.stack.push(act);
        let stays = self.stays_on_line && kind == Kind::Resume;
        // SAFETY: the frame is live.
        let line = if stays { 0 } else { unsafe { PyFrame_GetLineNumber(frame) } };
        let at = self.stack.len() - 1;
        self.moved(at, line);
        self.event(kind, at, frame, self.stack[at].line, null_mut())
    }

    /// The activation known under a frame's address, which is suspended, or has ended unseen.
    fn forget(&mut self, frame: *mut Object) -> Option<Box<Activation>> {
        if self.suspended.is_empty() {
            return None;
        }
        self.suspended.remove(&(frame as usize))
    }

    fn fresh(&mut self, frame: *mut Object, index: usize) -> Result<Box<Activation>, Fail> {
        let info = &mut self.infos[index];
        if let Some(definition) = info.definition.take() {
            info.number = self.functions;
            self.functions += 1;
            self.log.write(&definition)?;
        }
        let mut act = info.activation();
        if info.names.is_none() {
            // SAFETY: the frame is live; the reference is owned.
            act.space = unsafe { namespace::of_frame(frame, info.is_module, &self.frames, self.layout) };
            if act.space.0.is_null() {
                return Err(Fail);
            }
        }
        act.number = self.started;
        act.frame = frame as usize;
        act.info = index;
        act.line = info.first_line;
        act.written_line = info.first_line;
        self.started += 1;
        Ok(act)
    }

    unsafe fn is_resumed(&self, frame: *mut Object, info: usize) -> bool {
        let info = &self.infos[info];
        if !info.is_generator {
            return false;
        }
        // SAFETY: the caller passes a live frame.
        let Ok(at) = usize::try_from(unsafe { self.frames.lasti(frame) }) else { return false };
        if self.op_resume < 0 {
            return true;
        }
        info.op(at) == self.op_resume && info.op(at + 1) & 3 != 0 || info.op(at) == self.op_yield
    }

    /// A return event without a value is an unwinding; the instruction tells a yield from a return.
    pub fn leave_kind(&self, frame: *mut Object, info: usize, value: *mut Object) -> Kind {
        let info = &self.infos[info];
        if value.is_null() {
            return Kind::Unwind;
        }
        if !info.is_generator {
            return Kind::Return;
        }
        // SAFETY: the frame is live.
        let at = usize::try_from(unsafe { self.frames.lasti(frame) }).unwrap_or(usize::MAX / 2);
        let suspended = info.op(at) == self.op_yield || info.op(at + 2) == self.op_yield_from;
        if info.op(at) != self.op_return && info.op(at) >= 0 && suspended {
            Kind::Yield
        } else {
            Kind::Return
        }
    }

    pub fn line(&mut self, frame: *mut Object, info: usize, line: c_int) -> Result<(), Fail> {
        let Some(at) = self.place(frame, info) else { return Ok(()) };
        self.moved(at, line);
        self.event(Kind::Line, at, frame, self.stack[at].line, null_mut())
    }

    pub fn exception(&mut self, frame: *mut Object, info: usize, error: *mut Object) -> Result<(), Fail> {
        let Some(at) = self.place(frame, info) else { return Ok(()) };
        let line = self.line_now(frame, at);
        self.event(Kind::Exception, at, frame, line, error)
    }

    pub fn leave(&mut self, frame: *mut Object, info: usize, kind: Kind, value: *mut Object) -> Result<(), Fail> {
        let Some(at) = self.place(frame, info) else { return Ok(()) };
        let line = self.line_now(frame, at);
        let value = if kind == Kind::Unwind { null_mut() } else { value };
        self.event(kind, at, frame, line, value)?;
        let act = self.stack.remove(at);
        if kind == Kind::Yield {
            self.suspended.insert(frame as usize, act);
            return Ok(());
        }
        let number = act.number;
        self.infos[info].finished(act);
        if number == self.entry {
            self.over = true;
            // SAFETY: a callable of the collector, with no arguments.
            unsafe { called(PyObject_CallFunctionObjArgs(self.on_over, null_mut::<Object>()))? };
        }
        Ok(())
    }

    /// Where an activation that runs is on the stack: nearly always on top.
    #[inline(always)]
    fn place(&self, frame: *mut Object, info: usize) -> Option<usize> {
        let found = |act: &Box<Activation>| act.frame == frame as usize && act.info == info;
        if self.stack.last().is_some_and(found) {
            return Some(self.stack.len() - 1);
        }
        self.stack.iter().rposition(found)
    }

    /// Notes the line of an event; instructions made by the compiler have none.
    fn moved(&mut self, at: usize, line: c_int) {
        if line > 0 {
            self.stack[at].line = line;
        }
    }

    fn line_now(&self, frame: *mut Object, at: usize) -> c_int {
        if self.stays_on_line {
            return self.stack[at].line;
        }
        // SAFETY: the frame is live.
        let line = unsafe { PyFrame_GetLineNumber(frame) };
        if line > 0 { line } else { self.stack[at].line }
    }

    /// Writes the record of an event: what changed in the variables, except for exceptions, and a value
    /// if there is one. Inlined, because each caller is about one or two kinds only.
    #[inline(always)]
    fn event(
        &mut self,
        kind: Kind,
        at: usize,
        frame: *mut Object,
        line: c_int,
        value: *mut Object,
    ) -> Result<(), Fail> {
        if !self.count()? {
            return Ok(());
        }
        let is_top = at + 1 == self.stack.len();
        let Self { stack, infos, renderer, encoder, scratch, layout, frames, log, .. } = self;
        let act = &mut *stack[at];
        let info = &mut infos[act.info];
        let is_named = kind == Kind::Resume || kind != Kind::Call && !is_top;
        let function = (kind == Kind::Call).then_some(info.number);
        let step = line - act.written_line;
        act.written_line = line;
        encoder.begin(kind, is_named.then_some(act.number), function, step);
        let mut write = Write { renderer, encoder, scratch, log };
        // SAFETY: the frame and the value are live.
        unsafe {
            if kind != Kind::Exception {
                match layout {
                    _ if info.names.is_none() => namespace::changes(act, info, &mut write)?,
                    Some(layout) if info.is_straight => {
                        write.straight_changes(frame, act, layout)?;
                    }
                    Some(layout) => write.placed_changes(frame, act, &info.places, layout)?,
                    None => write.asked_changes(frame, act, info, frames)?,
                }
            }
            if !value.is_null() {
                write.renderer.render_once(value, write.scratch)?;
                write.encoder.value(write.scratch);
            }
        }
        self.log.write(&self.encoder.record)
    }

    /// Counts an event; false if it is not to be recorded any more.
    #[inline(always)]
    fn count(&mut self) -> Result<bool, Fail> {
        if self.events >= self.max_events || self.log.total() > self.log_cap {
            return self.full().map(|()| false);
        }
        self.events += 1;
        Ok(true)
    }

    /// No more is to be recorded.
    #[cold]
    fn full(&mut self) -> Result<(), Fail> {
        self.over = true;
        if !self.is_main {
            return self.log.write(&end_record(self.events));
        }
        // SAFETY: a callable of the collector that ends the process.
        unsafe {
            let events = PyLong_FromUnsignedLongLong(self.events);
            called(PyObject_CallFunctionObjArgs(self.on_full, events, null_mut::<Object>()))
        }
    }

    /// Hands the exception that is set to Python, which ends the process.
    pub fn report_failure(&self) {
        let (mut kind, mut value, mut trace) = (null_mut(), null_mut(), null_mut());
        // SAFETY: three places for owned references; the callable is the collector's.
        unsafe {
            PyErr_Fetch(&mut kind, &mut value, &mut trace);
            PyErr_NormalizeException(&mut kind, &mut value, &mut trace);
            if value.is_null() {
                value = &raw mut _Py_NoneStruct;
            }
            PyObject_CallFunctionObjArgs(self.on_failure, value, null_mut::<Object>());
        }
    }
}

/// What the changes of an activation's variables are written with.
pub struct Write<'a> {
    pub renderer: &'a mut Renderer,
    pub encoder: &'a mut Encoder,
    pub scratch: &'a mut Rendered,
    pub log: &'a Log,
}

impl Write<'_> {
    /// Compares one variable with its last text and writes it if it reads differently.
    #[inline(never)]
    pub unsafe fn variable(
        &mut self,
        act: &mut Activation,
        variable: usize,
        value: *mut Object,
    ) -> Result<(), Fail> {
        let (shadow, quick) = (&mut act.shadows[variable], &mut act.quick[variable]);
        // SAFETY: the value is live or NULL.
        let change = unsafe { shadow.update(quick, value, self.renderer, self.scratch)? };
        if change != Change::Nothing {
            self.encoder.change(variable, change, shadow.shown(), self.scratch);
        }
        Ok(())
    }

    /// Variables that are the slots of the frame, one for one.
    #[inline(always)]
    unsafe fn straight_changes(
        &mut self,
        frame: *mut Object,
        act: &mut Activation,
        layout: &Layout,
    ) -> Result<(), Fail> {
        // SAFETY: the frame is live and has a slot for each variable of its code.
        unsafe {
            let slots = std::slice::from_raw_parts(layout.slots(frame), act.quick.len());
            for (variable, &value) in slots.iter().enumerate() {
                if value as usize != act.quick[variable] {
                    self.variable(act, variable, value)?;
                }
            }
        }
        Ok(())
    }

    /// The same where some are in cells.
    unsafe fn placed_changes(
        &mut self,
        frame: *mut Object,
        act: &mut Activation,
        places: &[Place],
        layout: &Layout,
    ) -> Result<(), Fail> {
        // SAFETY: as above; a cell slot is read through only if it holds a cell.
        unsafe {
            let slots = layout.slots(frame);
            for (variable, place) in places.iter().enumerate() {
                let mut value = *slots.add(place.slot);
                if place.is_cell {
                    value = through_cell(value);
                }
                if value as usize != act.quick[variable] {
                    self.variable(act, variable, value)?;
                }
            }
        }
        Ok(())
    }

    /// The same by the public API.
    unsafe fn asked_changes(
        &mut self,
        frame: *mut Object,
        act: &mut Activation,
        info: &Info,
        frames: &FrameApi,
    ) -> Result<(), Fail> {
        let Some(names) = info.names.as_ref().filter(|names| !names.is_empty()) else {
            return Ok(());
        };
        // SAFETY: the frame is live; `space` is owned until the end, and each value while it is used.
        unsafe {
            let space = Held(frames.locals(frame));
            if space.0.is_null() {
                return Err(Fail);
            }
            let is_dict = kind_of(space.0) == &raw mut PyDict_Type;
            for (variable, &name) in names.iter().enumerate() {
                let value = Held(look_up(space.0, name, is_dict));
                if value.0.is_null() && !PyErr_Occurred().is_null() {
                    PyErr_Clear();
                }
                if value.0 as usize != act.quick[variable] {
                    self.variable(act, variable, value.0)?;
                }
            }
        }
        Ok(())
    }
}

/// The nine entries of the table, or `None` where the collector passes that.
unsafe fn layout_of(offsets: *mut Object) -> Option<&'static Layout> {
    // SAFETY: the collector passes a tuple of nine ints, or `None`.
    unsafe {
        if kind_of(offsets) != &raw mut PyTuple_Type {
            return None;
        }
        let offset = |at| small_int(PyTuple_GetItem(offsets, at)) as usize;
        // Once for each process that is recorded.
        Some(Box::leak(Box::new(Layout {
            inner: offset(0),
            code: offset(1),
            globals: offset(2),
            space: offset(3),
            slots: offset(4),
            lines: offset(5),
            qualname: offset(6),
            text: offset(7),
            ints: if offset(8) == 1 { Ints::Signed } else { Ints::Tagged },
        })))
    }
}

/// Drops the result of a call made for its effect.
unsafe fn called(result: *mut Object) -> Result<(), Fail> {
    if result.is_null() {
        return Err(Fail);
    }
    // SAFETY: the result is owned.
    unsafe { Py_DecRef(result) };
    Ok(())
}

/// An owned reference to a variable's value; NULL, perhaps with an exception, if it is unbound.
unsafe fn look_up(space: *mut Object, name: *mut Object, is_dict: bool) -> *mut Object {
    // SAFETY: callers pass live objects.
    unsafe {
        if !is_dict {
            return PyObject_GetItem(space, name);
        }
        let value = PyDict_GetItemWithError(space, name);
        if !value.is_null() {
            Py_IncRef(value);
        }
        value
    }
}
