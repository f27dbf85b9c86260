//! Several processes that train one model: on one machine, and on two hosts made of network
//! namespaces. The weights must be those of one process, bit for bit.

#![cfg(unix)]

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{cwm, text};

const STEPS: &str = "6";

/// Records to train on, in a folder of their own.
fn records() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (seed, count, out) in [("3", "40", "data.jsonl"), ("4", "8", "held.jsonl")] {
        let generate = [
            "data",
            "generate",
            "--levels",
            "25,35,25,15",
            "--seed",
            seed,
        ];
        let output = cwm(
            folder.path(),
            &[&generate[..], &["--count", count, "--out", out]].concat(),
        );
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    folder
}

fn arguments(out: &str) -> Vec<String> {
    let words = format!(
        "train --data data.jsonl --held-out held.jsonl --out {out} --preset tiny --steps {STEPS} \
         --batch-tokens 2048 --warmup 2 --decay 2 --threads 1 --checkpoint-every 2"
    );
    words.split(' ').map(str::to_owned).collect()
}

/// The file of the last step's weights and that of its moments.
fn weights(folder: &Path, run: &str) -> [Vec<u8>; 2] {
    let checkpoint = folder.join(run).join(format!("step-{STEPS:0>6}"));
    ["model.safetensors", "optimizer.safetensors"]
        .map(|name| fs::read(checkpoint.join(name)).expect("is there"))
}

fn alone(folder: &Path) -> [Vec<u8>; 2] {
    let arguments = arguments("alone");
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = cwm(folder, &words);
    assert!(output.status.success(), "{}", text(&output.stderr));
    weights(folder, "alone")
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    listener.local_addr().expect("has an address").to_string()
}

fn finish(process: Child) {
    let output = process.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn two_processes_give_the_weights_of_one() {
    let folder = records();
    let expected = alone(folder.path());
    let leader = free_address();
    let processes: Vec<Child> = ["1", "0"]
        .into_iter()
        .map(|rank| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_cwm"));
            command.args(arguments("both")).current_dir(folder.path());
            if rank == "1" {
                // What launchers such as torchrun and srun leave for those they start.
                let (host, port) = leader.split_once(':').expect("host and port");
                command.args(["--ranks", "env"]);
                command.env("RANK", "1").env("WORLD_SIZE", "2");
                command.env("MASTER_ADDR", host).env("MASTER_PORT", port);
            } else {
                command.args(["--ranks", "2", "--rank", rank, "--leader", &leader]);
            }
            let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("starts")
        })
        .collect();
    processes.into_iter().for_each(finish);
    assert!(expected == weights(folder.path(), "both"), "other bits");
}

#[test]
fn what_cannot_work_together_is_told() {
    let folder = records();
    let refused = |extra: &[&str], environment: &[(&str, &str)], parts: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_cwm"))
            .args(arguments("never"))
            .args(extra)
            .envs(environment.iter().copied())
            .current_dir(folder.path())
            .output()
            .expect("runs");
        let told = text(&output.stderr);
        assert!(!output.status.success(), "{told}");
        for part in parts {
            assert!(told.contains(part), "`{part}` is not in:\n{told}");
        }
    };
    refused(&["--ranks", "env"], &[], &["RANK", "WORLD_SIZE"]);
    refused(&["--ranks", "two"], &[], &["`two`"]);
    refused(&["--ranks", "2"], &[], &["--rank"]);
    let address = free_address();
    let third = ["--ranks", "2", "--rank", "2", "--leader", &address];
    refused(&third, &[], &["rank 2 of 2"]);
    let nobody = [
        "--ranks",
        "2",
        "--rank",
        "1",
        "--leader",
        &address,
        "--join-timeout",
        "1",
    ];
    refused(&nobody, &[], &["found no rank 0", &address]);
    let waiting = [
        "--ranks",
        "2",
        "--rank",
        "0",
        "--leader",
        &address,
        "--join-timeout",
        "1",
    ];
    refused(&waiting, &[], &["missing: 1"]);
}

/// Two hosts with a cable between them; gone when dropped.
struct Hosts(String);

impl Hosts {
    /// `None` where this user may not make any.
    fn new() -> Option<Self> {
        let name = format!("cwm{}", std::process::id());
        let hosts = Self(name.clone());
        let [a, b] = [hosts.host(0), hosts.host(1)];
        let commands = [
            format!("netns add {a}"),
            format!("netns add {b}"),
            format!("link add {name}a netns {a} type veth peer name {name}b netns {b}"),
            format!("-n {a} addr add 10.213.77.1/24 dev {name}a"),
            format!("-n {b} addr add 10.213.77.2/24 dev {name}b"),
            format!("-n {a} link set {name}a up"),
            format!("-n {b} link set {name}b up"),
        ];
        commands.iter().all(|command| ip(command)).then_some(hosts)
    }

    fn host(&self, rank: usize) -> String {
        format!("{}-{rank}", self.0)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for rank in 0..2 {
            ip(&format!("netns del {}", self.host(rank)));
        }
    }
}

fn ip(arguments: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(arguments.split(' ')).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[test]
fn two_hosts_give_the_weights_of_one_process() {
    let Some(hosts) = Hosts::new() else {
        eprintln!("skipped: no right to make network namespaces here");
        return;
    };
    let folder = records();
    let expected = alone(folder.path());
    // The second host has a folder of its own, with nothing but the data.
    let far: PathBuf = folder.path().join("far");
    fs::create_dir(&far).expect("creates");
    for name in ["data.jsonl", "held.jsonl"] {
        fs::copy(folder.path().join(name), far.join(name)).expect("copies");
    }
    let start = |rank: usize, place: &Path| {
        Command::new("ip")
            .args(["netns", "exec", &hosts.host(rank)])
            .arg(env!("CARGO_BIN_EXE_cwm"))
            .args(arguments("both"))
            .args(["--ranks", "2", "--leader", "10.213.77.1:29500"])
            .args(["--rank", &rank.to_string()])
            .current_dir(place)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts")
    };
    let processes = [start(0, folder.path()), start(1, &far)];
    processes.into_iter().for_each(finish);
    assert!(expected == weights(folder.path(), "both"), "other bits");
    assert!(!far.join("both").exists(), "only rank 0 keeps a folder");
}
