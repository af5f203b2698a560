//! Link and host certificates that are made field by field.

use crate::{
    cases::{GOOD, HOST, HOST_CA, LINK, NOW, STRANGER, UID, USER_CA, good_session, vector},
    draft::{Draft, options, public, string, strings},
    vectors::{Judge, Vector},
};

const WEEK: u64 = 7 * 86_400;
const YEAR: u64 = 366 * 86_400;

fn good_link() -> Draft {
    let mut draft = Draft::new(1, LINK, NOW);
    draft.key_id = b"doorward-gateway".to_vec();
    draft.principals = strings(&["doorward-gateway"]);
    draft
}

fn good_host() -> Draft {
    let mut draft = Draft::new(2, HOST, NOW);
    draft.key_id = format!("workspace=devenv-0 uid={UID}").into_bytes();
    draft.principals = strings(&["devenv-0"]);
    draft.extensions = options(&[("workspace@doorward", UID)]);
    draft
}

pub(crate) fn made() -> Vec<Vector> {
    let mut all = links();
    all.extend(hosts());
    all
}

fn links() -> Vec<Vector> {
    let mut all = Vec::new();
    let mut add = |name: &str, says: &str, expect: &str, signer: u8, change: &dyn Fn(&mut Draft)| {
        let mut draft = good_link();
        change(&mut draft);
        all.push(vector(
            Judge::Link,
            &format!("link-{name}"),
            says,
            expect,
            draft.sign(signer),
        ));
    };
    add("good", "a gateway", "accepted", USER_CA, &|_| ());
    add("good-week", "a week and a minute", "accepted", USER_CA, &|d| {
        (d.after, d.before) = (NOW - 60, NOW + WEEK)
    });
    add(
        "good-foreign-extension",
        "what others mean is ignored",
        "accepted",
        USER_CA,
        &|d| {
            d.extensions = options(&[("permit-pty", "")]);
        },
    );
    add(
        "too-long-life",
        "a week, a minute and a second",
        "life-too-long",
        USER_CA,
        &|d| {
            (d.after, d.before) = (NOW - 60, NOW + WEEK + 1);
        },
    );
    add("forever", "without an end", "everlasting", USER_CA, &|d| {
        d.before = u64::MAX
    });
    add("expired", "valid until now", "expired", USER_CA, &|d| d.before = NOW);
    add(
        "not-yet",
        "valid from the next second",
        "not-yet-valid",
        USER_CA,
        &|d| d.after = NOW + 1,
    );
    add("other-principal", "somebody else", "wrong-principal", USER_CA, &|d| {
        d.principals = strings(&["node"])
    });
    add("pattern", "a pattern is no name", "wrong-principal", USER_CA, &|d| {
        d.principals = strings(&["*"])
    });
    add("upper", "another spelling", "wrong-principal", USER_CA, &|d| {
        d.principals = strings(&["Doorward-Gateway"])
    });
    add(
        "no-principal",
        "good for everybody, says OpenSSH",
        "no-principal",
        USER_CA,
        &|d| d.principals.clear(),
    );
    add(
        "two-principals",
        "a gateway and root",
        "many-principals",
        USER_CA,
        &|d| {
            d.principals = strings(&["doorward-gateway", "root"]);
        },
    );
    add("host-type", "type host", "not-user", USER_CA, &|d| d.kind = 2);
    add(
        "host-ca",
        "signed by the host authority",
        "untrusted-authority",
        HOST_CA,
        &|_| (),
    );
    add(
        "other-key",
        "over another key than was proved",
        "wrong-subject",
        USER_CA,
        &|d| {
            d.subject = string(&public(STRANGER));
        },
    );
    add(
        "critical",
        "an option that is not enforced",
        "critical-option",
        USER_CA,
        &|d| {
            d.critical = options(&[("source-address", "10.0.0.0/8")]);
        },
    );
    add(
        "session-extension",
        "a session in a link certificate",
        "misplaced-extension",
        USER_CA,
        &|d| {
            d.extensions = options(&[GOOD[4]]);
        },
    );
    add(
        "shell-extension",
        "a permission in a link certificate",
        "misplaced-extension",
        USER_CA,
        &|d| {
            d.extensions = options(&[("shell@doorward", "")]);
        },
    );
    add(
        "unknown-extension",
        "a name of ours that does not exist",
        "unknown-extension",
        USER_CA,
        &|d| {
            d.extensions = options(&[("link@doorward", "")]);
        },
    );
    let session = good_session().sign(USER_CA);
    all.push(vector(
        Judge::Link,
        "link-session",
        "a session certificate",
        "wrong-principal",
        session,
    ));
    let link = good_link();
    all.push(vector(
        Judge::Session,
        "session-link",
        "a link certificate",
        "principal-malformed",
        link.sign(USER_CA),
    ));
    all
}

