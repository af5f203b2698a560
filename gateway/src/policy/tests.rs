//! The decision as a golden matrix, and the faults of policy files.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

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
        uid: WorkspaceUid::try_from(name).unwrap(),
        address: "localhost:1".to_owned(),
        login: Login::try_from("node").unwrap(),
        owner: owner.map(str::to_owned),
        join_token_file: None,
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
        (own.remote_forward, "remote-forward"),
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
    let people: &[(&str, &[&str])] = &[
        ("alice", &["admins"]),
        ("bob", &["developers"]),
        ("carol", &["readonly"]),
        ("dora", &["developers", "readonly"]),
        ("emil", &["developers", "operators"]),
        ("fred", &["operators", "admins"]),
        ("gina", &["auditors"]),
        ("mallory", &[]),
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
        ),
    ];
    let places = [
        workspace("devenv-0", Some("bob")),
        workspace("devenv-1", Some("dora")),
        workspace("build", None),
        workspace("prod-db", None),
    ];
    let mut matrix = String::new();
    for (user, groups) in people {
        writeln!(matrix, "{user} {groups:?}").unwrap();
        let person = Identity::for_test(user, groups);
        for place in &places {
            let decision = match policy.decide(&person, Some(place)) {
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
            writeln!(matrix, "            recordings of {recordings:?}").unwrap();
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
        let missing = policy.decide(&person, None).unwrap_err();
        assert_eq!(missing.code(), RefusalCode::Denied);
        if let Err(forbidden) = policy.decide(&person, Some(&workspace("prod-db", None))) {
            assert_eq!(
                (missing.text(), missing.hint(), missing.retry_after()),
                (forbidden.text(), forbidden.hint(), forbidden.retry_after())
            );
        }
    }
}

#[test]
fn no_roles_means_nobody() {
    let person = Identity::for_test("alice", &["admins"]);
    assert!(policy("").decide(&person, Some(&workspace("devenv-0", None))).is_err());
    assert!(!policy("").may_view(&person, "alice", "devenv-0", None));
}

#[test]
fn a_grant_can_be_written_into_a_certificate() {
    let policy = policy(POLICY);
    let grant = policy
        .decide(
            &Identity::for_test("alice", &["admins"]),
            Some(&workspace("devenv-0", None)),
        )
        .unwrap();
    let extensions = grant.terms().extensions().unwrap();
    assert_eq!(
        &Terms::from_extensions(grant.terms().login.clone(), &extensions).unwrap(),
        grant.terms()
    );
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
"#;
    let Faults(faults) = Roles::parse(Path::new("p.toml"), text).unwrap_err();
    let lines: Vec<_> = faults.iter().filter_map(|fault| fault.line).collect();
    assert_eq!(lines, [3, 4, 5, 6, 12, 13, 14, 16, 16, 17, 19], "{faults:#?}");
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
    assert!(policy.decide(&person, Some(&place)).is_ok());
    exchange("# nobody any more\n");
    tokio::time::timeout(Duration::from_secs(10), async {
        while policy.decide(&person, Some(&place)).is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    tasks
        .drain(Duration::ZERO, Duration::from_secs(1), tasks.stopping())
        .await;
}
