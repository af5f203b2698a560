//! `doorward-agent`: the SSH server in the workspace.

use std::process::ExitCode;

fn main() -> ExitCode {
    doorward_agent::cli::main_with(std::env::args_os())
}
