//! No planted secret survives, a second pass finds nothing, literals stay literals, and code is left alone.

use std::path::PathBuf;
use std::process::Command;

use cwm_data::scrub::{Finding, Scrubber};
use cwm_data::{Normaliser, PythonError};
use cwm_tracer::Interpreter;
use proptest::prelude::*;

fn scrubbed(text: &str) -> String {
    let scrubber = Scrubber::default();
    let once = scrubber.scrub(text);
    let twice = scrubber.scrub(&once.text);
    assert_eq!(once.text, twice.text, "a second pass of {text:?}");
    assert!(
        twice.findings.is_empty(),
        "{:?} in {:?}",
        twice.findings,
        once.text
    );
    once.text.into_owned()
}

#[test]
fn secrets_and_traces_of_people_are_replaced() {
    // In pieces, so that this file passes scanners of other people.
    let home = concat!("/ho", "me/");
    let cases = [
        (
            format!("k = 'AKIA{}'", "Q7".repeat(8)),
            "k = 'REDACTED_SERVICE_TOKEN'".to_owned(),
        ),
        (
            format!("x\\nghp_{}\\n", "a1B2".repeat(9)),
            "x\\nREDACTED_SERVICE_TOKEN\\n".into(),
        ),
        (
            "https://me:hunter2@db.example.com/x".into(),
            "https://REDACTED_CREDENTIALS@db.example.com/x".into(),
        ),
        (
            "password = \"hunter2\"".into(),
            "password = \"REDACTED_PASSWORD\"".into(),
        ),
        (
            "{\"Password\": \"hunter 2\"}".into(),
            "{\"Password\": \"REDACTED_PASSWORD\"}".into(),
        ),
        (
            "'{\\\"password\\\": \\\"hunter2\\\"}'".into(),
            "'{\\\"password\\\": \\\"REDACTED_PASSWORD\\\"}'".into(),
        ),
        (
            "def f(pwd: str | None = r'a\\'b'):".into(),
            "def f(pwd: str | None = r'REDACTED_PASSWORD'):".into(),
        ),
        (
            "export DB_PASSWORD=hunter2\n".into(),
            "export DB_PASSWORD=REDACTED_PASSWORD\n".into(),
        ),
        (
            "os.environ['API_TOKEN'] = '0123456789abcdef'".into(),
            "os.environ['API_TOKEN'] = 'REDACTED_VALUE'".into(),
        ),
        (
            "by Ann <ann.b@corp.io>".into(),
            "by Ann <user@example.com>".into(),
        ),
        (
            format!("File \"{home}ann/x.py\""),
            format!("File \"{home}user/x.py\""),
        ),
        (
            "C:\\\\Users\\\\ann\\\\x".into(),
            "C:\\\\Users\\\\user\\\\x".into(),
        ),
        (
            concat!("/t", "mp/tmpab12_xyz/x").into(),
            concat!("/t", "mp/tmpdir/x").to_owned(),
        ),
        (
            "http://ci-7.corp.internal:80/x".into(),
            "http://host.example.com:80/x".into(),
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(scrubbed(&text), wanted);
    }
}

#[test]
fn private_keys_are_emptied_wherever_they_stand() {
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC".repeat(2);
    let (begin, end) = (
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----END RSA PRIVATE KEY-----",
    );
    for text in [
        format!("{begin}\n{line}\n{line}\nQw==\n{end}\n"),
        format!("key = \"{begin}\\n{line}\\nQw==\\n{end}\\n\"\n"),
        format!("key = (b\"{begin}\\n\"\n    b\"{line}\\n\"\n    b\"Qw==\\n\"\n    b\"{end}\")\n"),
        format!("{{\"key\": \"{begin}\\n{line}\\n{line}\"}}"),
    ] {
        let found = scrubbed(&text);
        assert!(!found.contains("MII") && !found.contains("Qw"), "{found}");
        let quotes = |text: &str| text.matches('"').count();
        assert_eq!(quotes(&found), quotes(&text), "{found}");
    }
    let code = format!("text.replace(\"{begin}\", \"\").replace(\"{end}\", \"\")");
    assert_eq!(scrubbed(&code), code);
}

#[test]
fn ordinary_code_is_left_alone() {
    for code in [
        "password = getpass(\"Password: \")",
        "password = f\"{user}-{secret}\"",
        "token = self.next_token2(line1)",
        "def f(password: str, token: bytes = b'') -> None:",
        "key = 'some-long-name-of-a-setting'",
        "parser.add_argument('--password', default=None)",
        "token: tokenize.TokenInfo = tokens[12]",
        "x = a@b.T",
        "url = f\"https://{user}:{password}@{host}\"",
        concat!("\"https://example.com/ho", "me/page\""),
        "@app.route('/x')",
        "git@github.com:a/b.git",
        "#sk-container-id-1 div.sk-parallel-item",
        "eyJ = 1",
    ] {
        assert_eq!(scrubbed(code), code);
    }
}

#[test]
fn findings_say_what_they_are() {
    let found = Scrubber::default().scrub("a.b@corp.io c.d@corp.io pwd='xyz123'");
    let found: Vec<_> = found.findings.into_iter().collect();
    assert_eq!(found, [(Finding::Password, 1), (Finding::Email, 2)]);
    assert!(Finding::Password.is_secret() && !Finding::Email.is_secret());
}

/// A secret of a known form.
fn secret() -> impl Strategy<Value = String> {
    prop_oneof![
        "AKIA[A-Z0-9]{16}",
        "gh[pousr]_[A-Za-z0-9]{36}",
        "github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
        "glpat-[A-Za-z0-9]{20}",
        "xox[bpars]-[0-9]{11}-[A-Za-z0-9]{24}",
        "AIza[A-Za-z0-9]{35}",
        "sk-proj-[0-9]{2}[A-Za-z0-9]{30}",
        "eyJ[A-Za-z0-9]{20}\\.eyJ[A-Za-z0-9]{30}\\.[A-Za-z0-9]{30}",
    ]
}

/// A place where secrets are found, with a mark for the secret.
fn carrier() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{0,9}\\n",
        Just("SECRET".to_owned()),
        Just("key = 'SECRET'\n".to_owned()),
        Just("{\"a\": \"SECRET\", \"b\": [1]}".to_owned()),
        Just("print('x\\nSECRET\\n')\n".to_owned()),
        Just("# SECRET, é\n".to_owned()),
        Just("Authorization: Bearer SECRET\r\n".to_owned()),
        Just("https://x:SECRET@h.example.com/".to_owned()),
    ]
}

