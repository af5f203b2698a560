//! Every way through a session leaves events with its bytes counted: real programs, one session each.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use doorward_audit::{Coverage, Event};
use serde_json::Value;
use tests::journal::recorded;
use tests::{Outcome, Shared, Stand, feed, noise, sha256, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::Command;

fn stand() -> &'static Shared {
    static STAND: OnceLock<Shared> = OnceLock::new();
    STAND.get_or_init(|| {
        Shared::start(
            env!("CARGO_BIN_EXE_doorward-all"),
            env!("CARGO_TARGET_TMPDIR"),
            "accounted",
        )
    })
}

/// The names of all sessions so far.
async fn known(stand: &Stand) -> Result<Vec<Value>> {
    let list = stand.sessions().await?;
    Ok(list.iter().map(|entry| entry["session"].clone()).collect())
}

/// The session that is not among the known, once it is over: what its record says, checked against itself.
async fn events_of_new(stand: &Stand, before: &[Value]) -> Result<Vec<Event>> {
    let entry = until("the session's entry closes", async || {
        let list = stand.sessions().await?;
        let new = list.into_iter().find(|entry| !before.contains(&entry["session"]));
        Ok(new.filter(|entry| !entry["ended"].is_null()))
    })
    .await?;
    let id = entry["session"].as_str().context("a session without an id")?;
    let verified = stand.doorward(&["verify", id]).await?;
    ensure!(verified.code == Some(0), "verify: {}", verified.said());
    let events = recorded(&stored(stand, id)?)?;
    adds_up(&events)?;
    Ok(events)
}

fn stored(stand: &Stand, id: &str) -> Result<PathBuf> {
    let days = std::fs::read_dir(stand.stack.records_dir())?;
    let mut folders = days.filter_map(|day| Some(day.ok()?.path().join(id)));
    folders.find(|folder| folder.is_dir()).context("not stored")
}

/// Every byte that was seen is recorded, digested, forwarded or said to be missing.
fn adds_up(events: &[Event]) -> Result<()> {
    let said = events.iter().find_map(|event| match event {
        Event::Coverage(coverage) => Some(coverage.clone()),
        _ => None,
    });
    let said: Coverage = said.context("no coverage")?;
    let others: u64 = events
        .iter()
        .map(|event| match event {
            Event::Gap(gap) => gap.bytes,
            Event::ForwardEnded(ended) => ended.from_client + ended.to_client,
            _ => 0,
        })
        .sum();
    let sum = said.bytes_recorded + said.bytes_digested + others;
    ensure!(said.bytes_seen == sum, "{said:?}, and {others} in gaps and forwards");
    ensure!(said.client_to_agent > 0 && said.agent_to_client > 0, "{said:?}");
    Ok(())
}

fn output(events: &[Event], stream: u8) -> Vec<u8> {
    let mut all = Vec::new();
    for event in events {
        if let Event::Output(output) = event
            && output.stream == stream
        {
            all.extend_from_slice(&output.bytes);
        }
    }
    all
}

fn digest(events: &[Event], stream: u8) -> Option<(u64, String)> {
    events.iter().find_map(|event| match event {
        Event::Digest(digest) if digest.stream == stream => {
            let hash = digest.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            Some((digest.bytes, hash))
        }
        _ => None,
    })
}

fn has(events: &[Event], what: &str, wanted: impl Fn(&Event) -> bool) -> Result<()> {
    let names: Vec<_> = events.iter().map(Event::name).collect();
    ensure!(events.iter().any(wanted), "no {what} in {names:?}");
    Ok(())
}

/// Runs a program that is one session and gives its events.
async fn session(stand: &Stand, command: Command, input: &[u8]) -> Result<(Outcome, Vec<Event>)> {
    let before = known(stand).await?;
    let outcome = feed(command, input).await?;
    Ok((outcome, events_of_new(stand, &before).await?))
}

fn openssh(stand: &Stand, program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("-F").arg(stand.stack.ssh_config()).args(args);
    command
}

