//! Readings of the containers that were rendered last, shared by all activations that see them.
//!
//! A list that is handed from function to function is rendered once and not by each of them. Where an
//! object lies only says where to look: what its snapshot says decides whether a reading holds.

use std::rc::Rc;

use crate::ffi::Object;
use crate::render::{Rendered, Renderer};
use crate::snapshot::Snapshot;

/// Shorter texts are made as fast as they are found.
const SHORTEST: usize = 64;
/// How many readings are kept; a power of two.
const MOST: usize = 64;

/// A text, and what it was made of.
#[derive(Default)]
pub struct Reading {
    pub snapshot: Snapshot,
    pub shown: Rendered,
}

pub struct Recent {
    /// By place: the address of the object that was read last, and its reading.
    readings: [(usize, Rc<Reading>); MOST],
    /// One that nobody has.
    spare: Rc<Reading>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { readings: std::array::from_fn(|_| (0, Rc::default())), spare: Rc::default() }
    }
}

impl Recent {
    fn place(value: *mut Object) -> usize {
        // Objects are aligned to 16 bytes, and lists are 64 apart.
        (value as usize >> 4 ^ value as usize >> 10) % MOST
    }

    /// Keeps what was just read, if that is worth it: then what was handed over is empty.
    pub fn keep(
        &mut self,
        value: *mut Object,
        shown: &mut Rendered,
        snapshot: &mut Snapshot,
    ) -> Option<Rc<Reading>> {
        if shown.repr.len() < SHORTEST || !snapshot.lasts() {
            return None;
        }
        let (address, reading) = &mut self.readings[Self::place(value)];
        *address = value as usize;
        if Rc::get_mut(reading).is_none() {
            *reading = std::mem::take(&mut self.spare);
        }
        let owned = Rc::get_mut(reading)?;
        std::mem::swap(&mut owned.snapshot, snapshot);
        std::mem::swap(&mut owned.shown, shown);
        snapshot.clear();
        Some(reading.clone())
    }

    /// Takes a reading out that the caller has, too, and moves what is in it to the caller, or gives it
    /// back if others have it.
    pub fn take(
        &mut self,
        value: *mut Object,
        mut reading: Rc<Reading>,
        shown: &mut Rendered,
        snapshot: &mut Snapshot,
    ) -> Option<Rc<Reading>> {
        let (address, kept) = &mut self.readings[Self::place(value)];
        if Rc::ptr_eq(kept, &reading) {
            *address = 0;
            *kept = std::mem::take(&mut self.spare);
        }
        let Some(owned) = Rc::get_mut(&mut reading) else { return Some(reading) };
        std::mem::swap(&mut owned.snapshot, snapshot);
        std::mem::swap(&mut owned.shown, shown);
        owned.snapshot.clear();
        self.spare = reading;
        None
    }
}

impl Renderer {
    /// The reading of a live value that was rendered not long ago and reads the same now.
    pub unsafe fn recent(&mut self, value: *mut Object) -> Option<Rc<Reading>> {
        let (address, reading) = &self.recent.readings[Recent::place(value)];
        if *address != value as usize {
            return None;
        }
        let reading = reading.clone();
        // SAFETY: the value is live.
        unsafe { self.reads_the_same(value, &reading.snapshot) }.then_some(reading)
    }
}
