//! One pod from its binding to its end: volumes, processes, status.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::rewrite::Rewrite;
use super::spec::{Pod, expand};
use super::status::{Phase, event, tell};
use super::volumes::Volumes;
use crate::parts::kube::Api;
use crate::parts::{Error, make_dir};
use crate::process::{Process, Start};

/// Annotation: for so many seconds the pod pulls its image before it starts.
pub const START_AFTER: &str = "kubelet.doorward.dev/start-after-seconds";
/// Annotation: the image is never pulled; its value is the reason that is told.
pub const PULL_FAILS: &str = "kubelet.doorward.dev/pull-fails";

/// Where pods run, and who tells of them.
#[derive(Debug)]
pub(super) struct Ground {
    pub api: Api,
    pub program: PathBuf,
    pub folder: PathBuf,
}

impl Ground {
    /// Runs a pod until it is to end, then ends its processes and takes it away.
    pub(super) async fn run(&self, pod: Pod, end: CancellationToken) {
        let folder = self.folder.join("pods").join(pod.uid());
        let mut told = String::new();
        let mut running = Vec::new();
        let mut restarts = 0;
        let begun = Instant::now();
        loop {
            let attempt = tokio::select! {
                attempt = self.attempt(&pod, &folder, begun, restarts, &mut running) => attempt,
                () = end.cancelled() => break,
            };
            // An attempt ends by an error alone: a volume's object that is not there yet, a process that fell.
            if let Err(error) = attempt {
                let error = error.to_string();
                if error != told {
                    let _ = event(&self.api, &pod, "Warning", "Failed", &error).await;
                    told = error;
                }
            }
            stop(&mut running).await;
            restarts += 1;
            tokio::select! {
                () = sleep(TRY_AGAIN) => {}
                () = end.cancelled() => break,
            }
        }
        stop(&mut running).await;
        self.remove(&pod).await;
        let _ = std::fs::remove_dir_all(folder);
    }

    /// Finishes the deletion of a pod whose processes have ended.
    pub(super) async fn remove(&self, pod: &Pod) {
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid()}});
        // Another pod of that name is not ours to delete, and a refusal says so.
        let _ = self.api.delete_with(&pod.path(), &options).await;
    }

    async fn attempt(
        &self,
        pod: &Pod,
        folder: &std::path::Path,
        begun: Instant,
        restarts: u32,
        running: &mut Vec<Process>,
    ) -> Result<(), Error> {
        self.pull(pod, begun).await?;
        let address = own_address(pod)?;
        let home = make_dir(&folder.join("home"))?;
        let volumes = Volumes {
            api: &self.api,
            pod,
            folder,
            claims: &self.folder.join("claims"),
            address,
        };
        let rewrite = volumes.rewrite();
        volumes.write(&rewrite).await?;
        for (index, (container, args)) in pod.agents().enumerate() {
            let mut variables = pod.variables(&self.api, container, address).await?;
            variables
                .entry("HOME".to_owned())
                .or_insert_with(|| home.display().to_string());
            let usual: &[&str] = match args.contains(&"--config") {
                true => &[],
                // Where the program looks by itself, which is elsewhere here.
                false => &["--config", "/etc/doorward/agent.toml"],
            };
            let args = args
                .iter()
                .chain(usual)
                .map(|arg| rewrite.text(&expand(arg, &variables)).into())
                .collect();
            let environment: Vec<(String, String)> = rewritten(variables, &rewrite).collect();
            running.push(Process::start(Start {
                program: &self.program,
                name: "agent",
                called: "the agent of a pod",
                args,
                environment: &environment,
                lock: folder.join(format!("{index}.lock")),
                log: self.log(pod),
            })?);
        }
        let shown = address.to_string();
        let status = |ready| Phase::Running {
            address: shown.clone(),
            ready,
        };
        tell(&self.api, pod, &status(false), restarts).await?;
        for ((container, _), process) in pod.agents().zip(running.iter_mut()) {
            if let Some(port) = Pod::port_of(container) {
                answers(process, address, port).await?;
            }
        }
        tell(&self.api, pod, &status(true), restarts).await?;
        let _ = event(&self.api, pod, "Normal", "Started", "Started container").await;
        let fell = loop {
            let renewal = volumes
                .renewal()
                .map(|seconds| Instant::now() + Duration::from_secs(seconds));
            tokio::select! {
                fell = any_fell(running) => break fell,
                () = until(renewal) => volumes.write(&rewrite).await?,
            }
        };
        let ended = Phase::Ended {
            address: shown,
            code: 1,
            reason: "Error",
        };
        tell(&self.api, pod, &ended, restarts).await?;
        Err(fell.into())
    }

    /// What comes before the containers: for as long as the pod's annotations say.
    async fn pull(&self, pod: &Pod, begun: Instant) -> Result<(), Error> {
        let image = pod
            .containers()
            .first()
            .and_then(|container| container["image"].as_str());
        let pulling = format!("Pulling image \"{}\"", image.unwrap_or_default());
        if let Some(reason) = pod.annotation(PULL_FAILS) {
            let waiting = Phase::Waiting {
                reason,
                message: "Back-off pulling image",
            };
            tell(&self.api, pod, &waiting, 0).await?;
            event(&self.api, pod, "Warning", "Failed", "Failed to pull image: not found").await?;
            return std::future::pending().await;
        }
        let seconds = pod.annotation(START_AFTER).and_then(|text| text.parse().ok());
        let seconds: u64 = seconds.unwrap_or_default();
        let waiting = Phase::Waiting {
            reason: "ContainerCreating",
            message: "",
        };
        tell(&self.api, pod, &waiting, 0).await?;
        event(&self.api, pod, "Normal", "Pulling", &pulling).await?;
        sleep_until(begun + Duration::from_secs(seconds)).await;
        event(&self.api, pod, "Normal", "Pulled", "Successfully pulled image").await
    }

    /// Where the output of a pod's processes goes; of another pod of the same name as well.
    fn log(&self, pod: &Pod) -> PathBuf {
        self.folder.join(format!("{}.log", pod.name()))
    }
}

