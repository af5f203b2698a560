//! The policy file: roles, read as a whole or refused as a whole.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use doorward_certs::{Capabilities, Login, Recording, RecordingMode, RemoteForward, Sftp, is_destination};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use toml::de::DeValue;

use crate::{
    config::{
        Fault, Faults,
        document::{Document, Section, bytes, duration, flag, list, name, text},
        domain,
    },
    oidc::{Email, Person},
    workspace::Workspace,
};

/// The roles of a policy file, in its order.
#[derive(Debug, Clone, Default)]
pub struct Roles(pub(super) Vec<Role>);

/// One role: whom it is for, where it holds, what it allows.
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) members: Members,
    pub(super) lending: Lending,
    /// Names and globs; none means every workspace (then `owner` is set).
    pub(super) workspaces: Option<GlobSet>,
    /// Only workspaces whose owner is the person.
    pub(super) owner: bool,
    pub(super) capabilities: Capabilities,
    pub(super) login: Option<Login>,
    pub(super) longest: Duration,
    pub(super) recording: Recording,
    /// How long recordings are kept after their end; for ever if it is not said.
    pub(super) keep: Option<Duration>,
    /// For how long at most people may have a workspace kept awake; zero if not at all.
    pub(super) keep_awake: Duration,
    pub(super) recordings: RecordingsRight,
    /// It applies only while the record store is down.
    pub(super) break_glass: bool,
    pub(super) may: BTreeSet<Right>,
}

/// Whom a role is for: whoever any of this names, exactly.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    groups: BTreeSet<String>,
    emails: BTreeSet<Email>,
    domains: BTreeSet<String>,
    /// Whoever Kubernetes RBAC lets into the workspace.
    rbac: bool,
    /// Whoever a `WorkspaceAccess` object lends the role to.
    grantable: bool,
}

/// How far a role may be lent; as it stands, in every namespace and to everybody.
#[derive(Debug, Clone, Default)]
pub(super) struct Lending {
    /// The namespaces whose objects may lend it; none named means all.
    namespaces: Option<GlobSet>,
    /// Who may be lent it; none named means everybody.
    to: Option<Members>,
}

/// What somebody may do to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// End sessions in the workspaces that the role covers.
    Kill,
    /// Lock and unlock people, and the workspaces that the role covers.
    Lock,
    /// See why somebody may enter a workspace that the role covers, or may not.
    Explain,
    /// Have recordings of the workspaces that the role covers held, so that nobody deletes them, and release them.
    Hold,
}

impl Right {
    /// The word of the policy file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Lock => "lock",
            Self::Explain => "explain",
            Self::Hold => "hold",
        }
    }
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

impl Roles {
    /// Whether any role may be lent.
    pub(crate) fn lend(&self) -> bool {
        self.0.iter().any(Role::is_grantable)
    }

    /// The logins that roles name.
    pub(crate) fn logins(&self) -> impl Iterator<Item = &Login> {
        self.0.iter().filter_map(|role| role.login.as_ref())
    }
}

impl Role {
    /// The groups whose people have the role.
    pub(super) fn group_names(&self) -> &BTreeSet<String> {
        &self.members.groups
    }

    /// The e-mail domains whose people have the role.
    pub(super) fn domain_names(&self) -> &BTreeSet<String> {
        &self.members.domains
    }

    /// Whether the role is one of this person: exact names, nothing folded (but the case of a domain).
    pub(super) fn is_of(&self, person: Person<'_>) -> bool {
        self.by(person).is_some()
    }

    /// What makes somebody a member.
    pub(super) fn by(&self, person: Person<'_>) -> Option<String> {
        self.members.by(person)
    }

    /// Whether the role is also for whoever Kubernetes RBAC lets in.
    pub(super) fn is_by_rbac(&self) -> bool {
        self.members.rbac
    }

    /// Whether the admins of a namespace may lend the role.
    pub(super) fn is_grantable(&self) -> bool {
        self.members.grantable
    }

