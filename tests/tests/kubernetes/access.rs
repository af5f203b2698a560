//! Two gateways that follow `WorkspaceAccess` objects through what a real server goes through: the kind is not there yet, is there, is
//! taken away, and the server is gone meanwhile. Of all that comes once what is to stand in an object's status.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use doorward_dev::parts::kube::{Api, Cluster, Identity, TokenRequest};
use doorward_gateway::config::{Kubernetes, KubernetesAccess};
use doorward_gateway::kube::discover::{Discovery, Rule};
use doorward_gateway::kube::{Access, connect};
use doorward_gateway::policy::{Policy, Roles};
use serde_json::{Value, json};
use tests::until;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::discovery::provider;
use super::profiles::define_access;

const KIND: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/workspaceaccesses.doorward.dev";
const POLICY: &str = "[[role]]\nname = 'dev'\ngrantable = true\nworkspaces = ['*']\nallow = ['shell']\n\
                      lending = { namespaces = ['outage'] }\n";
/// Objects that are written, of which every other lends a role that there is not.
const MANY: usize = 12;

/// Two gateways of one service account.
pub(super) struct Two {
    namespace: String,
    both: [Access; 2],
    stop: CancellationToken,
    tasks: TaskTracker,
    _folder: tempfile::TempDir,
}

