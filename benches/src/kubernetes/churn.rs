//! Thousands of pods and thousands of changes a minute: how late the directory is, and what following it costs the gateway.
//!
//! Every change matters to the gateway (another owner). What is timed is the API server's answer to a change until a person's
//! list shows it, by asking again and again, which is in the gateway's figures.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use doorward_dev::issuer::{Issuer, Settings};
use doorward_dev::stack::Stack;
use reqwest::{Certificate, Client};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::task::TaskTracker;

use super::objects::{OWNER, Writer};
use crate::report::{Goal, Row, quantile};
use crate::{Bench, proc};

/// Follows so many pods while they change, and reports lag, CPU and memory.
///
/// # Errors
/// When a server does not come up, or the changes cannot be written.
pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    tokio::runtime::Runtime::new()?.block_on(run(bench))
}

async fn run(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let folder = bench.folder.join("churn");
    let (pods, rate, lasting) = (bench.args.pods, bench.args.changes, bench.args.seconds);
    let mut stack = super::stack(&folder, Some(POLICY)).await?;
    let cluster = super::cluster(&folder).await?;
    cluster.namespace(NAMESPACE).await?;
    let writer = Writer::new(&cluster)?;
    make(&writer, pods).await?;
    // Tokens that need no login: the people are the same.
    let issuer = Issuer::start(Settings::default()).await?;
    let file = folder.join("kubeconfig");
    super::kubeconfig(&cluster, NAMESPACE, &file).await?;
    let section = toml::toml! {
        [[workspaces]]
        name = "bench"
        namespaces = ["many"]
        pods = "app=bench"
        login = "nobody"
        agent-port = 7022
    };
    let mut section = section;
    section.insert("kubeconfig".to_owned(), file.display().to_string().into());
    let rule = section["workspaces"][0].as_table_mut().context("no rule")?;
    rule.insert("owner".to_owned(), format!("{{annotation:{OWNER}}}").into());
    let url = issuer.url().to_owned();
    let change = |config: &mut toml::Table| {
        config.insert("kubernetes".to_owned(), section.into());
        if let Some(oidc) = config.get_mut("oidc").and_then(toml::Value::as_table_mut) {
            oidc.insert("issuer".to_owned(), url.into());
        }
    };
    stack.restart_gateway_with(change).await?;
    let gateway = super::gateway_of(&stack)?;
    let list = List::new(&stack, issuer.access_token("bob")?)?;
    writer.give(NAMESPACE, PROBE, "bob").await?;
    list.until(true).await?;

    let (cpu, begun) = (proc::cpu_of(&[gateway]), Instant::now());
    let churning = TaskTracker::new().spawn(churn(writer.clone(), pods, rate, lasting));
    let mut lags = Vec::new();
    let mut owned = true;
    while !churning.is_finished() {
        owned = !owned;
        writer
            .give(NAMESPACE, PROBE, if owned { "bob" } else { "nobody" })
            .await?;
        let written = Instant::now();
        list.until(owned).await?;
        lags.push(written.elapsed().as_secs_f64() * 1e3);
        sleep(BETWEEN).await;
    }
    let written = churning.await??;
    let wall = begun.elapsed().as_secs_f64();
    let cores = (proc::cpu_of(&[gateway]) - cpu) / wall;
    let memory = proc::peak(gateway).context("the gateway's memory cannot be read")?;
    issuer.stop().await;
    stack.stop().await;
    cluster.stop().await;
    let per_minute = written as f64 / wall * 60.0;
    let of = |q| quantile(&lags, q).into_iter().collect::<Vec<_>>();
    let name = format!("{pods} pods, {rate} changes a minute");
    Ok(vec![
        Row::new(
            format!("{name}: reached"),
            "/min",
            &[],
            &[per_minute],
            Some(Goal::AtLeast(rate as f64 * 0.95)),
        ),
        Row::new(format!("{name}: lag, p50 of {}", lags.len()), "ms", &[], &of(0.5), None),
        Row::new(
            format!("{name}: lag, p99"),
            "ms",
            &[],
            &of(0.99),
            Some(Goal::AtMost(1000.0)),
        ),
        Row::new(
            format!("{name}: gateway"),
            "cores",
            &[],
            &[cores],
            Some(Goal::AtMost(0.3)),
        ),
        Row::new(
            format!("{name}: gateway, peak"),
            "MiB RSS",
            &[],
            &[memory as f64 / 1048576.0],
            Some(Goal::AtMost(150.0)),
        ),
    ])
}

