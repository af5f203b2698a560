//! The day on which nothing can be stored.

use super::*;

const GLASS: &str = "\n[[role]]\nname = \"night-shift\"\ngroups = [\"developers\"]\nworkspaces = [\"devenv-*\"]\n\
    allow = [\"shell\"]\nbreak-glass = true\n";

/// With the store down bob gets in for a reason, loudly; what was recorded is stored once the store is back.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the test awaits it")]
async fn the_glass_is_broken_for_a_reason_and_on_record() {
    let (bench, mut agent) = with_agent(Manner::default(), GLASS, "").await;
    let gateway = Arc::clone(bench.running.gateway());
    let (records, away) = (bench.folder.path().join("records"), bench.folder.path().join("away"));
    fs::rename(&records, &away).unwrap();
    fs::write(&records, "in the way").unwrap();
    // Nobody knew yet that the store is down.
    assert_eq!(refused(&bench).await, (503, "record-store-down".into()));
    let token = bench.token(|_| {});
    let lines = format!("Authorization: Bearer {token}\r\n{UPGRADE}");
    let reply = bench.get("/v1/connect/devenv-0", &lines).await;
    assert_eq!(
        (reply.status(), &reply.json()["code"]),
        (403, &serde_json::json!("reason-required"))
    );
    assert!(
        reply.json()["hint"].as_str().unwrap().contains("DOORWARD_REASON="),
        "{reply:?}"
    );
    let lines = format!("Doorward-Reason: a%0Ab\r\n{lines}");
    assert_eq!(bench.get("/v1/connect/devenv-0", &lines).await.status(), 400);

    let tunnel = connect_because(&bench, Some("db%20down%2C%20pager%20%E2%84%96%207")).await;
    let (mut near, mut said, _handle, driver) = client_end(tunnel, EndLimits::default());
    let driver = tokio::spawn(driver);
    // The first was opened before the store said no.
    drop(agent.session().await);
    let (opened, stream) = agent.session().await;
    let certificate = ssh_key::Certificate::from_bytes(&opened.certificate).unwrap();
    let terms = certificate.extensions().get("recording@doorward").unwrap();
    assert!(terms.contains("mode=best-effort"), "{terms}");
    assert!(
        certificate.extensions().get("exec@doorward").is_none(),
        "alone, not added to the other roles"
    );
    let author = Author::new(opened.session).with_key(&agent.manner.key);
    let serving = echo(author, stream);
    match said.next().await {
        Some(Said::Notice(text)) => assert!(text.starts_with("BREAK-GLASS"), "{text}"),
        other => panic!("{other:?}"),
    }
    near.write_all(b"ping").await.unwrap();
    let mut line = [0; 4];
    near.read_exact(&mut line).await.unwrap();
    assert!(matches!(said.next().await, Some(Said::End(_))));
    let author = serving.await.unwrap();
    driver.await.unwrap().unwrap();
    eventually(|| gateway.sessions.live().is_empty()).await;
    fs::remove_file(&records).unwrap();
    fs::rename(&away, &records).unwrap();
    eventually(|| {
        let list = gateway.store.list(&crate::record::Filter {
            limit: 9,
            ..Default::default()
        });
        list.iter()
            .any(|index| index.session == opened.session && index.outcome == Some(Outcome::Complete))
    })
    .await;
    let report = verify(&bench, opened.session, &author);
    assert_eq!(
        (report.verdict(), &report.findings),
        (Verdict::Complete, &vec![]),
        "{report:?}"
    );
    drop(gateway);
    let events = journal(stop(bench).await.path());
    let broken = events.iter().position(|event| match event {
        Event::BreakGlass(broken) => {
            (
                broken.session,
                broken.user.as_str(),
                broken.workspace.as_str(),
                broken.reason.as_str(),
            ) == (opened.session, "bob", "devenv-0", "db down, pager \u{2116} 7")
        }
        _ => false,
    });
    let signed = events
        .iter()
        .position(|event| matches!(event, Event::Signed(signed) if signed.session == opened.session));
    assert!(broken.is_some() && broken < signed, "{events:?}");
}
