//! A container as a kubelet would have it made: namespaces of its own, the static agent, busybox, and nothing else.
//!
//! `DOORWARD_STATIC_AGENT` names the agent; without it one is built for musl, as `.ci/run` does. What a machine lacks is
//! said by name, and is a failure where `CI` is set.

use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use crate::confine;
use crate::rig::{Rig, UID};

/// The target that the agent is built for.
const TARGET: &str = "x86_64-unknown-linux-musl";

/// Who the agent is and what its container looks like.
pub struct Pod {
    pub uid: u32,
    /// What of root's capabilities is left; none are where the uid is another.
    pub capabilities: &'static str,
    /// Whether there is busybox, and with it a shell.
    pub busybox: bool,
    /// Whether there are `/proc`, `/dev` and a `/tmp`, and everything else is read-only.
    pub mounts: bool,
    pub passwd: &'static str,
    /// What the agent runs as the container's own command: words for a shell, `--` and options before.
    pub command: &'static str,
    /// Sections of the configuration; the environment is masked where there are any.
    pub container: &'static str,
    /// Whether the runtime's default seccomp filter is on it.
    pub filtered: bool,
    /// Lines of the workspace in the agent's configuration.
    pub workspace: &'static str,
}

/// A running one. Dropping it ends everything in it.
pub struct Container {
    unshare: Child,
    root: tempfile::TempDir,
}

/// Whether containers can be made here; says why not.
pub fn can_be_had(test: &str) -> bool {
    let mut missing = Vec::new();
    if !Uid::effective().is_root() {
        missing.push("root");
    }
    if busybox().is_none() {
        missing.push("busybox-static");
    }
    for tool in ["unshare", "nsenter", "setpriv", "chroot"] {
        if on_path(tool).is_none() {
            missing.push(tool);
        }
    }
    if std::env::var_os("DOORWARD_STATIC_AGENT").is_none() && !has_target() {
        missing.push("rustup target x86_64-unknown-linux-musl");
    }
    if missing.is_empty() {
        return true;
    }
    let word = format!("skipped {test}: not here: {}", missing.join(", "));
    assert!(std::env::var_os("CI").is_none(), "{word}");
    eprintln!("{word}");
    false
}

impl Container {
    /// Starts the agent in a container made for it, and has the gateway link to it.
    pub async fn start(rig: &Rig, pod: &Pod) -> Self {
        Self::start_in(rig, pod, None).await
    }

    /// The same in a pod whose processes are shared and whose first process is this one.
    pub async fn start_in(rig: &Rig, pod: &Pod, pause: Option<Pid>) -> Self {
        let root = tempfile::tempdir().unwrap();
        furnish(root.path(), rig, pod);
        // In a shell that becomes the agent, so that the agent is the first process of its namespace.
        let person = match pod.uid {
            0 => String::new(),
            uid => format!("--userspec={uid}:0 --groups="),
        };
        let agent = format!(
            "exec setpriv --no-new-privs --inh-caps=-all --bounding-set={} chroot {person} '{}' \
             /doorward-agent run --config /etc/doorward/agent.toml {}",
            pod.capabilities,
            root.path().display(),
            pod.command,
        );
        let script = format!(
            "set -e\nroot='{}'\n{}{}",
            root.path().display(),
            if pod.mounts { MOUNTS } else { "" },
            if pod.filtered { confined(rig, &agent) } else { agent },
        );
        let log = std::fs::File::create(rig.file("agent.log")).unwrap();
        let mut unshare = Command::new(if pause.is_some() { "nsenter" } else { "unshare" });
        match pause {
            Some(pause) => unshare.args(["--target", &pause.to_string(), "--pid", "unshare", "--mount"]),
            None => unshare.args(["--mount", "--pid", "--fork", "--kill-child"]),
        };
        let unshare = unshare
            .args(["sh", "-c", &script])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut container = Self { unshare, root };
        tokio::select! {
            () = rig.link() => {}
            () = container.ended() => panic!("the agent ended: {}", said(rig)),
        }
        container
    }

    /// The agent, by its number outside.
    pub fn agent(&self) -> Pid {
        self.first().unwrap()
    }

    fn first(&self) -> Option<Pid> {
        let unshare = self.unshare.id();
        let children = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?;
        children.trim().parse().ok().map(Pid::from_raw)
    }

    /// Tells the agent to stop, as a kubelet does.
    pub fn terminate(&self) {
        kill(self.agent(), Signal::SIGTERM).unwrap();
    }

