//! `deploy/vault/setup-*.sh`, one for each layout: made from the steps, and run against a `vault` that writes down what it is
//! asked.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use serde_json::{Map, Value, json};

use super::{
    super::{GatewayLogin, Kind, Names, Needs, Step, step::accessor_of, steps},
    at_vault,
    deploy::{CHOICES, Choice, Marked, OF_AGENTS, Of, Parameter, When, committed, marked, parameters, sorted},
    needs, people,
};
use crate::vault::PodLogin;

/// Who has host certificates signed: what tells the scripts apart, and stands in their names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    HostsByGateway,
    HostsByAgents,
}

impl Layout {
    const fn file(self) -> &'static str {
        match self {
            Self::HostsByGateway => "setup-hosts-by-gateway.sh",
            Self::HostsByAgents => "setup-hosts-by-agents.sh",
        }
    }

    /// The value of the choice `host_certificates`.
    const fn hosts(self) -> &'static str {
        match self {
            Self::HostsByGateway => "gateway",
            Self::HostsByAgents => "agents",
        }
    }

    /// What people choose there.
    fn parameters(self) -> impl Iterator<Item = &'static Parameter> {
        parameters().filter(move |one| self == Self::HostsByAgents || !one.name.starts_with("agent_"))
    }

    /// The choices that are left there.
    fn choices(self) -> impl Iterator<Item = &'static Choice> {
        CHOICES.iter().filter(move |one| match one.name {
            HOSTS => false,
            "agent_method" => self == Self::HostsByAgents,
            _ => true,
        })
    }

    /// The steps that are done there, and on which of the choices that are left they depend.
    fn steps(self) -> Vec<Marked> {
        let mut all = marked();
        all.retain(|one| one.when.of(HOSTS).is_none_or(|whom| whom == self.hosts()));
        for one in &mut all {
            one.when.settle(HOSTS);
        }
        // Everything of one login together: one condition for all of it.
        let of_login = |one: &Marked| {
            matches!(
                one.step.kind,
                Kind::Auth | Kind::AuthConfig | Kind::AuthCluster | Kind::AuthRole
            )
        };
        let first = |place: usize| {
            let same = |one: &Marked| of_login(one) && one.when == all[place].when;
            all.iter()
                .position(same)
                .filter(|_| of_login(&all[place]))
                .unwrap_or(place)
        };
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|place| first(*place));
        let mut all: Vec<Option<Marked>> = all.into_iter().map(Some).collect();
        order.into_iter().filter_map(|place| all[place].take()).collect()
    }
}

const HOSTS: &str = "host_certificates";

#[test]
fn the_scripts_are_what_the_steps_say() {
    for layout in [Layout::HostsByGateway, Layout::HostsByAgents] {
        committed(layout.file(), &script(layout));
    }
}

fn script(layout: Layout) -> String {
    let (head, checks) = match layout {
        Layout::HostsByGateway => (HEAD_GATEWAY, ""),
        Layout::HostsByAgents => (HEAD_AGENTS, CHECKS_AGENTS),
    };
    let mut text = format!("{HEAD}{head}#\n# What else may be set:\n#\n");
    for parameter in layout.parameters() {
        let name = parameter.name.to_uppercase();
        let list = if parameter.kind == Of::Names {
            " (commas between them)"
        } else {
            ""
        };
        let file = if parameter.kind == Of::Pem { "_FILE" } else { "" };
        writeln!(text, "#   {:<18} {}{list}", format!("{name}{file}"), parameter.says).unwrap();
    }
    text.push_str(BEFORE);
    text.push_str(&choices(layout));
    text.push_str("LOGIN_MOUNT=${LOGIN_MOUNT:-$LOGIN}\n");
    for parameter in layout
        .parameters()
        .filter(|one| one.kind != Of::Pem && one.name != "login_mount")
    {
        let name = parameter.name.to_uppercase();
        // The dollar of a quoted default would be the shell's.
        assert!(!parameter.default.contains(['$', '"', '`']));
        let default = match (parameter.name, layout) {
            ("host_life", Layout::HostsByAgents) => OF_AGENTS.to_string(),
            _ => quoted(parameter.default),
        };
        writeln!(text, "{name}=${{{name}:-{default}}}").unwrap();
    }
    text.push_str(CHECKS);
    text.push_str(checks);
    text.push_str(FUNCTIONS);
    let mut open = When::default();
    for one in layout.steps() {
        if one.when != open {
            text.push_str(if open.is_always() { "" } else { "fi\n" });
            open = one.when.clone();
            let conditions: Vec<String> = open
                .conditions()
                .map(|(choice, value)| format!("[ \"${}\" = {value} ]", choice.to_uppercase()))
                .collect();
            if !conditions.is_empty() {
                writeln!(text, "\nif {}; then", conditions.join(" && ")).unwrap();
            }
        }
        text.push_str(&written(&one));
    }
    text.push_str(if open.is_always() { "" } else { "fi\n" });
    text
}