#[test]
fn commands_and_shells() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let ssh = |args: &[&str]| openssh(stand, "ssh", args);
        let line = "echo to-out; echo to-err >&2; exit 3";
        let (_, events) = session(stand, ssh(&["-oSetEnv=LC_TEST=eins", "devenv-0", line]), b"").await?;
        has(
            &events,
            "Exec",
            |event| matches!(event, Event::Exec(exec) if exec.command == line),
        )?;
        has(
            &events,
            "Exit",
            |event| matches!(event, Event::Exit(exit) if exit.status == Some(3)),
        )?;
        has(
            &events,
            "Env",
            |event| matches!(event, Event::Env(env) if env.name == "LC_TEST" && env.value == "eins"),
        )?;
        ensure!(
            output(&events, 1) == b"to-out\n" && output(&events, 2) == b"to-err\n",
            "{events:?}"
        );

        let (_, events) = session(stand, ssh(&["-T", "devenv-0"]), b"echo typed\n").await?;
        has(&events, "Shell", |event| matches!(event, Event::Shell(_)))?;
        ensure!(
            digest(&events, 0) == Some((11, sha256(b"echo typed\n"))),
            "input: {events:?}"
        );
        ensure!(String::from_utf8_lossy(&output(&events, 1)).contains("typed"));

        let (_, events) = session(stand, ssh(&["-tt", "devenv-0", "read x; echo got"]), b"hello\n").await?;
        has(&events, "Pty", |event| matches!(event, Event::Pty(_)))?;
        has(
            &events,
            "Gap",
            |event| matches!(event, Event::Gap(gap) if gap.bytes == 6),
        )?;

        // What has left its parent and its session still writes into the channel.
        let line = "(setsid sh -c 'sleep 0.3; echo from-far' &); exit 0";
        let (_, events) = session(stand, ssh(&["devenv-0", line]), b"").await?;
        ensure!(output(&events, 1) == b"from-far\n", "{events:?}");

        let (_, events) = session(stand, ssh(&["-s", "devenv-0", "netconf"]), b"").await?;
        has(
            &events,
            "Refused",
            |event| matches!(event, Event::Refused(refused) if refused.what.contains("netconf")),
        )?;
        Ok(())
    })
}

#[test]
fn a_terminal_within_the_terminal() -> Result<()> {
    let _alone = tests::alone();
    if std::process::Command::new("tmux").arg("-V").output().is_err() {
        eprintln!("without tmux, which is not here");
        return Ok(());
    }
    stand().run(|stand| async move {
        let line = "TERM=xterm tmux -L accounted new-session 'echo in-tmux; sleep 0.5'";
        let (_, events) = session(stand, openssh(stand, "ssh", &["-tt", "devenv-0", line]), b"").await?;
        ensure!(
            String::from_utf8_lossy(&output(&events, 1)).contains("in-tmux"),
            "{events:?}"
        );
        Ok(())
    })
}

#[test]
fn files() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let bytes = noise(300_000);
        let local = stand.folder().join("local");
        std::fs::write(&local, &bytes)?;
        let hash = |read: &[u8; 32]| read.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let at = |name: &str| stand.folder().join(name);
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let remote = |name: &str| format!("devenv-0:{}", path(&at(name)));
        let closed = |events: &[Event], up: bool| {
            has(events, "FileClosed", |event| match event {
                Event::FileClosed(file) => {
                    [&file.read, &file.written][usize::from(up)]
                        .as_ref()
                        .is_some_and(|passed| {
                            passed.bytes == 300_000 && passed.sha256.map(|one| hash(&one)) == Some(sha256(&bytes))
                        })
                }
                _ => false,
            })
        };
        let (outcome, events) =
            session(stand, openssh(stand, "scp", &["-q", &path(&local), &remote("up")]), b"").await?;
        ensure!(outcome.code == Some(0), "scp: {}", outcome.said());
        has(
            &events,
            "Subsystem",
            |event| matches!(event, Event::Subsystem(one) if one.name == "sftp"),
        )?;
        closed(&events, true)?;

        let lines = format!("get {} {}\nrm {0}\n", path(&at("up")), path(&at("down")));
        let (outcome, events) = session(
            stand,
            openssh(stand, "sftp", &["-q", "-b", "-", "devenv-0"]),
            lines.as_bytes(),
        )
        .await?;
        ensure!(outcome.code == Some(0), "sftp: {}", outcome.said());
        closed(&events, false)?;
        has(
            &events,
            "FileOperation",
            |event| matches!(event, Event::FileOperation(one) if one.operation == "remove"),
        )?;

        // The old way is a command with bytes on its input.
        let (outcome, events) = session(
            stand,
            openssh(stand, "scp", &["-O", "-q", &path(&local), &remote("old")]),
            b"",
        )
        .await?;
        ensure!(outcome.code == Some(0), "scp -O: {}", outcome.said());
        has(
            &events,
            "Exec",
            |event| matches!(event, Event::Exec(exec) if exec.command.starts_with(b"scp ")),
        )?;
        ensure!(
            digest(&events, 0).is_some_and(|(count, _)| count > 300_000),
            "{events:?}"
        );
        Ok(())
    })
}

