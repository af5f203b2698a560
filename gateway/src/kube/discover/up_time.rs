//! When the platform stops a pod, as far as it says so beforehand: a time in an annotation, or a length of time after the start.
//!
//! Whoever may patch the pod writes these values. They let nobody in; a value that is none is told to operators, and then no end
//! is known.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    seen::Object,
    template::{Template, Values},
};
use crate::workspace::{Stop, line, moment};

/// Where a rule's pods say when they are stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpTime {
    /// What says it.
    pub end: End,
    /// How long ahead the people in it are told, the shortest first.
    pub warn: Arc<[Duration]>,
    /// Whether the platform leaves it up for as long as somebody has it kept awake.
    pub extendable: bool,
}

/// What says when a pod is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A time in RFC 3339.
    At(Template),
    /// A length of time, such as `60m`, after the pod's start.
    After(Template),
}

impl End {
    /// The text that is filled in.
    pub(super) fn template(&self) -> &Template {
        match self {
            Self::At(template) | Self::After(template) => template,
        }
    }
}

impl UpTime {
    /// When the pod is stopped; nothing if it does not say.
    ///
    /// # Errors
    /// What it says is no time: a sentence for operators.
    pub(super) fn stop(
        &self,
        pod: &Object,
        values: &dyn Values,
        kept: Option<SystemTime>,
    ) -> Result<Option<Stop>, String> {
        // Where the label is missing there is no limit.
        let Ok(said) = self.end.template().fill(values) else {
            return Ok(None);
        };
        let said = said.trim();
        let unknown = |why: &str| format!("when it is stopped is not known: `{}` is {why}", line(said));
        let at = match &self.end {
            End::At(_) => moment(said).ok_or_else(|| unknown("no time in RFC 3339"))?,
            End::After(_) => {
                let length = length(said).ok_or_else(|| unknown("no length of time such as `60m`"))?;
                let start = pod.status.start_time.as_deref();
                let start = start.or(pod.metadata.creation_timestamp.as_deref()).and_then(moment);
                let end = start.and_then(|start| start.checked_add(length));
                end.ok_or_else(|| "when it is stopped is not known: it has no time of its start".to_owned())?
            }
        };
        let kept = kept.filter(|_| self.extendable);
        Ok(Some(Stop {
            at: kept.map_or(at, |kept| kept.max(at)),
            warn: Arc::clone(&self.warn),
            extendable: self.extendable,
        }))
    }
}

/// A length of time of at least a second and at most ten years.
pub(crate) fn length(text: &str) -> Option<Duration> {
    let length = humantime::parse_duration(text).ok()?;
    (Duration::from_secs(1)..=LONGEST).contains(&length).then_some(length)
}

const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);