/// The choices: their defaults, and what they may be.
fn choices(layout: Layout) -> String {
    let mut text = String::new();
    for Choice { name, values, .. } in layout.choices() {
        let name = name.to_uppercase();
        writeln!(text, "{name}=${{{name}:-{}}}", values[0]).unwrap();
        let said = match values {
            [all @ .., last] if all.len() > 1 => format!("{} or {last}", all.join(", ")),
            _ => values.join(" or "),
        };
        writeln!(
            text,
            "case ${name} in {}) ;; *) echo \"{name}: {said}\" >&2; exit 64 ;; esac",
            values.join(" | ")
        )
        .unwrap();
    }
    text
}

fn quoted(text: &str) -> String {
    if text.contains('*') {
        format!("'{text}'")
    } else {
        text.to_owned()
    }
}

/// One step: what it is for, then what is done.
fn written(one: &Marked) -> String {
    let Step { kind, path, what, body } = &one.step;
    let path = filled(path);
    let before = if one.when.is_always() { "\n" } else { "" };
    if *kind == Kind::Policy {
        let name = path.trim_start_matches("sys/policies/acl/");
        let text = filled(body["policy"].as_str().unwrap()).replace("[\"$LOGINS\"]", "[$principals]");
        return format!("{before}# {what}\npolicy \"{name}\" <<EOF\n{}\nEOF\n", text.trim_end());
    }
    let verb = match kind {
        Kind::Engine | Kind::Auth | Kind::CaKey | Kind::AuthCluster => "once",
        Kind::Tuning | Kind::AuthConfig => "ours",
        _ => "put",
    };
    let mut text = format!("{before}# {what}\n{verb} \"{path}\" <<EOF\n{{\n");
    let fields = sorted(body)
        .into_iter()
        .map(|(name, value)| format!("\"{name}\": {}", filled(&value.to_string())));
    writeln!(text, "{}\n}}\nEOF", folded(fields)).unwrap();
    for mount in ["user-login-mount", "agent-mount"] {
        let accessor = accessor_of(&format!("@{mount}@"));
        if body.values().any(|value| value.to_string().contains(&accessor)) {
            let mount = mount.to_uppercase().replace('-', "_");
            let read = format!("accessor=$(vault read -field=accessor \"sys/auth/${mount}\")\n");
            text.insert_str(before.len(), &read);
        }
    }
    text
}

/// Fields with commas between them, as many on a line as there is room for.
fn folded(fields: impl Iterator<Item = String>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for field in fields {
        match lines.last_mut() {
            Some(line) if line.len() + field.len() + 2 < WIDTH => {
                line.push_str(", ");
                line.push_str(&field);
            }
            _ => lines.push(format!("  {field}")),
        }
    }
    lines.join(",\n")
}

/// Of a line of fields, in characters.
const WIDTH: usize = 120;

