//! The whole way: a person's ssh into a pod that was asleep, found, woken, enrolled and entered by nothing but its cluster.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use doorward_audit::Event;
use doorward_dev::kube::{START_AFTER, Set, allow_gateway, gateway_section};
use doorward_dev::parts::Cluster;
use doorward_dev::parts::kube::{Api, Identity, TokenRequest};
use doorward_dev::stack::{ClientFolder, Options, Stack};
use serde_json::{Value, json};
use tests::journal::journal;
use tests::parts::{Had, fresh, name_of, shared_cluster};
use tests::{PATIENCE, feed, until};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use super::PLACE;
use super::pods::{is_ready, kubelet};

const NAMESPACE: &str = "whole";
/// The set; the policy of the stack lets developers into what begins with `devenv-`.
const SET: &str = "devenv-k";
const WORKSPACE: &str = "devenv-k-0";

#[tokio::test(flavor = "multi_thread")]
async fn ssh_wakes_a_pod_enters_it_and_meets_another_after_it_was_made_anew() -> Result<()> {
    let Had::Here(cluster) = shared_cluster(PLACE, name_of(&|| ())).await? else {
        return Ok(());
    };
    let kubelet = kubelet(cluster, NAMESPACE).await?;
    let mut stack = stack().await?;
    let admin = cluster.admin();
    follow(cluster, &mut stack).await?;
    let carol = stack.login("carol", &fresh(PLACE, "whole-carol")?).await?;
    let bob = stack.client();
    known(bob).await?;

    // Who may not enter wakes nothing.
    let refused = feed(ssh(&carol, &[], "true"), b"").await?;
    ensure!(
        refused.code == Some(255)
            && refused
                .said()
                .contains("there is no such workspace, or you may not enter it"),
        "{}",
        refused.said()
    );
    let replicas = format!("/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{SET}");
    ensure!(admin.read(&replicas).await?["spec"]["replicas"] == 0, "carol woke it");

    // Asleep, and longer in starting than ssh waits for a server.
    let woken = feed(ssh(bob, &["-o", "ConnectTimeout=15"], "echo in $HOSTNAME"), b"").await?;
    let logs = || format!("{}\n{}", kubelet.log(WORKSPACE), stack.log_tail("gateway"));
    ensure!(
        woken.code == Some(0) && woken.stdout.starts_with(b"in"),
        "{}\n{}",
        woken.said(),
        logs()
    );
    ensure!(woken.said().contains("start"), "no progress: {}", woken.said());
    ensure!(scaled(cluster)? == 1, "scaled {} times", scaled(cluster)?);

    // Deleted and made anew: the open session ends with a sentence, and what comes is another workspace.
    let pod = format!("/api/v1/namespaces/{NAMESPACE}/pods/{WORKSPACE}");
    let first = admin.read(&pod).await?["metadata"]["uid"].clone();
    let (code, said) = cut(bob, admin, &pod).await?;
    ensure!(code == Some(255), "{code:?}: {said}");
    ensure!(
        said.contains("doorward: ") && said.contains("the workspace"),
        "no sentence: {said}"
    );
    let another = |object: &Value| is_ready(object) && object["metadata"]["uid"] != first;
    let second = admin.await_state(&pod, another).await?["metadata"]["uid"].clone();
    let again = feed(ssh(bob, &[], "echo again"), b"").await?;
    ensure!(again.stdout == b"again\n", "{}\n{}", again.said(), logs());
    until("both lives on record", async || {
        let lives: Vec<String> = journal(&stack.state_dir())?
            .into_iter()
            .filter_map(|event| match event {
                Event::SessionOpened(opened) if opened.workspace == WORKSPACE => Some(opened.workspace_uid),
                _ => None,
            })
            .collect();
        let both = [&first, &second].map(Value::as_str);
        Ok(both
            .iter()
            .all(|uid| lives.iter().any(|life| Some(life.as_str()) == *uid))
            .then_some(()))
    })
    .await?;
    stack.stop().await;
    kubelet.stop().await;
    Ok(())
}

async fn stack() -> Result<Stack> {
    let options = Options {
        dir: fresh(PLACE, "whole-stack")?,
        program: Some(PLACE.program.into()),
        login: Some("bob".to_owned()),
        ..Options::default()
    };
    Ok(Stack::start(options).await?)
}

/// Makes the set, whose agents trust the stack's CAs, and has the gateway follow it with what the document says and no more.
async fn follow(cluster: &Cluster, stack: &mut Stack) -> Result<()> {
    let folder = stack.state_dir().parent().context("no folder")?.to_owned();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).with_context(|| name.to_owned());
    let login = stack.account().to_owned();
    let set = Set {
        namespace: NAMESPACE,
        name: SET,
        annotations: &json!({START_AFTER: "20"}),
        user_ca: &read("user-ca.pub")?,
        host_ca: &read("host-ca.pub")?,
        login: Some(&login),
    };
    set.apply(cluster.admin()).await?;
    allow_gateway(cluster.admin(), NAMESPACE).await?;
    let wanted = TokenRequest {
        namespace: NAMESPACE,
        account: "gateway",
        audience: None,
        pod: None,
        seconds: 3600,
    };
    let file = folder.join("kubeconfig");
    cluster.write_kubeconfig(&file, &Identity::Token(cluster.token(wanted).await?))?;
    let section = gateway_section(&set, &file, 1);
    let change = |config: &mut toml::Table| drop(config.insert("kubernetes".to_owned(), section.into()));
    Ok(stack.restart_gateway_with(change).await?)
}

/// Waits until the person's list has the workspace, and has it written into their configuration of ssh.
async fn known(client: &ClientFolder) -> Result<()> {
    until("the workspace in the list", async || {
        let listed = feed(client.command(["ls", "--json"]), b"").await?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        Ok(listed.contains(WORKSPACE).then_some(()))
    })
    .await?;
    client.run(&["config", "--write", "--no-include"]).await?;
    Ok(())
}

fn ssh(client: &ClientFolder, options: &[&str], command: &str) -> Command {
    let mut ssh = Command::new("ssh");
    ssh.arg("-F")
        .arg(client.ssh_config())
        .args(options)
        // Under the wildcard, for whoever has no block of their own for it.
        .args([&format!("{WORKSPACE}.doorward"), command]);
    ssh.kill_on_drop(true);
    ssh
}

/// Opens a session, deletes its pod, and waits for the end: exit code and what was said.
async fn cut(client: &ClientFolder, admin: &Api, pod: &str) -> Result<(Option<i32>, String)> {
    let mut child = ssh(client, &[], "echo here; exec sleep 86400")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("no stdout")?;
    timeout(PATIENCE, BufReader::new(stdout).read_line(&mut line)).await??;
    ensure!(line == "here\n", "{line:?}");
    admin.delete(pod).await?;
    let mut said = String::new();
    let mut stderr = child.stderr.take().context("no stderr")?;
    timeout(PATIENCE, stderr.read_to_string(&mut said))
        .await
        .context("the session goes on")??;
    let status = timeout(PATIENCE, child.wait()).await??;
    Ok((status.code(), said))
}

/// How often the set was scaled by the gateway, as the API server has it.
fn scaled(cluster: &Cluster) -> Result<usize> {
    let by_gateway = |entry: &Value| {
        entry["user"]["username"] == format!("system:serviceaccount:{NAMESPACE}:gateway")
            && entry["objectRef"]["subresource"] == "scale"
            && entry["verb"] == "patch"
            && entry["stage"] == "ResponseComplete"
    };
    Ok(cluster.audit()?.iter().filter(|entry| by_gateway(entry)).count())
}
