//! research: no groups, so that roles are made of verified addresses; several environments for each person; images with nothing in
//! them, where the agent brings what files need.

use anyhow::{Result, ensure};
use doorward_dev::issuer::Person;
use serde_json::json;
use tests::feed;
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
    ground.used_its_rights(&[]).await?;
    ground.stop().await
}
