//! What a session in another container than the agent's can do there, and that it is no stronger than that container.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use doorward_certs::{RemoteForward, Terms};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::container::{Container, Pod, can_be_had, said};
use crate::rig::Rig;
use crate::rig::client::{leave, rest};
use crate::rig::echoing;
use crate::sidecar::{SIDECAR, Shared, terms};
use crate::{ANYBODY, exec, openssh, started, talked};

/// What a sidecar may that needs some of it to enter, and has of the main container's what there is, and more.
const STRONG: &str =
    "-all,+sys_chroot,+sys_ptrace,+setuid,+setgid,+chown,+kill,+fowner,+net_bind_service,+dac_override";

/// The same, and it can give up for good what it may.
const STRONGEST: &str =
    "-all,+sys_chroot,+sys_ptrace,+setuid,+setgid,+chown,+kill,+fowner,+net_bind_service,+dac_override,+setpcap";

fn forwarding(login: &str) -> Terms {
    let mut terms = terms(login);
    let granted = &mut terms.capabilities;
    granted.local_forward = vec!["unix:/*".into(), "localhost:*".into()];
    granted.remote_forward = RemoteForward::Loopback;
    granted.agent_forwarding = true;
    granted.x11_forwarding = true;
    terms
}

/// A file of the main container, by a path outside.
fn there(main: nix::unistd::Pid, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{main}/root{path}"))
}

