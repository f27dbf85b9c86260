//! Vocabularies that are not there, not whole, or not of this kind.

use cwm_tokenizer::llama::{BadFile, Llama, Special};
use proptest::prelude::*;

/// The smallest vocabulary: one token for each byte.
fn bytes_only() -> String {
    (0..256)
        .map(|byte| format!("{} {byte}\n", base64_of(byte)))
        .collect()
}

/// A single byte in base64.
fn base64_of(byte: u32) -> String {
    let letters: Vec<char> = ('A'..='Z')
        .chain('a'..='z')
        .chain('0'..='9')
        .chain(['+', '/'])
        .collect();
    let letter = |sextet: u32| letters[sextet as usize];
    format!("{}{}==", letter(byte >> 2), letter((byte & 3) << 4))
}

#[test]
fn a_vocabulary_of_bytes_encodes_every_text() {
    let llama = Llama::from_bytes(bytes_only().as_bytes()).expect("a vocabulary");
    assert_eq!(llama.vocabulary(), 512);
    assert_eq!(llama.encode("aé"), [0x61, 0xc3, 0xa9]);
    assert_eq!(llama.id(Special::EndOfTurn), 256 + 9);
    assert_eq!(llama.stop_ids(), [264, 265, 257]);
    let long = "漢字".repeat(500);
    assert_eq!(llama.decode(&llama.encode(&long)), Ok(long));
    // Half a character is not text, and does not stop the rest.
    assert_eq!(llama.decode_bytes(&[0x61, 0xc3]), Ok(vec![0x61, 0xc3]));
    assert_eq!(
        llama.decode(&[0x61, 0xc3, 0x62]).as_deref(),
        Ok("a\u{fffd}b")
    );
}

#[test]
fn windows_line_ends_are_read() {
    let file = bytes_only().replace('\n', "\r\n");
    assert_eq!(
        Llama::from_bytes(file.as_bytes()).map(|llama| llama.vocabulary()),
        Ok(512)
    );
}

#[test]
fn bad_files_are_named() {
    let good = bytes_only();
    let bad = |file: &str| {
        Llama::from_bytes(file.as_bytes())
            .map(|_| ())
            .expect_err("a bad file")
    };
    assert_eq!(bad(""), BadFile::NoByte { byte: 0 });
    assert_eq!(bad("\u{0}\u{1} hello"), BadFile::Line { line: 1 });
    assert_eq!(bad("AA== x\n"), BadFile::Line { line: 1 });
    assert_eq!(bad("AA== 0 0\n"), BadFile::Line { line: 1 });
    assert_eq!(bad("AA= 0\n"), BadFile::Line { line: 1 });
    assert_eq!(bad("AA== 0\n\nAA== 1\n"), BadFile::Repeated { line: 3 });
    assert_eq!(
        bad("AA== 0\nAQ== 7\n"),
        BadFile::Order {
            line: 2,
            rank: 7,
            expected: 1
        }
    );
    let cut = |bytes: usize| bad(&good[..good.len() - bytes]);
    assert_eq!(cut("/w== 255\n".len()), BadFile::NoByte { byte: 255 });
    assert_eq!(cut("== 255\n".len()), BadFile::Line { line: 256 });
    assert_eq!(
        cut("5\n".len()),
        BadFile::Order {
            line: 256,
            rank: 25,
            expected: 255
        }
    );
}

/// A line of a vocabulary, mostly well formed.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => ("[A-Za-z0-9+/]{4}", 250u32..270).prop_map(|(token, rank)| format!("{token} {rank}\n")),
        1 => "[A-Za-z0-9+/=]{0,9}[ \t]?[0-9]{0,12}\n?",
        1 => ".{0,12}",
    ]
}

proptest! {
    #[test]
    fn whatever_is_read_as_a_vocabulary_writes_every_text(
        lines in prop::collection::vec(line(), 0..12),
        cut in 0usize..4_000,
        text in ".{0,40}",
    ) {
        let mut file = bytes_only() + &lines.concat();
        if cut < file.len() && cut % 5 == 0 {
            file.truncate(file.floor_char_boundary(cut));
        }
        if let Ok(llama) = Llama::from_bytes(file.as_bytes()) {
            prop_assert!(llama.vocabulary() <= file.lines().count() + 256);
            prop_assert_eq!(llama.decode(&llama.encode(&text)), Ok(text));
        }
    }
}

#[test]
fn bad_paths_are_named() {
    let error = Llama::from_file("no/such/tokenizer.model")
        .expect_err("no such file")
        .to_string();
    assert!(
        error.starts_with("cannot read the tokenizer no/such/tokenizer.model: "),
        "{error}"
    );
    let error = Llama::from_file("tests/files.rs").expect_err("not a vocabulary");
    assert_eq!(
        error.to_string(),
        "tests/files.rs is not a `tokenizer.model` file of the Llama-3 kind: \
         line 1 is not a token in base64 and its rank"
    );
}

/// A file cut at the end of a line would give every reserved token another id.
#[test]
fn a_file_of_another_size_is_refused() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join("bytes-only.model");
    std::fs::write(&path, bytes_only()).expect("the build folder can be written");
    let error = Llama::from_file(&path)
        .expect_err("a small vocabulary")
        .to_string();
    assert!(
        error.ends_with("it has 256 tokens instead of 128000"),
        "{error}"
    );
}
