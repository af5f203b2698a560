use std::fs::OpenOptions;
use std::io::Write as _;

use doorward_audit::JudgeGateway;
use doorward_audit::log::{LEAVES_NAME, leaf_hash, verify_consistency, verify_inclusion};
use doorward_certs::{Authority, HostKey, Local};
use uuid::Uuid;

use super::*;
use crate::record::fixture::install_provider;

struct Rig {
    dir: tempfile::TempDir,
    credential: Arc<Credential>,
    public: Arc<PublicLog>,
}

impl Rig {
    async fn new() -> Self {
        install_provider();
        let authority = Arc::new(Authority::Local(Local::generate().unwrap()));
        let credential = Credential::start(HostKey::generate().unwrap(), authority)
            .await
            .unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            credential,
            public: Arc::default(),
        }
    }

    fn open(&self) -> Log {
        Log::open(self.dir.path(), &self.credential, &self.public).unwrap()
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join(files::folder_name(self.credential.public_key()))
    }

    fn head(&self) -> TreeHead {
        let checkpoint = self.public.checkpoint().unwrap();
        let key = self.credential.public_key().clone();
        let judge: JudgeGateway = Box::new(move |_, _| Ok(key.clone()));
        checkpoint.judge(&judge).unwrap();
        checkpoint.statement().head
    }

    fn all(&self) -> Vec<String> {
        self.public.leaves(0, self.head().size).unwrap()
    }
}

fn opened(session: Uuid) -> Leaf {
    Leaf::new(unix_ms(), LeafKind::Opened { session })
}

fn add(log: &mut Log, rig: &Rig, sessions: &[Uuid]) {
    let leaves: Vec<_> = sessions.iter().map(|session| opened(*session)).collect();
    log.append(&leaves).unwrap();
    log.publish(&rig.credential, false).unwrap();
}

#[tokio::test]
async fn what_was_signed_is_proved_over_restarts() {
    let rig = Rig::new().await;
    let mut heads = vec![];
    let sessions: Vec<Uuid> = (0..25).map(|_| Uuid::now_v7()).collect();
    for chunk in sessions.chunks(5) {
        let mut log = rig.open();
        heads.push(rig.head());
        add(&mut log, &rig, chunk);
        heads.push(rig.head());
    }
    let last = rig.head();
    assert_eq!(last.size, 26);
    for head in &heads {
        let proof = rig.public.consistency(head.size, last.size).unwrap();
        verify_consistency((head.size, &head.root), (last.size, &last.root), &proof).unwrap();
    }
    let all = rig.all();
    assert!(all[0].contains("log-started"), "{}", all[0]);
    for (index, text) in (0..).zip(&all) {
        let proof = rig.public.inclusion(index, last.size).unwrap();
        verify_inclusion(&leaf_hash(text.as_bytes()), index, last.size, &last.root, &proof).unwrap();
    }
    for session in sessions {
        let [found] = &rig.public.of_session(session, 0, last.size).unwrap()[..] else {
            panic!("one leaf")
        };
        verify_inclusion(
            &leaf_hash(found.text.as_bytes()),
            found.index,
            last.size,
            &last.root,
            &found.proof,
        )
        .unwrap();
        assert_eq!(Leaf::parse(&found.text).unwrap().kind, LeafKind::Opened { session });
    }
}

