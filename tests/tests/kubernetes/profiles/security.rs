//! Pod Security: the agent asks for nothing that the restricted standard forbids, and a pod of a platform that keeps to it is let in
//! with the agent in it.

use anyhow::{Context, Result, ensure};
use doorward_dev::parts::Error;
use doorward_dev::parts::kube::Api;
use serde_json::{Value, json};
use tests::parts::{Had, name_of, shared_cluster};

use super::super::PLACE;
use super::{PROFILES, objects, patch};

/// Platforms whose own containers keep to the standard.
const RESTRICTED: [&str; 2] = ["ambient", "workspaces"];

#[tokio::test]
async fn the_agent_keeps_to_the_restricted_pod_security_standard() -> Result<()> {
    let Had::Here(cluster) = shared_cluster(PLACE, name_of(&|| ())).await? else {
        return Ok(());
    };
    let namespace = "restricted";
    cluster.namespace(namespace).await?;
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let admin = cluster.admin();
    admin.merge(&format!("/api/v1/namespaces/{namespace}"), &label).await?;
    for profile in PROFILES {
        let pod = pod_of(profile)?;
        let refused = refused(admin, namespace, &pod).await.context(profile)?;
        if RESTRICTED.contains(&profile) {
            ensure!(refused.is_none(), "{profile}: {refused:?}");
        } else {
            // It is the platform's container that does not say what it does without, and nothing of ours.
            let refused = refused.with_context(|| format!("{profile} keeps to the standard: say so"))?;
            ensure!(refused.contains("restricted"), "{profile}: {refused}");
            ensure!(!refused.contains("doorward"), "{profile}: {refused}");
        }
        // What would be refused is: with root in the agent's containers the words name one of them.
        let mut worse = pod;
        let asked = json!({"runAsUser": 0, "runAsNonRoot": false});
        worse["spec"]["initContainers"]
            .as_array_mut()
            .and_then(|containers| containers.iter_mut().find(|one| one["name"] == "doorward-agent"))
            .context("no init container")?["securityContext"] = asked;
        let said = self::refused(admin, namespace, &worse).await?.unwrap_or_default();
        ensure!(said.contains("doorward-agent"), "{profile}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn the_gateways_own_objects_are_good_and_keep_to_the_restricted_standard() -> Result<()> {
    let Had::Here(cluster) = shared_cluster(PLACE, name_of(&|| ())).await? else {
        return Ok(());
    };
    let (namespace, admin) = ("restricted-gateway", cluster.admin());
    cluster.namespace(namespace).await?;
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    admin.merge(&format!("/api/v1/namespaces/{namespace}"), &label).await?;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kubernetes/gateway.yaml");
    let all: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(file)?)?;
    ensure!(all.len() == 5, "{} objects", all.len());
    for mut object in all {
        object["metadata"]["namespace"] = json!(namespace);
        let tried = admin.try_apply(&object).await;
        tried.with_context(|| object["kind"].to_string())?;
        // A slip of the pen is found by this.
        object["spec"]["replica"] = json!(1);
        let slip = admin.try_apply(&object).await;
        ensure!(slip.is_err(), "{} with what its kind does not have", object["kind"]);
        if object["kind"] == "StatefulSet" {
            let mut spec = object["spec"]["template"]["spec"].take();
            spec.as_object_mut().context("no spec")?.remove("serviceAccountName");
            spec["volumes"]
                .as_array_mut()
                .context("no volumes")?
                .push(json!({"name": "state", "emptyDir": {}}));
            ensure!(spec["terminationGracePeriodSeconds"] == 60, "{spec}");
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gateway"}, "spec": spec});
            let refused = refused(admin, namespace, &pod).await?;
            ensure!(refused.is_none(), "{refused:?}");
        }
    }
    Ok(())
}

/// The pod that the profile's platform would make, with the agent in it.
fn pod_of(profile: &str) -> Result<Value> {
    let snippet = objects(profile, "agent-snippet.yaml")?.swap_remove(0);
    let is_it =
        |object: &Value| object["kind"] == snippet["kind"] && object["metadata"]["name"] == snippet["metadata"]["name"];
    let mut object = objects(profile, "objects.yaml")?
        .into_iter()
        .find(is_it)
        .context("the snippet is for nothing that the platform has")?;
    patch(&mut object, &snippet);
    let claims = object["spec"].get("volumeClaimTemplates").cloned().unwrap_or_default();
    let mut spec = match object["kind"].as_str() {
        Some("Pod") => object["spec"].take(),
        _ => object["spec"]["template"]["spec"].take(),
    };
    // As the controller makes a pod of a set.
    for claim in claims.as_array().into_iter().flatten() {
        let name = &claim["metadata"]["name"];
        let volume = json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
        let volumes = spec["volumes"].as_array_mut().context("no volumes")?;
        volumes.push(volume);
    }
    let members = spec.as_object_mut().context("no spec")?;
    // The account of the test's namespace.
    members.remove("serviceAccountName");
    Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": profile}, "spec": spec}))
}

/// What the API server says against a pod, which it does not keep.
async fn refused(admin: &Api, namespace: &str, pod: &Value) -> Result<Option<String>> {
    let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict");
    match admin.create(&path, pod).await {
        Ok(_) => Ok(None),
        Err(Error::Refused { status: 403, said, .. }) => Ok(Some(said)),
        Err(error) => Err(error.into()),
    }
}
