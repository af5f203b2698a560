//! People whom the cluster knows.

use super::*;

const CLUSTER: &str = "[kubernetes]\n";
const OIDC: &str = "[oidc]\nissuer = \"https://issuer.example\"\nclient-id = \"doorward\"\naudience = \"doorward-gateway\"\n\
                    keys-cool-down = \"10ms\"\n";

fn read(more: &str, change: impl FnOnce(String) -> String) -> Result<Config, Faults> {
    crate::record::fixture::install_provider();
    load(&change(testing::text("https://issuer.example", more))).0
}

#[test]
fn beside_an_issuer_its_people_carry_a_name_in_front_and_alone_they_do_not() {
    let more = format!("{CLUSTER}[token-review]\n");
    let config = read(&more, |text| text).unwrap();
    let settings = config.token_review.unwrap();
    assert_eq!(
        (settings.user_prefix.as_str(), settings.groups_prefix.as_str()),
        ("kubernetes:", "kubernetes:")
    );
    assert!(settings.audiences.is_empty() && settings.groups.is_none() && settings.service_accounts.is_empty());
    assert_eq!(
        (settings.cache, settings.timeout, settings.per_second),
        (Duration::from_secs(5), Duration::from_secs(3), 50)
    );
    let alone = |text: String| {
        assert!(text.contains(OIDC));
        text.replace(OIDC, "")
    };
    let config = read(&more, alone).unwrap();
    assert!(config.oidc.is_empty());
    assert_eq!(config.token_review.unwrap().user_prefix, "");
    // Nobody at all is no configuration.
    let faults = read(CLUSTER, alone).unwrap_err();
    assert!(faults.to_string().contains("the section [oidc] is missing"), "{faults}");
}

#[test]
fn what_cannot_be_is_a_fault_with_its_place() {
    let whole = |line: &str| format!("{CLUSTER}[token-review]\n{line}\n");
    for (more, expected) in [
        (
            "[token-review]\n".to_owned(),
            "asks the API server of [kubernetes], which is missing",
        ),
        (whole("cache = \"11s\""), "must be from 0s to 10s"),
        (whole("timeout = \"5s\""), "must be from 100ms to 4s"),
        (whole("reviews-per-second = 0"), "must be from 1 to 10000"),
        (whole("service-accounts = [\"deployer\"]"), "is not `namespace/name`"),
        (
            whole("service-accounts = [\"system:serviceaccount:ci:x/y\"]"),
            "is not `namespace/name`",
        ),
        (whole("groups = [\"system:masters\"]"), "those never count"),
        (whole("user-prefix = \"a b\""), "printable ASCII"),
        (whole("token = \"sha256~secret\""), "unknown key `token`"),
    ] {
        let faults = read(&more, |text| text).unwrap_err().to_string();
        assert!(faults.contains(expected), "{expected}: {faults}");
    }
    let opaque = "token = \"opaque\"\nintrospection = { client-id = \"g\", client-secret-file = \"introspection\" }\n";
    let faults = read(&whole(""), |text| text.replace("keys-cool-down = \"10ms\"\n", opaque)).unwrap_err();
    assert!(
        faults.to_string().contains("an issuer with opaque tokens as well"),
        "{faults}"
    );
}
