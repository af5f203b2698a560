//! `doorward ls`.

use crate::cli::JsonArgs;
use crate::error::Error;
use crate::gateway::Gateway;
use crate::home::Home;
use crate::home::settings::Settings;
use crate::{login, say};

/// Lists the workspaces that the person may enter.
pub(crate) async fn list(home: &Home, args: &JsonArgs) -> Result<(), Error> {
    let settings = Settings::read(home)?;
    let gateway = Gateway::configured(home, &settings)?;
    let pass = login::pass(home, &settings).await?;
    let workspaces = gateway.workspaces(&pass).await?;
    if args.json {
        return say::print_json(&workspaces);
    }
    if workspaces.is_empty() {
        say::note("there is no workspace that you may enter");
    }
    let rows: Vec<Vec<String>> = workspaces
        .into_iter()
        .map(|workspace| {
            let owner = workspace.owner.unwrap_or_default();
            let state = match workspace.reason {
                Some(reason) => format!("{}: {reason}", workspace.state),
                None => workspace.state,
            };
            vec![
                workspace.name,
                workspace.login,
                state,
                owner,
                workspace.capabilities.join(" "),
            ]
        })
        .collect();
    say::print(&say::table(&["NAME", "LOGIN", "STATE", "OWNER", "ALLOWED"], &rows))
}