fn filled(text: &str) -> String {
    assert!(
        !text.contains(['$', '`']) && !text.contains("\\\\"),
        "the shell would read this: {text}"
    );
    let mut text = text.replace(&accessor_of("@user-login-mount@"), "$accessor");
    text = text.replace(&accessor_of("@agent-mount@"), "$accessor");
    text = text.replace("[\"@agent-namespaces@\"]", "[$namespaces]");
    for parameter in parameters() {
        let name = match parameter.kind {
            Of::Pem => format!("${}", parameter.name),
            _ => format!("${}", parameter.name.to_uppercase()),
        };
        text = text.replace(parameter.mark, &name);
    }
    text
}

const HEAD: &str = r#"#!/usr/bin/env bash
# Sets Vault up for a Doorward gateway. `doorward-gateway vault apply` does the same from gateway.toml, and shows first what
# would change; this is for those who would rather run Vault's own program. Both are made from one source: change neither here.
#
# LOGIN is how the gateway logs in (kubernetes, approle, jwt, token-file), SIGN_AS as whom sessions are signed (gateway, user).
# A second run changes nothing. It removes nothing and never touches a CA's key that is there.
"#;

const HEAD_GATEWAY: &str = r#"# The gateway has host certificates signed; where agents have theirs signed themselves, it is setup-hosts-by-agents.sh.
#
#   VAULT_ADDR=… VAULT_TOKEN=… LOGIN=kubernetes SIGN_AS=gateway deploy/vault/setup-hosts-by-gateway.sh
"#;

const HEAD_AGENTS: &str = r#"# Agents have their host certificates signed themselves, and the gateway has no right to; otherwise it is
# setup-hosts-by-gateway.sh. AGENT_METHOD is how Vault knows agents: jwt binds name and uid of the pod; kubernetes the service
# account alone, which is safe where each workspace has one of its own, called as the workspace.
#
#   VAULT_ADDR=… VAULT_TOKEN=… LOGIN=kubernetes SIGN_AS=gateway AGENT_METHOD=jwt deploy/vault/setup-hosts-by-agents.sh
"#;

const BEFORE: &str = r#"set -euo pipefail

"#;

const CHECKS: &str = r#"pem() { [ -z "$1" ] || awk '{ printf "%s\\n", $0 }' "$1"; }
issuer_ca=$(pem "${ISSUER_CA_FILE:-}")
if [ "$SIGN_AS" = user ] && [ -z "$ISSUER" ]; then
  echo "ISSUER is needed with SIGN_AS=user" >&2
  exit 64
fi
if [ "$LOGIN" = jwt ] && { [ -z "$LOGIN_ISSUER" ] || [ -z "$LOGIN_SUBJECT" ]; }; then
  echo "LOGIN_ISSUER and LOGIN_SUBJECT are needed with LOGIN=jwt" >&2
  exit 64
fi
# The same names as a list; an empty one allows any.
principals=\"${LOGINS//,/\", \"}\"
[ "$LOGINS" != '*' ] || principals=
"#;

const CHECKS_AGENTS: &str = r#"agent_cluster_ca=$(pem "${AGENT_CLUSTER_CA_FILE:-}")
namespaces=\"${AGENT_NAMESPACES//,/\", \"}\"
# Whoever may log in as an agent must be no one else to Vault, and pods of every namespace no agents.
for other in "$LOGIN_ROLE" "$USER_LOGIN_ROLE"; do
  if [ "$AGENT_ROLE" = "$other" ]; then echo "AGENT_ROLE: $other is somebody else's" >&2; exit 64; fi
done
for other in "$LOGIN_MOUNT" "$USER_LOGIN_MOUNT"; do
  if [ "$AGENT_MOUNT" = "$other" ]; then echo "AGENT_MOUNT: $other is somebody else's" >&2; exit 64; fi
done
case $AGENT_NAMESPACES in *'*'*) echo "AGENT_NAMESPACES: name each" >&2; exit 64 ;; esac
"#;

