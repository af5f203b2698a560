//! `WorkspaceAccess` objects: a project's admin lets somebody in, within the bounds of the policy, and takes it back.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use doorward_audit::Event;
use doorward_dev::parts::Error;
use doorward_dev::parts::kube::{Api, Identity};
use doorward_dev::stack::ClientFolder;
use serde_json::{Value, json};
use tests::journal::journal;
use tests::until;

use super::ambient::is_established;
use super::ground::Ground;

const OBJECTS: &str = "/apis/doorward.dev/v1alpha1/namespaces/project-one/workspaceaccesses";
const WORKSPACE: &str = "refactor-login";

/// Has the API server know the kind.
pub(in super::super) async fn define(admin: &Api) -> Result<()> {
    admin.apply(&definition()?).await?;
    let kind = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/workspaceaccesses.doorward.dev";
    admin.await_state(kind, is_established).await?;
    Ok(())
}

fn definition() -> Result<Value> {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/kubernetes/workspaceaccess.crd.yaml"
    );
    Ok(serde_saphyr::from_str(&std::fs::read_to_string(file)?)?)
}

#[test]
fn the_definition_is_the_programs() -> Result<()> {
    let (file, own) = (definition()?, doorward_gateway::kube::access::definition());
    ensure!(file == own, "the file is not\n{own:#}");
    Ok(())
}

/// A session for somebody whom nothing else lets in.
pub(super) async fn by_a_project(ground: &Ground, mallory: &ClientFolder) -> Result<()> {
    let paula = ground
        .admin()
        .acting_as(Identity::person("paula", &["project-one-admins"]));
    ground.kept_out(mallory, WORKSPACE).await?;
    for (kind, name) in [
        ("Role", "workspace-access-admin"),
        ("RoleBinding", "workspace-access-admins"),
    ] {
        ground.admin().apply(&ground.object(kind, name)?).await?;
    }
    let object = ground.object("WorkspaceAccess", "reviewers")?;
    // A new binding reaches the authoriser by a watch.
    let made = until("the project's admin may write", async || {
        match paula.apply(&object).await {
            Err(Error::Refused { status: 403, .. }) => Ok(None),
            made => Ok(Some(made?)),
        }
    })
    .await?;
    ground.listed(mallory, WORKSPACE, Some("running")).await?;
    ensure!(ground.run(mallory, WORKSPACE, "echo lent").await? == "lent\n");
    let one = format!("{OBJECTS}/reviewers");
    says(&paula, &one, ["Accepted", "InForce"]).await?;

    // The journal has which object it was.
    let lent = journal(&ground.stack.state_dir())?
        .into_iter()
        .find_map(|event| match event {
            Event::AccessLent(lent) => Some(lent),
            _ => None,
        });
    let lent = lent.context("nothing on record")?;
    let meta = &made["metadata"];
    ensure!(
        (lent.namespace.as_str(), lent.name.as_str(), lent.role.as_str())
            == ("project-one", "reviewers", "project-member")
            && meta["uid"] == lent.uid.as_str()
            && meta["generation"] == lent.generation,
        "{lent:?}"
    );

    // What the object does not name is not given; what the role does not give neither, and the object says so.
    let wide = json!({"spec": {"allow": ["exec", "agent-forwarding", "forward-to:*:*"]}});
    paula.merge(&one, &wide).await?;
    says(&paula, &one, ["Bounded", "InForce"]).await?;
    let message = &condition(&paula.read(&one).await?, "Accepted")["message"];
    let said = message.as_str().context("no message")?;
    ensure!(
        said.contains("agent-forwarding") && said.contains("forward-to:*:*"),
        "{said}"
    );

    absurd(ground, &paula, &object).await?;
    ensure!(ground.run(mallory, WORKSPACE, "echo still").await? == "still\n");

    // Edited to what the policy has not: it ends by the word of the watch, and is back with what is good.
    let session = ground.stay(mallory, WORKSPACE).await?;
    paula.merge(&one, &json!({"spec": {"role": "cluster-admin"}})).await?;
    let (code, said) = session.ends().await?;
    ensure!(
        code == Some(255) && said.contains("you may no longer enter this workspace"),
        "{code:?}: {said}"
    );
    says(&paula, &one, ["RoleNotGrantable", "NotAccepted"]).await?;
    paula.apply(&object).await?;
    ground.listed(mallory, WORKSPACE, Some("running")).await?;

    // Gone: the same.
    let session = ground.stay(mallory, WORKSPACE).await?;
    paula.delete(&one).await?;
    let (code, said) = session.ends().await?;
    ensure!(
        code == Some(255) && said.contains("you may no longer enter this workspace"),
        "{code:?}: {said}"
    );
    ground.listed(mallory, WORKSPACE, None).await?;
    ground.kept_out(mallory, WORKSPACE).await?;

    // Over: the same, at its time.
    paula.apply(&object).await?;
    ground.listed(mallory, WORKSPACE, Some("running")).await?;
    let session = ground.stay(mallory, WORKSPACE).await?;
    let soon = SystemTime::now() + Duration::from_secs(2);
    let soon = humantime::format_rfc3339_seconds(soon).to_string();
    paula.merge(&one, &json!({"spec": {"expires": soon}})).await?;
    let (code, said) = session.ends().await?;
    ensure!(
        code == Some(255) && said.contains("you may no longer enter this workspace"),
        "{code:?}: {said}"
    );
    says(&paula, &one, ["Accepted", "Expired"]).await?;
    Ok(paula.delete(&one).await?)
}

