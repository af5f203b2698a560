//! Session certificates that are made field by field; [`authorities`] makes those with a broken blob or a bad authority,
//! [`hosts`] those of links and hosts.

use uuid::Uuid;

use crate::{
    authorities,
    draft::{Draft, key, options, public, string, strings},
    hosts,
    vectors::{Judge, Vector},
};

/// Seeds of the keys.
pub(crate) const USER_CA: u8 = 1;
pub(crate) const HOST_CA: u8 = 2;
pub(crate) const LINK: u8 = 3;
pub(crate) const HOST: u8 = 4;
pub(crate) const STRANGER: u8 = 5;

pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const SESSION: &str = "0190a6e0-0000-7000-8000-000000000001";
pub(crate) const WORKSPACE: &str = "devenv-0";
pub(crate) const UID: &str = "3f1c0f7e-5d5e-4a52-9d2c-0d8a6a1b2c3d";

/// The codes of all refusals that a single vector can cause: all but those of the memory of serial numbers and of
/// text that is no certificate.
pub(crate) const CODES: [&str; 30] = [
    "certificate-too-long",
    "certificate-malformed",
    "certificate-not-canonical",
    "certificate-subject-algorithm",
    "certificate-authority-algorithm",
    "certificate-authority-key-size",
    "certificate-signature-algorithm",
    "certificate-untrusted-authority",
    "certificate-bad-signature",
    "certificate-not-user",
    "certificate-not-host",
    "certificate-validity-reversed",
    "certificate-everlasting",
    "certificate-life-too-long",
    "certificate-not-yet-valid",
    "certificate-expired",
    "certificate-critical-option",
    "certificate-no-principal",
    "certificate-many-principals",
    "certificate-principal-malformed",
    "certificate-wrong-principal",
    "certificate-wrong-subject",
    "certificate-unknown-extension",
    "certificate-flag-with-value",
    "certificate-misplaced-extension",
    "certificate-terms",
    "certificate-key-id",
    "certificate-wrong-session",
    "certificate-wrong-workspace",
    "certificate-no-serial",
];

/// A vector with everything as in the good case.
pub(crate) fn vector(judge: Judge, name: &str, says: &str, expect: &str, blob: Vec<u8>) -> Vector {
    let (authority, subject) = match judge {
        Judge::Session | Judge::Link => (USER_CA, LINK),
        Judge::Host => (HOST_CA, HOST),
    };
    Vector {
        name: name.to_owned(),
        says: says.to_owned(),
        judge,
        expect: if expect == "accepted" {
            expect.to_owned()
        } else {
            format!("certificate-{expect}")
        },
        blob,
        trusted: key(authority).public_key().to_openssh().unwrap() + "\n",
        key: public(subject),
        session: SESSION.parse().unwrap(),
        workspace: WORKSPACE.to_owned(),
        workspace_uid: UID.to_owned(),
        now: NOW,
    }
}

/// The extensions of the good case.
pub(crate) const GOOD: [(&str, &str); 7] = [
    ("exec@doorward", ""),
    ("longest@doorward", "43200"),
    ("permit-pty", ""),
    ("recording@doorward", "input=no,bulk=16777216"),
    ("session@doorward", SESSION),
    ("shell@doorward", ""),
    ("workspace@doorward", UID),
];

/// The good extensions with some more, or with other values; sorted.
pub(crate) fn with(more: &[(&str, &str)]) -> Vec<u8> {
    let mut all: std::collections::BTreeMap<&str, &str> = GOOD.into();
    all.extend(more.iter().copied());
    options(&all.into_iter().collect::<Vec<_>>())
}

fn without(name: &str) -> Vec<u8> {
    options(&GOOD.into_iter().filter(|(known, _)| *known != name).collect::<Vec<_>>())
}

