//! From a pod that is ready to what its person sees: what waking costs beyond the platform's own time, beside a direct connection.

use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use doorward_dev::kube::{Kubelet, Set, Settings, gateway_section};
use doorward_dev::parts::Cluster;
use doorward_dev::stack::Stack;
use serde_json::{Value, json};

use crate::Bench;
use crate::report::{Goal, Row};
use crate::target::Target;

/// Wakes one workspace again and again.
///
/// # Errors
/// When a server does not come up, or a session cannot be opened.
pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let folder = bench.folder.join("wake");
    let (mut stack, cluster) =
        runtime.block_on(async { anyhow::Ok((super::stack(&folder, None).await?, super::cluster(&folder).await?)) })?;
    let kubelet = runtime.block_on(follow(&cluster, &mut stack, &folder))?;
    let target = Target {
        name: "doorward",
        config: stack.ssh_config(),
        host: POD.to_owned(),
        daemons: Vec::new(),
    };
    let (mut whole, mut over, mut direct) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.args.wakes {
        runtime.block_on(sleep(&cluster, &stack))?;
        let begun = Instant::now();
        let ready = runtime.spawn(ready(cluster.admin().clone()));
        let shown =
            first_byte(&target).with_context(|| format!("{}\n{}", stack.log_tail("gateway"), kubelet.log(POD)))?;
        let ready = runtime.block_on(ready)??;
        whole.push(shown.duration_since(begun).as_secs_f64() * 1e3);
        // A person can be in before the kubelet says so.
        over.push(signed_millis(ready, shown));
        let begun = Instant::now();
        direct.push(first_byte(&bench.direct)?.duration_since(begun).as_secs_f64() * 1e3);
    }
    runtime.block_on(async {
        kubelet.stop().await;
        stack.stop().await;
        cluster.stop().await;
    });
    Ok(vec![
        Row::new("wake: from ssh to what is shown", "ms", &direct, &whole, None),
        Row::new(
            "wake: from a ready pod to what is shown",
            "ms",
            &[],
            &over,
            Some(Goal::AtMost(300.0)),
        ),
    ])
}

/// The set, a kubelet for it, and a gateway that follows it.
async fn follow(cluster: &Cluster, stack: &mut Stack, folder: &Path) -> Result<Kubelet> {
    cluster.namespace(NAMESPACE).await?;
    let settings = Settings {
        api: cluster.admin().clone(),
        namespace: NAMESPACE.to_owned(),
        folder: folder.join("kubelet"),
        program: None,
    };
    let kubelet = Kubelet::start(settings).await?;
    let read = |name: &str| std::fs::read_to_string(folder.join("stack").join(name)).with_context(|| name.to_owned());
    let login = stack.account().to_owned();
    let set = Set {
        namespace: NAMESPACE,
        name: SET,
        annotations: &json!({}),
        user_ca: &read("user-ca.pub")?,
        host_ca: &read("host-ca.pub")?,
        login: Some(&login),
    };
    set.apply(cluster.admin()).await?;
    let file = folder.join("kubeconfig");
    super::kubeconfig(cluster, NAMESPACE, &file).await?;
    let section = gateway_section(&set, &file, 1);
    let change = |config: &mut toml::Table| drop(config.insert("kubernetes".to_owned(), section.into()));
    stack.restart_gateway_with(change).await?;
    listed_asleep(stack).await?;
    stack.client().run(&["config", "--write", "--no-include"]).await?;
    Ok(kubelet)
}

/// Nothing runs, and the gateway knows.
async fn sleep(cluster: &Cluster, stack: &Stack) -> Result<()> {
    let scale = format!("/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{SET}/scale");
    cluster.admin().merge(&scale, &json!({"spec": {"replicas": 0}})).await?;
    cluster.admin().await_gone(&format!("{PODS}/{POD}")).await?;
    listed_asleep(stack).await
}

async fn listed_asleep(stack: &Stack) -> Result<()> {
    let last = Instant::now() + PATIENCE;
    loop {
        let output = stack.client().run(&["ls", "--json"]).await?;
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        if listed.contains(POD) && listed.contains("asleep") {
            return Ok(());
        }
        ensure!(Instant::now() < last, "it is not asleep: {listed}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// When the API server has the pod as ready.
async fn ready(admin: doorward_dev::parts::kube::Api) -> Result<Instant> {
    let found = admin.read(PODS).await?;
    let version = found["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let mut watch = admin.watch(PODS, version).await?;
    while let Some(change) = watch.next().await {
        let conditions = change["object"]["status"]["conditions"].as_array();
        let is_ready = |one: &Value| one["type"] == "Ready" && one["status"] == "True";
        if conditions.into_iter().flatten().any(is_ready) {
            return Ok(Instant::now());
        }
    }
    anyhow::bail!("the watch ended before the pod was ready")
}

/// Runs a command on a terminal, and says when the first of it was seen.
fn first_byte(target: &Target) -> Result<Instant> {
    let mut child = target
        .ssh(&["-tt"])
        .arg("printf R")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut byte = [0u8; 1];
    let read = child.stdout.as_mut().context("no stdout")?.read(&mut byte)?;
    let at = Instant::now();
    let status = child.wait()?;
    ensure!(
        read == 1 && status.success(),
        "ssh through {} ended with {status}",
        target.name
    );
    Ok(at)
}

fn signed_millis(from: Instant, to: Instant) -> f64 {
    match to.checked_duration_since(from) {
        Some(after) => after.as_secs_f64() * 1e3,
        None => -from.duration_since(to).as_secs_f64() * 1e3,
    }
}

const NAMESPACE: &str = "woken";
const PODS: &str = "/api/v1/namespaces/woken/pods";
/// One that the stack's policy lets its people into.
const SET: &str = "devenv-w";
const POD: &str = "devenv-w-0";
const PATIENCE: Duration = Duration::from_secs(60);
