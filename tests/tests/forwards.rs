//! Forwards as people use them: OpenSSH's own client with `-L`, `-D`, `-W`, `-R` and `-A`, on Doorward and, where both must
//! do the same, on a stock sshd.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::sshd::Sshd;
use tests::{PATIENCE, Shared, Stand, feed, noise, sha256, until};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

fn stand() -> &'static Shared {
    static STAND: OnceLock<Shared> = OnceLock::new();
    STAND.get_or_init(|| {
        Shared::start(
            env!("CARGO_BIN_EXE_doorward-all"),
            env!("CARGO_TARGET_TMPDIR"),
            "forwards",
        )
    })
}

/// Something in the workspace that reads to the end, then gives back what it read.
async fn parrot(tasks: &mut JoinSet<()>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tasks.spawn(async move {
        let mut all = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            all.spawn(repeat(stream));
        }
    });
    Ok(address)
}

async fn repeat<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let mut heard = Vec::new();
    if stream.read_to_end(&mut heard).await.is_ok() {
        let _ = stream.write_all(&heard).await;
        let _ = stream.shutdown().await;
    }
}

/// Says all of it, closes that half, and gives what comes back.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, say: &[u8]) -> Result<Vec<u8>> {
    let talk = async {
        stream.write_all(say).await?;
        stream.shutdown().await?;
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await?;
        Ok(back)
    };
    timeout(PATIENCE * 3, talk).await.context("the connection hung")?
}

async fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

/// A server, and how OpenSSH's client reaches it.
struct Target {
    config: PathBuf,
    host: &'static str,
}

impl Target {
    fn doorward(stand: &Stand) -> Self {
        Self {
            config: stand.stack.ssh_config().to_owned(),
            host: "devenv-0",
        }
    }

    /// Doorward, and a stock sshd where there is one.
    fn both(stand: &Stand, sshd: Option<&Sshd>) -> Vec<Self> {
        let stock = sshd.map(|sshd| Self {
            config: sshd.config().to_owned(),
            host: "direct",
        });
        [Some(Self::doorward(stand)), stock].into_iter().flatten().collect()
    }

