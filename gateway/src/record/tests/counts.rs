//! The agent's count against the gateway's.

use doorward_audit::{Agreement, Event, Reconciled, Verdict, events, segment_name};

use super::*;

/// What the journal says of a session's counts, once it says it.
async fn reconciled(rig: &Rig, session: Uuid) -> Reconciled {
    let journal = rig.dir.path().join("journal");
    let mut found = None;
    until("the counts are in the journal", || {
        let streams = std::fs::read_dir(&journal)
            .unwrap()
            .map(|stream| stream.unwrap().path());
        let bytes = streams.flat_map(|stream| std::fs::read(stream.join(segment_name(0))).unwrap_or_default());
        let bytes: Vec<u8> = bytes.collect();
        found = events(&bytes[..])
            .map_while(Result::ok)
            .find_map(|stamped| match stamped.event {
                Event::Reconciled(said) if said.session == session => Some(said),
                _ => None,
            });
        found.is_some()
    })
    .await;
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_counts_less_than_passed_is_put_on_record() {
    let rig = Rig::new().await;
    // The agent of these tests claims that no byte of ciphertext passed.
    for (agent_bytes, agreement) in [(60_000, Agreement::Agree), (70_000, Agreement::Differ)] {
        let session = Uuid::now_v7();
        let recording = rig.store.begin(start(session)).await.unwrap();
        let mut author = Author::new(session);
        recording.expect_key(author.key.public_key().clone());
        recording.append(0, author.whole().into()).unwrap();
        let closing = Closing {
            reason: "done".into(),
            counted: Some(Counted {
                client_bytes: 11,
                agent_bytes,
            }),
        };
        recording.finish(closing, SOON).await.unwrap();
        let report = rig.verify(session, &author.key);
        assert_eq!(report.verdict(), Verdict::Complete, "{report:?}");
        let both = report.reconciliation.unwrap();
        assert_eq!(
            (both.agreement, both.differences()),
            (agreement, (11, i128::from(agent_bytes)))
        );
        let said = reconciled(&rig, session).await;
        assert_eq!(said.agree, agreement == Agreement::Agree);
        assert_eq!((said.agent_agent_bytes, said.gateway_agent_bytes), (0, agent_bytes));
        let receipts = std::fs::read_to_string(rig.folder(session).join("receipts.jsonl")).unwrap();
        let word = if said.agree { "agree" } else { "differ" };
        assert!(
            receipts.contains(&format!("\\\"reconciled\\\":\\\"{word}\\\"")),
            "{receipts}"
        );
    }
}
