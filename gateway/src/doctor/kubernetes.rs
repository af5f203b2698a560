//! The API server: whether it answers, and takes the gateway for who it is.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{Api, Client, api::PostParams};

use super::Finding;
use crate::{
    config::{Config, Kubernetes, KubernetesAccess},
    kube::{self as cluster, KubeError},
};

/// Looks at the API server, if there is one.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let Some(settings) = &config.kubernetes else {
        return Vec::new();
    };
    vec![
        answers(settings).await.unwrap_or_else(|error| {
            Finding::broken("kubernetes", subject(settings), error.to_string(), error.remedy())
        }),
    ]
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
