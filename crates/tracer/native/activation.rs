//! Code objects of the traced file, and their runs.

use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::ptr::null_mut;

use crate::address::ByAddress;
use crate::ffi::*;
use crate::held::Held;
use crate::shadow::Shadow;
use crate::{bytes_of, small_int};

/// `co_flags` of generators, coroutines and asynchronous generators.
const GENERATOR_LIKE: i32 = 0x20 | 0x80 | 0x200;
/// Finished activations of one code object that are kept for its next calls.
const POOL: usize = 64;

/// Where a variable is: a slot of the frame, and whether that holds a cell.
#[derive(Clone, Copy)]
pub struct Place {
    pub slot: usize,
    pub is_cell: bool,
}

/// Every known code object.
#[derive(Default)]
struct Codes {
    /// What was said of each, seven things: `Info::new` takes them.
    said: Vec<[*mut Object; 7]>,
    addresses: ByAddress<()>,
}

struct Known(UnsafeCell<Option<Codes>>);

// SAFETY: every access holds the interpreter lock.
unsafe impl Sync for Known {}

static KNOWN: Known = Known(UnsafeCell::new(None));

/// Makes a code object known to all recorders, each of which takes it over when it meets one that it
/// does not know.
pub unsafe fn add_code(args: &[*mut Object]) {
    let mut kept = [null_mut(); 7];
    for (place, &arg) in kept.iter_mut().zip(args) {
        // SAFETY: callers pass live objects, which stay alive from now on.
        unsafe { Py_IncRef(arg) };
        *place = arg;
    }
    // SAFETY: under the lock; the reference is not kept.
    let known = unsafe { (*KNOWN.0.get()).get_or_insert_default() };
    known.said.push(kept);
    known.addresses.insert(kept[0] as usize, ());
}

/// The known code object of a number, counted from 0 as they came.
pub fn known(number: usize) -> Option<[*mut Object; 7]> {
    // SAFETY: under the lock; the reference is not kept.
    let known = unsafe { (*KNOWN.0.get()).as_ref()? };
    known.said.get(number).copied()
}

/// Whether a code object is one of them.
pub fn is_known(code: *mut Object) -> bool {
    // SAFETY: under the lock; the reference is not kept.
    let known = unsafe { (*KNOWN.0.get()).as_ref() };
    known.is_some_and(|known| known.addresses.contains_key(&(code as usize)))
}

/// What is known of a code object. Python keeps the objects alive.
pub struct Info {
    pub code: *mut Object,
    /// The FUNCTION record, until it is written.
    pub definition: Option<Vec<u8>>,
    pub number: u64,
    /// Names of a function's variables; `None` for bodies of modules and classes.
    pub names: Option<Vec<*mut Object>>,
    pub places: Vec<Place>,
    /// Whether variable and slot have the same number, and none is in a cell.
    pub is_straight: bool,
    /// Numbers of names that bodies of modules and classes have bound so far.
    pub bound_names: HashMap<Vec<u8>, usize>,
    pub is_module: bool,
    pub is_generator: bool,
    pub ops: &'static [u8],
    pub first_line: i32,
    pool: Vec<Box<Activation>>,
}

impl Info {
    /// From `code, names or None, is_module, definition, ops, (flags, first line), places`; `None` if
    /// these are other objects than expected.
    pub unsafe fn new(args: &[*mut Object]) -> Option<Self> {
        let &[code, names, is_module, definition, ops, numbers, places] = args else { return None };
        // SAFETY: the collector passes objects of these kinds and keeps them alive.
        unsafe {
            let items = |tuple: *mut Object| {
                (0..PyTuple_Size(tuple)).map(move |at| PyTuple_GetItem(tuple, at))
            };
            let is_function = kind_of(names) == &raw mut PyTuple_Type;
            let places: Vec<_> = items(places)
                .map(|place| small_int(place))
                .map(|place| Place { slot: place as usize >> 1, is_cell: place & 1 != 0 })
                .collect();
            let mut slots = places.iter().enumerate();
            let is_straight = slots.all(|(at, place)| at == place.slot && !place.is_cell);
            let flags = small_int(PyTuple_GetItem(numbers, 0));
            Some(Self {
                code,
                definition: Some(bytes_of(definition)?.to_vec()),
                number: 0,
                names: is_function.then(|| items(names).collect()),
                places,
                is_straight,
                bound_names: HashMap::new(),
                is_module: is_module == &raw mut _Py_TrueStruct,
                is_generator: flags & GENERATOR_LIKE != 0,
                ops: bytes_of(ops)?,
                first_line: small_int(PyTuple_GetItem(numbers, 1)),
                pool: Vec::new(),
            })
        }
    }

    /// The opcode or argument at a byte of the code, -1 outside.
    pub fn op(&self, at: usize) -> i32 {
        self.ops.get(at).map_or(-1, |&op| op.into())
    }

    /// A new activation, or a used one with nothing in it.
    pub fn activation(&mut self) -> Box<Activation> {
        self.pool.pop().unwrap_or_else(|| {
            let count = self.names.as_ref().map_or(0, Vec::len);
            let mut act = Box::<Activation>::default();
            act.grow(count);
            act
        })
    }

    /// Takes back an activation that is over.
    pub fn finished(&mut self, mut act: Box<Activation>) {
        act.clear();
        if self.pool.len() < POOL {
            self.pool.push(act);
        }
    }
}

/// One run of a code object, across its suspensions.
#[derive(Default)]
pub struct Activation {
    pub number: u64,
    pub frame: usize,
    pub info: usize,
    /// The line of the last call, resumption or line event.
    pub line: i32,
    /// The line in the last record.
    pub written_line: i32,
    /// By variable: see `Shadow::update`.
    pub quick: Vec<usize>,
    pub shadows: Vec<Shadow>,
    /// The namespace of a module or class body.
    pub space: Held,
    /// That namespace's keys in order when it was last looked at, with the number of each that is a
    /// variable. The keys are held.
    pub rows: Vec<(Held, Option<usize>)>,
}

impl Activation {
    /// Makes room for this many variables.
    pub fn grow(&mut self, count: usize) {
        self.quick.resize(count, 0);
        self.shadows.resize_with(count, Shadow::default);
    }

    fn clear(&mut self) {
        for (shadow, quick) in self.shadows.iter_mut().zip(&mut self.quick) {
            if *quick != 0 {
                shadow.clear(quick);
            }
        }
        self.space = Held::default();
        self.rows.clear();
    }
}

impl Drop for Activation {
    fn drop(&mut self) {
        self.clear();
    }
}
