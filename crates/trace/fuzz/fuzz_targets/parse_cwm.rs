//! Whatever can be read of a text, written again, reads as the same document.

#![no_main]

use cwm_trace::cwm;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let first = cwm::parse(text);
    let again = cwm::parse(&cwm::render(&first.document));
    assert_eq!(again.broken, None);
    assert_eq!(again.document, first.document);
});