pub(crate) fn good_session() -> Draft {
    let mut draft = Draft::new(1, LINK, NOW);
    draft.key_id = format!("user=alice session={SESSION}").into_bytes();
    draft.principals = strings(&["node"]);
    draft.extensions = with(&[]);
    draft
}

/// The vectors made so far.
pub(crate) struct Table(Vec<Vector>);

impl Table {
    /// The good session certificate with a change, signed by the user authority.
    pub(crate) fn add(&mut self, name: &str, says: &str, expect: &str, change: impl FnOnce(&mut Draft)) {
        let mut draft = good_session();
        change(&mut draft);
        self.blob(name, says, expect, draft.sign(USER_CA));
    }

    /// A blob.
    pub(crate) fn blob(&mut self, name: &str, says: &str, expect: &str, blob: Vec<u8>) {
        self.0
            .push(vector(Judge::Session, &format!("session-{name}"), says, expect, blob));
    }
}

/// All vectors that are made here and in [`crate::hosts`], the same in every run.
pub(crate) fn made() -> Vec<Vector> {
    let mut table = Table(Vec::new());
    good(&mut table);
    authorities::blobs(&mut table);
    authorities::authorities(&mut table);
    validity(&mut table);
    principals(&mut table);
    option_fields(&mut table);
    meaning(&mut table);
    table.0.extend(hosts::made());
    table.0
}

fn good(t: &mut Table) {
    t.add("good", "shell, exec and pty", "accepted", |_| ());
    t.add("good-everything", "every capability", "accepted", |d| {
        d.extensions = with(&[
            ("forward-to@doorward", "localhost:*,[::1]:8080,*.example.com:443"),
            ("permit-X11-forwarding", ""),
            ("permit-agent-forwarding", ""),
            ("permit-port-forwarding", ""),
            ("recording@doorward", "input=yes,bulk=0"),
            ("remote-forward@doorward", ""),
            ("sftp@doorward", "read-write"),
        ]);
    });
    t.add(
        "good-forwards",
        "sockets, and listening on any address",
        "accepted",
        |d| {
            d.extensions = with(&[
                (
                    "forward-to@doorward",
                    "unix:~/*,unix:/run/postgresql/.s.PGSQL.5432,localhost:*",
                ),
                ("permit-port-forwarding", ""),
                ("remote-forward@doorward", "any"),
            ]);
        },
    );
    for (name, says, recording) in [
        (
            "best-effort",
            "a recording that gives way",
            "input=no,bulk=16777216,mode=best-effort,unacked=65536,stall=5",
        ),
        (
            "durable",
            "nothing is shown that is not stored",
            "input=yes,bulk=0,unacked=0",
        ),
        ("stall", "a bound in time alone", "input=no,bulk=1,stall=3600"),
    ] {
        t.add(&format!("good-recording-{name}"), says, "accepted", |d| {
            d.extensions = with(&[("recording@doorward", recording)])
        });
    }
    t.add("good-nothing", "no capability at all", "accepted", |d| {
        d.extensions = options(&[GOOD[1], GOOD[3], GOOD[4], GOOD[6]]);
    });
    t.add(
        "good-user-escaped",
        "a user's name that needs escaping",
        "accepted",
        |d| {
            d.key_id = format!("user=B%C3%B6b%20%3Cb%40x%3E session={SESSION}")
                .replace("%40", "@")
                .into_bytes();
        },
    );
    t.add(
        "good-foreign-extensions",
        "extensions of others are ignored",
        "accepted",
        |d| {
            d.extensions = with(&[("a@example.com", "x"), ("permit-user-rc", ""), ("zz", "")]);
        },
    );
    t.add("good-longest-login", "a login of 32 characters", "accepted", |d| {
        d.principals = strings(&["a".repeat(32)])
    });
    t.add("good-empty-nonce", "a nonce of no bytes", "accepted", |d| {
        d.nonce.clear()
    });
    let padded = |size: usize| {
        let mut draft = good_session();
        let pad = |bytes: usize| with(&[("pad@example.com", &"x".repeat(bytes))]);
        draft.extensions = pad(1);
        draft.extensions = pad(size + 1 - draft.sign(USER_CA).len());
        draft.sign(USER_CA)
    };
    t.blob("good-longest", "exactly 16 KiB", "accepted", padded(16 * 1024));
    t.blob("too-long", "one byte above 16 KiB", "too-long", padded(16 * 1024 + 1));
}

