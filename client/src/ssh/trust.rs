//! Which authorities this computer believes workspaces by: those that it knows, and never silently another.
//!
//! The gateway says which there are, and a gateway that was taken over would name its own: then `ssh` would take it for every workspace. So
//! what it says is taken once, when the computer meets the gateway; later a host CA that is new is left out until somebody who was told
//! its fingerprint says so.

use doorward_certs::fingerprint;

use crate::error::Error;
use crate::gateway::CaLines;
use crate::home::{Home, private};
use crate::{login, say};

/// Writes the CA keys where `ssh` and `verify` look; a host CA that is new only if `accepted` names it, but the first time, and where
/// somebody has just turned to this gateway (`new_gateway`).
pub(crate) fn remember(home: &Home, said: &CaLines, accepted: &[String], new_gateway: bool) -> Result<(), Error> {
    let known = match new_gateway {
        true => None,
        false => known(home)?,
    };
    let (trust, unknown) = judge(known, said, accepted)?;
    let text = serde_json::to_string_pretty(&trust).map_err(|error| Error::Configuration(error.to_string()))?;
    private::write_changed(&home.trust(), format!("{text}\n").as_bytes())?;
    private::write_changed(&home.known_hosts(), known_hosts(&trust)?.as_bytes())?;
    for fingerprint in unknown {
        say::note(&format!(
            "the gateway names a host authority that this computer does not know, {fingerprint}: workspaces that show it are refused"
        ));
        say::line(&format!(
            "hint: ask your platform team whether it is theirs; if so: doorward config --write --trust-host-ca {fingerprint}"
        ));
    }
    Ok(())
}

/// What is trusted from now on, and the fingerprints of what is not.
fn judge(known: Option<CaLines>, said: &CaLines, accepted: &[String]) -> Result<(CaLines, Vec<String>), Error> {
    let offered = said.host_keys().map_err(Error::Configuration)?;
    let Some(known) = known else {
        return Ok((said.clone(), Vec::new()));
    };
    let old = known.host_keys().map_err(Error::Configuration)?;
    let (mut host_ca, mut unknown) = (Vec::new(), Vec::new());
    for key in &offered {
        let print = fingerprint(key);
        if old.iter().any(|one| one.key_data() == key.key_data()) || accepted.contains(&print) {
            let line = key.to_openssh();
            host_ca.push(line.map_err(|error| Error::Configuration(format!("a CA key cannot be written: {error}")))?);
        } else {
            unknown.push(print);
        }
    }
    if host_ca.is_empty() {
        // It names none of those that are known: what it says counts for nothing, and what was true stays.
        host_ca.clone_from(&known.host_ca);
    }
    let user_ca = said.user_ca.clone();
    Ok((CaLines { host_ca, user_ca }, unknown))
}

/// What was written last, if anything was.
fn known(home: &Home) -> Result<Option<CaLines>, Error> {
    let file = home.trust();
    match file.exists() {
        true => login::stored_trust(&file).map(Some),
        false => Ok(None),
    }
}

/// One `@cert-authority` line for each key of the host CA. The pattern is `*` because only our hosts are looked up
/// in this file; which host a certificate is for is in its principals.
fn known_hosts(trust: &CaLines) -> Result<String, Error> {
    let keys = trust.host_keys().map_err(Error::Configuration)?;
    let mut text = String::from("# Written by doorward. Workspaces show certificates of these authorities.\n");
    for key in keys.iter() {
        // The comment is dropped: only the key is what was checked.
        let mut key = key.clone();
        key.set_comment("");
        let key = key
            .to_openssh()
            .map_err(|error| Error::Configuration(format!("a CA key cannot be written: {error}")))?;
        text.push_str(&format!("@cert-authority * {}\n", key.trim_end()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use doorward_certs::HostKey;

    use super::*;

    fn line() -> String {
        HostKey::generate().unwrap().public_key().to_openssh().unwrap()
    }

    fn lines(host_ca: &[&String]) -> CaLines {
        CaLines {
            host_ca: host_ca.iter().map(|&one| one.clone()).collect(),
            user_ca: Vec::new(),
        }
    }

    #[test]
    fn a_new_authority_is_taken_the_first_time_and_later_by_its_fingerprint_alone() {
        let (old, new) = (line(), line());
        let judged = |known: Option<&[&String]>, said: &[&String], accepted: &[String]| {
            let (trust, unknown) = judge(known.map(lines), &lines(said), accepted).unwrap();
            let keys: Vec<String> = trust
                .host_keys()
                .unwrap()
                .iter()
                .map(|key| key.to_openssh().unwrap())
                .collect();
            (keys, unknown)
        };
        let fingerprint = fingerprint(lines(&[&new]).host_keys().unwrap().iter().next().unwrap());
        let none: &[String] = &[];
        assert_eq!(judged(None, &[&old], none), (vec![old.clone()], vec![]));
        assert_eq!(judged(Some(&[&old]), &[&old], none), (vec![old.clone()], vec![]));
        // A gateway in other hands, alone and beside the truth.
        let refused = (vec![old.clone()], vec![fingerprint.clone()]);
        assert_eq!(judged(Some(&[&old]), &[&new], none), refused);
        assert_eq!(judged(Some(&[&old]), &[&old, &new], none), refused);
        // A rotation that was announced, and its end.
        let both = vec![old.clone(), new.clone()];
        assert_eq!(judged(Some(&[&old]), &[&old, &new], &[fingerprint]), (both, vec![]));
        assert_eq!(judged(Some(&[&old, &new]), &[&new], none), (vec![new.clone()], vec![]));
        assert!(judge(Some(lines(&[&old])), &lines(&[]), none).is_err());
    }

    #[test]
    fn known_hosts_holds_keys_and_no_comment() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJhKZxCbBHEVDkFJXIOXZ8qKDDwMGBJF9FH7n4PVJHuq";
        let trust = CaLines {
            host_ca: vec![format!("{key} a comment")],
            user_ca: vec![],
        };
        let text = known_hosts(&trust).unwrap();
        assert_eq!(text.lines().nth(1).unwrap(), format!("@cert-authority * {key}"));
        assert_eq!(text.lines().count(), 2);
        for bad in [
            "",
            "# only a comment",
            "ssh-ed25519 nonsense",
            &format!("{key}\n* {key}"),
        ] {
            assert!(
                known_hosts(&CaLines {
                    host_ca: vec![bad.to_owned()],
                    user_ca: vec![]
                })
                .is_err(),
                "{bad}"
            );
        }
    }
}
