//! Roles that objects of the cluster lend: never more than the role, never recorded less, never another account.

use std::time::Duration;

use doorward_certs::Recording;

use super::*;
use crate::{
    authorize::Heard,
    config::Require,
    kube::access::{Lent, Narrower, Object, Said},
};

const POLICY: &str = "[[role]]\nname = 'lent'\ngrantable = true\nworkspaces = ['d*']\nallow = ['shell', 'exec', 'sftp:read', 'forward-to:*:443']\n\
                      longest = '4h'\nlogin = 'guest'\n[role.recording]\nmode = 'best-effort'\n\
                      [[role]]\nname = 'own'\ngroups = ['g']\nworkspaces = ['*']\nallow = ['pty']\nlongest = '1h'\nlogin = 'node'\n\
                      [[role]]\nname = 'plain'\ngroups = ['h']\nworkspaces = ['*']\nallow = ['pty']\nlongest = '1h'\n\
                      [[role]]\nname = 'admin'\ngroups = ['admins']\nworkspaces = ['*']\nallow = ['agent-forwarding']\n";

fn lent(name: &str, role: &str, narrower: Narrower) -> Lent {
    Lent {
        object: Object {
            namespace: "team".to_owned(),
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            generation: 1,
        },
        role: role.to_owned(),
        narrower,
        by: "by name".to_owned(),
    }
}

fn heard(lent: Vec<Lent>) -> Heard {
    Heard::nothing().and_access(Said {
        namespace: "team".to_owned(),
        lent,
        others: vec!["reviewers".to_owned()],
    })
}

fn only(words: &[&str]) -> Narrower {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    Narrower {
        allow: Some(capabilities(&words).unwrap()),
        ..Narrower::default()
    }
}

fn granted(who: &Identity, place: &str, heard: &Heard) -> Result<Grant, Refusal> {
    policy(POLICY).decide(who, Some(&workspace(place, None)), RecordStore::Works, heard)
}

fn words(grant: &Grant) -> String {
    crate::api::words(grant.terms()).join(" ")
}

#[test]
fn what_is_lent_is_at_most_the_role() {
    let eve = Identity::for_test("eve", &[]);
    assert!(granted(&eve, "d", &heard(Vec::new())).is_err());
    let whole = granted(&eve, "d", &heard(vec![lent("a", "lent", Narrower::default())])).unwrap();
    assert_eq!(words(&whole), "shell exec sftp:read forward-to:*:443");
    assert_eq!(whole.terms().login.as_str(), "guest");
    assert_eq!(whole.lent().len(), 1);
    let wide = only(&[
        "shell",
        "sftp:read-write",
        "agent-forwarding",
        "forward-to:db:443",
        "forward-to:db:*",
        "remote-forward:any",
    ]);
    let wide = Narrower {
        longest: Some(Duration::from_secs(86_400)),
        ..wide
    };
    let bounded = granted(&eve, "d", &heard(vec![lent("a", "lent", wide.clone())])).unwrap();
    assert_eq!(words(&bounded), "shell sftp:read forward-to:db:443");
    assert_eq!(bounded.terms().longest, Duration::from_secs(4 * 3600));
    let lends = policy(POLICY).lends("lent", "team", &wide).unwrap();
    assert_eq!(
        lends.beyond,
        [
            "sftp:read-write",
            "agent-forwarding",
            "remote-forward:any",
            "forward-to:db:*",
            "more than 4h"
        ]
    );
    // Two that contradict each other add up, within the role.
    let shorter = Narrower {
        longest: Some(Duration::from_secs(600)),
        ..only(&["exec"])
    };
    let both = heard(vec![lent("a", "lent", shorter), lent("b", "lent", only(&["shell"]))]);
    let both = granted(&eve, "d", &both).unwrap();
    assert_eq!(
        (words(&both).as_str(), both.terms().longest),
        ("shell exec", Duration::from_secs(4 * 3600))
    );
    assert_eq!((both.roles().join("+").as_str(), both.lent().len()), ("lent", 2));
}

