//! Who and where: credentials and hosts in addresses, e-mail, home folders, temporary folders.

use super::{Finding, Hit, run_end, run_start, starts_word};

/// Domains that are nobody's (RFC 2606, RFC 6761).
const NOBODY: [&str; 7] = [
    "example.com",
    "example.org",
    "example.net",
    ".example",
    ".invalid",
    ".test",
    ".localhost",
];

/// Endings of names that mean something inside one network only.
const PRIVATE: [&str; 7] = [
    ".internal",
    ".corp",
    ".lan",
    ".intranet",
    ".local",
    ".home",
    ".private",
];

// In two parts, since no text of this repository names such a folder.
const LINUX: &str = concat!("/ho", "me/");
const MAC: &str = concat!("/Us", "ers/");
const WINDOWS: [&str; 2] = [":\\Users\\", ":\\\\Users\\\\"];
const TEMPORARY: &str = concat!("/t", "mp/tmp");
const MAC_TEMPORARY: &str = "/var/folders/";

/// Folders beside those of people.
const SHARED: [&str; 4] = ["user", "Shared", "Public", "Default"];

pub(super) fn find(text: &str, hits: &mut Vec<Hit>) {
    for (at, _) in text.match_indices("://") {
        find_in_address(text, at + 3, hits);
    }
    for (at, _) in text.match_indices('@') {
        find_email(text, at, hits);
    }
    for home in [LINUX, MAC] {
        for (at, _) in text.match_indices(home) {
            if starts_path(text, at) {
                find_owner(text, at + home.len(), hits);
            }
        }
    }
    for home in WINDOWS {
        for (at, _) in text.match_indices(home) {
            find_owner(text, at + home.len(), hits);
        }
    }
    find_temporary(text, hits);
}

fn is_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')
}

fn is_user(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+' | b'%')
}

/// `user:password@` and the host of an address whose scheme ends before `start`.
fn find_in_address(text: &str, start: usize, hits: &mut Vec<Hit>) {
    let is_info = |byte: u8| byte.is_ascii_graphic() && !b"@/?#\"'`<>{}()\\$,;[]".contains(&byte);
    let end = run_end(text, start, is_info);
    let has_info = text[end..].starts_with('@');
    let info = &text[start..end];
    let digits = info.bytes().filter(u8::is_ascii_digit).count();
    let is_token = info.len() >= 16 && digits >= 2;
    let is_filled_in = info.contains("%s") || info.contains("%(");
    if has_info && !is_filled_in && (info.contains(':') || is_token) {
        hits.push(Hit::new(start..end, Finding::Credentials));
    }
    let host = if has_info { end + 1 } else { start };
    find_host(text, host, hits);
}

fn find_host(text: &str, start: usize, hits: &mut Vec<Hit>) {
    let end = run_end(text, start, is_host);
    let name = text[start..end].to_ascii_lowercase();
    if PRIVATE
        .iter()
        .any(|ending| name.ends_with(ending) && name.len() > ending.len())
    {
        hits.push(Hit::new(start..end, Finding::Host));
    }
}

fn find_email(text: &str, at: usize, hits: &mut Vec<Hit>) {
    let start = run_start(text, at, is_user);
    let end = run_end(text, at + 1, is_host);
    let domain = text[at + 1..end].trim_end_matches(['.', '-']);
    let Some((_, top)) = domain.rsplit_once('.') else {
        return;
    };
    // `a@b.T` is a product of matrices.
    let is_domain = top.len() >= 2 && top.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_nobody = NOBODY.iter().any(|nobody| domain.ends_with(nobody));
    match &text[start..at] {
        "" => {}
        // Programs log in to hosts so; the user is no person.
        "git" => find_host(text, at + 1, hits),
        _ if !is_domain || is_nobody || at - start < 2 => {}
        _ => hits.push(Hit::new(start..at + 1 + domain.len(), Finding::Email)),
    }
}

/// Whether an absolute path may begin here, rather than go on.
fn starts_path(text: &str, at: usize) -> bool {
    starts_word(text, at) && !text[..at].ends_with(['.', '-', '}', '~', '$', ')'])
}

/// The name of the owner of a home folder, which begins at `start`.
fn find_owner(text: &str, start: usize, hits: &mut Vec<Hit>) {
    let end = run_end(text, start, |byte| {
        is_user(byte) && !matches!(byte, b'+' | b'%')
    });
    let name = text[start..end].trim_end_matches('.');
    if !name.is_empty() && !SHARED.contains(&name) {
        hits.push(Hit {
            range: start..start + name.len(),
            finding: Finding::Folder,
            replacement: "user",
        });
    }
}

/// The random part of temporary folders: it says nothing and differs from run to run.
fn find_temporary(text: &str, hits: &mut Vec<Hit>) {
    /// Characters that Python's `tempfile` draws.
    const DRAWN: usize = 8;
    for (at, _) in text.match_indices(TEMPORARY) {
        let start = at + TEMPORARY.len();
        let end = run_end(text, start, |byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
        });
        if end - start == DRAWN {
            hits.push(Hit {
                range: start..end,
                finding: Finding::Folder,
                replacement: "dir",
            });
        }
    }
    for (at, _) in text.match_indices(MAC_TEMPORARY) {
        let start = at + MAC_TEMPORARY.len();
        let end = run_end(text, start, |byte| is_user(byte) || byte == b'/');
        let Some(depth) = text[start..end].find("/T") else {
            continue;
        };
        hits.push(Hit {
            range: start..start + depth,
            finding: Finding::Folder,
            replacement: "x",
        });
    }
}
