//! What may be asked for in a session channel, and when: pure decisions, without a connection.
//!
//! The order is RFC 4254, 6: set-up, then exactly one program, then signals and sizes. What the grant does not name is
//! refused with the reason that goes into the record.

use doorward_certs::{Capabilities, Sftp};

use crate::channel::{Act, SFTP};
use crate::forward::Display;
use crate::process::{self, Program, Size};

/// Why something is refused: a sentence for the record.
pub(crate) type Why = &'static str;

/// The state of one session channel's requests.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    terminal: bool,
    display: bool,
    started: bool,
    files: bool,
    variables: usize,
    variable_bytes: usize,
}

/// A size that may be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resize(pub(crate) Size);

impl Admission {
    /// `pty-req`.
    pub(crate) fn terminal(
        &mut self,
        may: &Capabilities,
        term: &str,
        size: Size,
        modes: Vec<(u8, u32)>,
    ) -> Result<Act, Why> {
        if !may.pty {
            return Err(NOT_GRANTED);
        }
        if self.started || self.terminal {
            return Err(OUT_OF_ORDER);
        }
        if term.len() > LONGEST_TERM || term.contains('\0') {
            return Err(MALFORMED);
        }
        self.terminal = true;
        Ok(Act::Terminal {
            term: term.to_owned(),
            size,
            modes,
        })
    }

    /// `env`. A variable outside the allow-list is refused and recorded by name and value like one that is taken;
    /// sshd, too, refuses it without ending anything.
    pub(crate) fn variable(&mut self, listed: &[String], name: &str, value: &str) -> Result<Act, Why> {
        if self.started {
            return Err(OUT_OF_ORDER);
        }
        self.variables += 1;
        self.variable_bytes = self
            .variable_bytes
            .saturating_add(name.len())
            .saturating_add(value.len());
        if self.variables > VARIABLES || self.variable_bytes > VARIABLE_BYTES {
            return Err("too many or too large environment variables");
        }
        let accepted = process::accepts(name, listed) && !value.contains('\0');
        Ok(Act::Variable {
            name: name.to_owned(),
            value: value.to_owned(),
            accepted,
        })
    }

    /// `x11-req`.
    pub(crate) fn display(
        &mut self,
        may: &Capabilities,
        asked: impl FnOnce() -> Result<Display, Why>,
    ) -> Result<Act, Why> {
        if !may.x11_forwarding {
            return Err(NOT_GRANTED);
        }
        if self.started || self.display {
            return Err(OUT_OF_ORDER);
        }
        let asked = asked()?;
        self.display = true;
        Ok(Act::Display(asked))
    }

    /// `shell`.
    pub(crate) fn shell(&mut self, may: &Capabilities) -> Result<Act, Why> {
        self.start(may.shell, Program::Shell)
    }

    /// `exec`.
    pub(crate) fn command(&mut self, may: &Capabilities, line: &[u8]) -> Result<Act, Why> {
        if line.contains(&0) {
            return Err("the command contains a NUL");
        }
        self.start(may.exec, Program::Command(line.to_vec()))
    }

    /// `subsystem`. The one that is served is sftp.
    pub(crate) fn subsystem(&mut self, may: &Capabilities, name: &str) -> Result<Act, Why> {
        if name != SFTP {
            return Err("this agent does not serve the subsystem");
        }
        let read_only = match may.sftp {
            Sftp::None => return Err(NOT_GRANTED),
            Sftp::ReadOnly => true,
            Sftp::ReadWrite => false,
        };
        self.begin()?;
        self.files = true;
        Ok(Act::Files { read_only })
    }

    /// `window-change`.
    pub(crate) fn resize(&self, size: Size) -> Result<Resize, Why> {
        if self.terminal {
            Ok(Resize(size))
        } else {
            Err("there is no terminal")
        }
    }

    /// `signal`. Only the signals that RFC 4254, 6.10 names.
    pub(crate) fn signal(&self, name: &str) -> Result<Act, Why> {
        if !self.started {
            return Err(OUT_OF_ORDER);
        }
        if self.files {
            return Err("a file server takes no signals");
        }
        let known = SIGNALS
            .iter()
            .find(|known| **known == name)
            .ok_or("the signal is not one of RFC 4254")?;
        Ok(Act::Signal(known))
    }

    fn start(&mut self, granted: bool, program: Program) -> Result<Act, Why> {
        if !granted {
            return Err(NOT_GRANTED);
        }
        self.begin()?;
        Ok(Act::Start(program))
    }

