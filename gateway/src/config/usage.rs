//! `[[kubernetes.usage]]`: where the use of a rule's workspaces is published.

use std::{path::Path, time::Duration};

use super::{
    document::{Section, duration, flag, text},
    wake,
};
use crate::{
    usage::{Owner, Publication},
    wake::Scope,
};

/// Reads one, with the name of its rule.
pub(super) fn read(section: &Section<'_>, base: &Path) -> Option<(String, Publication)> {
    let rule = section.required("rule", text);
    let every = section.or(
        "every",
        USUAL,
        duration(Duration::from_secs(1), Duration::from_secs(3600)),
    );
    let pod = section.or("pod", true, flag);
    let owner = section.or("owner", false, flag);
    let plural = wake::plural(section);
    if section.has("plural") && !owner {
        section.fault_at(
            "plural",
            "`plural` is of what the pod belongs to, and `owner` is not true",
        );
    }
    let hook = match section.has("hook") {
        true => Some(section.required_section("hook", |hook| wake::call(hook, base, Scope::Use))?),
        false => None,
    };
    if !pod && !owner && hook.is_none() {
        section.fault("nothing is published: neither on the `pod`, nor on its `owner`, nor by a `hook`");
    }
    let owner = owner.then_some(Owner { plural });
    Some((
        rule?,
        Publication {
            every,
            pod,
            owner,
            hook,
        },
    ))
}

const USUAL: Duration = Duration::from_secs(60);
