//! A window of the editor: one `ssh -v -T -D PORT -o ConnectTimeout=15 HOST SHELL`, fed with the script that starts the
//! server, and held open for as long as the window is.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tests::both::Server;
use tests::{PATIENCE, sha256, until};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

/// What is fed to the shell.
pub struct Script {
    text: String,
    mark: String,
    /// Of the here-document in it.
    pub payload_sha256: String,
}

/// The script that lays down the payload, a server of more than 8 KiB, and runs `run` in a folder of the name `name`
/// (`$HOME_OF`). The payload itself is a program for node, for `run` to use or not.
pub fn script(name: &str, run: &str) -> Script {
    let mark = format!("mark-{}", uuid::Uuid::new_v4().simple());
    let mut payload = include_str!("../../clients/vscode/serve.js").to_owned();
    for number in 0..200 {
        payload += &format!("// {number}: `$HOME` \"$(false)\" 'single' \\ back ; & | > < * ? ~ é\n");
    }
    let text = format!(
        "MARK={mark}\nHOME_OF=\"$HOME/.editor-server/{name}\"\nRUN={}\n{}\ninstall_and_start <<'PAYLOAD'\n{payload}PAYLOAD\nfinish $?\n",
        quoted(run),
        include_str!("../../clients/vscode/remote.sh")
    );
    Script {
        text,
        mark,
        payload_sha256: sha256(payload.as_bytes()),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The running connection, and what the script has said.
pub struct Window {
    ssh: Child,
    stdin: ChildStdin,
    _stdout: Lines<BufReader<ChildStdout>>,
    socks: u16,
    facts: BTreeMap<String, String>,
}

/// The server in the workspace, ended with this value.
pub struct Running(Pid);

impl Drop for Running {
    fn drop(&mut self) {
        // the script has made it the leader of a group of its own
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

impl Window {
    /// Connects, feeds the script and reads what it says. Nothing may come ahead of its mark.
    pub async fn open(server: &Server, options: &[&str], shell: &str, script: &Script) -> Result<Self> {
        let socks = free_port().await?;
        let dynamic = socks.to_string();
        let mut all = vec!["-v", "-T", "-o", "ConnectTimeout=15"];
        if !options.contains(&"-L") {
            all.extend(["-D", &dynamic]);
        }
        all.extend(options);
        // ssh says much with -v: into a file, so that it never waits for us
        let mut log = tempfile::tempfile()?;
        let mut command = server.ssh(&all);
        let mut ssh = command
            .arg(shell)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.try_clone()?)
            .spawn()?;
        let (stdin, stdout) = (ssh.stdin.take(), ssh.stdout.take());
        let (mut stdin, mut stdout) = (
            stdin.context("no stdin")?,
            BufReader::new(stdout.context("no stdout")?).lines(),
        );
        let asking = async {
            stdin.write_all(script.text.as_bytes()).await?;
            facts(&mut stdout, &script.mark).await
        };
        let facts = timeout(PATIENCE, asking)
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the script does not come to its end")));
        let mut said = String::new();
        log.seek(SeekFrom::Start(0))?;
        log.read_to_string(&mut said)?;
        let facts = facts.with_context(|| format!("ssh says: {said}"))?;
        ensure!(
            facts.get("exitCode").is_some_and(|code| code == "0"),
            "{facts:?}: {said}"
        );
        Ok(Self {
            ssh,
            stdin,
            _stdout: stdout,
            socks,
            facts,
        })
    }

    /// What the script has said of something.
    pub fn fact(&self, name: &str) -> Result<&str> {
        let fact = self.facts.get(name);
        Ok(fact.with_context(|| format!("nothing about {name} in {:?}", self.facts))?)
    }

    /// The port that the server listens on.
    pub fn port(&self) -> Result<u16> {
        let place = self.fact("listeningOn")?;
        Ok(place.rsplit(':').next().unwrap_or(place).parse()?)
    }

    /// The port of the dynamic forward.
    pub fn socks(&self) -> u16 {
        self.socks
    }

    /// The server in the workspace, to be ended with the test.
    pub fn server(&self) -> Result<Running> {
        let pid = self.fact("pid")?.parse()?;
        ensure!(pid > 1, "no process: {pid}");
        Ok(Running(Pid::from_raw(pid)))
    }

    /// A connection through the dynamic forward (RFC 1928): no authentication, connect, a name.
    pub async fn through_socks(&self, host: &str, port: u16) -> Result<TcpStream> {
        let connect = async || Ok(TcpStream::connect(("127.0.0.1", self.socks)).await.ok());
        let mut stream = until("the dynamic forward", connect).await?;
        stream.write_all(&[5, 1, 0]).await?;
        stream.read_exact(&mut [0; 2]).await?;
        let mut ask = vec![5, 1, 0, 3, u8::try_from(host.len())?];
        ask.extend_from_slice(host.as_bytes());
        ask.extend_from_slice(&port.to_be_bytes());
        stream.write_all(&ask).await?;
        let mut answer = [0; 10];
        timeout(PATIENCE, stream.read_exact(&mut answer)).await??;
        ensure!(answer[1] == 0, "SOCKS says {}", answer[1]);
        Ok(stream)
    }

    /// Ends ssh as a closed window does.
    pub async fn close(mut self) -> Result<()> {
        Ok(self.ssh.kill().await?)
    }

    /// Ends the shell's input, and awaits that everything ends by itself.
    pub async fn finish(mut self) -> Result<()> {
        drop(self.stdin);
        let ended = timeout(PATIENCE, self.ssh.wait())
            .await
            .context("the shell does not end")??;
        ensure!(ended.success(), "the shell ended with {ended}");
        Ok(())
    }
}

/// Reads the script's answer from its first line, which has to be the mark.
async fn facts(stdout: &mut Lines<BufReader<ChildStdout>>, mark: &str) -> Result<BTreeMap<String, String>> {
    let first = stdout.next_line().await?.context("no output")?;
    ensure!(first == format!("{mark}: start"), "ahead of the mark: {first:?}");
    let mut facts = BTreeMap::new();
    let end = format!("{mark}: end");
    loop {
        let line = stdout.next_line().await?.context("the output ends in the middle")?;
        if line == end {
            return Ok(facts);
        }
        let (name, value) = line.trim_end_matches("==").split_once("==").context(line.clone())?;
        facts.insert(name.to_owned(), value.to_owned());
    }
}

pub async fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}
