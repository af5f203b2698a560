//! The ways in which workspaces are woken.

use super::*;

#[test]
fn ways_to_wake_are_checked_where_they_are_written() {
    crate::record::fixture::install_provider();
    let folder = testing::folder();
    let load_of = |kind: &str, more: &str| {
        let file = folder.path().join("gateway.toml");
        let head = format!(
            "[kubernetes]\n[[kubernetes.workspaces]]\nname = \"r\"\nnamespaces = [\"x\"]\npods = \"app=x\"\nlogin = \"node\"\n\
             agent-port = 1\nowner-kind = \"{kind}\"\n[[kubernetes.wake]]\nrule = \"r\"\n"
        );
        let text = testing::text("https://issuer.example", &format!("{head}{more}\n"));
        fs::write(&file, text).unwrap();
        Config::load(&file).map(|config| config.kubernetes.unwrap())
    };
    let load = |more: &str| load_of("StatefulSet", more).map(|kubernetes| kubernetes.wakes);
    // What a text asks for is kept of each object, though the rule itself does not use it.
    let asks = "kind = \"http\"\nurl = \"https://x/{label:team}\"\nbody = { a = [\"{annotation:x/y} {label:repo}\"] }";
    let kept = load_of("Job", asks).unwrap().workspaces.remove(0).kept;
    assert_eq!(Vec::from_iter(kept.labels), ["repo", "team"]);
    assert_eq!(Vec::from_iter(kept.annotations), ["x/y"]);
    load_of("Deployment", "kind = \"scale\"").unwrap();
    let faults = load_of("Job", "kind = \"scale\"").expect_err("a job").to_string();
    assert!(faults.contains("the rule `r` has neither"), "{faults}");
    for good in [
        "kind = \"scale\"\nwithin = \"2m\"",
        "kind = \"annotation\"\nset = { \"x.example/started\" = \"true\" }\nplural = \"workspaces\"",
        "kind = \"http\"\nurl = \"https://api.example/{workspace}/start\"\nexpect = [202, 409]",
        "kind = \"http\"\nurl = \"http://127.0.0.1:1/graphql\"\ntoken = \"user\"\n\
         body = { query = \"mutation { start(id: $id) { id } }\", variables = { id = \"{label:user}\", n = 1 } }",
        "kind = \"http\"\nurl = \"https://api.example/\"\nmethod = \"PUT\"\ntoken-file = \"introspection\"\nheader = \"x-api-key\"",
    ] {
        let ways = load(good).unwrap_or_else(|faults| panic!("{good}: {faults}"));
        assert_eq!(ways.keys().collect::<Vec<_>>(), ["r"]);
    }
    for (bad, said) in [
        ("kind = \"poke\"", "kind"),
        ("", "`kind` is missing"),
        ("kind = \"scale\"\nwithin = \"2h\"", "within"),
        ("kind = \"scale\"\nurl = \"https://x/\"", "unknown key `url`"),
        ("kind = \"annotation\"\nset = {}", "names no annotation"),
        ("kind = \"annotation\"\nset = { \"a b\" = \"x\" }", "no key"),
        ("kind = \"annotation\"\nset = { \"a\" = \"{nobody}\" }", "is no place"),
        ("kind = \"http\"\nurl = \"http://api.example/\"", "must be https"),
        ("kind = \"http\"\nurl = \"https://{user}.example/\"", "before its path"),
        ("kind = \"http\"\nurl = \"https://x/\"\nmethod = \"GET\"", "method"),
        ("kind = \"http\"\nurl = \"https://x/\"\nexpect = [302]", "status"),
        (
            "kind = \"http\"\nurl = \"https://x/\"\nbody = { a = \"{id}\" }",
            "is no place",
        ),
        ("kind = \"http\"\nurl = \"https://x/\"\nbody = { a = 1.5 }", "float"),
        ("kind = \"http\"\nurl = \"https://x/\"\ntoken = \"bob\"", "token-file"),
        (
            "kind = \"http\"\nurl = \"https://x/\"\nheader = \"x-key\"",
            "token-file",
        ),
        (
            "kind = \"scale\"\n[[kubernetes.wake]]\nrule = \"r\"\nkind = \"scale\"",
            "more than one way",
        ),
        (
            "kind = \"scale\"\n[[kubernetes.wake]]\nrule = \"s\"\nkind = \"scale\"",
            "there is no rule `s`",
        ),
    ] {
        let faults = load(bad).expect_err(bad).to_string();
        assert!(faults.contains(said), "{bad}: {faults}");
    }
}