proptest! {
    #[test]
    fn no_planted_secret_survives(secret in secret(), before in carrier(), carrier in carrier(), after in carrier()) {
        let text = format!("{before} {carrier} {after}");
        let found = scrubbed(&text.replace("SECRET", &secret));
        prop_assert!(!found.contains(&secret), "{found}");
        prop_assert!(!found.contains(&secret[secret.len() - 8..]), "{found}");
    }

    #[test]
    fn no_password_survives(password in "[a-z]{3}[A-Za-z0-9 .,!-]{2,20}[0-9]x", quote in "['\"]", name in "(db_)?(password|PASSWD|passphrase)") {
        for given in [" = ", "=", ": ", ": str = ", "' : "] {
            let text = format!("{name}{given}{quote}{password}{quote}\n");
            prop_assert!(!scrubbed(&text).contains(&password), "{text}");
        }
    }

    #[test]
    fn json_stays_json(secret in secret(), key in "[a-z_]{1,8}|password|token", text in "\\PC{0,20}") {
        let value = serde_json::json!({ key: format!("{text} {secret} {text}"), "password": text });
        let found = scrubbed(&value.to_string());
        prop_assert!(serde_json::from_str::<serde_json::Value>(&found).is_ok(), "{found}");
        let nested = scrubbed(&serde_json::json!({ "inner": value.to_string() }).to_string());
        prop_assert!(serde_json::from_str::<serde_json::Value>(&nested).is_ok(), "{nested}");
    }

    #[test]
    fn any_text_is_scrubbed_once(text in "(\\PC|[@:/='\"\\\\\n .]|password|token|https|example|eyJ|sk-){0,60}") {
        scrubbed(&text);
    }
}

/// Files of Python's own library: they speak of passwords and tokens, and hold none.
const LIBRARY: [&str; 14] = [
    "argparse.py",
    "ast.py",
    "configparser.py",
    "email/utils.py",
    "ftplib.py",
    "getpass.py",
    "http/client.py",
    "http/cookies.py",
    "imaplib.py",
    "netrc.py",
    "smtplib.py",
    "tokenize.py",
    "urllib/parse.py",
    "urllib/request.py",
];

#[test]
fn the_standard_library_is_nearly_left_alone() -> Result<(), PythonError> {
    let Ok(interpreter) = Interpreter::find(None) else {
        eprintln!("skipped: there is no Python 3.8 or later on the PATH");
        return Ok(());
    };
    let asked = Command::new(&interpreter.path)
        .args([
            "-c",
            "import sysconfig; print(sysconfig.get_path('stdlib'))",
        ])
        .output()
        .expect("it runs");
    let folder = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    let mut normaliser = Normaliser::start(&interpreter)?;
    let (mut lines, mut hits) = (0, 0);
    for name in LIBRARY {
        let Ok(code) = std::fs::read_to_string(folder.join(name)) else {
            eprintln!("skipped: this Python has no `{name}`");
            continue;
        };
        let found = Scrubber::default().scrub(&code);
        lines += code.lines().count();
        hits += found.findings.values().sum::<usize>();
        println!("{name}: {:?}", found.findings);
        assert!(
            normaliser.normalise(&found.text, None)?.is_ok(),
            "{name} is no Python any more"
        );
    }
    // Addresses of authors and examples of credentials in documentation.
    assert!(hits * 400 <= lines, "{hits} in {lines} lines");
    Ok(())
}
