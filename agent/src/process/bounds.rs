//! How strong the processes of an entered container are, and keeping ours there from being stronger (capabilities(7)).
//!
//! Who enters has rights that the container's own processes lack. They must not be had again by a program that gains rights when
//! it is started (`sudo`), and root of that container must have what its root has and no more. What cannot be compared or taken
//! away is refused.

use std::io;

use nix::sys::prctl;

use super::syscall;

/// What bounds the first process of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bounds {
    uid: u32,
    permitted: u64,
    /// What its processes may ever gain.
    bounding: u64,
    no_new_privs: bool,
    /// Whether a seccomp filter is on it.
    filtered: bool,
    /// Its label of AppArmor or SELinux.
    label: Option<String>,
    /// Its user namespace, where we may know.
    users: Option<String>,
}

impl Bounds {
    /// Those of a process by its number, or of `self`.
    pub(super) fn of(pid: &str) -> io::Result<Self> {
        let at = |name: &str| format!("/proc/{pid}/{name}");
        let label = std::fs::read_to_string(at("attr/current")).ok();
        let users = std::fs::read_link(at("ns/user")).ok();
        Self::read(&std::fs::read_to_string(at("status"))?)
            .map(|found| Self {
                label: label.map(|label| label.trim_end_matches(['\0', '\n']).to_owned()),
                users: users.map(|users| users.to_string_lossy().into_owned()),
                ..found
            })
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the kernel does not say how strong a process is",
                )
            })
    }

    fn read(status: &str) -> Option<Self> {
        let line = |name: &str| {
            let mut lines = status
                .lines()
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            lines.next().map(str::trim)
        };
        let set = |name| u64::from_str_radix(line(name)?, 16).ok();
        Some(Self {
            // Real, effective, saved, of files.
            uid: line("Uid")?.split_whitespace().nth(1)?.parse().ok()?,
            permitted: set("CapPrm")?,
            bounding: set("CapBnd")?,
            // Kernels that were built without have none.
            no_new_privs: line("NoNewPrivs").is_some_and(|value| value != "0"),
            filtered: line("Seccomp").is_some_and(|value| value != "0"),
            label: None,
            users: None,
        })
    }

    /// Why a session cannot be root in that container and exactly as strong as its root; `None` if it can.
    pub(crate) fn root_refused(&self) -> io::Result<Option<&'static str>> {
        Ok(self.refused_beside(&Self::of("self")?))
    }

    fn refused_beside(&self, own: &Self) -> Option<&'static str> {
        let admin = |bounds: &Self| bounds.permitted & SYS_ADMIN != 0;
        if self.uid != 0 {
            Some("the main container does not run as root")
        } else if self.users != own.users {
            Some("the main container has a user namespace of its own")
        } else if self.label != own.label {
            Some("the main container runs under another label of AppArmor or SELinux than the agent's")
        } else if self.filtered && !own.filtered {
            Some("the main container has a seccomp profile, and the agent's has none")
        } else if admin(own) && !admin(self) {
            Some(
                "the agent's container has CAP_SYS_ADMIN and the main one has not: what goes with it cannot be taken away",
            )
        } else {
            None
        }
    }

    /// First, with the agent's rights: gives up what that container's processes can never gain. Only system calls.
    pub(super) fn lower(&self) -> Lowered {
        Lowered(syscall::drop_bounding(self.bounding))
    }

    /// Last, as whom the process is for: keeps of its rights what the container's root has, and has it gain no others. Only system
    /// calls.
    pub(super) fn settle(&self, lowered: &Lowered) -> io::Result<()> {
        self.keep_to()?;
        if self.no_new_privs || !lowered.0 {
            prctl::set_no_new_privs()?;
        }
        Ok(())
    }

    /// Keeps of the calling task's capabilities what the container's root has. Only system calls.
    pub(super) fn keep_to(&self) -> io::Result<()> {
        syscall::keep_capabilities(self.permitted)
    }
}

/// Whether a process can gain no more than the container's own.
pub(super) struct Lowered(bool);

const SYS_ADMIN: u64 = 1 << 21;

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tsleep\nUid:\t0\t0\t0\t0\nCapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\n\
        CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    #[test]
    fn a_process_is_as_strong_as_the_kernel_says() {
        let found = Bounds::read(STATUS).unwrap();
        assert_eq!(
            (found.uid, found.permitted, found.bounding),
            (0, 0xa804_25fb, 0xa804_25fb)
        );
        assert!(found.no_new_privs && found.filtered);
        assert!(Bounds::read("").is_none());
        assert_eq!(
            Bounds::of("self").unwrap().refused_beside(&Bounds::of("self").unwrap()),
            {
                let me = nix::unistd::Uid::effective();
                (!me.is_root()).then_some("the main container does not run as root")
            }
        );
    }

    #[test]
    fn root_is_refused_where_ours_would_be_stronger() {
        let main = Bounds::read(STATUS).unwrap();
        let refused = |change: fn(&mut Bounds), ours: fn(&mut Bounds)| {
            let (mut main, mut own) = (main.clone(), main.clone());
            change(&mut main);
            ours(&mut own);
            main.refused_beside(&own)
        };
        let same: fn(&mut Bounds) = |_| {};
        assert_eq!(refused(same, same), None);
        // Fewer filters is what an agent may not have; more of them harm nobody.
        assert_eq!(refused(|main| main.filtered = false, same), None);
        for (change, ours, word) in [
            (
                (|main| main.uid = 1000) as fn(&mut Bounds),
                same,
                "does not run as root",
            ),
            (same, |own| own.filtered = false, "seccomp"),
            (same, |own| own.label = Some("unconfined".into()), "label"),
            (same, |own| own.users = Some("user:[1]".into()), "namespace"),
            (same, |own| own.permitted |= SYS_ADMIN, "CAP_SYS_ADMIN"),
        ] {
            let why = refused(change, ours);
            assert!(why.is_some_and(|why| why.contains(word)), "{word}: {why:?}");
        }
    }
}
