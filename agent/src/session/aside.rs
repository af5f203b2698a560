//! What a person is told beside the session's bytes, on the standard error of their own `ssh`, because SSH has no words for it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use doorward_wire::SessionHandle;

/// The way beside the bytes. Each thing is told once in a session.
#[derive(Debug)]
pub(crate) struct Aside {
    handle: SessionHandle,
    workspace: String,
    told: Mutex<BTreeSet<&'static str>>,
}

impl Aside {
    pub(super) fn new(handle: SessionHandle, workspace: String) -> Self {
        Self {
            handle,
            workspace,
            told: Mutex::default(),
        }
    }

    /// Tells that a request (RFC 4254, 6) was refused because the grant does not name it. `ssh` says no more than that it failed, and
    /// of what people do not ask for by name there is nothing to tell.
    pub(crate) fn not_granted(&self, request: &str) {
        let what = match request {
            "shell" => "a shell",
            "pty-req" => "a terminal",
            "exec" => "commands",
            "subsystem sftp" => "files (sftp, scp)",
            _ => return,
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(what) {
            let workspace = &self.workspace;
            self.handle.notice(format!(
                "your roles do not give you {what} in {workspace} (doorward explain {workspace} says what they do)"
            ));
        }
    }
}