fn validity(t: &mut Table) {
    let top = u64::MAX;
    let signed_top = i64::MAX.unsigned_abs();
    for (name, says, expect, after, before) in [
        ("first-second", "valid from now", "accepted", NOW, NOW + 60),
        (
            "last-second",
            "valid until the next second",
            "accepted",
            NOW - 60,
            NOW + 1,
        ),
        ("longest-life", "an hour and a minute", "accepted", NOW - 60, NOW + 3600),
        (
            "life-too-long",
            "an hour, a minute and a second",
            "life-too-long",
            NOW - 60,
            NOW + 3601,
        ),
        ("always", "valid since 1970", "life-too-long", 0, NOW + 60),
        (
            "not-yet",
            "valid from the next second",
            "not-yet-valid",
            NOW + 1,
            NOW + 60,
        ),
        ("expired", "valid until now", "expired", NOW - 60, NOW),
        ("long-ago", "valid in 1970", "expired", 0, 60),
        ("forever", "without an end", "everlasting", NOW - 60, top),
        ("always-forever", "without beginning and end", "everlasting", 0, top),
        (
            "beyond-i64",
            "an end that a signed number cannot hold",
            "everlasting",
            NOW - 60,
            signed_top + 1,
        ),
        (
            "i64-max",
            "the last end that a signed number can hold",
            "everlasting",
            NOW - 60,
            signed_top,
        ),
        (
            "both-max",
            "begins and ends at the end of time",
            "everlasting",
            top,
            top,
        ),
        (
            "reversed",
            "ends before it begins",
            "validity-reversed",
            NOW + 60,
            NOW - 60,
        ),
        ("instant", "ends when it begins", "validity-reversed", NOW, NOW),
        ("never", "from 0 to 0", "validity-reversed", 0, 0),
    ] {
        t.add(name, says, expect, |d| (d.after, d.before) = (after, before));
    }
}

fn principals(t: &mut Table) {
    t.add(
        "no-principal",
        "good for everybody, says OpenSSH",
        "no-principal",
        |d| d.principals.clear(),
    );
    t.add("two-principals", "two logins", "many-principals", |d| {
        d.principals = strings(&["node", "root"])
    });
    t.add("same-principal-twice", "one login twice", "many-principals", |d| {
        d.principals = strings(&["node", "node"])
    });
    for (name, principal) in [
        ("star", "*"),
        ("pattern", "no*"),
        ("question", "nod?"),
        ("negated", "!root"),
        ("comma", "node,root"),
        ("space", "node "),
        ("newline", "node\n"),
        ("upper", "Node"),
        ("look-alike", "nоde"),
        ("zero-width", "no\u{200b}de"),
        ("slash", "../node"),
        ("33", "abcdefghijklmnopqrstuvwxyz0123456"),
        ("gateway", "doorward-gateway"),
    ] {
        t.add(
            &format!("principal-{name}"),
            "not a login",
            "principal-malformed",
            |d| {
                d.principals = strings(&[principal]);
            },
        );
    }
    t.add("principal-huge", "a principal of 64 KiB", "too-long", |d| {
        d.principals = strings(&["a".repeat(65_536)])
    });
    t.add("principal-nul", "a NUL in the principal", "malformed", |d| {
        d.principals = strings(&["node\0root"])
    });
    t.add("principal-empty", "a principal without a character", "malformed", |d| {
        d.principals = strings(&[""])
    });
    t.add("principal-cut", "a principal that breaks off", "malformed", |d| {
        d.principals.truncate(6)
    });
    t.add("principals-257", "more than OpenSSH takes", "malformed", |d| {
        d.principals = strings(&["a"; 257])
    });
}

