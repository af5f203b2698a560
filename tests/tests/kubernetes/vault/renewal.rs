//! A certificate from Vault over time: waited for, renewed before it ends, used while Vault is away.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use doorward_dev::parts::{KUBERNETES, VAULT};
use ssh_key::Certificate;
use tests::parts::{Had, can_be_had, name_of, shared_cluster};
use tests::{PATIENCE, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::PLACE;
use super::super::pods::is_ready;
use super::Bench;

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_waited_for_and_renewed_before_it_ends() -> Result<()> {
    let name = name_of(&|| ());
    if !can_be_had(&[&KUBERNETES, &VAULT], PLACE, name).await? {
        return Ok(());
    }
    let Had::Here(cluster) = shared_cluster(PLACE, name).await? else {
        return Ok(());
    };
    let door = Door::closed().await?;
    let bench = Bench::start(cluster, "devenv-r", Some(door.url()?), "certificate-life = '40s'").await?;
    bench.hand_over().await?;
    bench.known().await?;

    // Vault is not there when the agent starts: it says so, here and to whoever dials it.
    let scale = format!("/apis/apps/v1/namespaces/{0}/statefulsets/{0}/scale", bench.set);
    let up = serde_json::json!({"spec": {"replicas": 1}});
    cluster.admin().merge(&scale, &up).await?;
    let pod = cluster.admin().await_state(&bench.pod(), is_ready).await?;
    until("the agent and the gateway say what they wait for", async || {
        let agent = bench
            .kubelet
            .log(&bench.workspace())
            .contains("no fresh host certificate; trying on");
        let gateway = fs::read_to_string(bench.stack.log_file("gateway"))?.contains("no-host-certificate");
        Ok((agent && gateway).then_some(()))
    })
    .await?;
    door.open_to(bench.vault()?.url().trim_start_matches("https://"));
    until("the agent has its certificate", async || {
        Ok(bench
            .kubelet
            .log(&bench.workspace())
            .contains("taken from Vault")
            .then_some(()))
    })
    .await?;

    let mut open = bench
        .ssh(&[], "cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut echo = async |line: &[u8]| {
        let (stdin, stdout) = (
            open.stdin.as_mut().context("no stdin")?,
            open.stdout.as_mut().context("no stdout")?,
        );
        stdin.write_all(line).await?;
        let mut heard = vec![0; line.len()];
        timeout(PATIENCE, stdout.read_exact(&mut heard)).await??;
        ensure!(heard == line, "{heard:?}");
        anyhow::Ok(())
    };
    echo(b"before\n").await.with_context(|| bench.logs())?;
    let uid = pod["metadata"]["uid"].as_str().context("no uid")?;
    let file = bench.kubelet.volume(uid, "state").join("host-key-cert.pub");
    let first = certificate(&file)?;
    let second = until("the next certificate", async || {
        Ok(certificate(&file).ok().filter(|now| now.serial() != first.serial()))
    })
    .await?;
    ensure!(
        second.valid_after() < first.valid_before()
            && SystemTime::now() < first.valid_before_time().context("a time")?,
        "a gap between {first:?} and {second:?}"
    );
    // With Vault away from the agent, what is good serves on.
    door.close();
    echo(b"after\n").await?;
    bench.entered().await?;
    bench.stop().await;
    Ok(())
}

fn certificate(file: &Path) -> Result<Certificate> {
    Ok(Certificate::from_openssh(fs::read_to_string(file)?.trim())?)
}

/// A port that leads to Vault when it is open, and breaks connections off when it is not.
struct Door {
    listener: std::net::SocketAddr,
    open: Arc<AtomicBool>,
    vault: Arc<std::sync::OnceLock<String>>,
    _tasks: JoinSet<()>,
}

impl Door {
    async fn closed() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (open, vault) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(std::sync::OnceLock::<String>::new()),
        );
        let mut tasks = JoinSet::new();
        let (is_open, to) = (Arc::clone(&open), Arc::clone(&vault));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut tcp, _)) = listener.accept().await {
                let Some(vault) = to.get().filter(|_| is_open.load(Ordering::SeqCst)).cloned() else {
                    continue;
                };
                connections.spawn(async move {
                    if let Ok(mut there) = TcpStream::connect(vault).await {
                        // Either side may end it.
                        let _ = copy_bidirectional(&mut tcp, &mut there).await;
                    }
                });
            }
        });
        Ok(Self {
            listener: address,
            open,
            vault,
            _tasks: tasks,
        })
    }

    fn url(&self) -> Result<String> {
        Ok(format!("https://{}", self.listener))
    }

    fn open_to(&self, vault: &str) {
        self.vault.get_or_init(|| vault.to_owned());
        self.open.store(true, Ordering::SeqCst);
    }

    fn close(&self) {
        self.open.store(false, Ordering::SeqCst);
    }
}
