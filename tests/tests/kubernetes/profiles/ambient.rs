//! ambient: pods of jobs of custom objects, called as their session is and not as the pod, in projects that come and go, under the
//! restricted Pod Security Standard. Who enters is up to the roles of each project, and nobody else.

use anyhow::{Context, Result, ensure};
use doorward_audit::Event;
use doorward_dev::parts::kube::TokenRequest;
use doorward_dev::stack::ClientFolder;
use serde_json::{Value, json};
use tests::journal::journal;
use tests::until;

use super::ground::{Ground, table};
use super::lent;

const PROJECT: &str = "project-one";
const LATER: &str = "project-two";
const SESSIONS: &str = "/apis/vteam.ambient-code/v1alpha1/namespaces";

#[tokio::test(flavor = "multi_thread")]
async fn ambient_finds_sessions_by_their_owners_in_projects_that_come_and_go() -> Result<()> {
    let Some(mut ground) = Ground::prepare("ambient", Vec::new()).await? else {
        return Ok(());
    };
    let admin = ground.admin();
    let kind = ground.object("CustomResourceDefinition", "agenticsessions.vteam.ambient-code")?;
    admin.apply(&kind).await?;
    let kind = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/agenticsessions.vteam.ambient-code";
    admin.await_state(kind, is_established).await?;
    lent::define(admin).await?;
    ground.run_pods(PROJECT).await?;
    begin(&ground, PROJECT, "refactor-login").await?;
    open(&ground, PROJECT).await?;
    ground
        .enter(|config| {
            let session = config
                .entry("session")
                .or_insert(toml::Value::Table(toml::Table::new()));
            let session = session.as_table_mut().context("no table")?;
            session.insert("recheck-interval".to_owned(), "1s".into());
            let robots = [format!("{PROJECT}/robot")].map(toml::Value::from).to_vec();
            table(config, "token-review")?.insert("service-accounts".to_owned(), robots.into());
            Ok(())
        })
        .await?;
    let alice = person(&ground, "alice").await?;
    let bob = person(&ground, "bob").await?;
    let olga = person(&ground, "olga").await?;
    let mallory = person(&ground, "mallory").await?;

    // The pod has a name of its own; people say the session's.
    ground.listed(&alice, "refactor-login", Some("running")).await?;
    ensure!(ground.run(&alice, "refactor-login", "echo in").await? == "in\n");
    let pod = pod_of(&ground, "refactor-login").await?;
    let name = pod["metadata"]["name"].as_str().context("no name")?;
    ensure!(name.starts_with("refactor-login-job-"), "{name}");
    ground.kept_out(&alice, name).await?;
    for other in [&bob, &olga, &mallory] {
        ground.kept_out(other, "refactor-login").await?;
    }

    lent::by_a_project(&ground, &mallory).await?;
    robots(&ground).await?;

    // One that has the labels and no session behind it takes no name, and disturbs nobody who has it.
    let mut imposter = json!({"apiVersion": "v1", "kind": "Pod", "spec": pod["spec"],
        "metadata": {"name": "imposter", "namespace": PROJECT, "labels": pod["metadata"]["labels"]}});
    for given in ["nodeName", "serviceAccount"] {
        imposter["spec"][given] = Value::Null;
    }
    admin.apply(&imposter).await?;
    admin
        .await_state(&pods(PROJECT, "/imposter"), super::super::pods::is_ready)
        .await?;
    ensure!(ground.run(&alice, "refactor-login", "echo still").await? == "still\n");
    admin.delete(&pods(PROJECT, "/imposter")).await?;

    // A project that appears, and vanishes while somebody is in it.
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": LATER, "labels": {
        "ambient-code.io/managed": "true", "pod-security.kubernetes.io/enforce": "restricted"}}});
    admin.apply(&space).await?;
    let mut account = ground.object("ServiceAccount", "ambient-session")?;
    account["metadata"]["namespace"] = json!(LATER);
    admin.apply(&account).await?;
    open(&ground, LATER).await?;
    ground.configure_agents(LATER).await?;
    ground.run_pods(LATER).await?;
    begin(&ground, LATER, "fix-typos").await?;
    ground.listed(&bob, "fix-typos", Some("running")).await?;
    ground.kept_out(&alice, "fix-typos").await?;
    lent::by_another_project(&ground, &mallory, LATER).await?;
    // What a project takes away ends what it opened.
    let session = ground.stay(&bob, "fix-typos").await?;
    let bindings = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{LATER}/rolebindings/session-users");
    admin.delete(&bindings).await?;
    let (code, said) = session.ends().await?;
    ensure!(
        code == Some(255) && said.contains("you may no longer enter this workspace"),
        "{code:?}: {said}"
    );
    ground.listed(&bob, "fix-typos", None).await?;
    ground.kept_out(&bob, "fix-typos").await?;
    open(&ground, LATER).await?;
    ground.listed(&bob, "fix-typos", Some("running")).await?;
    let session = ground.stay(&bob, "fix-typos").await?;
    admin.delete(&format!("/api/v1/namespaces/{LATER}")).await?;
    session.ends_with_its_workspace().await?;
    ground.listed(&bob, "fix-typos", None).await?;

    // With its custom object goes everything that hangs on it.
    let session = ground.stay(&alice, "refactor-login").await?;
    admin
        .delete(&format!("{SESSIONS}/{PROJECT}/agenticsessions/refactor-login"))
        .await?;
    session.ends_with_its_workspace().await?;
    ground.listed(&alice, "refactor-login", None).await?;
    ground.used_its_rights(&[]).await?;
    ground.stop().await
}

