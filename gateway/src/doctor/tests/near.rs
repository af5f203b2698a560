//! What needs nobody else: reports, clocks, certificates, disks.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use jiff::Timestamp;

use super::{
    super::{
        About, Verdict, certificate, clock, disk, exit_code,
        fetch::Fetched,
        json,
        report::{Finding, text},
        rules,
    },
    has,
};
use crate::{config::Config, kube::access::KIND, testing};

#[test]
fn the_worst_is_the_exit_code_and_texts_are_plain() {
    let ok = Finding::ok("a", "", "fine");
    let warning = Finding::warning("b", "x", "hm", "look");
    let broken = Finding::broken("c", "y\u{1b}[31m", "bad\nworse\u{202e}", "mend");
    assert_eq!(exit_code(&[]), 0);
    assert_eq!(exit_code(std::slice::from_ref(&ok)), 0);
    assert_eq!(exit_code(&[ok.clone(), warning.clone()]), 1);
    let all = [broken, ok, warning];
    assert_eq!(exit_code(&all), 2);
    let shown = text(&all);
    assert!(
        shown.contains("broken  c y\\u{1b}[31m: bad; worse\\u{202e}\n        → mend\n"),
        "{shown}"
    );
    assert!(shown.ends_with("1 ok, 1 to look at, 1 broken\n"));
    let read: serde_json::Value = serde_json::from_str(&json(&all).unwrap()).unwrap();
    assert_eq!(
        (&read[0]["verdict"], &read[1]["remedy"]),
        (&"broken".into(), &serde_json::Value::Null)
    );
    assert_eq!(Finding::ok("a", "", "x".repeat(10_000)).text.len(), 1000);
}

#[test]
fn clocks_that_differ_are_told() {
    let now = std::time::SystemTime::now();
    let look = |date| {
        let fetched = Fetched {
            status: 200,
            date,
            came: now,
            body: Vec::new(),
        };
        clock::finding("somebody", &fetched, Duration::from_secs(60), "tokens look expired")
    };
    for (seconds, verdict) in [
        (0, Verdict::Ok),
        (2, Verdict::Ok),
        (19, Verdict::Ok),
        (30, Verdict::Warning),
        (60, Verdict::Warning),
        (61, Verdict::Broken),
        (600, Verdict::Broken),
    ] {
        let apart = Duration::from_secs(seconds);
        for date in [now + apart, now - apart] {
            let found = look(Some(date));
            assert_eq!(found.verdict, verdict, "{seconds}: {}", found.text);
        }
    }
    assert!(
        look(Some(now + Duration::from_secs(90)))
            .text
            .contains("90 s ahead of ours: tokens look expired")
    );
    assert_eq!(look(None).verdict, Verdict::Warning);
}

fn loaded() -> (tempfile::TempDir, Config) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = testing::folder();
    let file = folder.path().join("gateway.toml");
    fs::write(&file, testing::text("https://issuer.example", "")).unwrap();
    let config = Config::load(&file).unwrap();
    (folder, config)
}

fn certified(folder: &std::path::Path, change: impl FnOnce(&mut rcgen::CertificateParams), names: &[&str]) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    change(&mut params);
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    testing::private(&folder.join("tls.key"), &key.serialize_pem());
    fs::write(folder.join("tls.crt"), made.pem()).unwrap();
}

