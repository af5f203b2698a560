//! `deploy/vault/setup.sh`: made from the steps, and run against a `vault` that writes down what it is asked.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::{Map, Value, json};

use super::{
    super::{GatewayLogin, Kind, Names, Needs, Step, step::accessor_of, steps},
    deploy::{Marked, Of, When, committed, marked, parameters, sorted},
    needs, people,
};

#[test]
fn the_script_is_what_the_steps_say() {
    committed("setup.sh", &script());
}

fn script() -> String {
    let mut text = HEAD.to_owned();
    for parameter in parameters() {
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
    for parameter in parameters().filter(|one| one.kind != Of::Pem && one.name != "login_mount") {
        let name = parameter.name.to_uppercase();
        // The dollar of a quoted default would be the shell's.
        assert!(!parameter.default.contains(['$', '"', '`']));
        writeln!(text, "{name}=${{{name}:-{}}}", quoted(parameter.default)).unwrap();
    }
    text.push_str(FUNCTIONS);
    let mut open = When::Always;
    for one in marked() {
        if one.when != open {
            text.push_str(if open == When::Always { "" } else { "fi\n" });
            open = one.when;
            let condition = match open {
                When::Always => None,
                When::Login(method) => Some(format!("\nif [ \"$LOGIN\" = {method} ]; then\n")),
                When::SignAs(whom) => Some(format!("\nif [ \"$SIGN_AS\" = {whom} ]; then\n")),
            };
            text.push_str(&condition.unwrap_or_default());
        }
        text.push_str(&written(&one));
    }
    text.push_str(if open == When::Always { "" } else { "fi\n" });
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
    let before = if one.when == When::Always { "\n" } else { "" };
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
    let lines: Vec<String> = sorted(body)
        .into_iter()
        .map(|(name, value)| format!("  \"{name}\": {}", filled(&value.to_string())))
        .collect();
    writeln!(text, "{}\n}}\nEOF", lines.join(",\n")).unwrap();
    if body
        .values()
        .any(|value| value.to_string().contains(&people_accessor()))
    {
        let read = "accessor=$(vault read -field=accessor \"sys/auth/$USER_LOGIN_MOUNT\")\n";
        text.insert_str(before.len(), read);
    }
    text
}

fn people_accessor() -> String {
    accessor_of("@user-login-mount@")
}

fn filled(text: &str) -> String {
    assert!(
        !text.contains(['$', '`']) && !text.contains("\\\\"),
        "the shell would read this: {text}"
    );
    let mut text = text.replace(&people_accessor(), "$accessor");
    for parameter in parameters() {
        let name = match parameter.kind {
            Of::Pem => "$issuer_ca".to_owned(),
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
#   VAULT_ADDR=… VAULT_TOKEN=… LOGIN=kubernetes SIGN_AS=gateway deploy/vault/setup.sh
#
# LOGIN is how the gateway logs in (kubernetes, approle, jwt, token-file), SIGN_AS as whom sessions are signed (gateway, user).
# A second run changes nothing. It removes nothing and never touches a CA's key that is there. What else may be set:
#
"#;

const BEFORE: &str = r#"set -euo pipefail

LOGIN=${LOGIN:-kubernetes}
SIGN_AS=${SIGN_AS:-gateway}
case $LOGIN in kubernetes | approle | jwt | token-file) ;; *) echo "LOGIN: kubernetes, approle, jwt or token-file" >&2; exit 64 ;; esac
case $SIGN_AS in gateway | user) ;; *) echo "SIGN_AS: gateway or user" >&2; exit 64 ;; esac
LOGIN_MOUNT=${LOGIN_MOUNT:-$LOGIN}
"#;

const FUNCTIONS: &str = r#"issuer_ca=
if [ -n "${ISSUER_CA_FILE:-}" ]; then
  issuer_ca=$(awk '{ printf "%s\\n", $0 }' "$ISSUER_CA_FILE")
fi
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
  "read -field=accessor") [ -e "$STUB/$(name "$3")" ] && echo auth_jwt_1 ;;
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

    fn run(&self, set: &[(&str, &str)]) -> Output {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/vault/setup.sh");
        let _ = fs::remove_file(self.folder.path().join("held.calls"));
        Command::new("bash")
            .arg(script)
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
        super::super::plan::name_accessor(&mut step.body, "jwt", "auth_jwt_1");
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
        for people in [None, Some(people())] {
            let needs = Needs {
                login: login.clone(),
                user_login: people,
                hosts: Names::Any,
                ..needs()
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
            let output = stage.run(&set);
            assert!(output.status.success(), "{output:?}");
            let (held, due) = (stage.held(), due(&needs));
            for (path, body) in &due {
                assert_eq!(held.get(path), Some(body), "{method} {sign_as} {path}");
            }
            assert_eq!(held.len(), due.len(), "{:?}", held.keys());

            let again = stage.run(&set);
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
    let output = stage.run(&user);
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
        assert_eq!(stage.run(&set).status.code(), Some(64), "{set:?}");
    }
}

#[test]
fn any_login_is_any_principal_in_the_policy() {
    let stage = Stage::new();
    let output = stage.run(&[("LOGIN", "approle"), ("LOGINS", "*"), ("HOSTS", "devenv-0")]);
    assert!(output.status.success(), "{output:?}");
    let any = Needs {
        logins: Names::Any,
        ..needs()
    };
    assert_eq!(stage.held(), due(&any));
}