#[tokio::test]
async fn nothing_is_shown_beyond_what_is_signed() {
    let rig = Rig::new().await;
    let mut log = rig.open();
    log.append(&[opened(Uuid::now_v7())]).unwrap();
    let size = rig.head().size;
    assert_eq!((size, log.size()), (1, 2));
    for refused in [
        rig.public.leaves(0, 2).map(drop),
        rig.public.inclusion(1, 2).map(drop),
        rig.public.inclusion(1, 1).map(drop),
        rig.public.consistency(1, 2).map(drop),
        rig.public.of_session(Uuid::now_v7(), 0, 2).map(drop),
    ] {
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn a_torn_leaf_is_cut_off_and_a_torn_checkpoint_too() {
    let rig = Rig::new().await;
    let mut log = rig.open();
    add(&mut log, &rig, &[Uuid::now_v7()]);
    log.publish(&rig.credential, true).unwrap();
    let before = rig.all();
    drop(log);
    for name in [LEAVES_NAME, CHECKPOINTS_NAME] {
        let mut file = OpenOptions::new().append(true).open(rig.folder().join(name)).unwrap();
        file.write_all(b"{\"v\":1,\"ha").unwrap();
    }
    let mut log = rig.open();
    assert_eq!(rig.all(), before);
    add(&mut log, &rig, &[Uuid::now_v7()]);
    assert_eq!(rig.head().size, 3);
    assert_eq!(
        std::fs::read_dir(rig.dir.path()).unwrap().count(),
        1,
        "nothing was set aside"
    );
}

#[tokio::test]
async fn a_log_that_is_not_what_was_signed_is_set_aside_and_named() {
    for damage in ["shorter", "another leaf", "another checkpoint"] {
        let rig = Rig::new().await;
        let mut log = rig.open();
        add(&mut log, &rig, &[Uuid::now_v7(), Uuid::now_v7()]);
        log.publish(&rig.credential, true).unwrap();
        let signed = rig.head();
        drop(log);
        let (name, change): (_, fn(&str) -> String) = match damage {
            "shorter" => (LEAVES_NAME, |text| text.split_inclusive('\n').take(2).collect()),
            "another leaf" => (LEAVES_NAME, |text| text.replacen("opened", "closed", 1)),
            _ => (CHECKPOINTS_NAME, |text| text.replace("\\n3\\n", "\\n2\\n")),
        };
        let path = rig.folder().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        let changed = change(&text);
        assert_ne!(changed, text, "{damage}");
        std::fs::write(&path, changed).unwrap();
        let _log = rig.open();
        assert_eq!(rig.head().size, 1, "{damage}");
        let first = Leaf::parse(&rig.all()[0]).unwrap();
        let LeafKind::LogStarted { previous, .. } = first.kind else {
            panic!("{damage}: no start")
        };
        if damage != "another checkpoint" {
            let previous = previous.unwrap();
            assert!(
                previous.ends_with(&doorward_audit::hex(&signed.root)),
                "{damage}: {previous}"
            );
        }
        let names: Vec<_> = std::fs::read_dir(rig.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(names.iter().any(|name| name.contains(".aside-")), "{damage}: {names:?}");
    }
}

#[tokio::test]
async fn another_key_begins_another_log_that_names_the_one_before() {
    let mut rig = Rig::new().await;
    let mut log = rig.open();
    add(&mut log, &rig, &[Uuid::now_v7()]);
    log.publish(&rig.credential, true).unwrap();
    let before = rig.head();
    drop(log);
    let other = Rig::new().await;
    rig.credential = Arc::clone(&other.credential);
    let _log = rig.open();
    let LeafKind::LogStarted { previous, .. } = Leaf::parse(&rig.all()[0]).unwrap().kind else {
        panic!("no start")
    };
    let previous = previous.unwrap();
    assert!(
        previous.ends_with(&format!("{} {}", before.size, doorward_audit::hex(&before.root))),
        "{previous}"
    );
}

#[tokio::test]
async fn after_a_disk_that_refused_the_log_goes_on_where_it_was() {
    let rig = Rig::new().await;
    let mut log = rig.open();
    add(&mut log, &rig, &[Uuid::now_v7()]);
    // Reading only: the next write fails as on a disk that refuses.
    log.leaves = File::open(rig.folder().join(LEAVES_NAME)).unwrap();
    let late = Uuid::now_v7();
    assert!(log.append(&[opened(late)]).is_err());
    assert_eq!(log.size(), 2);
    log.abandon();
    let mut log = rig.open();
    add(&mut log, &rig, &[late]);
    assert_eq!(rig.head().size, 3);
    assert_eq!(rig.public.of_session(late, 0, 3).unwrap().len(), 1);
}

#[tokio::test]
async fn a_session_is_found_although_the_clock_jumped() {
    let rig = Rig::new().await;
    let mut log = rig.open();
    let now = unix_ms();
    let made_at = |ms: u64| {
        let stamp = uuid::Timestamp::from_unix(
            uuid::NoContext,
            ms / 1000,
            u32::try_from(ms % 1000).unwrap() * 1_000_000,
        );
        Uuid::new_v7(stamp)
    };
    // Begun by a clock that was an hour ahead, written by one that was set right; and the other way about.
    let (ahead, behind) = (made_at(now + 3_600_000), made_at(now - 3_600_000));
    for session in [ahead, behind, ahead] {
        log.append(&[Leaf::new(now, LeafKind::Opened { session })]).unwrap();
    }
    log.publish(&rig.credential, false).unwrap();
    assert_eq!(rig.public.of_session(ahead, 0, 4).unwrap().len(), 2);
    assert_eq!(rig.public.of_session(behind, 0, 4).unwrap().len(), 1);
}
