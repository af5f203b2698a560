//! The decision as a golden matrix, and the faults of policy files.

mod lent;
mod others;

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use doorward_certs::{RecordingMode, RemoteForward, Terms};

use super::*;
use crate::refusal::RefusalCode;

const POLICY: &str = include_str!("../../testdata/policy/policy.toml");
const MATRIX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/policy/matrix.txt");

fn policy(text: &str) -> Policy {
    Policy::new(Roles::parse(Path::new("policy.toml"), text).unwrap())
}

fn workspace(name: &str, owner: Option<&str>) -> Arc<Workspace> {
    Arc::new(Workspace {
        name: WorkspaceName::try_from(name).unwrap(),
        login: Login::try_from("node").unwrap(),
        owner: owner.map(str::to_owned),
        place: None,
        state: State::Running,
        life: None,
        notes: crate::workspace::Notes::default(),
    })
}

fn words(terms: &Terms) -> String {
    let own = &terms.capabilities;
    let flags = [
        (own.shell, "shell"),
        (own.exec, "exec"),
        (own.pty, "pty"),
        (own.sftp == doorward_certs::Sftp::ReadOnly, "sftp:read"),
        (own.sftp == doorward_certs::Sftp::ReadWrite, "sftp:read-write"),
        (own.agent_forwarding, "agent-forwarding"),
        (own.x11_forwarding, "x11-forwarding"),
        (own.remote_forward == RemoteForward::Loopback, "remote-forward"),
        (own.remote_forward == RemoteForward::Any, "remote-forward:any"),
    ];
    let mut words: Vec<String> = flags
        .iter()
        .filter(|(held, _)| *held)
        .map(|(_, word)| (*word).to_owned())
        .collect();
    words.extend(
        own.local_forward
            .iter()
            .map(|destination| format!("forward-to:{destination}")),
    );
    words.push(format!("login={}", terms.login.as_str()));
    words.push(format!(
        "input={} bulk={}",
        terms.recording.input, terms.recording.bulk_limit
    ));
    words.push(format!("longest={}", humantime::format_duration(terms.longest)));
    words.join(" ")
}

/// Every person of the fixture × every workspace, written out and compared with the file that reviewers read.
#[test]
fn the_matrix_is_as_reviewed() {
    let policy = policy(POLICY);
    let people: &[(&str, &[&str], &str)] = &[
        ("alice", &["admins"], ""),
        ("bob", &["developers"], ""),
        ("carol", &["readonly"], ""),
        ("dora", &["developers", "readonly"], ""),
        ("emil", &["developers", "operators"], ""),
        ("fred", &["operators", "admins"], ""),
        ("gina", &["auditors"], ""),
        ("ivan", &[], "ivan@partner.example"),
        ("ivan", &[], "ivan@PARTNER.example"),
        ("ivan", &[], "Ivan@partner.example"),
        ("ivan", &[], "ivan@sub.partner.example"),
        ("ivan", &["ivan@partner.example"], ""),
        ("bob", &[], "bob@corp.example"),
        ("bob", &["developers"], "bob@corp.example"),
        ("bob", &[], "bob@sub.corp.example"),
        ("bob", &[], "bob@corp.example.evil.example"),
        ("bob", &[], "corp.example@evil.example"),
        ("wanda", &[], "wanda@corp.example"),
        ("walt", &["wardens", "readonly"], ""),
        ("mallory", &[], ""),
        (
            "near-miss",
            &[
                "developer",
                "Developers",
                "developers ",
                "/developers",
                "developers-admin",
                "d\u{435}velopers",
            ],
            "",
        ),
    ];
    let places = [
        workspace("devenv-0", Some("bob")),
        workspace("devenv-1", Some("dora")),
        workspace("build", None),
        workspace("prod-db", None),
    ];
    let mut matrix = String::new();
    for (user, groups, email) in people {
        writeln!(matrix, "{}", format!("{user} {groups:?} {email}").trim_end()).unwrap();
        let person = Identity::for_test(user, groups).with_email(email);
        let rights = |place: &Workspace| {
            let over = (place.name.as_str(), place.owner.as_deref());
            let all = [Right::Kill, Right::Lock, Right::Explain].into_iter();
            let own: Vec<_> = all
                .filter(|right| policy.may(person.person(), *right, Some(over)))
                .map(Right::as_str)
                .collect();
            own.join(" ")
        };
        let people = policy.may(person.person(), Right::Lock, None);
        writeln!(matrix, "  may lock people: {people}").unwrap();
        for place in &places {
            let decision = match policy.decide(&person, Some(place), RecordStore::Works, &Heard::nothing()) {
                Ok(grant) => format!("{} {}", grant.roles().join("+"), words(grant.terms())),
                Err(refusal) => refusal.code().to_string(),
            };
            writeln!(matrix, "  {:<9} {decision}", place.name.as_str()).unwrap();
            let recordings: Vec<_> = ["bob", user]
                .into_iter()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .filter(|whose| policy.may_view(&person, whose, place.name.as_str(), place.owner.as_deref()))
                .collect();
            let over = rights(place);
            writeln!(matrix, "            recordings of {recordings:?} rights [{over}]").unwrap();
            // The explanation never says anything else than the decision.
            let explained = policy.explain(person.person(), &place.name, Some(place), true, &Heard::nothing());
            let decided = policy.decide(&person, Some(place), RecordStore::Works, &Heard::nothing());
            assert_eq!(explained.verdict == Verdict::Granted, decided.is_ok());
            let applying: Vec<_> = explained.rules.iter().filter(|rule| rule.applies).collect();
            match decided {
                Ok(grant) => {
                    assert_eq!(explained.login.as_deref(), Some(grant.terms().login.as_str()));
                    assert_eq!(explained.capabilities, crate::api::words(grant.terms()));
                    let names: Vec<_> = applying.iter().map(|rule| rule.role.clone()).collect();
                    assert_eq!(names, grant.roles());
                }
                Err(_) => assert!(applying.is_empty(), "{explained:?}"),
            }
        }
    }
    if std::env::var_os("DOORWARD_REGENERATE").is_some() {
        fs::write(MATRIX, &matrix).unwrap();
    }
    let reviewed = fs::read_to_string(MATRIX).unwrap_or_default();
    assert!(
        matrix == reviewed,
        "the decisions changed; DOORWARD_REGENERATE=1 writes the file anew:\n{matrix}"
    );
}

