//! The C API as far as it is used, declared by hand: functions and type objects that every CPython
//! from 3.8 exports, and by name those that only newer ones have.

use std::ffi::{CStr, c_char, c_double, c_int, c_long, c_longlong, c_ulonglong, c_void};
use std::ptr::{null, null_mut};

/// `PyObject`: only the header is ever read.
#[repr(C)]
pub struct Object {
    _references: isize,
    kind: *mut Object,
}

/// The type of an object.
#[inline(always)]
pub unsafe fn kind_of(object: *mut Object) -> *mut Object {
    // SAFETY: every object begins with its header; callers pass live ones.
    unsafe { (*object).kind }
}

pub const API_VERSION: c_int = 1013;
pub const METH_FASTCALL: c_int = 0x80;
pub const TRACE_CALL: c_int = 0;
pub const TRACE_EXCEPTION: c_int = 1;
pub const TRACE_LINE: c_int = 2;
pub const TRACE_RETURN: c_int = 3;
pub const BUFFER_WRITABLE: c_int = 1;
pub const FLOAT_ADD_DOT_0: c_int = 2;

pub type TraceFunction =
    unsafe extern "C" fn(*mut Object, *mut Object, c_int, *mut Object) -> c_int;

/// `PyMethodDef` of a function with the fast calling convention.
#[repr(C)]
pub struct MethodDef {
    pub name: *const c_char,
    pub run: Option<unsafe extern "C" fn(*mut Object, *const *mut Object, isize) -> *mut Object>,
    pub flags: c_int,
    pub doc: *const c_char,
}

impl MethodDef {
    pub const END: Self = Self { name: null(), run: None, flags: 0, doc: null() };
}

/// `PyModuleDef`
#[repr(C)]
pub struct ModuleDef {
    references: isize,
    kind: *mut Object,
    init: *mut c_void,
    index: isize,
    copy: *mut Object,
    name: *const c_char,
    doc: *const c_char,
    size: isize,
    pub methods: *mut MethodDef,
    slots: *mut c_void,
    traverse: *mut c_void,
    clear: *mut c_void,
    free: *mut c_void,
}

impl ModuleDef {
    pub const fn new(name: &'static CStr) -> Self {
        Self {
            references: 1,
            kind: null_mut(),
            init: null_mut(),
            index: 0,
            copy: null_mut(),
            name: name.as_ptr(),
            doc: null(),
            size: -1,
            methods: null_mut(),
            slots: null_mut(),
            traverse: null_mut(),
            clear: null_mut(),
            free: null_mut(),
        }
    }
}

/// `Py_buffer`: its first field is the address; the rest is the interpreter's.
#[repr(C)]
pub struct Buffer {
    pub data: *mut u8,
    rest: [usize; 15],
}

impl Buffer {
    pub const fn empty() -> Self {
        Self { data: null_mut(), rest: [0; 15] }
    }
}

