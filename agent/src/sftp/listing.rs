//! A file as `ls -l` shows it: the long name that an answer to READDIR carries beside the attributes.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::libc;
use nix::unistd::{Gid, Group, Uid, User};

use super::open::locked;

/// Names of users and groups, looked up once, and the workspace's time zone.
#[derive(Debug)]
pub(crate) struct Names {
    zone: TimeZone,
    users: Mutex<HashMap<u32, Option<String>>>,
    groups: Mutex<HashMap<u32, Option<String>>>,
}

impl Names {
    /// Of this system.
    pub(crate) fn of_system() -> Self {
        Self {
            zone: TimeZone::system(),
            users: Mutex::default(),
            groups: Mutex::default(),
        }
    }

    /// The user's name, if there is one.
    pub(crate) fn user(&self, id: u32) -> Option<String> {
        remembered(&self.users, id, |id| {
            User::from_uid(Uid::from_raw(id)).ok().flatten().map(|user| user.name)
        })
    }

    /// The group's name, if there is one.
    pub(crate) fn group(&self, id: u32) -> Option<String> {
        remembered(&self.groups, id, |id| {
            Group::from_gid(Gid::from_raw(id))
                .ok()
                .flatten()
                .map(|group| group.name)
        })
    }

    /// The line of `ls -l`, with OpenSSH's columns.
    pub(crate) fn line(&self, name: &[u8], file: &Metadata) -> Vec<u8> {
        let user = self.user(file.uid()).unwrap_or_else(|| file.uid().to_string());
        let group = self.group(file.gid()).unwrap_or_else(|| file.gid().to_string());
        let mut line = format!(
            "{}  {:>3} {user:<8} {group:<8} {:>8} {} ",
            letters(file.mode()),
            file.nlink(),
            file.size(),
            self.date(file.mtime(), now()),
        )
        .into_bytes();
        line.extend_from_slice(name);
        line
    }

    /// The time of day within the last half year, else the year.
    fn date(&self, time: i64, now: i64) -> String {
        let Ok(instant) = Timestamp::from_second(time) else {
            return time.to_string();
        };
        let format = if now - HALF_A_YEAR < time {
            "%b %e %H:%M"
        } else {
            "%b %e  %Y"
        };
        instant.to_zoned(self.zone.clone()).strftime(format).to_string()
    }
}

fn remembered(
    known: &Mutex<HashMap<u32, Option<String>>>,
    id: u32,
    look_up: impl FnOnce(u32) -> Option<String>,
) -> Option<String> {
    let mut known = locked(known);
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.entry(id).or_insert_with(|| look_up(id)).clone()
}

/// `drwxr-xr-x`, with the letters for setuid, setgid and sticky.
fn letters(mode: u32) -> String {
    let kind = match mode & libc::S_IFMT {
        libc::S_IFDIR => 'd',
        libc::S_IFLNK => 'l',
        libc::S_IFCHR => 'c',
        libc::S_IFBLK => 'b',
        libc::S_IFIFO => 'p',
        libc::S_IFSOCK => 's',
        libc::S_IFREG => '-',
        _ => '?',
    };
    let mut letters = String::from(kind);
    for (shift, special, letter) in [
        (6, libc::S_ISUID, 's'),
        (3, libc::S_ISGID, 's'),
        (0, libc::S_ISVTX, 't'),
    ] {
        let bits = mode >> shift;
        letters.push(if bits & 4 != 0 { 'r' } else { '-' });
        letters.push(if bits & 2 != 0 { 'w' } else { '-' });
        letters.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, false) => letter.to_ascii_uppercase(),
            (true, true) => letter,
        });
    }
    letters
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

const HALF_A_YEAR: i64 = 365 * 24 * 60 * 60 / 2;
/// Ids whose names are remembered.
const REMEMBERED: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_have_the_letters_of_ls() {
        for (mode, expected) in [
            (0o100_644, "-rw-r--r--"),
            (0o40_755, "drwxr-xr-x"),
            (0o120_777, "lrwxrwxrwx"),
            (0o104_755, "-rwsr-xr-x"),
            (0o104_644, "-rwSr--r--"),
            (0o102_750, "-rwxr-s---"),
            (0o41_777, "drwxrwxrwt"),
            (0o41_776, "drwxrwxrwT"),
            (0o10_600, "prw-------"),
            (0o140_000, "s---------"),
            (0o20_666, "crw-rw-rw-"),
            (0o60_660, "brw-rw----"),
        ] {
            assert_eq!(letters(mode), expected, "{mode:o}");
        }
    }

    #[test]
    fn dates_are_short_when_they_are_near() {
        let names = Names {
            zone: TimeZone::UTC,
            ..Names::of_system()
        };
        let now = 1_800_000_000;
        assert_eq!(names.date(now - 60, now), "Jan 15 07:59");
        assert_eq!(names.date(now + 60, now), "Jan 15 08:01");
        assert_eq!(names.date(now - HALF_A_YEAR, now), "Jul 16  2026");
        assert_eq!(names.date(0, now), "Jan  1  1970");
        assert_eq!(names.date(i64::MAX, now), i64::MAX.to_string());
    }
}
