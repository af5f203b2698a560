//! Where an object lives in the API, by its kind.

use serde_json::Value;

use super::super::Error;
use super::Api;

/// The path of an object, as the API server tells of its kind: custom ones are found like the built-in.
pub(super) async fn path_of(api: &Api, object: &Value) -> Result<String, Error> {
    let lacks = |what| Error::Answer {
        what: "an object".to_owned(),
        lacks: what,
    };
    let version = object["apiVersion"].as_str().ok_or_else(|| lacks("apiVersion"))?;
    let kind = object["kind"].as_str().ok_or_else(|| lacks("kind"))?;
    let name = object["metadata"]["name"].as_str().ok_or_else(|| lacks("a name"))?;
    let group = if version.contains('/') {
        format!("/apis/{version}")
    } else {
        format!("/api/{version}")
    };
    let known = api.read(&group).await?;
    let known = known["resources"].as_array().map(Vec::as_slice).unwrap_or_default();
    // Sub-resources, such as `pods/status`, are of the same kind.
    let is_it = |one: &&Value| one["kind"] == kind && one["name"].as_str().is_some_and(|name| !name.contains('/'));
    let Some(found) = known.iter().find(is_it) else {
        return Err(Error::Answer {
            what: format!("{group} as to {kind}"),
            lacks: "such a kind",
        });
    };
    let plural = found["name"].as_str().unwrap_or_default();
    if found["namespaced"] != true {
        return Ok(format!("{group}/{plural}/{name}"));
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    Ok(format!("{group}/namespaces/{namespace}/{plural}/{name}"))
}
