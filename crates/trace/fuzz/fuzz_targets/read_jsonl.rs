//! Whatever can be read of a file, written again, reads as the same trace.

#![no_main]

use cwm_trace::jsonl;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let trace = match jsonl::read(bytes) {
        Ok(trace) => trace,
        Err(error) => match error.partial {
            Some(trace) => *trace,
            None => return,
        },
    };
    let mut written = Vec::new();
    jsonl::write(&trace, &mut written).expect("memory");
    assert_eq!(
        jsonl::read(&written[..]).expect("what was just written"),
        trace
    );
});
