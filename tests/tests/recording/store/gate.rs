//! A gateway of a test's own in front of a stand's agent: with its own roles, and with a bucket behind it or without.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use doorward_dev::parts::S3;
use doorward_dev::stack::ClientFolder;
use serde_json::Value;
use tests::second::Second;
use tests::{Outcome, Stand, feed};
use tokio::process::Command;
use toml::Table;

use super::PLACE;

/// The bucket behind a gateway.
pub(crate) struct Behind<'b> {
    pub(crate) s3: &'b S3,
    /// Its address, or that of a proxy before it.
    pub(crate) url: String,
    pub(crate) bucket: &'b str,
    /// More lines of `[records.s3]`.
    pub(crate) more: &'b str,
}

/// Starts it in a folder of this name.
pub(crate) async fn gate(stand: &Stand, name: &str, roles: &str, behind: Option<Behind<'_>>) -> Result<Second> {
    gate_with(stand, name, roles, behind, "").await
}

/// The same with more lines of its configuration.
pub(crate) async fn gate_with(
    stand: &Stand,
    name: &str,
    roles: &str,
    behind: Option<Behind<'_>>,
    more: &str,
) -> Result<Second> {
    let folder = stand.folder().join(name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("policy.toml"), roles)?;
    Second::start_with(stand, PLACE.program, name, |config| {
        section(config, "policy")?.insert("file".to_owned(), "policy.toml".into());
        config.extend(more.parse::<Table>()?);
        let Some(behind) = behind else { return Ok(()) };
        let mut s3: Table = behind.more.parse()?;
        let (access_key, secret_key) = behind.s3.key_files();
        let ca = behind.s3.ca_file().map(|file| ("ca", text(file)));
        let keys = [("access-key-file", access_key), ("secret-key-file", secret_key)];
        s3.extend(keys.map(|(key, file)| (key.to_owned(), text(&file).into())));
        s3.extend(ca.map(|(key, file)| (key.to_owned(), file.into())));
        s3.insert("endpoint".to_owned(), behind.url.into());
        s3.insert("bucket".to_owned(), behind.bucket.into());
        section(config, "records")?.insert("s3".to_owned(), s3.into());
        Ok(())
    })
    .await
}

fn section<'c>(config: &'c mut Table, name: &str) -> Result<&'c mut Table> {
    let section = config.get_mut(name).and_then(toml::Value::as_table_mut);
    section.with_context(|| format!("no [{name}]"))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// `ssh` into a workspace with somebody's configuration, all its streams in our hands.
pub(crate) fn ssh(client: &ClientFolder, workspace: &str, remote: &str) -> Command {
    let mut command = Command::new("ssh");
    command.arg("-F").arg(client.ssh_config()).args([workspace, remote]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// `doorward ARGS` of somebody's.
pub(crate) async fn doorward(client: &ClientFolder, args: &[&str]) -> Result<Outcome> {
    feed(client.command(args), b"").await
}

/// The newest session that somebody sees.
pub(crate) async fn newest(client: &ClientFolder) -> Result<Option<Value>> {
    Ok(tests::sessions_of(client).await?.into_iter().next())
}

/// The folder of a session in a gateway's directory, if it is there.
pub(crate) fn local(gateway: &Second, session: &str) -> Result<Option<PathBuf>> {
    for day in fs::read_dir(gateway.state().join("records"))? {
        let folder = day?.path().join(session);
        if folder.is_dir() {
            return Ok(Some(folder));
        }
    }
    Ok(None)
}