    fn ssh(&self, options: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .arg("-F")
            .arg(&self.config)
            .args(options)
            .arg(self.host)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

/// `ssh -N` with these options, until it is dropped.
fn background(target: &Target, options: &[&str]) -> Result<Child> {
    let mut command = target.ssh(options);
    command.args(["-N", "-o", "ExitOnForwardFailure=yes"]);
    Ok(command.stderr(Stdio::piped()).spawn()?)
}

async fn connected(port: u16) -> Result<TcpStream> {
    until("a forwarded port", async || {
        Ok(TcpStream::connect(("127.0.0.1", port)).await.ok())
    })
    .await
}

#[test]
fn a_local_forward_carries_hundreds_and_much() -> Result<()> {
    stand().run(|stand| async move {
        let sshd = Sshd::start(&stand.folder().join("a_local_forward_carries_hundreds_and_much"))?;
        for target in Target::both(stand, sshd.as_ref()) {
            on::a_local_forward_carries_hundreds_and_much(&target)
                .await
                .context(target.host)?;
        }
        Ok(())
    })
}

#[test]
fn a_dynamic_forward_resolves_names_in_the_workspace() -> Result<()> {
    stand().run(|stand| async move {
        let target = Target::doorward(stand);
        let mut tasks = JoinSet::new();
        let (to, port) = (parrot(&mut tasks).await?, free_port().await?);
        let _ssh = background(&target, &["-D", &format!("127.0.0.1:{port}")])?;
        // RFC 1928: no authentication; connect; a name.
        let socks = async |name: &str, to: u16| -> Result<(u8, TcpStream)> {
            let mut stream = connected(port).await?;
            stream.write_all(&[5, 1, 0]).await?;
            stream.read_exact(&mut [0; 2]).await?;
            let mut ask = vec![5, 1, 0, 3, u8::try_from(name.len())?];
            ask.extend_from_slice(name.as_bytes());
            ask.extend_from_slice(&to.to_be_bytes());
            stream.write_all(&ask).await?;
            let mut answer = [0; 10];
            let heard = timeout(PATIENCE, stream.read_exact(&mut answer)).await?;
            Ok((if heard.is_ok() { answer[1] } else { u8::MAX }, stream))
        };
        let (answer, stream) = socks("localhost", to.port()).await?;
        ensure!(answer == 0, "SOCKS says {answer}");
        ensure!(talk(stream, b"by name").await? == b"by name", "the bytes changed");
        let (answer, _) = socks("169.254.169.254", 80).await?;
        ensure!(answer != 0, "the metadata address was reached");
        Ok(())
    })
}

#[test]
fn standard_input_and_output_are_a_connection() -> Result<()> {
    stand().run(|stand| async move {
        let mut tasks = JoinSet::new();
        let to = parrot(&mut tasks).await?;
        let target = format!("localhost:{}", to.port());
        let done = feed(Target::doorward(stand).ssh(&["-W", &target]), b"there and back").await?;
        ensure!(done.stdout == b"there and back", "{:?}: {}", done.stdout, done.said());
        let gateway = stand.stack.gateway_address().to_string();
        let admin = format!("localhost:{}", stand.stack.admin_address().port());
        for (target, why) in [
            (gateway.as_str(), "the workspace's configuration forbids the address"),
            (&admin, "the workspace's configuration forbids the address"),
            (
                "169.254.169.254:80",
                "administratively prohibited: link-local and metadata",
            ),
            (
                "[::ffff:169.254.169.254]:80",
                "administratively prohibited: link-local and metadata",
            ),
            ("192.0.2.1:80", "administratively prohibited: not granted"),
            ("localhost:1", "connect failed: "),
        ] {
            let done = feed(Target::doorward(stand).ssh(&["-W", target]), b"").await?;
            ensure!(
                done.code != Some(0) && done.said().contains(why),
                "{target}: {}",
                done.said()
            );
        }
        Ok(())
    })
}

#[test]
fn a_remote_forward_says_its_port_and_a_busy_one_is_refused() -> Result<()> {
    stand().run(|stand| async move {
        let sshd = Sshd::start(
            &stand
                .folder()
                .join("a_remote_forward_says_its_port_and_a_busy_one_is_refused"),
        )?;
        for target in Target::both(stand, sshd.as_ref()) {
            on::a_remote_forward_says_its_port_and_a_busy_one_is_refused(&target)
                .await
                .context(target.host)?;
        }
        Ok(())
    })
}

#[test]
fn sockets_are_forwarded_both_ways() -> Result<()> {
    stand().run(|stand| async move {
        let sshd = Sshd::start(&stand.folder().join("sockets_are_forwarded_both_ways"))?;
        for target in Target::both(stand, sshd.as_ref()) {
            on::sockets_are_forwarded_both_ways(&target)
                .await
                .context(target.host)?;
        }
        Ok(())
    })
}

#[test]
fn a_forwarded_agent_answers_a_later_channel() -> Result<()> {
    stand().run(|stand| async move {
        let sshd = Sshd::start(&stand.folder().join("a_forwarded_agent_answers_a_later_channel"))?;
        for target in Target::both(stand, sshd.as_ref()) {
            on::a_forwarded_agent_answers_a_later_channel(&target)
                .await
                .context(target.host)?;
        }
        Ok(())
    })
}

#[test]
fn a_peer_that_never_reads_leaves_a_shell_alone() -> Result<()> {
    stand().run(|stand| async move {
        let target = Target::doorward(stand);
        let silent = TcpListener::bind("127.0.0.1:0").await?;
        let port = free_port().await?;
        let forward = format!("127.0.0.1:{port}:localhost:{}", silent.local_addr()?.port());
        let mut shell = target.ssh(&["-T", "-L", &forward]);
        let mut shell = shell.arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut input = shell.stdin.take().context("no stdin")?;
        let mut output = shell.stdout.take().context("no stdout")?;
        let mut stuck = connected(port).await?;
        let (_peer, _) = timeout(PATIENCE, silent.accept()).await??;
        // Until nothing more goes in: everything on the way is full.
        let chunk = vec![0; 64 << 10];
        let mut sent = 0;
        while let Ok(written) = timeout(Duration::from_millis(500), stuck.write_all(&chunk)).await {
            written?;
            sent += chunk.len();
            ensure!(sent < 256 << 20, "what nobody reads is taken without a bound");
        }
        for round in 0..100_u32 {
            let line = format!("round {round}\n");
            input.write_all(line.as_bytes()).await?;
            let mut back = vec![0; line.len()];
            timeout(PATIENCE, output.read_exact(&mut back))
                .await
                .context("the shell hangs")??;
            ensure!(back == line.as_bytes(), "the shell says {back:?}");
        }
        Ok(())
    })
}

/// What must be the same on every server.
mod on {
    use super::*;

    pub(super) async fn a_local_forward_carries_hundreds_and_much(target: &Target) -> Result<()> {
        let mut tasks = JoinSet::new();
        let (to, port) = (parrot(&mut tasks).await?, free_port().await?);
        let _ssh = background(target, &["-L", &format!("127.0.0.1:{port}:localhost:{}", to.port())])?;
        drop(connected(port).await?);
        let mut all = JoinSet::new();
        for number in 0..100_usize {
            all.spawn(async move {
                let say = noise(10_000 + number);
                let back = talk(TcpStream::connect(("127.0.0.1", port)).await?, &say).await?;
                ensure!(back == say, "connection {number} changed its bytes");
                Ok(())
            });
        }
        while let Some(done) = all.join_next().await {
            done??;
        }
        let say = noise(64 << 20);
        let back = talk(connected(port).await?, &say).await?;
        ensure!(sha256(&back) == sha256(&say), "64 MiB there and back changed");
        Ok(())
    }

    pub(super) async fn a_remote_forward_says_its_port_and_a_busy_one_is_refused(target: &Target) -> Result<()> {
        let mut tasks = JoinSet::new();
        let to = parrot(&mut tasks).await?;
        let mut ssh = background(
            target,
            &["-o", "LogLevel=INFO", "-R", &format!("0:127.0.0.1:{}", to.port())],
        )?;
        let mut said = BufReader::new(ssh.stderr.take().context("no stderr")?).lines();
        let port: u16 = timeout(PATIENCE, async {
            while let Some(line) = said.next_line().await? {
                if let Some(rest) = line.strip_prefix("Allocated port ") {
                    return Ok(rest.split(' ').next().unwrap_or_default().parse()?);
                }
            }
            anyhow::bail!("ssh ended without a port")
        })
        .await??;
        ensure!(
            talk(connected(port).await?, b"from within").await? == b"from within",
            "the bytes changed"
        );
        let busy = feed(
            {
                let mut command = target.ssh(&["-o", "LogLevel=INFO", "-R", &format!("{port}:127.0.0.1:1")]);
                command.args(["-N", "-o", "ExitOnForwardFailure=yes"]);
                command
            },
            b"",
        )
        .await?;
        ensure!(
            busy.code == Some(255) && busy.said().contains("remote port forwarding failed"),
            "{:?}: {}",
            busy.code,
            busy.said()
        );
        Ok(())
    }

    pub(super) async fn sockets_are_forwarded_both_ways(target: &Target) -> Result<()> {
        let folder = tempfile::tempdir_in("/tmp")?;
        let at = |name: &str| folder.path().join(name);
        let (inside, outside) = (UnixListener::bind(at("in"))?, UnixListener::bind(at("out"))?);
        let mut tasks = JoinSet::new();
        for listener in [inside, outside] {
            tasks.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    repeat(stream).await;
                }
            });
        }
        let local = format!("{}:{}", at("here").display(), at("in").display());
        let remote = format!("{}:{}", at("there").display(), at("out").display());
        let _ssh = background(target, &["-L", &local, "-R", &remote])?;
        for name in ["here", "there"] {
            let stream = until("a forwarded socket", async || {
                Ok(UnixStream::connect(at(name)).await.ok())
            })
            .await?;
            ensure!(
                talk(stream, name.as_bytes()).await? == name.as_bytes(),
                "{name} changed its bytes"
            );
        }
        Ok(())
    }

    pub(super) async fn a_forwarded_agent_answers_a_later_channel(target: &Target) -> Result<()> {
        let folder = tempfile::tempdir_in("/tmp")?;
        let at = |name: &str| folder.path().join(name);
        let socket = at("agent");
        let _agent = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        until("the agent's socket", async || {
            Ok(UnixStream::connect(&socket).await.ok())
        })
        .await?;
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "lent key", "-f"])
            .arg(at("key"))
            .status()
            .await?;
        ensure!(made.success(), "no key");
        let added = Command::new("ssh-add")
            .arg("-q")
            .arg(at("key"))
            .env("SSH_AUTH_SOCK", &socket)
            .status()
            .await?;
        ensure!(added.success(), "no key in the agent");
        let control = format!("ControlPath={}", at("control").display());
        let lent = "IdentityAgent=SSH_AUTH_SOCK";
        let mut master = target.ssh(&["-A", "-N", "-M", "-o", &control, "-o", lent]);
        let _master = master.env("SSH_AUTH_SOCK", &socket).spawn()?;
        until("the master", async || Ok(at("control").exists().then_some(()))).await?;
        let beside = async |remote: &str| {
            let mut command = target.ssh(&["-A", "-o", &control, "-o", lent]);
            command.env("SSH_AUTH_SOCK", &socket).arg(remote);
            feed(command, b"").await
        };
        let first = beside("echo $SSH_AUTH_SOCK").await?;
        ensure!(first.stdout.starts_with(b"/"), "{}", first.said());
        let later = beside("ssh-add -l").await?;
        ensure!(
            String::from_utf8_lossy(&later.stdout).contains("lent key"),
            "{}",
            later.said()
        );
        Ok(())
    }
}

