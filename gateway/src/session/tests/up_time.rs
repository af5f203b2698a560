//! Workspaces that the platform stops at a known time: who is told, when the time is moved, and how it ends.

use super::*;
use crate::workspace::{Source, Stop, Workspace};

/// From now on the workspace is stopped so long from now.
fn stopped_in(bench: &Bench, left: Duration) {
    let at = SystemTime::now() + left;
    let directory = &bench.running.gateway().workspaces;
    let all = directory.list().into_iter().map(|one| {
        let mut one = Workspace::clone(&one);
        one.notes.stop = Some(Stop {
            at,
            warn: [60, 900].map(Duration::from_secs).into(),
            extendable: true,
        });
        one
    });
    directory.replace(Source::Configuration, all.collect());
}

type Frames = FrameStream<Tunnel>;

/// The next sentence for the user, or the end.
async fn said(frames: &mut Frames) -> Result<String, doorward_wire::End> {
    loop {
        match tokio::time::timeout(SOON, frames.next()).await.unwrap().unwrap() {
            Some(Frame::Notice { text }) => return Ok(text),
            Some(Frame::End(end)) => return Err(end),
            Some(_) => {}
            None => panic!("no end"),
        }
    }
}

#[tokio::test]
async fn people_are_told_ahead_of_a_time_that_moves_and_the_session_ends_then() {
    let (bench, mut agent) = plain().await;
    stopped_in(&bench, Duration::from_secs(7200));
    let mut frames = FrameStream::new(connect(&bench).await);
    let (_, stream) = agent.session().await;
    let name = WorkspaceName::try_from("devenv-0").unwrap();
    eventually(|| bench.running.gateway().sessions.live().len() == 1).await;
    // Nobody is told of an end that is far away; one that has come near is told at once.
    stopped_in(&bench, Duration::from_secs(600));
    let text = said(&mut frames).await.unwrap();
    assert!(text.starts_with("the workspace is stopped in 10m: "), "{text}");
    assert!(text.contains("doorward keep"), "{text}");
    stopped_in(&bench, Duration::from_secs(3 * 3600));
    let text = said(&mut frames).await.unwrap();
    assert_eq!(text, "the workspace is not stopped yet: it has another 3h");
    stopped_in(&bench, Duration::from_millis(300));
    let text = said(&mut frames).await.unwrap();
    assert!(text.starts_with("the workspace is stopped in "), "{text}");
    let end = said(&mut frames).await.unwrap_err();
    assert_eq!((end.exit, end.code.as_str()), (255, "up-time-over"));
    assert!(end.text.contains("up-time is over"), "{}", end.text);

    drop((frames, stream));
    eventually(|| bench.running.gateway().sessions.live().is_empty()).await;
    // Who would be put out at once is not let in.
    assert!(bench.running.gateway().workspaces.find(&name).unwrap().is_up().is_err());
    assert_eq!(refused(&bench).await, (403, "up-time-over".to_owned()));
    // And who comes shortly before is told first.
    stopped_in(&bench, Duration::from_secs(30));
    let mut frames = FrameStream::new(connect(&bench).await);
    let (_, stream) = agent.session().await;
    let text = said(&mut frames).await.unwrap();
    assert!(text.starts_with("the workspace is stopped in "), "{text}");
    drop((frames, stream));

    let events = journal(stop(bench).await.path());
    let announced = events.iter().filter_map(|event| match event {
        Event::EndAnnounced(said) => Some((said.session, said.why.as_str())),
        _ => None,
    });
    let announced: Vec<_> = announced.collect();
    assert_eq!(announced.len(), 3, "{announced:?}");
    assert!(announced.iter().all(|(_, why)| *why == "up-time"), "{announced:?}");
    assert_eq!(announced[0].0, announced[1].0);
    let ended = events.iter().find_map(|event| match event {
        Event::SessionEnded(ended) if ended.session == announced[0].0 => Some(ended.code.as_str()),
        _ => None,
    });
    assert_eq!(ended, Some("up-time-over"));
}
