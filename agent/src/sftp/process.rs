//! The process that serves one client's files: one thread reads requests, a few answer them.
//!
//! Everything is bounded: requests that wait, by number and by the buffers of the large ones; whoever reads requests
//! waits for room, and who sends them then waits too. A client that does not read its answers stops its own requests.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Condvar, Mutex, PoisonError};

use doorward_audit::Refused;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid};

use super::open::locked;
use super::order::{Access, Order};
use super::report::report;
use super::request::{Init, Request};
use super::server::{Desk, Server};
use super::wire::{LONGEST, Malformed, Writer, packet_length};
use crate::process::{Account, Identity, Root, become_identity};

/// The name under which this executable serves files.
pub(crate) const NAME: &str = "doorward-agent-sftp";

/// The arguments that have it serve an account.
pub(crate) fn arguments(account: &Account, read_only: bool) -> Vec<OsString> {
    let rights = if read_only { READ_ONLY } else { READ_WRITE };
    let root = account
        .root
        .as_ref()
        .map_or_else(|| OWN.to_owned(), |root| root.token());
    let mut arguments = vec![OsString::from(rights), account.home.clone().into(), root.into()];
    if account.switch {
        arguments.push(account.uid.to_string().into());
        arguments.push(account.gid.to_string().into());
        arguments.extend(account.groups.iter().map(|group| group.to_string().into()));
    }
    arguments
}

/// Serves files on standard input and output, if the program's own name (the first argument) says so. A program that may
/// run the agent calls this first.
#[must_use]
pub fn act_as_file_server(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if args.next()? != NAME {
        return None;
    }
    let Some(orders) = Orders::read(args) else {
        return Some(ExitCode::from(USAGE));
    };
    Some(match orders.take_effect().and_then(|()| serve(&orders)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("doorward: cannot serve files: {error}");
            ExitCode::FAILURE
        }
    })
}

/// Who to become and what to allow.
struct Orders {
    read_only: bool,
    home: PathBuf,
    /// The container, where it is another than the agent's.
    root: Option<String>,
    identity: Option<Identity>,
}

impl Orders {
    fn read(mut args: impl Iterator<Item = OsString>) -> Option<Self> {
        let rights = args.next()?;
        let home = PathBuf::from(args.next()?);
        let root = args.next()?.into_string().ok()?;
        let mut ids = Vec::new();
        for id in args {
            ids.push(id.to_str()?.parse().ok()?);
        }
        let identity = match ids.as_slice() {
            [] => None,
            [uid, gid, groups @ ..] => Some(Identity {
                uid: Uid::from_raw(*uid),
                gid: Gid::from_raw(*gid),
                groups: groups.iter().copied().map(Gid::from_raw).collect(),
            }),
            [_] => return None,
        };
        let read_only = match rights.to_str()? {
            READ_ONLY => true,
            READ_WRITE => false,
            _ => return None,
        };
        Some(Self {
            read_only,
            home,
            root: (root != OWN).then_some(root),
            identity,
        })
    }

    /// Becomes the account for good. There is one thread yet.
    fn take_effect(&self) -> io::Result<()> {
        match (&self.root, &self.identity) {
            (Some(root), identity) => {
                let wrong = || io::Error::from(io::ErrorKind::InvalidInput);
                Root::of_token(root).ok_or_else(wrong)??.enter_as(identity.as_ref())?;
            }
            (None, Some(identity)) => become_identity(identity)?,
            (None, None) => {}
        }
        prctl::set_dumpable(false)?;
        prctl::set_no_new_privs()?;
        if std::env::set_current_dir(&self.home).is_err() {
            std::env::set_current_dir("/")?;
        }
        Ok(())
    }
}

/// What the threads share.
struct Shared {
    server: Server,
    out: Mutex<File>,
    state: Mutex<State>,
    /// A request may begin, or nothing more comes.
    ready: Condvar,
    /// There is room for a request.
    room: Condvar,
}

struct State {
    order: Order<Packet>,
    /// Buffers for large packets that nobody uses.
    free: Vec<Box<[u8]>>,
    /// How many of them there are, used or not.
    made: usize,
    idle: usize,
    ended: bool,
}

/// A packet in a buffer that may be longer.
struct Packet {
    buffer: Box<[u8]>,
    length: usize,
}

impl Packet {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }
}

fn serve(orders: &Orders) -> io::Result<ExitCode> {
    let mut requests = BufReader::with_capacity(AHEAD, File::from(io::stdin().as_fd().try_clone_to_owned()?));
    let shared = Shared {
        server: Server::new(orders.home.clone(), orders.read_only, room_for_handles()),
        out: Mutex::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
        state: Mutex::new(State {
            order: Order::default(),
            free: Vec::new(),
            made: 0,
            idle: 0,
            ended: false,
        }),
        ready: Condvar::new(),
        room: Condvar::new(),
    };
    let ended = std::thread::scope(|threads| {
        for number in 0..WORKERS {
            let worker = std::thread::Builder::new().name(format!("files {number}"));
            worker.spawn_scoped(threads, || shared.work())?;
        }
        let ended = shared.read_all(&mut requests);
        locked(&shared.state).ended = true;
        shared.ready.notify_all();
        Ok::<_, io::Error>(ended)
    });
    let ended = ended.inspect_err(|_| {
        // Threads that did start wait for this.
        locked(&shared.state).ended = true;
        shared.ready.notify_all();
    })?;
    let mut last = Writer::default();
    shared.server.close_all(&mut last);
    if let Err(malformed) = ended {
        report(
            &mut last,
            Refused {
                channel: None,
                what: "sftp packet".to_owned(),
                why: malformed.to_string(),
            },
        );
        eprintln!("doorward: the sftp session ends: {malformed}");
    }
    shared.put(&last.0, &[]);
    Ok(if ended.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(BAD_PACKET)
    })
}