/// A workspace in the list of the person's program.
async fn listed(stand: &Stand, name: &str) -> Result<serde_json::Value> {
    let outcome = feed(stand.stack.client().command(["ls", "--json"]), b"").await?;
    let all: Vec<serde_json::Value> =
        serde_json::from_slice(&outcome.stdout).with_context(|| outcome.said().to_string())?;
    all.into_iter().find(|one| one["name"] == name).context("not listed")
}

/// devenv-1, which no other test here enters.
#[test]
fn the_list_tells_when_a_workspace_was_used_last_and_not_that_somebody_is_merely_connected() -> Result<()> {
    stand().run(|stand| async move {
        let one = listed(stand, "devenv-1").await?;
        ensure!(one["agent-version"] == env!("CARGO_PKG_VERSION"), "{one}");
        ensure!(one.get("last-use").is_none(), "before anybody came: {one}");
        let mut connected = Command::new("ssh");
        connected
            .arg("-F")
            .arg(stand.stack.ssh_config())
            .args(["-v", "-N", "devenv-1"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut connected = connected.spawn()?;
        let mut said = BufReader::new(connected.stderr.take().context("no stderr")?).lines();
        let in_session = async {
            while let Some(line) = said.next_line().await? {
                if line.contains("Entering interactive session") {
                    return Ok(());
                }
            }
            anyhow::bail!("ssh has ended")
        };
        timeout(PATIENCE, in_session).await??;
        ensure!(
            listed(stand, "devenv-1").await?.get("last-use").is_none(),
            "a mere connection"
        );
        connected.kill().await?;
        ensure!(stand.run(&[], "devenv-1", "true", b"").await?.code == Some(0));
        let at = until("the use in the list", async || {
            let one = listed(stand, "devenv-1").await?;
            Ok(one["last-use"].as_str().map(str::to_owned))
        })
        .await?;
        ensure!(at.starts_with("20") && at.ends_with('Z'), "{at}");
        Ok(())
    })
}