const FUNCTIONS: &str = r#"
there() { vault read "$1" >/dev/null 2>&1; }
# put PATH: writes the JSON on stdin.
put() { vault write "$1" - >/dev/null && echo "written: $1"; }
# once PATH: the same, only where nothing is yet.
once() {
  if there "$1"; then
    cat >/dev/null
    echo "there:   $1"
  else
    put "$1"
  fi
}
# ours PATH: the same, only at a mount that was made for Doorward: on another one others live.
ours() {
  local mount=${1%/tune}
  case $1 in auth/*) mount=sys/${1%/config} ;; esac
  case $(vault read -field=description "$mount") in
    Doorward:*) put "$1" ;;
    *)
      cat >/dev/null
      echo "left:    $1 belongs to somebody else; see that it fits" >&2
      ;;
  esac
}
policy() { vault policy write "$1" - >/dev/null && echo "written: policy $1"; }
"#;

/// Writes down what is written, and says of what was written before that it is there.
const STUB: &str = r#"#!/usr/bin/env bash
set -euo pipefail
name() { printf %s "${1//\//%}"; }
case "$1 $2" in
  "read -field=description") [ -e "$STUB/$(name "$3")" ] && echo "${MOUNTED_FOR:-Doorward: test}" ;;
  "read -field=accessor") [ -e "$STUB/$(name "$3")" ] && echo "auth_${3##*/}_1" ;;
  "read "*) [ -e "$STUB/$(name "$2")" ] ;;
  "write "*) [ "$3" = - ] && cat >"$STUB/$(name "$2")" && echo "$2" >>"$STUB.calls" ;;
  "policy write") [ "$4" = - ] && cat >"$STUB/$(name "sys/policies/acl/$3")" && echo "sys/policies/acl/$3" >>"$STUB.calls" ;;
  *) exit 99 ;;
esac
"#;

struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stub = folder.path().join("vault");
        fs::write(&stub, STUB).unwrap();
        fs::set_permissions(&stub, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("held")).unwrap();
        Self { folder }
    }

    fn run(&self, layout: Layout, set: &[(&str, &str)]) -> Output {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/vault");
        let _ = fs::remove_file(self.folder.path().join("held.calls"));
        Command::new("bash")
            .arg(folder.join(layout.file()))
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.folder.path().display()))
            .env("STUB", self.folder.path().join("held"))
            .envs(set.iter().copied())
            .output()
            .unwrap()
    }

    /// What is held, by path.
    fn held(&self) -> BTreeMap<String, Map<String, Value>> {
        let files = fs::read_dir(self.folder.path().join("held")).unwrap();
        files
            .map(|file| {
                let file = file.unwrap();
                let path = file.file_name().into_string().unwrap().replace('%', "/");
                let text = fs::read_to_string(file.path()).unwrap();
                let body = match path.starts_with("sys/policies/") {
                    true => json!({ "policy": text }),
                    false => serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}")),
                };
                (path, body.as_object().unwrap().clone())
            })
            .collect()
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.folder.path().join("held.calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }
}

fn due(needs: &Needs) -> BTreeMap<String, Map<String, Value>> {
    let named = |mut step: Step| {
        for mount in ["jwt", "doorward-agents"] {
            super::super::plan::name_accessor(&mut step.body, mount, &format!("auth_{mount}_1"));
        }
        (step.path, step.body)
    };
    steps(needs).into_iter().map(named).collect()
}

