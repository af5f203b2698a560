//! `doorward sessions show` says what real sessions of OpenSSH's own programs did.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use doorward_dev::stack::ClientFolder;
use serde_json::{Value, json};
use tests::{PATIENCE, Shared, Stand, feed, noise, sha256, until};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

fn stand() -> &'static Shared {
    static STAND: OnceLock<Shared> = OnceLock::new();
    STAND.get_or_init(|| Shared::start(env!("CARGO_BIN_EXE_doorward-all"), env!("CARGO_TARGET_TMPDIR"), "show"))
}

/// A person's sessions, to find the one that is new.
async fn ids(client: &ClientFolder) -> Result<Vec<Value>> {
    let all = tests::sessions_of(client).await?;
    Ok(all.into_iter().map(|entry| entry["session"].clone()).collect())
}

/// Waits for the end of the one session that is not among `before`, and shows it, as text and as JSON.
async fn shown(client: &ClientFolder, before: &[Value]) -> Result<(String, Value)> {
    let id = until("the session ends", async || {
        let all = tests::sessions_of(client).await?;
        let new = all.into_iter().find(|entry| !before.contains(&entry["session"]));
        let new = new.filter(|entry| !entry["ended"].is_null());
        Ok(new.and_then(|entry| entry["session"].as_str().map(ToOwned::to_owned)))
    })
    .await?;
    let text = feed(client.command(["sessions", "show", &id]), b"").await?;
    ensure!(text.code == Some(0), "show: {:?}: {}", text.code, text.said());
    let json = feed(client.command(["sessions", "show", &id, "--json"]), b"").await?;
    ensure!(json.code == Some(0), "show --json: {:?}: {}", json.code, json.said());
    let text = String::from_utf8(text.stdout)?;
    ensure!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    let json: Value = serde_json::from_slice(&json.stdout)?;
    ensure!(
        json["verification"]["verdict"] == "complete",
        "{}",
        json["verification"]
    );
    Ok((text, json))
}

fn ssh(client: &ClientFolder) -> Command {
    let mut command = Command::new("ssh");
    command.arg("-F").arg(client.ssh_config()).kill_on_drop(true);
    command
}

/// The acts of this kind, of all channels and of none.
fn acts<'a>(json: &'a Value, kind: &str) -> Vec<&'a Value> {
    let channels = json["channels"].as_array().into_iter().flatten();
    let lists = channels.map(|channel| &channel["acts"]).chain([&json["acts"]]);
    let all = lists.filter_map(Value::as_array).flatten();
    all.filter(|act| act["act"] == kind).collect()
}

/// Takes connections and gives back what it read.
async fn parrot(tasks: &mut JoinSet<()>) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut heard = Vec::new();
            if stream.read_to_end(&mut heard).await.is_ok() {
                let _ = stream.write_all(&heard).await;
            }
        }
    });
    Ok(port)
}

async fn talk(port: u16, say: &[u8]) -> Result<()> {
    let mut stream = until("a forwarded port", async || {
        Ok(TcpStream::connect(("127.0.0.1", port)).await.ok())
    })
    .await?;
    let mut back = Vec::new();
    timeout(PATIENCE, async {
        stream.write_all(say).await?;
        stream.shutdown().await?;
        stream.read_to_end(&mut back).await
    })
    .await??;
    ensure!(back == say, "the bytes changed");
    Ok(())
}

#[test]
fn a_command_is_shown_with_its_exit_code_and_its_bytes() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let client = stand.stack.client();
        let before = ids(client).await?;
        let outcome = stand
            .run(
                &[],
                "devenv-0",
                "cat >/dev/null; printf 'to out'; printf '\\033[2J' >&2; exit 7",
                b"12345",
            )
            .await?;
        ensure!(outcome.code == Some(7), "{:?}: {}", outcome.code, outcome.said());
        let (text, json) = shown(client, &before).await?;
        let channel = &json["channels"][0];
        ensure!(
            channel["exit"]["status"] == 7 && channel["runs"] == "command",
            "{channel}"
        );
        let streams = &channel["streams"];
        ensure!(
            streams["out"]["bytes"] == 6 && streams["out"]["kept"] == "whole",
            "{streams}"
        );
        ensure!(streams["err"]["bytes"] == 4, "{streams}");
        ensure!(
            streams["in"]["bytes"] == 5
                && streams["in"]["kept"] == "digested"
                && streams["in"]["sha256"] == sha256(b"12345"),
            "{streams}"
        );
        ensure!(json["user"] == "bob" && json["workspace"] == "devenv-0", "{json}");
        for part in [
            "exit      7",
            "6 B, recorded whole",
            "command   cat >/dev/null; ",
            "allowed    ",
            "ok: whole",
        ] {
            ensure!(text.contains(part), "{part:?} is not in {text}");
        }
        Ok(())
    })
}