    /// Whether objects of this namespace may lend the role.
    pub(super) fn is_lent_in(&self, namespace: &str) -> bool {
        let named = |globs: &GlobSet| globs.is_match(namespace);
        self.is_grantable() && self.lending.namespaces.as_ref().is_none_or(named)
    }

    /// Whether this person may be lent the role, wherever it may be lent.
    pub(super) fn is_lent_to(&self, person: Person<'_>) -> bool {
        let to = &self.lending.to;
        to.as_ref().is_none_or(|members| members.by(person).is_some())
    }

    /// Whether there can be members whom the policy does not know, because others let them in.
    pub(super) fn is_by_word(&self) -> bool {
        self.is_by_rbac() || self.is_grantable()
    }

    /// Whether the role opens a workspace at all: one that allows nothing is about recordings alone.
    pub(super) fn opens(&self) -> bool {
        self.capabilities != Capabilities::default()
    }

    /// Whether the role holds for this workspace and person.
    pub(super) fn holds_for(&self, workspace: &Workspace, person: Person<'_>) -> bool {
        self.covers(workspace.name.as_str(), workspace.owner.as_deref(), person)
    }

    /// Whether the role is for workspaces of this name.
    pub(super) fn names(&self, workspace: &str) -> bool {
        self.workspaces.as_ref().is_none_or(|globs| globs.is_match(workspace))
    }

    /// The same for a workspace that may be gone, known by its name.
    pub(super) fn covers(&self, workspace: &str, owner: Option<&str>, person: Person<'_>) -> bool {
        // Both are looked at, so that both answers take the same work.
        let named = self.names(workspace);
        let assigned = person.workspaces.iter().any(|one| one.as_str() == workspace);
        // A workspace that names its owner is nobody else's, whatever a token says.
        let owned = !self.owner || owner.map_or(assigned, |owner| owner == person.user);
        named & owned
    }
}

impl Members {
    /// By what it names the person.
    fn by(&self, person: Person<'_>) -> Option<String> {
        let Self {
            groups,
            emails,
            domains,
            rbac: _,
            grantable: _,
        } = self;
        if let Some(group) = groups.intersection(person.groups).next() {
            return Some(format!("the group `{group}`"));
        }
        let email = person.email?;
        if emails.contains(email) {
            return Some(format!("the e-mail address `{email}`"));
        }
        let domain = domains.get(email.domain())?;
        Some(format!("the e-mail domain `{domain}`"))
    }
}

fn read_role(section: &Section<'_>) -> Option<Role> {
    let name = section.required("name", text);
    let members = read_members(section);
    let lending = section.section("lending", read_lending);
    if section.has("lending") && members.as_ref().is_some_and(|members| !members.grantable) {
        section.fault_at("lending", "`lending` is about a role with `grantable = true`");
    }
    let workspaces = section.optional("workspaces", |value| globs(&list(text)(value)?));
    let owner = section.or("owner", false, flag);
    if !section.has("workspaces") && !owner {
        section.fault("a role needs `workspaces`, or `owner = true`, or both (then both must hold)");
    }
    let may = section.or("may", Vec::new(), list(right));
    let capabilities = section.required("allow", |value| capabilities(&list(text)(value)?));
    let login = section.optional("login", self::name::<Login>);
    let longest = section.or(
        "longest",
        USUAL_LONGEST,
        duration(Duration::from_secs(1), LONGEST_OF_ALL),
    );
    let keep_awake = section.or("keep", Duration::ZERO, duration(Duration::ZERO, LONGEST_OF_ALL));
    let recordings = section.or("recordings", RecordingsRight::Own, |value| {
        match text(value)?.as_str() {
            "none" => Ok(RecordingsRight::None),
            "own" => Ok(RecordingsRight::Own),
            "all" => Ok(RecordingsRight::All),
            _ => Err("must be \"none\", \"own\" or \"all\"".to_owned()),
        }
    });
    let by_word = members.as_ref().and_then(|members| match members {
        Members { rbac: true, .. } => Some("rbac"),
        Members { grantable: true, .. } => Some("grantable"),
        _ => None,
    });
    if let Some(word) = by_word {
        // Kubernetes is asked about entering, and about nothing else.
        if !may.is_empty() {
            section.fault_at(
                "may",
                format!("a role with `{word}` gives no rights over others: they need members by name"),
            );
        }
        if recordings == RecordingsRight::All {
            section.fault_at(
                "recordings",
                format!("a role with `{word}` opens nobody else's recordings: that needs members by name"),
            );
        }
    }
    let break_glass = section.or("break-glass", false, flag);
    if break_glass && members.as_ref().is_some_and(|members| members.grantable) {
        section.fault_at("grantable", "a role with `break-glass` is the policy's alone to give");
    }
    if break_glass {
        for key in ["may", "recordings", "keep"] {
            if section.has(key) {
                section.fault_at(
                    key,
                    format!("a role with `break-glass` opens workspaces and nothing else: no `{key}`"),
                );
            }
        }
        if capabilities
            .as_ref()
            .is_some_and(|allowed| *allowed == Capabilities::default())
        {
            section.fault_at("allow", "a role with `break-glass` must open something");
        }
    }
    let (recording, keep) = read_recording(section, break_glass);
    Some(Role {
        name: name?,
        members: members?,
        lending: if section.has("lending") {
            lending?
        } else {
            Lending::default()
        },
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
        keep,
        keep_awake,
        recordings,
        break_glass,
        may: may.into_iter().collect(),
    })
}

