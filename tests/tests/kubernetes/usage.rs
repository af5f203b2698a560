//! When a pod was used last, as the API server has it: after somebody typed, and not after a mere connection or an idle editor's
//! heartbeats; at a bounded rate; and no session waits for it.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use doorward_dev::kube::{Set, allow_gateway, gateway_section};
use doorward_dev::parts::Cluster;
use doorward_dev::parts::kube::{Identity, TokenRequest};
use doorward_dev::stack::{ClientFolder, Options, Stack};
use serde_json::{Value, json};
use tests::parts::{Had, fresh, name_of, shared_cluster};
use tests::{PATIENCE, feed, until};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::PLACE;
use super::pods::{is_ready, kubelet};
use super::told::Told;

const NAMESPACE: &str = "used";
/// The policy of the stack lets developers into what begins with `devenv-`.
const SET: &str = "devenv-u";
const WORKSPACE: &str = "devenv-u-0";
const LAST_USE: &str = "doorward.dev/last-use";
/// How often the gateway may publish, in seconds.
const EVERY: u64 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn the_pod_says_when_somebody_used_it_and_not_that_an_editor_is_left_open() -> Result<()> {
    let Had::Here(cluster) = shared_cluster(PLACE, name_of(&|| ())).await? else {
        return Ok(());
    };
    let kubelet = kubelet(cluster, NAMESPACE).await?;
    let admin = cluster.admin();
    let options = Options {
        dir: fresh(PLACE, "used-stack")?,
        program: Some(PLACE.program.into()),
        login: Some("bob".to_owned()),
        ..Options::default()
    };
    let mut stack = Stack::start(options).await?;
    let told = Told::start().await?;
    follow(cluster, &mut stack, &told).await?;
    let scale = format!("/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{SET}/scale");
    admin.merge(&scale, &json!({"spec": {"replicas": 1}})).await?;
    let pod = format!("/api/v1/namespaces/{NAMESPACE}/pods/{WORKSPACE}");
    admin.await_state(&pod, is_ready).await?;
    let bob = stack.client();
    until("the workspace can be entered", async || {
        Ok(listed(bob).await?.filter(|one| one["state"] == "running"))
    })
    .await?;
    bob.run(&["config", "--write", "--no-include"]).await?;

    // Connected, and an editor's heartbeats on a forwarded connection.
    let (editor, port) = editor().await?;
    let mut connected = heartbeats(bob, port).await?;
    ensure!(
        noted(&admin.read(&pod).await?).is_none(),
        "heartbeats were taken for use"
    );
    ensure!(listed(bob).await?.is_some_and(|one| one.get("last-use").is_none()));
    connected.kill().await?;
    editor.abort();

    // Typed into, again and again.
    let mut typing = terminal(bob).await?;
    let mut stdin = typing.stdin.take().context("no stdin")?;
    let first = admin.await_state(&pod, |object| noted(object).is_some()).await?;
    let first = noted(&first).context("no time")?;
    let later = async {
        loop {
            stdin.write_all(b"x\n").await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            if let Some(at) = noted(&admin.read(&pod).await?).filter(|at| *at > first) {
                return Ok::<_, anyhow::Error>(at);
            }
        }
    };
    let later = timeout(PATIENCE, later)
        .await
        .context("it is published once and no more")??;
    ensure!(later > first && later.ends_with('Z'), "{first} {later}");
    let one = until("the use in the list", async || {
        Ok(listed(bob).await?.filter(|one| one["last-use"].is_string()))
    })
    .await?;
    ensure!(one["agent-version"] == env!("CARGO_PKG_VERSION"), "{one}");
    drop(stdin);
    typing.kill().await?;
    rate(cluster)?;
    // What the pod belongs to says the same, and the platform heard each of them, in order.
    let set = format!("/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{SET}");
    let of_set = admin
        .await_state(&set, |object| noted(object).is_some_and(|at| at >= later))
        .await?;
    let of_set = noted(&of_set).context("no time")?;
    let calls = until("the platform hears of it", async || {
        let calls = told.calls();
        let last = calls
            .last()
            .and_then(|call| call.body["at"].as_str())
            .unwrap_or_default();
        Ok((last >= of_set.as_str()).then_some(calls.clone()))
    })
    .await?;
    let times: Vec<_> = calls.iter().filter_map(|call| call.body["at"].as_str()).collect();
    ensure!(times.len() == calls.len() && times.is_sorted(), "{calls:?}");
    ensure!(
        calls
            .iter()
            .all(|call| call.what == format!("POST /used/{WORKSPACE}") && call.body["ordinal"] == "0"),
        "{calls:?}"
    );
    stack.stop().await;
    kubelet.stop().await;
    Ok(())
}

/// How often the gateway patched the pod, as the API server has it: never twice within the interval.
fn rate(cluster: &Cluster) -> Result<()> {
    let mut times: Vec<f64> = Vec::new();
    for entry in cluster.audit()? {
        let of_gateway = entry["user"]["username"] == format!("system:serviceaccount:{NAMESPACE}:gateway");
        if of_gateway && entry["verb"] == "patch" && entry["stage"] == "ResponseComplete" {
            if entry["objectRef"]["resource"] != "pods" {
                ensure!(entry["objectRef"]["resource"] == "statefulsets", "{entry}");
                continue;
            }
            let at = entry["requestReceivedTimestamp"].as_str().context("no time")?;
            times.push(seconds(at)?);
        }
    }
    ensure!(times.len() >= 2, "{} patches", times.len());
    for pair in times.windows(2) {
        // The interval begins when the one before was answered, so that it is never shorter where requests arrive.
        ensure!(pair[1] - pair[0] >= EVERY as f64 - 0.5, "{times:?}");
    }
    Ok(())
}