#[test]
fn only_roles_that_may_be_lent_are_and_only_where_they_hold() {
    let eve = Identity::for_test("eve", &[]);
    for role in ["admin", "own", "nobody", "Lent", "l\u{435}nt"] {
        let heard = heard(vec![lent("a", role, Narrower::default())]);
        assert!(granted(&eve, "d", &heard).is_err(), "{role}");
    }
    let heard_lent = heard(vec![lent("a", "lent", Narrower::default())]);
    assert!(granted(&eve, "x", &heard_lent).is_err());
    let nothing = heard(vec![lent("a", "lent", only(&["pty"]))]);
    assert!(granted(&eve, "d", &nothing).is_err());
    // RBAC that has to agree is not overruled, and counts what is lent as the policy's.
    for (allowed, expected) in [(true, true), (false, false)] {
        let mut heard = Heard::rbac(Require::Both, allowed);
        heard = heard.and_access(Said {
            namespace: "team".to_owned(),
            lent: vec![lent("a", "lent", Narrower::default())],
            others: Vec::new(),
        });
        assert_eq!(granted(&eve, "d", &heard).is_ok(), expected);
    }
}

#[test]
fn what_is_lent_adds_to_the_persons_own_and_changes_none_of_it() {
    let zoe = Identity::for_test("zoe", &["g"]);
    let plain = Identity::for_test("zoe", &["h"]);
    // The file names `lent` first: its login would be that of everybody who has the role themselves.
    let heard_lent = heard(vec![lent("a", "lent", Narrower::default())]);
    for (who, login, roles) in [(&zoe, "node", "own"), (&plain, "node", "plain")] {
        let grant = granted(who, "d", &heard_lent).unwrap();
        assert_eq!(
            (grant.terms().login.as_str(), grant.roles().join("+").as_str()),
            (login, roles)
        );
        assert_eq!((words(&grant).as_str(), grant.lent().len()), ("pty", 0));
    }
}

#[test]
fn an_object_has_more_recorded_and_never_less() {
    let eve = Identity::for_test("eve", &[]);
    let recording = |narrower: &[Narrower]| -> Recording {
        let all = narrower.iter().map(|one| lent("a", "lent", one.clone())).collect();
        granted(&eve, "d", &heard(all)).unwrap().terms().recording
    };
    let (none, more) = (
        Narrower::default(),
        Narrower {
            strict: true,
            input: true,
            ..Narrower::default()
        },
    );
    let plain = recording(std::slice::from_ref(&none));
    assert_eq!((plain.mode, plain.input), (RecordingMode::BestEffort, false));
    for all in [vec![more.clone()], vec![none.clone(), more.clone()], vec![more, none]] {
        let strictest = recording(&all);
        assert_eq!((strictest.mode, strictest.input), (RecordingMode::Strict, true));
    }
}

/// However many destinations objects name, a certificate can be made.
#[test]
fn many_objects_make_no_certificate_that_is_too_long() {
    let eve = Identity::for_test("eve", &[]);
    let many = (0..100).map(|n| {
        let hosts: Vec<String> = (0..16)
            .map(|m| format!("forward-to:h{n}-{m}.{}:443", "x".repeat(200)))
            .collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        lent(&format!("o{n}"), "lent", only(&hosts))
    });
    let grant = granted(&eve, "d", &heard(many.collect())).unwrap();
    assert!(!grant.terms().capabilities.local_forward.is_empty());
    assert!(grant.terms().extensions().is_ok());
}

#[test]
fn an_explanation_names_the_objects() {
    let (eve, place) = (Identity::for_test("eve", &[]), workspace("d", None));
    let policy = policy(POLICY);
    let explained = |heard: &Heard, all: bool| {
        let explained = policy.explain(eve.person(), &place.name, Some(&place), all, heard);
        let rules: Vec<String> = explained
            .rules
            .iter()
            .map(|rule| format!("{}: {}", rule.role, rule.why))
            .collect();
        (explained.is_granted(), rules.join("\n"))
    };
    let (granted, said) = explained(&heard(vec![lent("a", "lent", Narrower::default())]), true);
    assert!(
        granted && said.contains("the WorkspaceAccess `team/a`") && said.contains("uid uid-a, generation 1"),
        "{said}"
    );
    let (granted, said) = explained(&heard(Vec::new()), true);
    assert!(
        !granted && said.contains("no WorkspaceAccess in force in team") && said.contains("reviewers"),
        "{said}"
    );
    // Who may not enter hears nothing of where the workspace is.
    let (granted, said) = explained(&heard(Vec::new()), false);
    assert!(
        !granted && !said.contains("team") && !said.contains("reviewers"),
        "{said}"
    );
}

