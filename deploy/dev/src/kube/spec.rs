//! What a pod says of its containers: which of them are run, with which arguments and variables.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::Value;

use crate::parts::Error;
use crate::parts::kube::Api;

/// A pod as the API server has it.
#[derive(Clone, Debug)]
pub(super) struct Pod(pub Value);

impl Pod {
    pub(super) fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub(super) fn namespace(&self) -> &str {
        self.0["metadata"]["namespace"].as_str().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &str {
        self.0["metadata"]["uid"].as_str().unwrap_or_default()
    }

    pub(super) fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace(), self.name())
    }

    pub(super) fn account(&self) -> &str {
        self.0["spec"]["serviceAccountName"].as_str().unwrap_or("default")
    }

    pub(super) fn node(&self) -> Option<&str> {
        self.0["spec"]["nodeName"].as_str()
    }

    pub(super) fn is_being_deleted(&self) -> bool {
        self.0["metadata"]["deletionTimestamp"].is_string()
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.0["metadata"]["annotations"][name].as_str()
    }

    pub(super) fn containers(&self) -> &[Value] {
        list(&self.0["spec"]["containers"])
    }

    pub(super) fn volumes(&self) -> &[Value] {
        list(&self.0["spec"]["volumes"])
    }

    /// The containers that are run, and the program's arguments in each.
    pub(super) fn agents(&self) -> impl Iterator<Item = (&Value, Vec<&str>)> {
        self.containers().iter().filter_map(|container| {
            let words = |field: &str| list(&container[field]).iter().filter_map(Value::as_str);
            let command: Vec<&str> = words("command").collect();
            if let [shell, "-c", script] = command[..]
                && name_of(shell) == "sh"
            {
                return Some((container, started_by(script)?));
            }
            let image = container["image"].as_str().unwrap_or_default();
            let program = command.first().copied().unwrap_or(image);
            let is_agent = name_of(program) == AGENT;
            // The container's own command, around which the agent is, is in an image that is not here.
            let own = |word: &&str| *word != "--";
            let words = command.into_iter().skip(1).chain(words("args"));
            is_agent.then(|| (container, words.take_while(own).collect()))
        })
    }

    /// The port of the agent: the one that is called so, or the only one.
    pub(super) fn port_of(container: &Value) -> Option<u16> {
        let ports = list(&container["ports"]);
        let named = ports.iter().find(|port| port["name"] == "doorward");
        let port = named.or(ports.first())?["containerPort"].as_u64()?;
        u16::try_from(port).ok()
    }

    /// A field by the downward API's path, such as `metadata.labels['app']`.
    pub(super) fn field(&self, path: &str, address: Ipv4Addr) -> Option<String> {
        if matches!(path, "status.podIP" | "status.podIPs") {
            return Some(address.to_string());
        }
        if path == "status.hostIP" {
            return Some(Ipv4Addr::LOCALHOST.to_string());
        }
        let (path, key) = match path.split_once('[') {
            Some((path, key)) => (path, Some(key.trim_matches(|c| "[]'\"".contains(c)))),
            None => (path, None),
        };
        let found = path.split('.').try_fold(&self.0, |value, name| value.get(name))?;
        key.map_or(Some(found), |key| found.get(key))?
            .as_str()
            .map(str::to_owned)
    }

    /// A container's variables, later ones over earlier ones.
    pub(super) async fn variables(
        &self,
        api: &Api,
        container: &Value,
        address: Ipv4Addr,
    ) -> Result<BTreeMap<String, String>, Error> {
        let mut variables = BTreeMap::new();
        for from in list(&container["envFrom"]) {
            let prefix = from["prefix"].as_str().unwrap_or_default();
            for (kind, field) in KINDS {
                let reference = &from[format!("{field}Ref")];
                if let Some(name) = reference["name"].as_str() {
                    let content = match self.content(api, kind, name).await {
                        Err(Error::Refused { status: 404, .. }) if reference["optional"] == true => continue,
                        content => content?,
                    };
                    for (key, value) in content {
                        variables.insert(format!("{prefix}{key}"), value);
                    }
                }
            }
        }
        for variable in list(&container["env"]) {
            let name = variable["name"].as_str().unwrap_or_default().to_owned();
            let value = match variable["value"].as_str() {
                Some(value) => Some(expand(value, &variables)),
                None => self.value_from(api, &variable["valueFrom"], address).await?,
            };
            variables.insert(name, value.unwrap_or_default());
        }
        Ok(variables)
    }

    async fn value_from(&self, api: &Api, from: &Value, address: Ipv4Addr) -> Result<Option<String>, Error> {
        if let Some(path) = from["fieldRef"]["fieldPath"].as_str() {
            return Ok(self.field(path, address));
        }
        for (kind, field) in KINDS {
            let reference = &from[format!("{field}KeyRef")];
            if let Some(name) = reference["name"].as_str() {
                let mut content = self.content(api, kind, name).await?;
                return Ok(content.remove(reference["key"].as_str().unwrap_or_default()));
            }
        }
        Ok(None)
    }

    /// What a ConfigMap or Secret of the pod's namespace holds.
    pub(super) async fn content(&self, api: &Api, kind: &str, name: &str) -> Result<BTreeMap<String, String>, Error> {
        use base64::Engine as _;
        let path = format!("/api/v1/namespaces/{}/{kind}/{name}", self.namespace());
        let object = api.read(&path).await?;
        let data = object["data"].as_object();
        let entries = data.into_iter().flatten().map(|(key, value)| {
            let value = value.as_str().unwrap_or_default();
            let value = match kind {
                SECRETS => {
                    let bytes = base64::engine::general_purpose::STANDARD
                        .decode(value)
                        .unwrap_or_default();
                    String::from_utf8_lossy(&bytes).into_owned()
                }
                _ => value.to_owned(),
            };
            (key.clone(), value)
        });
        Ok(entries.collect())
    }
}

