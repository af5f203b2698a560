use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use doorward_audit::{Blocks, ChainCheck, Denied, Event, hex, segment_name};
use doorward_certs::{Authority, HostKey, Local};
use uuid::Uuid;

use super::*;
use crate::record::fixture::install_provider;

async fn credential() -> Arc<Credential> {
    install_provider();
    let authority = Arc::new(Authority::Local(Local::generate().unwrap()));
    Credential::start(HostKey::generate().unwrap(), authority)
        .await
        .unwrap()
}

fn denied(workspace: &str) -> Denied {
    Denied {
        workspace: workspace.into(),
        code: "denied".into(),
        ..Denied::default()
    }
}

/// The folders of streams, oldest first.
fn streams(dir: &std::path::Path) -> Vec<PathBuf> {
    let mut streams: Vec<_> = std::fs::read_dir(dir.join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    streams.sort();
    streams
}

fn bytes(stream: &std::path::Path) -> Vec<u8> {
    let segments = (0..)
        .map(|n| stream.join(segment_name(n)))
        .take_while(|path| path.exists());
    segments.flat_map(|path| std::fs::read(path).unwrap()).collect()
}

fn events(stream: &std::path::Path) -> Vec<Event> {
    let bytes = bytes(stream);
    let blocks: Blocks<_> = doorward_audit::blocks(&bytes[..]);
    blocks
        .flat_map(|block| block.unwrap().events().unwrap())
        .map(|stamped| stamped.event)
        .collect()
}

fn workspaces(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Denied(denied) => Some(denied.workspace.clone()),
            _ => None,
        })
        .collect()
}

async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let wait = async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn events_stand_in_order_between_start_and_stop_under_a_signed_head() {
    let dir = tempfile::tempdir().unwrap();
    let credential = credential().await;
    let journal = Journal::open(dir.path(), Arc::clone(&credential)).await.unwrap();
    let names: Vec<String> = (0..2500).map(|n| format!("devenv-{n}")).collect();
    for name in &names {
        journal.append(denied(name));
    }
    assert!(journal.ready().is_ok());
    journal.close().await;
    let stream = streams(dir.path()).pop().unwrap();
    let found = events(&stream);
    assert!(matches!(&found[0], Event::GatewayStarted(started) if started.previous.is_none()));
    assert!(matches!(found.last(), Some(Event::GatewayStopped(_))));
    assert_eq!(workspaces(&found), names);
    let id = Uuid::parse_str(stream.file_name().unwrap().to_str().unwrap()).unwrap();
    let (mut check, mut heads, mut last) = (ChainCheck::new(id), 0, false);
    check
        .push(&bytes(&stream), &mut |seen| {
            if let Some(head) = seen.head {
                assert!(head.verify(credential.public_key()));
                heads += 1;
                last = head.statement().last;
            }
        })
        .unwrap();
    assert!(last && heads >= 1, "{heads} heads, last: {last}");
}

#[tokio::test]
async fn an_event_is_durable_without_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), credential().await).await.unwrap();
    journal.append(denied("devenv-0"));
    let stream = streams(dir.path()).pop().unwrap();
    until("the event is stored", || workspaces(&events(&stream)) == ["devenv-0"]).await;
}

#[tokio::test]
async fn a_new_stream_names_the_end_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let credential = credential().await;
    for _ in 0..2 {
        let journal = Journal::open(dir.path(), Arc::clone(&credential)).await.unwrap();
        journal.append(denied("devenv-0"));
        journal.close().await;
    }
    let [first, second] = &streams(dir.path())[..] else {
        panic!("two streams")
    };
    let id = first.file_name().unwrap().to_str().unwrap();
    let mut check = ChainCheck::new(Uuid::parse_str(id).unwrap());
    check.push(&bytes(first), &mut |_| {}).unwrap();
    let Event::GatewayStarted(started) = &events(second)[0] else {
        panic!("no start")
    };
    let wanted = format!("{id} {} {}", check.next_seq() - 1, hex(&check.link()));
    assert_eq!(started.previous.as_deref(), Some(wanted.as_str()));
}

