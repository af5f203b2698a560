//! Finding the main container of the pod, where the agent is a sidecar that shares its processes (`[container]`).
//!
//! In a pod with a shared process namespace the first process of each container has a parent outside of the pod, which the
//! kernel shows as 0; whatever a container starts itself is inherited by the pod's first process, 1. So nothing that runs in a container
//! can pose as the first process of another. What is another than ours has another mount namespace.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use nix::unistd::Uid;

use crate::process::{Begun, Root};

/// Which container sessions enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its program or script, by name or path; `None` for the only other one.
    pub program: Option<String>,
    /// Whether sessions are in the agent's own container, with a notice, where the other cannot be entered.
    pub otherwise_own: bool,
}

/// Why none is entered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotEntered {
    #[error(
        "no other container is seen from the agent's: it has not started, or the pod has no shareProcessNamespace: true"
    )]
    None,
    #[error("no container runs {0}")]
    NoSuch(String),
    #[error("there are several containers ({0}): the agent's configuration must name one")]
    Several(String),
    #[error(
        "the agent (uid {me}) may not look into {program} (uid {owner}): it needs CAP_SYS_PTRACE, or to be that user with at least its \
         capabilities"
    )]
    Hidden { me: Uid, owner: String, program: String },
    #[error("{0}")]
    Failed(#[from] io::Error),
}

/// The first process of another container.
struct Candidate {
    pid: i32,
    begun: Begun,
    words: Vec<String>,
    /// `None` where we may not know.
    mounts: Option<String>,
}

/// Opens the container that is meant now. Reads `/proc`: may block.
pub(crate) fn find(container: &Container) -> Result<Arc<Root>, NotEntered> {
    let mut candidates = others();
    if candidates.is_empty() {
        return Err(NotEntered::None);
    }
    if let Some(program) = &container.program {
        candidates.retain(|candidate| candidate.runs(program));
        if candidates.is_empty() {
            return Err(NotEntered::NoSuch(program.clone()));
        }
    }
    // What is executed in a container later has no parent either: the oldest is its own.
    candidates.sort_by_key(|candidate| candidate.begun.started);
    let mut containers = BTreeMap::new();
    for candidate in candidates {
        let which = candidate.mounts.clone().unwrap_or_else(|| candidate.pid.to_string());
        containers.entry(which).or_insert(candidate);
    }
    let mut containers = containers.into_values();
    let (Some(one), None) = (containers.next(), containers.next()) else {
        let names: Vec<String> = others().iter().map(Candidate::name).collect();
        return Err(NotEntered::Several(names.join(", ")));
    };
    Root::open(one.pid, one.begun.started)
        .map(Arc::new)
        .map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => NotEntered::Hidden {
                me: Uid::effective(),
                owner: owner(one.pid),
                program: one.name(),
            },
            _ => error.into(),
        })
}

impl Candidate {
    /// A script's interpreter comes before it.
    fn runs(&self, program: &str) -> bool {
        self.words
            .iter()
            .any(|word| word == program || Path::new(word).file_name() == Some(program.as_ref()))
    }

    fn name(&self) -> String {
        let name = self.words.first().map_or("?", String::as_str);
        name.escape_debug().take(SHOWN).collect()
    }
}

fn others() -> Vec<Candidate> {
    let mut ours = Vec::new();
    let mut pid = i32::try_from(std::process::id()).unwrap_or_default();
    while let Some(begun) = Begun::of(pid).filter(|_| pid > 0 && ours.len() < DEEPEST) {
        ours.push(pid);
        pid = begun.parent;
    }
    let mounts = |pid: &str| {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?;
        Some(link.to_string_lossy().into_owned())
    };
    let own = mounts("self");
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid > 1 && !ours.contains(pid))
        .filter_map(|pid| {
            let begun = Begun::of(pid).filter(|begun| begun.parent == 0)?;
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).take(2);
            Some(Candidate {
                pid,
                begun,
                words: words.map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
                mounts: mounts(&pid.to_string()),
            })
        })
        .filter(|candidate| candidate.mounts.is_none() || candidate.mounts != own)
        .collect()
}

fn owner(pid: i32) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let about = std::fs::metadata(format!("/proc/{pid}"));
    about.map_or_else(|_| "unknown".to_owned(), |about| about.uid().to_string())
}

const SHOWN: usize = 64;
const DEEPEST: usize = 64;
