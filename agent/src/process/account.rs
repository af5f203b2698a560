//! The account that a session runs as.
//!
//! As root the agent becomes any account of the workspace; as an ordinary user it can only be itself, and says so.

use std::ffi::CString;
use std::path::PathBuf;
use std::sync::Arc;

use nix::unistd::{self, Gid, Uid, User};

use super::Root;

/// Who a session runs as.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    /// The login name.
    pub(crate) name: String,
    /// User id.
    pub(crate) uid: Uid,
    /// Primary group.
    pub(crate) gid: Gid,
    /// All groups, to be set when the identity is switched.
    pub(crate) groups: Vec<Gid>,
    /// Home folder; it need not exist.
    pub(crate) home: PathBuf,
    /// Login shell.
    pub(crate) shell: PathBuf,
    /// Whether the agent is root and must become this account. Root itself it need not become: a container's root may lack
    /// the right to, and has the groups that its pod gives it.
    pub(crate) switch: bool,
    /// The container that it is of, where that is not the agent's own.
    pub(crate) root: Option<Arc<Root>>,
}

/// What the configuration says about a workspace's account.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    /// The login that the agent's own uid answers to where it has no passwd entry.
    pub(crate) login: Option<String>,
    /// Home folder in place of the one in passwd.
    pub(crate) home: Option<PathBuf>,
    /// Shell in place of the one in passwd.
    pub(crate) shell: Option<PathBuf>,
}

/// Why a login cannot be had here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    /// There is no such account.
    #[error("there is no account '{0}' in this workspace")]
    Unknown(String),
    /// The agent is not root.
    #[error(
        "the agent runs as '{me}' (uid {uid}), not as root, and can open sessions for '{me}' only, not for '{login}'"
    )]
    NotSelf {
        /// What was granted.
        login: String,
        /// Who the agent is.
        me: String,
        /// Its uid.
        uid: Uid,
    },
    /// The account database could not be read.
    #[error("cannot look up the account '{login}': {source}")]
    Lookup {
        /// What was granted.
        login: String,
        /// Why not.
        source: nix::Error,
    },
}

impl Account {
    /// Finds the account for a granted login. Reads passwd and group: may block.
    pub(crate) fn find(login: &str, overrides: &Overrides) -> Result<Self, AccountError> {
        let me = Uid::effective();
        let lookup = |source| AccountError::Lookup {
            login: login.to_owned(),
            source,
        };
        let mut account = match listed(User::from_name(login)).map_err(lookup)? {
            Some(user) if me.is_root() => {
                let groups = CString::new(login)
                    .map_err(|_| nix::Error::EINVAL)
                    .and_then(|name| unistd::getgrouplist(&name, user.gid))
                    .map_err(lookup)?;
                let switch = user.uid != me;
                Self::from_entry(user, groups, switch)
            }
            Some(user) if user.uid == me => Self::from_entry(user, Vec::new(), false),
            found => match Self::own(me, overrides).map_err(lookup)? {
                Some(account) if account.name == login => account,
                _ if me.is_root() && found.is_none() => return Err(AccountError::Unknown(login.to_owned())),
                own => {
                    let me_name = own.map_or_else(|| me.to_string(), |account| account.name);
                    return Err(AccountError::NotSelf {
                        login: login.to_owned(),
                        me: me_name,
                        uid: me,
                    });
                }
            },
        };
        if let Some(home) = &overrides.home {
            account.home.clone_from(home);
        }
        if let Some(shell) = &overrides.shell {
            account.shell.clone_from(shell);
        }
        Ok(account)
    }

    /// The agent's own account: from passwd, or, for a uid that has no entry, as the configuration names it.
    fn own(me: Uid, overrides: &Overrides) -> Result<Option<Self>, nix::Error> {
        if let Some(user) = listed(User::from_uid(me))? {
            return Ok(Some(Self::from_entry(user, Vec::new(), false)));
        }
        let Some(name) = overrides.login.clone() else {
            return Ok(None);
        };
        let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let shell = std::env::var_os("SHELL").map_or_else(|| PathBuf::from(DEFAULT_SHELL), PathBuf::from);
        Ok(Some(Self {
            name,
            uid: me,
            gid: Gid::effective(),
            groups: Vec::new(),
            home,
            shell,
            switch: false,
            root: None,
        }))
    }

    fn from_entry(user: User, groups: Vec<Gid>, switch: bool) -> Self {
        let shell = if user.shell.as_os_str().is_empty() {
            PathBuf::from(DEFAULT_SHELL)
        } else {
            user.shell
        };
        Self {
            name: user.name,
            uid: user.uid,
            gid: user.gid,
            groups,
            home: user.dir,
            shell,
            switch,
            root: None,
        }
    }
}

/// An image may have no passwd at all, which musl's look-up calls an error and glibc's does not: nobody is listed there.
fn listed(found: Result<Option<User>, nix::Error>) -> Result<Option<User>, nix::Error> {
    match found {
        Err(nix::Error::ENOENT | nix::Error::ENOTDIR) => Ok(None),
        found => found,
    }
}

/// What an empty shell field in passwd means (passwd(5)).
const DEFAULT_SHELL: &str = "/bin/sh";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_login_is_found_and_overridden() {
        let me = User::from_uid(Uid::effective()).unwrap().unwrap();
        let overrides = Overrides {
            home: Some("/nowhere".into()),
            shell: Some("/bin/dash".into()),
            login: None,
        };
        let account = Account::find(&me.name, &overrides).unwrap();
        assert_eq!(
            (account.uid, account.home, account.shell),
            (me.uid, "/nowhere".into(), "/bin/dash".into())
        );
        assert!(!account.switch, "nobody has to become who they are");
    }

    #[test]
    fn a_login_that_does_not_exist_is_refused_with_its_name() {
        let error = Account::find("no-such-login", &Overrides::default()).unwrap_err();
        assert!(error.to_string().contains("no-such-login"), "{error}");
    }

    #[test]
    fn root_becomes_another_account_with_its_groups() {
        if !Uid::effective().is_root() {
            return;
        }
        let account = Account::find("daemon", &Overrides::default()).unwrap();
        assert!(account.switch && !account.uid.is_root());
        assert!(account.groups.contains(&account.gid));
    }
}
