//! Reads the URL of a store: a folder, or a bucket with a prefix. Touches nothing.

use std::path::PathBuf;

use crate::Error;

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A local folder.
    Folder(PathBuf),
    /// A bucket, and what all keys in it begin with: no `/` at either end.
    S3 { bucket: String, prefix: String },
}

impl Place {
    /// What has no scheme is a path.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let wrong = |reason: &str| Error::Url {
            url: url.to_owned(),
            reason: reason.to_owned(),
        };
        if url.is_empty() {
            return Err(wrong("it is empty"));
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            let scheme = url.split_once(':').map(|(scheme, _)| scheme);
            return match scheme {
                Some("file" | "s3") => Err(wrong("`//` is missing after the colon")),
                _ => Ok(Self::Folder(url.into())),
            };
        };
        match scheme {
            "file" => file(rest).map_err(wrong).map(Self::Folder),
            "s3" => s3(rest).map_err(wrong),
            _ => Err(wrong(&format!("`{scheme}://` is not supported"))),
        }
    }
}

fn file(rest: &str) -> Result<PathBuf, &'static str> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("after `file://` an absolute path is needed, such as `file:///data/runs`");
    }
    let path =
        decoded(path).ok_or("`%` in it is not followed by two hexadecimal digits of UTF-8")?;
    // `file:///C:/runs` is `C:/runs`.
    let path = match path.as_bytes() {
        [b'/', _, b':', ..] if cfg!(windows) => &path[1..],
        _ => &path,
    };
    Ok(path.into())
}

/// A text with its `%41` replaced by what they stand for.
fn decoded(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

fn s3(rest: &str) -> Result<Place, &'static str> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if bucket.is_empty() {
        return Err("the bucket is missing after `s3://`");
    }
    if !bucket.bytes().all(is_plain) {
        return Err("the bucket's name takes letters, digits, `.`, `-` and `_`");
    }
    let prefix = prefix.trim_matches('/');
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    if !prefix.is_empty() && !prefix.split('/').all(is_part) {
        return Err("a part of the path after the bucket is empty, `.` or `..`");
    }
    if !prefix
        .bytes()
        .all(|byte| is_plain(byte) || b"/=+@".contains(&byte))
    {
        return Err("the path after the bucket takes letters, digits, `/` and `.-_=+@`");
    }
    Ok(Place::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn assert_folder(url: &str, path: &str) {
        assert_eq!(Place::parse(url).expect(url), Place::Folder(path.into()));
    }

    #[track_caller]
    fn assert_wrong(url: &str, why: &str) {
        let message = Place::parse(url).expect_err(url).to_string();
        assert!(message.contains(why), "{message}");
        assert!(message.contains("`s3://BUCKET/PREFIX`"), "{message}");
    }

    #[test]
    fn paths_and_file_urls_are_folders() {
        assert_folder("runs/a", "runs/a");
        assert_folder("/data/runs", "/data/runs");
        assert_folder("odd:name", "odd:name");
        assert_folder("file:///data/runs", "/data/runs");
        assert_folder("file://localhost/data", "/data");
        assert_folder("file:///a%20b/%C3%A9", "/a b/é");
    }

    #[test]
    fn buckets_have_prefixes() {
        for (url, expected) in [
            ("s3://runs", ("runs", "")),
            ("s3://runs/", ("runs", "")),
            ("s3://runs/a/b/", ("runs", "a/b")),
        ] {
            let (bucket, prefix) = (expected.0.to_owned(), expected.1.to_owned());
            assert_eq!(Place::parse(url).expect(url), Place::S3 { bucket, prefix });
        }
    }

    #[test]
    fn other_urls_are_refused_with_the_forms_that_exist() {
        assert_wrong("", "it is empty");
        assert_wrong("gs://runs/a", "`gs://` is not supported");
        assert_wrong("s3:runs", "`//` is missing");
        assert_wrong("file:/data", "`//` is missing");
        assert_wrong("file://data", "absolute path");
        assert_wrong("file:///a%2", "hexadecimal");
        assert_wrong("file:///a%+1", "hexadecimal");
        assert_wrong("file:///a%ff", "hexadecimal");
        assert_wrong("s3:///a", "bucket is missing");
        assert_wrong("s3://me:secret@runs/a", "the bucket's name takes");
        assert_wrong("s3://runs/a//b", "empty");
        assert_wrong("s3://runs/../b", "`..`");
        assert_wrong("s3://runs/a?region=b", "takes letters");
    }

    proptest! {
        #[test]
        fn reading_never_panics(scheme in "(file://|s3://|file:///|)", rest in "\\PC*") {
            let _ = Place::parse(&format!("{scheme}{rest}"));
        }

        #[test]
        fn file_urls_round_trip(path in "/\\PC{0,20}") {
            let encoded: String = path.bytes().map(|byte| match byte {
                b'/' => "/".to_owned(),
                byte => format!("%{byte:02X}"),
            }).collect();
            let expected = Place::Folder(path.into());
            prop_assert_eq!(Place::parse(&format!("file://{encoded}")).expect("a path"), expected);
        }
    }
}
