//! Waking: for whom, how often, by which call, and what is heard of it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::AsyncBufReadExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::outbound::client;
use crate::wake::{Act, Address, Call, Credential, Json, Scope, Way};
use crate::workspace::{Life, Place, Source, State, Workspace};

const PATH: &str = "/v1/workspaces/devenv-0/wake";

/// A platform that answers each call so, with the requests that it had.
struct Platform {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Platform {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (log, mut serving) = (asked.clone(), JoinSet::new());
        serving.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let mut tcp = tokio::io::BufReader::new(tcp);
                let mut request = String::new();
                while !request.ends_with("\r\n\r\n") {
                    if tcp.read_line(&mut request).await.unwrap() == 0 {
                        break;
                    }
                }
                let length = request.lines().find_map(|line| line.strip_prefix("content-length: "));
                let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                tcp.read_exact(&mut body).await.unwrap();
                request += &String::from_utf8(body).unwrap();
                log.lock().unwrap().push(request);
                tcp.write_all(answer.as_bytes()).await.unwrap();
                tcp.shutdown().await.unwrap();
            }
        });
        Self {
            address,
            asked,
            _serving: serving,
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// The call to it.
    fn call(&self) -> Call {
        let url = Address::parse(
            &format!("http://{}/start/{{workspace}}?by={{user}}", self.address),
            Scope::Wake,
        )
        .unwrap();
        Call {
            client: client(url.origin(), None).unwrap(),
            url,
            method: http::Method::POST,
            body: Some(Json::new(json!({"id": "{label:user}"}), Scope::Wake).unwrap()),
            credential: Credential::User,
            expect: Vec::new(),
        }
    }
}

const OK: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

fn change(bench: &Bench, change: impl Fn(&mut Workspace)) {
    let directory = &bench.running.gateway().workspaces;
    let mut all: Vec<_> = directory.list().iter().map(|one| Workspace::clone(one)).collect();
    for workspace in all.iter_mut().filter(|one| one.name.as_str() == "devenv-0") {
        change(workspace);
    }
    directory.replace(Source::Configuration, all);
}

/// Puts the workspace to sleep, to be woken by this act; the life that it had.
fn sleeps(bench: &Bench, act: Act) -> Life {
    let gateway = bench.running.gateway();
    let name = doorward_certs::WorkspaceName::try_from("devenv-0").unwrap();
    let life = gateway.workspaces.find(&name).unwrap().life.clone().unwrap();
    let within = Duration::from_secs(60);
    gateway.wakes.teach("devenv", Way { act, within });
    change(bench, |workspace| {
        workspace.life = None;
        workspace.state = State::Asleep;
        workspace.place = Some(Place {
            namespace: "devenv".to_owned(),
            rule: "devenv".to_owned(),
            labels: BTreeMap::from([("user".to_owned(), "b\"o{b}".to_owned())]),
            ..Place::default()
        });
    });
    life
}

/// Asks as whoever the claims say, and reads to the end.
async fn wake(bench: &Bench, claims: impl FnOnce(&mut Value)) -> testing::Reply {
    bench.send_as("POST", &bench.token(claims), PATH, "").await
}

