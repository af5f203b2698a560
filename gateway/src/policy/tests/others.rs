//! What others than the policy file say: the issuer by a claim or its rule for logins, Kubernetes by RBAC.

use super::*;
use crate::{config::Require, oidc::LoginFault};

/// What the issuer assigns is the person's own, unless the workspace is somebody's already.
#[test]
fn a_workspace_that_the_issuer_assigns_is_the_persons_own() {
    let policy =
        policy("[[role]]\nname = 'own'\ngroups = ['g']\nowner = true\nallow = ['shell']\nrecordings = 'all'\n");
    let assigned = Identity::for_test("bob", &["g"]).with_workspaces(&["devenv-0"]);
    let in_by = |who: &Identity, place: &Arc<Workspace>| {
        policy
            .decide(who, Some(place), RecordStore::Works, &Heard::nothing())
            .is_ok()
    };
    assert!(in_by(&assigned, &workspace("devenv-0", None)));
    assert!(!in_by(&assigned, &workspace("devenv-1", None)));
    assert!(!in_by(&assigned, &workspace("devenv-0", Some("alice"))));
    assert!(in_by(&assigned, &workspace("devenv-2", Some("bob"))));
    assert!(!in_by(&Identity::for_test("bob", &["g"]), &workspace("devenv-0", None)));
    assert!(!in_by(
        &Identity::for_test("bob", &[]).with_workspaces(&["devenv-0"]),
        &workspace("devenv-0", None)
    ));
    assert!(policy.may_view(&assigned, "carol", "devenv-0", None));
    assert!(!policy.may_view(&assigned, "carol", "devenv-0", Some("alice")));
}

#[test]
fn what_rbac_says_adds_to_the_roles_or_stands_in_their_way() {
    let policy = policy(
        "[[role]]\nname = \"own\"\ngroups = [\"g\"]\nworkspaces = [\"*\"]\nallow = [\"shell\"]\nlongest = \"1h\"\n\
         [[role]]\nname = \"let-in\"\nrbac = true\nworkspaces = [\"d*\"]\nallow = [\"exec\"]\nlongest = \"2h\"\nlogin = \"guest\"\n",
    );
    let (both, either) = (Require::Both, Require::Either);
    let place = workspace("d", None);
    let (member, stranger) = (Identity::for_test("zoe", &["g"]), Identity::for_test("eve", &[]));
    let got = |who: &Identity, heard: &Heard| match policy.decide(who, Some(&place), RecordStore::Works, heard) {
        Ok(grant) => grant.roles().join("+"),
        Err(refusal) => refusal.code().to_string(),
    };
    for (who, heard, expected) in [
        (&member, Heard::nothing(), "own"),
        (&member, Heard::rbac(both, true), "own+let-in"),
        (&member, Heard::rbac(both, false), "denied"),
        (&member, Heard::rbac(either, true), "own+let-in"),
        (&member, Heard::rbac(either, false), "own"),
        (&stranger, Heard::nothing(), "denied"),
        (&stranger, Heard::rbac(both, true), "denied"),
        (&stranger, Heard::rbac(both, false), "denied"),
        (&stranger, Heard::rbac(either, true), "let-in"),
        (&stranger, Heard::rbac(either, false), "denied"),
    ] {
        assert_eq!(got(who, &heard), expected, "{} {heard:?}", who.user());
        let explained = policy.explain(who.person(), &place.name, Some(&place), true, &heard);
        assert_eq!(explained.is_granted(), expected != "denied", "{explained:?}");
    }
    // The policy says with which login and what: where no such role holds, RBAC's word opens nothing.
    let elsewhere = workspace("x", None);
    let heard = Heard::rbac(either, true);
    let refused = policy
        .decide(&stranger, Some(&elsewhere), RecordStore::Works, &heard)
        .unwrap_err();
    assert!(refused.detail().contains("Kubernetes RBAC allows"), "{refused}");
    assert_eq!(refused.text(), Refusal::denied("").text());
    // Whoever was let in so sees their own recordings, and nobody else's.
    assert!(policy.may_view(&stranger, "eve", "d", None));
    assert!(!policy.may_view(&stranger, "zoe", "d", None));
}

#[test]
fn a_role_for_whom_rbac_lets_in_gives_no_power_over_others() {
    for (more, expected) in [
        ("may = [\"kill\"]", "gives no rights over others"),
        ("recordings = \"all\"", "opens nobody else's recordings"),
    ] {
        let text = format!("[[role]]\nname = \"r\"\nrbac = true\nworkspaces = [\"*\"]\nallow = [\"exec\"]\n{more}\n");
        let faults = Roles::parse(Path::new("policy.toml"), &text).unwrap_err().to_string();
        assert!(faults.contains(expected), "{faults}");
    }
    let nobody = "[[role]]\nname = \"r\"\nrbac = false\nworkspaces = [\"*\"]\nallow = [\"exec\"]\n";
    let faults = Roles::parse(Path::new("policy.toml"), nobody).unwrap_err().to_string();
    assert!(faults.contains("needs members"), "{faults}");
}

/// The login: a role's, else what the issuer's rule makes of the person, else the workspace's.
#[test]
fn a_login_has_its_precedence() {
    let policy = policy(POLICY);
    let place = workspace("devenv-1", Some("zoe"));
    let login = |text: &str| Ok(Login::try_from(text).unwrap());
    let decide = |groups: &[&str], made: Option<Result<Login, LoginFault>>| {
        let mut person = Identity::for_test("zoe", groups);
        if let Some(made) = made {
            person = person.with_login(made);
        }
        policy
            .decide(&person, Some(&place), RecordStore::Works, &Heard::nothing())
            .map(|grant| grant.terms().login.to_string())
            .map_err(|refusal| refusal.code())
    };
    assert_eq!(decide(&["developers"], None).unwrap(), "node");
    assert_eq!(decide(&["developers"], Some(login("dev-zoe"))).unwrap(), "dev-zoe");
    assert_eq!(decide(&["operators"], Some(login("dev-zoe"))).unwrap(), "operator");
    // A rule that makes none is in the way only where its login would be used, and tells no stranger anything.
    let none = || Some(Err(LoginFault::Unlisted));
    assert_eq!(decide(&["developers"], none()), Err(RefusalCode::LoginRefused));
    assert_eq!(decide(&["operators"], none()).unwrap(), "operator");
    assert_eq!(decide(&[], none()), Err(RefusalCode::Denied));
    let refusal = policy
        .decide(
            &Identity::for_test("zoe", &["developers"]).with_login(Err(LoginFault::Root)),
            None,
            RecordStore::Works,
            &Heard::nothing(),
        )
        .unwrap_err();
    assert_eq!(refusal.code(), RefusalCode::Denied);
}
