//! Images that lack what people are used to: it is said what is missing, and what can work does.

use std::process::Command;
use std::sync::Arc;

use crate::container::{Container, Pod, can_be_had, furnish, said};
use crate::rig::client::{leave, rest};
use crate::rig::{Rig, echoing, everything};
use crate::{ANYBODY, exec, openssh, started, talked};

/// As in a distroless image, or one from scratch.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_shell_files_are_served_and_commands_are_refused_with_the_reason() {
    if !can_be_had("without_a_shell_files_are_served_and_commands_are_refused_with_the_reason") {
        return;
    }
    let pod = Pod {
        busybox: false,
        ..ANYBODY
    };
    let (rig, container, address) = started(&pod, "node").await;
    assert!(!container.root().join("bin/sh").exists());
    let told = exec(&rig, address, "node", "true").await;
    assert!(
        told.code != Some(0) && told.err.contains("there is no /bin/sh in this workspace"),
        "{}",
        told.err
    );
    let mut shell = openssh("ssh", &rig, address, "node");
    shell.args(["-tt", "127.0.0.1"]);
    let told = talked(shell, "").await;
    assert!(
        (told.out + &told.err).contains("there is no /bin/sh"),
        "{:?}",
        told.code
    );
    let (there, back) = (rig.file("there"), rig.file("back"));
    std::fs::write(&there, "carried").unwrap();
    let mut sftp = openssh("sftp", &rig, address, "node");
    sftp.args(["-b", "-", "127.0.0.1"]);
    let batch = format!("put {} /tmp/file\nget /tmp/file {}\n", there.display(), back.display());
    let told = talked(sftp, &batch).await;
    assert_eq!(told.code, Some(0), "{} {}", told.err, said(&rig));
    assert_eq!(std::fs::read_to_string(back).unwrap(), "carried");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_place_for_a_socket_the_user_s_agent_is_refused_with_the_places() {
    if !can_be_had("without_a_place_for_a_socket_the_user_s_agent_is_refused_with_the_places") {
        return;
    }
    let rig = Arc::new(Rig::without_agent().await);
    let bare = Pod {
        mounts: false,
        ..ANYBODY
    };
    let _container = Container::start(&rig, &bare).await;
    let mut terms = everything();
    terms.login = doorward_certs::Login::try_from("node").unwrap();
    terms.capabilities.agent_forwarding = true;
    let (_, stream) = rig.open(terms).await;
    let client = echoing::logged_in(stream, "node").await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.agent_forward(true).await.unwrap();
    channel.exec(true, "echo \"<$SSH_AUTH_SOCK>\"").await.unwrap();
    let heard = rest(&mut channel).await;
    let told = String::from_utf8_lossy(&heard.err);
    assert_eq!(heard.out, b"<>\n", "{told}");
    let places = "there is no folder for it (/tmp: permission denied; /dev/shm: no such file or directory)";
    assert!(told.contains(places), "{told}");
    leave(client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_place_for_its_key_the_agent_says_what_to_mount() {
    if !can_be_had("without_a_place_for_its_key_the_agent_says_what_to_mount") {
        return;
    }
    let rig = Rig::without_agent().await;
    let root = tempfile::tempdir().unwrap();
    // The folder is root's, and the agent is somebody else.
    furnish(root.path(), &rig, &Pod { uid: 0, ..ANYBODY });
    let ran = Command::new("chroot")
        .args(["--userspec=1000660000:0", "--groups="])
        .arg(root.path())
        .args(["/doorward-agent", "run", "--config", "/etc/doorward/agent.toml"])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(
        said.contains("such as an emptyDir in memory") && said.contains("/var/lib/doorward/host-key"),
        "{said}"
    );
}
