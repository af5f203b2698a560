//! What the client makes of an API server that does not answer as it should, and of files that it must not take.

use std::sync::Mutex;

use ::kube::{Api, api::ListParams};
use k8s_openapi::api::core::v1::Pod;

use super::fake::{Answer, FakeServer};
use super::*;
use crate::config::{Kubernetes, KubernetesAccess};

async fn list(cluster: Cluster) -> KubeError {
    let api: Api<Pod> = Api::namespaced(cluster.client(), "devenv");
    api.list(&ListParams::default()).await.map(|_| ()).unwrap_err().into()
}

async fn said(answer: impl Fn() -> Answer + Send + Sync + 'static) -> KubeError {
    let server = FakeServer::start(move |_| answer()).await;
    let error = list(connect(&server.settings()).await.unwrap()).await;
    assert_eq!(server.requests(), 1, "nothing is tried twice behind the caller's back");
    error
}

#[tokio::test]
async fn each_kind_of_bad_answer_has_its_class() {
    let forbidden = "pods is forbidden: User \"x\" cannot list resource \"pods\"";
    let error = said(move || Answer::refused(403, forbidden)).await;
    assert_eq!(error, KubeError::Forbidden(forbidden.to_owned()));
    assert!(!error.is_outage());
    assert!(error.to_string().contains("cannot list"), "{error}");
    let code = async |answer: fn() -> Answer| {
        let error = said(answer).await;
        (error.code(), error.is_outage())
    };
    assert_eq!(code(|| Answer::refused(401, "who")).await, ("kube-unauthorised", false));
    assert_eq!(code(|| Answer::refused(404, "no")).await, ("kube-not-found", false));
    assert_eq!(code(|| Answer::refused(409, "no")).await, ("kube-conflict", false));
    assert_eq!(code(|| Answer::refused(410, "old")).await, ("kube-gone", false));
    assert_eq!(code(|| Answer::refused(429, "slow")).await, ("kube-throttled", true));
    assert_eq!(code(|| Answer::refused(500, "etcd")).await, ("kube-refused", true));
    assert_eq!(
        code(|| Answer::Text(200, "<html>".into())).await,
        ("kube-garbage", false)
    );
    assert_eq!(code(|| Answer::Hang).await, ("kube-hanging", true));
    assert_eq!(code(|| Answer::HalfBody).await, ("kube-hanging", true));
    // So much takes its time on a machine that has other things to do.
    let server = FakeServer::start(|_| Answer::Text(200, "x".repeat(65 * 1024 * 1024))).await;
    let patient = Kubernetes {
        timeout: std::time::Duration::from_secs(60),
        ..server.settings()
    };
    let error = list(connect(&patient).await.unwrap()).await;
    assert_eq!((error.code(), error.is_outage()), ("kube-garbage", false));
}

#[tokio::test]
async fn a_server_that_is_not_there_or_another_is_unreachable() {
    let server = FakeServer::start(|_| Answer::Hang).await;
    let mut settings = server.settings();
    let stranger = FakeServer::start(|_| Answer::Hang).await;
    if let (KubernetesAccess::ServiceAccount { folder, .. }, KubernetesAccess::ServiceAccount { folder: other, .. }) =
        (&mut settings.access, stranger.settings().access)
    {
        *folder = other;
    }
    let error = list(connect(&settings).await.unwrap()).await;
    assert_eq!(
        error.code(),
        "kube-unreachable",
        "its certificate is another's: {error}"
    );
    assert_eq!(server.requests(), 0, "no token was shown to it");
    let settings = server.settings();
    drop(server);
    // The folder went with it: what is missing is said by its name.
    let error = connect(&settings).await.unwrap_err();
    assert!(
        matches!(&error, KubeError::Configuration(text) if text.contains("ca.crt")),
        "{error}"
    );
}

#[tokio::test]
async fn the_token_is_shown_and_never_told() {
    let seen = std::sync::Arc::new(Mutex::new(Vec::new()));
    let noted = std::sync::Arc::clone(&seen);
    let server = FakeServer::start(move |request| {
        let header = request
            .headers()
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        noted.lock().unwrap().push(header);
        Answer::refused(401, "unknown")
    })
    .await;
    let client = connect(&server.settings()).await.unwrap();
    let error = list(client).await;
    assert_eq!(*seen.lock().unwrap(), [Some("Bearer the-token".to_owned())]);
    assert!(!format!("{error} {error:?}").contains("the-token"));
}

#[tokio::test]
async fn kubeconfigs_that_run_programs_or_verify_nothing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    let connect = async |cluster: &str, user: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {{cluster: k, user: u}}\n\
             clusters:\n- name: k\n  cluster: {{{cluster}}}\nusers:\n- name: u\n  user: {{{user}}}\n"
        );
        crate::testing::private(&file, &text);
        crate::record::fixture::install_provider();
        let settings = Kubernetes {
            audience: "doorward".to_owned(),
            access: KubernetesAccess::Kubeconfig(file.clone()),
            timeout: std::time::Duration::from_secs(1),
            max_age: std::time::Duration::from_secs(1),
            workspaces: Vec::new(),
            wakes: Default::default(),
            usage: Default::default(),
        };
        super::connect(&settings)
            .await
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let good = "server: \"https://127.0.0.1:1\"";
    connect(good, "token: t").await.unwrap();
    for (cluster, user, said) in [
        ("server: \"http://127.0.0.1:1\"", "token: t", "https://"),
        (
            &format!("{good}, insecure-skip-tls-verify: true"),
            "token: t",
            "insecure-skip-tls-verify",
        ),
        (
            &format!("{good}, proxy-url: \"http://127.0.0.1:3128\""),
            "token: t",
            "proxy-url",
        ),
        (
            good,
            "exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/true}",
            "exec",
        ),
        (good, "auth-provider: {name: gcp, config: {}}", "auth-provider"),
    ] {
        let error = connect(cluster, user).await.unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    connect(good, "token: t").await.unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let settings = Kubernetes {
        audience: "doorward".to_owned(),
        access: KubernetesAccess::Kubeconfig(file.clone()),
        timeout: std::time::Duration::from_secs(1),
        max_age: std::time::Duration::from_secs(1),
        workspaces: Vec::new(),
        wakes: Default::default(),
        usage: Default::default(),
    };
    assert!(super::connect(&settings).await.is_err(), "everybody can read it");
}
