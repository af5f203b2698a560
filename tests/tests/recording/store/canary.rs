//! A secret of the workspace is in no object, in no piece of one, and in nothing that waits to be sent.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use doorward_dev::parts::S3;
use tests::parts::{Had, fresh, name_of, shared_s3};
use tests::stored::session;
use tests::until;

use super::gate::{Behind, doorward, gate_with, newest};
use super::{KINDS, PLACE, holds};
use crate::canary::{clean, nowhere, said, shown};
use crate::stand;

const ROLES: &str = r#"
[[role]]
name = "developer"
groups = ["developers"]
workspaces = ["devenv-0"]
allow = ["exec", "pty"]
recordings = "own"
"#;

const EXPORTS: &str = r#"
export = [
    { name = "jsonl", kind = "file", format = "jsonl", path = "events.jsonl" },
    { name = "ocsf", kind = "file", format = "ocsf", path = "events.ocsf" },
    { name = "ecs", kind = "file", format = "ecs", path = "events.ecs" },
]
"#;

#[test]
fn a_secret_is_in_no_bucket_and_in_no_spool() -> Result<()> {
    let _alone = tests::alone();
    let test = name_of(&|| {});
    stand().run(|stand| async move {
        for (kind, name) in KINDS {
            let Had::Here(s3) = shared_s3(PLACE, test, kind).await? else {
                continue;
            };
            s3.api().make_bucket("canary", false).await?;
            let behind = Behind {
                s3,
                url: s3.url().to_owned(),
                bucket: "canary",
                // Also what is still open goes to the bucket, in pieces.
                more: "acknowledge = 'stored'\nship-interval = '20ms'\nspool-keep = '0s'",
            };
            let gateway = gate_with(stand, &format!("canary-{name}"), ROLES, Some(behind), EXPORTS).await?;
            let bob = gateway.client(stand, "bob", "bob", gateway.address).await?;
            let spool = gateway.state().join("records");
            for terminal in [false, true] {
                let mut command = tokio::process::Command::new("ssh");
                command
                    .arg("-F")
                    .arg(bob.ssh_config())
                    .arg("devenv-0")
                    .kill_on_drop(true);
                shown(command, terminal, async || {
                    let half = until("a piece of what is open is in the bucket", async || {
                        Ok(objects(s3, None)
                            .await?
                            .into_iter()
                            .find(|(name, _)| name.contains(".tail-")))
                    });
                    half.await?;
                    objects(s3, None)
                        .await?
                        .iter()
                        .try_for_each(|(name, bytes)| clean(bytes).context(name.clone()))?;
                    ensure!(holds(&spool)?, "nothing is in the spool");
                    nowhere(&[&spool, gateway.folder()])
                })
                .await?;
                let entry = until("the entry closes", async || {
                    Ok(newest(&bob).await?.filter(|entry| !entry["ended"].is_null()))
                });
                let entry = entry.await?;
                let id = session(&entry)?;
                until("the bucket has it, and the spool no more", async || {
                    Ok((!holds(&spool)?).then_some(()))
                })
                .await?;
                said(&bob, id).await?;
                let verified = doorward(&bob, &["verify", id]).await?;
                ensure!(verified.code == Some(0), "{}", verified.said());
                until("it is exported", async || {
                    let all = ["jsonl", "ocsf", "ecs"].iter().all(|form| {
                        let text = std::fs::read_to_string(gateway.folder().join(format!("events.{form}")));
                        text.is_ok_and(|text| text.lines().any(|line| line.contains("coverage") && line.contains(id)))
                    });
                    Ok(all.then_some(()))
                })
                .await?;
            }
            let copy = fresh(PLACE, &format!("{test}-{name}"))?;
            let objects = objects(s3, Some(&copy)).await?;
            ensure!(objects.len() >= 6, "{} objects", objects.len());
            let server = Path::new(PLACE.tmp).join(PLACE.file).join(name);
            nowhere(&[&copy, &server, gateway.folder(), stand.folder()])?;
        }
        Ok(())
    })
}

/// Every object of the bucket, also as files below a folder.
async fn objects(s3: &S3, to: Option<&Path>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    for name in s3.api().names("canary").await? {
        let reply = s3.api().call("GET", &format!("canary/{name}"), &[]).await?;
        // A piece may be gone meanwhile.
        if reply.status != 200 {
            continue;
        }
        if let Some(to) = to {
            let file = to.join(&name);
            std::fs::create_dir_all(file.parent().context("no folder")?)?;
            std::fs::write(file, &reply.body)?;
        }
        all.push((name, reply.body.to_vec()));
    }
    Ok(all)
}
