//! `open`: which program is started with which arguments, and what has to be true first.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::sync::Semaphore;

use crate::gateway::Gateway;
use crate::issuer::Issuer;
use crate::run::{Folder, Ran, Said, finish};
use crate::server::Reply;
use crate::wake::tells;

const WAKE: &str = "/v1/workspaces/devenv-0/wake";

/// A program that writes down what it is told.
fn fake(folder: &Folder, name: &str, code: i32) -> PathBuf {
    let bin = folder.home().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let program = bin.join(name);
    let script = format!("#!/bin/sh\nfor arg; do printf '<%s>\\n' \"$arg\"; done > \"$0.told\"\nexit {code}\n");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

fn told(folder: &Folder, name: &str) -> Option<String> {
    std::fs::read_to_string(folder.home().join(format!("bin/{name}.told"))).ok()
}

/// With nothing on the `PATH` but what is made here, and a relative entry.
fn command(folder: &Folder, args: &[&str]) -> tokio::process::Command {
    let mut command = folder.command(args);
    let bin = folder.home().join("bin");
    command
        .env("PATH", format!(".:{}", bin.display()))
        .current_dir(folder.home());
    command
}

async fn run(folder: &Folder, args: &[&str]) -> Ran {
    finish(command(folder, args).spawn().unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_editor_is_started_with_the_folder_as_one_argument() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    folder.run(&["config", "--write"]).await.expect(0);
    fake(&folder, "cursor", 0);
    // What lies in the current folder is nobody's editor.
    std::fs::write(folder.home().join("code"), "#!/bin/sh\nexit 9\n").unwrap();
    std::fs::set_permissions(folder.home().join("code"), std::fs::Permissions::from_mode(0o755)).unwrap();

    run(&folder, &["open", "devenv-0", "/work space/#1;$(touch x)"])
        .await
        .expect(0);
    assert_eq!(
        told(&folder, "cursor").unwrap(),
        "<--folder-uri>\n<vscode-remote://ssh-remote+devenv-0/work%20space/%231%3B%24%28touch%20x%29>\n"
    );
    run(&folder, &["open", "DevEnv-0"]).await.expect(0);
    assert_eq!(told(&folder, "cursor").unwrap(), "<--remote>\n<ssh-remote+devenv-0>\n");

    fake(&folder, "code", 0);
    run(&folder, &["open", "devenv-0"]).await.expect(0);
    assert!(told(&folder, "code").is_some(), "VS Code comes first");

    let settings = folder.path().join("config.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(
        &settings,
        format!("editor = \"positron\"\nfolder = \"/workspace\"\n{text}"),
    )
    .unwrap();
    let positron = fake(&folder, "positron", 3);
    let ran = run(&folder, &["open", "devenv-0"]).await.expect(1);
    assert!(
        ran.err.contains(positron.to_str().unwrap()) && ran.err.contains("exit status: 3"),
        "{ran:?}"
    );
    assert_eq!(
        told(&folder, "positron").unwrap(),
        "<--folder-uri>\n<vscode-remote://ssh-remote+devenv-0/workspace>\n"
    );

    fake(&folder, "xdg-open", 0);
    let ran = run(&folder, &["open", "devenv-0", "/x", "--editor", "jetbrains"])
        .await
        .expect(0);
    assert!(ran.err.contains("not on the PATH"), "{ran:?}");
    let link = "jetbrains-gateway://connect#type=ssh&deploy=false&host=devenv-0&port=22&user=node&projectPath=/x";
    assert_eq!(told(&folder, "xdg-open").unwrap(), format!("<{link}>\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn printing_asks_nobody_and_starts_nothing() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    folder.run(&["config", "--write"]).await.expect(0);
    fake(&folder, "code", 0);
    let before = gateway.server.count("/v1/workspaces");
    let print = async |more: &[&str]| {
        let args: Vec<&str> = ["open", "devenv-0", "--print"].iter().chain(more).copied().collect();
        run(&folder, &args).await.expect(0).out
    };
    assert_eq!(print(&[]).await, "vscode://vscode-remote/ssh-remote+devenv-0\n");
    assert_eq!(
        print(&["/é", "--editor", "windsurf"]).await,
        "windsurf://vscode-remote/ssh-remote+devenv-0/%C3%A9\n"
    );
    assert_eq!(
        print(&["--editor", "gateway"]).await,
        "jetbrains-gateway://connect#type=ssh&deploy=false&host=devenv-0&port=22&user=node\n"
    );
    assert_eq!(gateway.server.count("/v1/workspaces"), before);
    assert!(told(&folder, "code").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_editor_would_stumble_over_is_said_first() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    fake(&folder, "code", 0);
    for args in [&["config"][..], &["config", "--write", "--no-include"]] {
        folder.run(args).await.expect(0);
        let ran = run(&folder, &["open", "devenv-0"]).await.expect(78);
        assert!(ran.err.ends_with("hint: doorward config --write\n"), "{ran:?}");
    }
    folder.run(&["config", "--write"]).await.expect(0);
    for bad in [
        &["open", "devenv-0", "relative"][..],
        &["open", "../x"],
        &["open", "devenv-0", "--editor", "-x"],
    ] {
        run(&folder, bad).await.expect(64);
    }
    run(&folder, &["open", "devenv-0", "--editor", "no-such-editor"])
        .await
        .expect(78);
    let ran = run(&folder, &["open", "other"]).await.expect(77);
    assert!(ran.err.contains("no workspace other that you may enter"), "{ran:?}");
    assert!(told(&folder, "code").is_none());
    // One that was granted since is written down before the editor looks for it.
    gateway.json(
        "/v1/workspaces",
        json!({"workspaces": [{"name": "other", "login": "node", "state": "running"}]}),
    );
    run(&folder, &["open", "other"]).await.expect(0);
    assert!(folder.read("ssh_config").contains("\nHost other\n"));
    assert_eq!(told(&folder, "code").unwrap(), "<--remote>\n<ssh-remote+other>\n");

    std::fs::remove_file(folder.home().join("bin/code")).unwrap();
    let ran = run(&folder, &["open", "other"]).await.expect(78);
    assert!(ran.err.contains("code, code-insiders, codium"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeping_workspace_runs_before_the_editor_does() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    folder.run(&["config", "--write"]).await.expect(0);
    fake(&folder, "code", 0);
    gateway.json(
        "/v1/workspaces",
        json!({"workspaces": [{"name": "devenv-0", "login": "node", "state": "asleep"}]}),
    );
    let go = Arc::new(Semaphore::new(0));
    let line = &["{\"state\":\"starting\",\"text\":\"pulling the image\"}\n"];
    tells(&gateway, line, &go, "{\"state\":\"running\"}\n");
    let mut child = command(&folder, &["open", "devenv-0"]).spawn().unwrap();
    let mut said = Said::of(&mut child);
    assert_eq!(
        said.after("doorward: ").await,
        "devenv-0 is starting: pulling the image"
    );
    assert!(told(&folder, "code").is_none());
    go.add_permits(1);
    finish(child).await.expect(0);
    assert!(told(&folder, "code").is_some());

    // Who leaves meanwhile ends the wait, and no editor starts.
    std::fs::remove_file(folder.home().join("bin/code.told")).unwrap();
    let mut child = command(&folder, &["open", "devenv-0"]).spawn().unwrap();
    let mut said = Said::of(&mut child);
    said.after("doorward: devenv-0 is starting").await;
    let process = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT).unwrap();
    finish(child).await.expect(130);
    assert!(said.rest().await.contains("not waiting for devenv-0 any longer"));
    assert!(told(&folder, "code").is_none());

    // A gateway that stops in the middle is asked again; one that refuses is believed.
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    gateway.on(WAKE, move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Body(200, "application/x-ndjson", b"{\"state\":\"starting\"}\n".to_vec()),
        _ => crate::gateway::problem(403, "denied", "there is no such workspace, or you may not enter it", ""),
    });
    let ran = run(&folder, &["open", "devenv-0"]).await.expect(77);
    assert!(ran.err.contains("you may not enter it"), "{ran:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}
