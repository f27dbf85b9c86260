//! The store over the S3 protocol, against a real server: with `CWM_SLOW_TESTS=1`, the one at the URL
//! `CWM_S3_ENDPOINT`, or else `moto_server` (of the Python package `moto[server]`) if it is on the
//! `PATH`.

#![cfg(feature = "s3")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use cwm_store::{Progress, Store};

const BUCKET: &str = "cwm-test";
/// Larger than what is sent at once, and no multiple of it.
const LARGE: usize = 20_000_001;

/// Settings are variables of the process, so the test proper runs in a process of its own.
#[test]
fn folders_are_kept_by_a_server() {
    if std::env::var_os("CWM_S3_TEST").is_some() {
        return check();
    }
    if std::env::var_os("CWM_SLOW_TESTS").is_none() {
        eprintln!("SKIPPED: set CWM_SLOW_TESTS=1 to store folders on an S3 server");
        return;
    }
    let Some((endpoint, server)) = endpoint() else {
        eprintln!("SKIPPED: set CWM_S3_ENDPOINT to the URL of a server, or install `moto[server]`");
        return;
    };
    create_bucket(&endpoint);
    let status = Command::new(std::env::current_exe().expect("a test has a file"))
        .args(["--exact", "folders_are_kept_by_a_server", "--nocapture"])
        .envs([
            ("CWM_S3_TEST", "1"),
            ("AWS_ENDPOINT_URL", &endpoint),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
        ])
        .status();
    if let Some(mut server) = server {
        server.kill().expect("it runs");
        server.wait().expect("it ends");
    }
    assert!(status.expect("a test can run").success());
}

/// The URL of a server, and the server if it was started here.
fn endpoint() -> Option<(String, Option<Child>)> {
    if let Ok(endpoint) = std::env::var("CWM_S3_ENDPOINT") {
        return Some((endpoint, None));
    }
    let mut server = Command::new("moto_server")
        .args(["--host", "127.0.0.1", "--port", "0"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let mut said = BufReader::new(server.stderr.take().expect("it is piped")).lines();
    let endpoint = said.find_map(|line| {
        let line = line.expect("text");
        let url = line
            .split_whitespace()
            .find(|word| word.starts_with("http://"));
        url.map(str::to_owned)
    });
    // It writes a line for each request, and would wait for a reader.
    thread::spawn(move || said.for_each(drop));
    Some((endpoint.expect("it says where it listens"), Some(server)))
}

/// An unsigned request, which servers for tests accept; others have the bucket already.
fn create_bucket(endpoint: &str) {
    let host = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).expect("a server");
    let request = format!(
        "PUT /{BUCKET} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    eprintln!("bucket: {}", answer.lines().next().unwrap_or_default());
}

fn quiet(_: Progress) {}

fn write(folder: &Path, seed: u8) {
    let large: Vec<u8> = (0..LARGE)
        .map(|i| (i as u8).wrapping_mul(seed | 1) ^ (i >> 11) as u8)
        .collect();
    fs::create_dir_all(folder.join("parts")).expect("disk");
    fs::write(folder.join("parts/model.safetensors"), large).expect("disk");
    fs::write(folder.join("config.json"), [seed; 100]).expect("disk");
    fs::write(folder.join("empty"), b"").expect("disk");
    fs::write(folder.join("a b+c%20é.txt"), b"odd").expect("disk");
}

fn assert_equal(a: &Path, b: &Path) {
    for name in [
        "parts/model.safetensors",
        "config.json",
        "empty",
        "a b+c%20é.txt",
    ] {
        let read = |folder: &Path| fs::read(folder.join(name)).expect(name);
        assert!(read(a) == read(b), "{name} differs");
    }
}

fn check() {
    let unique = std::process::id();
    let url = format!("s3://{BUCKET}/runs/{unique}");
    let store = Store::open(&url).expect("a store");
    let place = tempfile::tempdir().expect("disk");
    let folders: Vec<_> = (0..3)
        .map(|seed| place.path().join(seed.to_string()))
        .collect();
    for (folder, seed) in folders.iter().zip(0..) {
        write(folder, seed);
    }
    assert!(store.newest().expect("a listing").is_none());

    let mut told = Vec::new();
    let stored = store.put_folder("step-000001", &folders[0], &mut |p| told.push(p));
    let stored = stored.expect("stored");
    assert_eq!(stored.sent, LARGE as u64 + 103);
    assert!(told.len() > 6 && told.last().is_some_and(|p| p.done == p.total));
    let again = store
        .put_folder("step-000001", &folders[0], &mut quiet)
        .expect("stored");
    assert_eq!((again.sent, &again.version), (0, &stored.version));
    let conflict = store.put_folder("step-000001", &folders[1], &mut quiet);
    assert!(
        conflict
            .expect_err("a conflict")
            .to_string()
            .contains("other contents")
    );
    let back = place.path().join("back");
    store
        .fetch(&stored.version, &back, &mut quiet)
        .expect("fetched");
    assert_equal(&folders[0], &back);

    // Two writers of one name: one wins.
    let outcomes = thread::scope(|scope| {
        let writers = [1, 2].map(|which: usize| {
            let (url, folder) = (&url, &folders[which]);
            scope.spawn(move || {
                let store = Store::open(url).expect("a store");
                store
                    .put_folder("step-000002", folder, &mut quiet)
                    .map(|_| ())
                    .map_err(|e| e.to_string())
            })
        });
        writers.map(|writer| writer.join().expect("no panic"))
    });
    assert_eq!(
        outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
        1,
        "{outcomes:?}"
    );
    let winner = 1 + outcomes.iter().position(Result::is_ok).expect("a winner");
    let newest = store.newest().expect("a listing").expect("a version");
    assert_eq!(newest.name, "step-000002");
    let back = place.path().join("back of two");
    store.fetch(&newest, &back, &mut quiet).expect("fetched");
    assert_equal(&folders[winner], &back);

    let swept = store.prune(NonZeroUsize::MIN).expect("pruned");
    assert_eq!(swept.versions, ["step-000001"]);
    assert_eq!(swept.leftovers, ["step-000002"], "what the loser had sent");
    let version = store.version("step-000002").expect("a version");
    store.remove("step-000002").expect("removed");
    let gone = store.fetch(&version, &place.path().join("none"), &mut quiet);
    assert!(gone.expect_err("gone").to_string().contains("not there"));
    assert!(store.listing().expect("a listing").unfinished.is_empty());

    let nowhere = Store::open("s3://cwm-no-such-bucket/a").expect("not asked yet");
    let refused = nowhere
        .put_folder("a", &folders[0], &mut quiet)
        .expect_err("no bucket");
    assert!(refused.to_string().contains("in the store"), "{refused}");
    eprintln!("note: {refused}");
}