fn option_fields(t: &mut Table) {
    for (name, option, value) in [
        ("force-command", "force-command", "/bin/true"),
        ("source-address", "source-address", "10.0.0.0/8"),
        ("source-address-empty", "source-address", ""),
        ("verify-required", "verify-required", ""),
        ("unknown", "nobody-knows@example.com", ""),
        ("escape", "\u{1b}]0;x\u{7}", ""),
    ] {
        t.add(
            &format!("critical-{name}"),
            "an option that is not enforced",
            "critical-option",
            |d| {
                d.critical = options(&[(option, value)]);
            },
        );
    }
    let twice = |name: &str| options(&[(name, "x"), (name, "x")]);
    let unsorted = options(&[("b@example.com", "x"), ("a@example.com", "x")]);
    let nul = options(&[("a\0@example.com", "")]);
    let unnamed = options(&[("", "")]);
    let stray = [options(&[("a@example.com", "")]), vec![0; 3]].concat();
    let raw = |value: &[u8]| [string(b"zz@example.com"), string(value)].concat();
    let many = options(
        &(0..65)
            .map(|n| format!("{n:02}@example.com"))
            .collect::<Vec<_>>()
            .iter()
            .map(|n| (n.as_str(), ""))
            .collect::<Vec<_>>(),
    );
    for (name, says, field) in [
        ("twice", "a name twice", twice("a@example.com")),
        ("unsorted", "names out of order", unsorted),
        ("nul", "a NUL in a name", nul),
        ("unnamed", "a name without a character", unnamed),
        ("stray", "bytes behind the last one", stray),
        ("unwrapped", "a value without its own length", raw(b"x")),
        (
            "trailing",
            "bytes behind a value",
            raw(&[string(b"x"), vec![0]].concat()),
        ),
        ("not-utf8", "a value that is not UTF-8", raw(&string(&[0xff]))),
        ("value-nul", "a NUL in a value", raw(&string(b"a\0"))),
        ("65", "more than 64", many),
    ] {
        t.add(&format!("critical-{name}"), says, "malformed", |d| {
            d.critical = field.clone()
        });
        t.add(&format!("extensions-{name}"), says, "malformed", |d| {
            d.extensions = field
        });
    }
    t.add(
        "extensions-empty-value",
        "an empty value where a flag would do",
        "not-canonical",
        |d| {
            d.extensions = [with(&[]), raw(&string(b""))].concat();
        },
    );
    t.add("extensions-shell-twice", "a permission twice", "malformed", |d| {
        d.extensions = twice("shell@doorward")
    });
    for flag in [
        "permit-pty",
        "permit-agent-forwarding",
        "permit-port-forwarding",
        "permit-X11-forwarding",
        "permit-user-rc",
        "no-touch-required",
    ] {
        t.add(
            &format!("value-{flag}"),
            "a flag with a value, which sshd refuses",
            "flag-with-value",
            |d| {
                d.extensions = with(&[(flag, "yes")]);
            },
        );
    }
}

