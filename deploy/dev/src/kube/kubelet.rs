//! The loop of the kubelet: what the API server has is compared with what runs, after each change.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::pod::Ground;
use super::spec::{Pod, list};
use crate::parts::kube::{Api, Watch};
use crate::parts::{Error, make_dir};

/// How a kubelet begins.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The API as somebody who may do what a kubelet and a scheduler may: the administrator.
    pub api: Api,
    /// The namespace whose pods it runs.
    pub namespace: String,
    /// Its folder, made if missing: a log for each pod, folders of pods and claims.
    pub folder: PathBuf,
    /// The executable that acts as our programs ([`crate::act_as_program`]); this process's own if `None`.
    pub program: Option<PathBuf>,
}

/// A running kubelet. Dropping it ends its pods' processes soon, and leaves the pods in the API server.
#[derive(Debug)]
pub struct Kubelet {
    end: CancellationToken,
    task: JoinHandle<()>,
    folder: PathBuf,
}

impl Kubelet {
    /// Makes the node `NAMESPACE-node`, and runs the pods of the namespace from now on.
    ///
    /// # Errors
    /// The folder cannot be made; the API server refuses the node.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        let program = match settings.program {
            Some(program) => program,
            None => std::env::current_exe().map_err(Error::file("find", "this program"))?,
        };
        let folder = make_dir(&settings.folder)?;
        let node = format!("{}-node", settings.namespace);
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}});
        settings.api.apply(&object).await?;
        let kubelet = Work {
            ground: Arc::new(Ground {
                api: settings.api,
                program,
                folder: folder.clone(),
            }),
            pods: format!("/api/v1/namespaces/{}/pods", settings.namespace),
            node,
            running: HashMap::new(),
            tasks: TaskTracker::new(),
        };
        let end = CancellationToken::new();
        let task = TaskTracker::new().spawn(kubelet.run(end.clone()));
        Ok(Self { end, task, folder })
    }

    /// The log of the pods of this name.
    #[must_use]
    pub fn log(&self, pod: &str) -> String {
        std::fs::read_to_string(self.folder.join(format!("{pod}.log"))).unwrap_or_default()
    }

    /// The folder of a volume of a pod that runs.
    #[must_use]
    pub fn volume(&self, pod_uid: &str, name: &str) -> PathBuf {
        self.folder.join("pods").join(pod_uid).join("volumes").join(name)
    }

    /// The folder of a claim, which outlives its pods.
    #[must_use]
    pub fn claim(&self, name: &str) -> PathBuf {
        self.folder.join("claims").join(name)
    }

    /// Ends every pod's processes and takes the pods away.
    pub async fn stop(mut self) {
        self.end.cancel();
        // It does not panic; and if it did, nothing of it would be left.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.end.cancel();
        self.task.abort();
    }
}

struct Work {
    ground: Arc<Ground>,
    pods: String,
    node: String,
    /// By UID.
    running: HashMap<String, Running>,
    tasks: TaskTracker,
}

struct Running {
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // A pod's processes hang on its task.
        self.task.abort();
    }
}

impl Work {
    async fn run(mut self, end: CancellationToken) {
        while !end.is_cancelled() {
            tokio::select! {
                // An API server that is away is asked again; so it is after each change and each end of a watch.
                followed = self.follow() => if followed.is_err() { sleep(ASK_AGAIN).await },
                () = end.cancelled() => {}
            }
        }
        for running in self.running.values() {
            running.end.cancel();
        }
        for (_, mut running) in self.running.drain() {
            let _ = (&mut running.task).await;
        }
    }

    /// Brings everything into line, and again after each change, until the watch ends.
    async fn follow(&mut self) -> Result<(), Error> {
        let mut watch: Option<Watch> = None;
        loop {
            let found = self.ground.api.read(&self.pods).await?;
            let pods: Vec<Pod> = list(&found["items"]).iter().cloned().map(Pod).collect();
            self.align(&pods).await?;
            let watching = match &mut watch {
                Some(watching) => watching,
                None => {
                    let version = found["metadata"]["resourceVersion"].as_str().unwrap_or_default();
                    watch.insert(self.ground.api.watch(&self.pods, version).await?)
                }
            };
            let Some(change) = watching.next().await else {
                return Ok(());
            };
            if change["type"] == "ERROR" {
                return Ok(());
            }
        }
    }

    async fn align(&mut self, pods: &[Pod]) -> Result<(), Error> {
        for pod in pods {
            match pod.node() {
                None if !pod.is_being_deleted() && list(&pod.0["spec"]["schedulingGates"]).is_empty() => {
                    self.bind(pod).await?;
                }
                Some(node) if node == self.node => self.keep(pod).await,
                _ => {}
            }
        }
        self.running.retain(|uid, running| {
            let there = pods.iter().any(|pod| pod.uid() == uid);
            if !there {
                running.end.cancel();
            }
            there || !running.task.is_finished()
        });
        Ok(())
    }

    async fn keep(&mut self, pod: &Pod) {
        match (self.running.get(pod.uid()), pod.is_being_deleted()) {
            (Some(running), true) => running.end.cancel(),
            // One that an earlier kubelet ran.
            (None, true) => self.ground.remove(pod).await,
            (None, false) => {
                let (ground, end) = (Arc::clone(&self.ground), CancellationToken::new());
                let (of_pod, ends) = (pod.clone(), end.clone());
                let task = self.tasks.spawn(async move { ground.run(of_pod, ends).await });
                self.running.insert(pod.uid().to_owned(), Running { end, task });
            }
            (Some(_), false) => {}
        }
    }

    async fn bind(&self, pod: &Pod) -> Result<(), Error> {
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name(), "uid": pod.uid()},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self.node},
        });
        match self
            .ground
            .api
            .create(&format!("{}/binding", pod.path()), &binding)
            .await
        {
            // It is gone, or bound, by now.
            Ok(_) | Err(Error::Refused { status: 404 | 409, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

const ASK_AGAIN: Duration = Duration::from_millis(200);
