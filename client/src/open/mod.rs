//! `doorward open`: an editor with its remote part in a workspace.
//!
//! The editor starts `ssh` by itself, so what it will find is looked at first: our block in the ssh configuration, a
//! workspace that the person may enter, and that it runs. Addresses are percent-encoded, and programs are started with
//! arguments; no shell reads any of it.

mod address;
mod editor;
mod start;

use crate::cli::OpenArgs;
use crate::error::Error;
use crate::gateway::Gateway;
use crate::home::Home;
use crate::home::settings::Settings;
use crate::{connect, login, name, say, ssh};
use address::Target;
use editor::Editor;

/// Opens the workspace, or says how.
pub(crate) async fn open(home: &Home, args: &OpenArgs) -> Result<(), Error> {
    let workspace = name::workspace(&args.workspace)?;
    let settings = Settings::read(home)?;
    let folder = match (&args.folder, &settings.folder) {
        (Some(folder), _) => Some(address::folder(folder).map_err(Error::Usage)?),
        (None, Some(folder)) => {
            let of_settings = |what| Error::Configuration(format!("{}: folder: {what}", home.settings().display()));
            Some(address::folder(folder).map_err(of_settings)?)
        }
        (None, None) => None,
    };
    let editor = match (&args.editor, &settings.editor) {
        (Some(text), _) => Editor::named(text).map_err(Error::Usage)?,
        (None, Some(text)) => Editor::named(text)
            .map_err(|what| Error::Configuration(format!("{}: editor: {what}", home.settings().display())))?,
        (None, None) => match editor::detect(crate::program::find) {
            Some(editor) => editor,
            None if args.print || start::has_handlers() => Editor::usual(),
            None => return Err(Error::NoEditor(editor::names())),
        },
    };
    ssh::ready(home)?;
    if !args.print {
        let gateway = Gateway::configured(home, &settings)?;
        let pass = login::pass(home, &settings).await?;
        let all = gateway.workspaces(&pass).await?;
        let Some(found) = all
            .workspaces
            .into_iter()
            .find(|found| found.name == workspace.as_str())
        else {
            return Err(Error::NoWorkspace(workspace.to_string()));
        };
        if matches!(found.state.as_str(), "asleep" | "starting") {
            connect::wake(home, &settings, &gateway, &workspace, args.reason.as_deref()).await?;
        }
    }
    let login = ssh::known(home, &settings, &workspace).await?;
    let target = Target {
        workspace: &workspace,
        login: &login,
        folder: folder.as_deref(),
    };
    if args.print {
        return say::print(&format!("{}\n", editor.address(&target)));
    }
    start::start(&editor, &target).await
}