/// Seconds within the day of a time in RFC 3339; tests do not run over midnight on purpose.
fn seconds(at: &str) -> Result<f64> {
    let time = at.split_once('T').context("no time")?.1.trim_end_matches('Z');
    let mut parts = time.split(':');
    let mut next = || {
        parts
            .next()
            .context("no time")
            .and_then(|part| Ok(part.parse::<f64>()?))
    };
    Ok(next()? * 3600.0 + next()? * 60.0 + next()?)
}

fn noted(pod: &Value) -> Option<String> {
    pod["metadata"]["annotations"][LAST_USE].as_str().map(str::to_owned)
}

async fn listed(client: &ClientFolder) -> Result<Option<Value>> {
    let listed = feed(client.command(["ls", "--json"]), b"").await?;
    let all: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap_or_default();
    Ok(all.into_iter().find(|one| one["name"] == WORKSPACE))
}

fn ssh(client: &ClientFolder) -> Command {
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(client.ssh_config()).kill_on_drop(true);
    ssh
}

/// An editor's server: it answers each heartbeat with another.
async fn editor() -> Result<(tokio::task::AbortHandle, u16)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let mut tasks = tokio::task::JoinSet::new();
    let handle = tasks.spawn(async move {
        let mut buffer = [0; 256];
        while let Ok((mut stream, _)) = listener.accept().await {
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..count]).await.is_err() {
                    break;
                }
            }
        }
    });
    tasks.detach_all();
    Ok((handle, port))
}

/// Sends what an idle editor sends in some minutes through `ssh -W`, and leaves the connection open.
async fn heartbeats(client: &ClientFolder, port: u16) -> Result<Child> {
    let mut child = ssh(client)
        .args(["-W", &format!("127.0.0.1:{port}"), WORKSPACE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdin = child.stdin.as_mut().context("no stdin")?;
    let stdout = child.stdout.as_mut().context("no stdout")?;
    let mut buffer = [0; 19];
    for _ in 0..60 {
        stdin.write_all(b"0123456789abcdefghi").await?;
        timeout(PATIENCE, stdout.read_exact(&mut buffer)).await??;
    }
    Ok(child)
}

/// A terminal that somebody types into.
async fn terminal(client: &ClientFolder) -> Result<Child> {
    let mut child = ssh(client)
        .args(["-tt", WORKSPACE, "echo here; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.as_mut().context("no stdout")?;
    timeout(PATIENCE, BufReader::new(stdout).read_line(&mut line)).await??;
    ensure!(line.trim() == "here", "{line:?}");
    Ok(child)
}

/// Makes the set, and has the gateway follow it and publish its use, with the rights that the document says.
async fn follow(cluster: &Cluster, stack: &mut Stack, told: &Told) -> Result<()> {
    let folder = stack.state_dir().parent().context("no folder")?.to_owned();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).with_context(|| name.to_owned());
    let login = stack.account().to_owned();
    let set = Set {
        namespace: NAMESPACE,
        name: SET,
        annotations: &json!({}),
        user_ca: &read("user-ca.pub")?,
        host_ca: &read("host-ca.pub")?,
        login: Some(&login),
    };
    let admin = cluster.admin();
    set.apply(admin).await?;
    allow_gateway(admin, NAMESPACE).await?;
    let meta = json!({"name": "usage", "namespace": NAMESPACE});
    let rbac = "rbac.authorization.k8s.io";
    for object in [
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": meta,
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "patch"]},
                {"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["get", "patch"]}]}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": meta,
            "subjects": [{"kind": "ServiceAccount", "name": "gateway", "namespace": NAMESPACE}],
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "usage"}}),
    ] {
        admin.apply(&object).await?;
    }
    let wanted = TokenRequest {
        namespace: NAMESPACE,
        account: "gateway",
        audience: None,
        pod: None,
        seconds: 3600,
    };
    let file = folder.join("kubeconfig");
    cluster.write_kubeconfig(&file, &Identity::Token(cluster.token(wanted).await?))?;
    let mut section = gateway_section(&set, &file, 1);
    let rule = section["workspaces"][0]["name"].clone();
    // The label is one that the rule itself does not look at.
    let hook = toml::Table::from_iter([
        (
            "url".to_owned(),
            format!("http://{}/used/{{workspace}}", told.address).into(),
        ),
        (
            "body".to_owned(),
            toml::Value::try_from(json!({"at": "{last-use}", "ordinal": "{label:apps.kubernetes.io/pod-index}"}))?,
        ),
    ]);
    let usage = toml::Table::from_iter([
        ("rule".to_owned(), rule),
        ("every".to_owned(), format!("{EVERY}s").into()),
        ("owner".to_owned(), true.into()),
        ("hook".to_owned(), toml::Value::Table(hook)),
    ]);
    section.insert("usage".to_owned(), vec![toml::Value::Table(usage)].into());
    let change = |config: &mut toml::Table| drop(config.insert("kubernetes".to_owned(), section.into()));
    Ok(stack.restart_gateway_with(change).await?)
}