/// Somebody whom the cluster knows by a token that nobody else can read.
async fn person(ground: &Ground, name: &str) -> Result<ClientFolder> {
    let token = ground.cluster.token_of(name).context("nobody's token")?;
    ground.login_by(name, token).await
}

/// Service accounts come in by name alone, a token that is nobody's does not, and one that was revoked ends what it opened.
async fn robots(ground: &Ground) -> Result<()> {
    let admin = ground.admin();
    for name in ["robot", "stranger"] {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": PROJECT}});
        admin.apply(&account).await?;
    }
    let mut binding = ground.object("RoleBinding", "session-users")?;
    binding["metadata"] = json!({"name": "robots", "namespace": PROJECT});
    binding["subjects"] = ["robot", "stranger"]
        .map(|name| json!({"kind": "ServiceAccount", "name": name, "namespace": PROJECT}))
        .to_vec()
        .into();
    admin.apply(&binding).await?;
    let token = async |account: &'static str| {
        let wanted = TokenRequest {
            namespace: PROJECT,
            account,
            audience: None,
            pod: None,
            seconds: 3600,
        };
        anyhow::Ok(ground.cluster.token(wanted).await?)
    };
    let robot = ground.login_by("robot", &token("robot").await?).await?;
    ground.listed(&robot, "refactor-login", Some("running")).await?;
    let session = ground.stay(&robot, "refactor-login").await?;
    // Another token in the same place: what the program prints is what counts.
    for (shown, expected) in [
        (
            token("stranger").await?,
            "the token is a service account's, and people come in here",
        ),
        (
            "sha256~nobodys".to_owned(),
            "the cluster says that the token is not good, or not any more",
        ),
    ] {
        ground.token_file("robot", &shown)?;
        let refused = ground.attempt(&robot, "refactor-login").await?;
        ensure!(
            refused.code == Some(255) && refused.said().contains(expected) && !refused.said().contains(&shown),
            "{:?}: {}",
            refused.code,
            refused.said()
        );
    }
    until("who knew them, on record", async || {
        let known = journal(&ground.stack.state_dir())?
            .into_iter()
            .any(|event| match event {
                Event::SessionOpened(opened) => {
                    opened.user == format!("system:serviceaccount:{PROJECT}:robot")
                        && opened.issuer.as_deref() == Some("kubernetes-token-review")
                }
                _ => false,
            });
        Ok(known.then_some(()))
    })
    .await?;
    // The token goes with its account; the API server believes it for some seconds more.
    admin
        .delete(&format!("/api/v1/namespaces/{PROJECT}/serviceaccounts/robot"))
        .await?;
    let (code, said) = session.ends().await?;
    ensure!(
        code == Some(255) && said.contains("the cluster does not take your token any more"),
        "{code:?}: {said}"
    );
    Ok(())
}

/// What lets the members of a project into its sessions, as its own admins write it.
async fn open(ground: &Ground, project: &str) -> Result<()> {
    for (kind, name) in [("Role", "session-user"), ("RoleBinding", "session-users")] {
        let mut object = ground.object(kind, name)?;
        object["metadata"]["namespace"] = json!(project);
        if kind == "RoleBinding" {
            object["subjects"][0]["name"] = json!(format!("{project}-members"));
        }
        ground.admin().apply(&object).await?;
    }
    Ok(())
}

/// Makes a session and, as the platform's operator does, its job.
async fn begin(ground: &Ground, project: &str, name: &str) -> Result<()> {
    let mut session = ground.object("AgenticSession", "refactor-login")?;
    session["metadata"] = json!({"name": name, "namespace": project});
    let made = ground.admin().apply(&session).await?;
    let mut claim = ground.object("PersistentVolumeClaim", "refactor-login-workspace")?;
    claim["metadata"] = json!({"name": format!("{name}-workspace"), "namespace": project});
    ground.admin().apply(&claim).await?;
    let mut job = ground.object("Job", "refactor-login-job")?;
    job["metadata"] = json!({
        "name": format!("{name}-job"), "namespace": project, "labels": {"agentic-session": name},
        "ownerReferences": [{
            "apiVersion": made["apiVersion"], "kind": made["kind"], "name": name, "uid": made["metadata"]["uid"],
            "controller": true, "blockOwnerDeletion": true,
        }],
    });
    job["spec"]["template"]["metadata"]["labels"]["agentic-session"] = json!(name);
    job["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] =
        json!(format!("{name}-workspace"));
    ground.admin().apply(&job).await?;
    Ok(())
}

/// The pod that a session's job has made.
async fn pod_of(ground: &Ground, session: &str) -> Result<Value> {
    let found = ground.admin().read(&pods(PROJECT, "")).await?;
    let mut all = found["items"].as_array().into_iter().flatten();
    let found = all.find(|pod| pod["metadata"]["labels"]["agentic-session"] == session);
    found.cloned().context("no pod")
}

fn pods(namespace: &str, rest: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods{rest}")
}

pub(super) fn is_established(kind: &Value) -> bool {
    let conditions = kind["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|one| one["type"] == "Established" && one["status"] == "True")
}
