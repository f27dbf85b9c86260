//! Whatever can be read of a text, written again, reads as the same document.

#![no_main]

use cwm_trace::nd;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let first = nd::parse(text);
    let again = nd::parse(&nd::render(&first.document));
    assert_eq!(again.broken, None);
    assert_eq!(again.document, first.document);
});
