//! Device authorizations: what waits between the device's request and a person's answer (RFC 8628).

use std::collections::HashMap;
use std::time::Duration;

use super::people::Failures;
use super::pkce::Challenge;

/// What a device asked for.
#[derive(Clone, Debug)]
pub(super) struct DeviceRequest {
    pub scope: String,
    pub challenge: Option<Challenge>,
    pub at: Duration,
}

/// What a device and a person are told.
#[derive(Debug)]
pub(super) struct DeviceCodes {
    pub device_code: String,
    pub user_code: String,
}

/// The answer to one poll (RFC 8628 section 3.5).
#[derive(Debug)]
pub(super) enum Polled {
    Pending,
    SlowDown,
    Denied,
    Expired,
    Granted {
        person: String,
        request: DeviceRequest,
        answered: Duration,
    },
    Unknown,
}

/// Why a user code leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UserCodeRefused {
    Unknown,
    TooMany,
}

/// The requests that are not expired, or not for long.
#[derive(Debug, Default)]
pub(super) struct Devices {
    waiting: HashMap<String, Device>,
    wrong_codes: Failures,
}

#[derive(Debug)]
struct Device {
    user_code: String,
    request: DeviceRequest,
    expires: Duration,
    interval: Duration,
    last_poll: Option<Duration>,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    None,
    Approved { person: String, at: Duration },
    Denied,
}

impl Devices {
    /// A new request, or `None` when too many are waiting.
    pub(super) fn begin(&mut self, request: DeviceRequest, life: Duration, interval: Duration) -> Option<DeviceCodes> {
        let now = request.at;
        self.waiting.retain(|_, device| device.expires + EXPIRED_KEPT > now);
        if self.waiting.len() >= MOST {
            return None;
        }
        let codes = DeviceCodes {
            device_code: super::random_token(),
            user_code: random_user_code(),
        };
        let device = Device {
            user_code: codes.user_code.clone(),
            request,
            expires: now + life,
            interval,
            last_poll: None,
            answer: Answer::None,
        };
        self.waiting.insert(codes.device_code.clone(), device);
        Some(codes)
    }

    /// Finds whether a person's code names a request that waits for an answer.
    pub(super) fn look_up(&mut self, user_code: &str, now: Duration) -> Result<(), UserCodeRefused> {
        self.find(user_code, now).map(|_| ())
    }

    pub(super) fn approve(&mut self, user_code: &str, person: String, now: Duration) -> Result<(), UserCodeRefused> {
        self.find(user_code, now)?.answer = Answer::Approved { person, at: now };
        Ok(())
    }

    pub(super) fn deny(&mut self, user_code: &str, now: Duration) -> Result<(), UserCodeRefused> {
        self.find(user_code, now)?.answer = Answer::Denied;
        Ok(())
    }

    fn find(&mut self, user_code: &str, now: Duration) -> Result<&mut Device, UserCodeRefused> {
        if self.wrong_codes.too_many("", now) {
            return Err(UserCodeRefused::TooMany);
        }
        let wanted = canonical(user_code);
        let found = self.waiting.values_mut().find(|device| {
            canonical(&device.user_code) == wanted && device.expires > now && matches!(device.answer, Answer::None)
        });
        if found.is_none() {
            self.wrong_codes.add("", now);
        }
        found.ok_or(UserCodeRefused::Unknown)
    }

    /// One poll by the device. A poll that comes too soon lengthens the interval by five seconds.
    pub(super) fn poll(&mut self, device_code: &str, now: Duration) -> Polled {
        let Some(device) = self.waiting.get_mut(device_code) else {
            return Polled::Unknown;
        };
        if device.expires <= now {
            return Polled::Expired;
        }
        let early = device
            .last_poll
            .is_some_and(|last| now + EARLY_ALLOWED < last + device.interval);
        device.last_poll = Some(now);
        if early {
            device.interval += SLOWER;
            return Polled::SlowDown;
        }
        match &device.answer {
            Answer::None => Polled::Pending,
            Answer::Denied => {
                self.waiting.remove(device_code);
                Polled::Denied
            }
            Answer::Approved { person, at } => {
                let granted = Polled::Granted {
                    person: person.clone(),
                    request: device.request.clone(),
                    answered: *at,
                };
                self.waiting.remove(device_code);
                granted
            }
        }
    }
}

