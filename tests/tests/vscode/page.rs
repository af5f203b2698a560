//! VS Code's own server, started in the workspace by the script and used in Chromium through the dynamic forward.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tests::both::Server;
use tests::{Stand, feed};
use tokio::process::Command;

use crate::window::{self, Window};
use crate::{stand, there};

/// Where `tests/clients/install` puts it.
fn installed() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    cache.or_else(home).unwrap_or_default().join("doorward/clients/vscode")
}

#[test]
fn a_page_of_the_editor_is_used_through_the_forward() -> Result<()> {
    let folder = installed();
    let entry = folder.join("node_modules/code-server/out/node/entry.js");
    let pty = folder.join("node_modules/code-server/lib/vscode/node_modules/node-pty/build/Release/pty.node");
    let needed = [&entry, &pty].map(|path| path.to_string_lossy().into_owned());
    let [entry, pty] = &needed;
    if !there(&["node", "chromium", "rg", entry, pty])? {
        return Ok(());
    }
    stand().run(|stand| used(stand, entry))
}

async fn used(stand: &Stand, entry: &str) -> Result<()> {
    let server = Server::doorward(stand);
    let work = server.home().join("work");
    std::fs::create_dir_all(&work)?;
    std::fs::write(work.join("notes.txt"), "first line\n")?;
    let settings = server.home().join("editor-data/User");
    std::fs::create_dir_all(&settings)?;
    // what is typed is to reach the disk by saving alone, and what the terminal shows is to stand in the page
    std::fs::write(
        settings.join("settings.json"),
        r#"{ "workbench.startupEditor": "none", "files.autoSave": "off", "git.enabled": false,
            "terminal.integrated.gpuAcceleration": "off" }"#,
    )?;
    let run = format!(
        "node '{entry}' --auth none --bind-addr 127.0.0.1:0 --disable-telemetry --disable-update-check \
         --disable-workspace-trust --user-data-dir '{home}/editor-data' --extensions-dir '{home}/editor-extensions' '{work}'",
        home = server.home().display(),
        work = work.display()
    );
    let window = Window::open(&server, &[], "bash", &window::script("page", &run)).await?;
    let _server = window.server()?;
    let url = format!("http://127.0.0.1:{}/?folder={}", window.port()?, work.display());
    let proxy = format!("127.0.0.1:{}", window.socks());
    let mut drive = Command::new("node");
    drive
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/vscode/drive.js"))
        .env("NODE_PATH", installed().join("node_modules"))
        .args([&url, &proxy, "notes.txt", "and a second one"])
        .args(["echo from $((6*7)) | tee typed.txt", "from 42"])
        .stdin(Stdio::null());
    let outcome = feed(drive, b"").await?;
    ensure!(outcome.code == Some(0), "{}", outcome.said());
    let said = String::from_utf8_lossy(&outcome.stdout);
    ensure!(said == "opened\ntyped\nedited\nsaved\n", "{said}");
    let notes = std::fs::read_to_string(work.join("notes.txt"))?;
    ensure!(notes == "first line\nand a second one", "notes.txt holds {notes:?}");
    let typed = std::fs::read_to_string(work.join("typed.txt")).context("nothing came of the terminal")?;
    ensure!(typed == "from 42\n", "typed.txt holds {typed:?}");
    Ok(())
}