    /// Waits until the container has ended.
    pub async fn ended(&mut self) {
        while self.unshare.try_wait().unwrap().is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// How it ended.
    pub fn status(&mut self) -> Option<i32> {
        self.unshare.try_wait().unwrap().and_then(|status| status.code())
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // The namespace ends with its first process. Whoever changes its uid no longer hears that its parent has ended
        // (`--kill-child`).
        if let Some(first) = self.first() {
            let _ = kill(first, Signal::SIGKILL);
        }
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// The same behind the filter.
fn confined(rig: &Rig, script: &str) -> String {
    let file = rig.file("becomes.sh");
    std::fs::write(&file, script).unwrap();
    let this = std::env::current_exe().unwrap();
    let (name, file, this) = (confine::SCRIPT, file.display(), this.display());
    format!("{name}='{file}' exec '{this}' {}", confine::BECOMES)
}

/// What the agent has said.
pub fn said(rig: &Rig) -> String {
    std::fs::read_to_string(rig.file("agent.log")).unwrap_or_default()
}

/// The mounts of a pod with a read-only root and two `emptyDir` volumes.
pub const MOUNTS: &str = "mount --bind \"$root\" \"$root\"
mount -t proc proc \"$root/proc\"
mount -t tmpfs -o mode=0755 dev \"$root/dev\"
mkdir \"$root/dev/pts\"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts \"$root/dev/pts\"
ln -s pts/ptmx \"$root/dev/ptmx\"
mknod -m 0666 \"$root/dev/null\" c 1 3
mknod -m 0666 \"$root/dev/urandom\" c 1 9
mknod -m 0666 \"$root/dev/tty\" c 5 0
mount -t tmpfs -o mode=1777 tmp \"$root/tmp\"
mount -o remount,bind,ro \"$root\"
mount -t tmpfs -o mode=0777 state \"$root/var/lib/doorward\"
";

pub fn furnish(root: &Path, rig: &Rig, pod: &Pod) {
    std::fs::set_permissions(root, PermissionsExt::from_mode(0o755)).unwrap();
    for folder in ["bin", "proc", "dev", "tmp", "etc/doorward", "var/lib/doorward"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    chown(root.join("var/lib/doorward"), Some(pod.uid), None).unwrap();
    if pod.busybox {
        install_busybox(root);
    }
    std::fs::copy(static_agent(), root.join("doorward-agent")).unwrap();
    let etc = root.join("etc/doorward");
    for name in ["user-ca", "host-ca", "join"] {
        std::fs::copy(rig.file(name), etc.join(name)).unwrap();
    }
    if !pod.passwd.is_empty() {
        std::fs::write(root.join("etc/passwd"), pod.passwd).unwrap();
    }
    let text = format!(
        "user-ca-file = 'user-ca'\nhost-ca-file = 'host-ca'\n[mask]\nenvironment = {}\n{}[[workspace]]\n\
         name = 'devenv-0'\nuid = '{UID}'\nlisten = '{}'\nhost-key = '/var/lib/doorward/host-key'\n\
         host-certificate = '/var/lib/doorward/host-key-cert.pub'\njoin-token-file = 'join'\nat-end = 'kill'\n{}\n",
        !pod.container.is_empty(),
        pod.container,
        rig.address,
        pod.workspace
    );
    std::fs::write(etc.join("agent.toml"), text).unwrap();
}

fn install_busybox(root: &Path) {
    std::fs::copy(busybox().unwrap(), root.join("bin/busybox")).unwrap();
    let applets = Command::new(busybox().unwrap()).arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout).unwrap().lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
    }
}

/// The agent that asks for no loader.
pub fn static_agent() -> &'static Path {
    static AGENT: OnceLock<PathBuf> = OnceLock::new();
    AGENT.get_or_init(|| match std::env::var_os("DOORWARD_STATIC_AGENT") {
        // Relative to where `.ci/run` is: tests run in their package's folder.
        Some(agent) => Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(agent),
        None => build(),
    })
}

fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--locked",
            "--target",
            TARGET,
            "-p",
            "doorward-agent",
            "--target-dir",
        ])
        .arg(target)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    target.join(TARGET).join("debug/doorward-agent")
}

fn has_target() -> bool {
    let library = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    library.is_ok_and(|library| Path::new(String::from_utf8_lossy(&library.stdout).trim()).is_dir())
}

fn busybox() -> Option<PathBuf> {
    on_path("busybox").filter(|path| asks_for_no_loader(path))
}

/// Whether an ELF file has no program header of the kind INTERP (elf(5)).
pub fn asks_for_no_loader(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(4096).read_to_end(&mut start));
    let number = |at: usize, length: usize| {
        let bytes = start.get(at..at + length)?;
        Some(bytes.iter().rev().fold(0, |all, byte| all << 8 | usize::from(*byte)))
    };
    // 64 bits, little-endian: where the headers begin, how long one is, how many there are.
    let headers = (|| Some((number(32, 8)?, number(54, 2)?, number(56, 2)?)))();
    let (Ok(_), Some((at, length, count)), true) = (read, headers, start.starts_with(b"\x7fELF\x02\x01")) else {
        return false;
    };
    (0..count).all(|header| number(at + header * length, 4).is_some_and(|kind| kind != INTERP))
}

const INTERP: usize = 3;

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
