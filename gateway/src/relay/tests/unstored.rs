//! Sessions whose recording cannot be stored any longer.

use super::*;

/// A passage whose store has just failed, with the client's and the agent's ends, before anybody was told.
async fn without_a_store() -> (
    FrameStream<Plain<DuplexStream>>,
    FrameStream<Plain<DuplexStream>>,
    tokio::task::JoinHandle<Passage>,
) {
    let rig = Rig::new().await;
    let session = Uuid::now_v7();
    let mut author = Author::new(session);
    let recording = rig.store.begin(start(session)).await.unwrap();
    recording.expect_key(author.key.public_key().clone());
    let (client, to_client) = tokio::io::duplex(256 * 1024);
    let (agent, to_agent) = tokio::io::duplex(256 * 1024);
    let (kill, killed) = watch::channel(None);
    let bounds = Bounds {
        longest: Duration::from_secs(3600),
        ending: CancellationToken::new(),
        killed,
        silence: SILENCE,
        notice: None,
        stops: watch::channel(None).1,
        herald: Herald::nobody(),
    };
    #[expect(clippy::disallowed_methods, reason = "the test awaits it")]
    let passing = tokio::spawn(async move {
        let _kill = kill;
        let mut recording = Keeping::strict(recording);
        pass(Plain::new(to_client), Plain::new(to_agent), &mut recording, bounds).await
    });
    let mut agent = FrameStream::new(Plain::new(agent));
    let segment = [author.open(), author.output(50), author.head(false)].concat().into();
    agent.send(&record(0, &segment)).await.unwrap();
    let end = segment.len() as u64;
    while next(&mut agent).await != (Frame::RecordAck { offset: end }) {}
    // There is no place for the next one.
    std::fs::remove_dir_all(rig.folder(session)).unwrap();
    agent.send(&record(end, &author.output(50))).await.unwrap();
    (FrameStream::new(Plain::new(client)), agent, passing)
}

#[tokio::test]
async fn where_the_store_fails_the_agent_says_so_in_the_session() {
    let (mut client, mut agent, passing) = without_a_store().await;
    match next(&mut agent).await {
        Frame::End(end) => assert_eq!(end.exit, 254),
        frame => panic!("{frame:?}"),
    }
    // The session still goes on in both directions, until the agent ends it.
    client.send(&Frame::Ack { offset: 0 }).await.unwrap();
    assert_eq!(next(&mut agent).await, Frame::Ack { offset: 0 });
    agent.send(&data(0, b"exit status 254")).await.unwrap();
    assert_eq!(next(&mut client).await, data(0, b"exit status 254"));
    agent.send(&Frame::End(End::new(254, "gone", "it"))).await.unwrap();
    agent.queue(&data(15, b"too late"));
    let _ = agent.flush().await;
    match next(&mut client).await {
        Frame::End(end) => assert_eq!((end.exit, end.code.as_str()), (254, "gone")),
        frame => panic!("{frame:?}"),
    }
    assert!(!matches!(client.next().await, Ok(Some(Frame::Data { .. }))));
    drop((client, agent));
    let passage = tokio::time::timeout(SOON, passing).await.unwrap().unwrap();
    assert!(
        matches!(passage.ending, Ending::RecordFailed(_)),
        "{:?}",
        passage.ending
    );
}

#[tokio::test]
async fn an_agent_that_says_nothing_about_it_is_waited_for_no_longer_than_a_moment() {
    for leaves in [true, false] {
        let (mut client, mut agent, passing) = without_a_store().await;
        assert!(matches!(next(&mut agent).await, Frame::End(_)));
        let kept = (!leaves).then_some(agent);
        match next(&mut client).await {
            Frame::End(end) => assert_eq!((end.exit, end.code.as_str()), (254, "record-store")),
            frame => panic!("{frame:?}"),
        }
        drop((client, kept));
        let passage = tokio::time::timeout(SOON, passing).await.unwrap().unwrap();
        assert!(
            matches!(passage.ending, Ending::RecordFailed(_)),
            "{:?}",
            passage.ending
        );
    }
}
