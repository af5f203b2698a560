use proptest::{collection::vec, prelude::*};

use super::*;

fn login() -> Login {
    Login::try_from("node").unwrap()
}

fn destination() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        "[a-z*?][a-zA-Z0-9._*?-]{0,20}",
        Just("[::1]".to_owned()),
        Just("[*]".to_owned())
    ];
    let port = prop_oneof![(1..=u16::MAX).prop_map(|p| p.to_string()), Just("*".to_owned())];
    prop_oneof![
        4 => (host, port).prop_map(|(host, port)| format!("{host}:{port}")),
        1 => "unix:(~|/[a-z0-9._-]{0,9}[a-z])(/[a-zA-Z0-9@:+=_-]{1,9}){0,3}/([a-z]{1,9}|\\*)",
    ]
}

prop_compose! {
    fn recording()(
        input in any::<bool>(),
        bulk_limit in any::<u64>(),
        mode in prop_oneof![Just(RecordingMode::Strict), Just(RecordingMode::BestEffort)],
        unacked in prop_oneof![Just(Recording::default().unacked), any::<u64>(), 1..9u64],
        stall in prop_oneof![Just(30), 1..=3600u64],
    ) -> Recording {
        let unacked = if mode == RecordingMode::BestEffort { unacked.max(1) } else { unacked };
        Recording { input, bulk_limit, mode, unacked, stall: Duration::from_secs(stall) }
    }
}

prop_compose! {
    fn terms()(
        flags in any::<[bool; 5]>(),
        sftp in prop_oneof![Just(Sftp::None), Just(Sftp::ReadOnly), Just(Sftp::ReadWrite)],
        local_forward in vec(destination(), 0..8),
        remote_forward in prop_oneof![
            Just(RemoteForward::None), Just(RemoteForward::Loopback), Just(RemoteForward::Any),
        ],
        recording in recording(),
        longest in 1..=LONGEST_AT_MOST,
    ) -> Terms {
        let [shell, exec, pty, agent_forwarding, x11_forwarding] = flags;
        Terms {
            login: login(),
            capabilities: Capabilities {
                shell, exec, pty, sftp, agent_forwarding, x11_forwarding, local_forward, remote_forward,
            },
            recording,
            longest: Duration::from_secs(longest),
        }
    }
}

proptest! {
    #[test]
    fn terms_survive_the_certificate(terms in terms()) {
        let extensions = terms.extensions().unwrap();
        prop_assert_eq!(Terms::from_extensions(login(), &extensions), Ok(terms));
    }

    #[test]
    fn the_strictest_recording_is_as_strict_as_both(one in recording(), other in recording()) {
        let both = one.strictest(other);
        prop_assert_eq!(both, other.strictest(one));
        prop_assert!(both.spelled().is_some(), "{:?}", both);
        for of in [one, other] {
            prop_assert_eq!(both.strictest(of), both);
        }
    }

    #[test]
    fn any_other_extension_makes_other_terms_or_none(
        terms in terms(),
        name in prop::sample::select(ext::TERMS.to_vec()),
        value in prop_oneof![Just(String::new()), "[a-z0-9:=,*+-]{1,12}"],
    ) {
        let written = terms.extensions().unwrap();
        let mut changed = written.clone();
        changed.insert(name.to_owned(), value);
        if changed != written && let Ok(read) = Terms::from_extensions(login(), &changed) {
            prop_assert_ne!(&read, &terms);
            prop_assert_eq!(read.extensions().unwrap(), changed);
        }
    }
}

