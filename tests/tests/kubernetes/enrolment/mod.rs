//! Who is enrolled over a link and who is not, on a real API server: each token that is not quite the pod's own is refused with its
//! code in the journal, and an API server that hangs or throttles costs nobody else anything.

mod stand;

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use doorward_audit::Event;
use doorward_dev::parts::kube::TokenRequest;
use tests::journal::journal;
use tests::parts::{Had, name_of, own_cluster, shared_cluster};
use tests::{PATIENCE, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::PLACE;
use stand::{Bench, gateways};

#[tokio::test(flavor = "multi_thread")]
async fn no_token_but_the_pods_own_gets_a_certificate() -> Result<()> {
    let Had::Here(cluster) = shared_cluster(PLACE, name_of(&|| ())).await? else {
        return Ok(());
    };
    let bench = Bench::start(cluster, "tokens").await?;
    let own = Some("doorward");
    let mut agents = Vec::new();

    let good = bench.pod("devenv-good").await?;
    agents.push(bench.run(&good, &good, &bench.token(&good, own).await?).await?);

    for (name, audience) in [("devenv-other", Some("somebody-else")), ("devenv-api", None)] {
        let pod = bench.pod(name).await?;
        agents.push(bench.run(&pod, &pod, &bench.token(&pod, audience).await?).await?);
        bench.refused(&pod, &["enrol-token-audience"]).await?;
    }

    let pod = bench.pod("devenv-unbound").await?;
    let unbound = TokenRequest {
        pod: None,
        ..pod.wanted(own)
    };
    agents.push(bench.run(&pod, &pod, &cluster.token(unbound).await?).await?);
    bench.refused(&pod, &["enrol-token-unbound"]).await?;

    // The cluster gives out no token for less than ten minutes: these two are signed with its key, and one of them has ended.
    let pod = bench.pod("devenv-expired").await?;
    agents.push(bench.run(&pod, &pod, &bench.signed(&pod, -3600, -60).await?).await?);
    bench.refused(&pod, &["enrol-token-expired"]).await?;
    let pod = bench.pod("devenv-signed").await?;
    agents.push(bench.run(&pod, &pod, &bench.signed(&pod, -60, 3600).await?).await?);
    bench.enrolled(&pod).await?;

    // Somebody of the same names, elsewhere.
    let elsewhere = Bench {
        namespace: "tokens-too",
        ..bench.clone()
    };
    cluster.namespace(elsewhere.namespace).await?;
    let foreign = elsewhere.pod("devenv-foreign").await?;
    let pod = bench.pod("devenv-foreign").await?;
    agents.push(bench.run(&pod, &pod, &elsewhere.token(&foreign, own).await?).await?);
    bench.refused(&pod, &["enrol-other-pod"]).await?;

    // A hostile pod with a good token of its own: where another is dialled, and where it is dialled itself.
    let hostile = bench.pod("devenv-hostile").await?;
    let its_own = bench.token(&hostile, own).await?;
    let victim = bench.pod("devenv-victim").await?;
    agents.push(bench.run(&victim, &victim, &its_own).await?);
    bench.refused(&victim, &["enrol-other-pod"]).await?;
    agents.push(bench.run(&hostile, &good, &its_own).await?);
    until("the liar is found out", async || {
        let log = fs::read_to_string(bench.log())?;
        let mut lines = log.lines();
        let found = lines.any(|line| line.contains("devenv-hostile") && line.contains("another workspace answered"));
        Ok(found.then_some(()))
    })
    .await?;

    // A life that is over. The API server may confirm its token for ten seconds more; then it is another pod's.
    let first = bench.pod("devenv-gone").await?;
    let old = bench.token(&first, own).await?;
    ensure!(bench.review(&old).await?["authenticated"] == true);
    bench.delete(&first).await?;
    let second = bench.pod("devenv-gone").await?;
    ensure!(second.uid != first.uid);
    agents.push(bench.run(&second, &second, &old).await?);
    bench.refused(&second, &["enrol-other-pod", "enrol-token-gone"]).await?;
    until("the deleted pod's token is gone", async || {
        Ok(bench
            .codes(&second)?
            .iter()
            .any(|code| code == "enrol-token-gone")
            .then_some(()))
    })
    .await?;

    // None of them got in, each has its one reason, and the pod that is what it says is entered.
    bench.enrolled(&good).await?;
    let enrolled: Vec<String> = journal(&bench.state)?
        .into_iter()
        .filter_map(|event| match event {
            Event::Enrolled(enrolled) if enrolled.workspace.starts_with("devenv-") => Some(enrolled.workspace),
            _ => None,
        })
        .filter(|name| bench.made.lock().is_ok_and(|made| made.contains(name)))
        .collect();
    ensure!(
        enrolled
            .iter()
            .all(|name| name == "devenv-good" || name == "devenv-signed"),
        "{enrolled:?}"
    );
    bench.known("devenv-good").await?;
    let entered = bench.enter("devenv-good").await?;
    ensure!(entered.stdout == b"in\n", "{}\n{}", entered.said(), bench.tail()?);
    let text = fs::read_to_string(bench.log())?;
    ensure!(!text.contains("eyJ"), "a token in the gateway's log");
    for mut agent in agents {
        agent.kill().await?;
    }
    bench.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_hangs_or_throttles_delays_those_alone_who_enrol() -> Result<()> {
    let Had::Here(cluster) = own_cluster(PLACE, name_of(&|| ())).await? else {
        return Ok(());
    };
    let bench = Bench::start(&cluster, "hung").await?;
    let own = Some("doorward");
    let good = bench.pod("devenv-calm").await?;
    let mut agents = vec![bench.run(&good, &good, &bench.token(&good, own).await?).await?];
    bench.enrolled(&good).await?;
    bench.known("devenv-calm").await?;
    let mut open = bench
        .ssh("devenv-calm", "cat")
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
    echo(b"before\n").await?;

    // Known and dialled, and its agent comes only when nobody answers about its token.
    let late = bench.pod("devenv-late").await?;
    let token = bench.token(&late, own).await?;
    bench.shown(&late).await?;
    bench.known("devenv-late").await?;
    cluster.pause_api().await;
    agents.push(bench.serve(&late, &late, &token).await?);
    let refused = bench.refused(&late, &["kube-hanging"]).await;
    let meanwhile = async {
        echo(b"while it hangs\n").await?;
        let entered = bench.enter("devenv-calm").await?;
        ensure!(entered.stdout == b"in\n", "{}\n{}", entered.said(), bench.tail()?);
        let refused = bench.enter("devenv-late").await?;
        ensure!(refused.code == Some(255), "{}", refused.said());
        anyhow::Ok(())
    };
    let meanwhile = meanwhile.await;
    cluster.resume_api();
    refused?;
    meanwhile?;
    bench.enrolled(&late).await?;

    // The API server's own fairness has one seat for this gateway, and something that takes long sits on it.
    bench.narrow().await?;
    let pressed = bench.pod("devenv-pressed").await?;
    let token = bench.token(&pressed, own).await?;
    bench.shown(&pressed).await?;
    bench.known("devenv-pressed").await?;
    let gateway = cluster.token(gateways(bench.namespace)).await?;
    cluster.pause_store().await;
    let throttled = async {
        let sits = bench.sit(gateway).await?;
        agents.push(bench.serve(&pressed, &pressed, &token).await?);
        bench.refused(&pressed, &["kube-throttled"]).await?;
        echo(b"while it throttles\n").await?;
        let entered = bench.enter("devenv-calm").await?;
        ensure!(entered.stdout == b"in\n", "{}\n{}", entered.said(), bench.tail()?);
        drop(sits);
        anyhow::Ok(())
    };
    let throttled = throttled.await;
    cluster.resume_store();
    throttled?;
    bench.enrolled(&pressed).await?;
    echo(b"after\n").await?;
    for mut agent in agents {
        agent.kill().await?;
    }
    bench.stop().await;
    Ok(())
}
