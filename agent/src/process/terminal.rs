//! A pseudo-terminal: opened, sized, given its modes and its owner.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::pty;
use nix::sys::stat::{self, Mode};
use nix::sys::termios::{self, LocalFlags, SetArg};
use nix::unistd::{self, Group};
use tokio::net::unix::pipe;

use super::{Account, modes, syscall};

/// Size of a terminal. Each number is cut at [`Size::MOST`]; 0 means unknown, as with sshd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Size {
    /// Columns of characters.
    pub(crate) cols: u16,
    /// Rows of characters.
    pub(crate) rows: u16,
    /// Width in pixels.
    pub(crate) width: u16,
    /// Height in pixels.
    pub(crate) height: u16,
}

impl Size {
    /// The most columns or rows: programs allocate their product.
    pub(crate) const MOST: u16 = 9_999;

    /// From what a client asks for.
    pub(crate) fn asked(cols: u32, rows: u32, width: u32, height: u32) -> Self {
        let cut = |value: u32, most: u16| u16::try_from(value).unwrap_or(most).min(most);
        Self {
            cols: cut(cols, Self::MOST),
            rows: cut(rows, Self::MOST),
            width: cut(width, u16::MAX),
            height: cut(height, u16::MAX),
        }
    }
}

/// Our side of a pseudo-terminal. When its last copy is dropped, the terminal hangs up.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: OwnedFd,
}

/// The side that the process gets.
#[derive(Debug)]
pub(crate) struct Slave {
    pub(super) fd: OwnedFd,
    path: PathBuf,
}

impl Slave {
    /// For example `/dev/pts/3`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Terminal {
    /// Opens a terminal of this size with these modes (RFC 4254, 8), owned by the account.
    pub(crate) fn open(account: &Account, size: Size, modes: &[(u8, u32)]) -> io::Result<(Self, Slave)> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let master = pty::posix_openpt(flags)?;
        pty::grantpt(&master)?;
        pty::unlockpt(&master)?;
        let path = PathBuf::from(pty::ptsname_r(&master)?);
        let fd: OwnedFd = {
            use std::os::unix::fs::OpenOptionsExt as _;
            std::fs::File::options()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NOCTTY)
                .open(&path)?
                .into()
        };
        if account.switch {
            give(&fd, account)?;
        }
        let mut attributes = termios::tcgetattr(&fd)?;
        modes::apply(&mut attributes, modes);
        termios::tcsetattr(&fd, SetArg::TCSANOW, &attributes)?;
        let terminal = Self { master: master.into() };
        terminal.resize(size)?;
        Ok((terminal, Slave { fd, path }))
    }

    /// Changes the size; the foreground process hears of it (SIGWINCH).
    pub(crate) fn resize(&self, size: Size) -> io::Result<()> {
        let size = libc::winsize {
            ws_row: size.rows,
            ws_col: size.cols,
            ws_xpixel: size.width,
            ws_ypixel: size.height,
        };
        Ok(syscall::set_window_size(&self.master, size)?)
    }

    /// Whether what is typed shows: false at a password prompt, and under programs that draw for themselves.
    /// A terminal that cannot be asked counts as silent.
    pub(crate) fn echoes(&self) -> bool {
        termios::tcgetattr(&self.master).is_ok_and(|attributes| attributes.local_flags.contains(LocalFlags::ECHO))
    }

    /// Where the process's output is read.
    pub(crate) fn reader(&self) -> io::Result<pipe::Receiver> {
        pipe::Receiver::from_owned_fd_unchecked(self.master.try_clone()?)
    }

    /// Where its input is written.
    pub(crate) fn writer(&self) -> io::Result<pipe::Sender> {
        pipe::Sender::from_owned_fd_unchecked(self.master.try_clone()?)
    }
}

/// As sshd does: the user owns it, the group `tty` may write messages to it.
fn give(slave: &OwnedFd, account: &Account) -> io::Result<()> {
    let (group, mode) = match Group::from_name("tty") {
        Ok(Some(group)) => (group.gid, 0o620),
        _ => (account.gid, 0o600),
    };
    // The mode first: the mode of what is another's already would need CAP_FOWNER.
    stat::fchmod(slave.as_fd(), Mode::from_bits_truncate(mode))?;
    unistd::fchown(slave.as_fd(), Some(account.uid), Some(group)).map_err(|error| match error {
        Errno::EPERM => io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("the agent may not give it to uid {}: it lacks CAP_CHOWN", account.uid),
        ),
        other => other.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Overrides;

    #[test]
    fn absurd_sizes_are_cut_and_nothing_is_invented() {
        assert_eq!(Size::asked(0, 0, 0, 0), Size::default());
        let huge = Size::asked(1_000_000_000, u32::MAX, 1_000_000, 7);
        assert_eq!(
            huge,
            Size {
                cols: Size::MOST,
                rows: Size::MOST,
                width: u16::MAX,
                height: 7
            }
        );
        assert_eq!(Size::asked(211, 57, 0, 0).cols, 211);
    }

    #[tokio::test]
    async fn a_terminal_has_the_modes_and_knows_its_echo() {
        let me = nix::unistd::User::from_uid(nix::unistd::Uid::effective())
            .unwrap()
            .unwrap();
        let account = Account::find(&me.name, &Overrides::default()).unwrap();
        let size = Size::asked(100, 40, 0, 0);
        let (terminal, slave) = Terminal::open(&account, size, &[(53, 0), (3, 8)]).unwrap();
        assert!(!terminal.echoes());
        let mut attributes = termios::tcgetattr(&slave.fd).unwrap();
        assert_eq!(attributes.control_chars[libc::VERASE], 8);
        attributes.local_flags.insert(LocalFlags::ECHO);
        termios::tcsetattr(&slave.fd, SetArg::TCSANOW, &attributes).unwrap();
        assert!(terminal.echoes());
        assert!(slave.path().starts_with("/dev/pts"));
    }
}