/// The lines of an answer in chunks.
fn lines(reply: &testing::Reply) -> Vec<Value> {
    let lines = reply.body().lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn many_ask_the_platform_is_asked_once_and_all_get_in() {
    let (bench, _agent) = plain().await;
    let platform = Platform::start(OK).await;
    let life = sleeps(&bench, Act::Call(Box::new(platform.call())));
    let (bench, mut waiting) = (Arc::new(bench), JoinSet::new());
    for _ in 0..200 {
        let bench = Arc::clone(&bench);
        waiting.spawn(async move { wake(&bench, |_| {}).await });
    }
    eventually(|| !platform.asked().is_empty()).await;
    let starting = "pulling\u{1b}[2J the image";
    change(&bench, |workspace| {
        workspace.state = State::Starting(starting.to_owned())
    });
    change(&bench, |workspace| {
        workspace.state = State::Running;
        workspace.life = Some(life.clone());
    });
    while let Some(reply) = waiting.join_next().await {
        let reply = reply.unwrap();
        assert_eq!(reply.status(), 200, "{}", reply.text);
        assert!(!reply.text.contains('\u{1b}'));
        assert_eq!(lines(&reply).last().unwrap()["state"], "running");
    }
    assert_eq!(platform.asked().len(), 1);
    let asked = platform.asked().remove(0);
    assert!(asked.starts_with("POST /start/devenv-0?by=bob HTTP/1.1\r\n"), "{asked}");
    assert!(asked.ends_with("\r\n\r\n{\"id\":\"b\\\"o{b}\"}"), "{asked}");
    assert!(
        asked.contains("authorization: Bearer e"),
        "the person's own token is shown"
    );
    // Who comes now finds it running, and nothing is done.
    assert_eq!(lines(&wake(&bench, |_| {}).await).last().unwrap()["state"], "running");
    assert_eq!(platform.asked().len(), 1);
    let folder = stop(Arc::into_inner(bench).unwrap()).await;
    let woken = journal(folder.path()).into_iter().filter_map(|event| match event {
        Event::WorkspaceWoken(woken) => Some((woken.user, woken.workspace, woken.how)),
        _ => None,
    });
    let once = ("bob".to_owned(), "devenv-0".to_owned(), "http".to_owned());
    assert_eq!(woken.collect::<Vec<_>>(), [once]);
}

#[tokio::test]
async fn who_may_not_enter_is_refused_as_ever_and_wakes_nothing() {
    let (bench, _agent) = plain().await;
    let platform = Platform::start(OK).await;
    sleeps(&bench, Act::Call(Box::new(platform.call())));
    let stranger = |claims: &mut Value| {
        claims["preferred_username"] = json!("carol");
        claims["groups"] = json!([]);
    };
    let closed = wake(&bench, stranger).await;
    let token = bench.token(stranger);
    let missing = bench.send_as("POST", &token, "/v1/workspaces/devenv-77/wake", "").await;
    let connect = bench
        .get(
            "/v1/connect/devenv-0",
            &format!("Authorization: Bearer {token}\r\n{UPGRADE}"),
        )
        .await;
    for refused in [&closed, &missing, &connect] {
        assert_eq!((refused.status(), &refused.json()["code"]), (403, &json!("denied")));
        assert_eq!(refused.json()["detail"], closed.json()["detail"]);
    }
    for (name, status) in [("..", 400), ("a%2Fb", 400), ("DEVENV-0", 400)] {
        let path = format!("/v1/workspaces/{name}/wake");
        assert_eq!(
            bench.send_as("POST", &bench.token(|_| {}), &path, "").await.status(),
            status,
            "{name}"
        );
    }
    assert_eq!(bench.send("POST", PATH, "", "").await.status(), 401);
    assert_eq!(bench.get_as(&bench.token(|_| {}), PATH).await.status(), 405);
    // Nor does anybody who is locked.
    let locks = &bench.running.gateway().locks;
    let lock = crate::locks::Lock::now(crate::locks::LockKind::User, "bob", "carol", "x");
    locks.add(lock).await.unwrap();
    let locked = wake(&bench, |_| {}).await;
    assert_eq!((locked.status(), &locked.json()["code"]), (403, &json!("locked")));
    assert_eq!(platform.asked(), Vec::<String>::new());
    let denied = journal(stop(bench).await.path())
        .into_iter()
        .filter_map(|event| match event {
            Event::Denied(denied) => Some((denied.user.unwrap_or_default(), denied.workspace, denied.code)),
            _ => None,
        });
    let denied: Vec<_> = denied.collect();
    assert!(
        denied.contains(&("carol".into(), "devenv-0".into(), "denied".into())),
        "{denied:?}"
    );
    assert!(
        denied.contains(&("bob".into(), "devenv-0".into(), "locked".into())),
        "{denied:?}"
    );
}

#[tokio::test]
async fn what_the_platform_answers_decides_and_a_failure_is_told_with_its_reason() {
    let graphql =
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"errors\":[{\"message\":\"no quota\\u001b[2J left\"}]}";
    let elsewhere = "HTTP/1.1 307 T\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let cases = [
        (graphql, "no quota\u{fffd}[2J left"),
        (elsewhere, "answered 307"),
        ("HTTP/1.1 403 F\r\nConnection: close\r\n\r\nsecret", "did not allow"),
        ("HTTP/1.1 429 T\r\nConnection: close\r\n\r\n", "no room"),
        (
            "HTTP/1.1 201 C\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "answered 201",
        ),
        ("garbage\r\n\r\n", "does not answer"),
    ];
    let (bench, _agent) = plain().await;
    for (answer, said) in cases {
        let platform = Platform::start(answer).await;
        let mut call = platform.call();
        call.expect = vec![StatusCode::OK];
        if sleeping(&bench) {
            let within = Duration::from_secs(60);
            let act = Act::Call(Box::new(call));
            bench.running.gateway().wakes.teach("devenv", Way { act, within });
        } else {
            sleeps(&bench, Act::Call(Box::new(call)));
        }
        let reply = wake(&bench, |_| {}).await;
        let last = lines(&reply).pop().unwrap();
        assert_eq!(
            (&last["state"], &last["code"]),
            (&json!("failed"), &json!("wake-failed")),
            "{last}"
        );
        let text = last["detail"].as_str().unwrap();
        assert!(text.contains(said) && !text.contains("secret"), "{text}");
        assert_eq!(platform.asked().len(), 1, "{answer}");
    }
}