/// The arguments of the agent that a shell starts beside what it becomes: `/doorward/doorward-agent run & exec …`.
fn started_by(script: &str) -> Option<Vec<&str>> {
    let mut words = script.split_whitespace();
    words.find(|word| name_of(word) == AGENT)?;
    Some(words.take_while(|word| !matches!(*word, "&" | "&&" | ";")).collect())
}

/// The name of a program's file, or of an image without its tag.
fn name_of(path: &str) -> &str {
    let last = path.rsplit('/').next().unwrap_or_default();
    last.split([':', '@']).next().unwrap_or_default()
}

/// The elements of a list, or none.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Replaces `$(NAME)` by variables that were set before.
pub(super) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    variables.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("$({name})"), value)
    })
}

const AGENT: &str = "doorward-agent";
pub(super) const CONFIG_MAPS: &str = "configmaps";
pub(super) const SECRETS: &str = "secrets";
/// The collection, and how the fields that refer to it begin.
const KINDS: [(&str, &str); 2] = [(CONFIG_MAPS, "configMap"), (SECRETS, "secret")];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn agents_are_told_from_other_containers() {
        let pod = Pod(json!({"spec": {"containers": [
            {"image": "example.test/devenv:1", "command": ["sleep", "inf"]},
            {"image": "example.test/doorward-agent:0.1", "args": ["run"]},
            {"image": "x", "command": ["/opt/doorward-agent", "run"], "args": ["--config", "f"]},
            {"image": "x", "command": ["/bin/sh", "-c", "/d/doorward-agent run --config g & exec sleep inf"]},
            {"image": "x", "command": ["sh", "-c", "exec sleep inf"]},
            {"image": "x", "command": ["/d/doorward-agent", "run", "--"], "args": ["sleep", "inf"]},
        ]}}));
        let found: Vec<Vec<&str>> = pod.agents().map(|(_, args)| args).collect();
        assert_eq!(
            found,
            [
                vec!["run"],
                vec!["run", "--config", "f"],
                vec!["run", "--config", "g"],
                vec!["run"]
            ]
        );
    }

    #[test]
    fn fields_are_found_by_their_paths() {
        let pod = Pod(json!({"metadata": {"name": "p", "labels": {"a.b/c": "d"}}}));
        let address = Ipv4Addr::new(127, 64, 0, 9);
        for (path, value) in [
            ("metadata.name", Some("p")),
            ("metadata.labels['a.b/c']", Some("d")),
            ("status.podIP", Some("127.64.0.9")),
            ("metadata.uid", None),
        ] {
            assert_eq!(pod.field(path, address).as_deref(), value, "{path}");
        }
    }
}
