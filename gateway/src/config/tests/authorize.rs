//! Who besides the policy has a say.

use super::*;

const RULE: &str = "[kubernetes]\n[[kubernetes.workspaces]]\nname = \"r\"\nnamespaces = [\"x\"]\npods = \"app=x\"\nlogin = \"node\"\n\
                    agent-port = 1\n";

fn read(more: &str) -> Result<Authorize, Faults> {
    crate::record::fixture::install_provider();
    load(&testing::text("https://issuer.example", more))
        .0
        .map(|config| config.authorize)
}

#[test]
fn questions_are_read_with_their_defaults() {
    assert!(read("").unwrap().rbac.is_empty());
    let rbac =
        "[authorize]\n[[authorize.rbac]]\nrule = \"r\"\nrequire = \"either\"\nverb = \"create\"\nresource = \"pods\"\n";
    let read = read(&format!("{RULE}{rbac}")).unwrap();
    assert_eq!(
        (read.cache, read.timeout),
        (Duration::from_secs(10), Duration::from_secs(3))
    );
    assert_eq!((read.username_prefix.as_str(), read.groups_prefix.as_str()), ("", ""));
    let expected = Rbac {
        require: Require::Either,
        verb: "create".to_owned(),
        group: String::new(),
        resource: "pods".to_owned(),
        subresource: String::new(),
        name: Named::Pod,
    };
    assert_eq!(read.rbac["r"], expected);
}

#[test]
fn the_rules_whose_objects_are_heard_keep_every_label() {
    let more = "[[kubernetes.workspaces]]\nname = \"s\"\nnamespaces = [\"y\"]\npods = \"app=y\"\nlogin = \"node\"\n\
                agent-port = 1\n[authorize]\n[[authorize.workspace-access]]\nrule = \"r\"\n";
    crate::record::fixture::install_provider();
    let (read, _folder) = load(&testing::text("https://issuer.example", &format!("{RULE}{more}")));
    let read = read.unwrap();
    assert_eq!(read.authorize.access.iter().collect::<Vec<_>>(), ["r"]);
    let kept: Vec<bool> = read
        .kubernetes
        .unwrap()
        .workspaces
        .iter()
        .map(|rule| rule.kept.every_label)
        .collect();
    assert_eq!(kept, [true, false]);
}

#[test]
fn what_cannot_be_asked_is_a_fault_with_its_place() {
    let asked = "[[authorize.rbac]]\nrule = \"r\"\nrequire = \"both\"\nverb = \"create\"\nresource = \"pods\"\n";
    for (more, expected) in [
        (
            format!("[authorize]\n{asked}"),
            "asks the API server of [kubernetes], which is missing",
        ),
        (
            format!("{RULE}[authorize]\n[[authorize.workspace-access]]\nrule = \"s\"\n"),
            "there is no rule `s`",
        ),
        (
            format!("{RULE}[authorize]\n[[authorize.workspace-access]]\n"),
            "`rule` is missing",
        ),
        (
            format!("{RULE}[authorize]\n{asked}{asked}"),
            "`r` is there more than once",
        ),
        (
            format!("{RULE}[authorize]\n{}", asked.replace("\"r\"", "\"s\"")),
            "there is no rule `s`",
        ),
        (
            format!("{RULE}[authorize]\n{}", asked.replace("both", "all")),
            "must be \"both\"",
        ),
        (
            format!("{RULE}[authorize]\n{}", asked.replace("create", "*")),
            "`*` is not what Kubernetes has",
        ),
        (
            format!("{RULE}[authorize]\n{}", asked.replace("pods", "pods/exec")),
            "`pods/exec` is not what",
        ),
        (
            format!("{RULE}[authorize]\n{asked}name = \"uid\"\n"),
            "must be \"pod\", \"owner\" or \"none\"",
        ),
        (
            format!("{RULE}[authorize]\n{asked}namespace = \"x\"\n"),
            "unknown key `namespace`",
        ),
        (format!("{RULE}[authorize]\ncache = \"2m\"\n{asked}"), "cache"),
        (format!("{RULE}[authorize]\ntimeout = \"1m\"\n{asked}"), "timeout"),
        (
            format!("{RULE}[authorize]\nusername-prefix = \"system:\"\n{asked}"),
            "not begin with `system:`",
        ),
    ] {
        let faults = read(&more).unwrap_err().to_string();
        assert!(faults.contains(expected), "{more}: {faults}");
        assert!(faults.contains("gateway.toml:"), "{faults}");
    }
}

/// The sample in the document is good, and its defaults are those of the code.
#[test]
fn the_document_tells_the_truth() {
    let document = include_str!("../../../../docs/authorization.md");
    let rule = RULE.replace("\"r\"", "\"sessions\"");
    let sample = document.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let as_shown = read(&format!("{rule}{sample}")).unwrap();
    let said_aloud = read(&format!("{rule}{}", sample.replace("\n# ", "\n"))).unwrap();
    assert_eq!(format!("{as_shown:?}"), format!("{said_aloud:?}"));
}
