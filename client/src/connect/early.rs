//! The SSH identification, said early: while a person logs in, `ssh` and the editors above it wait for it, and some give
//! that 15 seconds and no more.
//!
//! It is said only where the gateway names the one that this program was built with; what the workspace then says
//! must be the same, and is not said twice.

use std::io::{Write as _, stdout};

use doorward_wire::SSH_IDENTIFICATION;

use crate::gateway::WellKnown;

/// Whether it was said.
#[derive(Debug, Default)]
pub(super) struct Early(bool);

impl Early {
    /// Says it, once.
    pub(super) fn say(&mut self, known: &WellKnown) {
        if self.0 || known.ssh_identification.as_deref() != Some(SSH_IDENTIFICATION) {
            return;
        }
        let mut out = stdout().lock();
        // One write: all of it or, where nobody reads, nothing that matters.
        let said = out.write_all(format!("{SSH_IDENTIFICATION}\r\n").as_bytes());
        self.0 = said.and_then(|()| out.flush()).is_ok();
    }

    /// What the workspace has to say again.
    pub(super) fn expected(&self) -> Expected {
        Expected(if self.0 {
            format!("{SSH_IDENTIFICATION}\r\n").into_bytes()
        } else {
            Vec::new()
        })
    }
}

/// What still has to come and was said already.
#[derive(Debug)]
pub(super) struct Expected(Vec<u8>);

impl Expected {
    /// What of these bytes is new.
    ///
    /// # Errors
    /// When they are not what was said.
    pub(super) fn skip(&mut self, bytes: &mut bytes::Bytes) -> Result<(), ()> {
        let same = self.0.len().min(bytes.len());
        if self.0[..same] != bytes[..same] {
            return Err(());
        }
        self.0.drain(..same);
        let _ = bytes.split_to(same);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_was_said_is_said_once_however_it_comes() {
        let whole = format!("{SSH_IDENTIFICATION}\r\nand more");
        for part in 1..=whole.len() {
            let mut expected = Early(true).expected();
            let mut out = Vec::new();
            for chunk in whole.as_bytes().chunks(part) {
                let mut chunk = Bytes::copy_from_slice(chunk);
                expected.skip(&mut chunk).unwrap();
                out.extend_from_slice(&chunk);
            }
            assert_eq!(out, b"and more", "in parts of {part}");
        }
        let mut other = Bytes::from_static(b"SSH-2.0-Other\r\n");
        Early(true).expected().skip(&mut other).unwrap_err();
        Early(false).expected().skip(&mut other).unwrap();
        assert_eq!(other.len(), 15);
    }
}