fn to_node(path: &Path, mode: u32) {
    chown(path, Some(1000), Some(1000)).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn bits(set: &str) -> u64 {
    u64::from_str_radix(set.trim(), 16).unwrap()
}

/// What the kernel says of a process in these lines of its status.
fn lines<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

#[tokio::test(flavor = "multi_thread")]
async fn forwards_the_user_s_agent_and_display_are_in_the_main_container() {
    if !can_be_had("forwards_the_user_s_agent_and_display_are_in_the_main_container") {
        return;
    }
    let rig = Arc::new(Rig::without_agent().await);
    let shared = Shared::start(&rig);
    let main = shared.run_main("main\n");
    let container = Container::start_in(&rig, &SIDECAR, shared.pause()).await;
    let (session, stream) = rig.open(forwarding("node")).await;
    let client = echoing::logged_in(stream, "node").await;

    // To a socket of the main container's, and to its loopback, which is the pod's.
    let socket = there(main.pid(), "/tmp/service.sock");
    let service = UnixListener::bind(&socket).unwrap();
    to_node(&socket, 0o600);
    let channel = client
        .channel_open_direct_streamlocal("/tmp/service.sock")
        .await
        .unwrap();
    channel.data(&b"to the socket"[..]).await.unwrap();
    let (mut peer, _) = service.accept().await.unwrap();
    let mut heard = [0; 13];
    peer.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"to the socket");
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = u32::from(port.local_addr().unwrap().port());
    let channel = client
        .channel_open_direct_tcpip("localhost", at, "127.0.0.1", 1)
        .await
        .unwrap();
    let (mut peer, _) = port.accept().await.unwrap();
    peer.write_all(b"x").await.unwrap();
    drop(channel);
    // What is in the sidecar alone is not there.
    let _only_here = UnixListener::bind(there(container.agent(), "/tmp/only-here.sock")).unwrap();
    let missing = client.channel_open_direct_streamlocal("/tmp/only-here.sock").await;
    assert!(missing.is_err());

    // From the main container to the user.
    client.streamlocal_forward("/tmp/back.sock").await.unwrap();
    let back = there(main.pid(), "/tmp/back.sock");
    let about = std::fs::metadata(&back).unwrap();
    assert_eq!((about.uid(), about.mode() & 0o7777), (1000, 0o600));
    assert_eq!(
        echoing::said(UnixStream::connect(&back).await.unwrap(), "abc").await,
        "/tmp/back.sock: cba"
    );
    let port = client.tcpip_forward("localhost", 0).await.unwrap();
    let stream = TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap()))
        .await
        .unwrap();
    assert_eq!(echoing::said(stream, "abc").await, format!("localhost:{port}: cba"));

    // The user's agent and X server, for the programs there.
    let mut channel = client.channel_open_session().await.unwrap();
    channel.agent_forward(true).await.unwrap();
    let cookie = "00112233445566778899aabbccddeeff";
    channel
        .request_x11(true, true, "MIT-MAGIC-COOKIE-1", cookie, 0)
        .await
        .unwrap();
    let line = "stat -c '%u %a' \"$SSH_AUTH_SOCK\" \"$XAUTHORITY\"; od -An -tx1 \"$XAUTHORITY\" | tr -d ' \\n'; \
        echo; echo \"$SSH_AUTH_SOCK\"; echo \"$DISPLAY\"";
    channel.exec(true, line).await.unwrap();
    let heard = rest(&mut channel).await;
    let text = String::from_utf8(heard.out).unwrap();
    let told: Vec<_> = text.lines().collect();
    assert_eq!(
        told[..2],
        ["1000 600", "1000 600"],
        "{text} {:?}",
        String::from_utf8_lossy(&heard.err)
    );
    assert!(told[2].contains(cookie), "{text}");
    assert!(told[4].starts_with("localhost:"), "{text}");
    let agent = there(main.pid(), told[3]);
    assert_eq!(
        echoing::said(UnixStream::connect(&agent).await.unwrap(), "keys").await,
        "agent: syek"
    );
    leave(client).await;
    rig.ended(session).await;
    // Nothing of it is left there.
    for left in [back, agent.parent().unwrap().to_owned()] {
        assert!(!left.exists(), "{}", left.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_is_as_strong_as_the_main_container_s_root_and_no_stronger() {
    if !can_be_had("root_is_as_strong_as_the_main_container_s_root_and_no_stronger") {
        return;
    }
    for (capabilities, lowered) in [(STRONG, false), (STRONGEST, true)] {
        let rig = Arc::new(Rig::without_agent().await);
        let shared = Shared::start(&rig);
        let main = shared.run_main("main\n");
        let pod = Pod {
            capabilities,
            ..SIDECAR
        };
        let _container = Container::start_in(&rig, &pod, shared.pause()).await;
        let address = rig.listen(forwarding("root")).await;
        let told = exec(&rig, address, "root", "id -u; cat /etc/main; cat /proc/self/status").await;
        assert!(
            told.out.starts_with("0\nmain\n"),
            "{} {} {}",
            told.out,
            told.err,
            said(&rig)
        );
        let theirs = std::fs::read_to_string(format!("/proc/{}/status", main.pid())).unwrap();
        for (set, like) in [("CapPrm", "CapPrm"), ("CapEff", "CapPrm")] {
            assert_eq!(lines(&told.out, set), lines(&theirs, like), "{set} {}", told.out);
        }
        assert_eq!(bits(lines(&told.out, "CapInh").unwrap()), 0);
        assert_eq!(lines(&told.out, "NoNewPrivs"), Some("1"));
        let bounding = |status: &str| bits(lines(status, "CapBnd").unwrap());
        assert_eq!(bounding(&told.out) & !bounding(&theirs) == 0, lowered, "{}", told.out);

        // The agent may pass over modes of files, and that container's root may not: neither in a command, nor over sftp, nor by a forward.
        let private = there(main.pid(), "/tmp/private");
        std::fs::write(&private, "private").unwrap();
        to_node(&private, 0o600);
        let told = exec(&rig, address, "root", "cat /tmp/private").await;
        assert!(
            told.code != Some(0) && told.err.contains("Permission denied"),
            "{} {}",
            told.out,
            told.err
        );
        let mut sftp = openssh("sftp", &rig, address, "root");
        sftp.args(["-b", "-", "127.0.0.1"]);
        let got = rig.file("got").display().to_string();
        let told = talked(sftp, &format!("get /etc/main {got}\nget /tmp/private {got}\n")).await;
        assert_eq!(
            std::fs::read_to_string(&got).unwrap_or_default(),
            "main\n",
            "{}",
            told.err
        );
        assert!(told.err.contains("Permission denied"), "{}", told.err);
        let folder = there(main.pid(), "/tmp/folder");
        std::fs::create_dir(&folder).unwrap();
        let _service = UnixListener::bind(folder.join("s")).unwrap();
        to_node(&folder, 0o700);
        let (_, stream) = rig.open(forwarding("root")).await;
        let client = echoing::logged_in(stream, "root").await;
        assert!(client.channel_open_direct_streamlocal("/tmp/folder/s").await.is_err());
        leave(client).await;

        // Nor may it look into the agent, which is root as well.
        let line = "for p in /proc/[0-9]*; do grep -qs doorward-agent $p/comm && { ls $p/root/; readlink $p/fd/0; cat $p/environ; }; done; true";
        let told = exec(&rig, address, "root", line).await;
        assert_eq!(told.out, "", "{}", told.err);
        assert!(told.err.contains("Permission denied"), "{}", told.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_is_refused_where_the_main_container_s_is_not_or_its_passwd_alone_says_so() {
    if !can_be_had("root_is_refused_where_the_main_container_s_is_not_or_its_passwd_alone_says_so") {
        return;
    }
    let rig = Arc::new(Rig::without_agent().await);
    let shared = Shared::start(&rig);
    let _main = shared.run_main_as("main\n", "--userspec=1000:1000");
    let _container = Container::start_in(&rig, &SIDECAR, shared.pause()).await;
    let refused = rig.try_open(terms("root")).await.1.unwrap_err();
    assert!(refused.contains("the main container does not run as root"), "{refused}");
    let address = rig.listen(terms("node")).await;
    let told = exec(
        &rig,
        address,
        "node",
        "cat /etc/main; grep NoNewPrivs /proc/self/status",
    )
    .await;
    assert_eq!(told.out, "main\nNoNewPrivs:\t1\n", "{}", told.err);
    // Who may write that file is not root by that.
    std::fs::write(shared.main().join("etc/passwd"), "node:x:0:0::/:/bin/sh\n").unwrap();
    let refused = rig.try_open(terms("node")).await.1.unwrap_err();
    assert!(refused.contains("uid 0 for a login that is not root"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_runtime_s_default_seccomp_filter_everything_works() {
    if !can_be_had("behind_a_runtime_s_default_seccomp_filter_everything_works") {
        return;
    }
    // Alone, and around the container's command.
    for command in ["", "-- sh -c 'exec sleep 1000'"] {
        let pod = Pod {
            command,
            filtered: true,
            ..ANYBODY
        };
        let (rig, _container, address) = started(&pod, "node").await;
        let told = exec(
            &rig,
            address,
            "node",
            "unshare -m true; grep Seccomp: /proc/self/status",
        )
        .await;
        assert_eq!(told.out, "Seccomp:\t2\n", "{}", told.err);
        assert!(
            told.err.contains("Operation not permitted"),
            "the filter does nothing: {}",
            told.err
        );
        everything_in(&rig, address, "/etc/doorward/agent.toml").await;
    }
    // And entering another.
    let rig = Arc::new(Rig::without_agent().await);
    let shared = Shared::start(&rig);
    let main = shared.run_main("main\n");
    let pod = Pod {
        filtered: true,
        ..SIDECAR
    };
    let _container = Container::start_in(&rig, &pod, shared.pause()).await;
    let address = rig.listen(forwarding("node")).await;
    let told = exec(&rig, address, "node", "cat /etc/main; grep Seccomp: /proc/self/status").await;
    assert_eq!(told.out, "main\nSeccomp:\t2\n", "{} {}", told.err, said(&rig));
    everything_in(&rig, address, "/etc/main").await;
    let (_, stream) = rig.open(forwarding("node")).await;
    let client = echoing::logged_in(stream, "node").await;
    client.streamlocal_forward("/tmp/back.sock").await.unwrap();
    let back = there(main.pid(), "/tmp/back.sock");
    assert_eq!(
        echoing::said(UnixStream::connect(back).await.unwrap(), "abc").await,
        "/tmp/back.sock: cba"
    );
    leave(client).await;
}

/// A terminal and files over sftp.
async fn everything_in(rig: &Arc<Rig>, address: std::net::SocketAddr, file: &str) {
    let mut shell = openssh("ssh", rig, address, "node");
    shell.args(["-tt", "127.0.0.1"]);
    let told = talked(shell, "[ -c \"$(tty)\" ] && exit 9\n").await;
    assert_eq!(told.code, Some(9), "{} {}", told.out, told.err);
    let mut sftp = openssh("sftp", rig, address, "node");
    sftp.args(["-b", "-", "127.0.0.1"]);
    let told = talked(sftp, &format!("ls {file}\n")).await;
    assert_eq!(told.code, Some(0), "{} {}", told.err, said(rig));
}