fn base() -> BTreeMap<String, String> {
    let extensions = [(ext::RECORDING, "input=no,bulk=16777216"), (ext::LONGEST, "3600")];
    extensions
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn with(changes: &[(&str, &str)]) -> Result<Terms, TermsError> {
    let mut extensions = base();
    extensions.extend(
        changes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    Terms::from_extensions(login(), &extensions)
}

#[test]
fn nothing_is_allowed_that_is_not_named() {
    let terms = with(&[]).unwrap();
    assert_eq!(terms.capabilities, Capabilities::default());
    assert_eq!(terms.recording, Recording::default());
    assert_eq!(terms.longest, Duration::from_secs(3600));
}

#[test]
fn bad_values_are_refused() {
    for text in [
        "",
        "0",
        "-1",
        "+1",
        "01",
        "1.5",
        "1s",
        "2592001",
        "18446744073709551616",
        " 1",
    ] {
        let error = with(&[(ext::LONGEST, text)]).unwrap_err();
        assert!(
            matches!(error, TermsError::Longest | TermsError::Inconsistent(ext::LONGEST)),
            "{text}: {error}"
        );
    }
    for text in [
        "",
        "input=no",
        "input=no,bulk=",
        "input=maybe,bulk=1",
        "bulk=1,input=no",
        "input=no,bulk=1,x=1",
        "input=no,bulk=1,mode=lax",
        "input=no,bulk=1,mode=",
        "input=no,bulk=1,stall=5,unacked=1",
        "input=no,bulk=1,stall=0",
        "input=no,bulk=1,stall=3601",
        "input=no,bulk=1,stall=1.5",
        "input=no,bulk=1,mode=best-effort,unacked=0",
        "input=no,bulk=1,unacked=1,unacked=1",
        "input=no,bulk=1,",
    ] {
        assert_eq!(with(&[(ext::RECORDING, text)]), Err(TermsError::Recording), "{text}");
    }
    for text in [
        "input=no,bulk=01",
        "input=no,bulk=+1",
        "input=no,bulk=1,mode=strict",
        "input=no,bulk=1,unacked=4194304",
        "input=no,bulk=1,stall=30",
        "input=no,bulk=1,stall=05",
        "input=no,bulk=1,unacked=00",
    ] {
        assert_eq!(
            with(&[(ext::RECORDING, text)]),
            Err(TermsError::Inconsistent(ext::RECORDING)),
            "{text}"
        );
    }
    for text in ["", "write", "READ", "read,write", "read-write "] {
        assert_eq!(with(&[(ext::SFTP, text)]), Err(TermsError::Sftp), "{text:?}");
    }
    for text in ["yes", "loopback", "ANY", "any "] {
        assert_eq!(
            with(&[(ext::REMOTE_FORWARD, text)]),
            Err(TermsError::RemoteForward),
            "{text:?}"
        );
    }
    for name in [ext::SHELL, ext::EXEC, ext::PERMIT_PTY] {
        assert!(
            matches!(with(&[(name, "yes")]), Err(TermsError::Inconsistent(_))),
            "{name}"
        );
    }
    let mut missing = base();
    missing.remove(ext::RECORDING);
    assert_eq!(Terms::from_extensions(login(), &missing), Err(TermsError::Recording));
    let mut missing = base();
    missing.remove(ext::LONGEST);
    assert_eq!(Terms::from_extensions(login(), &missing), Err(TermsError::Longest));
}

#[test]
fn half_a_permission_to_forward_is_refused() {
    assert_eq!(
        with(&[(ext::PERMIT_PORT, "")]),
        Err(TermsError::Inconsistent(ext::PERMIT_PORT))
    );
    assert_eq!(
        with(&[(ext::FORWARD_TO, "localhost:80")]),
        Err(TermsError::Inconsistent(ext::PERMIT_PORT))
    );
    assert!(with(&[(ext::FORWARD_TO, "localhost:80"), (ext::PERMIT_PORT, "")]).is_ok());
    for (text, meant) in [("", RemoteForward::Loopback), ("any", RemoteForward::Any)] {
        assert_eq!(
            with(&[(ext::REMOTE_FORWARD, text)]),
            Err(TermsError::Inconsistent(ext::PERMIT_PORT))
        );
        let terms = with(&[(ext::REMOTE_FORWARD, text), (ext::PERMIT_PORT, "")]).unwrap();
        assert_eq!(terms.capabilities.remote_forward, meant);
    }
}

#[test]
fn bad_destinations_are_refused_both_ways() {
    for bad in [
        "",
        "host",
        "host:",
        ":80",
        "host:0",
        "host:65536",
        "host:+80",
        "host:080",
        "host:80 ",
        " host:80",
        "ho st:80",
        "host:80\n",
        "host:80\0",
        "[::1:80",
        "::1:80",
        "[fe80::1%eth0]:80",
        "[host]:80",
        "a/b:80",
        "höst:80",
        "host:80-90",
        "user@host:80",
        "!host:80",
    ] {
        assert_eq!(
            with(&[(ext::FORWARD_TO, bad), (ext::PERMIT_PORT, "")]),
            Err(TermsError::ForwardTo),
            "{bad:?}"
        );
        let mut terms = with(&[]).unwrap();
        terms.capabilities.local_forward = vec![bad.to_owned()];
        assert_eq!(terms.extensions(), Err(TermsError::ForwardTo), "{bad:?}");
    }
    let mut terms = with(&[]).unwrap();
    terms.capabilities.local_forward = vec!["a:1,b:2".to_owned()];
    assert_eq!(
        terms.extensions(),
        Err(TermsError::ForwardTo),
        "a comma would make two of one"
    );
    terms.capabilities.local_forward = vec!["a:1".to_owned(); Capabilities::MOST_FORWARDS];
    assert!(terms.extensions().is_ok());
    terms.capabilities.local_forward.push("a:1".to_owned());
    assert_eq!(terms.extensions(), Err(TermsError::ForwardTo));
    terms.capabilities.local_forward = vec![format!("{}:1", "a".repeat(290)); Capabilities::MOST_FORWARDS];
    assert_eq!(terms.extensions(), Err(TermsError::ForwardTo), "too long together");
}

#[test]
fn a_fraction_of_a_second_is_cut_off() {
    let mut terms = with(&[]).unwrap();
    terms.longest = Duration::from_millis(1999);
    assert_eq!(terms.extensions().unwrap()[ext::LONGEST], "1");
    terms.longest = Duration::from_millis(999);
    assert_eq!(terms.extensions(), Err(TermsError::Longest));
}

#[test]
fn a_recording_is_spelled_where_it_is_not_as_usual() {
    for (text, meant) in [
        ("input=no,bulk=16777216", Recording::default()),
        (
            "input=yes,bulk=0,mode=best-effort,stall=5",
            Recording {
                input: true,
                bulk_limit: 0,
                mode: RecordingMode::BestEffort,
                stall: Duration::from_secs(5),
                ..Recording::default()
            },
        ),
        (
            "input=no,bulk=16777216,unacked=0",
            Recording {
                unacked: 0,
                ..Recording::default()
            },
        ),
    ] {
        let terms = with(&[(ext::RECORDING, text)]).unwrap();
        assert_eq!(terms.recording, meant, "{text}");
        assert_eq!(terms.extensions().unwrap()[ext::RECORDING], text);
    }
}
