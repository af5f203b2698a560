//! The agent in a pod: in an image that holds nothing but busybox, as whoever the cluster says, with as little as the
//! cluster leaves it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod confine;
mod container;
mod entered;
mod image;
#[path = "../rig/mod.rs"]
mod rig;
mod sidecar;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use container::{Container, Pod, asks_for_no_loader, can_be_had, said, static_agent};
use doorward_certs::{Login, Terms};
use nix::sys::signal::{Signal, kill};
use rig::{Rig, everything};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

/// As OpenShift runs a pod: some uid that nobody has heard of, in the group 0.
const ANYBODY: Pod = Pod {
    uid: 1_000_660_000,
    capabilities: "-all,+sys_chroot,+setuid,+setgid",
    busybox: true,
    mounts: true,
    passwd: "",
    command: "",
    container: "",
    filtered: false,
    workspace: "login = 'node'\nhome = '/home/node'\nshell = '/bin/sh'",
};

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// A gateway in front of an agent in a container, and where `ssh` reaches it.
async fn started(pod: &Pod, login: &str) -> (Arc<Rig>, Container, SocketAddr) {
    let rig = Arc::new(Rig::without_agent().await);
    let container = Container::start(&rig, pod).await;
    let mut terms = Terms {
        login: Login::try_from(login).unwrap(),
        ..everything()
    };
    terms.capabilities.sftp = doorward_certs::Sftp::ReadWrite;
    let address = rig.listen(terms).await;
    (rig, container, address)
}

/// A program of OpenSSH's, told how to reach the workspace.
fn openssh(program: &str, rig: &Rig, address: SocketAddr, login: &str) -> Command {
    // Writes the file of known hosts.
    let _ = rig::ssh(rig.folder.path(), address, &[], "");
    let mut command = Command::new(program);
    let known = format!("UserKnownHostsFile={}", rig.file("known_hosts").display());
    for option in [
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "LogLevel=ERROR",
        &known,
        "HostKeyAlias=devenv-0",
        "IdentityFile=none",
        "IdentityAgent=none",
        &format!("Port={}", address.port()),
        &format!("User={login}"),
    ] {
        command.args(["-o", option]);
    }
    command.args(["-F", "none"]).kill_on_drop(true);
    command
}

