//! Roles that others may lend within the bounds of the policy: what is lent is never more than the role, and never recorded less.

use std::time::Duration;

use doorward_certs::{Capabilities, Recording, RecordingMode, Sftp};

use super::{Policy, roles::Role};
use crate::{
    api::capability_words,
    kube::access::{Lent, Narrower},
};

/// What comes of lending a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lends {
    /// What was asked for and the role does not give, in the words of the policy.
    pub beyond: Vec<String>,
    /// Whether nothing is left.
    pub nothing: bool,
}

impl Policy {
    /// Whether any role may be lent at all.
    #[must_use]
    pub fn lends_any(&self) -> bool {
        self.roles.load().lend()
    }

    /// What comes of lending the role of this name so; nothing if objects of this namespace may lend no role of this name.
    #[must_use]
    pub fn lends(&self, role: &str, namespace: &str, narrower: &Narrower) -> Option<Lends> {
        let roles = self.roles.load();
        let role = roles
            .0
            .iter()
            .find(|one| one.name == role && one.is_lent_in(namespace))?;
        let given = capabilities(role, narrower);
        let wanted = narrower.allow.as_ref().map(capability_words).unwrap_or_default();
        let words = capability_words(&given);
        let mut beyond: Vec<String> = wanted.into_iter().filter(|word| !words.contains(word)).collect();
        if narrower.longest.is_some_and(|longest| longest > role.longest) {
            let longest = humantime::format_duration(role.longest);
            beyond.push(format!("more than {longest}"));
        }
        Some(Lends {
            beyond,
            nothing: given == Capabilities::default(),
        })
    }
}

/// A role as somebody has it: their own, or lent and perhaps less.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held<'r> {
    pub(super) role: &'r Role,
    pub(super) lent: Option<&'r Lent>,
}

impl Held<'_> {
    pub(super) fn capabilities(&self) -> Capabilities {
        match self.lent {
            Some(lent) => capabilities(self.role, &lent.narrower),
            None => self.role.capabilities.clone(),
        }
    }

    /// Whether it opens a workspace at all.
    pub(super) fn opens(&self) -> bool {
        match self.lent {
            Some(_) => self.capabilities() != Capabilities::default(),
            None => self.role.opens(),
        }
    }

    pub(super) fn longest(&self) -> Duration {
        let lent = self.lent.and_then(|lent| lent.narrower.longest);
        lent.map_or(self.role.longest, |longest| longest.min(self.role.longest))
    }

    pub(super) fn recording(&self) -> Recording {
        let mut recording = self.role.recording;
        if let Some(lent) = self.lent {
            recording.input |= lent.narrower.input;
            if lent.narrower.strict {
                recording.mode = RecordingMode::Strict;
            }
        }
        recording
    }
}

/// What both the role and the lender allow.
fn capabilities(role: &Role, narrower: &Narrower) -> Capabilities {
    let own = &role.capabilities;
    let Some(most) = &narrower.allow else {
        return own.clone();
    };
    let mut local_forward: Vec<String> = Vec::new();
    for (each, others) in [
        (&most.local_forward, &own.local_forward),
        (&own.local_forward, &most.local_forward),
    ] {
        for destination in each {
            let covered = others.iter().any(|other| covers(other, destination));
            if covered && !local_forward.contains(destination) {
                local_forward.push(destination.clone());
            }
        }
    }
    Capabilities {
        shell: own.shell && most.shell,
        exec: own.exec && most.exec,
        pty: own.pty && most.pty,
        sftp: match (own.sftp, most.sftp) {
            (Sftp::None, _) | (_, Sftp::None) => Sftp::None,
            (Sftp::ReadOnly, _) | (_, Sftp::ReadOnly) => Sftp::ReadOnly,
            (Sftp::ReadWrite, Sftp::ReadWrite) => Sftp::ReadWrite,
        },
        agent_forwarding: own.agent_forwarding && most.agent_forwarding,
        x11_forwarding: own.x11_forwarding && most.x11_forwarding,
        local_forward,
        remote_forward: own.remote_forward.min(most.remote_forward),
    }
}

/// Whether whatever one pattern of destinations means is meant by another, as far as can be seen from the patterns: the same host, or
/// any address where the other is one. A pattern that is not seen to be covered is not.
fn covers(wide: &str, narrow: &str) -> bool {
    if wide == narrow {
        return true;
    }
    if let (Some(wide), Some(narrow)) = (wide.strip_prefix("unix:"), narrow.strip_prefix("unix:")) {
        let folder = wide.strip_suffix('*');
        return folder.is_some_and(|folder| narrow.strip_prefix(folder).is_some_and(|rest| !rest.is_empty()));
    }
    let (Some((wide_host, wide_port)), Some((host, port))) = (wide.rsplit_once(':'), narrow.rsplit_once(':')) else {
        return false;
    };
    let unix = [wide, narrow].iter().any(|one| one.starts_with("unix:"));
    // `*` is every address, loopback among them.
    !unix && (wide_host == "*" || wide_host == host) && (wide_port == "*" || wide_port == port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_covers_a_destination_is_never_more_than_it_says() {
        for (wide, narrow, expected) in [
            ("*:*", "db.internal:5432", true),
            ("*:5432", "db.internal:5432", true),
            ("*:5432", "db.internal:*", false),
            ("localhost:*", "localhost:8080", true),
            ("localhost:*", "127.0.0.1:8080", false),
            ("*.internal:80", "db.internal:80", false),
            ("*.internal:80", "*.internal:80", true),
            ("db.internal:80", "*:80", false),
            ("*:*", "[::1]:80", true),
            ("[*]:80", "[::1]:80", false),
            ("*:*", "unix:/run/a.sock", false),
            ("unix:/run/*", "unix:/run/a.sock", true),
            ("unix:/run/*", "unix:/run/a/*", true),
            ("unix:/run/a/*", "unix:/run/*", false),
            ("unix:/run/*", "unix:/var/a.sock", false),
            ("unix:/run/a.sock", "*:*", false),
        ] {
            assert_eq!(covers(wide, narrow), expected, "{wide} {narrow}");
        }
    }
}
