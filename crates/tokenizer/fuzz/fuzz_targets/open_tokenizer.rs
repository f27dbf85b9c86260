//! Whatever opens as a vocabulary has no more tokens than its file has lines, and writes every text so
//! that it can be read again. The input is taken as a whole file, and as lines behind the 256 single
//! bytes, which few inputs would get past.

#![no_main]

use cwm_tokenizer::llama::Llama;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    check(input, input);
    check(&[SINGLE_BYTES.as_bytes(), input].concat(), input);
});

/// What `tokenizer.model` begins with.
static SINGLE_BYTES: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |sextet: usize| letters[sextet] as char;
    let line = |byte: usize| format!("{}{}== {byte}\n", letter(byte >> 2), letter((byte & 3) << 4));
    (0..256usize).map(line).collect()
});

fn check(file: &[u8], text: &[u8]) {
    let Ok(llama) = Llama::from_bytes(file) else {
        return;
    };
    let lines = file.split(|&byte| byte == b'\n').count();
    assert!(llama.vocabulary() <= lines + 256);
    let text = String::from_utf8_lossy(text);
    assert_eq!(llama.decode(&llama.encode(&text)).as_deref(), Ok(&*text));
}
