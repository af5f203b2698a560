//! The ssh configuration, and the `ssh` that is run with it.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::gateway::{Gateway, problem};
use crate::issuer::Issuer;
use crate::run::LIMIT;

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_written_and_included_once() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let theirs = folder.home().join(".ssh/config");

    let printed = folder.run(&["config"]).await.expect(0);
    assert!(
        printed.out.contains("\nHost devenv-0\n  User node\n"),
        "{}",
        printed.out
    );
    assert!(
        !folder.path().join("ssh_config").exists() && !theirs.exists(),
        "printing writes no configuration"
    );

    folder.run(&["config", "--write", "--no-include"]).await.expect(0);
    assert_eq!(folder.read("ssh_config"), printed.out);
    assert!(!theirs.exists());

    std::fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    std::fs::write(&theirs, "Host work\n\tUser me\n").unwrap();
    std::fs::set_permissions(&theirs, std::fs::Permissions::from_mode(0o640)).unwrap();
    let include = format!("Include \"{}/ssh_config\"\n", folder.path().display());
    for _ in 0..2 {
        folder.run(&["config", "--write"]).await.expect(0);
        assert_eq!(
            std::fs::read_to_string(&theirs).unwrap(),
            format!("{include}Host work\n\tUser me\n")
        );
    }
    assert_eq!(std::fs::metadata(&theirs).unwrap().permissions().mode() & 0o777, 0o640);

    // ssh finds it through the include, and what it would start is this program
    let out = std::process::Command::new("ssh")
        .args(["-G", "-F"])
        .arg(&theirs)
        .arg("devenv-0")
        .output()
        .unwrap();
    let resolved = String::from_utf8(out.stdout).unwrap();
    let program = env!("CARGO_BIN_EXE_doorward");
    let command = format!(
        "proxycommand \"{program}\" --home \"{}\" connect devenv-0\n",
        folder.path().display()
    );
    assert!(resolved.contains(&command), "{resolved}");
    let status = folder.run(&["status"]).await.expect(0);
    assert!(status.out.contains("written and included"), "{}", status.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_is_run_with_our_configuration() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let fake = folder.home().join("ssh");
    std::fs::write(&fake, "#!/bin/sh\nfor arg; do echo \"<$arg>\"; done\nexit 9\n").unwrap();
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.home().display(), std::env::var("PATH").unwrap());
    let run = async |args: &[&str]| {
        let child = folder.command(args).env("PATH", &path).spawn().unwrap();
        crate::run::finish(child).await
    };
    let ran = run(&["ssh", "devenv-0", "--", "-v", "echo", "a b"]).await.expect(9);
    let config = folder.path().join("ssh_config");
    assert_eq!(
        ran.out,
        format!("<-F>\n<{}>\n<devenv-0>\n<-v>\n<echo>\n<a b>\n", config.display())
    );
    assert!(config.exists());
    let ran = run(&["ssh", "other"]).await.expect(77);
    assert!(ran.err.contains("no workspace other") && ran.out.is_empty(), "{ran:?}");
    gateway.json(
        "/v1/workspaces",
        json!({"workspaces": [{"name": "other", "login": "node"}]}),
    );
    run(&["ssh", "other"]).await.expect(9);
}

#[tokio::test(flavor = "multi_thread")]
async fn ca_keys_that_are_none_are_not_written() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    for key in [
        "",
        "* ssh-ed25519 AAAA",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJhK\n* ecdsa",
    ] {
        gateway.json(
            "/v1/trust",
            json!({"host-ca": [key], "user-ca": [crate::gateway::HOST_CA]}),
        );
        let ran = folder.run(&["config", "--write"]).await.expect(255);
        assert!(
            !folder.path().join("known_hosts").exists() && !folder.path().join("ssh_config").exists(),
            "{ran:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_enter_nothing_is_told_so_by_plain_ssh() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    gateway.json("/v1/workspaces", json!({"workspaces": [], "names": ["devenv-*", "*"]}));
    let said = "there is no such workspace, or you may not enter it";
    gateway.on("/v1/connect/devenv-7", move |_| problem(403, "denied", said, "ask"));
    let ran = folder.run(&["config", "--write", "--no-include"]).await.expect(0);
    for text in ["left out *: it is no pattern", "no workspace is in it"] {
        assert!(ran.err.contains(text), "{}", ran.err);
    }
    let ssh = tokio::process::Command::new("ssh")
        .arg("-F")
        .arg(folder.path().join("ssh_config"))
        .args(["devenv-7", "true"])
        .kill_on_drop(true)
        .output();
    let out = tokio::time::timeout(LIMIT, ssh).await.unwrap().unwrap();
    let err = String::from_utf8(out.stderr).unwrap();
    assert!(err.starts_with(&format!("doorward: {said}\nhint: ask\n")), "{err}");
    assert_eq!(out.status.code(), Some(255));
}