#[test]
fn a_certificate_is_judged_by_its_dates_and_names() {
    let (folder, config) = loaded();
    let check = |name: Option<&str>| {
        certificate::check(
            &config,
            &About {
                name: name.map(str::to_owned),
            },
        )
    };
    let at = |days: i64| {
        let seconds = Timestamp::now().as_second() + days * 86_400;
        let day = Timestamp::from_second(seconds)
            .unwrap()
            .to_zoned(jiff::tz::TimeZone::UTC);
        rcgen::date_time_ymd(
            i32::from(day.year()),
            day.month().unsigned_abs(),
            day.day().unsigned_abs(),
        )
    };
    let good = &["gate.example", "*.ssh.example", "10.0.0.1"];
    certified(folder.path(), |_| {}, good);
    for name in [None, Some("GATE.example"), Some("a.ssh.example"), Some("10.0.0.1")] {
        let found = check(name);
        assert!(
            found.iter().all(|one| one.verdict == Verdict::Ok),
            "{name:?}: {found:#?}"
        );
    }
    for name in ["other.example", "ssh.example", "a.b.ssh.example", "10.0.0.2"] {
        has(
            &check(Some(name)),
            "certificate",
            Verdict::Broken,
            &format!("and not for {name}"),
        );
    }
    certified(folder.path(), |params| params.not_after = at(5), good);
    has(&check(None), "certificate", Verdict::Warning, "expires at");
    certified(
        folder.path(),
        |params| (params.not_before, params.not_after) = (at(-9), at(-2)),
        good,
    );
    has(&check(None), "certificate", Verdict::Broken, "expired at");
    certified(folder.path(), |params| params.not_before = at(3), good);
    has(&check(None), "certificate", Verdict::Broken, "is not good before");
    certified(folder.path(), |_| {}, &[]);
    has(&check(None), "certificate", Verdict::Broken, "is for no name");
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    testing::private(&folder.path().join("tls.key"), &other);
    has(&check(None), "certificate", Verdict::Broken, "does not fit its key");
}

#[tokio::test]
async fn recordings_need_a_folder_and_room() {
    let (folder, mut config) = loaded();
    has(&disk::records(&config).await, "records", Verdict::Ok, "will be made");
    fs::create_dir(folder.path().join("records")).unwrap();
    has(&disk::records(&config).await, "records", Verdict::Ok, "can be written");
    assert_eq!(
        fs::read_dir(folder.path().join("records")).unwrap().count(),
        0,
        "the trial is gone"
    );
    // What is no folder cannot be written into by root either.
    config.records.directory = folder.path().join("policy.toml");
    has(
        &disk::records(&config).await,
        "records",
        Verdict::Broken,
        "cannot be written",
    );
    config.records.directory = folder.path().join("policy.toml/records");
    has(
        &disk::records(&config).await,
        "records",
        Verdict::Broken,
        "cannot be written",
    );

    let mib = 1024 * 1024;
    for (free, all, verdict) in [
        (63 * mib, 100_000 * mib, Verdict::Broken),
        (1000 * mib, 2000 * mib, Verdict::Warning),
        (2000 * mib, 100_000 * mib, Verdict::Warning),
        (50_000 * mib, 100_000 * mib, Verdict::Ok),
        (0, 0, Verdict::Broken),
    ] {
        assert_eq!(disk::room("x", free, all).verdict, verdict, "{free} of {all}");
    }
}

#[test]
fn what_is_private_must_be() {
    let (folder, config) = loaded();
    has(&disk::state(&config), "state", Verdict::Ok, "will be made");
    let state = folder.path().join("state");
    fs::create_dir_all(state.join("journal")).unwrap();
    for (mode, verdict) in [(0o755, Verdict::Broken), (0o710, Verdict::Broken), (0o700, Verdict::Ok)] {
        fs::set_permissions(state.join("journal"), fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        let found = disk::state(&config);
        let of_journal = found.iter().find(|one| one.subject.ends_with("journal")).unwrap();
        assert_eq!(of_journal.verdict, verdict, "{mode:o}");
    }
    fs::remove_dir(state.join("journal")).unwrap();
    fs::write(state.join("journal"), "").unwrap();
    has(&disk::state(&config), "state", Verdict::Broken, "is no folder");
}

#[test]
fn objects_that_can_lend_nothing_are_told() {
    let (folder, mut config) = loaded();
    let lendable = fs::read_to_string(folder.path().join("policy.toml")).unwrap()
        + "\n[[role]]\nname = \"lendable\"\ngrantable = true\nworkspaces = [\"*\"]\nallow = [\"shell\"]\n";
    assert!(rules::check(&config).iter().all(|one| one.subject != KIND));
    config.authorize.access.insert("sessions".to_owned());
    has(
        &rules::check(&config),
        "policy",
        Verdict::Warning,
        "no role of the policy is `grantable`",
    );
    fs::write(folder.path().join("policy.toml"), lendable).unwrap();
    assert!(rules::check(&config).iter().all(|one| one.subject != KIND));
}
