use std::process::Command as Blocking;

use doorward_certs::{Authority, HostKey, Local};

use super::*;
use crate::link::Credential;
use crate::record::fixture::install_provider;

fn settings(script: &str) -> Anchor {
    Anchor {
        command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        every: Duration::from_secs(3600),
        within: Duration::from_secs(20),
    }
}

async fn journal(dir: &Path) -> Journal {
    install_provider();
    let authority = Arc::new(Authority::Local(Local::generate().unwrap()));
    let credential = Credential::start(HostKey::generate().unwrap(), authority)
        .await
        .unwrap();
    Journal::open(dir, credential).await.unwrap()
}

#[tokio::test]
async fn what_the_command_prints_is_kept_beside_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path()).await;
    assert!(journal.public().anchor().unwrap().is_none());
    let checkpoint = journal.public().checkpoint().unwrap();
    anchor(
        &settings("cat; printf '\\377'; echo \"[$HOME$VAULT_TOKEN]\""),
        &journal,
        &checkpoint,
    )
    .await
    .unwrap();
    let kept: Value = serde_json::from_str(&journal.public().anchor().unwrap().unwrap()).unwrap();
    let attested = STANDARD.decode(kept["attestation"].as_str().unwrap()).unwrap();
    assert_eq!(attested, [checkpoint.text().as_bytes(), b"\xff[]\n"].concat());
    let read = Checkpoint::parse(&kept["checkpoint"].to_string()).unwrap();
    assert_eq!(read.text(), checkpoint.text());
    journal.close().await;
}

#[tokio::test]
async fn a_command_that_fails_hangs_or_floods_is_named_and_nothing_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path()).await;
    let checkpoint = journal.public().checkpoint().unwrap();
    let hanging = Anchor {
        within: Duration::from_millis(200),
        ..settings("exec sleep 600")
    };
    let missing = Anchor {
        command: vec!["/nowhere/stamp".to_owned()],
        ..settings("")
    };
    for (settings, words) in [
        (settings("echo no >&2; exit 3"), "no"),
        (settings("exit 0"), "printed nothing"),
        (settings("yes"), "more than"),
        (hanging, "took longer"),
        (missing, "/nowhere/stamp"),
    ] {
        let error = anchor(&settings, &journal, &checkpoint).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(journal.public().anchor().unwrap().is_none());
    journal.close().await;
}

#[tokio::test]
async fn a_failure_is_told_and_refuses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path()).await;
    let (anchoring, stop) = (Arc::new(Anchoring::default()), CancellationToken::new());
    assert_eq!(anchoring.state(), Ok(()));
    let running = run(
        settings("echo no time >&2; exit 1"),
        journal.clone(),
        Arc::clone(&anchoring),
        stop.clone(),
    );
    let watching = async {
        while anchoring.state().is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
    };
    tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(running, watching) })
        .await
        .unwrap();
    assert!(anchoring.state().unwrap_err().contains("no time"));
    assert_eq!(journal.ready(), Ok(()));
    journal.close().await;
}

/// An authority for time stamps of our own (RFC 3161), asked as the documentation shows it.
#[tokio::test]
async fn a_time_stamp_of_openssl_anchors_a_checkpoint() {
    if Blocking::new("openssl").arg("version").output().is_err() {
        println!("not run: there is no openssl here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tsa = dir.path().join("tsa");
    std::fs::create_dir(&tsa).unwrap();
    std::fs::write(
        tsa.join("tsa.cnf"),
        "[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n[dn]\nCN=a time stamp authority\n[ext]\n\
         basicConstraints=critical,CA:false\nkeyUsage=critical,digitalSignature\n\
         extendedKeyUsage=critical,timeStamping\n[tsa]\ndefault_tsa=one\n[one]\nserial=serial\nsigner_cert=tsa.pem\n\
         signer_key=key.pem\nsigner_digest=sha256\ndefault_policy=1.2.3.4.1\ndigests=sha256\ness_cert_id_alg=sha256\n",
    )
    .unwrap();
    let openssl = |line: &str| {
        let done = Blocking::new("openssl")
            .args(line.split(' '))
            .current_dir(&tsa)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "openssl {line}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out tsa.pem -days 2 -config tsa.cnf");
    let script = format!(
        "cd '{}' && openssl ts -query -data /dev/stdin -sha256 -cert -out query.tsq && \
         openssl ts -reply -config tsa.cnf -queryfile query.tsq -out /dev/stdout",
        tsa.display()
    );
    let state = dir.path().join("state");
    let journal = journal(&state).await;
    let checkpoint = journal.public().checkpoint().unwrap();
    anchor(&settings(&script), &journal, &checkpoint).await.unwrap();
    let kept: Value = serde_json::from_str(&journal.public().anchor().unwrap().unwrap()).unwrap();
    std::fs::write(
        tsa.join("anchor.tsr"),
        STANDARD.decode(kept["attestation"].as_str().unwrap()).unwrap(),
    )
    .unwrap();
    std::fs::write(tsa.join("checkpoint.txt"), checkpoint.text()).unwrap();
    openssl("ts -verify -in anchor.tsr -data checkpoint.txt -CAfile tsa.pem");
    std::fs::write(tsa.join("checkpoint.txt"), checkpoint.text().replace("\n1\n", "\n2\n")).unwrap();
    let other = Blocking::new("openssl")
        .args([
            "ts",
            "-verify",
            "-in",
            "anchor.tsr",
            "-data",
            "checkpoint.txt",
            "-CAfile",
            "tsa.pem",
        ])
        .current_dir(&tsa)
        .output()
        .unwrap();
    assert!(!other.status.success());
    journal.close().await;
}
