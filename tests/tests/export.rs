//! Events reach those who collect them, however often they, or the gateway, go away.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use doorward_audit::Event;
use serde_json::Value;
use tests::journal::journal;
use tests::{Stand, sha256, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A collector that can be out of order.
#[derive(Default)]
struct Collector {
    fails: AtomicBool,
    refused: AtomicBool,
    lines: Mutex<Vec<Value>>,
}

impl Collector {
    fn lines(&self) -> Vec<Value> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            // One after the other, as the gateway sends them.
            let _ = self.answer(stream).await;
        }
    }

    /// One request; the connection is closed after it.
    async fn answer(&self, mut stream: TcpStream) -> Result<()> {
        let (mut bytes, mut part) = (Vec::new(), vec![0; 64 * 1024]);
        let body = loop {
            let count = stream.read(&mut part).await?;
            ensure!(count > 0, "the request broke off");
            bytes.extend_from_slice(&part[..count]);
            let text = String::from_utf8_lossy(&bytes);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let head = head.to_ascii_lowercase();
            let length = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.lines().next());
            if body.len() == length.context("no length")?.parse::<usize>()? {
                break body.to_owned();
            }
        };
        let fails = self.fails.load(Ordering::SeqCst);
        if !fails {
            let lines = body.lines().map(serde_json::from_str).collect::<Result<Vec<_>, _>>()?;
            self.lines.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
        }
        self.refused.fetch_or(fails, Ordering::SeqCst);
        let status = if fails {
            "503 Service Unavailable"
        } else {
            "204 No Content"
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last line may be under way.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).context(line.to_owned()))
        .collect()
}

/// The ids of the journal's events, each once, in the order in which they came first.
fn first_seen(lines: &[Value], id: &str, from_journal: impl Fn(&Value) -> bool) -> Vec<String> {
    let mut seen = Vec::new();
    for line in lines.iter().filter(|line| from_journal(line)) {
        let id = line.pointer(id).and_then(Value::as_str).unwrap_or_default().to_owned();
        if !seen.contains(&id) {
            seen.push(id);
        }
    }
    seen
}

/// All ids that a journal's events have, in their order.
fn expected(stand: &Stand) -> Result<Vec<String>> {
    let mut streams: Vec<String> = fs::read_dir(stand.stack.state_dir().join("journal"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    streams.sort();
    let mut ids = Vec::new();
    for stream in streams {
        let folder = stand.stack.state_dir().join("journal").join(&stream);
        let count = tests::journal::recorded(&folder)?.len();
        ids.extend((0..count).map(|index| format!("{stream}:{index}")));
    }
    Ok(ids)
}

#[test]
fn every_event_arrives_in_order_over_failures_and_restarts() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let mut stand =
            Stand::start(env!("CARGO_BIN_EXE_doorward-all"), env!("CARGO_TARGET_TMPDIR"), "export").await?;
        let collector = Arc::new(Collector::default());
        collector.fails.store(true, Ordering::SeqCst);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&collector).serve(listener));
        let file = stand.folder().join("events.jsonl");
        let exports = format!(
            "\n[[export]]\nname = \"lines\"\nkind = \"file\"\nformat = \"jsonl\"\npath = \"{}\"\n\
             [[export]]\nname = \"siem\"\nkind = \"http\"\nformat = \"ocsf\"\nurl = \"http://{address}/in\"\nbatch = 7\n",
            file.display()
        );
        stand.stack.add_to_gateway(&exports);
        stand.stack.restart_gateway().await?;

        // A sink that is down holds up nobody.
        let outcome = stand.run(&[], "devenv-0", "printf hello; exit 3", b"").await?;
        ensure!(outcome.code == Some(3), "{}", outcome.said());
        let local = stand.folder().join("upload");
        fs::write(&local, b"uploaded")?;
        let upload = stand.stack.home("devenv-0").join("export-upload");
        let mut sftp = tokio::process::Command::new("sftp");
        sftp.arg("-F").arg(stand.stack.ssh_config()).args(["-q", "-b", "-", "devenv-0"]);
        let line = format!("put {} {}\n", local.display(), upload.display());
        let outcome = tests::feed(sftp, line.as_bytes()).await?;
        ensure!(outcome.code == Some(0), "{}", outcome.said());
        let lines_have = async |what: &str, check: &dyn Fn(&Value) -> bool| {
            until(what, async || {
                let found = read(&file)?.into_iter().find(|line| check(line));
                if found.is_none() {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                Ok(found)
            })
            .await
        };
        let command = lines_have("the command in the file", &|line| {
            line["act"] == "command" && line["command"] == "printf hello; exit 3"
        })
        .await?;
        ensure!(command["user"] == "bob" && command["workspace"] == "devenv-0", "{command}");
        let hash = sha256(b"uploaded");
        lines_have("the upload in the file", &|line| {
            line["act"] == "file-closed" && line["written"]["sha256"] == hash.as_str()
        })
        .await?;
        until("the collector refuses", async || {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            Ok(collector.refused.load(Ordering::SeqCst).then_some(()))
        })
        .await?;
        ensure!(collector.lines().is_empty(), "it took nothing");

        // Killed and started again, in order and not.
        stand.stack.kill_gateway().await;
        stand.stack.restart_gateway().await?;
        collector.fails.store(false, Ordering::SeqCst);
        let outcome = stand.run(&[], "devenv-0", "true", b"").await?;
        ensure!(outcome.code == Some(0), "{}", outcome.said());
        stand.stack.restart_gateway().await?;
        collector.fails.store(true, Ordering::SeqCst);
        let outcome = stand.run(&[], "devenv-0", "echo last", b"").await?;
        ensure!(outcome.code == Some(0), "{}", outcome.said());
        collector.fails.store(false, Ordering::SeqCst);

        let ended = journal(&stand.stack.state_dir())?;
        ensure!(ended.iter().any(|event| matches!(event, Event::SessionEnded(_))), "{ended:?}");
        for (name, id, from_journal) in [
            ("file", "/id", (|line: &Value| line["log"] == "journal") as fn(&Value) -> bool),
            ("http", "/metadata/uid", |line: &Value| line["metadata"]["log_name"] == "journal"),
        ] {
            let all = || -> Result<Vec<Value>> {
                match name {
                    "file" => read(&file),
                    _ => Ok(collector.lines()),
                }
            };
            until(&format!("everything by {name}"), async || {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                let last = |line: &Value| line.to_string().contains("echo last");
                let everything = first_seen(&all()?, id, from_journal) == expected(&stand)?;
                Ok((everything && all()?.iter().any(last)).then_some(()))
            })
            .await?;
        }
        let taken = collector.lines();
        let upload = taken.iter().find(|line| {
            line["class_uid"] == 1001 && line["file"]["hashes"][0]["value"] == hash.as_str()
        });
        ensure!(upload.is_some_and(|line| line["actor"]["user"]["name"] == "bob"), "{upload:?}");
        let opened = taken.iter().filter(|line| line["type_uid"] == 400_701).count();
        let closed = taken.iter().filter(|line| line["type_uid"] == 400_702).count();
        ensure!(opened >= 4 && closed >= 4, "{opened} opened, {closed} closed");
        Ok(())
    })
}