#[tokio::test]
async fn a_journal_that_was_cut_off_does_not_keep_a_gateway_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let credential = credential().await;
    let journal = Journal::open(dir.path(), Arc::clone(&credential)).await.unwrap();
    journal.close().await;
    let stream = streams(dir.path()).pop().unwrap().join(segment_name(0));
    let len = std::fs::metadata(&stream).unwrap().len();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&stream)
        .unwrap()
        .set_len(len - 5)
        .unwrap();
    let journal = Journal::open(dir.path(), credential).await.unwrap();
    assert!(journal.ready().is_ok());
    journal.close().await;
    assert_eq!(streams(dir.path()).len(), 2);
}

#[tokio::test]
async fn while_the_disk_refuses_it_says_so_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let journals = dir.path().join("journal");
    let journal = Journal::open(dir.path(), credential().await).await.unwrap();
    journal.append(denied("before"));
    let first = streams(dir.path()).pop().unwrap();
    until("the first event is stored", || {
        workspaces(&events(&first)) == ["before"]
    })
    .await;
    // Everything goes, and a file stands where the folder was: no stream can be begun.
    let away = dir.path().join("away");
    std::fs::rename(&journals, &away).unwrap();
    std::fs::write(&journals, "in the way").unwrap();
    for n in 0..1200 {
        journal.append(denied(&format!("during-{n}")));
    }
    // The head that is now due ends the open file; the next event wants a new one.
    until("it says that it fails", || {
        journal.append(denied("more"));
        journal.ready().is_err()
    })
    .await;
    journal.append(denied("still"));
    std::fs::remove_file(&journals).unwrap();
    until("it works again", || journal.ready().is_ok()).await;
    journal.append(denied("after"));
    journal.close().await;
    let old = away.join(first.file_name().unwrap());
    let mut found = workspaces(&events(&old));
    let [new] = &streams(dir.path())[..] else {
        panic!("one new stream")
    };
    let written = events(new);
    assert!(matches!(&written[0], Event::GatewayStarted(started) if started.previous.is_some()));
    found.extend(workspaces(&written));
    found.dedup();
    for name in ["before", "during-0", "during-1199", "still", "after"] {
        assert!(found.iter().any(|known| known == name), "{name} is missing");
    }
}

#[tokio::test]
async fn what_finds_no_room_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), credential().await).await.unwrap();
    journal.0.queue.with(|queue| queue.lost = 7);
    journal.append(denied("devenv-0"));
    journal.close().await;
    let stream = streams(dir.path()).pop().unwrap();
    let said = events(&stream).into_iter().find_map(|event| match event {
        Event::Gap(gap) => Some(gap.why),
        _ => None,
    });
    assert!(said.unwrap().starts_with("7 events"));
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_change_the_order_of_streams() {
    let dir = tempfile::tempdir().unwrap();
    let credential = credential().await;
    let tomorrow = uuid::Timestamp::from_unix(uuid::NoContext, unix_ms() / 1000 + 86_400, 0);
    let tomorrow = dir.path().join("journal").join(Uuid::new_v7(tomorrow).to_string());
    std::fs::create_dir_all(&tomorrow).unwrap();
    for name in ["one", "two"] {
        let journal = Journal::open(dir.path(), Arc::clone(&credential)).await.unwrap();
        journal.append(denied(name));
        journal.close().await;
    }
    let [first, one, two] = streams(dir.path()).try_into().unwrap();
    assert_eq!(first, tomorrow);
    assert_eq!(workspaces(&events(&one)), ["one"]);
    let after = events(&two);
    assert_eq!(workspaces(&after), ["two"]);
    let before = one.file_name().unwrap().to_str().unwrap();
    assert!(
        matches!(&after[0], Event::GatewayStarted(started) if started.previous.as_ref().unwrap().starts_with(before))
    );
}