fn read_recording(section: &Section<'_>, break_glass: bool) -> (Recording, Option<Duration>) {
    let usual = Recording {
        mode: match break_glass {
            true => RecordingMode::BestEffort,
            false => RecordingMode::Strict,
        },
        ..Recording::default()
    };
    let read = |recording: &Section<'_>| {
        let read = Recording {
            input: recording.or("input", usual.input, flag),
            bulk_limit: recording.or("bulk-limit", usual.bulk_limit, bytes),
            mode: recording.or("mode", usual.mode, mode),
            unacked: recording.or("unacked", usual.unacked, bytes),
            stall: recording.or("stall", usual.stall, duration(LEAST_STALL, Recording::LONGEST_STALL)),
        };
        if read.unacked > MOST_UNACKED {
            recording.fault_at("unacked", "at most 8 MiB of a record may wait to be stored");
        }
        if read.stall.subsec_nanos() > 0 {
            recording.fault_at("stall", "must be whole seconds");
        }
        if break_glass && read.mode == RecordingMode::Strict {
            recording.fault_at(
                "mode",
                "a role with `break-glass` is for when nothing can be stored: \"best-effort\"",
            );
        } else if read.mode == RecordingMode::BestEffort && read.unacked == 0 {
            recording.fault_at(
                "unacked",
                "0 shows nothing that is not stored, and \"best-effort\" goes on without: one or the other",
            );
        }
        let keep = recording.optional("keep", duration(Duration::from_secs(1), LONGEST_KEEP));
        Some((read, keep))
    };
    section.section("recording", read).unwrap_or((usual, None))
}

fn mode(value: &DeValue<'_>) -> Result<RecordingMode, String> {
    let modes = [RecordingMode::Strict, RecordingMode::BestEffort];
    let text = text(value)?;
    let found = modes.into_iter().find(|mode| mode.as_str() == text);
    found.ok_or_else(|| "must be \"strict\" or \"best-effort\"".to_owned())
}

fn read_members(section: &Section<'_>) -> Option<Members> {
    let named = read_named(section);
    let rbac = section.or("rbac", false, flag);
    let grantable = section.or("grantable", false, flag);
    if !names_people(section) && !rbac && !grantable {
        section.fault("a role needs members: `groups`, `emails`, `email-domains`, `rbac = true` or `grantable = true`");
    }
    Some(Members {
        rbac,
        grantable,
        ..named
    })
}

