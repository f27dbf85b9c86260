//! Memory of the emulated device: a table of allocations with guards around them.
//!
//! Promises: fresh memory is NaN in every format, so that what is read before it is written shows; a write
//! just outside an allocation is found after the launch that made it, and at the latest when the
//! allocation is released or the device synchronised.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;

use super::refused;
use crate::device::Address;
use crate::error::Error;

/// On both sides of an allocation; also its alignment.
const GUARD_BYTES: usize = 256;
const GUARD: u8 = 0xa5;
const UNSET: u8 = 0xff;

/// All allocations.
#[derive(Debug)]
pub(super) struct Memory {
    /// Their sizes by where they begin.
    sizes: BTreeMap<Address, usize>,
    used: usize,
    total: usize,
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes + 2 * GUARD_BYTES, GUARD_BYTES)
        .expect("sizes were checked against the device's memory")
}

impl Memory {
    pub(super) fn new(total: usize) -> Self {
        Self {
            sizes: BTreeMap::new(),
            used: 0,
            total,
        }
    }

    pub(super) fn free_and_total(&self) -> (usize, usize) {
        (self.total - self.used, self.total)
    }

    pub(super) fn allocate(&mut self, bytes: usize) -> Result<Address, Error> {
        let free = self.total - self.used;
        let full = Error::OutOfMemory {
            wanted: bytes,
            free,
            total: self.total,
        };
        if bytes > free {
            return Err(full);
        }
        // SAFETY: the layout is not empty, because of its guards.
        let base = unsafe { alloc(layout(bytes)) };
        if base.is_null() {
            return Err(full);
        }
        // SAFETY: guard, bytes and guard lie in what was just allocated.
        let start = unsafe {
            base.write_bytes(GUARD, GUARD_BYTES);
            let start = base.add(GUARD_BYTES);
            start.write_bytes(UNSET, bytes);
            start.add(bytes).write_bytes(GUARD, GUARD_BYTES);
            start
        };
        let address = start.expose_provenance() as Address;
        self.sizes.insert(address, bytes);
        self.used += bytes;
        Ok(address)
    }

    /// Panics where memory was spoiled and nobody was told, unless a panic is under way.
    pub(super) fn release(&mut self, address: Address, bytes: usize) {
        let guards = self.check_guards("work before a release", address);
        assert_eq!(
            self.sizes.remove(&address),
            Some(bytes),
            "what is released was allocated with its size"
        );
        self.used -= bytes;
        let base = std::ptr::with_exposed_provenance_mut::<u8>(address as usize - GUARD_BYTES);
        // SAFETY: it was allocated with this layout, and is out of the table.
        unsafe { dealloc(base, layout(bytes)) };
        if let (Err(error), false) = (guards, std::thread::panicking()) {
            panic!("{error}");
        }
    }

    /// An error unless these bytes are in one allocation; no bytes may also be at its end.
    pub(super) fn check(&self, what: &str, address: Address, bytes: usize) -> Result<(), Error> {
        let (start, size) = self.allocation(what, address)?;
        let end = (address - start) as usize + bytes;
        if end > size {
            return Err(refused(format!(
                "{what} wants {bytes} bytes from byte {} of an allocation of {size}",
                address - start
            )));
        }
        Ok(())
    }

    /// An error if the guards around the allocation of this address were written to.
    pub(super) fn check_guards(&self, what: &str, address: Address) -> Result<(), Error> {
        let (start, size) = self.allocation(what, address)?;
        let guards = [
            (start as usize - GUARD_BYTES, "before"),
            (start as usize + size, "after"),
        ];
        for (guard, side) in guards {
            let guard = std::ptr::with_exposed_provenance::<u8>(guard);
            // SAFETY: so many bytes lie before and after every allocation in the table.
            let bytes = unsafe { std::slice::from_raw_parts(guard, GUARD_BYTES) };
            if let Some(at) = bytes.iter().position(|&byte| byte != GUARD) {
                let distance = if side == "after" {
                    at
                } else {
                    GUARD_BYTES - at
                };
                return Err(refused(format!(
                    "{what} wrote {distance} bytes {side} an allocation of {size} bytes"
                )));
            }
        }
        Ok(())
    }

    pub(super) fn check_all_guards(&self) -> Result<(), Error> {
        let mut addresses = self.sizes.keys();
        addresses.try_for_each(|&address| self.check_guards("work", address))
    }

    /// Where the allocation of an address begins, and its size.
    fn allocation(&self, what: &str, address: Address) -> Result<(Address, usize), Error> {
        let before = self.sizes.range(..=address).next_back();
        match before {
            Some((&start, &size)) if address <= start + size as u64 => Ok((start, size)),
            _ => Err(refused(format!(
                "{what} uses address {address:#x}, which is in no allocation"
            ))),
        }
    }
}