/// The pods, and one more that is asked about.
async fn make(writer: &Writer, pods: usize) -> Result<()> {
    let mut names: Vec<String> = (0..pods).map(name).collect();
    names.push(PROBE.to_owned());
    let mut making = JoinSet::new();
    for (index, name) in names.into_iter().enumerate() {
        if making.len() >= AT_ONCE {
            making.join_next().await.context("nothing is being made")???;
        }
        let writer = writer.clone();
        // Loopback refuses at once what nobody takes; elsewhere each dial would last its whole deadline.
        let address = format!("127.{}.{}.9", 64 + index / 200, 1 + index % 200);
        making.spawn(async move { writer.run_pod(NAMESPACE, &name, &address).await });
    }
    while let Some(made) = making.join_next().await {
        made??;
    }
    Ok(())
}

/// Changes one pod after the other at an even rate; gives how many changes were written.
async fn churn(writer: Writer, pods: usize, rate: u32, lasting: u64) -> Result<usize> {
    let mut tick = interval(Duration::from_secs(60) / rate.max(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let end = Instant::now() + Duration::from_secs(lasting);
    let (mut changing, mut count) = (JoinSet::new(), 0);
    while Instant::now() < end {
        tick.tick().await;
        if changing.len() >= AT_ONCE {
            changing.join_next().await.context("nothing is being changed")???;
        }
        let (writer, pod) = (writer.clone(), name(count % pods.max(1)));
        let owner = format!("person-{count}");
        changing.spawn(async move { writer.give(NAMESPACE, &pod, &owner).await });
        count += 1;
    }
    while let Some(changed) = changing.join_next().await {
        changed??;
    }
    Ok(count)
}

fn name(index: usize) -> String {
    format!("pod-{index}")
}

/// A person's list of workspaces.
struct List {
    client: Client,
    url: String,
    token: String,
}

impl List {
    fn new(stack: &Stack, token: String) -> Result<Self> {
        let ca = Certificate::from_pem(&std::fs::read(stack.ca_file())?)?;
        Ok(Self {
            client: Client::builder().no_proxy().tls_certs_only([ca]).build()?,
            url: format!("{}/v1/workspaces", stack.gateway_url()),
            token,
        })
    }

    /// Asks until the probe is in the list, or is not.
    async fn until(&self, there: bool) -> Result<()> {
        let asking = async {
            loop {
                let answer = self.client.get(&self.url).bearer_auth(&self.token).send().await?;
                let status = answer.status();
                let text = answer.text().await?;
                ensure!(status.is_success(), "{status}: {text}");
                let listed: Value = serde_json::from_str(&text)?;
                let all = listed["workspaces"].as_array().context("no list")?;
                if all.iter().any(|one| one["name"] == PROBE) == there {
                    return Ok(());
                }
                sleep(ASK_AGAIN).await;
            }
        };
        timeout(PATIENCE, asking).await.context("the change is not seen")?
    }
}

const NAMESPACE: &str = "many";
const PROBE: &str = "probe";
const AT_ONCE: usize = 32;
const BETWEEN: Duration = Duration::from_millis(150);
const ASK_AGAIN: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);
/// A person sees what is theirs, so that a list is short.
const POLICY: &str = r#"
[[role]]
name = "owner"
groups = ["developers"]
workspaces = ["*"]
owner = true
allow = ["shell", "exec"]
longest = "1h"
recordings = "own"
"#;
