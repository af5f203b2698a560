//! The directory: what is served under a name, and who is told of a change.

use super::*;
use crate::refusal::RefusalCode;

fn workspace(name: &str, uid: Option<&str>) -> Workspace {
    Workspace {
        name: WorkspaceName::try_from(name).unwrap(),
        login: Login::try_from("node").unwrap(),
        owner: Some("bob".to_owned()),
        place: None,
        state: State::Running,
        life: uid.map(|uid| Life {
            uid: WorkspaceUid::try_from(uid).unwrap(),
            address: "127.0.0.1:1".to_owned(),
            enrolment: Enrolment::None,
        }),
        notes: Notes::default(),
    }
}

fn found(directory: &Directory, name: &str) -> Workspace {
    let found = directory.find(&WorkspaceName::try_from(name).unwrap()).unwrap();
    Workspace::clone(&found)
}

fn is_held_back(directory: &Directory, name: &str) -> bool {
    let one = found(directory, name);
    let noted = directory.clashes().iter().any(|clash| clash.name == one.name);
    noted && one.life.is_none() && one.owner.is_none() && matches!(one.state, State::Failed(_))
}

#[test]
fn two_of_one_name_or_of_one_uid_are_both_held_back() {
    let directory = Directory::default();
    let told = [
        ("twice", "uid-1"),
        ("twice", "uid-2"),
        ("one", "uid-3"),
        ("other", "uid-3"),
        ("good", "uid-4"),
    ];
    let told = told.map(|(name, uid)| workspace(name, Some(uid))).to_vec();
    directory.replace(Source::Kubernetes, told);
    for name in ["twice", "one", "other"] {
        assert!(is_held_back(&directory, name), "{name}");
        let refusal = found(&directory, name).enter().unwrap_err();
        assert_eq!(refusal.code(), RefusalCode::AgentDown);
    }
    assert_eq!(found(&directory, "good"), workspace("good", Some("uid-4")));
    directory.replace(Source::Kubernetes, vec![workspace("twice", Some("uid-2"))]);
    assert_eq!(found(&directory, "twice"), workspace("twice", Some("uid-2")));
    assert!(directory.clashes().is_empty());
}

#[test]
fn the_cluster_takes_no_name_and_no_uid_from_the_configuration() {
    let directory = Directory::new([workspace("devenv-0", Some("uid-0"))]);
    let told = vec![workspace("devenv-0", Some("uid-9")), workspace("thief", Some("uid-0"))];
    directory.replace(Source::Kubernetes, told);
    assert_eq!(found(&directory, "devenv-0"), workspace("devenv-0", Some("uid-0")));
    assert!(is_held_back(&directory, "thief"));
    assert!(
        directory
            .clashes()
            .iter()
            .any(|clash| clash.name.as_str() == "devenv-0")
    );
}

#[test]
fn nobody_is_told_of_what_did_not_change() {
    let directory = Directory::new([workspace("devenv-0", Some("uid-0")), workspace("devenv-1", None)]);
    let mut changes = directory.changes();
    let name = WorkspaceName::try_from("devenv-0").unwrap();
    let before = directory.find(&name).unwrap();
    let mut told = vec![workspace("devenv-0", Some("uid-0")), workspace("devenv-1", None)];
    directory.replace(Source::Configuration, told.clone());
    assert!(!changes.has_changed().unwrap());
    told[1].state = State::Asleep;
    directory.replace(Source::Configuration, told);
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert!(std::sync::Arc::ptr_eq(&before, &directory.find(&name).unwrap()));
}

#[test]
fn only_what_lives_and_is_to_live_can_be_entered() {
    let why = || "why".to_owned();
    let cases = [
        (State::Running, true, None),
        (State::Starting(why()), true, None),
        (State::Starting(why()), false, Some(RefusalCode::Starting)),
        (State::Running, false, Some(RefusalCode::Starting)),
        (State::Stopping, true, Some(RefusalCode::Asleep)),
        (State::Asleep, false, Some(RefusalCode::Asleep)),
        (State::Failed(why()), true, Some(RefusalCode::AgentDown)),
    ];
    for (state, lives, refused) in cases {
        let workspace = Workspace {
            state: state.clone(),
            ..workspace("devenv-0", lives.then_some("uid-0"))
        };
        assert_eq!(
            workspace.enter().err().map(|refusal| refusal.code()),
            refused,
            "{state}"
        );
    }
}

#[test]
fn a_life_is_over_when_it_is_another_elsewhere_or_gone_and_not_when_it_only_stands_badly() {
    let began = workspace("devenv-0", Some("uid-0"));
    let with = |change: &dyn Fn(&mut Workspace)| {
        let mut now = began.clone();
        change(&mut now);
        began.over(Some(&now))
    };
    assert_eq!(began.over(None).as_deref(), Some("the workspace was removed"));
    let other = with(&|now| now.life.as_mut().unwrap().uid = WorkspaceUid::try_from("uid-1").unwrap());
    assert_eq!(
        other.as_deref(),
        Some("the workspace was replaced by another of its name")
    );
    let moved = with(&|now| now.life.as_mut().unwrap().address = "127.0.0.1:2".to_owned());
    assert_eq!(moved.as_deref(), Some("the workspace has moved"));
    assert_eq!(
        with(&|now| now.life = None).as_deref(),
        Some("the workspace was stopped")
    );
    assert_eq!(with(&|now| now.state = State::Stopping), None);
    assert_eq!(with(&|now| now.state = State::Failed("not heard of".to_owned())), None);
}

#[test]
fn text_of_others_becomes_one_harmless_line() {
    assert_eq!(line(" a\nb\x1b[31m\u{202e}c "), "a b\u{fffd}[31m\u{fffd}c");
    assert!(line(&"x".repeat(10_000)).len() < 400);
}