fn meaning(t: &mut Table) {
    t.add(
        "host-type",
        "type host, signed by the user authority",
        "not-user",
        |d| d.kind = 2,
    );
    t.add("serial-zero", "not numbered", "no-serial", |d| d.serial = 0);
    t.add("other-key", "over another key than was proved", "wrong-subject", |d| {
        d.subject = string(&public(STRANGER))
    });
    for (name, key_id) in [
        ("empty", String::new()),
        ("free", "alice".to_owned()),
        ("no-user", format!("user= session={SESSION}")),
        ("unescaped", format!("user=a b session={SESSION}")),
        ("over-escaped", format!("user=%61lice session={SESSION}")),
        ("newline", format!("user=%0A session={SESSION}")),
        ("ansi", format!("user=\u{1b}[2J session={SESSION}")),
        ("twice", format!("user=a session={SESSION} user=b session={SESSION}")),
    ] {
        t.add(&format!("key-id-{name}"), "a key id of another form", "key-id", |d| {
            d.key_id = key_id.into_bytes()
        });
    }
    let other = Uuid::from_u128(9).to_string();
    t.add("other-session", "for another session", "wrong-session", |d| {
        d.key_id = format!("user=alice session={other}").into_bytes();
        d.extensions = with(&[("session@doorward", &other)]);
    });
    t.add(
        "two-sessions",
        "another session in the extension",
        "wrong-session",
        |d| {
            d.extensions = with(&[("session@doorward", &other)]);
        },
    );
    t.add("no-session", "no session in the extensions", "wrong-session", |d| {
        d.extensions = without("session@doorward")
    });
    t.add("session-upper", "a session in another spelling", "wrong-session", |d| {
        d.extensions = with(&[("session@doorward", &SESSION.to_uppercase())]);
    });
    t.add("other-workspace", "for another workspace", "wrong-workspace", |d| {
        d.extensions = with(&[("workspace@doorward", "3f1c0f7e-5d5e-4a52-9d2c-0d8a6a1b2c3e")]);
    });
    t.add("no-workspace", "for no workspace", "wrong-workspace", |d| {
        d.extensions = without("workspace@doorward")
    });
    t.add(
        "unknown-extension",
        "a name of ours that does not exist",
        "unknown-extension",
        |d| {
            d.extensions = with(&[("root@doorward", "")]);
        },
    );
    t.add("terms-none", "no extension at all", "terms", |d| d.extensions.clear());
    for (name, says, extension) in [
        (
            "forward-half",
            "destinations without permit-port-forwarding",
            ("forward-to@doorward", "localhost:80"),
        ),
        (
            "forward-empty",
            "permit-port-forwarding without destinations",
            ("permit-port-forwarding", ""),
        ),
        (
            "forward-path",
            "a path in another spelling",
            ("forward-to@doorward", "unix:/tmp/../run/x"),
        ),
        (
            "remote-forward",
            "an unknown reach of listening",
            ("remote-forward@doorward", "all"),
        ),
        ("sftp", "an unknown kind of sftp", ("sftp@doorward", "write")),
        ("sftp-flag", "sftp without a kind", ("sftp@doorward", "")),
        (
            "recording",
            "an unknown way of recording",
            ("recording@doorward", "none"),
        ),
        (
            "recording-order",
            "bounds of the recording in another order",
            ("recording@doorward", "input=no,bulk=1,stall=5,unacked=1"),
        ),
        (
            "recording-usual",
            "the usual bound, which is not said",
            ("recording@doorward", "input=no,bulk=1,unacked=4194304"),
        ),
        (
            "recording-contradiction",
            "nothing may wait, and the recording gives way",
            ("recording@doorward", "input=no,bulk=1,mode=best-effort,unacked=0"),
        ),
        (
            "recording-stall",
            "an acknowledgement that may take longer than an hour",
            ("recording@doorward", "input=no,bulk=1,stall=3601"),
        ),
        (
            "longest",
            "a session without an end",
            ("longest@doorward", "18446744073709551615"),
        ),
        ("longest-zero", "a session of no time", ("longest@doorward", "0")),
        (
            "longest-spelling",
            "a number in another spelling",
            ("longest@doorward", "043200"),
        ),
        ("shell-value", "a flag of ours with a value", ("shell@doorward", "no")),
    ] {
        t.add(&format!("terms-{name}"), says, "terms", |d| {
            d.extensions = with(&[extension])
        });
    }
    for missing in ["recording", "longest"] {
        t.add(&format!("terms-no-{missing}"), "a missing extension", "terms", |d| {
            d.extensions = without(&format!("{missing}@doorward"));
        });
    }
}