fn hosts() -> Vec<Vector> {
    let mut all = Vec::new();
    let mut add = |name: &str, says: &str, expect: &str, signer: u8, change: &dyn Fn(&mut Draft)| {
        let mut draft = good_host();
        change(&mut draft);
        all.push(vector(
            Judge::Host,
            &format!("host-{name}"),
            says,
            expect,
            draft.sign(signer),
        ));
    };
    add("good", "an agent", "accepted", HOST_CA, &|_| ());
    add("good-names", "more names", "accepted", HOST_CA, &|d| {
        d.principals = strings(&[
            "devenv-0.example.com",
            "10.0.0.1",
            "fe80::1",
            "[10.0.0.1]:2222",
            "devenv-0",
        ]);
    });
    add("good-year", "366 days and a minute", "accepted", HOST_CA, &|d| {
        (d.after, d.before) = (NOW - 60, NOW + YEAR)
    });
    add("too-long-life", "a second more", "life-too-long", HOST_CA, &|d| {
        (d.after, d.before) = (NOW - 60, NOW + YEAR + 1);
    });
    add("forever", "without an end", "everlasting", HOST_CA, &|d| {
        d.before = u64::MAX
    });
    add("expired", "valid until now", "expired", HOST_CA, &|d| d.before = NOW);
    add(
        "not-yet",
        "valid from the next second",
        "not-yet-valid",
        HOST_CA,
        &|d| d.after = NOW + 1,
    );
    add("user-type", "type user", "not-host", HOST_CA, &|d| d.kind = 1);
    add(
        "user-ca",
        "signed by the user authority",
        "untrusted-authority",
        USER_CA,
        &|_| (),
    );
    add(
        "no-principal",
        "good for every host, says OpenSSH",
        "no-principal",
        HOST_CA,
        &|d| d.principals.clear(),
    );
    for (name, principal) in [
        ("star", "*"),
        ("pattern", "dev*"),
        ("question", "devenv-?"),
        ("negated", "!devenv-0"),
    ] {
        add(
            &format!("principal-{name}"),
            "ssh takes it for a pattern",
            "principal-malformed",
            HOST_CA,
            &|d| {
                d.principals = strings(&["devenv-0", principal]);
            },
        );
    }
    add("other-name", "another workspace", "wrong-principal", HOST_CA, &|d| {
        d.principals = strings(&["devenv-1"])
    });
    add(
        "longer-name",
        "a name that ours begins",
        "wrong-principal",
        HOST_CA,
        &|d| {
            d.principals = strings(&["devenv-0.evil.example"]);
        },
    );
    add(
        "other-uid",
        "another workspace of the name",
        "wrong-workspace",
        HOST_CA,
        &|d| {
            d.extensions = options(&[("workspace@doorward", "another")]);
        },
    );
    add("no-uid", "no UID", "wrong-workspace", HOST_CA, &|d| {
        d.extensions.clear()
    });
    add(
        "other-key",
        "over another key than was proved",
        "wrong-subject",
        HOST_CA,
        &|d| {
            d.subject = string(&public(STRANGER));
        },
    );
    add(
        "critical",
        "an option that is not enforced",
        "critical-option",
        HOST_CA,
        &|d| {
            d.critical = options(&[("anything@example.com", "")]);
        },
    );
    add(
        "shell-extension",
        "a permission in a host certificate",
        "misplaced-extension",
        HOST_CA,
        &|d| {
            d.extensions = options(&[("shell@doorward", ""), ("workspace@doorward", UID)]);
        },
    );
    add(
        "unknown-extension",
        "a name of ours that does not exist",
        "unknown-extension",
        HOST_CA,
        &|d| {
            d.extensions = options(&[("host@doorward", ""), ("workspace@doorward", UID)]);
        },
    );
    let session = good_session().sign(HOST_CA);
    all.push(vector(
        Judge::Host,
        "host-session",
        "a session certificate",
        "not-host",
        session,
    ));
    all
}
