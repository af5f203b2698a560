//! The program `doorward`.

use std::process::ExitCode;

fn main() -> ExitCode {
    doorward_client::main_with(std::env::args_os())
}
