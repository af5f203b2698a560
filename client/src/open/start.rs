//! Starting an editor: its own program where there is one, else whatever the system opens its address with.
//!
//! A program is looked for here and started by its absolute path: neither the current folder nor a relative entry of the
//! `PATH` has a say.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::address::Target;
use super::editor::{Editor, Kind};
use crate::error::Error;
use crate::program::find;
use crate::say;

/// What is started.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    program: PathBuf,
    arguments: Vec<String>,
    /// Whether it hands over to something that is not waited for, so that its exit code says whether that worked.
    hands_over: bool,
}

/// Whether this system tells by an address alone which program opens it, so that one may be there without being on the `PATH`.
pub(super) fn has_handlers() -> bool {
    cfg!(any(windows, target_os = "macos"))
}

/// Opens the target, and waits only for a program that hands over at once.
pub(super) async fn start(editor: &Editor, target: &Target<'_>) -> Result<(), Error> {
    if env::var_os("WSL_DISTRO_NAME").is_some() {
        say::note(
            "an editor of Windows reads the ssh configuration of Windows: if it does not find the workspace, \
             run `doorward config --write` there",
        );
    }
    let plan = plan(editor, target, find)?;
    let program = plan.program.display().to_string();
    let mut command = Command::new(&plan.program);
    command.args(&plan.arguments).stdin(Stdio::null());
    if !plan.hands_over {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map_err(Error::file("run", &plan.program))?;
        return Ok(());
    }
    let status = command.status().await.map_err(Error::file("run", &plan.program))?;
    match status.success() {
        true => Ok(()),
        false => Err(Error::Editor { program, status }),
    }
}

fn plan(editor: &Editor, target: &Target<'_>, find: impl Fn(&str) -> Option<PathBuf>) -> Result<Plan, Error> {
    if let Some(program) = find(&editor.program) {
        return Ok(Plan {
            program: real(&program),
            arguments: editor.arguments(target),
            hands_over: matches!(editor.kind, Kind::Code { .. }),
        });
    }
    let missing = || Error::Configuration(format!("there is no program {:?}", editor.program));
    // What is named by its path, or has no scheme, can be opened in no other way.
    if editor.program.contains(std::path::is_separator) || editor.kind == (Kind::Code { scheme: None }) {
        return Err(missing());
    }
    let address = editor.address(target);
    let opener = OPENERS.iter().find_map(|(name, before)| Some((find(name)?, *before)));
    let (program, before) = opener.ok_or_else(missing)?;
    say::note(&format!(
        "{} is not on the PATH; the system opens its address",
        editor.program
    ));
    Ok(Plan {
        program,
        arguments: before.iter().map(|word| (*word).to_owned()).chain([address]).collect(),
        hands_over: true,
    })
}

/// What opens an address, and what comes before it. Not `cmd /c start`, to which `&` is a separator.
#[cfg(windows)]
const OPENERS: [(&str, &[&str]); 1] = [("rundll32", &["url.dll,FileProtocolHandler"])];
#[cfg(target_os = "macos")]
const OPENERS: [(&str, &[&str]); 1] = [("open", &[])];
#[cfg(not(any(windows, target_os = "macos")))]
const OPENERS: [(&str, &[&str]); 2] = [("xdg-open", &[]), ("wslview", &[])];

/// On Windows `bin\code.cmd` only starts `Code.exe` in the folder above: that one is started itself where it is there, and
/// no batch file reads an argument.
fn real(program: &Path) -> PathBuf {
    let is_batch = program
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("cmd"));
    let beside = program.parent().and_then(Path::parent).map(|folder| {
        let name = program.file_stem().unwrap_or_default();
        folder.join(name).with_extension("exe")
    });
    match beside {
        Some(beside) if is_batch && beside.is_file() => beside,
        _ => program.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use doorward_certs::{Login, WorkspaceName};

    use super::*;

    fn planned(editor: &str, folder: Option<&str>, there: &[&str]) -> Result<Plan, Error> {
        let target = Target {
            workspace: &WorkspaceName::try_from("devenv-0").unwrap(),
            login: &Login::try_from("node").unwrap(),
            folder,
        };
        let find = |name: &str| there.contains(&name).then(|| Path::new("/bin").join(name));
        plan(&Editor::named(editor).unwrap(), &target, find)
    }

    #[test]
    fn a_program_is_told_by_arguments_and_the_system_by_the_address() {
        let plan = planned("code", Some("/a b"), &["code"]).unwrap();
        assert_eq!(plan.program, Path::new("/bin/code"));
        assert_eq!(
            plan.arguments,
            ["--folder-uri", "vscode-remote://ssh-remote+devenv-0/a%20b"]
        );
        let plan = planned("positron", None, &["positron"]).unwrap();
        assert_eq!(plan.arguments, ["--remote", "ssh-remote+devenv-0"]);
        let plan = planned("jetbrains", None, &["jetbrains-gateway"]).unwrap();
        assert!(!plan.hands_over && plan.arguments[0].starts_with("jetbrains-gateway://connect#"));

        let [(opener, _), ..] = OPENERS;
        for (editor, scheme) in [("cursor", "cursor://"), ("gateway", "jetbrains-gateway://")] {
            let plan = planned(editor, Some("/x"), &[opener]).unwrap();
            assert!(
                plan.hands_over && plan.arguments.last().unwrap().starts_with(scheme),
                "{plan:?}"
            );
        }
        for (editor, there) in [("positron", opener), ("/opt/code", opener), ("code", "vim")] {
            assert!(planned(editor, None, &[there]).is_err(), "{editor}");
        }
    }

    #[test]
    fn a_batch_file_is_not_started_where_its_program_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let batch = folder.path().join("bin/code.cmd");
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        std::fs::write(&batch, "").unwrap();
        assert_eq!(real(&batch), batch);
        std::fs::write(folder.path().join("code.exe"), "").unwrap();
        assert_eq!(real(&batch), folder.path().join("code.exe"));
    }
}