#[test]
fn missing_and_forbidden_are_one_refusal() {
    let policy = policy(POLICY);
    for groups in [&["developers"][..], &["admins"], &[]] {
        let person = Identity::for_test("zoe", groups);
        let missing = policy
            .decide(&person, None, RecordStore::Works, &Heard::nothing())
            .unwrap_err();
        assert_eq!(missing.code(), RefusalCode::Denied);
        if let Err(forbidden) = policy.decide(
            &person,
            Some(&workspace("prod-db", None)),
            RecordStore::Works,
            &Heard::nothing(),
        ) {
            assert_eq!(
                (missing.text(), missing.hint(), missing.retry_after()),
                (forbidden.text(), forbidden.hint(), forbidden.retry_after())
            );
        }
    }
}

/// What a running session loses by a newer grant, and what it does not.
#[test]
fn a_grant_is_compared_with_a_newer_one() {
    let role = |allow: &str, more: &str| {
        let text =
            format!("[[role]]\nname = \"r\"\ngroups = [\"g\"]\nworkspaces = [\"*\"]\nallow = [{allow}]\n{more}\n");
        let place = workspace("devenv-0", None);
        policy(&text)
            .decide(
                &Identity::for_test("zoe", &["g"]),
                Some(&place),
                RecordStore::Works,
                &Heard::nothing(),
            )
            .unwrap()
    };
    let old = role("\"shell\", \"sftp:read\", \"forward-to:localhost:80\"", "");
    for (allow, more, lost) in [
        ("\"shell\", \"sftp:read\", \"forward-to:localhost:80\"", "", false),
        (
            "\"shell\", \"exec\", \"sftp:read-write\", \"forward-to:*:*\"",
            "",
            false,
        ),
        (
            "\"shell\", \"sftp:read\", \"forward-to:localhost:80\"",
            "longest = \"1m\"",
            false,
        ),
        ("\"sftp:read\", \"forward-to:localhost:80\"", "", true),
        ("\"shell\", \"forward-to:localhost:80\"", "", true),
        ("\"shell\", \"sftp:read\", \"forward-to:localhost:81\"", "", true),
        (
            "\"shell\", \"sftp:read\", \"forward-to:localhost:80\"",
            "login = \"other\"",
            true,
        ),
        (
            "\"shell\", \"sftp:read\", \"forward-to:localhost:80\"",
            "recording = { input = true }",
            true,
        ),
        (
            "\"shell\", \"sftp:read\", \"forward-to:localhost:80\"",
            "recording = { mode = \"best-effort\", unacked = 1 }",
            false,
        ),
    ] {
        let said = old.lost_in(&role(allow, more));
        assert_eq!(said.is_some(), lost, "{allow} {more}: {said:?}");
    }
    let lax = role("\"shell\"", "recording = { mode = \"best-effort\" }");
    assert!(lax.lost_in(&role("\"shell\"", "")).is_some(), "strict from now on");
}

