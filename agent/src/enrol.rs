//! What proves to the gateway which workspace this is: a join token, or a token of the pod's service account.
//!
//! Either is read anew each time and wiped after use; the agent keeps no copy and judges none. Who enrols at Vault
//! ([`vault`]) shows a gateway none of them.

pub(crate) mod vault;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use doorward_wire::message::{Enrol as Proof, MAX_TOKEN, Token};
use zeroize::Zeroizing;

use crate::config::Enrol;
use crate::workspace::Workspace;

/// The proof for an agent that has no good certificate.
pub(crate) fn first(workspace: &Workspace) -> Result<Proof, String> {
    match (&workspace.config.join_token_file, again(workspace)?) {
        (Some(file), _) => Ok(Proof {
            token: read(file).map_err(|why| format!("cannot read the join token in {}: {why}", file.display()))?,
            service_account_token: None,
        }),
        (None, Some(proof)) => Ok(proof),
        (None, None) => Err("there is no host certificate, no join token and no [enrol]".to_owned()),
    }
}

/// The proof for a renewal, where a good certificate is not enough: a pod shows again that it is still the one.
pub(crate) fn again(workspace: &Workspace) -> Result<Option<Proof>, String> {
    let Some(Enrol::Gateway { token_file: file }) = &workspace.shared.enrol else {
        return Ok(None);
    };
    let token =
        read(file).map_err(|why| format!("cannot read the service account's token in {}: {why}", file.display()))?;
    Ok(Some(Proof {
        token: Token::default(),
        service_account_token: Some(token),
    }))
}

fn read(file: &Path) -> Result<Token, String> {
    // Room for all of it: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_TOKEN + 2));
    let opened = File::open(file).map_err(|error| error.to_string())?;
    let most = MAX_TOKEN as u64 + 1;
    opened
        .take(most)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        _ if text.len() > MAX_TOKEN => Err(format!("it is longer than {MAX_TOKEN} bytes")),
        token => Ok(Token::new(token)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        for (text, wanted) in [
            ("abc\n".to_owned(), Ok("abc".to_owned())),
            ("x".repeat(MAX_TOKEN), Ok("x".repeat(MAX_TOKEN))),
            ("x".repeat(MAX_TOKEN + 1), Err("longer")),
            (" \n".to_owned(), Err("empty")),
        ] {
            std::fs::write(&file, text).unwrap();
            match (read(&file), wanted) {
                (Ok(token), Ok(wanted)) => assert_eq!(token.reveal(), wanted),
                (Err(why), Err(wanted)) => assert!(why.contains(wanted), "{why}"),
                (got, wanted) => panic!("{got:?}, not {wanted:?}"),
            }
        }
        assert!(read(&folder.path().join("none")).is_err());
    }
}