impl Shared {
    /// Reads requests until the client has said everything.
    fn read_all(&self, from: &mut impl Read) -> Result<(), Malformed> {
        let mut greeted = false;
        loop {
            let mut field = [0; 4];
            match from.read(&mut field[..1]) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(Malformed::Cut),
            }
            from.read_exact(&mut field[1..]).map_err(|_| Malformed::Cut)?;
            let length = packet_length(field)?;
            let mut packet = self.place_for(length);
            let place = packet.buffer.get_mut(..length).unwrap_or_default();
            from.read_exact(place).map_err(|_| Malformed::Cut)?;
            if !greeted {
                let mut version = Writer::default();
                self.server.version(Init::read(packet.bytes())?, &mut version);
                self.put(&version.0, &[]);
                greeted = true;
                self.give_back(&mut locked(&self.state), packet);
                continue;
            }
            let access = match Request::read(packet.bytes()) {
                (_, Ok(request)) => self.server.access(&request),
                (Some(_), Err(_)) => Access::Look,
                (None, Err(malformed)) => return Err(malformed),
            };
            let mut state = locked(&self.state);
            state.order.push(access, packet);
            if state.idle > 0 && state.order.is_ready() {
                self.ready.notify_one();
            }
        }
    }

    /// Answers requests until there are no more.
    fn work(&self) {
        let mut desk = Desk::new();
        let mut state = locked(&self.state);
        loop {
            if let Some((access, packet)) = state.order.next() {
                if state.idle > 0 && state.order.is_ready() {
                    self.ready.notify_one();
                }
                drop(state);
                self.server.answer(packet.bytes(), &mut desk);
                let (answer, data) = desk.parts();
                self.put(answer, data);
                desk.clear();
                state = locked(&self.state);
                state.order.done(access);
                self.give_back(&mut state, packet);
            } else if state.ended && state.order.waiting() == 0 {
                self.ready.notify_all();
                return;
            } else {
                state.idle += 1;
                state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }

    /// Writes whole packets. If the agent is gone nobody hears them, and the requests end on their own.
    fn put(&self, answer: &[u8], data: &[u8]) {
        let mut out = locked(&self.out);
        let written = loop {
            match out.write_vectored(&[IoSlice::new(answer), IoSlice::new(data)]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
                Ok(count) => break count,
            }
        };
        let rest = answer.get(written..).unwrap_or_default();
        let more = data.get(written.saturating_sub(answer.len())..).unwrap_or_default();
        let _ = out.write_all(rest).and_then(|()| out.write_all(more));
    }

    /// A buffer for a packet, once there is room.
    fn place_for(&self, length: usize) -> Packet {
        let mut state = locked(&self.state);
        while state.order.waiting() >= WAITING || (length > SMALL && state.free.is_empty() && state.made >= LARGE) {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if length <= SMALL {
            let buffer = vec![0; length].into();
            return Packet { buffer, length };
        }
        let buffer = state.free.pop().unwrap_or_else(|| {
            state.made += 1;
            vec![0; LONGEST].into()
        });
        Packet { buffer, length }
    }

    fn give_back(&self, state: &mut State, packet: Packet) {
        if packet.buffer.len() > SMALL {
            state.free.push(packet.buffer);
        }
        self.room.notify_one();
    }
}

/// As many handles as descriptors allow, up to a bound of ours; the limit is raised for them.
fn room_for_handles() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return FEW_HANDLES;
    };
    let wanted = hard.min(HANDLES + SPARE);
    let soft = match setrlimit(Resource::RLIMIT_NOFILE, wanted.max(soft), hard) {
        Ok(()) => wanted.max(soft),
        Err(_) => soft,
    };
    usize::try_from(soft.saturating_sub(SPARE).min(HANDLES)).unwrap_or(FEW_HANDLES)
}

/// Exit status after a packet that is none, as OpenSSH's server has it.
pub(crate) const BAD_PACKET: u8 = 11;
const USAGE: u8 = 64;
/// In place of a container: the agent's own.
const OWN: &str = "own";
const READ_ONLY: &str = "read";
const READ_WRITE: &str = "read-write";
/// Threads that answer.
const WORKERS: usize = 4;
/// Requests that wait.
const WAITING: usize = 256;
/// A packet up to this many bytes has a buffer of its own size.
const SMALL: usize = 4 * 1024;
/// Buffers for the others.
const LARGE: usize = 16;
/// Bytes that are read ahead of a packet.
const AHEAD: usize = 64 * 1024;
/// Handles at once.
const HANDLES: u64 = 1024;
const FEW_HANDLES: usize = 64;
/// Descriptors that are not handles.
const SPARE: u64 = 32;