fn glass(ordinary: &str) -> Policy {
    policy(&format!(
        "[[role]]\nname = 'dev'\ngroups = ['g']\nworkspaces = ['*']\nallow = ['shell', 'exec']\n{ordinary}\n\
         [[role]]\nname = 'glass'\ngroups = ['oncall']\nworkspaces = ['devenv-*']\nallow = ['shell', 'pty']\n\
         break-glass = true\nlongest = '1h'\n"
    ))
}

/// A role with `break-glass` applies while the store is down, alone, and not where it is not needed.
#[test]
fn glass_is_broken_only_where_nothing_can_be_stored() {
    use RecordStore::{Down, Works};
    let place = workspace("devenv-0", None);
    let decide = |policy: &Policy, groups: &[&str], place: &Arc<Workspace>, store| {
        let decided = policy.decide(
            &Identity::for_test("zoe", groups),
            Some(place),
            store,
            &Heard::nothing(),
        );
        decided.map(|grant| {
            (
                grant.roles().join("+"),
                grant.is_break_glass(),
                grant.terms().recording.mode,
            )
        })
    };
    let strict = glass("");
    let got = |groups: &[&str], store| decide(&strict, groups, &place, store).ok();
    let dev = Some(("dev".to_owned(), false, RecordingMode::Strict));
    let broken = Some(("glass".to_owned(), true, RecordingMode::BestEffort));
    assert_eq!(got(&["g", "oncall"], Works), dev);
    assert_eq!(got(&["g", "oncall"], Down), broken);
    assert_eq!(got(&["oncall"], Works), None);
    assert_eq!(got(&["oncall"], Down), broken);
    assert_eq!(got(&["g"], Down), dev);
    assert_eq!(got(&[], Down), None);
    // Elsewhere the role does not hold, and nothing is lent to it.
    let other = workspace("prod-db", None);
    assert_eq!(decide(&strict, &["oncall"], &other, Down).ok(), None);
    let grant = strict.decide(
        &Identity::for_test("zoe", &["g", "oncall"]),
        Some(&place),
        Down,
        &Heard::nothing(),
    );
    let terms = grant.unwrap().terms().clone();
    assert!(!terms.capabilities.exec && terms.capabilities.pty && terms.longest == Duration::from_secs(3600));
    let lax = glass("recording = { mode = 'best-effort' }");
    let usual = Some(("dev".to_owned(), false, RecordingMode::BestEffort));
    assert_eq!(decide(&lax, &["g", "oncall"], &place, Down).ok(), usual);
}

/// The strictest of the roles that apply counts, in each of its words.
#[test]
fn the_strictest_recording_wins() {
    let text = |one: &str, other: &str| {
        format!(
            "[[role]]\nname = 'a'\ngroups = ['g']\nworkspaces = ['*']\nallow = ['shell']\nrecording = {{ {one} }}\n\
             [[role]]\nname = 'b'\ngroups = ['g']\nworkspaces = ['*']\nallow = ['exec']\nrecording = {{ {other} }}\n"
        )
    };
    let both = |one: &str, other: &str| {
        let person = Identity::for_test("zoe", &["g"]);
        let decided = policy(&text(one, other)).decide(
            &person,
            Some(&workspace("d", None)),
            RecordStore::Works,
            &Heard::nothing(),
        );
        decided.unwrap().terms().recording
    };
    let lax = "mode = 'best-effort', stall = '5s', unacked = '1MiB'";
    let got = both(lax, "mode = 'strict', unacked = '2MiB'");
    assert_eq!(
        (got.mode, got.unacked, got.stall),
        (RecordingMode::Strict, 1 << 20, Duration::from_secs(5))
    );
    assert_eq!(both(lax, lax).mode, RecordingMode::BestEffort);
    assert_eq!(both(lax, "input = true").mode, RecordingMode::Strict);
    assert_eq!(both("unacked = 0", lax).unacked, 0);
    for bad in [
        "mode = 'lax'",
        "mode = 'best-effort', unacked = 0",
        "unacked = '9MiB'",
        "stall = '0s'",
        "stall = '1500ms'",
        "stall = '2h'",
    ] {
        assert!(Roles::parse(Path::new("p.toml"), &text(bad, lax)).is_err(), "{bad}");
    }
    for bad in [
        "may = ['kill']",
        "recordings = 'all'",
        "recording = { mode = 'strict' }",
        "break-glass = 1",
    ] {
        let role = "[[role]]\nname = 'a'\ngroups = ['g']\nworkspaces = ['*']\n";
        let text = |more: &str| format!("{role}allow = ['shell']\n{more}\n");
        let glass = if bad.starts_with("break") {
            ""
        } else {
            "break-glass = true\n"
        };
        assert!(Roles::parse(Path::new("p.toml"), &text("break-glass = true")).is_ok());
        assert!(
            Roles::parse(Path::new("p.toml"), &text(&format!("{glass}{bad}"))).is_err(),
            "{bad}"
        );
        assert!(Roles::parse(Path::new("p.toml"), &format!("{role}allow = []\nbreak-glass = true\n")).is_err());
    }
}

