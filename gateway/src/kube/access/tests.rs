//! Objects as their authors may write them, good and absurd; what a real API server does is tested on a real one.

use std::{collections::BTreeSet, path::Path, time::SystemTime};

use serde_json::{Value, json};

use super::{
    definition,
    report::{conditions, due},
    shelf::{Kept, MOST_IN_FORCE, MOST_KNOWN, Objects, Seen},
    spec::Spec,
};
use crate::{
    kube::watch::Store as _,
    policy::{Policy, Roles},
};

fn good() -> Value {
    json!({
        "subjects": [
            {"kind": "User", "name": "alice"}, {"kind": "Email", "name": "bob@Example.com"}, {"kind": "Group", "name": "team"},
        ],
        "workspaces": {"names": ["devenv-0"], "selector": {
            "matchLabels": {"app": "devenv"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a"]}],
        }},
        "role": "developer",
        "allow": ["shell"],
        "longest": "8h",
        "recording": {"mode": "strict", "input": true},
        "expires": "2100-01-01T00:00:00Z",
    })
}

fn seen(name: &str, spec: &Value) -> Seen {
    seen_at(name, spec, 1)
}

fn seen_at(name: &str, spec: &Value, version: u32) -> Seen {
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "team", "uid": format!("uid-{name}"), "generation": 1,
            "resourceVersion": version.to_string(),
        },
        "spec": spec,
    }))
    .unwrap()
}

fn with(member: &str, value: Value) -> Value {
    let mut spec = good();
    spec[member] = value;
    spec
}

fn policy() -> Policy {
    let text = "[[role]]\nname = \"developer\"\ngrantable = true\nworkspaces = [\"*\"]\nallow = [\"shell\", \"exec\"]\n\
                longest = \"4h\"\n[[role]]\nname = \"theirs\"\ngrantable = true\nworkspaces = [\"*\"]\nallow = [\"shell\"]\n\
                lending = { namespaces = [\"theirs\"] }\n[[role]]\nname = \"admin\"\ngroups = [\"admins\"]\nworkspaces = [\"*\"]\nallow = [\"shell\"]\n";
    Policy::new(Roles::parse(Path::new("policy.toml"), text).unwrap())
}

/// What the conditions of an object say: each status and reason.
fn judged(spec: &Value) -> [(String, String); 2] {
    let objects = Objects::default();
    let (_, matters) = objects.put(seen("one", spec));
    assert!(matters);
    let kept: Vec<_> = objects.all();
    conditions(&kept[0], &policy(), SystemTime::now()).map(|one| (one.status, one.reason))
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn what_is_wrong_with_an_object_stands_in_its_conditions() {
    let accepted = |reason: &str| [pair("True", reason), pair("True", "InForce")];
    let refused = |reason: &str| [pair("False", reason), pair("False", "NotAccepted")];
    let many: Vec<Value> = (0..100_000)
        .map(|n| json!({"kind": "User", "name": format!("u{n}")}))
        .collect();
    let subject = |name: &str| json!([{"kind": "User", "name": name}]);
    assert_eq!(judged(&with("longest", json!("2h"))), accepted("Accepted"));
    assert_eq!(judged(&good()), accepted("Bounded"));
    assert_eq!(judged(&with("allow", json!(["shell", "pty"]))), accepted("Bounded"));
    // The role is one that may be lent elsewhere.
    assert_eq!(judged(&with("role", json!("theirs"))), refused("RoleNotGrantable"));
    for (spec, reason) in [
        (json!(null), "Malformed"),
        (json!({}), "Malformed"),
        (json!([1]), "Malformed"),
        (with("subjects", json!([])), "BadSubject"),
        (with("subjects", json!(many)), "BadSubject"),
        (with("subjects", subject("")), "BadSubject"),
        (with("subjects", subject(&"x".repeat(1 << 20))), "BadSubject"),
        (with("subjects", subject("bob\n")), "BadSubject"),
        (with("subjects", subject("bob\u{1b}[31m")), "BadSubject"),
        (with("subjects", subject("bob\u{202e}")), "BadSubject"),
        (with("subjects", subject("bo\u{200b}b")), "BadSubject"),
        (
            with("subjects", json!([{"kind": "ServiceAccount", "name": "a"}])),
            "BadSubject",
        ),
        (
            with("subjects", json!([{"kind": "Email", "name": "bob"}])),
            "BadSubject",
        ),
        (
            with("subjects", json!([{"kind": "User", "name": "a", "namespace": "other"}])),
            "Malformed",
        ),
        (with("workspaces", json!({})), "BadWorkspaces"),
        (with("workspaces", json!({"names": []})), "BadWorkspaces"),
        (with("workspaces", json!({"names": ["../devenv-0"]})), "BadWorkspaces"),
        (
            with(
                "workspaces",
                json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}),
            ),
            "BadSelector",
        ),
        (with("role", json!("")), "BadRole"),
        (with("role", json!("nobody")), "RoleNotGrantable"),
        (with("role", json!("admin")), "RoleNotGrantable"),
        // A look-alike is another name.
        (with("role", json!("d\u{435}veloper")), "RoleNotGrantable"),
        (with("allow", json!(["root"])), "BadTerms"),
        (with("allow", json!(vec!["shell"; 33])), "BadTerms"),
        (with("longest", json!("0h")), "BadTerms"),
        (with("longest", json!("-1h")), "BadTerms"),
        (with("longest", json!("99999999999999d")), "BadTerms"),
        (with("longest", json!("\u{661}h")), "BadTerms"),
        (with("recording", json!({"mode": "best-effort"})), "BadTerms"),
        (with("recording", json!({"output": false})), "Malformed"),
        (with("expires", json!("tomorrow")), "BadTerms"),
        (with("login", json!("root")), "Malformed"),
    ] {
        let shown: String = spec.to_string().chars().take(300).collect();
        assert_eq!(judged(&spec), refused(reason), "{shown}");
    }
    let over = judged(&with("expires", json!("2001-01-01T00:00:00Z")));
    assert_eq!(over, [pair("True", "Bounded"), pair("False", "Expired")]);
    let nothing = judged(&with("allow", json!(["agent-forwarding"])));
    assert_eq!(nothing, [pair("True", "Bounded"), pair("False", "LendsNothing")]);
}

