//! Sections about what is outside the gateway: sinks of events, the object store, the cluster.

use super::*;

/// Every fault of an export, and none of a good one.
#[test]
fn exports_are_checked() {
    let good = "[[export]]\nkind = \"http\"\nformat = \"ocsf\"\nurl = \"https://siem.example/x\"\n\
                token-file = \"s3-secret-key\"\n";
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        load(&testing::text("https://issuer.example", &good.replacen(from, to, 1))).0
    };
    let all = with("kind", "kind").unwrap().exports;
    assert_eq!((all[0].name.as_str(), all[0].batch), ("http", 500));
    with("https://siem.example", "http://127.0.0.1:9").unwrap();
    for (from, to, said) in [
        ("\"http\"", "\"kafka\"", "must be \"file\""),
        ("ocsf", "cef", "must be \"ocsf\""),
        ("https:", "http:", "must be https, or http on loopback"),
        ("siem.example", "me:secret@siem.example", "must hold no password"),
        ("s3-secret-key", "missing", "does not exist"),
        ("format", "name = \"../x\"\nformat", "lower-case letters"),
        ("format", "batch = 0\nformat", "must be from 1"),
        ("format", "path = \"x\"\nformat", "unknown key"),
        (
            "[[export]]",
            "[[export]]\nkind = \"stdout\"\nname = \"http\"\nformat = \"ecs\"\n[[export]]",
            "more than once",
        ),
    ] {
        let Err(Faults(faults)) = with(from, to) else {
            panic!("{to:?} was taken")
        };
        assert!(faults.len() == 1 && faults[0].text.contains(said), "{to:?}: {faults:?}");
        assert!(!faults[0].text.contains("secret@"), "{faults:?}");
    }
}

/// Every fault of an object store's section, and none of a good one.
#[test]
fn an_object_store_is_checked() {
    let good = "[records.s3]\nendpoint = \"https://s3.example\"\nbucket = \"some.bucket-1\"\n\
                access-key-file = \"s3-access-key\"\nsecret-key-file = \"s3-secret-key\"\n";
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        load(&testing::text("https://issuer.example", &good.replacen(from, to, 1))).0
    };
    let s3 = with("some", "some").unwrap().records.s3.unwrap();
    assert_eq!((s3.acknowledge, &*s3.region), (Acknowledge::Spool, "us-east-1"));
    let keys = "access-key-file = \"s3-access-key\"\nsecret-key-file = \"s3-secret-key\"\n";
    let pod = "web-identity = { role-arn = \"arn:aws:iam::1:role/x\", token-file = \"token\" }\n";
    with(keys, pod).unwrap();
    for (from, to, said) in [
        ("https:", "http:", "must be https, or http on loopback"),
        ("s3.example", "s3.example/path", "scheme, host and port alone"),
        ("s3.example", "me:secret@s3.example", "scheme, host and port alone"),
        ("some.bucket", "../bucket", "is no name of a bucket"),
        ("some.bucket-1", "Bucket", "is no name of a bucket"),
        (keys, "", "needs `access-key-file`"),
        (keys, &format!("{keys}{pod}"), "one of the two says who we are"),
        ("s3-secret-key", "missing", "does not exist"),
        (
            keys,
            &format!("{keys}prefix = \"a/../b\"\n"),
            "with slashes between them",
        ),
        (keys, &format!("{keys}region = \"a b\"\n"), "is no region"),
        (
            keys,
            &format!("{keys}acknowledge = \"never\"\n"),
            "\"spool\" or \"stored\"",
        ),
        (keys, &format!("{keys}spool-limit = \"1KiB\"\n"), "at least"),
        (keys, &format!("{keys}verify = false\n"), "verify"),
    ] {
        let Err(Faults(faults)) = with(from, to) else {
            panic!("{to:?} was taken")
        };
        assert!(
            faults.len() == 1 && faults[0].line.is_some() && faults[0].text.contains(said),
            "{to:?}: {faults:?}"
        );
        assert!(!faults[0].text.contains("secret@"), "{faults:?}");
    }
}

/// The rules of the document are good, what is commented out there is the default, and each bad one is named.
#[test]
fn rules_for_the_cluster_are_checked() {
    let document = include_str!("../../../../docs/kubernetes.md");
    let sample = document.split("```").nth(1).unwrap().trim_start_matches("toml");
    let with = |sample: &str| load(&testing::text("https://issuer.example", sample)).0;
    let rules = |sample: &str| format!("{:?}", with(sample).unwrap().kubernetes.unwrap());
    let aloud: String = sample
        .lines()
        .map(|line| line.strip_prefix("# ").unwrap_or(line).to_owned() + "\n")
        .collect();
    assert_eq!(rules(sample), rules(&aloud));
    for (from, to, said) in [
        (
            "namespaces = [\"devenv\"]",
            "namespaces = [\"a/b\"]",
            "no name of a namespace",
        ),
        ("namespaces = [\"devenv\"]", "", "`namespaces` or `namespace-selector`"),
        ("pods = \"app=devenv\"", "pods = \"app=x&limit=1\"", "no label selector"),
        ("agent-port = \"doorward\"", "agent-port = 0", "from 1 to 65535"),
        ("login = \"node\"", "login = \"{user}\"", "none of {pod}"),
        ("owner-kind = \"StatefulSet\"", "owner-kind = \"Job\"", "`ordinals`"),
        ("\"devenv-people\"", "\"../x\"", "no name of an object"),
        ("[kubernetes]", "[kubernetes]\nserver = \"http://x\"", "https://"),
        (
            "[kubernetes]",
            "[kubernetes]\nkubeconfig = \"secret\"\nserver = \"https://x\"",
            "there is `kubeconfig`",
        ),
    ] {
        assert!(sample.contains(from), "{from}");
        let faults = with(&sample.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(faults.contains(said), "{faults}");
    }
}
