//! Who can log in at the development issuer, and the bound on guessing.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};

/// Somebody who can log in. The password is the name followed by `-pw`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Person {
    /// The name to log in with; the claim `preferred_username`.
    pub name: String,
    /// The claim `groups`; absent from tokens when empty, as Keycloak does.
    pub groups: Vec<String>,
    /// The claim `realm_access.roles`, which Keycloak has for the roles of its realm; absent when empty.
    pub roles: Vec<String>,
    /// The claims `email` and `email_verified`; absent without one.
    pub email: Option<Email>,
    /// A disabled person can neither log in nor refresh.
    pub enabled: bool,
}

/// An address, and whether the issuer has seen that it is the person's.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Email {
    /// The claim `email`.
    pub address: String,
    /// The claim `email_verified`.
    pub verified: bool,
}

impl Person {
    /// An enabled person in these groups.
    #[must_use]
    pub fn new(name: &str, groups: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            roles: Vec::new(),
            email: None,
            enabled: true,
        }
    }

    /// The same person with these roles of the realm.
    #[must_use]
    pub fn with_roles(self, roles: &[&str]) -> Self {
        let roles = roles.iter().map(|&role| role.to_owned()).collect();
        Self { roles, ..self }
    }

    /// The same person with this address.
    #[must_use]
    pub fn with_email(self, address: &str, verified: bool) -> Self {
        let address = address.to_owned();
        Self {
            email: Some(Email { address, verified }),
            ..self
        }
    }

    /// The password, which is no secret.
    #[must_use]
    pub fn password(&self) -> String {
        format!("{}-pw", self.name)
    }

    /// The claim `sub`: opaque, and not the name.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("dev-{}", self.name)
    }
}

/// alice in `admins`, bob in `developers`, carol in `readonly`, mallory in no group.
#[must_use]
pub fn everybody() -> Vec<Person> {
    vec![
        Person::new("alice", &["admins"]),
        Person::new("bob", &["developers"]),
        Person::new("carol", &["readonly"]),
        Person::new("mallory", &[]),
    ]
}

/// Why a login was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginRefused {
    /// Unknown name, wrong password or disabled: never told apart.
    Wrong,
    /// Too many failures of late; nothing was compared.
    TooMany,
}

/// The people and their recent failures.
#[derive(Debug)]
pub(super) struct People {
    known: Vec<Person>,
    failures: Failures,
}

impl People {
    pub(super) fn new(known: Vec<Person>) -> Self {
        Self {
            known,
            failures: Failures::default(),
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<&Person> {
        self.known.iter().find(|person| person.name == name)
    }

    pub(super) fn find_mut(&mut self, name: &str) -> Option<&mut Person> {
        self.known.iter_mut().find(|person| person.name == name)
    }

    /// The person's name when the password is right.
    pub(super) fn log_in(&mut self, name: &str, password: &str, now: Duration) -> Result<String, LoginRefused> {
        // Names that nobody has share one row, so the table is as long as the list of people.
        let row = self.find(name).map(|person| person.name.clone()).unwrap_or_default();
        if self.failures.too_many(&row, now) {
            return Err(LoginRefused::TooMany);
        }
        let right = self.find(name).is_some_and(|person| {
            person.enabled && verify_slices_are_equal(person.password().as_bytes(), password.as_bytes()).is_ok()
        });
        if right {
            return Ok(row);
        }
        self.failures.add(&row, now);
        Err(LoginRefused::Wrong)
    }
}

/// Recent failures by row; rows come from a closed set.
#[derive(Debug, Default)]
pub(super) struct Failures(HashMap<String, VecDeque<Duration>>);

impl Failures {
    pub(super) fn too_many(&mut self, row: &str, now: Duration) -> bool {
        let Some(times) = self.0.get_mut(row) else {
            return false;
        };
        while times.front().is_some_and(|&at| at + FAILURE_WINDOW <= now) {
            times.pop_front();
        }
        times.len() >= FAILURES_ALLOWED
    }

    pub(super) fn add(&mut self, row: &str, now: Duration) {
        self.0.entry(row.to_owned()).or_default().push_back(now);
    }
}

const FAILURES_ALLOWED: usize = 10;
const FAILURE_WINDOW: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_must_be_the_persons_own() {
        let mut people = People::new(everybody());
        let now = Duration::from_secs(1000);
        assert_eq!(people.log_in("bob", "bob-pw", now), Ok("bob".to_owned()));
        for (name, password) in [
            ("bob", "alice-pw"),
            ("bob", ""),
            ("Bob", "bob-pw"),
            ("nobody", "nobody-pw"),
            ("", "-pw"),
        ] {
            assert_eq!(people.log_in(name, password, now), Err(LoginRefused::Wrong), "{name}");
        }
        people.find_mut("bob").unwrap().enabled = false;
        assert_eq!(people.log_in("bob", "bob-pw", now), Err(LoginRefused::Wrong));
    }

    #[test]
    fn guessing_is_bounded_for_each_person_and_ends_with_the_window() {
        let mut people = People::new(everybody());
        let start = Duration::from_secs(1000);
        for _ in 0..FAILURES_ALLOWED {
            assert_eq!(people.log_in("bob", "guess", start), Err(LoginRefused::Wrong));
        }
        assert_eq!(people.log_in("bob", "bob-pw", start), Err(LoginRefused::TooMany));
        assert_eq!(people.log_in("alice", "alice-pw", start), Ok("alice".to_owned()));
        assert_eq!(
            people.log_in("bob", "bob-pw", start + FAILURE_WINDOW),
            Ok("bob".to_owned())
        );
    }

    #[test]
    fn names_that_nobody_has_do_not_grow_the_table() {
        let mut people = People::new(everybody());
        for n in 0..1000 {
            let _ = people.log_in(&format!("nobody-{n}"), "x", Duration::from_secs(1));
        }
        assert_eq!(people.failures.0.len(), 1);
        assert_eq!(people.failures.0[""].len(), FAILURES_ALLOWED);
    }
}
