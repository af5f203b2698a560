//! research: no groups, so that roles are made of verified addresses; several environments for each person; images with nothing in
//! them, where the agent brings what files need.

use anyhow::{Result, ensure};
use doorward_dev::issuer::Person;
use doorward_dev::stack::ClientFolder;
use serde_json::{Value, json};
use tests::{Outcome, feed, until};
use tokio::process::Command;

use super::ground::Ground;

#[tokio::test(flavor = "multi_thread")]
async fn research_knows_people_by_their_verified_addresses() -> Result<()> {
    let people = vec![
        Person::new("ada", &[]).with_email("ada@university.example", true),
        Person::new("grace", &[]).with_email("grace@university.example", true),
        Person::new("root", &[]).with_email("root@university.example", true),
        // The address of somebody else, which nobody has checked; and one of elsewhere.
        Person::new("mallory", &[]).with_email("ada@university.example", false),
        Person::new("eve", &[]).with_email("eve@elsewhere.example", true),
    ];
    let Some(mut ground) = Ground::prepare("research", people).await? else {
        return Ok(());
    };
    ground.run_pods("cmbcluster").await?;
    for (name, owner) in [("env-7f3a", "ada"), ("env-91c2", "ada"), ("env-c0de", "grace")] {
        let mut claim = ground.object("PersistentVolumeClaim", "env-7f3a-workspace")?;
        claim["metadata"]["name"] = json!(format!("{name}-workspace"));
        ground.admin().apply(&claim).await?;
        let mut pod = ground.object("Pod", "env-7f3a")?;
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["annotations"]["cmbcluster.example/owner"] = json!(format!("{owner}@university.example"));
        pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = json!(format!("{name}-workspace"));
        ground.admin().apply(&pod).await?;
    }
    ground.enter(|_| Ok(())).await?;
    let ada = ground.login("ada").await?;
    let grace = ground.login("grace").await?;
    let root = ground.login("root").await?;
    let eve = ground.login("eve").await?;
    let mallory = ground.login("mallory").await?;

    for name in ["env-7f3a", "env-91c2"] {
        ground.listed(&ada, name, Some("running")).await?;
        ensure!(ground.run(&ada, name, "echo in").await? == "in\n");
        for other in [&grace, &eve, &mallory] {
            ground.kept_out(other, name).await?;
        }
    }
    ensure!(ground.run(&grace, "env-c0de", "echo mine").await? == "mine\n");
    ensure!(ground.run(&root, "env-c0de", "echo admin").await? == "admin\n");
    ground.kept_out(&ada, "env-c0de").await?;

    // The agent serves files by itself: no image needs a server for them.
    let mut sftp = Command::new("sftp");
    sftp.arg("-F")
        .arg(ada.ssh_config())
        .args(["-b", "-", "env-7f3a.doorward"])
        .kill_on_drop(true);
    let here = tempfile::NamedTempFile::new()?;
    std::fs::write(here.path(), "map of the sky")?;
    let batch = format!(
        "put {} sky\nget sky {}.back\n",
        here.path().display(),
        here.path().display()
    );
    let done = feed(sftp, batch.as_bytes()).await?;
    ensure!(done.code == Some(0), "{}", done.said());
    let back = here.path().with_added_extension("back");
    ensure!(std::fs::read_to_string(&back)? == "map of the sky");
    std::fs::remove_file(back)?;
    ensure!(
        ground
            .run(&ada, "env-7f3a", "pwd; cat sky")
            .await?
            .ends_with("/env-7f3a-workspace\nmap of the sky")
    );
    ends_with_its_up_time(&ground, &ada).await?;
    ground.used_its_rights(&[]).await?;
    ground.stop().await
}

const ENDING: &str = "env-91c2";

/// An environment whose time comes: people are told on standard error alone, and what programs read is as ever.
async fn ends_with_its_up_time(ground: &Ground, ada: &ClientFolder) -> Result<()> {
    let stops = async || -> Result<Option<String>> {
        let listed = feed(ada.command(["ls", "--json"]), b"").await?;
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
        let mut all = listed.as_array().into_iter().flatten();
        let one = all.find(|one| one["name"] == ENDING);
        Ok(one.and_then(|one| one["stops-at"].as_str()).map(str::to_owned))
    };
    let limit = async |up_time: &str| -> Result<()> {
        let before = stops().await?;
        let path = format!("/api/v1/namespaces/cmbcluster/pods/{ENDING}");
        let change = json!({"metadata": {"labels": {"up-time": up_time}}});
        ground.admin().merge(&path, &change).await?;
        until(
            "the list says so",
            async || Ok((stops().await? != before).then_some(())),
        )
        .await
    };
    // More than the test takes, and less than the first warning.
    limit("14m").await?;
    let warned =
        |done: &Outcome| done.code == Some(0) && done.said().contains("doorward: the workspace is stopped in ");
    let host = format!("{ENDING}.doorward");
    let config = ada.ssh_config().display().to_string();
    let plain = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("GIT_SSH_COMMAND", format!("ssh -F {config}"))
            .kill_on_drop(true);
        command
    };
    let input: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
    let echoed = feed(plain("ssh", &["-F", &config, &host, "cat"]), &input).await?;
    ensure!(
        warned(&echoed) && echoed.stdout == input,
        "{:?}: {}",
        echoed.code,
        echoed.said()
    );
    let folder = tempfile::tempdir()?;
    let (here, back) = (folder.path().join("here"), folder.path().join("back"));
    std::fs::write(&here, &input)?;
    let batch = format!("put {} there\nget there {}\n", here.display(), back.display());
    let sent = feed(plain("sftp", &["-F", &config, "-b", "-", &host]), batch.as_bytes()).await?;
    ensure!(
        warned(&sent) && std::fs::read(&back)? == input,
        "{:?}: {}",
        sent.code,
        sent.said()
    );
    std::fs::remove_file(&back)?;
    let (shell, from) = (format!("ssh -F {config}"), format!("{host}:there"));
    let sent = feed(plain("rsync", &["-e", &shell, &from, &back.display().to_string()]), b"").await?;
    ensure!(
        warned(&sent) && std::fs::read(&back)? == input,
        "{:?}: {}",
        sent.code,
        sent.said()
    );
    let commit = "git init -q repo && git -C repo -c user.name=a -c user.email=a@x commit -q --allow-empty -m one && \
                  git -C repo rev-parse HEAD";
    let head = ground.run(ada, ENDING, commit).await?;
    let listed = feed(plain("git", &["ls-remote", &format!("{host}:repo"), "HEAD"]), b"").await?;
    let heads = String::from_utf8(listed.stdout.clone())?;
    ensure!(
        warned(&listed) && heads == format!("{}\tHEAD\n", head.trim()),
        "{heads}: {}",
        listed.said()
    );

    // Over, while somebody is in it.
    let session = ground.stay(ada, ENDING).await?;
    limit("1s").await?;
    let (code, said) = session.ends().await?;
    ensure!(
        code == Some(255) && said.contains("up-time is over"),
        "{code:?}: {said}"
    );
    let refused = ground.attempt(ada, ENDING).await?;
    ensure!(
        refused.code == Some(255) && refused.said().contains("up-time is over"),
        "{}",
        refused.said()
    );
    Ok(())
}