#[test]
fn connections() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (target, free) = (
            listener.local_addr()?,
            TcpListener::bind("127.0.0.1:0").await?.local_addr()?,
        );
        let answer = async {
            let (mut peer, _) = listener.accept().await?;
            let mut asked = [0; 5];
            peer.read_exact(&mut asked).await?;
            peer.write_all(b"answered").await?;
            Ok::<_, anyhow::Error>(())
        };
        let before = known(stand).await?;
        let forward = format!("127.0.0.1:{}:{target}", free.port());
        let mut ssh = openssh(stand, "ssh", &["-N", "-L", &forward, "devenv-0"]);
        let mut ssh = ssh.stdin(Stdio::null()).kill_on_drop(true).spawn()?;
        let mut near = until("the forwarded port", async || Ok(TcpStream::connect(free).await.ok())).await?;
        let talk = async {
            near.write_all(b"asked").await?;
            let mut heard = Vec::new();
            near.read_to_end(&mut heard).await?;
            drop(near);
            Ok::<_, anyhow::Error>(heard)
        };
        let (answered, heard) = tokio::join!(answer, talk);
        answered?;
        ensure!(heard? == b"answered");
        // The client says that the channel is closed before it leaves by itself.
        nix::sys::signal::kill(pid(&ssh)?, nix::sys::signal::Signal::SIGTERM)?;
        ssh.wait().await?;
        let events = events_of_new(stand, &before).await?;
        has(
            &events,
            "ChannelOpened",
            |event| matches!(event, Event::ChannelOpened(one) if one.kind.starts_with("direct-tcpip ")),
        )?;
        has(
            &events,
            "ForwardConnected",
            |event| matches!(event, Event::ForwardConnected(one) if one.address == target.to_string()),
        )?;
        has(
            &events,
            "ForwardEnded",
            |event| matches!(event, Event::ForwardEnded(one) if (one.from_client, one.to_client) == (5, 8)),
        )?;

        // And one that does nothing at all.
        let before = known(stand).await?;
        let there = stand.folder().join("there");
        let command = format!("LocalCommand=touch '{}'", there.display());
        let mut ssh = openssh(
            stand,
            "ssh",
            &["-N", "-oPermitLocalCommand=yes", "-o", &command, "devenv-0"],
        );
        let mut ssh = ssh.stdin(Stdio::null()).kill_on_drop(true).spawn()?;
        until("the login", async || Ok(there.exists().then_some(()))).await?;
        nix::sys::signal::kill(pid(&ssh)?, nix::sys::signal::Signal::SIGTERM)?;
        ssh.wait().await?;
        let events = events_of_new(stand, &before).await?;
        has(&events, "Ended", |event| matches!(event, Event::Ended(_)))?;
        has(
            &events,
            "Coverage",
            |event| matches!(event, Event::Coverage(said) if said.channels == 0),
        )
    })
}

fn pid(child: &tokio::process::Child) -> Result<nix::unistd::Pid> {
    Ok(nix::unistd::Pid::from_raw(i32::try_from(
        child.id().context("it has ended")?,
    )?))
}

#[test]
fn a_lent_agent() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        let folder = tempfile::tempdir_in("/tmp")?;
        let socket = folder.path().join("agent");
        let mut agent = Command::new("ssh-agent");
        let _agent = agent
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        until("the agent's socket", async || {
            Ok(UnixStream::connect(&socket).await.ok())
        })
        .await?;
        let mut ssh = openssh(
            stand,
            "ssh",
            &["-A", "-oIdentityAgent=SSH_AUTH_SOCK", "devenv-0", "ssh-add -l"],
        );
        ssh.env("SSH_AUTH_SOCK", &socket);
        let (outcome, events) = session(stand, ssh, b"").await?;
        ensure!(
            String::from_utf8_lossy(&outcome.stdout).contains("no identities"),
            "{}",
            outcome.said()
        );
        has(
            &events,
            "ChannelOpened",
            |event| matches!(event, Event::ChannelOpened(one) if one.kind.starts_with("auth-agent")),
        )?;
        has(
            &events,
            "ForwardEnded",
            |event| matches!(event, Event::ForwardEnded(one) if one.from_client > 0 && one.to_client > 0),
        )
    })
}
