//! The rule against a model of the library and of clients that send as much as they may.

use std::collections::VecDeque;

use super::*;

const PACKET: u32 = 32 * 1024;
/// One step of simulated time.
const STEPS_PER_MS: u64 = 20;
const LATE: u64 = 25 * STEPS_PER_MS;

/// A connection with channel 0 whose reader is stuck (or not) and channel 1 whose reader keeps up.
struct World {
    windows: Windows,
    levels: [Arc<Level>; 2],
    /// The library's own count, and its target.
    left: [u32; 2],
    target: u32,
    /// What the clients may send, and what is under way in each direction.
    credit: [u32; 2],
    up: VecDeque<(u64, usize, u32)>,
    down: VecDeque<(u64, usize, u32)>,
    /// Openings that are told late, and when.
    held: Vec<(usize, u32)>,
    held_until: u64,
    queued: u64,
    passed: u64,
    packets: [u64; 2],
}

impl World {
    fn new() -> Self {
        let inflow: Arc<Inflow> = Arc::default();
        let levels = [Arc::new(Level::new(&inflow)), Arc::new(Level::new(&inflow))];
        let mut windows = Windows::new(inflow);
        for (index, level) in levels.iter().enumerate() {
            windows.open(id(index), Arc::clone(level));
        }
        Self {
            windows,
            levels,
            left: [Inflow::WINDOW; 2],
            target: Inflow::WINDOW,
            credit: [Inflow::WINDOW; 2],
            up: VecDeque::new(),
            down: VecDeque::new(),
            held: Vec::new(),
            held_until: 0,
            queued: 0,
            passed: 0,
            packets: [0; 2],
        }
    }

    /// The library's part, then ours, for one packet.
    fn receive(&mut self, now: u64, half_trip: u64, channel: usize, bytes: u32) {
        assert!(bytes <= self.left[channel], "a client sends no more than it may");
        self.packets[channel] += 1;
        self.left[channel] -= bytes;
        if self.left[channel] < self.target / 2 {
            let more = self.target - self.left[channel];
            self.left[channel] = self.target;
            self.target = self.windows.opened(id(channel));
            if self.windows.inflow.take_late() {
                if self.held.is_empty() {
                    self.held_until = now + LATE;
                }
                self.held.push((channel, more));
            } else {
                self.release(now, half_trip);
                self.down.push_back((now + half_trip, channel, more));
            }
        }
        assert!(
            self.windows.arrived(id(channel), bytes as usize),
            "a client that obeys is within its window"
        );
        assert_eq!(
            self.left[channel],
            self.windows.channels[&id(channel)].left,
            "the count is in step"
        );
        if channel == 0 {
            self.queued += u64::from(bytes);
            self.levels[0].set(usize::try_from(self.queued).unwrap());
        } else {
            self.passed += u64::from(bytes);
        }
    }

    fn release(&mut self, now: u64, half_trip: u64) {
        for (channel, more) in self.held.drain(..) {
            self.down.push_back((now + half_trip, channel, more));
        }
    }

    /// Runs for so long; both clients send what they may, `per_step` packets in all.
    fn run(&mut self, milliseconds: u64, half_trip: u64, per_step: usize, sending: [bool; 2]) {
        for now in 0..milliseconds * STEPS_PER_MS {
            while self.down.front().is_some_and(|(at, ..)| *at <= now) {
                let (_, channel, more) = self.down.pop_front().unwrap();
                self.credit[channel] += more;
            }
            for turn in 0..per_step {
                let channel = (turn + usize::try_from(now).unwrap()) % 2;
                for channel in [channel, 1 - channel] {
                    let bytes = self.credit[channel].min(PACKET);
                    if bytes > 0 && sending[channel] {
                        self.credit[channel] -= bytes;
                        self.up.push_back((now + half_trip, channel, bytes));
                        break;
                    }
                }
            }
            while self.up.front().is_some_and(|(at, ..)| *at <= now) {
                let (_, channel, bytes) = self.up.pop_front().unwrap();
                self.receive(now, half_trip, channel, bytes);
            }
            if !self.held.is_empty() && now >= self.held_until {
                self.release(now, half_trip);
            }
        }
        for (at, ..) in &mut self.up {
            *at = 0;
        }
        for (at, ..) in &mut self.down {
            *at = 0;
        }
        self.held_until = 0;
    }
}

fn id(channel: usize) -> u32 {
    u32::try_from(channel).unwrap()
}

#[test]
fn a_stuck_reader_alone_holds_a_bounded_queue_and_few_packets_move() {
    let mut world = World::new();
    world.run(10_000, 2, 4, [true, false]);
    assert!(world.queued <= 4 * u64::from(Inflow::WINDOW), "{} bytes", world.queued);
    assert!(world.packets[0] < 1_000, "{} packets", world.packets[0]);
}

#[test]
fn an_upload_beside_a_stuck_reader_keeps_most_of_its_speed() {
    // Loopback, a near network, a far one: (one way in steps, packets per step).
    for (half_trip, per_step) in [(1, 1), (2, 4), (10, 2), (400, 1)] {
        let mut alone = World::new();
        alone.run(4_000, half_trip, per_step, [false, true]);
        let mut world = World::new();
        world.run(4_000, half_trip, per_step, [true, true]);
        let share = world.passed * 100 / alone.passed;
        println!(
            "{half_trip} {per_step}: {share} % of {}, queued {}, wrong {}, packets {:?}",
            alone.passed, world.queued, world.windows.wrong, world.packets
        );
        assert!(
            share >= 40,
            "{share} % at {half_trip} steps one way, {} of {}",
            world.passed,
            alone.passed
        );
        assert!(world.queued <= 12 * u64::from(Inflow::WINDOW), "{} bytes", world.queued);
    }
}

#[test]
fn a_reader_that_reads_again_gets_its_window_back() {
    let mut world = World::new();
    world.run(1_000, 2, 4, [true, true]);
    world.queued = 0;
    world.levels[0].set(0);
    let before = world.queued;
    world.run(100, 2, 4, [true, false]);
    assert!(
        world.queued - before > u64::from(Inflow::WINDOW),
        "{} bytes",
        world.queued - before
    );
}

#[test]
fn levels_are_counted_once_and_given_back() {
    let inflow: Arc<Inflow> = Arc::default();
    let (one, two) = (Level::new(&inflow), Level::new(&inflow));
    one.set(Inflow::LONG + 1);
    one.set(Inflow::LONG + 2);
    two.set(Inflow::LONG + 1);
    one.set(Inflow::LONG * 3 / 4);
    assert!(inflow.is_stuck());
    one.set(0);
    assert!(inflow.is_stuck());
    drop(two);
    assert!(!inflow.is_stuck());
}

#[test]
fn a_byte_more_than_the_window_is_told() {
    let inflow: Arc<Inflow> = Arc::default();
    let mut windows = Windows::new(Arc::clone(&inflow));
    windows.open(0, Arc::new(Level::new(&inflow)));
    assert!(windows.arrived(0, Inflow::WINDOW as usize));
    assert!(!windows.arrived(0, 1));
    // The same where the packet is one that opens the window again.
    let mut windows = Windows::new(Arc::clone(&inflow));
    windows.open(0, Arc::new(Level::new(&inflow)));
    windows.opened(0);
    assert!(windows.arrived(0, Inflow::WINDOW as usize));
    windows.opened(0);
    assert!(!windows.arrived(0, Inflow::WINDOW as usize + 1));
    assert!(windows.arrived(7, usize::MAX), "a channel that is not ours to count");
}