/// `[role.lending]`: in which namespaces a role may be lent, and to whom.
fn read_lending(section: &Section<'_>) -> Option<Lending> {
    let namespaces = section.optional("namespaces", |value| globs(&list(text)(value)?));
    let to = read_named(section);
    if !section.has("namespaces") && !names_people(section) {
        section.fault("bounds nothing: name `namespaces`, or people by `groups`, `emails` or `email-domains`");
    }
    Some(Lending {
        namespaces: if section.has("namespaces") {
            Some(namespaces?)
        } else {
            None
        },
        to: names_people(section).then_some(to),
    })
}

const PEOPLE: [&str; 3] = ["groups", "emails", "email-domains"];

fn names_people(section: &Section<'_>) -> bool {
    PEOPLE.into_iter().any(|key| section.has(key))
}

/// People, as they are named.
fn read_named(section: &Section<'_>) -> Members {
    let groups = section.optional("groups", list(text));
    let emails = section.optional("emails", list(email));
    let domains = section.optional("email-domains", list(domain));
    let empty = [
        groups.as_ref().is_some_and(Vec::is_empty),
        emails.as_ref().is_some_and(Vec::is_empty),
        domains.as_ref().is_some_and(Vec::is_empty),
    ];
    for (key, empty) in PEOPLE.into_iter().zip(empty) {
        if empty {
            section.fault_at(key, format!("`{key}` must name at least one"));
        }
    }
    Members {
        groups: groups.unwrap_or_default().into_iter().collect(),
        emails: emails.unwrap_or_default().into_iter().collect(),
        domains: domains.unwrap_or_default().into_iter().collect(),
        ..Members::default()
    }
}

fn email(value: &DeValue<'_>) -> Result<Email, String> {
    let text = text(value)?;
    Email::parse(&text).ok_or_else(|| format!("`{}` is no e-mail address", text.escape_debug()))
}

fn right(value: &DeValue<'_>) -> Result<Right, String> {
    match text(value)?.as_str() {
        "kill" => Ok(Right::Kill),
        "lock" => Ok(Right::Lock),
        "explain" => Ok(Right::Explain),
        "hold" => Ok(Right::Hold),
        other => Err(format!(
            "`{}` is no right (known: kill, lock, explain, hold)",
            other.escape_debug()
        )),
    }
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

/// Capabilities by their words.
///
/// # Errors
/// What is none, in a sentence.
pub(crate) fn capabilities(words: &[String]) -> Result<Capabilities, String> {
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
            "remote-forward" => all.remote_forward = all.remote_forward.max(RemoteForward::Loopback),
            "remote-forward:any" => all.remote_forward = RemoteForward::Any,
            other => match other.strip_prefix("forward-to:") {
                Some(destination) => all.local_forward.push(forward(destination)?),
                None => {
                    return Err(format!(
                        "`{}` is no capability (known: shell, exec, pty, sftp:read, sftp:read-write, agent-forwarding, \
                         x11-forwarding, remote-forward, remote-forward:any, forward-to:HOST:PORT, forward-to:unix:PATH)",
                        other.escape_debug()
                    ));
                }
            },
        }
    }
    Ok(all)
}

/// A destination of forwards: `host:port`, either may be `*`, or `unix:` and the path of a socket.
fn forward(destination: &str) -> Result<String, String> {
    match is_destination(destination) {
        true => Ok(destination.to_owned()),
        false => Err(format!(
            "`forward-to:{}` is not of the form forward-to:HOST:PORT or forward-to:unix:/PATH",
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

/// The shortest wait for an acknowledgement that a role may say.
const LEAST_STALL: Duration = Duration::from_secs(1);
/// The most unacknowledged bytes that a role may say: what the gateway holds for one session while its disk is slow is twice
/// as much.
const MOST_UNACKED: u64 = 8 * 1024 * 1024;
/// The longest that a role may have recordings kept, other than for ever: a hundred years.
const LONGEST_KEEP: Duration = Duration::from_secs(100 * 366 * 86_400);
/// How long a session may last if the role does not say.
const USUAL_LONGEST: Duration = Duration::from_secs(12 * 3600);
/// The longest that a role may say; what a certificate can carry.
const LONGEST_OF_ALL: Duration = Duration::from_secs(30 * 86_400);
