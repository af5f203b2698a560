//! The API server: whether it answers, and takes the gateway for who it is.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{Api, Client, api::PostParams};

use super::Finding;
use crate::{
    config::{Config, Kubernetes, KubernetesAccess},
    kube::{
        self as cluster, Access, Cluster, Discovery, KubeError,
        discover::Found,
        rights::{self, Act},
    },
};

/// Looks at the API server, if there is one.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let Some(settings) = &config.kubernetes else {
        return Vec::new();
    };
    let answer = answers(settings).await;
    let good = answer.is_ok();
    let mut all =
        vec![answer.unwrap_or_else(|error| {
            Finding::broken("kubernetes", subject(settings), error.to_string(), error.remedy())
        })];
    if good && let Ok(cluster) = cluster::connect(settings).await {
        let discovery = Discovery::new(cluster.client(), &settings.workspaces, settings.max_age);
        all.extend(discovery.look().await.into_iter().flat_map(found));
        if !config.authorize.access.is_empty() {
            let (rules, heard) = (&settings.workspaces, &config.authorize.access);
            let access = Access::new(cluster.client(), rules, heard, settings.max_age, discovery);
            all.push(objects(&access).await);
        }
        if !config.authorize.rbac.is_empty() {
            all.push(may_ask(&cluster, config, "authorization.k8s.io", "subjectaccessreviews").await);
        }
        if config.token_review.is_some() {
            all.push(may_ask(&cluster, config, "authentication.k8s.io", "tokenreviews").await);
        }
    }
    all
}

/// Whether the objects can be read by which the admins of namespaces let people in.
async fn objects(access: &Access) -> Finding {
    const KIND: &str = "workspaceaccesses.doorward.dev";
    match access.look().await {
        Ok(count) => Finding::ok("authorize", KIND, format!("{count} there")),
        Err((place, KubeError::NotFound(_))) => Finding::broken(
            "authorize",
            KIND,
            format!("{place}: the API server does not know the kind"),
            "apply deploy/kubernetes/workspaceaccess.crd.yaml",
        ),
        Err((place, error)) => Finding::broken("authorize", KIND, format!("{place}: {error}"), error.remedy()),
    }
}

/// Whether the gateway may ask the API server this kind of question.
async fn may_ask(cluster: &Cluster, config: &Config, group: &str, resource: &str) -> Finding {
    let act = Act {
        namespace: String::new(),
        verb: "create".to_owned(),
        group: group.to_owned(),
        resource: resource.to_owned(),
        subresource: String::new(),
        name: String::new(),
    };
    let subject = format!("{resource}.{group}");
    match rights::may_i(cluster.client(), config.authorize.timeout, &act).await {
        Ok(true) => Finding::ok(
            "authorize",
            subject,
            "the gateway may create them: it can ask about people",
        ),
        Ok(false) => Finding::broken(
            "authorize",
            subject,
            "the gateway may not create them: nobody can enter by the word of the API server",
            "give its service account `create` on them in the whole cluster (ClusterRole and ClusterRoleBinding)",
        ),
        Err(error) => Finding::broken("authorize", subject, error.to_string(), error.remedy()),
    }
}

/// What a rule finds: how many workspaces there are, and what is none.
fn found(found: Result<Found, (String, String, KubeError)>) -> Vec<Finding> {
    let found = match found {
        Ok(found) => found,
        Err((rule, place, error)) => {
            let text = format!("{place}: {error}");
            return vec![Finding::broken("workspaces", rule, text, error.remedy())];
        }
    };
    let states: Vec<String> = found
        .states
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let first = match states.is_empty() {
        true => Finding::warning(
            "workspaces",
            &found.rule,
            "finds nothing",
            "correct its selectors, if there should be workspaces",
        ),
        false => Finding::ok("workspaces", &found.rule, states.join(", ")),
    };
    let problems = found.problems.iter().take(MOST_SHOWN).map(|problem| {
        let text = format!("{} is no workspace: {}", problem.object, problem.why);
        Finding::warning("workspaces", &found.rule, text, "correct the object, or the rule")
    });
    std::iter::once(first).chain(problems).collect()
}

async fn answers(settings: &Kubernetes) -> Result<Finding, KubeError> {
    let client = cluster::connect(settings).await?.client();
    let version = client.apiserver_version().await?.git_version;
    let user = who(client).await?;
    let text = format!("answers (version {}); the gateway is {}", shown(&version), shown(&user));
    Ok(Finding::ok("kubernetes", subject(settings), text))
}

async fn who(client: Client) -> Result<String, KubeError> {
    let api: Api<SelfSubjectReview> = Api::all(client);
    let review = api
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await?;
    let user = review.status.and_then(|status| status.user_info);
    user.and_then(|user| user.username)
        .ok_or_else(|| KubeError::Garbage("a review without a user".to_owned()))
}

fn subject(settings: &Kubernetes) -> String {
    match &settings.access {
        KubernetesAccess::ServiceAccount { server, .. } => server.to_string(),
        KubernetesAccess::Kubeconfig(file) => file.display().to_string(),
    }
}

const MOST_SHOWN: usize = 20;

fn shown(text: &str) -> String {
    crate::workspace::line(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::Verdict;
    use crate::kube::fake::{Answer, FakeServer};

    async fn finding(server: &FakeServer) -> Finding {
        let settings = server.settings();
        let said = answers(&settings).await;
        said.unwrap_or_else(|error| {
            Finding::broken("kubernetes", subject(&settings), error.to_string(), error.remedy())
        })
    }

    #[tokio::test]
    async fn a_server_says_what_it_is_and_who_we_are_or_why_not() {
        let good = FakeServer::start(|request| match request.uri().path() {
            "/version" => Answer::json(&json!({
                "major": "1", "minor": "34", "gitVersion": "v1.34.4\u{1b}[31m", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
            })),
            "/apis/authentication.k8s.io/v1/selfsubjectreviews" => Answer::json(&json!({
                "kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
                "status": { "userInfo": { "username": "system:serviceaccount:doorward:gateway" } },
            })),
            _ => Answer::refused(404, "no such path"),
        })
        .await;
        let found = finding(&good).await;
        assert_eq!(found.verdict, Verdict::Ok);
        let said = format!("{found:?}");
        assert!(
            said.contains("v1.34.4") && said.contains("serviceaccount:doorward:gateway"),
            "{said}"
        );
        assert!(!said.contains("\\u{1b}"), "{said}");
        let bad = FakeServer::start(|_| Answer::refused(401, "Unauthorized")).await;
        let found = finding(&bad).await;
        assert_eq!(found.verdict, Verdict::Broken);
        assert!(format!("{found:?}").contains("credentials"), "{found:?}");
    }
}
