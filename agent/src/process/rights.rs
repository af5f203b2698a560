//! Doing something in the file system or with sockets as the account would: with its rights, and no others.
//!
//! A root agent takes the account's effective identity on a thread or task made for the purpose, which ends with it; no
//! other ever has it. The real identity stays root, so that processes of the account can neither signal nor
//! trace it, while every check of the kernel, and every peer that asks who is there, sees the account.

use std::io;

use super::Account;
use super::root::{inside, on_own_thread};
use super::syscall::{self, Identity};

/// Runs this with the account's rights, where blocking is allowed. It must be short: nobody can interrupt it.
pub(crate) async fn with_rights_of<T, F>(account: &Account, act: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    if !account.switch || account.uid.is_root() {
        let root = account.root.clone();
        return inside(account.root.clone(), move || {
            // Root of that container may lack what the agent has.
            root.map_or(Ok(()), |root| root.bounds.keep_to())?;
            act()
        })
        .await;
    }
    let identity = Identity {
        uid: account.uid,
        gid: account.gid,
        groups: account.groups.clone(),
    };
    let act = move || syscall::take_rights(&identity).and_then(|()| act());
    match account.root.clone() {
        Some(root) => inside(Some(root), act).await,
        None => on_own_thread(act).await,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use nix::unistd::{Gid, Uid, User};

    use super::*;
    use crate::process::Overrides;

    #[tokio::test]
    async fn what_is_made_belongs_to_the_account_and_the_agent_stays_what_it_is() {
        let me = Uid::effective();
        let login = if me.is_root() { "daemon" } else { "" };
        let account = match login {
            "" => Account::find(&User::from_uid(me).unwrap().unwrap().name, &Overrides::default()),
            other => Account::find(other, &Overrides::default()),
        }
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(folder.path(), Some(account.uid.as_raw()), Some(account.gid.as_raw())).unwrap();
        let file = folder.path().join("made");
        let path = file.clone();
        let seen = with_rights_of(&account, move || {
            std::fs::write(&path, b"")?;
            Ok((Uid::effective(), Gid::effective(), nix::unistd::getgroups()?))
        })
        .await
        .unwrap();
        assert_eq!((seen.0, seen.1), (account.uid, account.gid));
        assert_eq!(std::fs::metadata(&file).unwrap().uid(), account.uid.as_raw());
        assert_eq!(Uid::effective(), me);
        if me.is_root() {
            assert!(!seen.2.contains(&Gid::from_raw(0)), "{:?}", seen.2);
            let hidden = folder.path().join("root-only");
            std::fs::write(&hidden, b"x").unwrap();
            std::fs::set_permissions(&hidden, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            let read = with_rights_of(&account, move || std::fs::read(hidden)).await;
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
    }
}
