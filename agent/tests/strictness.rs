//! What gives way where records are not acknowledged: the session of a strict one, the recording of a best-effort one.

mod rig;

use std::time::Duration;

use doorward_audit::{Coverage, Event, Gap, Paused};
use doorward_certs::{RecordingMode, Terms};
use rig::client::{Client, Heard, leave, logged_in, rest, says, until};
use rig::{Rig, everything};
use uuid::Uuid;

fn terms(mode: RecordingMode, unacked: u64, stall: u64) -> Terms {
    let mut terms = everything();
    terms.recording.mode = mode;
    terms.recording.unacked = unacked;
    terms.recording.stall = Duration::from_secs(stall);
    terms.recording.bulk_limit = 64 << 20;
    terms
}

#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
async fn exec(client: &Client, line: &str) -> Heard {
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, line).await.unwrap();
    rest(&mut channel).await
}

fn gaps(rig: &Rig, session: Uuid) -> Vec<Gap> {
    let events = rig.recorded(session).into_iter();
    let gaps = events.filter_map(|stamped| match stamped.event {
        Event::Gap(gap) => Some(gap),
        _ => None,
    });
    gaps.collect()
}

fn pauses(rig: &Rig, session: Uuid) -> Vec<Paused> {
    let events = rig.recorded(session).into_iter();
    let pauses = events.filter_map(|stamped| match stamped.event {
        Event::Paused(paused) => Some(paused),
        _ => None,
    });
    pauses.collect()
}

#[expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
fn coverage(rig: &Rig, session: Uuid) -> Coverage {
    match rig.recorded(session).pop().unwrap().event {
        Event::Coverage(coverage) => coverage,
        other => panic!("the last event is {other:?}"),
    }
}

/// Acknowledgements that stall end a session in which nothing happens, too, and the user reads since when and which bound.
#[tokio::test(flavor = "multi_thread")]
async fn a_strict_session_ends_also_while_it_is_silent() {
    let rig = Rig::start().await;
    let (session, stream) = rig.open(terms(RecordingMode::Strict, 4096, 1)).await;
    let client = logged_in(stream).await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "read x; echo got $x; exec sleep 300").await.unwrap();
    rig.until_recorded(session, |event| matches!(event, Event::Exec(_)))
        .await;
    rig.acknowledge_nothing();
    channel.data(&b"it\n"[..]).await.unwrap();
    let heard = rest(&mut channel).await;
    assert_eq!(heard.status, Some(254));
    let said = String::from_utf8_lossy(&heard.err).into_owned();
    assert!(
        said.contains("for longer than 1s") && said.contains("of at most 4096"),
        "{said}"
    );
    let end = rig.ended(session).await;
    assert!(
        end.exit == 254 && end.text.contains("nothing was acknowledged since 2"),
        "{end:?}"
    );
}