async fn talked(mut command: Command, input: &str) -> Said {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let talk = async {
        // Whoever does not read all of it has said why.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await.unwrap()
    };
    let output = tokio::time::timeout(Duration::from_secs(60), talk)
        .await
        .expect("it hangs");
    Said {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).replace('\r', ""),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

async fn exec(rig: &Rig, address: SocketAddr, login: &str, line: &str) -> Said {
    let mut ssh = openssh("ssh", rig, address, login);
    ssh.args(["127.0.0.1", line]);
    talked(ssh, "").await
}

#[test]
fn the_agent_asks_for_no_loader() {
    if !can_be_had("the_agent_asks_for_no_loader") {
        return;
    }
    assert!(asks_for_no_loader(static_agent()));
    assert!(!asks_for_no_loader(Path::new(env!("CARGO_BIN_EXE_doorward-agent"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_uid_without_rights_works_on_a_read_only_root() {
    if !can_be_had("any_uid_without_rights_works_on_a_read_only_root") {
        return;
    }
    let (rig, _container, address) = started(&ANYBODY, "node").await;
    let line = "echo $(id -u) $(id -g) $USER $HOME $(pwd); touch /x; touch /tmp/x && echo made; \
        grep -h -e CapEff -e CapPrm -e NoNewPrivs /proc/self/status; exit 7";
    let told = exec(&rig, address, "node", line).await;
    assert_eq!(told.code, Some(7), "{} {}", told.out, told.err);
    let lines: Vec<_> = told
        .out
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let none = "0000000000000000";
    assert_eq!(
        lines,
        [
            "1000660000 0 node /home/node /",
            "made",
            &format!("CapPrm: {none}"),
            &format!("CapEff: {none}"),
            "NoNewPrivs: 1"
        ]
    );
    assert!(told.err.contains("Read-only file system"), "{}", told.err);
    assert!(
        told.err.contains("Could not chdir to home directory /home/node"),
        "{}",
        told.err
    );

    let mut shell = openssh("ssh", &rig, address, "node");
    shell.args(["-tt", "127.0.0.1"]);
    let told = talked(shell, "echo \"$0 on $(tty)\"\nstty size >/dev/null && exit 9\n").await;
    assert_eq!(told.code, Some(9), "{} {}", told.out, told.err);
    assert!(told.out.contains("-sh on /dev/pts/"), "{}", told.out);

    let (there, back) = (rig.file("there"), rig.file("back"));
    let bytes: Vec<u8> = (0..300_000u32).map(|at| (at % 251) as u8).collect();
    std::fs::write(&there, &bytes).unwrap();
    let mut sftp = openssh("sftp", &rig, address, "node");
    sftp.args(["-b", "-", "127.0.0.1"]);
    let batch = format!("put {} /tmp/file\nget /tmp/file {}\n", there.display(), back.display());
    let told = talked(sftp, &batch).await;
    assert_eq!(told.code, Some(0), "{} {}", told.err, said(&rig));
    assert!(std::fs::read(back).unwrap() == bytes);
}

/// There is not even a `/proc` or a `/dev`.
#[tokio::test(flavor = "multi_thread")]
async fn beside_nothing_but_busybox_commands_run_and_what_is_missing_is_said() {
    if !can_be_had("beside_nothing_but_busybox_commands_run_and_what_is_missing_is_said") {
        return;
    }
    let bare = Pod {
        mounts: false,
        ..ANYBODY
    };
    let (rig, container, address) = started(&bare, "node").await;
    std::fs::set_permissions(
        container.root().join("tmp"),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let told = exec(
        &rig,
        address,
        "node",
        "echo hi | sed s/hi/ho/; ls /proc /dev | wc -l; exit 3",
    )
    .await;
    assert_eq!((told.code, told.out.as_str()), (Some(3), "ho\n3\n"), "{}", told.err);
    let mut shell = openssh("ssh", &rig, address, "node");
    shell.args(["-tt", "127.0.0.1", "true"]);
    let told = talked(shell, "").await;
    assert!(told.code != Some(0));
    let all = told.out + &told.err;
    assert!(all.contains("cannot open a terminal"), "{all}");
}

/// A pod may run as root with every capability dropped.
#[tokio::test(flavor = "multi_thread")]
async fn root_without_rights_stays_root_and_says_whom_it_may_not_become() {
    if !can_be_had("root_without_rights_stays_root_and_says_whom_it_may_not_become") {
        return;
    }
    let pod = Pod {
        uid: 0,
        capabilities: "-all,+sys_chroot",
        passwd: "root:x:0:0::/:/bin/sh\nnode:x:1000:1000::/:/bin/sh\n",
        workspace: "",
        ..ANYBODY
    };
    let (rig, _container, address) = started(&pod, "root").await;
    let told = exec(&rig, address, "root", "id -u").await;
    assert_eq!((told.code, told.out.as_str()), (Some(0), "0\n"), "{}", told.err);
    let mut sftp = openssh("sftp", &rig, address, "root");
    sftp.args(["-b", "-", "127.0.0.1"]);
    let told = talked(sftp, "ls /etc/doorward\n").await;
    assert_eq!(told.code, Some(0), "{}", told.err);

    let terms = Terms {
        login: Login::try_from("node").unwrap(),
        ..everything()
    };
    let address = rig.listen(terms).await;
    let told = exec(&rig, address, "node", "id -u").await;
    assert_ne!(told.code, Some(0));
    assert!(
        told.err.contains("may not become 'node'") && told.err.contains("CAP_SETUID"),
        "{}",
        told.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn as_the_first_process_it_reaps_and_ends_its_sessions_with_a_sentence() {
    if !can_be_had("as_the_first_process_it_reaps_and_ends_its_sessions_with_a_sentence") {
        return;
    }
    let (rig, mut container, address) = started(&ANYBODY, "node").await;
    let told = exec(
        &rig,
        address,
        "node",
        "cat /proc/1/comm; sh -c 'sleep 0.2 >/dev/null 2>&1 & echo $!'",
    )
    .await;
    let lines: Vec<_> = told.out.lines().collect();
    assert_eq!(lines[0], "doorward-agent", "{}", told.err);
    // Its parent has ended: PID 1 inherits it, and a zombie would keep its place in /proc.
    let waited = exec(
        &rig,
        address,
        "node",
        &format!("while [ -e /proc/{} ]; do sleep 0.1; done", lines[1]),
    )
    .await;
    assert_eq!(waited.code, Some(0), "{}", waited.err);

    let mut ssh = openssh("ssh", &rig, address, "node");
    // What ignores the hang-up is killed in the end.
    ssh.args(["127.0.0.1", "trap '' HUP TERM; echo ready; while :; do sleep 1; done"]);
    let mut ssh = ssh
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut out = BufReader::new(ssh.stdout.take().unwrap());
    out.read_line(&mut first).await.unwrap();
    assert_eq!(first, "ready\n");
    let session = rig.newest();
    container.terminate();
    let end = rig.ended(session).await;
    assert_eq!(
        (end.code.as_str(), end.text.as_str()),
        ("agent-stopping", "the workspace's agent is stopping")
    );
    // Well within the thirty seconds that a kubelet grants, or this waits in vain.
    tokio::time::timeout(Duration::from_secs(60), container.ended())
        .await
        .expect("the agent does not end");
    assert_eq!(container.status(), Some(0), "{}", said(&rig));
    let mut rest = String::new();
    out.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "");
}

const COMMAND: &str = "-- sh -c 'trap \"exit 7\" USR1; trap \"\" TERM; echo $$ >/tmp/pid; while :; do sleep 0.1; done'";

/// A session that stays until it is ended.
async fn staying(rig: &Rig, address: SocketAddr) -> (tokio::process::Child, uuid::Uuid) {
    let mut ssh = openssh("ssh", rig, address, "node");
    // Once the command has set its traps.
    let line = "while ! [ -s /tmp/pid ]; do sleep 0.05; done; echo ready; exec sleep 600";
    ssh.args(["127.0.0.1", line]);
    let mut ssh = ssh
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(ssh.stdout.as_mut().unwrap())
        .read_line(&mut first)
        .await
        .unwrap();
    assert_eq!(first, "ready\n", "{}", said(rig));
    (ssh, rig.newest())
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_the_container_s_own_command_sessions_end_with_it_and_the_container_as_it_does() {
    if !can_be_had("beside_the_container_s_own_command_sessions_end_with_it_and_the_container_as_it_does") {
        return;
    }
    let pod = Pod {
        command: COMMAND,
        ..ANYBODY
    };
    let (rig, mut container, address) = started(&pod, "node").await;
    let line = "while ! [ -s /tmp/pid ]; do sleep 0.05; done; cat /proc/1/comm /proc/$(cat /tmp/pid)/comm; \
        sh -c 'sleep 0.2 >/dev/null 2>&1 & echo $!'";
    let told = exec(&rig, address, "node", line).await;
    let lines: Vec<_> = told.out.lines().collect();
    assert_eq!(lines[..2], ["doorward-agent", "sh"], "{}", told.err);
    let gone = format!("while [ -e /proc/{} ]; do sleep 0.1; done", lines[2]);
    let waited = exec(&rig, address, "node", &gone).await;
    assert_eq!(waited.code, Some(0), "an orphan is not reaped: {}", waited.err);

    let (_ssh, session) = staying(&rig, address).await;
    // To the container's first process, as its own tools do; that is the agent, which passes it on.
    exec(&rig, address, "node", "kill -USR1 1").await;
    let end = rig.ended(session).await;
    assert_eq!(
        (end.code.as_str(), end.text.as_str()),
        ("agent-stopping", "the container's command has ended with 7")
    );
    tokio::time::timeout(Duration::from_secs(60), container.ended())
        .await
        .expect("the container does not end");
    assert_eq!(container.status(), Some(7), "{}", said(&rig));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_stop_sessions_end_and_the_command_has_its_time() {
    if !can_be_had("at_a_stop_sessions_end_and_the_command_has_its_time") {
        return;
    }
    let pod = Pod {
        command: COMMAND,
        ..ANYBODY
    };
    let (rig, mut container, address) = started(&pod, "node").await;
    let (_ssh, session) = staying(&rig, address).await;
    // The command ignores it; the session does not wait for that.
    container.terminate();
    let end = rig.ended(session).await;
    assert_eq!(end.text, "the workspace's agent is stopping");
    assert_eq!(container.status(), None, "the command still runs: {}", said(&rig));
    kill(container.agent(), Signal::SIGUSR1).unwrap();
    tokio::time::timeout(Duration::from_secs(60), container.ended())
        .await
        .expect("the container does not end");
    assert_eq!(container.status(), Some(7), "{}", said(&rig));
}
