//! Whatever can be read of a text, written again, reads as the same document,
//! and has windows.

#![no_main]

use cwm_trace::live::{self, Machine, Workings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let first = live::parse(text);
    let again = live::parse(&live::render(&first.document));
    assert_eq!(again.broken, None);
    assert_eq!(again.document, first.document);
    Machine::windows(&first.document, &Workings::new());
});
