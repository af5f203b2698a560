//! Identity by a real Keycloak: what ends there ends here, what is bound to a key is of no use without it, and what the
//! shipped set-up makes is enough to log in.
//!
//! One stack for the file, one test at a time: each restarts the gateway with the configuration that it wants. What takes
//! long and does not want the gateway is done beside them, by the first by name, which begins first.

mod administrator;
mod bound;
mod ends;
mod lasting;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use doorward_dev::parts::KEYCLOAK;
use doorward_dev::parts::keycloak::Realm;
use doorward_dev::stack::{ClientFolder, Options, Real, Stack};
use tests::parts::{Place, fresh, had, name_of};
use tokio::runtime::Runtime;
use toml::{Table, Value};

const PLACE: Place = Place {
    program: env!("CARGO_BIN_EXE_doorward-all"),
    tmp: env!("CARGO_TARGET_TMPDIR"),
    file: "identity",
};

fn on(test: impl AsyncFnOnce(&mut Stack) -> Result<()>) -> Result<()> {
    static STACK: Mutex<Option<(Runtime, Stack)>> = Mutex::new(None);
    let name = name_of(&test);
    let mut place = STACK.lock().unwrap_or_else(PoisonError::into_inner);
    let (runtime, stack) = match &mut *place {
        Some(up) => up,
        empty => {
            let runtime = Runtime::new()?;
            if !runtime.block_on(had(&KEYCLOAK, PLACE, name))? {
                return Ok(());
            }
            let stack = runtime.block_on(start())?;
            empty.insert((runtime, stack))
        }
    };
    runtime.block_on(test(stack))
}

async fn start() -> Result<Stack> {
    fresh(PLACE, PEOPLE)?;
    let options = Options {
        dir: fresh(PLACE, "stack")?,
        program: Some(PLACE.program.into()),
        login: Some("bob".to_owned()),
        real: Real {
            keycloak: true,
            ..Real::default()
        },
        ..Options::default()
    };
    Ok(Stack::start(options).await?)
}

fn realm(stack: &Stack) -> Result<&Realm> {
    stack.realm().context("no realm")
}

/// The client that people log in by; an attribute of Keycloak's for each pair.
async fn client(stack: &Stack, attributes: &[(&str, &str)]) -> Result<()> {
    let change = realm(stack)?.change_client("doorward", |client| {
        for (name, value) in attributes {
            client["attributes"][*name] = (*value).into();
        }
    });
    Ok(change.await?)
}

/// Sets a key of a section in the gateway's configuration.
fn set(config: &mut Table, section: &str, key: &str, value: &str) {
    let section = config.entry(section).or_insert_with(|| Table::new().into());
    if let Some(section) = section.as_table_mut() {
        section.insert(key.to_owned(), Value::String(value.to_owned()));
    }
}

/// Somebody new in `developers`, not logged in; an empty client folder for them.
async fn developer(stack: &Stack, name: &str) -> Result<ClientFolder> {
    realm(stack)?.add_person(name).await?;
    realm(stack)?.join(name, "developers").await?;
    Ok(stack.client_folder(&folder(name))?)
}

/// A folder for a test's own files, not made yet.
fn folder(name: &str) -> PathBuf {
    Path::new(PLACE.tmp).join(PLACE.file).join(PEOPLE).join(name)
}

const PEOPLE: &str = "people";