fn sleeping(bench: &Bench) -> bool {
    let name = doorward_certs::WorkspaceName::try_from("devenv-0").unwrap();
    bench.running.gateway().workspaces.find(&name).unwrap().state == State::Asleep
}

#[tokio::test]
async fn a_wake_ends_at_its_deadline_and_goes_on_without_who_asked() {
    let (bench, _agent) = plain().await;
    let platform = Platform::start(OK).await;
    let life = sleeps(&bench, Act::Call(Box::new(platform.call())));
    // Somebody asks, hears the first line and leaves.
    let mut gone = bench.tls().await;
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        bench.token(|_| {})
    );
    gone.write_all(request.as_bytes()).await.unwrap();
    gone.flush().await.unwrap();
    assert_ne!(gone.read(&mut [0; 16]).await.unwrap(), 0);
    drop(gone);
    eventually(|| !platform.asked().is_empty()).await;
    change(&bench, |workspace| {
        workspace.state = State::Running;
        workspace.life = Some(life.clone());
    });
    assert_eq!(lines(&wake(&bench, |_| {}).await).last().unwrap()["state"], "running");
    assert_eq!(
        platform.asked().len(),
        1,
        "the wake that nobody waited for is the one that was joined"
    );
    // The next one never comes up.
    sleeps(&bench, Act::Call(Box::new(platform.call())));
    let (act, within) = (Act::Call(Box::new(platform.call())), Duration::from_millis(300));
    bench.running.gateway().wakes.teach("devenv", Way { act, within });
    let last = lines(&wake(&bench, |_| {}).await).pop().unwrap();
    assert!(
        last["detail"].as_str().unwrap().contains("did not start within 300ms"),
        "{last}"
    );
}

#[tokio::test]
async fn what_nothing_can_wake_is_said_so() {
    let (bench, _agent) = plain().await;
    let platform = Platform::start(OK).await;
    sleeps(&bench, Act::Call(Box::new(platform.call())));
    change(&bench, |workspace| {
        workspace.place.as_mut().unwrap().rule = "another".to_owned()
    });
    let last = lines(&wake(&bench, |_| {}).await).pop().unwrap();
    assert_eq!((&last["state"], &last["code"]), (&json!("failed"), &json!("asleep")));
    // A cluster that there is not.
    sleeps_again(&bench);
    let last = lines(&wake(&bench, |_| {}).await).pop().unwrap();
    assert_eq!(last["code"], "wake-failed");
    assert_eq!(platform.asked(), Vec::<String>::new());
}

fn sleeps_again(bench: &Bench) {
    let within = Duration::from_secs(60);
    bench.running.gateway().wakes.teach(
        "another",
        Way {
            act: Act::Scale,
            within,
        },
    );
}
