//! Certificates made by the real `ssh-keygen -s`: every kind of authority, and every option that makes one refusable.
//!
//! They differ in every run (nonces, keys), so they are made once and kept as vectors; here they are also made afresh
//! in every run and judged, so that the installed OpenSSH and we still agree.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ssh_key::LineEnding;

use crate::{
    cases::{GOOD, LINK, SESSION, UID, vector},
    draft,
    vectors::{Judge, Vector},
};

/// One minute before [`crate::cases::NOW`] until three minutes after it, as `ssh-keygen -V` takes it in UTC.
const VALID: &str = "20270115075900:20270115080300";

struct Keygen {
    folder: tempfile::TempDir,
}

impl Keygen {
    fn run(&self, arguments: &[&str]) -> bool {
        let mut command = Command::new("ssh-keygen");
        command
            .arg("-q")
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TZ", "UTC");
        match command.output() {
            Ok(output) => {
                assert!(
                    output.status.success(),
                    "ssh-keygen {arguments:?}: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
                true
            }
            Err(_) => false,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new key of its own.
    fn key(&self, name: &str, kind: &[&str]) -> bool {
        self.run(&[&["-N", "", "-C", name, "-f", name], kind].concat())
    }

    /// The certificate over `subject.pub`, and who signed it.
    fn sign(&self, authority: &str, subject: &str, arguments: &[&str]) -> (Vec<u8>, String) {
        self.run(&[&["-s", authority], arguments, &[&format!("{subject}.pub")]].concat());
        let line = fs::read_to_string(self.path(&format!("{subject}-cert.pub"))).unwrap();
        let trusted = fs::read_to_string(self.path(&format!("{authority}.pub"))).unwrap();
        (STANDARD.decode(line.split(' ').nth(1).unwrap()).unwrap(), trusted)
    }
}

/// Writes a key pair of a seed as OpenSSH would.
fn place(folder: &Path, name: &str, seed: u8) {
    let key = draft::key(seed);
    let path = folder.join(name);
    fs::write(&path, key.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
    #[cfg(unix)]
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(
        folder.join(format!("{name}.pub")),
        key.public_key().to_openssh().unwrap() + "\n",
    )
    .unwrap();
}

/// All certificates, or none where there is no ssh-keygen.
pub(crate) fn made() -> Vec<Vector> {
    let keygen = Keygen {
        folder: tempfile::tempdir().unwrap(),
    };
    for (name, kind) in [
        ("ed25519", &["-t", "ed25519"][..]),
        ("p256", &["-t", "ecdsa", "-b", "256"]),
        ("p384", &["-t", "ecdsa", "-b", "384"]),
        ("p521", &["-t", "ecdsa", "-b", "521"]),
        ("rsa-1024", &["-t", "rsa", "-b", "1024"]),
        ("rsa-2048", &["-t", "rsa", "-b", "2048"]),
        ("rsa-3072", &["-t", "rsa", "-b", "3072"]),
    ] {
        if !keygen.key(name, kind) {
            println!("skip: certificates made by ssh-keygen: there is none");
            return Vec::new();
        }
    }
    place(keygen.folder.path(), "link", LINK);
    place(keygen.folder.path(), "host", crate::cases::HOST);
    let mut all = Vec::new();
    let key_id = format!("user=alice session={SESSION}");
    let extensions: Vec<String> = GOOD
        .iter()
        .map(|(name, value)| match *value {
            "" => format!("extension:{name}"),
            value => format!("extension:{name}={value}"),
        })
        .collect();
    let mut good = vec!["-I", &key_id, "-n", "node", "-z", "7", "-V", VALID, "-O", "clear"];
    for extension in &extensions {
        good.extend(["-O", extension.as_str()]);
    }
    let mut add = |name: &str, expect: &str, judge, (blob, trusted): (Vec<u8>, String)| {
        let mut made = vector(judge, &format!("keygen-{name}"), "made by ssh-keygen", expect, blob);
        // An authority that cannot be trusted at all is left out of the trusted set.
        if expect != "authority-key-size" {
            made.trusted = trusted;
        }
        all.push(made);
    };
    for authority in ["ed25519", "p256", "p384", "p521", "rsa-2048", "rsa-3072"] {
        add(
            &format!("ca-{authority}"),
            "accepted",
            Judge::Session,
            keygen.sign(authority, "link", &good),
        );
    }
    add(
        "ca-rsa-1024",
        "authority-key-size",
        Judge::Session,
        keygen.sign("rsa-1024", "link", &good),
    );
    for (algorithm, expect) in [
        ("rsa-sha2-256", "accepted"),
        ("rsa-sha2-512", "accepted"),
        ("ssh-rsa", "signature-algorithm"),
    ] {
        let arguments = [&["-t", algorithm], good.as_slice()].concat();
        add(
            &format!("signature-{algorithm}"),
            expect,
            Judge::Session,
            keygen.sign("rsa-2048", "link", &arguments),
        );
    }
    for subject in ["p256", "rsa-2048"] {
        add(
            &format!("subject-{subject}"),
            "subject-algorithm",
            Judge::Session,
            keygen.sign("ed25519", subject, &good),
        );
    }
    for (name, expect, more) in [
        ("host", "not-user", &["-h"][..]),
        ("always-forever", "everlasting", &["-V", "always:forever"]),
        ("forever", "everlasting", &["-V", "20270115075900:forever"]),
        ("always", "life-too-long", &["-V", "always:20270115080300"]),
        ("expired", "expired", &["-V", "20270115075900:20270115080000"]),
        ("not-yet", "not-yet-valid", &["-V", "20270115080001:20270115080300"]),
        ("two-principals", "many-principals", &["-n", "node,root"]),
        ("star", "principal-malformed", &["-n", "*"]),
        ("serial-zero", "no-serial", &["-z", "0"]),
        ("force-command", "critical-option", &["-O", "force-command=/bin/true"]),
        (
            "source-address",
            "critical-option",
            &["-O", "source-address=10.0.0.0/8"],
        ),
        ("verify-required", "critical-option", &["-O", "verify-required"]),
        ("critical", "critical-option", &["-O", "critical:a@example.com=x"]),
        ("flag-value", "flag-with-value", &["-O", "extension:permit-user-rc=x"]),
        (
            "foreign",
            "accepted",
            &["-O", "extension:a@example.com=x", "-O", "permit-user-rc"],
        ),
        ("key-id", "key-id", &["-I", "alice"]),
    ] {
        add(
            name,
            expect,
            Judge::Session,
            keygen.sign("ed25519", "link", &[good.as_slice(), more].concat()),
        );
    }
    let nobody = ["-I", &key_id, "-z", "7", "-V", VALID];
    add(
        "no-principal",
        "no-principal",
        Judge::Session,
        keygen.sign("ed25519", "link", &nobody),
    );
    let defaults = ["-I", &key_id, "-n", "node", "-z", "7", "-V", VALID];
    add(
        "default-extensions",
        "terms",
        Judge::Session,
        keygen.sign("ed25519", "link", &defaults),
    );
    let gateway = ["-I", "doorward-gateway", "-n", "doorward-gateway", "-V", VALID];
    add(
        "link",
        "accepted",
        Judge::Link,
        keygen.sign("ed25519", "link", &gateway),
    );
    let workspace = format!("extension:workspace@doorward={UID}");
    let host = [
        "-h",
        "-I",
        "devenv-0",
        "-n",
        "devenv-0,devenv-0.example.com",
        "-V",
        VALID,
        "-O",
        &workspace,
    ];
    add("host-good", "accepted", Judge::Host, keygen.sign("p384", "host", &host));
    let pattern = [
        "-h",
        "-I",
        "devenv-0",
        "-n",
        "devenv-0,*.example.com",
        "-V",
        VALID,
        "-O",
        &workspace,
    ];
    add(
        "host-pattern",
        "principal-malformed",
        Judge::Host,
        keygen.sign("p384", "host", &pattern),
    );
    all
}

#[test]
fn fresh_certificates_of_ssh_keygen_are_judged_as_expected() {
    for made in made() {
        let judged = made.judged();
        let outcome = judged
            .as_ref()
            .map_or_else(doorward_certs::Refusal::code, |()| "accepted");
        assert_eq!(outcome, made.expect, "{}: {judged:?}", made.name);
    }
}
