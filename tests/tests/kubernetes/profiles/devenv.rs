//! devenv: ordinals of a StatefulSet, given to people with e-mail names by a ConfigMap, and woken by scaling.

use anyhow::{Result, ensure};
use doorward_dev::issuer::Person;
use serde_json::json;

use super::ground::Ground;

#[tokio::test(flavor = "multi_thread")]
async fn devenv_gives_ordinals_to_people_and_scales_for_whom_it_is() -> Result<()> {
    let people = vec![
        Person::new("alice@example.com", &["developers"]),
        Person::new("bob@example.com", &["developers"]),
        Person::new("root@example.com", &["admins"]),
        Person::new("carol@example.com", &["readonly"]),
    ];
    let Some(mut ground) = Ground::prepare("devenv", people).await? else {
        return Ok(());
    };
    let admin = ground.admin();
    ground.run_pods("devenv").await?;
    for (kind, name) in [("Service", "devenv"), ("ConfigMap", "devenv-people")] {
        admin.apply(&ground.object(kind, name)?).await?;
    }
    let mut set = ground.object("StatefulSet", "devenv")?;
    set["spec"]["replicas"] = json!(1);
    admin.apply(&set).await?;
    ground.enter(|_| Ok(())).await?;
    let alice = ground.login("alice@example.com").await?;
    let bob = ground.login("bob@example.com").await?;
    let root = ground.login("root@example.com").await?;
    let carol = ground.login("carol@example.com").await?;

    ground.listed(&alice, "devenv-0", Some("running")).await?;
    ensure!(ground.run(&alice, "devenv-0", "echo in").await? == "in\n");
    ensure!(ground.run(&root, "devenv-0", "echo root").await? == "root\n");
    // An ordinal that is somebody else's, and one that nobody has; whoever only reads opens nothing.
    ground.kept_out(&alice, "devenv-1").await?;
    ground.kept_out(&alice, "devenv-2").await?;
    ground.kept_out(&bob, "devenv-0").await?;
    ground.kept_out(&carol, "devenv-0").await?;
    let path = "/apis/apps/v1/namespaces/devenv/statefulsets/devenv";
    ensure!(
        admin.read(path).await?["spec"]["replicas"] == 1,
        "somebody woke what is not theirs"
    );

    ground.listed(&bob, "devenv-1", Some("asleep")).await?;
    ensure!(ground.run(&bob, "devenv-1", "echo woken").await? == "woken\n");
    ensure!(
        admin.read(path).await?["spec"]["replicas"] == 2,
        "scaled to another size"
    );

    // The assignment is the key: who is taken out of it loses the environment at once.
    let session = ground.stay(&alice, "devenv-0").await?;
    let given = json!({"data": {"devenv-0": "bob@example.com"}});
    admin
        .merge("/api/v1/namespaces/devenv/configmaps/devenv-people", &given)
        .await?;
    let (code, said) = session.ends().await?;
    ensure!(code == Some(255) && said.contains("doorward: "), "{code:?}: {said}");
    ground.kept_out(&alice, "devenv-0").await?;
    ensure!(ground.run(&bob, "devenv-0", "echo mine").await? == "mine\n");
    ground.used_its_rights(&[]).await?;
    ground.stop().await
}