/// The terms tighten the bound of the agent's own file: output waits there, and comes whole once there are acknowledgements.
/// That it waited for over a second is on record.
#[tokio::test(flavor = "multi_thread")]
async fn a_strict_channel_pauses_at_the_bound_of_its_terms() {
    const BOUND: u64 = 64 * 1024;
    let rig = Rig::start().await;
    let (session, stream) = rig.open(terms(RecordingMode::Strict, BOUND, 60)).await;
    let client = logged_in(stream).await;
    rig.acknowledge_nothing();
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "head -c 3000000 /dev/urandom").await.unwrap();
    let paused = async {
        let length = || rig.gateway.records.lock().unwrap()[&session].len() as u64;
        while length() < BOUND {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // More than one chunk never stands beyond the bound, and a pause is one from a second on.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        length()
    };
    let waiting = tokio::time::timeout(Duration::from_secs(30), paused).await.unwrap();
    assert!(waiting < BOUND + 40_000, "{waiting} bytes wait");
    rig.acknowledge();
    let heard = rest(&mut channel).await;
    assert_eq!((heard.status, heard.out.len()), (Some(0), 3_000_000));
    assert_eq!(rig.output(session, 1), heard.out);
    assert!(gaps(&rig, session).is_empty());
    let paused = pauses(&rig, session);
    let [paused] = paused.as_slice() else {
        panic!("{paused:?}")
    };
    assert!(
        paused.channel == Some(0) && paused.unacknowledged >= BOUND && paused.milliseconds > 1000,
        "{paused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_terms_of_zero_not_even_a_channel_opens_that_is_not_durable() {
    let rig = Rig::start().await;
    let (session, stream) = rig.open(terms(RecordingMode::Strict, 0, 60)).await;
    let client = logged_in(stream).await;
    rig.acknowledge_nothing();
    let opening = client.channel_open_session();
    let mut opening = std::pin::pin!(opening);
    let recorded = rig.until_recorded(session, |event| matches!(event, Event::ChannelOpened(_)));
    tokio::select! {
        opened = &mut opening => panic!("open before it is durable: {:?}", opened.is_ok()),
        _ = recorded => {}
    }
    rig.acknowledge();
    let mut channel = opening.await.unwrap();
    channel.exec(true, "echo five").await.unwrap();
    assert!(says(&rest(&mut channel).await, "five"));
}

/// Pieces are larger there than elsewhere, and none of them is lost or out of turn.
#[tokio::test(flavor = "multi_thread")]
async fn with_terms_of_zero_bulk_is_shown_and_recorded_whole() {
    let rig = Rig::start().await;
    let (session, stream) = rig.open(terms(RecordingMode::Strict, 0, 60)).await;
    let client = logged_in(stream).await;
    let heard = exec(&client, "head -c 3000000 /dev/urandom | tee /dev/stderr").await;
    assert_eq!((heard.status, heard.out.len()), (Some(0), 3_000_000));
    assert!(heard.out == heard.err, "standard error is another");
    assert!(rig.output(session, 1) == heard.out && rig.output(session, 2) == heard.err);
}

/// What a best-effort session shows goes on; what is not recorded of it stands in the record with its size and time.
#[tokio::test(flavor = "multi_thread")]
async fn a_best_effort_session_goes_on_and_its_gaps_add_up() {
    const BOUND: u64 = 64 * 1024;
    let rig = Rig::start().await;
    // Its stall is long over before the end.
    let (session, stream) = rig.open(terms(RecordingMode::BestEffort, BOUND, 1)).await;
    let client = logged_in(stream).await;
    assert!(says(&exec(&client, "echo before").await, "before"));
    rig.acknowledge_nothing();
    let mut slow = client.channel_open_session().await.unwrap();
    slow.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
    slow.exec(
        true,
        "stty -echo; echo ready; read x; seq 1 2000; read y; echo after; exit 7",
    )
    .await
    .unwrap();
    until(&mut slow, |heard| says(heard, "ready")).await;
    let bulk = exec(
        &client,
        "head -c 2000000 /dev/urandom; sleep 1.2; head -c 1000000 /dev/zero >&2",
    )
    .await;
    assert_eq!(
        (bulk.status, bulk.out.len(), bulk.err.len()),
        (Some(0), 2_000_000, 1_000_000)
    );
    slow.data(&b"a\n"[..]).await.unwrap();
    until(&mut slow, |heard| says(heard, "2000\r\n")).await;
    assert!(gaps(&rig, session).is_empty(), "said before anything was acknowledged");
    rig.acknowledge();
    rig.until_recorded(
        session,
        |event| matches!(event, Event::Gap(gap) if gap.channel == Some(1)),
    )
    .await;
    slow.data(&b"b\n"[..]).await.unwrap();
    assert_eq!(rest(&mut slow).await.status, Some(7));
    leave(client).await;
    rig.ended(session).await;
    let shown = String::from_utf8_lossy(&rig.output(session, 1)).into_owned();
    assert!(
        shown.contains("before") && shown.contains("after"),
        "recorded on both sides of the gap"
    );
    let gaps = gaps(&rig, session);
    let (bulk, terminal) = (
        gaps.iter().find(|gap| gap.channel == Some(2)).unwrap(),
        gaps.iter().find(|gap| gap.channel == Some(1)).unwrap(),
    );
    assert!(
        bulk.bytes > 2_900_000 - 2 * BOUND && bulk.milliseconds.unwrap() >= 1_000,
        "{bulk:?}"
    );
    assert!(
        terminal.bytes > 5_000 && terminal.from.unwrap() > bulk.from.unwrap(),
        "{terminal:?}"
    );
    let said = coverage(&rig, session);
    let missing: u64 = gaps.iter().map(|gap| gap.bytes).sum();
    assert_eq!(
        said.bytes_seen,
        said.bytes_recorded + said.bytes_digested + missing,
        "{said:?} {gaps:?}"
    );
}

/// Events that are no content have their bound as well: past it they are counted, and no channel opens.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_bounded_too_and_said_to_be_missing() {
    let rig = Rig::start().await;
    let (session, stream) = rig.open(terms(RecordingMode::BestEffort, 1024, 60)).await;
    let client = logged_in(stream).await;
    rig.acknowledge_nothing();
    let mut last = client.channel_open_session().await.unwrap();
    let mut count = 1u32;
    loop {
        match client.channel_open_session().await {
            Ok(channel) => {
                channel.close().await.unwrap();
                count += 1;
            }
            Err(russh::Error::ChannelOpenFailure(_)) => break,
            Err(error) => panic!("{error}"),
        }
        assert!(count < 60_000, "nothing bounds them");
    }
    let held = rig.gateway.records.lock().unwrap()[&session].len();
    assert!(held < 600_000, "{held} bytes wait");
    last.exec(true, "echo shown").await.unwrap();
    assert!(says(&rest(&mut last).await, "shown"), "what is open goes on");
    rig.acknowledge();
    let gap = rig
        .until_recorded(
            session,
            |event| matches!(event, Event::Gap(gap) if gap.channel.is_none()),
        )
        .await;
    assert!(
        matches!(&gap, Event::Gap(gap) if gap.why.contains("events: not recorded")),
        "{gap:?}"
    );
    assert!(says(&exec(&client, "echo again").await, "again"));
    leave(client).await;
    rig.ended(session).await;
    let opened = rig.recorded(session).into_iter();
    let opened = opened
        .filter(|stamped| matches!(stamped.event, Event::ChannelOpened(_)))
        .count();
    assert_eq!(coverage(&rig, session).channels as usize, opened);
}
