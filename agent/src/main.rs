//! `doorward-agent`: the SSH server in the workspace.

use std::process::ExitCode;

fn main() -> ExitCode {
    doorward_agent::act_as_file_server(std::env::args_os())
        .unwrap_or_else(|| doorward_agent::cli::main_with(std::env::args_os()))
}