/// RFC 8628 section 6.1: letters that spell no words and are not mistaken for one another.
fn random_user_code() -> String {
    let letters = || (0..4).map(|_| char::from(USER_CODE_LETTERS[rand::random_range(0..USER_CODE_LETTERS.len())]));
    letters().chain(['-']).chain(letters()).collect()
}

/// People type codes in any case, with or without the hyphen.
fn canonical(user_code: &str) -> String {
    user_code
        .chars()
        .filter(char::is_ascii_alphabetic)
        .map(|letter| letter.to_ascii_uppercase())
        .collect()
}

const USER_CODE_LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const MOST: usize = 200;
/// A late poll is told `expired_token` and not `invalid_grant` for this long.
const EXPIRED_KEPT: Duration = Duration::from_secs(600);
/// Clients measure the interval between an answer and the next request; the network may shorten it for us.
const EARLY_ALLOWED: Duration = Duration::from_millis(200);
const SLOWER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(300);
    const INTERVAL: Duration = Duration::from_secs(2);

    fn begin(devices: &mut Devices, at: Duration) -> DeviceCodes {
        let request = DeviceRequest {
            scope: "openid".to_owned(),
            challenge: None,
            at,
        };
        devices.begin(request, LIFE, INTERVAL).unwrap()
    }

    #[test]
    fn a_request_is_answered_once() {
        let (mut devices, start) = (Devices::default(), Duration::from_secs(1000));
        let codes = begin(&mut devices, start);
        assert!(matches!(devices.poll(&codes.device_code, start), Polled::Pending));
        let typed = codes.user_code.to_lowercase().replace('-', " ");
        devices.approve(&typed, "bob".to_owned(), start).unwrap();
        assert_eq!(devices.deny(&codes.user_code, start), Err(UserCodeRefused::Unknown));
        let polled = devices.poll(&codes.device_code, start + INTERVAL);
        assert!(matches!(polled, Polled::Granted { person, .. } if person == "bob"));
        assert!(matches!(
            devices.poll(&codes.device_code, start + 2 * INTERVAL),
            Polled::Unknown
        ));
    }

    #[test]
    fn polling_too_fast_is_slowed_even_after_approval() {
        let (mut devices, start) = (Devices::default(), Duration::from_secs(1000));
        let codes = begin(&mut devices, start);
        assert!(matches!(devices.poll(&codes.device_code, start), Polled::Pending));
        devices.approve(&codes.user_code, "bob".to_owned(), start).unwrap();
        let second = start + INTERVAL / 2;
        assert!(matches!(devices.poll(&codes.device_code, second), Polled::SlowDown));
        assert!(matches!(
            devices.poll(&codes.device_code, second + INTERVAL),
            Polled::SlowDown
        ));
        let later = second + INTERVAL + INTERVAL + 2 * SLOWER;
        assert!(matches!(
            devices.poll(&codes.device_code, later),
            Polled::Granted { .. }
        ));
    }

    #[test]
    fn denial_and_expiry_are_told_apart() {
        let (mut devices, start) = (Devices::default(), Duration::from_secs(1000));
        let codes = begin(&mut devices, start);
        devices.deny(&codes.user_code, start).unwrap();
        assert!(matches!(devices.poll(&codes.device_code, start), Polled::Denied));
        let codes = begin(&mut devices, start);
        assert!(matches!(
            devices.poll(&codes.device_code, start + LIFE),
            Polled::Expired
        ));
        assert_eq!(
            devices.approve(&codes.user_code, "bob".to_owned(), start + LIFE),
            Err(UserCodeRefused::Unknown)
        );
    }

    #[test]
    fn guessing_user_codes_is_bounded() {
        let (mut devices, start) = (Devices::default(), Duration::from_secs(1000));
        let codes = begin(&mut devices, start);
        while devices.look_up("AAAA-AAAA", start) != Err(UserCodeRefused::TooMany) {}
        assert_eq!(devices.look_up(&codes.user_code, start), Err(UserCodeRefused::TooMany));
        assert_eq!(
            devices.look_up(&codes.user_code, start + Duration::from_secs(61)),
            Ok(())
        );
    }
}