unsafe extern "C" {
    pub static mut _Py_NoneStruct: Object;
    pub static mut _Py_TrueStruct: Object;
    pub static mut _Py_FalseStruct: Object;
    pub static mut PyLong_Type: Object;
    pub static mut PyFloat_Type: Object;
    pub static mut PyBool_Type: Object;
    pub static mut PyUnicode_Type: Object;
    pub static mut PyBytes_Type: Object;
    pub static mut PyList_Type: Object;
    pub static mut PyTuple_Type: Object;
    pub static mut PyDict_Type: Object;
    pub static mut PySet_Type: Object;
    pub static mut PyFrozenSet_Type: Object;
    pub static mut PyModule_Type: Object;
    pub static mut PyFunction_Type: Object;
    pub static mut PyMethod_Type: Object;
    pub static mut PyDictKeys_Type: Object;
    pub static mut PyDictValues_Type: Object;
    pub static mut PyDictItems_Type: Object;
    pub static mut PyCFunction_Type: Object;
    pub static mut PyType_Type: Object;
    pub static mut PyBaseObject_Type: Object;
    pub static mut PyCell_Type: Object;
    pub static mut PyFrame_Type: Object;
    pub static mut PyGen_Type: Object;
    pub static mut PyCoro_Type: Object;
    pub static mut PyAsyncGen_Type: Object;
    pub static mut PyRange_Type: Object;
    pub static mut PyComplex_Type: Object;
    pub static mut _Py_EllipsisObject: Object;
    pub static mut PyExc_KeyError: *mut Object;
    pub static mut PyExc_RecursionError: *mut Object;

    pub fn Py_IncRef(object: *mut Object);
    pub fn Py_DecRef(object: *mut Object);
    pub fn PyModule_Create2(def: *mut ModuleDef, version: c_int) -> *mut Object;
    pub fn PyThreadState_Get() -> *mut c_void;
    pub fn PyThreadState_GetDict() -> *mut Object;
    pub fn PyCapsule_New(
        pointer: *mut c_void,
        name: *const c_char,
        end: Option<unsafe extern "C" fn(*mut Object)>,
    ) -> *mut Object;
    pub fn PyCapsule_GetPointer(capsule: *mut Object, name: *const c_char) -> *mut c_void;
    pub fn PyEval_SetTrace(run: Option<TraceFunction>, object: *mut Object);
    pub fn PyEval_GetFrame() -> *mut Object;
    pub fn PyFrame_GetLineNumber(frame: *mut Object) -> c_int;
    pub fn PyCode_Addr2Line(code: *mut Object, offset: c_int) -> c_int;
    pub fn PyObject_GenericGetDict(object: *mut Object, context: *mut c_void) -> *mut Object;
    pub fn PyObject_GetAttrString(object: *mut Object, name: *const c_char) -> *mut Object;
    pub fn PyFunction_GetClosure(function: *mut Object) -> *mut Object;
    pub fn PyFunction_GetModule(function: *mut Object) -> *mut Object;
    pub fn PyFunction_GetCode(function: *mut Object) -> *mut Object;
    pub fn PyWeakref_NewRef(object: *mut Object, callback: *mut Object) -> *mut Object;
    pub fn PyWeakref_GetObject(reference: *mut Object) -> *mut Object;
    pub fn PyObject_GetAttr(object: *mut Object, name: *mut Object) -> *mut Object;
    pub fn PyObject_GetItem(object: *mut Object, key: *mut Object) -> *mut Object;
    pub fn PyMethod_Function(method: *mut Object) -> *mut Object;
    pub fn PyMethod_Self(method: *mut Object) -> *mut Object;
    pub fn PyObject_GetIter(object: *mut Object) -> *mut Object;
    pub fn PyObject_GetBuffer(object: *mut Object, view: *mut Buffer, flags: c_int) -> c_int;
    pub fn PyObject_CallFunctionObjArgs(function: *mut Object, ...) -> *mut Object;
    pub fn PyIter_Next(iterator: *mut Object) -> *mut Object;
    pub fn PyType_IsSubtype(kind: *mut Object, base: *mut Object) -> c_int;
    pub fn PyDict_GetItemWithError(dict: *mut Object, key: *mut Object) -> *mut Object;
    pub fn PyDict_SetItemString(
        dict: *mut Object,
        key: *const c_char,
        value: *mut Object,
    ) -> c_int;
    pub fn PyDict_GetItemString(dict: *mut Object, key: *const c_char) -> *mut Object;
    pub fn PyDict_Next(
        dict: *mut Object,
        at: *mut isize,
        key: *mut *mut Object,
        value: *mut *mut Object,
    ) -> c_int;
    pub fn PyDict_Size(dict: *mut Object) -> isize;
    pub fn PyMapping_Items(mapping: *mut Object) -> *mut Object;
    pub fn PyList_Size(list: *mut Object) -> isize;
    pub fn PyList_GetItem(list: *mut Object, at: isize) -> *mut Object;
    pub fn PyTuple_Size(tuple: *mut Object) -> isize;
    pub fn PyTuple_GetItem(tuple: *mut Object, at: isize) -> *mut Object;
    pub fn PySet_Size(set: *mut Object) -> isize;
    pub fn PyLong_FromUnsignedLongLong(value: c_ulonglong) -> *mut Object;
    pub fn PyLong_AsLongLongAndOverflow(object: *mut Object, overflow: *mut c_int) -> c_longlong;
    pub fn PyLong_AsLong(object: *mut Object) -> c_long;
    pub fn PyFloat_AsDouble(object: *mut Object) -> c_double;
    pub fn PyOS_double_to_string(
        value: c_double,
        format: c_char,
        precision: c_int,
        flags: c_int,
        kind: *mut c_int,
    ) -> *mut c_char;
    pub fn PyMem_Free(memory: *mut c_void);
    pub fn PyUnicode_GetLength(text: *mut Object) -> isize;
    pub fn PyUnicode_AsUTF8AndSize(text: *mut Object, size: *mut isize) -> *const c_char;
    pub fn PyUnicode_InternFromString(text: *const c_char) -> *mut Object;
    pub fn PyUnicode_AsEncodedString(
        text: *mut Object,
        encoding: *const c_char,
        errors: *const c_char,
    ) -> *mut Object;
    pub fn PyBytes_AsStringAndSize(
        bytes: *mut Object,
        data: *mut *mut c_char,
        size: *mut isize,
    ) -> c_int;
    pub fn PyErr_SetString(kind: *mut Object, message: *const c_char);
    pub fn PyErr_Occurred() -> *mut Object;
    pub fn PyErr_Clear();
    pub fn PyErr_Fetch(kind: *mut *mut Object, value: *mut *mut Object, trace: *mut *mut Object);
    pub fn PyErr_NormalizeException(
        kind: *mut *mut Object,
        value: *mut *mut Object,
        trace: *mut *mut Object,
    );

    pub fn getpid() -> c_int;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

type OfFrame<T> = unsafe extern "C" fn(*mut Object) -> T;

/// Frame functions that newer versions have, else the attribute that says the same.
pub struct FrameApi {
    get_code: Option<OfFrame<*mut Object>>,
    get_locals: Option<OfFrame<*mut Object>>,
    get_lasti: Option<OfFrame<c_int>>,
    f_code: *mut Object,
    f_locals: *mut Object,
    f_globals: *mut Object,
    f_lasti: *mut Object,
}

impl FrameApi {
    pub unsafe fn new() -> Self {
        // SAFETY: the signatures are those of the documented functions of these names; the lock is
        // held for making the strings.
        unsafe {
            Self {
                get_code: std::mem::transmute(find(c"PyFrame_GetCode")),
                get_locals: std::mem::transmute(find(c"PyFrame_GetLocals")),
                get_lasti: std::mem::transmute(find(c"PyFrame_GetLasti")),
                f_code: PyUnicode_InternFromString(c"f_code".as_ptr()),
                f_locals: PyUnicode_InternFromString(c"f_locals".as_ptr()),
                f_globals: PyUnicode_InternFromString(c"f_globals".as_ptr()),
                f_lasti: PyUnicode_InternFromString(c"f_lasti".as_ptr()),
            }
        }
    }

    /// The code object, whose address stays good while the frame lives.
    pub unsafe fn code(&self, frame: *mut Object) -> *mut Object {
        // SAFETY: callers pass a live frame, which keeps its code alive.
        unsafe {
            let code = match self.get_code {
                Some(get) => get(frame),
                None => PyObject_GetAttr(frame, self.f_code),
            };
            Py_DecRef(code);
            code
        }
    }

    /// An owned reference to the local variables, NULL on error.
    pub unsafe fn locals(&self, frame: *mut Object) -> *mut Object {
        // SAFETY: callers pass a live frame.
        unsafe {
            match self.get_locals {
                Some(get) => get(frame),
                None => PyObject_GetAttr(frame, self.f_locals),
            }
        }
    }

    /// An owned reference to the globals, NULL on error.
    pub unsafe fn globals(&self, frame: *mut Object) -> *mut Object {
        // SAFETY: callers pass a live frame.
        unsafe { PyObject_GetAttr(frame, self.f_globals) }
    }

    /// Offset of the last instruction in bytes, negative before the first.
    pub unsafe fn lasti(&self, frame: *mut Object) -> c_int {
        // SAFETY: callers pass a live frame; the attribute is a small int.
        unsafe {
            if let Some(get) = self.get_lasti {
                return get(frame);
            }
            let number = PyObject_GetAttr(frame, self.f_lasti);
            let value = PyLong_AsLong(number);
            Py_DecRef(number);
            value as c_int
        }
    }
}

unsafe fn find(name: &CStr) -> *mut c_void {
    // SAFETY: a NULL handle searches the whole process on every system with `dlsym` but macOS, where
    // it finds nothing and the attributes are used.
    unsafe { dlsym(null_mut(), name.as_ptr()) }
}