/// That an object of another project, however much it means, is about that project.
pub(super) async fn by_another_project(ground: &Ground, mallory: &ClientFolder, project: &str) -> Result<()> {
    let mut object = ground.object("WorkspaceAccess", "reviewers")?;
    object["metadata"]["namespace"] = json!(project);
    object["spec"]["workspaces"] = json!({"selector": {}});
    ground.admin().apply(&object).await?;
    ground.listed(mallory, "fix-typos", Some("running")).await?;
    ground.kept_out(mallory, WORKSPACE).await
}

/// What is no object is refused by the API server, or by the gateway, which says why; who is not the project's admin writes none.
async fn absurd(ground: &Ground, paula: &Api, good: &Value) -> Result<()> {
    let with = |name: &str, member: &str, value: Value| {
        let mut object = good.clone();
        object["metadata"] = json!({"name": name, "namespace": "project-one"});
        object["spec"][member] = value;
        object
    };
    let user = |name: &str| json!([{"kind": "User", "name": name}]);
    let many: Vec<Value> = (0..100_000)
        .map(|n| json!({"kind": "User", "name": format!("u{n}")}))
        .collect();
    let near = json!({"selector": {"matchExpressions": [{"key": "app", "operator": "Near", "values": ["x"]}]}});
    let valueless = json!({"selector": {"matchExpressions": [{"key": "app", "operator": "In"}]}});
    for (member, value) in [
        ("subjects", json!([])),
        ("subjects", json!(many)),
        ("subjects", user(&"x".repeat(1 << 20))),
        ("subjects", user("bob\n")),
        ("subjects", user("")),
        ("subjects", json!([{"kind": "ServiceAccount", "name": "bob"}])),
        ("subjects", json!([{"kind": "Email", "name": "bob"}])),
        ("workspaces", json!({})),
        ("workspaces", json!({"names": ["../etc"]})),
        ("workspaces", near),
        ("workspaces", valueless),
        ("role", json!(null)),
        ("longest", json!("forever")),
        ("recording", json!({"mode": "best-effort"})),
        ("expires", json!("tomorrow")),
    ] {
        let shown: String = value.to_string().chars().take(80).collect();
        let made = paula.apply(&with("absurd", member, value)).await;
        ensure!(
            matches!(
                &made,
                Err(Error::Refused {
                    status: 400 | 413 | 422,
                    ..
                })
            ),
            "{member} = {shown}: {made:?}"
        );
    }
    for (name, member, value, reason, force) in [
        ("turned", "subjects", user("bob\u{202e}"), "BadSubject", "NotAccepted"),
        (
            "unknown",
            "role",
            json!("cluster-admin"),
            "RoleNotGrantable",
            "NotAccepted",
        ),
        (
            "look-alike",
            "role",
            json!("project-m\u{435}mber"),
            "RoleNotGrantable",
            "NotAccepted",
        ),
        ("word", "allow", json!(["root"]), "BadTerms", "NotAccepted"),
        ("over", "expires", json!("2001-01-01T00:00:00Z"), "Accepted", "Expired"),
        (
            "nothing",
            "allow",
            json!(["agent-forwarding"]),
            "Bounded",
            "LendsNothing",
        ),
    ] {
        paula.apply(&with(name, member, value)).await?;
        let path = format!("{OBJECTS}/{name}");
        says(paula, &path, [reason, force]).await.context(name)?;
        // What others write over it does not stay.
        if name == "over" {
            let lie = json!({"status": {"conditions": []}});
            ground.admin().merge(&format!("{path}/status"), &lie).await?;
            says(paula, &path, [reason, force]).await?;
        }
        paula.delete(&path).await?;
    }
    // Neither another project nor the status is hers.
    let mut other = good.clone();
    other["metadata"]["namespace"] = json!("doorward");
    let made = paula.apply(&other).await;
    ensure!(matches!(&made, Err(Error::Refused { status: 403, .. })), "{made:?}");
    let lie = paula
        .merge(&format!("{OBJECTS}/reviewers/status"), &json!({"status": {}}))
        .await;
    ensure!(matches!(&lie, Err(Error::Refused { status: 403, .. })), "{lie:?}");
    Ok(())
}

/// Waits until an object's conditions have these reasons: that of `Accepted`, and that of `InForce`.
async fn says(api: &Api, path: &str, reasons: [&str; 2]) -> Result<()> {
    let mut seen = String::new();
    let waiting = until("the status of the object", async || {
        let object = api.read(path).await?;
        let found = ["Accepted", "InForce"].map(|kind| condition(&object, kind));
        let current = |one: &Value| one["observedGeneration"] == object["metadata"]["generation"];
        seen = object["status"].to_string();
        let as_wanted = found
            .iter()
            .zip(reasons)
            .all(|(one, reason)| one["reason"] == reason && current(one));
        Ok(as_wanted.then_some(()))
    });
    waiting.await.with_context(|| format!("{reasons:?}: {seen}"))
}

fn condition(object: &Value, kind: &str) -> Value {
    let mut all = object["status"]["conditions"].as_array().into_iter().flatten();
    all.find(|one| one["type"] == kind).cloned().unwrap_or_default()
}
