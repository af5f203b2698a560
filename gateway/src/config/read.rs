//! From the file's text to [`Config`]: each section read in full, each fault kept.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use doorward_certs::{
    Login, WorkspaceName, WorkspaceUid, is_name_pattern,
    vault::{HostCertificates, SignAs},
};
use toml::de::DeValue;
use url::Host;

use super::{
    Admin, Authority, AuthorityKind, Authorize, Config, Limits, Link, Listen, PolicyFile, Session, anchor, authorize,
    document::{Document, Fault, Faults, Section, count, duration, list, name, parsed, text},
    export, issuer, kubernetes, records, secret_file, token_review, vault,
};
use crate::{
    listen, policy,
    workspace::{Enrolment, Life, Notes, State, Workspace},
};

impl Config {
    /// Reads and checks the file, and the files that it names: keys, certificates, the policy.
    ///
    /// # Errors
    /// Every fault, each with its file and line.
    pub fn load(file: &Path) -> Result<Self, Faults> {
        let text = fs::read_to_string(file)
            .map_err(|error| Faults(vec![Fault::of_file(file, format!("cannot be read: {error}"))]))?;
        let base = file.parent().unwrap_or(Path::new(""));
        let mut faults = Vec::new();
        let config = match Document::new(file, &text).read(|top| read(top, base, &mut faults)) {
            Ok(config) => Some(config),
            Err(Faults(own)) => {
                faults.splice(0..0, own);
                None
            }
        };
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(Faults(faults)),
        }
    }
}

/// How many patterns of workspaces' names there may be: each is in everybody's ssh configuration.
const MOST_NAME_PATTERNS: usize = 32;

fn name_pattern(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    match is_name_pattern(&text) {
        true => Ok(text),
        false => Err(format!(
            "`{}` is no pattern of names: at least two of a-z, 0-9 and -, then one *, such as `devenv-*`",
            text.escape_debug()
        )),
    }
}

/// Reads the whole; `others` takes the faults of the files that it names.
fn read(top: &Section<'_>, base: &Path, others: &mut Vec<Fault>) -> Option<Config> {
    let state_directory = top.required("state-directory", path(base));
    let workspace_names = top.or("workspace-names", Vec::new(), list(name_pattern));
    if workspace_names.len() > MOST_NAME_PATTERNS {
        top.fault_at(
            "workspace-names",
            format!("has more than {MOST_NAME_PATTERNS} patterns"),
        );
    }
    let listen = top.required_section("listen", |section| read_listen(section, base, others));
    let admin = top.section("admin", read_admin);
    let oidc = issuer::read_all(top, base, others);
    let alone = oidc.as_ref().is_some_and(Vec::is_empty);
    let token_review = top.section("token-review", |section| token_review::read(section, alone));
    if top.has("token-review") && !top.has("kubernetes") {
        top.fault_at(
            "token-review",
            "[token-review] asks the API server of [kubernetes], which is missing",
        );
    }
    let authority = top.required_section("authority", |section| read_authority(section, base));
    let link = top.required_section("link", |section| read_link(section, base));
    let records = top.required_section("records", |section| records::read(section, base));
    let anchor = top.section("journal", |section| section.section("anchor", anchor::read));
    let exports = export::read_all(top, base);
    let policy = top.required_section("policy", |section| read_policy(section, base, others));
    let limits = match top.has("limits") {
        true => top.section("limits", |section| Some(read_limits(section))),
        false => Some(Limits::default()),
    };
    let session = match top.has("session") {
        true => top.section("session", |section| Some(read_session(section))),
        false => Some(Session::default()),
    };
    let kubernetes = top.section("kubernetes", |section| kubernetes::read(section, base));
    let authorize = match (top.has("authorize"), top.has("kubernetes")) {
        (false, _) => Some(Authorize::default()),
        (true, false) => {
            top.fault_at(
                "authorize",
                "[authorize] asks the API server of [kubernetes], which is missing",
            );
            None
        }
        (true, true) => top.section("authorize", |section| {
            let rules = kubernetes
                .as_ref()
                .map(|one| one.workspaces.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>());
            authorize::read(section, rules.as_deref())
        }),
    };
    let mut kubernetes = kubernetes;
    if let (Some(kubernetes), Some(authorize)) = (&mut kubernetes, &authorize) {
        let heard = kubernetes.workspaces.iter_mut();
        for rule in heard.filter(|rule| authorize.access.contains(&rule.name)) {
            // Their selectors may ask for any.
            rule.kept.every_label = true;
        }
    }
    let workspaces = top.sections("workspace", |section| read_workspace(section, base));
    for twice in repeated(workspaces.iter().map(|one| one.name.as_str())) {
        top.fault_at("workspace", format!("the workspace `{twice}` is there more than once"));
    }
    let lives = workspaces.iter().filter_map(|one| one.life.as_ref());
    for twice in repeated(lives.map(|life| life.uid.as_str())) {
        top.fault_at(
            "workspace",
            format!("the uid `{twice}` belongs to more than one workspace"),
        );
    }
    if let Some(AuthorityKind::Vault(vault)) = authority.as_ref().map(|authority| &authority.kind)
        && vault.hosts == HostCertificates::Agents
    {
        for one in &workspaces {
            if one
                .life
                .as_ref()
                .is_some_and(|life| life.enrolment.join_token().is_some())
            {
                let text = "has a join-token-file, and with `host-certificates = \"agents\"` this gateway gives out no certificate";
                top.fault_at("workspace", format!("`{}` {text}", one.name));
            }
        }
    }
    if let Some(AuthorityKind::Vault(vault)) = authority.as_ref().map(|authority| &authority.kind)
        && matches!(vault.sign_as, SignAs::User { .. })
        && top.has("token-review")
    {
        let text =
            "with `sign-as = \"user\"` Vault has to know whose a token is, and it cannot read those of [token-review]";
        top.fault_at("token-review", text);
    }
    Some(Config {
        state_directory: state_directory?,
        workspace_names,
        listen: listen?,
        admin: match top.has("admin") {
            true => admin?,
            false => Admin {
                address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9443),
            },
        },
        oidc: oidc?,
        token_review,
        authority: authority?,
        link: link?,
        records: records?,
        anchor,
        exports,
        policy: policy?,
        authorize: authorize?,
        session: session?,
        limits: limits?,
        kubernetes,
        workspaces,
    })
}

fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
}

fn read_listen(section: &Section<'_>, base: &Path, others: &mut Vec<Fault>) -> Option<Listen> {
    let address = section.required("address", parsed::<SocketAddr>);
    let certificate = section.required("certificate", existing(base));
    let key = section.required("key", secret(base));
    let names = section.or("names", Vec::new(), list(host));
    let reload_interval = section.or("reload-interval", RELOAD, duration(MOMENT, HOUR));
    if let (Some(certificate), Some(key)) = (&certificate, &key)
        && let Err(error) = listen::certificate::load(certificate, key)
    {
        others.push(Fault::of_file(error.file(), error.to_string()));
    }
    Some(Listen {
        address: address?,
        certificate: certificate?,
        key: key?,
        names,
        reload_interval,
    })
}

fn read_admin(section: &Section<'_>) -> Option<Admin> {
    Some(Admin {
        address: section.required("address", parsed::<SocketAddr>)?,
    })
}

fn read_session(section: &Section<'_>) -> Session {
    let usual = Session::default();
    Session {
        recheck_interval: section.or("recheck-interval", usual.recheck_interval, duration(MOMENT, HOUR)),
        renew_grace: section.or("renew-grace", usual.renew_grace, duration(MOMENT, DAY)),
    }
}

fn read_authority(section: &Section<'_>, base: &Path) -> Option<Authority> {
    let certificate_life = section.or(
        "certificate-life",
        Duration::from_secs(180),
        duration(Duration::from_secs(10), HOUR),
    );
    let local = section.section("local", |local| {
        let certificate_life = local.optional("certificate-life", duration(Duration::from_secs(10), HOUR));
        let user_ca = local.required("user-ca", secret(base));
        let host_ca = local.required("host-ca", secret(base));
        Some((
            certificate_life,
            AuthorityKind::Local {
                user_ca: user_ca?,
                host_ca: host_ca?,
            },
        ))
    });
    let vault = section.section("vault", |section| vault::read(section, base));
    let (own_life, kind) = match (section.has("local"), section.has("vault")) {
        (true, false) => local?,
        (false, true) => (None, AuthorityKind::Vault(Box::new(vault?))),
        (true, true) => {
            section.fault_at("vault", "there is [authority.local] as well; one authority alone signs");
            return None;
        }
        (false, false) => {
            section.fault("the section [authority.local] or [authority.vault] is missing");
            return None;
        }
    };
    Some(Authority {
        certificate_life: own_life.unwrap_or(certificate_life),
        kind,
    })
}

