//! The agent as a sidecar of a pod that shares its processes: two containers and a first process that is neither's.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use doorward_certs::{Login, Terms};
use nix::unistd::Pid;

use crate::container::{Container, MOUNTS, Pod, can_be_had, furnish, said};
use crate::rig::{Rig, everything};
use crate::{ANYBODY, exec, openssh, talked};

pub const CANARY: &str = "main-canary-0815";
pub const SIDECAR: Pod = Pod {
    uid: 0,
    capabilities: "-all,+sys_chroot,+sys_ptrace,+setuid,+setgid,+chown,+kill",
    passwd: "root:x:0:0::/:/bin/sh\n",
    workspace: "",
    container: "[container]\nenter = '*'\n",
    ..ANYBODY
};

/// What runtimes leave a container's root, but for what no test is about.
const ROOT: &str = "-all,+chown,+fowner,+kill,+setgid,+setuid,+net_bind_service,+sys_chroot";

/// The pod's first process; with it everything in the pod ends.
pub struct Shared {
    unshare: Child,
    main: tempfile::TempDir,
}

impl Shared {
    pub fn start(rig: &Rig) -> Self {
        let main = tempfile::tempdir().unwrap();
        let pod = Pod {
            passwd: "root:x:0:0::/:/bin/sh\nnode:x:1000:1000::/tmp:/bin/sh\n",
            ..SIDECAR
        };
        furnish(main.path(), rig, &pod);
        let unshare = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "sleep", "1000"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let shared = Self { unshare, main };
        while shared.pause().is_none() {
            std::thread::yield_now();
        }
        shared
    }

    /// The main container's files.
    pub fn main(&self) -> &Path {
        self.main.path()
    }

    pub fn pause(&self) -> Option<Pid> {
        let unshare = self.unshare.id();
        let children = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?;
        let pid: i32 = children.trim().parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (name == "sleep\n").then(|| Pid::from_raw(pid))
    }

    /// Starts the main container and waits until it runs.
    pub fn run_main(&self, marker: &str) -> Main {
        self.run_main_as(marker, "")
    }

