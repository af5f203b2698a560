//! Which container of the pod sessions are in: the section `[container]`.

use super::table::Section;
use crate::container::Container;

pub(super) fn read(mut section: Section<'_>) -> Option<Container> {
    if cfg!(not(any(target_env = "musl", test))) {
        // Looking up an account would have it load libraries from a container that it does not trust.
        section.fault("only the static agent enters another container; this build is not static");
    }
    let program = section.required("enter", |text, _| match text {
        "*" => Ok(None),
        "" => Err("must be \"*\" or the name of a program".to_owned()),
        program => Ok(Some(program.to_owned())),
    });
    let otherwise_own = section.optional("otherwise", |text, _| match text {
        "refuse" => Ok(false),
        "own" => Ok(true),
        _ => Err(format!("'{text}' is neither 'refuse' nor 'own'")),
    });
    section.finish();
    Some(Container {
        program: program?,
        otherwise_own: otherwise_own.unwrap_or(false),
    })
}
