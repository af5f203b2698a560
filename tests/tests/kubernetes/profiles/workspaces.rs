//! workspaces: namespaces of teams that appear at run time, workspaces that hibernate as claims without a pod, and a REST API that
//! starts them.

use anyhow::{Context, Result, ensure};
use doorward_dev::issuer::Person;
use doorward_dev::parts::kube::Api;
use serde_json::{Value, json};

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
    ground
        .enter(|config| {
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
