//! The names of the certificate extensions that Doorward writes and reads.
//!
//! `permit-*` as OpenSSH names them (PROTOCOL.certkeys); our own end in `@doorward`.

/// Every name in this namespace that we do not know is refused.
pub(crate) const NAMESPACE: &str = "@doorward";

pub(crate) const PERMIT_PTY: &str = "permit-pty";
pub(crate) const PERMIT_AGENT: &str = "permit-agent-forwarding";
pub(crate) const PERMIT_PORT: &str = "permit-port-forwarding";
pub(crate) const PERMIT_X11: &str = "permit-X11-forwarding";

/// Flags of OpenSSH: present or absent, never with a value (sshd refuses a certificate whose flag has one).
pub(crate) const FLAGS: [&str; 6] = [
    PERMIT_PTY,
    PERMIT_AGENT,
    PERMIT_PORT,
    PERMIT_X11,
    "permit-user-rc",
    "no-touch-required",
];

pub(crate) const SHELL: &str = "shell@doorward";
pub(crate) const EXEC: &str = "exec@doorward";
pub(crate) const SFTP: &str = "sftp@doorward";
pub(crate) const FORWARD_TO: &str = "forward-to@doorward";
pub(crate) const REMOTE_FORWARD: &str = "remote-forward@doorward";
pub(crate) const RECORDING: &str = "recording@doorward";
pub(crate) const LONGEST: &str = "longest@doorward";
pub(crate) const SESSION: &str = "session@doorward";
pub(crate) const WORKSPACE: &str = "workspace@doorward";

/// The extensions that say the terms of a session.
pub(crate) const TERMS: [&str; 11] = [
    PERMIT_PTY,
    PERMIT_AGENT,
    PERMIT_PORT,
    PERMIT_X11,
    SHELL,
    EXEC,
    SFTP,
    FORWARD_TO,
    REMOTE_FORWARD,
    RECORDING,
    LONGEST,
];

/// Everything that may stand in a session's certificate; Vault's role allows these and no others.
#[cfg(feature = "vault")]
pub(crate) const OF_SESSIONS: [&str; TERMS.len() + 2] = {
    let mut all = [SESSION; TERMS.len() + 2];
    let mut at = 0;
    while at < TERMS.len() {
        all[at] = TERMS[at];
        at += 1;
    }
    all[at + 1] = WORKSPACE;
    all
};
