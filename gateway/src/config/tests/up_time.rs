//! Where pods say when they are stopped, and what the hook of use asks for.

use super::*;
use crate::kube::discover::Rule;

fn load(more: &str) -> Result<Rule, String> {
    crate::record::fixture::install_provider();
    let folder = testing::folder();
    let file = folder.path().join("gateway.toml");
    let head = "[kubernetes]\n[[kubernetes.workspaces]]\nname = \"r\"\nnamespaces = [\"x\"]\npods = \"app=x\"\nlogin = \"node\"\n\
                agent-port = 1\n";
    let text = testing::text("https://issuer.example", &format!("{head}{more}\n"));
    fs::write(&file, text).unwrap();
    let loaded = Config::load(&file).map_err(|faults| faults.to_string())?;
    Ok(loaded.kubernetes.unwrap().workspaces.remove(0))
}

#[test]
fn an_up_time_says_where_its_end_stands_and_nothing_twice() {
    let of = |more: &str| load(&format!("[[kubernetes.up-time]]\nrule = \"r\"\n{more}"));
    let rule = of("at = \"{annotation:x/stops-at}\"\nwarn = [\"5m\", \"30s\", \"5m\"]\nextendable = true").unwrap();
    let up_time = rule.up_time.unwrap();
    assert_eq!(
        up_time.warn.iter().map(Duration::as_secs).collect::<Vec<_>>(),
        [30, 300]
    );
    assert!(up_time.extendable);
    let usual = of("after = \"{label:up-time}\"").unwrap().up_time.unwrap();
    assert_eq!(
        usual.warn.iter().map(Duration::as_secs).collect::<Vec<_>>(),
        [60, 300, 900]
    );
    assert!(!usual.extendable);
    of("after = \"60m\"\nwarn = []").unwrap();
    for (bad, said) in [
        ("", "`at` or `after` has to say"),
        ("at = \"{annotation:a}\"\nafter = \"1h\"", "either `at` or `after`"),
        ("at = \"2026-06-01T12:00:00Z\"", "the same for every pod"),
        ("after = \"an hour\"", "no length of time"),
        ("after = \"{nobody}\"", "is none of"),
        ("after = \"1h\"\nwarn = [\"0s\"]", "warn"),
        ("after = \"1h\"\nuntil = 3", "unknown key `until`"),
        (
            "after = \"1h\"\n[[kubernetes.up-time]]\nrule = \"r\"\nafter = \"2h\"",
            "more than once",
        ),
        (
            "after = \"1h\"\n[[kubernetes.up-time]]\nrule = \"s\"\nafter = \"2h\"",
            "no rule `s`",
        ),
    ] {
        let faults = of(bad).expect_err(bad);
        assert!(faults.contains(said), "{bad}: {faults}");
    }
}

#[test]
fn what_the_hook_of_use_asks_for_is_kept_of_each_object() {
    let hook = "[[kubernetes.usage]]\nrule = \"r\"\n[kubernetes.usage.hook]\nurl = \"https://x/{label:team}\"\n\
                body = { a = \"{annotation:x/y}\" }";
    let kept = load(hook).unwrap().kept;
    assert_eq!(Vec::from_iter(kept.labels), ["team"]);
    assert_eq!(Vec::from_iter(kept.annotations), ["x/y"]);
}