/// Every way of logging in and signing: the script asks Vault for exactly what the plan writes, and a second time makes
/// nothing that is there.
#[test]
fn the_script_writes_what_the_plan_writes() {
    let role = || "doorward-gateway".to_owned();
    let logins = [
        GatewayLogin::Kubernetes {
            mount: "kubernetes".into(),
            role: role(),
            service_account: "gw".into(),
            namespace: "ns".into(),
            api_server: "https://10.0.0.1".into(),
        },
        GatewayLogin::AppRole {
            mount: "approle".into(),
            role: role(),
        },
        GatewayLogin::Jwt {
            mount: "gateway-jwt".into(),
            role: role(),
            issuer: "https://cluster.example".into(),
            subject: "system:serviceaccount:ns:gw".into(),
            audience: "vault".into(),
        },
        GatewayLogin::TokenFile { policy: role() },
    ];
    for (login, method) in logins.into_iter().zip(["kubernetes", "approle", "jwt", "token-file"]) {
        let agents = [None, Some(PodLogin::Jwt), Some(PodLogin::Kubernetes)];
        for (people, agents) in agents
            .into_iter()
            .flat_map(|agents| [(None, agents), (Some(people()), agents)])
        {
            let needs = Needs {
                login: login.clone(),
                user_login: people,
                hosts: Names::Any,
                host_life: Duration::from_secs(if agents.is_some() { OF_AGENTS } else { 30 * 86_400 }),
                ..agents.map_or_else(needs, at_vault)
            };
            let stage = Stage::new();
            let sign_as = if needs.user_login.is_some() { "user" } else { "gateway" };
            let mut set = vec![
                ("LOGIN", method),
                ("SIGN_AS", sign_as),
                ("LOGINS", "node,operator"),
                ("SERVICE_ACCOUNT", "gw"),
                ("NAMESPACE", "ns"),
                ("API_SERVER", "https://10.0.0.1"),
                ("LOGIN_ISSUER", "https://cluster.example"),
                ("LOGIN_SUBJECT", "system:serviceaccount:ns:gw"),
                ("ISSUER", "https://issuer.example"),
            ];
            if method == "jwt" {
                set.push(("LOGIN_MOUNT", "gateway-jwt"));
            }
            if agents == Some(PodLogin::Kubernetes) {
                set.push(("AGENT_METHOD", "kubernetes"));
            }
            let layout = agents.map_or(Layout::HostsByGateway, |_| Layout::HostsByAgents);
            let output = stage.run(layout, &set);
            assert!(output.status.success(), "{output:?}");
            let (held, due) = (stage.held(), due(&needs));
            for (path, body) in &due {
                assert_eq!(held.get(path), Some(body), "{method} {sign_as} {path}");
            }
            assert_eq!(held.len(), due.len(), "{:?}", held.keys());

            let again = stage.run(layout, &set);
            assert!(again.status.success(), "{again:?}");
            let calls = stage.calls();
            for once in ["sys/mounts/ssh", "ssh/config/ca", "ssh-host/config/ca", "sys/auth/jwt"] {
                assert!(!calls.iter().any(|call| call == once), "{once} was written again");
            }
            assert_eq!(stage.held(), held);
        }
    }
}

#[test]
fn the_script_leaves_to_others_what_is_theirs_and_refuses_half_a_choice() {
    let stage = Stage::new();
    let user = [
        ("SIGN_AS", "user"),
        ("ISSUER", "https://issuer.example"),
        ("MOUNTED_FOR", "payroll"),
    ];
    let output = stage.run(Layout::HostsByGateway, &user);
    assert!(output.status.success(), "{output:?}");
    assert!(!stage.held().contains_key("auth/jwt/config"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("auth/jwt/config belongs to somebody else"), "{said}");
    for set in [
        [("SIGN_AS", "user"), ("ISSUER", "")],
        [("SIGN_AS", "nobody"), ("ISSUER", "")],
        [("LOGIN", "jwt"), ("LOGIN_ISSUER", "")],
        [("LOGIN", "guess"), ("LOGIN_ISSUER", "")],
    ] {
        for layout in [Layout::HostsByGateway, Layout::HostsByAgents] {
            assert_eq!(stage.run(layout, &set).status.code(), Some(64), "{set:?}");
        }
    }
    for set in [
        ("AGENT_METHOD", "guess"),
        ("AGENT_ROLE", "doorward-gateway"),
        ("AGENT_MOUNT", "kubernetes"),
        ("AGENT_NAMESPACES", "*"),
    ] {
        let refused = stage.run(Layout::HostsByAgents, &[set]);
        assert_eq!(refused.status.code(), Some(64), "{set:?}");
    }
}

#[test]
fn any_login_is_any_principal_in_the_policy() {
    let stage = Stage::new();
    let output = stage.run(
        Layout::HostsByGateway,
        &[("LOGIN", "approle"), ("LOGINS", "*"), ("HOSTS", "devenv-0")],
    );
    assert!(output.status.success(), "{output:?}");
    let any = Needs {
        logins: Names::Any,
        ..needs()
    };
    assert_eq!(stage.held(), due(&any));
}