impl Two {
    /// Begins while the kind is not there.
    pub(super) async fn start(
        cluster: &Cluster,
        namespace: &str,
        rule: &Rule,
        max_age: std::time::Duration,
    ) -> Result<Self> {
        provider();
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "lender", "namespace": namespace}});
        cluster.admin().apply(&account).await?;
        let meta = json!({"name": "lender", "namespace": namespace});
        let rbac = "rbac.authorization.k8s.io";
        for object in [
            json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": meta, "rules": [
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
                {"apiGroups": ["doorward.dev"], "resources": ["workspaceaccesses"], "verbs": ["list", "watch"]},
                {"apiGroups": ["doorward.dev"], "resources": ["workspaceaccesses/status"], "verbs": ["patch"]},
            ]}),
            json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": meta,
                "subjects": [{"kind": "ServiceAccount", "name": "lender", "namespace": namespace}],
                "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "lender"}}),
        ] {
            cluster.admin().apply(&object).await?;
        }
        let wanted = TokenRequest {
            namespace,
            account: "lender",
            audience: None,
            pod: None,
            seconds: 3600,
        };
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("kubeconfig");
        cluster.write_kubeconfig(&file, &Identity::Token(cluster.token(wanted).await?))?;
        let settings = Kubernetes {
            access: KubernetesAccess::Kubeconfig(file),
            timeout: std::time::Duration::from_secs(2),
            max_age,
            audience: "doorward".to_owned(),
            workspaces: vec![rule.clone()],
            wakes: BTreeMap::new(),
            usage: BTreeMap::new(),
        };
        let heard = BTreeSet::from([rule.name.clone()]);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let begin = async || {
            let client = connect(&settings).await?.client();
            let discovery = Discovery::new(client.clone(), &settings.workspaces, max_age);
            let access = Access::new(client, &settings.workspaces, &heard, max_age, discovery);
            let (running, stop) = (access.clone(), stop.clone());
            let policy = Policy::new(Roles::parse(Path::new("policy.toml"), POLICY)?);
            tasks.spawn(async move { running.run(&policy, stop).await });
            anyhow::Ok(access)
        };
        let both = [begin().await?, begin().await?];
        let two = Self {
            namespace: namespace.to_owned(),
            both,
            stop,
            tasks,
            _folder: folder,
        };
        two.say(|said| said.is_err_and(|why| why.contains("no such object")))
            .await?;
        ensure!(
            two.both.iter().all(|one| one.known().is_err()),
            "known without its kind"
        );
        Ok(two)
    }

    /// The kind comes: what is written is judged, and each status is written once, whoever of the two does it.
    pub(super) async fn kind_comes(&self, cluster: &Cluster) -> Result<()> {
        define_access(cluster.admin()).await?;
        for number in 0..MANY {
            self.write(cluster.admin(), number).await?;
        }
        for number in 0..MANY {
            self.judged(cluster.admin(), number, 1).await?;
        }
        self.say(|said| said.is_ok()).await?;
        ensure!(self.both.iter().all(|one| one.known().is_ok()), "not known");
        let written = self.written(cluster)?;
        ensure!(written == MANY, "{written} reports for {MANY} objects");
        Ok(())
    }

    /// The server is gone: what was known decides, and that it is not current is said.
    pub(super) async fn server_is_gone(&self) -> Result<()> {
        self.say(|said| said.is_err_and(|why| why.contains("cannot be reached")))
            .await?;
        ensure!(
            self.both.iter().all(|one| one.known().is_ok()),
            "what was known is gone"
        );
        Ok(())
    }

    /// It is back, then the kind is taken away with all objects, and comes back with one.
    pub(super) async fn goes_on(self, cluster: &Cluster) -> Result<()> {
        let admin = cluster.admin();
        self.say(|said| said.is_ok()).await?;
        admin.merge(&self.path(0), &json!({"spec": {"longest": "1h"}})).await?;
        self.judged(admin, 0, 2).await?;
        admin.delete(KIND).await?;
        admin.await_gone(KIND).await?;
        self.say(|said| said.is_err_and(|why| why.contains("no such object")))
            .await?;
        define_access(admin).await?;
        self.write(admin, 1).await?;
        self.judged(admin, 1, 1).await?;
        self.say(|said| said.is_ok()).await?;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        Ok(())
    }

    fn path(&self, number: usize) -> String {
        let namespace = &self.namespace;
        format!("/apis/doorward.dev/v1alpha1/namespaces/{namespace}/workspaceaccesses/one-{number}")
    }

    async fn write(&self, admin: &Api, number: usize) -> Result<()> {
        let role = if number.is_multiple_of(2) { "dev" } else { "none" };
        let object = json!({
            "apiVersion": "doorward.dev/v1alpha1", "kind": "WorkspaceAccess",
            "metadata": {"name": format!("one-{number}"), "namespace": self.namespace},
            "spec": {"subjects": [{"kind": "User", "name": "bob"}], "workspaces": {"selector": {}}, "role": role},
        });
        // The kind may be served a moment after it is said to be there.
        until("the object is taken", async || Ok(admin.apply(&object).await.ok())).await?;
        Ok(())
    }

    /// Waits until the status of an object is that of this generation.
    async fn judged(&self, admin: &Api, number: usize, generation: i64) -> Result<()> {
        let reason = if number.is_multiple_of(2) {
            "Accepted"
        } else {
            "RoleNotGrantable"
        };
        let judged = |object: &Value| {
            let conditions = object["status"]["conditions"].as_array();
            let mut all = conditions.into_iter().flatten();
            all.any(|one| {
                one["type"] == "Accepted" && one["reason"] == reason && one["observedGeneration"] == generation
            })
        };
        admin.await_state(&self.path(number), judged).await?;
        Ok(())
    }

    /// How many reports of the two the server took.
    fn written(&self, cluster: &Cluster) -> Result<usize> {
        let me = format!("system:serviceaccount:{}:lender", self.namespace);
        let all = cluster.audit()?;
        let taken = |event: &&Value| {
            event["user"]["username"] == me.as_str()
                && event["objectRef"]["subresource"] == "status"
                && event["responseStatus"]["code"] == 200
        };
        Ok(all.iter().filter(taken).count())
    }

    async fn say(&self, wanted: impl Fn(Result<(), String>) -> bool) -> Result<()> {
        for one in &self.both {
            until("what is said of the objects", async || {
                Ok(wanted(one.current()).then_some(()))
            })
            .await
            .with_context(|| format!("{:?}", one.current()))?;
        }
        Ok(())
    }
}
