//! workspaces: namespaces of teams that appear at run time, workspaces that hibernate as claims without a pod, and a REST API that
//! starts them.

use anyhow::{Context, Result, ensure};
use doorward_dev::issuer::Person;
use doorward_dev::parts::kube::Api;
use serde_json::{Value, json};

use tests::{feed, until};

use super::super::told::Told;
use super::ground::{Ground, table};
use super::platform::{Acting, Asked, Platform};

const TEAM: &str = "team-payments";
const LATER: &str = "team-search";

#[tokio::test(flavor = "multi_thread")]
async fn workspaces_wake_by_the_platforms_api_in_namespaces_that_appear() -> Result<()> {
    let people = ["alice", "bob", "carol"].map(|name| Person::new(name, &["engineering"]));
    let Some(mut ground) = Ground::prepare("workspaces", people.into()).await? else {
        return Ok(());
    };
    ground.run_pods(TEAM).await?;
    for name in ["billing-main", "ledger-main"] {
        let claim = ground.object("PersistentVolumeClaim", name)?;
        ground.admin().apply(&claim).await?;
    }
    let pod = ground.object("Pod", "billing-main")?;
    ground.admin().apply(&pod).await?;
    let platform = platform(&ground, pod).await?;
    let told = Told::start().await?;
    let secret = tempfile::NamedTempFile::new()?;
    std::fs::write(secret.path(), "the-gateways-own")?;
    ground
        .enter(|config| {
            let usage = table(config, "kubernetes")?["usage"][0]
                .as_table_mut()
                .context("no usage")?;
            usage.insert("every".to_owned(), "1s".into());
            let hook = table(usage, "hook")?;
            let url = hook["url"].as_str().context("no URL")?;
            let path = url.split_once(".com/").context("no path")?.1;
            let url = format!("http://{}/{path}", told.address);
            hook.insert("url".to_owned(), url.into());
            hook.insert("token-file".to_owned(), secret.path().display().to_string().into());
            for wake in table(config, "kubernetes")?["wake"].as_array_mut().context("no wake")? {
                let url = platform.in_place_of(wake["url"].as_str().context("no URL")?)?;
                wake.as_table_mut()
                    .context("no table")?
                    .insert("url".to_owned(), url.into());
            }
            Ok(())
        })
        .await?;
    let alice = ground.login("alice").await?;
    let bob = ground.login("bob").await?;
    let carol = ground.login("carol").await?;

    ground.listed(&bob, "billing-main", Some("running")).await?;
    ensure!(ground.run(&bob, "billing-main", "echo in").await? == "in\n");
    ground.kept_out(&alice, "billing-main").await?;

    // The platform hears of it, and of what is to be kept; somebody else can keep nothing.
    let what = "POST /api/workspaces/billing-main/activity";
    let told_of = async |kept: bool| {
        until("the platform hears of the use", async || {
            let calls = told.calls().into_iter();
            let mut calls = calls.filter(|call| call.what == what && call.body["team"] == TEAM);
            Ok(calls.find(|call| {
                call.body["at"].as_str().is_some_and(|at| !at.is_empty()) && (call.body["keep-until"] != "") == kept
            }))
        })
        .await
    };
    let call = told_of(false).await?;
    ensure!(call.authorization == "Bearer the-gateways-own", "{call:?}");
    let kept = feed(alice.command(["keep", "4h", "billing-main"]), b"").await?;
    ensure!(
        kept.code == Some(77) && kept.said().contains("you may not enter it"),
        "{:?}: {}",
        kept.code,
        kept.said()
    );
    let kept = feed(bob.command(["keep", "13h", "billing-main"]), b"").await?;
    ensure!(
        kept.code == Some(77) && kept.said().contains("at most 12h"),
        "{:?}: {}",
        kept.code,
        kept.said()
    );
    let kept = feed(bob.command(["keep", "4h", "billing-main", "--json"]), b"").await?;
    ensure!(kept.code == Some(0), "{:?}: {}", kept.code, kept.said());
    let until_then: Value = serde_json::from_slice(&kept.stdout)?;
    let call = told_of(true).await?;
    ensure!(
        call.body["keep-until"] == until_then["keep-until"],
        "{call:?} {until_then}"
    );
    let annotations = |pod: &Value| pod["metadata"]["annotations"].clone();
    let now = annotations(&ground.admin().read(&path(TEAM, "billing-main")).await?);
    ensure!(
        now["doorward.dev/keep-until"] == until_then["keep-until"] && now["doorward.dev/last-use"].is_string(),
        "{now}"
    );
    let shown = until("the list says so", async || {
        let shown = feed(bob.command(["ls"]), b"").await?;
        Ok(Some(String::from_utf8(shown.stdout)?).filter(|text| text.contains("kept for")))
    })
    .await?;
    ensure!(shown.contains("stops in"), "{shown}");
    let off = feed(bob.command(["keep", "--off", "billing-main"]), b"").await?;
    ensure!(off.code == Some(0), "{:?}: {}", off.code, off.said());
    let now = annotations(&ground.admin().read(&path(TEAM, "billing-main")).await?);
    ensure!(now.get("doorward.dev/keep-until").is_none(), "{now}");

    // It hibernates: a claim is there, and no pod.
    ground.listed(&alice, "ledger-main", Some("asleep")).await?;
    ground.kept_out(&bob, "ledger-main").await?;
    ensure!(platform.asked().is_empty(), "{:?}", platform.asked());
    ensure!(ground.run(&alice, "ledger-main", "echo woken").await? == "woken\n");
    let asked: Vec<_> = platform
        .asked()
        .into_iter()
        .map(|asked| (asked.what, asked.user))
        .collect();
    let call = "POST /api/workspaces/ledger-main/start".to_owned();
    ensure!(asked == [(call, "alice".to_owned())], "{asked:?}");

    // A team that comes while the gateway runs.
    let space = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": LATER, "labels": {"workspaces.example.com/team": "search"}}});
    ground.admin().apply(&space).await?;
    ground.run_pods(LATER).await?;
    let mut account = ground.object("ServiceAccount", "workspace")?;
    account["metadata"]["namespace"] = json!(LATER);
    ground.admin().apply(&account).await?;
    ground.configure_agents(LATER).await?;
    let mut claim = ground.object("PersistentVolumeClaim", "ledger-main")?;
    claim["metadata"] = json!({"name": "index-main", "namespace": LATER,
        "labels": {"app": "workspace", "workspace": "index-main", "workspace-owner": "carol"}});
    ground.admin().apply(&claim).await?;
    ground.listed(&carol, "index-main", Some("asleep")).await?;
    ensure!(ground.run(&carol, "index-main", "echo found").await? == "found\n");
    ground.kept_out(&bob, "index-main").await?;

    // The platform hibernates what somebody is in.
    let session = ground.stay(&alice, "ledger-main").await?;
    ground.admin().delete(&path(TEAM, "ledger-main")).await?;
    session.ends_with_its_workspace().await?;
    ground.listed(&alice, "ledger-main", Some("asleep")).await?;
    ground.used_its_rights(&["list events"]).await?;
    ground.stop().await
}

/// The platform's API: whose workspace it is may start it, and that makes its pod.
async fn platform(ground: &Ground, pod: Value) -> Result<Platform> {
    let admin = ground.admin();
    let act = move |asked: Asked| {
        let acting: Acting = Box::pin(start(admin, asked, pod.clone()));
        acting
    };
    Platform::start(ground.stack.issuer_url(), Box::new(act)).await
}

async fn start(admin: &Api, asked: Asked, mut pod: Value) -> Result<(u16, Value)> {
    let name = asked.what.split('/').nth_back(1).context("no name")?;
    for namespace in [TEAM, LATER] {
        let claim = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}");
        let Some(claim) = admin.find(&claim).await? else {
            continue;
        };
        let labels = &claim["metadata"]["labels"];
        if labels["workspace-owner"] != asked.user.as_str() {
            return Ok((403, json!({"error": "not yours"})));
        }
        pod["metadata"] = json!({"name": name, "namespace": namespace, "labels": labels});
        pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = json!(name);
        admin.apply(&pod).await?;
        return Ok((202, json!({"state": "starting"})));
    }
    Ok((404, json!({"error": "no such workspace"})))
}

fn path(namespace: &str, pod: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{pod}")
}
