//! `doorward-gateway`: the daemon between people and workspaces.

use std::process::ExitCode;

use doorward_gateway::cli;

fn main() -> ExitCode {
    // The one TLS provider of the process. It can only be there already if something else put it there.
    if doorward_wire::tls_provider().install_default().is_err() {
        eprintln!("doorward-gateway: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    cli::main_with(std::env::args_os())
}
