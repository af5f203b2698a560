//! code-server: an IDE for each person, named by label, with roles of the realm; started through GraphQL with the person's token.

use anyhow::{Context, Result, ensure};
use doorward_dev::issuer::Person;
use doorward_dev::parts::kube::Api;
use serde_json::{Value, json};
use tests::folder::token;
use tests::raw::{Door, get};

use super::ground::{Ground, table};
use super::platform::{Acting, Asked, Platform};

const NAME: &str = "code-server-alice";
/// The pod's own name is the platform's affair.
const POD: &str = "code-server-alice-7d9f";
const NAMESPACE: &str = "codeserver-instances";

#[tokio::test(flavor = "multi_thread")]
async fn code_server_starts_by_graphql_for_roles_of_the_realm() -> Result<()> {
    let people = vec![
        Person::new("alice", &[]).with_roles(&["developer"]),
        Person::new("bob", &[]).with_roles(&["developer", "offline_access"]),
        Person::new("dora", &[]).with_roles(&["admin"]),
        // Groups are not what counts here.
        Person::new("mallory", &["developer", "admin"]),
    ];
    let Some(mut ground) = Ground::prepare("code-server", people).await? else {
        return Ok(());
    };
    ground.run_pods(NAMESPACE).await?;
    let mut claim = ground.object("PersistentVolumeClaim", "workspace-alice")?;
    claim["metadata"]["name"] = json!("workspace-alice-7d9f");
    ground.admin().apply(&claim).await?;
    let mut pod = ground.object("Pod", NAME)?;
    pod["metadata"]["name"] = json!(POD);
    pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = json!("workspace-alice-7d9f");
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
    let dora = ground.login("dora").await?;
    let mallory = ground.login("mallory").await?;

    // Stopped: there is a claim, and no pod. It is whose label says so, and nobody else can start it.
    ground.listed(&alice, NAME, Some("asleep")).await?;
    ground.kept_out(&bob, NAME).await?;
    ground.kept_out(&mallory, NAME).await?;
    let door = Door::new(ground.stack.gateway_address(), &ground.stack.ca_file())?;
    let forged = "X-Forwarded-User: alice\r\nX-Forwarded-Preferred-Username: alice\r\n";
    let bearer = format!("Authorization: Bearer {}\r\n", token(bob.home(), "access-token")?);
    let (_, listed) = door
        .ask(get("/v1/workspaces", &format!("{bearer}{forged}Connection: close\r\n")))
        .await?;
    ensure!(
        listed.status() == 200 && !listed.text().contains(NAME),
        "{}",
        listed.text()
    );
    let (_, listed) = door
        .ask(get("/v1/workspaces", &format!("{forged}Connection: close\r\n")))
        .await?;
    ensure!(listed.status() == 401, "{}", listed.text());
    ensure!(platform.asked().is_empty(), "{:?}", platform.asked());

    // GraphQL says no with a status of 200; the person reads why.
    let refused = ground.attempt(&alice, NAME).await?;
    ensure!(
        refused.code == Some(255) && refused.said().contains(FULL),
        "{}",
        refused.said()
    );
    ensure!(ground.run(&alice, NAME, "echo in").await? == "in\n");
    let asked = platform.asked();
    ensure!(asked.len() == 2, "{asked:?}");
    for Asked { what, user, body } in &asked {
        ensure!(what == "POST /graphql" && user == "alice", "{what} by {user}");
        ensure!(body["variables"] == json!({"id": "alice"}), "{body}");
        let query = body["query"].as_str().unwrap_or_default();
        ensure!(
            query.starts_with("mutation($id: ID!) { startCodeServer(id: $id)"),
            "{query}"
        );
    }
    ensure!(ground.run(&dora, NAME, "echo admin").await? == "admin\n");

    // Stopped by the platform: the pod goes, the claim stays.
    let session = ground.stay(&alice, NAME).await?;
    ground
        .admin()
        .delete(&format!("/api/v1/namespaces/{NAMESPACE}/pods/{POD}"))
        .await?;
    session.ends_with_its_workspace().await?;
    ground.listed(&alice, NAME, Some("asleep")).await?;
    ground.used_its_rights(&["list events"]).await?;
    ground.stop().await
}

/// The platform's service: the owner alone starts an IDE, and at first there is no room for it.
async fn platform(ground: &Ground, pod: Value) -> Result<Platform> {
    let admin = ground.admin();
    let full = std::sync::atomic::AtomicBool::new(true);
    let act = move |asked: Asked| {
        let (pod, full) = (pod.clone(), full.swap(false, std::sync::atomic::Ordering::SeqCst));
        let acting: Acting = Box::pin(start(admin, asked, pod, full));
        acting
    };
    Platform::start(ground.stack.issuer_url(), Box::new(act)).await
}

async fn start(admin: &Api, asked: Asked, pod: Value, full: bool) -> Result<(u16, Value)> {
    let error = |message: &str| (200, json!({"data": null, "errors": [{"message": message}]}));
    if asked.body["variables"]["id"] != asked.user.as_str() {
        return Ok(error("this instance is somebody else's"));
    }
    if full {
        return Ok(error(FULL));
    }
    admin.apply(&pod).await?;
    Ok((200, json!({"data": {"startCodeServer": {"state": "STARTING"}}})))
}

const FULL: &str = "no room for another instance at the moment";