/// A recording is kept for as long as the role that wants it longest says, and for ever if one says nothing.
#[test]
fn the_longest_keep_wins() {
    let keep = |one: &str, other: &str| {
        let text = format!(
            "[[role]]\nname = 'a'\ngroups = ['g']\nworkspaces = ['*']\nallow = ['shell']\nrecording = {{ {one} }}\n\
             [[role]]\nname = 'b'\ngroups = ['g']\nworkspaces = ['*']\nallow = ['exec']\nrecording = {{ {other} }}\n"
        );
        let person = Identity::for_test("zoe", &["g"]);
        let decided = policy(&text).decide(
            &person,
            Some(&workspace("d", None)),
            RecordStore::Works,
            &Heard::nothing(),
        );
        decided.unwrap().keep()
    };
    let days = |days: u64| Some(Duration::from_secs(days * 86_400));
    assert_eq!(keep("keep = '30d'", "keep = '400d'"), days(400));
    assert_eq!(keep("keep = '30d'", "keep = '1d'"), days(30));
    assert_eq!(keep("keep = '30d'", "input = true"), None);
    assert_eq!(keep("input = false", "input = true"), None);
    for bad in ["keep = '0s'", "keep = 400", "keep = 'ever'", "keep = '40000d'"] {
        let text = format!(
            "[[role]]\nname = 'a'\ngroups = ['g']\nworkspaces = ['*']\nallow = ['shell']\nrecording = {{ {bad} }}\n"
        );
        assert!(Roles::parse(Path::new("p.toml"), &text).is_err(), "{bad}");
    }
}

/// Who has no right to see more is told of their own roles alone, and of a workspace that is not there what a refusal tells.
#[test]
fn an_explanation_tells_a_stranger_nothing() {
    let policy = policy(POLICY);
    let bob = Identity::for_test("bob", &["developers"]);
    let explain = |name: &str, place: Option<&Arc<Workspace>>| {
        let name = WorkspaceName::try_from(name).unwrap();
        serde_json::to_string(&policy.explain(bob.person(), &name, place, false, &Heard::nothing())).unwrap()
    };
    let forbidden = explain("devenv-7", Some(&workspace("devenv-7", Some("dora"))));
    let missing = explain("devenv-7", None);
    assert!(
        !forbidden.contains("operator") && !forbidden.contains("dora"),
        "{forbidden}"
    );
    assert_eq!(forbidden, missing);
}

#[test]
fn no_roles_means_nobody() {
    let person = Identity::for_test("alice", &["admins"]);
    assert!(
        policy("")
            .decide(
                &person,
                Some(&workspace("devenv-0", None)),
                RecordStore::Works,
                &Heard::nothing()
            )
            .is_err()
    );
    assert!(!policy("").may_view(&person, "alice", "devenv-0", None));
}

#[test]
fn a_grant_can_be_written_into_a_certificate() {
    let policy = policy(POLICY);
    let grant = policy
        .decide(
            &Identity::for_test("alice", &["admins"]),
            Some(&workspace("devenv-0", None)),
            RecordStore::Works,
            &Heard::nothing(),
        )
        .unwrap();
    let extensions = grant.terms().extensions().unwrap();
    assert_eq!(
        &Terms::from_extensions(grant.terms().login.clone(), &extensions).unwrap(),
        grant.terms()
    );
}

