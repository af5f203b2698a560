//! Plays one channel in the terminal, in time.

use std::io::{Write as _, stdout};
use std::time::Duration;

use doorward_audit::{Event, Fault, Stamped};
use tokio::io::{AsyncReadExt as _, Stdin};
use tokio::time::{Instant, sleep_until};

use super::filter::Filter;
use super::terminal::Terminal;
use crate::cli::ReplayArgs;
use crate::error::Error;
use crate::recording::damaged;
use crate::say;
use crate::signals::Signals;

/// How many remarks are kept for the end.
const MOST_NOTES: usize = 50;

/// A recording being played.
#[derive(Debug)]
pub(super) struct Player {
    channel: u32,
    pace: Pace,
    filter: Option<Filter>,
    buffer: String,
}

impl Player {
    /// Plays this channel as the command line wants it.
    pub(super) fn new(channel: u32, args: &ReplayArgs) -> Self {
        let pace = Pace {
            speed: args.speed,
            longest: args.max_pause,
            from: args.at,
            last: Duration::ZERO,
            due: Duration::ZERO,
        };
        Self {
            channel,
            pace,
            filter: (!args.raw).then(Filter::default),
            buffer: String::new(),
        }
    }

    /// Plays to the end, or until somebody has seen enough.
    pub(super) async fn play(mut self, events: impl Iterator<Item = Result<Stamped, Fault>>) -> Result<(), Error> {
        let terminal = Terminal::take();
        let mut hands = Hands::new(terminal.has_keys());
        let mut clock = Clock {
            began: Instant::now(),
            due: Duration::ZERO,
        };
        let mut notes = Vec::new();
        let mut result = Ok(());
        for event in events {
            let Stamped { at, event } = match event {
                Ok(event) => event,
                Err(fault) => {
                    result = Err(damaged(&fault));
                    break;
                }
            };
            if notes.len() < MOST_NOTES {
                notes.extend(note(&event, self.channel));
            }
            if channel(&event) != Some(self.channel) {
                continue;
            }
            clock.due = self.pace.due(Duration::from_nanos(at));
            if let Some(left) = clock.wait(&mut hands).await {
                result = left;
                break;
            }
            if let Event::Output(output) = &event {
                self.show(&output.bytes)?;
            }
        }
        drop(terminal);
        notes.iter().for_each(|note| say::note(note));
        result
    }

    fn show(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut out = stdout().lock();
        let written = match &mut self.filter {
            Some(filter) => {
                self.buffer.clear();
                filter.push(bytes, &mut self.buffer);
                out.write_all(self.buffer.as_bytes())
            }
            None => out.write_all(bytes),
        };
        written.and_then(|()| out.flush()).map_err(Error::Output)
    }
}

/// What an event has to say that is not drawn.
pub(super) fn note(event: &Event, played: u32) -> Option<String> {
    match event {
        Event::Gap(gap) if gap.channel.is_none_or(|channel| channel == played) => {
            Some(format!("{} bytes are missing here: {}", gap.bytes, gap.why))
        }
        Event::Masked(masked) if masked.channel == Some(played) => {
            Some(format!("{} bytes of {} are masked here", masked.bytes, masked.name))
        }
        Event::DigestStarted(digest) if digest.channel == played && digest.stream != 0 => Some(format!(
            "beyond {} only the hash was recorded",
            say::size(digest.at_byte)
        )),
        _ => None,
    }
}

/// The channel of the events that take part in time: what was shown, and what was done.
fn channel(event: &Event) -> Option<u32> {
    match event {
        Event::Output(output) => Some(output.channel),
        Event::Resized(resized) => Some(resized.channel),
        Event::Exit(exit) => Some(exit.channel),
        Event::ChannelClosed(closed) => Some(closed.channel),
        _ => None,
    }
}

/// From the time of the recording to the time of the replay.
#[derive(Clone, Copy, Debug)]
struct Pace {
    speed: f64,
    longest: Duration,
    /// Everything before this is shown at once.
    from: Duration,
    last: Duration,
    due: Duration,
}

impl Pace {
    /// When in the replay something is due that happened at this time of the recording. Pauses are cut before they are
    /// divided by the speed, so that `--max-pause` means the recording's time.
    fn due(&mut self, at: Duration) -> Duration {
        let begin = self.last.max(self.from);
        let pause = at.saturating_sub(begin).min(self.longest);
        self.last = self.last.max(at);
        self.due += pause.div_f64(self.speed);
        self.due
    }
}

/// When the next thing is due.
#[derive(Debug)]
struct Clock {
    began: Instant,
    due: Duration,
}

impl Clock {
    /// Waits until it is due; `Some` when the replay is to end now. A pause moves everything that follows.
    async fn wait(&mut self, hands: &mut Hands) -> Option<Result<(), Error>> {
        let mut paused: Option<Instant> = None;
        loop {
            let until = self.began + self.due;
            if paused.is_none() && until <= Instant::now() {
                return None;
            }
            tokio::select! {
                () = sleep_until(until), if paused.is_none() => return None,
                () = hands.signals.next() => return Some(Err(Error::Interrupted)),
                key = key(&mut hands.keys) => match (key, paused) {
                    (Some(b'q' | 0x03 | 0x04), _) => return Some(Ok(())),
                    (Some(b' '), None) => paused = Some(Instant::now()),
                    (Some(b' '), Some(since)) => {
                        self.began += since.elapsed();
                        paused = None;
                    }
                    (Some(_), _) => {}
                    (None, _) => hands.keys = None,
                },
            }
        }
    }
}

/// What a person can do meanwhile.
#[derive(Debug)]
struct Hands {
    signals: Signals,
    keys: Option<Stdin>,
}

impl Hands {
    fn new(keys: bool) -> Self {
        Self {
            signals: Signals::new(),
            keys: keys.then(tokio::io::stdin),
        }
    }
}

/// The next key; nothing for ever where there are no keys, `None` once there are no more.
async fn key(keys: &mut Option<Stdin>) -> Option<u8> {
    match keys {
        Some(keys) => keys.read_u8().await.ok(),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(speed: f64, longest: u64, from: u64) -> Pace {
        let (longest, from) = (Duration::from_secs(longest), Duration::from_secs(from));
        Pace {
            speed,
            longest,
            from,
            last: Duration::ZERO,
            due: Duration::ZERO,
        }
    }

    fn due(mut pace: Pace, at: &[u64]) -> Vec<u64> {
        at.iter()
            .map(|at| u64::try_from(pace.due(Duration::from_secs(*at)).as_millis()).unwrap())
            .collect()
    }

    #[test]
    fn pauses_are_cut_and_speed_divides() {
        assert_eq!(due(pace(1.0, 10, 0), &[1, 3, 3, 4]), [1000, 3000, 3000, 4000]);
        assert_eq!(due(pace(1.0, 2, 0), &[1, 100, 101]), [1000, 3000, 4000]);
        assert_eq!(due(pace(4.0, 2, 0), &[1, 100]), [250, 750]);
        assert_eq!(
            due(pace(1.0, 10, 0), &[5, 2, 6]),
            [5000, 5000, 6000],
            "time never runs back"
        );
    }

    #[test]
    fn what_comes_before_the_beginning_is_shown_at_once() {
        assert_eq!(due(pace(1.0, 60, 10), &[1, 5, 9, 12, 13]), [0, 0, 0, 2000, 3000]);
        assert_eq!(due(pace(1.0, 60, 1000), &[1, 5, 9]), [0, 0, 0]);
    }
}
