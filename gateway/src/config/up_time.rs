//! `[[kubernetes.up-time]]`: where a rule's pods say when the platform stops them.

use std::time::Duration;

use super::document::{Section, duration, flag, list, text};
use crate::kube::discover::{
    template::Template,
    up_time::{End, UpTime, length},
};

/// Reads one, with the name of its rule.
pub(super) fn read(section: &Section<'_>) -> Option<(String, UpTime)> {
    let rule = section.required("rule", text);
    let end = match (section.has("at"), section.has("after")) {
        (true, false) => section.required("at", |value| {
            let template = Template::parse(&text(value)?)?;
            match template.plain() {
                Some(_) => Err("is the same for every pod: name an annotation, as in `{annotation:KEY}`".to_owned()),
                None => Ok(End::At(template)),
            }
        }),
        (false, true) => section.required("after", |value| {
            let template = Template::parse(&text(value)?)?;
            match template.plain().map(|plain| (plain, length(plain))) {
                Some((plain, None)) => Err(format!("`{}` is no length of time such as `60m`", plain.escape_debug())),
                _ => Ok(End::After(template)),
            }
        }),
        (both, _) => {
            // Neither is read then, and neither is unknown.
            section.has("at");
            section.fault(match both {
                true => "either `at` or `after` says when a pod is stopped",
                false => "`at` or `after` has to say when a pod is stopped",
            });
            None
        }
    };
    let mut warn = section.or("warn", USUAL.to_vec(), list(|value| duration(SHORTEST, DAY)(value)));
    if warn.len() > MOST {
        section.fault_at("warn", format!("people are told at most {MOST} times"));
    }
    warn.sort_unstable();
    warn.dedup();
    let extendable = section.or("extendable", false, flag);
    Some((
        rule?,
        UpTime {
            end: end?,
            warn: warn.into(),
            extendable,
        },
    ))
}

/// As of the longest time that a role allows.
const USUAL: [Duration; 3] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
];
const SHORTEST: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const MOST: usize = 8;
