//! One executable that acts as each of our programs, and the tether that ends it with its starter.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{issuer_cli, parts};

/// Acts as the program that the first argument names, if it names one.
///
/// Under the name of the agent's file server it is that; else `gateway`, `agent`, `issuer` and `doorward` take over with the rest of the arguments. `tethered LOCK PROGRAM …` does
/// the same, and stops the program once its standard input ends: whoever holds the other end of that pipe can be
/// killed without warning and leaves no program behind. `part` does that for a program that is not ours. The file `LOCK` keeps two programs from using the same state:
/// the second begins when the first has ended.
#[must_use]
pub fn act_as_program() -> Option<ExitCode> {
    if let Some(code) = doorward_agent::act_as_file_server(std::env::args_os()) {
        return Some(code);
    }
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut _lock = None;
    if args.len() > 2 && args[0] == TETHERED {
        match hold_tether(Path::new(&args[1])) {
            Ok(held) => _lock = Some(held),
            Err(error) => {
                eprintln!("cannot hold the tether: {error}");
                return Some(ExitCode::FAILURE);
            }
        }
        args.drain(..2);
    }
    let program = PROGRAMS
        .iter()
        .find(|program| args.first().is_some_and(|first| first == program.sub_command))?;
    // An error means that a provider stands already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    args[0] = program.own_name.into();
    Some((program.main)(args))
}

/// The sub-command by which a program is started and tied to its starter's pipe.
pub(crate) const TETHERED: &str = "tethered";

struct Program {
    sub_command: &'static str,
    own_name: &'static str,
    main: fn(Vec<OsString>) -> ExitCode,
}

const PROGRAMS: [Program; 6] = [
    Program {
        sub_command: "gateway",
        own_name: "doorward-gateway",
        main: |args| doorward_gateway::cli::main_with(args.into_iter()),
    },
    Program {
        sub_command: "agent",
        own_name: "doorward-agent",
        main: |args| doorward_agent::cli::main_with(args.into_iter()),
    },
    Program {
        sub_command: "doorward",
        own_name: "doorward",
        main: |args| doorward_client::main_with(args.into_iter()),
    },
    Program {
        sub_command: "issuer",
        own_name: "doorward-dev issuer",
        main: issuer_cli::main_with,
    },
    Program {
        sub_command: "part",
        own_name: "doorward-dev part",
        main: parts::main_with,
    },
    Program {
        sub_command: "bound",
        own_name: "doorward-dev bound",
        main: parts::bound,
    },
];

/// Writes an announcement whole or not at all: a reader never sees half of it.
pub(crate) fn announce(path: &Path, what: &impl serde::Serialize) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, serde_json::to_vec(what)?)?;
    std::fs::rename(beside, path)
}

/// Waits for the lock, and watches standard input on a thread that lives as long as the process.
fn hold_tether(lock: &Path) -> std::io::Result<File> {
    let watch = || {
        let mut stdin = std::io::stdin().lock();
        let mut nothing = [0; 64];
        while matches!(stdin.read(&mut nothing), Ok(read) if read > 0) {}
        let _ = kill(Pid::this(), Signal::SIGTERM);
        let last = Instant::now() + TETHER_GRACE;
        while let Some(left) = last.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        let _ = kill(Pid::this(), Signal::SIGKILL);
    };
    std::thread::Builder::new().name("tether".to_owned()).spawn(watch)?;
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(lock)?;
    lock.lock()?;
    Ok(lock)
}

/// How long a program may take to end once its tether is cut.
const TETHER_GRACE: Duration = Duration::from_secs(8);