fn read_link(section: &Section<'_>, base: &Path) -> Option<Link> {
    let key = section.required("key", |value| {
        let file = path(base)(value)?;
        // The key is made at the first start.
        if file.exists() {
            secret_file::check(&file).map_err(|sentence| format!("{} {sentence}", file.display()))?;
        }
        Ok(file)
    });
    Some(Link { key: key? })
}

fn read_policy(section: &Section<'_>, base: &Path, others: &mut Vec<Fault>) -> Option<PolicyFile> {
    let file = section.required("file", existing(base));
    let reload_interval = section.or("reload-interval", RELOAD, duration(MOMENT, HOUR));
    if let Some(file) = &file
        && let Err(Faults(faults)) = policy::Roles::load(file)
    {
        others.extend(faults);
    }
    Some(PolicyFile {
        file: file?,
        reload_interval,
    })
}

fn read_limits(section: &Section<'_>) -> Limits {
    let usual = Limits::default();
    let limits = Limits {
        unauthenticated: section.or("unauthenticated", usual.unauthenticated, count(1_000_000)),
        unauthenticated_per_address: section.or(
            "unauthenticated-per-address",
            usual.unauthenticated_per_address,
            count(1_000_000),
        ),
        sessions: section.or("sessions", usual.sessions, count(1_000_000)),
        sessions_per_user: section.or("sessions-per-user", usual.sessions_per_user, count(1_000_000)),
        drain: section.or("drain", usual.drain, duration(Duration::ZERO, DAY)),
        tls_handshake: section.or("tls-handshake", usual.tls_handshake, duration(MOMENT, MINUTE)),
        request_header: section.or("request-header", usual.request_header, duration(MOMENT, MINUTE)),
    };
    if limits.unauthenticated_per_address > limits.unauthenticated {
        section.fault_at(
            "unauthenticated-per-address",
            "`unauthenticated-per-address` must not exceed `unauthenticated`",
        );
    }
    limits
}

fn read_workspace(section: &Section<'_>, base: &Path) -> Option<Workspace> {
    let name = section.required("name", name::<WorkspaceName>);
    let uid = section.required("uid", self::name::<WorkspaceUid>);
    let address = section.required("address", host_and_port);
    let login = section.required("login", self::name::<Login>);
    let owner = section.optional("owner", text);
    // The file goes away once the agent is enrolled, so that it may be missing.
    let join_token_file = section.optional("join-token-file", |value| {
        let file = path(base)(value)?;
        if file.exists() {
            secret_file::check(&file).map_err(|sentence| format!("{} {sentence}", file.display()))?;
        }
        Ok(file)
    });
    Some(Workspace {
        name: name?,
        login: login?,
        owner,
        place: None,
        state: State::Running,
        life: Some(Life {
            uid: uid?,
            address: address?,
            enrolment: join_token_file.map_or(Enrolment::None, Enrolment::JoinToken),
        }),
        notes: Notes::default(),
    })
}

pub(super) fn path(base: &Path) -> impl Fn(&DeValue<'_>) -> Result<PathBuf, String> {
    move |value| text(value).map(|text| base.join(text))
}

pub(super) fn existing(base: &Path) -> impl Fn(&DeValue<'_>) -> Result<PathBuf, String> {
    move |value| {
        let file = path(base)(value)?;
        fs::File::open(&file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
        Ok(file)
    }
}

pub(super) fn secret(base: &Path) -> impl Fn(&DeValue<'_>) -> Result<PathBuf, String> {
    move |value| {
        let file = path(base)(value)?;
        secret_file::check(&file).map_err(|sentence| format!("{} {sentence}", file.display()))?;
        Ok(file)
    }
}

fn host(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    match Host::parse(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(format!("`{}` is no host: {error}", text.escape_debug())),
    }
}

fn host_and_port(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    let good = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| port.parse::<u16>().is_ok_and(|port| port != 0) && Host::parse(host).is_ok());
    if good {
        Ok(text)
    } else {
        Err(format!("`{}` is not of the form host:port", text.escape_debug()))
    }
}

pub(super) const MOMENT: Duration = Duration::from_millis(10);
const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
const RELOAD: Duration = Duration::from_secs(5);