#[test]
fn what_roles_say_of_forwards_adds_up() {
    let text = r#"[[role]]
name = "a"
groups = ["g"]
workspaces = ["*"]
allow = ["remote-forward:any", "remote-forward", "forward-to:unix:~/*", "forward-to:db.internal:5432"]

[[role]]
name = "b"
groups = ["g"]
workspaces = ["*"]
allow = ["remote-forward", "forward-to:unix:~/*", "forward-to:localhost:*"]
"#;
    let person = Identity::for_test("alice", &["g"]);
    let grant = policy(text)
        .decide(
            &person,
            Some(&workspace("devenv-0", None)),
            RecordStore::Works,
            &Heard::nothing(),
        )
        .unwrap();
    let may = &grant.terms().capabilities;
    assert_eq!(may.remote_forward, RemoteForward::Any);
    assert_eq!(may.local_forward, ["db.internal:5432", "localhost:*", "unix:~/*"]);
    for bad in ["unix:", "unix:x", "unix:/a/../b", "host:0", "remote-forward:all"] {
        let text = format!("[[role]]\nname = 'a'\ngroups = ['g']\nowner = true\nallow = ['forward-to:{bad}']\n");
        let text = text.replace("forward-to:remote", "remote");
        assert!(Roles::parse(Path::new("p.toml"), &text).is_err(), "{bad}");
    }
}

#[test]
fn every_fault_has_its_line() {
    let text = r#"[[role]]
name = "a"
groups = []
workspaces = ["dev[", "x"]
allow = ["shell", "fly"]
longest = "400d"

[[role]]
name = "a"
groups = ["g"]
owner = true
allow = ["forward-to:host"]
colour = "red"
recording = { input = "yes" }

[[role]]
groups = "g"
allow = []
login = "Root"

[[role]]
name = "b"
workspaces = ["*"]
allow = []

[[role]]
name = "c"
emails = ["bob", "bob@x.org"]
email-domains = ["*.x.org"]
workspaces = ["*"]
allow = []
may = ["rule"]
"#;
    let Faults(faults) = Roles::parse(Path::new("p.toml"), text).unwrap_err();
    let lines: Vec<_> = faults.iter().filter_map(|fault| fault.line).collect();
    assert_eq!(
        lines,
        [3, 4, 5, 6, 12, 13, 14, 16, 16, 17, 19, 21, 28, 29, 32],
        "{faults:#?}"
    );
}

#[tokio::test]
async fn a_changed_file_is_taken_if_it_is_good() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    fs::write(&file, POLICY).unwrap();
    let tasks = Tasks::default();
    let policy = Policy::follow(file.clone(), Duration::from_millis(5), &tasks).unwrap();
    let person = Identity::for_test("bob", &["developers"]);
    let place = workspace("devenv-0", Some("bob"));
    let exchange = |text: &str| {
        let next = folder.path().join("next");
        fs::write(&next, text).unwrap();
        fs::rename(&next, &file).unwrap();
    };
    exchange("[[role]]\nname = 3\n");
    assert!(Policy::reload(&policy.roles, &file).is_err());
    assert!(
        policy
            .decide(&person, Some(&place), RecordStore::Works, &Heard::nothing())
            .is_ok()
    );
    exchange("# nobody any more\n");
    tokio::time::timeout(Duration::from_secs(10), async {
        while policy
            .decide(&person, Some(&place), RecordStore::Works, &Heard::nothing())
            .is_ok()
        {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    tasks
        .drain(Duration::ZERO, Duration::from_secs(1), tasks.stopping())
        .await;
}

#[test]
fn only_who_may_see_every_recording_may_audit() {
    let role = |workspaces: &str, more: &str| {
        format!("[[role]]\nname = \"a\"\ngroups = [\"g\"]\n{workspaces}\nallow = [\"shell\"]\n{more}\n")
    };
    let person = Identity::for_test("alice", &["g"]);
    for (workspaces, more, may) in [
        ("workspaces = [\"*\"]", "recordings = \"all\"", true),
        ("workspaces = [\"dev*\"]", "recordings = \"all\"", false),
        ("workspaces = [\"*\"]", "recordings = \"own\"", false),
        ("workspaces = [\"*\"]\nowner = true", "recordings = \"all\"", false),
    ] {
        let policy = policy(&role(workspaces, more));
        assert_eq!(policy.may_audit(&person), may, "{workspaces} {more}");
        assert!(!policy.may_audit(&Identity::for_test("bob", &["h"])));
    }
}