    /// Exactly one program for each channel.
    fn begin(&mut self) -> Result<(), Why> {
        if std::mem::replace(&mut self.started, true) {
            return Err(OUT_OF_ORDER);
        }
        Ok(())
    }
}

/// The grant does not name it.
pub(crate) const NOT_GRANTED: Why = "not granted";
const OUT_OF_ORDER: Why = "asked for at the wrong time";
const MALFORMED: Why = "malformed";
/// As many variables as a channel may be sent.
const VARIABLES: usize = 64;
/// Bytes of names and values of all variables.
const VARIABLE_BYTES: usize = 128 * 1024;
const LONGEST_TERM: usize = 256;
const SIGNALS: [&str; 13] = [
    "ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Capabilities {
        Capabilities {
            shell: true,
            exec: true,
            pty: true,
            ..Capabilities::default()
        }
    }

    #[test]
    fn nothing_is_granted_that_is_not_named() {
        let may = Capabilities::default();
        let mut admission = Admission::default();
        assert_eq!(
            admission.terminal(&may, "xterm", Size::default(), Vec::new()),
            Err(NOT_GRANTED)
        );
        assert_eq!(admission.shell(&may), Err(NOT_GRANTED));
        assert_eq!(admission.command(&may, b"id"), Err(NOT_GRANTED));
        assert!(admission.subsystem(&all(), "sftp").is_err());
        let only_exec = Capabilities { exec: true, ..may };
        assert_eq!(admission.shell(&only_exec), Err(NOT_GRANTED));
        assert_eq!(
            admission.command(&only_exec, b"id"),
            Ok(Act::Start(Program::Command(b"id".to_vec())))
        );
    }

    #[test]
    fn one_program_per_channel_and_set_up_only_before_it() {
        let may = all();
        let mut admission = Admission::default();
        assert!(admission.signal("INT").is_err());
        assert!(admission.resize(Size::default()).is_err());
        assert!(admission.terminal(&may, "xterm", Size::default(), Vec::new()).is_ok());
        assert!(admission.terminal(&may, "xterm", Size::default(), Vec::new()).is_err());
        assert!(admission.shell(&may).is_ok());
        assert!(admission.shell(&may).is_err());
        assert!(admission.command(&may, b"id").is_err());
        assert!(admission.variable(&[], "LANG", "C").is_err());
        assert!(admission.resize(Size::default()).is_ok());
        assert_eq!(admission.signal("INT"), Ok(Act::Signal("INT")));
        for name in ["STOP", "", "SIGINT", "int", "INT\0"] {
            assert!(admission.signal(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn files_are_served_as_far_as_they_are_granted() {
        let with = |sftp| Capabilities { sftp, ..all() };
        let ask = |sftp, name| Admission::default().subsystem(&with(sftp), name);
        assert_eq!(ask(Sftp::None, "sftp"), Err(NOT_GRANTED));
        assert_eq!(ask(Sftp::ReadOnly, "sftp"), Ok(Act::Files { read_only: true }));
        assert_eq!(ask(Sftp::ReadWrite, "sftp"), Ok(Act::Files { read_only: false }));
        for name in ["", "SFTP", "sftp\0", "netconf"] {
            assert!(ask(Sftp::ReadWrite, name).is_err(), "{name:?}");
        }
        let mut admission = Admission::default();
        assert!(admission.subsystem(&with(Sftp::ReadOnly), "sftp").is_ok());
        assert!(admission.subsystem(&with(Sftp::ReadOnly), "sftp").is_err());
        assert!(admission.shell(&all()).is_err());
        assert!(admission.signal("KILL").is_err());
    }

    #[test]
    fn variables_are_marked_and_bounded() {
        let mut admission = Admission::default();
        let accepted = |act: Result<Act, Why>| matches!(act, Ok(Act::Variable { accepted: true, .. }));
        assert!(accepted(admission.variable(&[], "LANG", "C")));
        assert!(!accepted(admission.variable(&[], "LD_PRELOAD", "/tmp/x.so")));
        assert!(!accepted(admission.variable(&[], "LANG", "a\0b")));
        assert!(admission.variable(&[], "LANG", &"x".repeat(1024 * 1024)).is_err());
        let mut admission = Admission::default();
        let taken = (0..1_000)
            .filter(|_| admission.variable(&[], "LC_X", "1").is_ok())
            .count();
        assert_eq!(taken, VARIABLES);
    }

    #[test]
    fn a_nul_in_a_command_is_refused_and_starts_nothing() {
        let mut admission = Admission::default();
        assert!(admission.command(&all(), b"id\0rm").is_err());
        assert!(admission.command(&all(), b"id").is_ok());
    }
}
