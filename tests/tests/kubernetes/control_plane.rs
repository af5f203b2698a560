//! The cluster that the other tests stand on is a real one: it authorises, audits, reviews tokens, and can be hurt.

use anyhow::{Result, ensure};
use doorward_dev::parts::Error;
use doorward_dev::parts::kube::{Identity, TokenRequest};
use serde_json::json;
use tests::parts::{Had, name_of, own_cluster, shared_cluster};

use super::PLACE;

#[tokio::test]
async fn a_service_account_may_do_what_its_role_says_and_the_audit_log_tells() -> Result<()> {
    let Had::Here(cluster) = shared_cluster(PLACE, name_of(&|| ())).await? else {
        return Ok(());
    };
    let namespace = "rbac";
    cluster.namespace(namespace).await?;
    let admin = cluster.admin();
    let meta = json!({"name": "reader", "namespace": namespace});
    let subject = json!({"kind": "ServiceAccount", "name": "reader", "namespace": namespace});
    let rbac = "rbac.authorization.k8s.io";
    for object in [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": meta,
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": meta, "subjects": [subject],
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "reader"}}),
    ] {
        admin.apply(&object).await?;
    }
    let token = TokenRequest {
        namespace,
        account: "reader",
        audience: None,
        pod: None,
        seconds: 600,
    };
    let reader = admin.acting_as(Identity::Token(cluster.token(token).await?));
    let (pods, secrets) = (
        format!("/api/v1/namespaces/{namespace}/pods"),
        format!("/api/v1/namespaces/{namespace}/secrets"),
    );
    // The authoriser learns of a new binding by its own watch.
    let allowed = async || Ok(reader.read(&pods).await.ok());
    tests::until("the role is in force", allowed).await?;
    let refused = reader.read(&secrets).await;
    ensure!(
        matches!(refused, Err(Error::Refused { status: 403, .. })),
        "{refused:?}"
    );

    let me = format!("system:serviceaccount:{namespace}:reader");
    let seen = |resource: &str, code: u16| {
        Ok::<_, anyhow::Error>(cluster.audit()?.iter().any(|event| {
            event["user"]["username"] == me.as_str()
                && event["verb"] == "list"
                && event["objectRef"]["resource"] == resource
                && event["responseStatus"]["code"] == code
        }))
    };
    ensure!(seen("pods", 200)?, "the audit log lacks what was allowed");
    ensure!(seen("secrets", 403)?, "the audit log lacks what was refused");
    Ok(())
}

#[tokio::test]
async fn a_server_that_hangs_or_falls_comes_back_with_its_objects() -> Result<()> {
    let Had::Here(mut cluster) = own_cluster(PLACE, name_of(&|| ())).await? else {
        return Ok(());
    };
    let admin = cluster.admin().clone();
    cluster.namespace("kept").await?;
    let before = admin.read("/api/v1/namespaces").await?;
    let version = before["metadata"]["resourceVersion"].as_str().unwrap_or_default();

    cluster.pause_store().await;
    let unready = async || Ok(admin.read("/readyz").await.is_err().then_some(()));
    tests::until("not ready without a store", unready).await?;
    cluster.resume_store();
    tests::until("ready again", async || Ok(admin.read("/readyz").await.ok())).await?;

    cluster.kill_api().await;
    let gone = admin.read("/version").await;
    ensure!(matches!(gone, Err(Error::Unanswered { .. })), "{gone:?}");
    cluster.restart_api().await?;
    admin.read("/api/v1/namespaces/kept").await?;
    // A change after the watch's beginning is seen; the beginning itself may be forgotten, which is an event as well.
    let mut watch = admin.watch("/api/v1/namespaces", version).await?;
    cluster.namespace("new").await?;
    let first = watch.next().await;
    ensure!(first.is_some(), "the watch ended without a word");
    cluster.stop().await;
    Ok(())
}
