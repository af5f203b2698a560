//! The terminal in which a replay is shown, and its state before.

use std::io::{self, IsTerminal as _, Write as _, stdout};

use terminal_size::{Height, Width, terminal_size_of};

/// Back to what a shell expects: main screen, visible cursor, plain colours and character set, ordinary keys, wrapping,
/// no margins. The soft reset would do most of it, but not everywhere.
const RESTORE: &str =
    "\x1b[?1049l\x1b[!p\x1b[4l\x1b[20l\x1b[?5l\x1b[?66l\x1b[?25h\x1b[?7h\x1b[?1l\x1b>\x1b[r\x1b(B\x0f\x1b[0m\r\x1b[K";

/// A terminal that shows what is written as it is and keys as they are pressed. Dropping it puts it back.
#[derive(Debug)]
pub(super) struct Terminal {
    #[cfg(unix)]
    before: Option<nix::sys::termios::Termios>,
}

impl Terminal {
    /// Takes the terminal over.
    pub(super) fn take() -> Self {
        Self {
            #[cfg(unix)]
            before: unix::take(),
        }
    }

    /// Columns and rows of the window.
    pub(super) fn size() -> Option<(u32, u32)> {
        let (Width(columns), Height(rows)) = terminal_size_of(stdout())?;
        Some((columns.into(), rows.into()))
    }

    /// Whether keys can be read one by one.
    pub(super) fn has_keys(&self) -> bool {
        #[cfg(unix)]
        return self.before.is_some();
        #[cfg(not(unix))]
        false
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut out = stdout().lock();
        // There is nobody to tell that it failed.
        let _: io::Result<()> = out.write_all(RESTORE.as_bytes()).and_then(|()| out.flush());
        #[cfg(unix)]
        if let Some(before) = &self.before {
            unix::put_back(before);
        }
    }
}

/// Whether standard output is a terminal.
pub(super) fn is_shown() -> bool {
    stdout().is_terminal()
}

#[cfg(unix)]
mod unix {
    use nix::sys::termios::{LocalFlags, OutputFlags, SetArg, Termios, tcgetattr, tcsetattr};

    use std::io::{IsTerminal as _, stdin};

    /// Keys come at once and are not shown; line ends are written as they were recorded. Ctrl-C stays a signal.
    pub(super) fn take() -> Option<Termios> {
        let stdin = stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut during = before.clone();
        during.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        during.output_flags.remove(OutputFlags::OPOST);
        tcsetattr(&stdin, SetArg::TCSADRAIN, &during).ok()?;
        Some(before)
    }

    pub(super) fn put_back(before: &Termios) {
        // Keys that were pressed and not read are thrown away: they were not meant for the shell.
        let _ = tcsetattr(stdin(), SetArg::TCSAFLUSH, before);
    }
}