#[test]
fn what_stands_there_is_not_written_again() {
    let objects = Objects::default();
    objects.put(seen("one", &good()));
    let (now, policy) = (SystemTime::now(), policy());
    let kept = objects.all().swap_remove(0);
    assert!(due(&kept, &policy, now).is_some());
    let mut stands = Kept::clone(&kept);
    stands.conditions = conditions(&kept, &policy, now).to_vec();
    assert!(due(&stands, &policy, now).is_none());
    stands.conditions[0].message.push('!');
    assert!(due(&stands, &policy, now).is_some(), "somebody else has written it");
    stands.going = true;
    assert!(due(&stands, &policy, now).is_none(), "one that goes is told nothing");
}

#[test]
fn a_namespace_that_is_full_harms_itself_alone_and_is_listed_anew_when_there_is_room() {
    let objects = Objects::default();
    let name = |n: usize| format!("o-{n:05}");
    let other = |name: &str| {
        let mut other = serde_json::to_value(json!({"metadata": {"name": name, "namespace": "other", "uid": "u",
            "resourceVersion": "1"}, "spec": good()}))
        .unwrap();
        other["metadata"]["generation"] = json!(1);
        serde_json::from_value::<Seen>(other).unwrap()
    };
    objects.put(other("mine"));
    for n in (0..MOST_KNOWN + 10).rev() {
        objects.put(seen(&name(n), &good()));
    }
    let in_force = || -> BTreeSet<String> {
        let all = objects.of("team").into_iter();
        all.filter(|one| one.spec.is_ok()).map(|one| one.name.clone()).collect()
    };
    let first: BTreeSet<String> = (0..MOST_IN_FORCE).map(name).collect();
    assert_eq!(in_force(), first, "the first by name, however they came");
    assert_eq!(objects.of("team").len(), MOST_KNOWN);
    assert!(objects.of("other")[0].spec.is_ok());
    let late = objects
        .of("team")
        .into_iter()
        .find(|one| one.name == name(MOST_IN_FORCE))
        .unwrap();
    let [accepted, _] = conditions(&late, &policy(), SystemTime::now());
    assert_eq!(
        (accepted.status.as_str(), accepted.reason.as_str()),
        ("False", "TooMany")
    );
    // One that goes makes room for one that was not read.
    assert!(!objects.is_short());
    objects.remove(seen(&name(3), &good()));
    assert!(objects.is_short());
    let mut listing = Default::default();
    for n in (0..MOST_IN_FORCE + 1).filter(|n| *n != 3) {
        objects.add(&mut listing, seen(&name(n), &good())).unwrap();
    }
    objects.replace(listing);
    assert!(!objects.is_short());
    assert!(in_force().contains(&name(MOST_IN_FORCE)));
    objects.remove(seen(&name(5), &good()));
    assert!(!objects.is_short(), "nobody waits for the place");
}

#[test]
fn a_version_matters_to_nobody_and_what_is_said_does() {
    let objects = Objects::default();
    assert!(objects.put(seen_at("one", &good(), 1)).1);
    let (version, matters) = objects.put(seen_at("one", &good(), 2));
    assert_eq!((version.as_str(), matters), ("2", false));
    assert!(objects.put(seen_at("one", &with("role", json!("other")), 3)).1);
    // Another object of the same name is not the one that was deleted before it came.
    let mut old = json!({"metadata": {"name": "one", "namespace": "team", "uid": "older", "resourceVersion": "4"}});
    old["spec"] = good();
    let (version, matters) = objects.remove(serde_json::from_value(old).unwrap());
    assert_eq!((version.as_str(), matters), ("4", false));
}

/// The members of a document that has everything are those of the schema, level by level.
#[test]
fn the_definition_names_what_is_read() {
    fn same(at: &str, schema: &Value, value: &Value) {
        match value {
            Value::Object(members) if schema.get("additionalProperties").is_none() => {
                let known: BTreeSet<&String> = schema["properties"].as_object().unwrap().keys().collect();
                assert_eq!(known, members.keys().collect::<BTreeSet<_>>(), "{at}");
                for (name, value) in members {
                    same(&format!("{at}.{name}"), &schema["properties"][name], value);
                }
            }
            Value::Array(all) => same(&format!("{at}[]"), &schema["items"], &all[0]),
            _ => {}
        }
    }
    let document: super::spec::Document = serde_json::from_value(good()).unwrap();
    let written = serde_json::to_value(document).unwrap();
    assert_eq!(written, good(), "everything is in it");
    let definition = definition();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    same("spec", &schema["properties"]["spec"], &written);
    assert!(Spec::read(written).is_ok());
}