fn rewritten(
    variables: impl IntoIterator<Item = (String, String)>,
    rewrite: &Rewrite,
) -> impl Iterator<Item = (String, String)> {
    variables.into_iter().map(|(name, value)| (name, rewrite.text(&value)))
}

/// An address on loopback at which the ports of the pod's agents are free. All of 127.0.0.0/8 is loopback.
fn own_address(pod: &Pod) -> Result<Ipv4Addr, Error> {
    let ports: Vec<u16> = pod
        .agents()
        .filter_map(|(container, _)| Pod::port_of(container))
        .collect();
    let mut last = None;
    for _ in 0..TRIES {
        let address = Ipv4Addr::new(
            127,
            rand::random_range(64..=254),
            rand::random(),
            rand::random_range(1..=254),
        );
        match ports
            .iter()
            .try_for_each(|&port| TcpListener::bind((address, port)).map(drop))
        {
            Ok(()) => return Ok(address),
            Err(error) => last = Some(error),
        }
    }
    Err(Error::NoPort(last))
}

/// Waits until a port takes connections, for as long as the process runs.
async fn answers(process: &mut Process, address: Ipv4Addr, port: u16) -> Result<(), Error> {
    let connects = async {
        while TcpStream::connect((address, port)).await.is_err() {
            sleep(ASK_AGAIN).await;
        }
    };
    tokio::select! {
        () = connects => Ok(()),
        fell = process.fell() => Err(fell.into()),
    }
}

async fn any_fell(running: &mut [Process]) -> crate::process::ProcessError {
    let mut falling: Vec<_> = running.iter_mut().map(|process| Box::pin(process.fell())).collect();
    std::future::poll_fn(|context| {
        for one in &mut falling {
            if let std::task::Poll::Ready(error) = one.as_mut().poll(context) {
                return std::task::Poll::Ready(error);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

async fn until(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => std::future::pending().await,
    }
}

async fn stop(running: &mut Vec<Process>) {
    for process in running.drain(..) {
        process.stop().await;
    }
}

const TRIES: usize = 50;
const ASK_AGAIN: Duration = Duration::from_millis(20);
const TRY_AGAIN: Duration = Duration::from_millis(500);