#[test]
fn a_role_that_may_be_lent_gives_no_power_over_others() {
    for (more, why) in [
        ("may = ['kill']", "`grantable` gives no rights over others"),
        ("recordings = 'all'", "`grantable` opens nobody else's recordings"),
        ("break-glass = true", "the policy's alone to give"),
    ] {
        let text = format!("[[role]]\nname = 'r'\ngrantable = true\nworkspaces = ['*']\nallow = ['shell']\n{more}\n");
        let faults = Roles::parse(Path::new("policy.toml"), &text).unwrap_err().to_string();
        assert!(faults.contains(why), "{faults}");
    }
}

#[test]
fn a_role_is_lent_as_far_as_the_policy_says_where_and_to_whom() {
    let lend = |bounds: &str, who: &Identity| {
        let text = format!(
            "[[role]]\nname = 'lent'\ngrantable = true\nworkspaces = ['*']\nallow = ['shell']\n[role.lending]\n{bounds}\n"
        );
        let heard = heard(vec![lent("a", "lent", Narrower::default())]);
        let policy = policy(&text);
        let granted = policy.decide(who, Some(&workspace("d", None)), RecordStore::Works, &heard);
        let name = WorkspaceName::try_from("d").unwrap();
        let said = policy.explain(who.person(), &name, Some(&workspace("d", None)), true, &heard);
        assert_eq!(said.is_granted(), granted.is_ok());
        (granted.is_ok(), said.rules[0].why.clone())
    };
    let (staff, eve) = (
        Identity::for_test("bob", &["staff"]),
        Identity::for_test("eve", &["guests"]),
    );
    for (bounds, staff_in, eve_in) in [
        ("namespaces = ['team']", true, true),
        ("namespaces = ['te*']", true, true),
        ("namespaces = ['teams', 'tea', 'TEAM']", false, false),
        ("groups = ['staff']", true, false),
        ("groups = ['staff', 'guests']\nnamespaces = ['other']", false, false),
        ("email-domains = ['example.com']", false, false),
        ("emails = ['eve@example.com']\ngroups = ['staff']", true, false),
    ] {
        for (who, expected) in [(&staff, staff_in), (&eve, eve_in)] {
            let (granted, said) = lend(bounds, who);
            assert_eq!(granted, expected, "{bounds}: {said}");
            assert_eq!(said.contains("its `lending` lets it do"), !expected, "{said}");
        }
    }
    let mail = Identity::for_test("eve", &[]).with_email("eve@example.com");
    assert!(lend("email-domains = ['example.com']", &mail).0);
    assert!(!lend("email-domains = ['mple.com']", &mail).0);
}

#[test]
fn bounds_of_lending_that_bound_nothing_are_a_fault() {
    for (more, why) in [
        ("grantable = true\n[role.lending]", "bounds nothing"),
        (
            "grantable = true\n[role.lending]\ngroups = []",
            "must name at least one",
        ),
        (
            "grantable = true\n[role.lending]\nnamespaces = []",
            "must name at least one",
        ),
        (
            "groups = ['g']\n[role.lending]\ngroups = ['staff']",
            "about a role with `grantable = true`",
        ),
        (
            "grantable = true\n[role.lending]\nusers = ['bob']",
            "unknown key `users`",
        ),
    ] {
        let text = format!("[[role]]\nname = 'r'\nworkspaces = ['*']\nallow = ['shell']\n{more}\n");
        let faults = Roles::parse(Path::new("policy.toml"), &text).unwrap_err().to_string();
        assert!(faults.contains(why), "{more}: {faults}");
    }
}
