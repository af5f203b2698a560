//! The policy file: roles, read as a whole or refused as a whole.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use doorward_certs::{Capabilities, Login, Recording, Sftp};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::{
    config::{
        Fault, Faults,
        document::{Document, Section, bytes, duration, flag, list, name, text},
    },
    workspace::Workspace,
};

/// The roles of a policy file, in its order.
#[derive(Debug, Clone, Default)]
pub struct Roles(pub(super) Vec<Role>);

/// One role: whom it is for, where it holds, what it allows.
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) groups: BTreeSet<String>,
    /// Names and globs; none means every workspace (then `owner` is set).
    pub(super) workspaces: Option<GlobSet>,
    /// Only workspaces whose owner is the person.
    pub(super) owner: bool,
    pub(super) capabilities: Capabilities,
    pub(super) login: Option<Login>,
    pub(super) longest: Duration,
    pub(super) recording: Recording,
    pub(super) recordings: RecordingsRight,
}

/// Whose recordings may be seen; the later is the wider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RecordingsRight {
    None,
    Own,
    All,
}

impl Roles {
    /// Reads a policy file.
    ///
    /// # Errors
    /// Every fault with its line.
    pub fn load(file: &Path) -> Result<Self, Faults> {
        let text = fs::read_to_string(file)
            .map_err(|error| Faults(vec![Fault::of_file(file, format!("cannot be read: {error}"))]))?;
        Self::parse(file, &text)
    }

    /// Reads a policy's text; `file` is what faults name.
    ///
    /// # Errors
    /// Every fault with its line.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Faults> {
        Document::new(file, text).read(|top| {
            let mut names = BTreeSet::new();
            let roles = top.sections("role", |section| {
                let role = read_role(section)?;
                if !names.insert(role.name.clone()) {
                    section.fault_at(
                        "name",
                        format!("the role `{}` is there more than once", role.name.escape_debug()),
                    );
                }
                Some(role)
            });
            Some(Self(roles))
        })
    }
}

impl Role {
    /// Whether the role is one of somebody with these groups: exact names, nothing folded.
    pub(super) fn is_of(&self, groups: &BTreeSet<String>) -> bool {
        !self.groups.is_disjoint(groups)
    }

    /// Whether the role opens a workspace at all: one that allows nothing is about recordings alone.
    pub(super) fn opens(&self) -> bool {
        self.capabilities != Capabilities::default()
    }

    /// Whether the role holds for this workspace and person.
    pub(super) fn holds_for(&self, workspace: &Workspace, user: &str) -> bool {
        self.covers(workspace.name.as_str(), workspace.owner.as_deref(), user)
    }

    /// The same for a workspace that may be gone, known by its name.
    pub(super) fn covers(&self, workspace: &str, owner: Option<&str>, user: &str) -> bool {
        // Both are looked at, so that both answers take the same work.
        let named = self.workspaces.as_ref().is_none_or(|globs| globs.is_match(workspace));
        let owned = !self.owner || owner == Some(user);
        named & owned
    }
}

fn read_role(section: &Section<'_>) -> Option<Role> {
    let name = section.required("name", text);
    let groups = section.required("groups", list(text));
    if groups.as_ref().is_some_and(Vec::is_empty) {
        section.fault_at("groups", "`groups` must name at least one");
    }
    let workspaces = section.optional("workspaces", |value| globs(&list(text)(value)?));
    let owner = section.or("owner", false, flag);
    if !section.has("workspaces") && !owner {
        section.fault("a role needs `workspaces`, or `owner = true`, or both (then both must hold)");
    }
    let capabilities = section.required("allow", |value| capabilities(&list(text)(value)?));
    let login = section.optional("login", self::name::<Login>);
    let longest = section.or(
        "longest",
        USUAL_LONGEST,
        duration(Duration::from_secs(1), LONGEST_OF_ALL),
    );
    let recordings = section.or("recordings", RecordingsRight::Own, |value| {
        match text(value)?.as_str() {
            "none" => Ok(RecordingsRight::None),
            "own" => Ok(RecordingsRight::Own),
            "all" => Ok(RecordingsRight::All),
            _ => Err("must be \"none\", \"own\" or \"all\"".to_owned()),
        }
    });
    let usual = Recording::default();
    let recording = section
        .section("recording", |recording| {
            Some(Recording {
                input: recording.or("input", usual.input, flag),
                bulk_limit: recording.or("bulk-limit", usual.bulk_limit, bytes),
            })
        })
        .unwrap_or(usual);
    Some(Role {
        name: name?,
        groups: groups?.into_iter().collect(),
        workspaces: if section.has("workspaces") {
            Some(workspaces?)
        } else {
            None
        },
        owner,
        capabilities: capabilities?,
        login: if section.has("login") { Some(login?) } else { None },
        longest,
        recording,
        recordings,
    })
}

fn globs(patterns: &[String]) -> Result<GlobSet, String> {
    if patterns.is_empty() {
        return Err("must name at least one; [\"*\"] means all".to_owned());
    }
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern).backslash_escape(true).build();
        set.add(glob.map_err(|error| format!("`{}` is no glob: {}", pattern.escape_debug(), error.kind()))?);
    }
    set.build().map_err(|error| error.to_string())
}

fn capabilities(words: &[String]) -> Result<Capabilities, String> {
    let mut all = Capabilities::default();
    for word in words {
        match word.as_str() {
            "shell" => all.shell = true,
            "exec" => all.exec = true,
            "pty" => all.pty = true,
            "sftp:read" => all.sftp = wider(all.sftp, Sftp::ReadOnly),
            "sftp:read-write" => all.sftp = Sftp::ReadWrite,
            "agent-forwarding" => all.agent_forwarding = true,
            "x11-forwarding" => all.x11_forwarding = true,
            "remote-forward" => all.remote_forward = true,
            other => match other.strip_prefix("forward-to:") {
                Some(destination) => all.local_forward.push(forward(destination)?),
                None => {
                    return Err(format!(
                        "`{}` is no capability (known: shell, exec, pty, sftp:read, sftp:read-write, agent-forwarding, \
                         x11-forwarding, remote-forward, forward-to:HOST:PORT)",
                        other.escape_debug()
                    ));
                }
            },
        }
    }
    Ok(all)
}

/// A destination of forwards: `host:port`, either may be `*`.
fn forward(destination: &str) -> Result<String, String> {
    let good = destination.rsplit_once(':').is_some_and(|(host, port)| {
        let host_good = !host.is_empty()
            && host.len() <= 255
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-*:[]_".contains(&byte));
        host_good && (port == "*" || port.parse::<u16>().is_ok_and(|port| port != 0))
    });
    match good {
        true => Ok(destination.to_owned()),
        false => Err(format!(
            "`forward-to:{}` is not of the form forward-to:HOST:PORT",
            destination.escape_debug()
        )),
    }
}

/// The wider of two rights to sftp.
pub(super) fn wider(one: Sftp, other: Sftp) -> Sftp {
    match (one, other) {
        (Sftp::ReadWrite, _) | (_, Sftp::ReadWrite) => Sftp::ReadWrite,
        (Sftp::ReadOnly, _) | (_, Sftp::ReadOnly) => Sftp::ReadOnly,
        (Sftp::None, Sftp::None) => Sftp::None,
    }
}

/// How long a session may last if the role does not say.
const USUAL_LONGEST: Duration = Duration::from_secs(12 * 3600);
/// The longest that a role may say; what a certificate can carry.
const LONGEST_OF_ALL: Duration = Duration::from_secs(30 * 86_400);