    /// The same as somebody, in chroot(1)'s words.
    pub fn run_main_as(&self, marker: &str, person: &str) -> Main {
        std::fs::write(self.main.path().join("etc/main"), marker).unwrap();
        let script = format!(
            "set -e\nroot='{}'\n{MOUNTS}exec setpriv --inh-caps=-all --bounding-set={ROOT} chroot {person} \"$root\" /bin/env -i PATH=/bin CANARY={CANARY} /bin/sh -c 'echo runs; exec sleep 1000'",
            self.main.path().display()
        );
        let main = Command::new("nsenter")
            .args([
                "--target",
                &self.pause().unwrap().to_string(),
                "--pid",
                "unshare",
                "--mount",
            ])
            .args(["sh", "-c", &script])
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut main = Main(main);
        let mut first = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(main.0.stdout.take().unwrap()), &mut first).unwrap();
        assert_eq!(first, "runs\n");
        main
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// The main container, by the process that waits for it outside.
pub struct Main(Child);

impl Main {
    /// Its first process, by its number outside.
    pub fn pid(&self) -> Pid {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.0.id())).unwrap();
        Pid::from_raw(children.trim().parse().unwrap())
    }

    fn end(mut self) {
        nix::sys::signal::kill(self.pid(), nix::sys::signal::Signal::SIGKILL).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Main {
    fn drop(&mut self) {
        // What it waits for ends with the pod.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn terms(login: &str) -> Terms {
    let mut terms = Terms {
        login: Login::try_from(login).unwrap(),
        ..everything()
    };
    terms.capabilities.sftp = doorward_certs::Sftp::ReadWrite;
    terms
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_in_the_main_container_with_its_files_and_environment() {
    if !can_be_had("sessions_are_in_the_main_container_with_its_files_and_environment") {
        return;
    }
    let rig = std::sync::Arc::new(Rig::without_agent().await);
    let shared = Shared::start(&rig);
    let main = shared.run_main("first\n");
    let _container = Container::start_in(&rig, &SIDECAR, shared.pause()).await;
    let address = rig.listen(terms("node")).await;
    let told = exec(
        &rig,
        address,
        "node",
        "cat /etc/main; id -u; pwd; echo $CANARY; grep CapPrm /proc/self/status",
    )
    .await;
    assert_eq!(
        told.out,
        format!("first\n1000\n/tmp\n{CANARY}\nCapPrm:\t0000000000000000\n"),
        "{} {}",
        told.err,
        said(&rig)
    );
    let recorded = format!("{:?}", rig.recorded(rig.newest()));
    assert!(!recorded.contains(CANARY), "{recorded}");

    let mut shell = openssh("ssh", &rig, address, "node");
    shell.args(["-tt", "127.0.0.1"]);
    let told = talked(shell, "stty size >/dev/null && [ -c \"$(tty)\" ] && exit 9\n").await;
    assert_eq!(told.code, Some(9), "{} {}", told.out, told.err);

    let back = rig.file("back");
    let mut sftp = openssh("sftp", &rig, address, "node");
    sftp.args(["-b", "-", "127.0.0.1"]);
    let told = talked(sftp, &format!("get /etc/main {}\n", back.display())).await;
    assert_eq!(told.code, Some(0), "{} {}", told.err, said(&rig));
    assert_eq!(std::fs::read_to_string(back).unwrap(), "first\n");

    main.end();
    let (_, refused) = rig.try_open(terms("node")).await;
    let refused = refused.unwrap_err();
    assert!(
        refused.contains("container-unavailable") && refused.contains("no other container"),
        "{refused}"
    );
    let _again = shared.run_main("second\n");
    let told = exec(&rig, address, "node", "cat /etc/main").await;
    assert_eq!(told.out, "second\n", "{} {}", told.err, said(&rig));
    assert!(!Path::new("/etc/main").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named_and_nobody_is_let_into_the_wrong_container_unawares() {
    if !can_be_had("what_is_missing_is_named_and_nobody_is_let_into_the_wrong_container_unawares") {
        return;
    }
    for (uid, capabilities, container, missing) in [
        (0, "-all,+sys_chroot", "[container]\nenter = '*'\n", "CAP_SYS_PTRACE"),
        (
            0,
            "-all,+sys_chroot,+sys_ptrace",
            "[container]\nenter = 'other'\n",
            "no container runs other",
        ),
        (
            1000,
            "-all,+sys_chroot,+setuid,+setgid",
            "[container]\nenter = '*'\notherwise = 'own'\n",
            "CAP_SYS_PTRACE",
        ),
    ] {
        let rig = std::sync::Arc::new(Rig::without_agent().await);
        let shared = Shared::start(&rig);
        let _main = shared.run_main("main\n");
        let pod = Pod {
            uid,
            capabilities,
            container,
            passwd: "root:x:0:0::/:/bin/sh\nnode:x:1000:1000::/:/bin/sh\n",
            ..SIDECAR
        };
        let _container = Container::start_in(&rig, &pod, shared.pause()).await;
        if uid == 0 {
            let (_, refused) = rig.try_open(terms("root")).await;
            let refused = refused.unwrap_err();
            assert!(
                refused.starts_with("container-unavailable: ") && refused.contains(missing),
                "{refused}"
            );
        } else {
            let address = rig.listen(terms("node")).await;
            let told = exec(&rig, address, "node", "ls /etc/main").await;
            assert_ne!(told.code, Some(0));
            let notice = "this is the agent's own container, not the main one";
            assert!(told.err.contains(notice) && told.err.contains(missing), "{}", told.err);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_give_a_terminal_away_commands_run_and_a_terminal_is_refused_by_name() {
    if !can_be_had("without_the_right_to_give_a_terminal_away_commands_run_and_a_terminal_is_refused_by_name") {
        return;
    }
    let rig = std::sync::Arc::new(Rig::without_agent().await);
    let shared = Shared::start(&rig);
    let _main = shared.run_main("main\n");
    let pod = Pod {
        capabilities: "-all,+sys_chroot,+sys_ptrace,+setuid,+setgid",
        ..SIDECAR
    };
    let _container = Container::start_in(&rig, &pod, shared.pause()).await;
    let address = rig.listen(terms("node")).await;
    let told = exec(&rig, address, "node", "cat /etc/main").await;
    assert_eq!(told.out, "main\n", "{}", told.err);
    let mut shell = openssh("ssh", &rig, address, "node");
    shell.args(["-tt", "127.0.0.1"]);
    let told = talked(shell, "exit 9\n").await;
    assert_ne!(told.code, Some(9));
    let all = told.out + &told.err;
    assert!(
        all.contains("cannot open a terminal") && all.contains("CAP_CHOWN"),
        "{all}"
    );
}
