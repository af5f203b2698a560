//! Workspaces that change under open sessions: another life, none, another owner; and what a person reads of one that sleeps.

use doorward_certs::{WorkspaceName, WorkspaceUid};
use serde_json::json;

use super::*;
use crate::workspace::{Source, State, Workspace};

fn change(bench: &Bench, change: impl Fn(&mut Workspace)) {
    let directory = &bench.running.gateway().workspaces;
    let mut all: Vec<_> = directory.list().iter().map(|one| Workspace::clone(one)).collect();
    for workspace in all.iter_mut().filter(|one| one.name.as_str() == "devenv-0") {
        change(workspace);
    }
    directory.replace(Source::Configuration, all);
}

fn replace(workspace: &mut Workspace) {
    workspace.life.as_mut().unwrap().uid = WorkspaceUid::try_from("uid-another").unwrap();
}

async fn open(bench: &Bench, agent: &mut FakeAgent) -> (Tunnel, MuxStream) {
    let tunnel = connect(bench).await;
    let (_, stream) = agent.session().await;
    (tunnel, stream)
}

#[tokio::test]
async fn a_session_ends_with_a_sentence_when_its_workspace_is_replaced_stopped_or_removed() {
    let gone = |workspace: &mut Workspace| workspace.name = WorkspaceName::try_from("devenv-9").unwrap();
    let stopped = |workspace: &mut Workspace| {
        workspace.life = None;
        workspace.state = State::Asleep;
    };
    type Change = fn(&mut Workspace);
    let cases: [(Change, &str); 3] = [
        (replace, "the workspace was replaced by another of its name"),
        (stopped, "the workspace was stopped"),
        (gone, "the workspace was removed"),
    ];
    for (how, sentence) in cases {
        let (bench, mut agent) = plain().await;
        let (tunnel, stream) = open(&bench, &mut agent).await;
        change(&bench, how);
        let end = end_of(tunnel).await;
        assert_eq!((end.exit, end.code.as_str()), (255, "workspace-over"));
        assert!(end.text.contains(sentence), "{}", end.text);
        drop(stream);
        let events = journal(stop(bench).await.path());
        let ended = events.iter().find_map(|event| match event {
            Event::SessionEnded(ended) => Some((ended.code.clone(), ended.reason.clone())),
            _ => None,
        });
        let (code, reason) = ended.expect("the end is on record");
        assert_eq!(code, "workspace-over");
        assert!(reason.contains(sentence), "{reason}");
        let opened = events.iter().find_map(|event| match event {
            Event::SessionOpened(opened) => Some(opened.workspace_uid.clone()),
            _ => None,
        });
        assert_eq!(
            opened.as_deref(),
            Some("uid-0"),
            "the record keeps the life that it was"
        );
    }
}

#[tokio::test]
async fn a_new_life_is_entered_only_as_itself() {
    let (bench, agent) = plain().await;
    change(&bench, replace);
    // The agent of the old life still answers at that address.
    assert_eq!(refused(&bench).await, (503, "agent-down".into()));
    assert_eq!(agent.sessions.len(), 0);
}

#[tokio::test]
async fn a_session_goes_on_while_its_life_does() {
    let (bench, mut agent) = plain().await;
    let (tunnel, stream) = open(&bench, &mut agent).await;
    let dials = agent.dials();
    for state in [
        State::Stopping,
        State::Failed("the cluster was not heard of".into()),
        State::Running,
    ] {
        change(&bench, |workspace| workspace.state = state.clone());
    }
    change(&bench, |workspace| workspace.owner = Some("carol".into()));
    // The last change is decided after the others: it shows that they are over.
    change(&bench, replace);
    let end = end_of(tunnel).await;
    assert!(end.text.contains("replaced"), "{}", end.text);
    assert_eq!(agent.dials(), dials, "no link was made anew before");
    drop(stream);
}

#[tokio::test]
async fn an_owner_that_changes_ends_what_was_only_the_owners() {
    let policy = "[[role]]\nname = \"own\"\ngroups = [\"owners\"]\nworkspaces = [\"devenv-*\"]\nowner = true\n\
                  allow = [\"shell\"]\n";
    let (bench, mut agent) = with_agent(Manner::default(), policy, "").await;
    let mut request = "wss://localhost/v1/connect/devenv-0".into_client_request().unwrap();
    let token = bench.token(|claims| claims["groups"] = json!(["owners"]));
    let bearer = format!("Bearer {token}");
    request.headers_mut().insert("Authorization", bearer.parse().unwrap());
    let tls = bench.tls().await;
    let opened = tokio_tungstenite::client_async_with_config(request, tls, Some(tunnel::config()));
    let (socket, _) = tokio::time::timeout(SOON, opened).await.unwrap().unwrap();
    let (_, stream) = agent.session().await;
    change(&bench, |workspace| workspace.owner = Some("carol".into()));
    let end = end_of(TunnelStream::new(socket)).await;
    assert_eq!(end.code, "revoked");
    drop(stream);
}

#[tokio::test]
async fn that_a_workspace_sleeps_is_told_to_those_alone_who_may_enter() {
    let (bench, _agent) = plain().await;
    let cases = [
        (State::Asleep, "asleep", None),
        (State::Stopping, "asleep", None),
        (
            State::Starting("pulling the image".into()),
            "starting",
            Some("pulling the image"),
        ),
    ];
    for (state, code, said) in cases {
        change(&bench, |workspace| {
            workspace.life = None;
            workspace.state = state.clone();
        });
        let ask = async |token: &str, name: &str| {
            let lines = format!("Authorization: Bearer {token}\r\n{UPGRADE}");
            bench.get(&format!("/v1/connect/{name}"), &lines).await
        };
        let reply = ask(&bench.token(|_| {}), "devenv-0").await;
        assert_eq!((reply.status(), &reply.json()["code"]), (409, &json!(code)));
        let stranger = bench.token(|claims| claims["groups"] = json!([]));
        let (closed, missing) = (ask(&stranger, "devenv-0").await, ask(&stranger, "devenv-7").await);
        assert_eq!(closed.status(), 403);
        assert_eq!(closed.json()["detail"], missing.json()["detail"]);
        let listed = bench.get_as(&bench.token(|_| {}), "/v1/workspaces").await.json();
        assert_eq!(listed["workspaces"][0]["state"], state.as_str());
        assert_eq!(listed["workspaces"][0]["reason"].as_str(), said);
    }
}

#[tokio::test]
async fn an_agent_that_nobody_hears_yet_is_waited_for_in_a_pod_and_refused_elsewhere() {
    let (bench, agent) = plain().await;
    agent.kill().await;
    let lines = format!("Authorization: Bearer {}\r\n{UPGRADE}", bench.token(|_| {}));
    for (pod, status, code) in [(false, 503, "agent-down"), (true, 409, "starting")] {
        change(&bench, |workspace| {
            workspace.place = pod.then(crate::workspace::Place::default);
        });
        let reply = bench.get("/v1/connect/devenv-0", &lines).await;
        assert_eq!(
            (reply.status(), &reply.json()["code"]),
            (status, &json!(code)),
            "{}",
            reply.text
        );
    }
}
