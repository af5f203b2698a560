//! A wall clock that jumps: only heads and the opening carry it. Order and time of a replay come from the monotonic one.

use doorward_audit::{ChannelClosed, ChannelOpened, Coverage, Outcome, Stamped, Verdict, asciicast, events, verify};

use crate::world::{Author, SESSION, World, output};

/// Heads whose wall times step back by years and forward by days, in the middle of what is shown.
#[test]
fn a_wall_clock_that_jumps_moves_nothing_in_the_replay() {
    let mut author = Author::new(World::new(), SESSION);
    let opened = author.world.opened(SESSION);
    let started = opened.started_unix_ms;
    let key = author.world.agent.clone();
    let channel = ChannelOpened {
        channel: 0,
        kind: "session".into(),
    };
    author.append(&[Stamped::new(0, opened), Stamped::new(1_000_000_000, channel)]);
    let jumps = [started + 86_400_000 * 3, 1, u64::MAX, started - 3_600_000, 0];
    for (wall, number) in jumps.into_iter().zip(1..) {
        author.append(&[output(1_000_000_000 + number * 500_000_000, format!("{number}\n"))]);
        author.head_at(&key, false, wall);
    }
    author.append(&[
        Stamped::new(4_000_000_000, ChannelClosed { channel: 0 }),
        Stamped::new(
            4_000_000_000,
            Coverage {
                channels: 1,
                bytes_seen: 10,
                bytes_recorded: 10,
                ..Coverage::default()
            },
        ),
    ]);
    author.head_at(&key, true, started - 1);
    author.closing(Outcome::Complete);

    let dir = tempfile::tempdir().unwrap();
    author.stored().write(dir.path());
    let report = verify(dir.path(), &author.world.trust());
    assert_eq!(
        (report.verdict(), &report.findings),
        (Verdict::Complete, &vec![]),
        "{report:?}"
    );

    let stream = author.segments.concat();
    let mut cast = Vec::new();
    asciicast::v2(events(&stream[..]), None, &mut cast).unwrap();
    let text = String::from_utf8(cast).unwrap();
    let times: Vec<&str> = text.lines().skip(1).collect();
    let expected: Vec<_> = (1..=5)
        .map(|number| format!("[{}.{}00000, \"o\", \"{number}\\n\"]", number / 2, number % 2 * 5))
        .collect();
    assert_eq!(times, expected);
}
