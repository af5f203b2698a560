//! One executable that can act as each program, for the tests that need several of them as processes.

use std::process::ExitCode;

fn main() -> ExitCode {
    doorward_dev::act_as_program().unwrap_or_else(|| {
        eprintln!("this is the tests' executable: name a program as the first argument");
        ExitCode::from(64)
    })
}
