//! `doorward-gateway doctor`: looks live at everything that a session needs, one line for each thing, with a remedy.
//!
//! It changes nothing that lasts: a file that is written and removed again, a certificate with an obviously false key id,
//! links that are ended before they are up. It runs beside a gateway that serves. Every check has a deadline, and all run even if
//! some fail. No text holds a secret.

mod agents;
mod authority;
mod certificate;
mod clock;
mod disk;
mod fetch;
mod issuer;
mod kubernetes;
mod names;
mod report;
mod rules;
mod vault;

use std::{path::Path, pin::Pin, time::Duration};

use futures_util::future::join_all;

pub use report::{Finding, Verdict, exit_code, json, text};
pub(crate) use rules::lends_nothing;

use crate::config::{Config, Fault, Faults};

/// What is looked at, apart from the configuration.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The name under which people dial the gateway.
    pub name: Option<String>,
}

type Check<'a> = Pin<Box<dyn Future<Output = Vec<Finding>> + Send + 'a>>;

/// Looks at everything; the findings come in a fixed order.
pub async fn examine(file: &Path, about: &About) -> Vec<Finding> {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(faults) => return unreadable(&faults),
    };
    let mut all = vec![Finding::ok("config", file.display(), "no fault")];
    let authority = authority::Shared::new(&config);
    let checks: Vec<(&'static str, Check<'_>)> = vec![
        ("names", Box::pin(names::check(&config))),
        ("certificate", Box::pin(async { certificate::check(&config, about) })),
        ("issuer", Box::pin(issuer::check(&config))),
        ("vault", Box::pin(vault::check(&config, &authority))),
        ("signing", Box::pin(authority::check(&config, &authority))),
        ("kubernetes", Box::pin(kubernetes::check(&config))),
        ("agent", Box::pin(agents::check(&config, &authority))),
        ("records", Box::pin(disk::records(&config))),
        ("state", Box::pin(async { disk::state(&config) })),
        ("clock", Box::pin(async { clock::retention(&config) })),
        ("policy", Box::pin(async { rules::check(&config) })),
    ];
    let each = checks.into_iter().map(|(name, check)| async move {
        tokio::time::timeout(WITHIN, check).await.unwrap_or_else(|_| {
            let text = format!("not finished within {} s", WITHIN.as_secs());
            vec![Finding::broken(
                name,
                "",
                text,
                "see whether something that it asks hangs",
            )]
        })
    });
    all.extend(join_all(each).await.into_iter().flatten());
    all
}

fn unreadable(Faults(faults): &Faults) -> Vec<Finding> {
    let remedy = "correct the file; `check-config` shows the same; nothing else can be looked at before";
    let one = |fault: &Fault| Finding::broken("config", fault.file.display(), fault.to_string(), remedy);
    faults.iter().map(one).collect()
}

/// How long one check may take, with everything that it asks.
const WITHIN: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests;
