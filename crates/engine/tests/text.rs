//! Text as it grows: nothing lost, nothing shown that is taken back, stop strings found wherever
//! tokens end.

use cwm_engine::TextStream;
use proptest::prelude::*;

/// Where the text ends, from the definition: before the stop string that ends first, the longest
/// of those that end together.
fn cut(bytes: &[u8], stops: &[String]) -> (usize, Option<usize>) {
    for end in 1..=bytes.len() {
        let ends = |stop: &&(usize, &String)| bytes[..end].ends_with(stop.1.as_bytes());
        let found = stops.iter().enumerate().collect::<Vec<_>>();
        let longest = |a: &&(usize, &String), b: &&(usize, &String)| {
            a.1.len().cmp(&b.1.len()).then(b.0.cmp(&a.0))
        };
        if let Some((index, stop)) = found.iter().filter(ends).max_by(longest) {
            return (end - stop.len(), Some(*index));
        }
    }
    (bytes.len(), None)
}

/// Could more bytes make a stop string of an end of `bytes`?
fn may_stop(bytes: &[u8], stops: &[String]) -> bool {
    let begins = |stop: &String| {
        let stop = stop.as_bytes();
        (1..stop.len()).any(|len| bytes.ends_with(&stop[..len]))
    };
    stops.iter().any(begins)
}

proptest! {
    #[test]
    fn streamed_text_is_the_text_up_to_the_stop(
        tokens in proptest::collection::vec(
            prop_oneof![
                8 => "[abé😀]{0,4}".prop_map(String::into_bytes),
                8 => "[ab]{0,6}".prop_map(String::into_bytes),
                2 => proptest::collection::vec(any::<u8>(), 0..3),
                2 => proptest::sample::select(vec![vec![0xc3u8], vec![0xa9], vec![0xf0, 0x9f]]),
            ],
            0..30,
        ),
        stops in proptest::collection::vec(prop_oneof!["[abé😀]{1,5}", "[ab]{4,9}"], 0..4),
    ) {
        let all: Vec<u8> = tokens.concat();
        let (end, expected) = cut(&all, &stops);
        let mut stream = TextStream::new(&stops);
        let (mut text, mut seen, mut found) = (String::new(), Vec::new(), None);
        for token in &tokens {
            let released = stream.push(token);
            text.push_str(&released.text);
            seen.extend_from_slice(token);
            if released.stop.is_some() {
                found = released.stop;
                break;
            }
            // Held back is only what may still be a stop string or a character.
            let whole = std::str::from_utf8(&seen);
            if let Ok(whole) = whole && !may_stop(&seen, &stops) {
                prop_assert_eq!(&text, whole);
            }
        }
        text.push_str(&stream.finish());
        prop_assert_eq!(found, expected);
        prop_assert_eq!(text, String::from_utf8_lossy(&all[..end]));
    }
}

/// The pieces that come out for tokens, and the end.
fn pieces(stops: &[&str], tokens: &[&[u8]]) -> String {
    let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
    let mut stream = TextStream::new(&stops);
    let mut out = Vec::new();
    for token in tokens {
        let released = stream.push(token);
        out.push(released.text);
        if let Some(index) = released.stop {
            return format!("{} <{}>", out.join("|"), stops[index]);
        }
    }
    out.push(stream.finish());
    out.join("|")
}

#[test]
fn text_is_held_back_only_while_it_may_end() {
    assert_eq!(
        pieces(&["\n\n"], &[b"a\n", b"b", b"\n", b"\nc"]),
        "a|\nb|| <\n\n>"
    );
    assert_eq!(pieces(&["aab"], &[b"aaa", b"b"]), "a| <aab>");
    assert_eq!(pieces(&["aabaaac"], &[b"aabaaabaaac"]), "aaba <aabaaac>");
    assert_eq!(pieces(&["END"], &[b"xE", b"N", b"x"]), "x||ENx|");
    assert_eq!(pieces(&["END"], &[b"xE", b"N"]), "x||EN");
    assert_eq!(pieces(&["b", "ab"], &[b"xab"]), "x <ab>");
    assert_eq!(pieces(&["bcd", "c"], &[b"abcd"]), "ab <c>");
}

#[test]
fn a_character_is_shown_whole() {
    assert_eq!(pieces(&[], &[b"\xc3", b"\xa9!"]), "|é!|");
    assert_eq!(pieces(&[], &[b"a\xf0\x9f", b"\x98\x80"]), "a|😀|");
    assert_eq!(pieces(&[], &[b"a\xf0\x9f", b"b"]), "a|\u{fffd}b|");
    assert_eq!(pieces(&[], &[b"a\xf0\x9f"]), "a|\u{fffd}");
    assert_eq!(
        pieces(&["é"], &[b"a\xc3", b"\xa8\xc3", b"\xa9"]),
        "a|è| <é>"
    );
}