#[test]
fn files_are_shown_one_by_one_with_their_hash() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let client = stand.stack.client();
        let folder = stand.folder().join("files");
        fs::create_dir_all(&folder)?;
        let bytes = noise(300_000);
        let odd = folder.join(OsStr::from_bytes(b"far\x1b[2J\xff"));
        fs::write(folder.join("here"), &bytes)?;
        fs::write(&odd, b"odd")?;
        let before = ids(client).await?;
        let mut command = Command::new("sftp");
        command
            .arg("-F")
            .arg(client.ssh_config())
            .args(["-q", "-b", "-", "devenv-0"]);
        let at = folder.display();
        let lines = format!("put {at}/here {at}/there\nget {at}/far* {at}/back\n-rm {at}/missing\n");
        let outcome = feed(command, lines.as_bytes()).await?;
        ensure!(outcome.code == Some(0), "{:?}: {}", outcome.code, outcome.said());
        let (text, json) = shown(client, &before).await?;
        let closed = acts(&json, "file-closed");
        let written = closed
            .iter()
            .find(|act| act["path"].as_str().is_some_and(|path| path.ends_with("/there")));
        let written = &written.context("no upload")?["written"];
        ensure!(
            *written == json!({"bytes": 300_000, "from": 0, "sequential": true, "sha256": sha256(&bytes)}),
            "{written}"
        );
        let read = closed
            .iter()
            .find(|act| !act["path-hex"].is_null())
            .context("no download")?;
        ensure!(
            read["read"]["bytes"] == 3 && read["read"]["sha256"] == sha256(b"odd"),
            "{read}"
        );
        let missing = acts(&json, "file-operation");
        ensure!(missing.iter().any(|act| act["result"] == "no such file"), "{missing:?}");
        for part in [
            r#"/far\x1b[2J\xff": read 3 B, SHA-256 "#,
            r#"/there": written 300000 B, SHA-256 "#,
            &sha256(&bytes),
        ] {
            ensure!(text.contains(part), "{part:?} is not in {text}");
        }
        Ok(())
    })
}

#[test]
fn forwards_are_shown_connection_by_connection() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let client = stand.stack.client();
        let mut tasks = JoinSet::new();
        let to = parrot(&mut tasks).await?;
        let before = ids(client).await?;
        let here = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let mut child = ssh(client)
            .args(["-N", "-o", "ExitOnForwardFailure=yes", "-o", "LogLevel=INFO"])
            .args([
                "-L",
                &format!("{here}:localhost:{to}"),
                "-R",
                &format!("0:127.0.0.1:{to}"),
                "devenv-0",
            ])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut said = BufReader::new(child.stderr.take().context("no stderr")?).lines();
        let there: u16 = timeout(PATIENCE, async {
            while let Some(line) = said.next_line().await? {
                if let Some(rest) = line.strip_prefix("Allocated port ") {
                    return Ok(rest.split(' ').next().unwrap_or_default().parse()?);
                }
            }
            anyhow::bail!("ssh ended without a port")
        })
        .await??;
        talk(here, b"local").await?;
        talk(there, b"from within").await?;
        child.kill().await?;
        let (text, json) = shown(client, &before).await?;
        let channels = json["channels"].as_array().context("no channels")?;
        let of = |kind: &str| {
            channels
                .iter()
                .find(|channel| channel["kind"] == kind)
                .map(|one| &one["forward"])
        };
        let local = of("direct-tcpip").context("no local forward")?;
        ensure!(local["asked"] == format!("localhost:{to}"), "{local}");
        ensure!(
            local["address"]
                .as_str()
                .is_some_and(|at| at.ends_with(&format!(":{to}"))),
            "{local}"
        );
        ensure!(
            local["from-client"] == 5 && local["to-client"] == 5 && local["duration-ms"].is_u64(),
            "{local}"
        );
        let remote = of("forwarded-tcpip").context("no remote forward")?;
        ensure!(remote["from-client"] == 11 && remote["to-client"] == 11, "{remote}");
        let listeners = acts(&json, "listener-opened");
        ensure!(
            listeners.len() == 1 && listeners[0]["listener"] == remote["listener"],
            "{listeners:?}"
        );
        ensure!(listeners[0]["kind"] == "tcpip-forward", "{listeners:?}");
        for part in [
            "5 B from the client, 5 B to the client, in ",
            "through listener ",
            " opened, tcpip-forward, at ",
        ] {
            ensure!(text.contains(part), "{part:?} is not in {text}");
        }
        Ok(())
    })
}

#[test]
fn a_refusal_is_shown_with_its_reason() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand: &'static Stand| async move {
        let carol = stand.stack.login("carol", &stand.folder().join("carol")).await?;
        let before = ids(&carol).await?;
        let mut command = ssh(&carol);
        command.args(["-tt", "devenv-1"]);
        let outcome = feed(command, b"").await?;
        ensure!(outcome.code != Some(0), "carol has a shell");
        let (text, json) = shown(&carol, &before).await?;
        let refused = acts(&json, "refused");
        ensure!(
            refused
                .iter()
                .any(|act| act["what"].as_str().is_some_and(|what| what.contains("shell"))),
            "{refused:?}"
        );
        ensure!(
            refused
                .iter()
                .all(|act| act["why"].as_str().is_some_and(|why| !why.is_empty())),
            "{refused:?}"
        );
        ensure!(text.contains("  refused   \""), "{text}");
        Ok(())
    })
}
