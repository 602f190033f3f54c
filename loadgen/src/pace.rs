//! Says how many records are due after a time: fixed rate, daily curve, bursts, or all at once.
//!
//! Pure: time comes in, a count goes out. The driver sends what is due and was not sent yet, so a
//! stream that stalls catches up afterwards and the latency of the stall is measured, not hidden.
//!
//! Invariants
//! - What is due never becomes less.
//! - Integers alone: a schedule is the same on every machine.

use std::time::Duration;

/// Invoices of each hour of a working day, in thousandths: quiet nights, a peak before noon and one
/// in the afternoon.
pub const DAY: [u64; 24] =
    [4, 3, 2, 2, 3, 6, 12, 28, 62, 94, 108, 98, 58, 66, 92, 98, 90, 68, 40, 26, 18, 12, 7, 3];

/// When records are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// As fast as it goes.
    Fastest,
    /// So many a second.
    Fixed {
        /// Records a second.
        per_second: u64,
    },
    /// Days like [`DAY`], one after the other.
    Day {
        /// Records a day.
        per_day: u64,
        /// How long a day takes: 24 hours, or compressed to minutes.
        length: Duration,
    },
    /// A base rate, and bursts on top of it.
    Burst {
        /// Records a second between bursts.
        base: u64,
        /// Records a second within a burst.
        peak: u64,
        /// From the begin of one burst to the next.
        every: Duration,
        /// How long a burst lasts.
        length: Duration,
    },
}

fn at_rate(per_second: u64, nanos: u128) -> u128 {
    u128::from(per_second) * nanos / 1_000_000_000
}

impl Schedule {
    /// How many records are due after this time; `u64::MAX` where nothing holds them back.
    pub fn due(&self, elapsed: Duration) -> u64 {
        let nanos = elapsed.as_nanos();
        let due = match self {
            Schedule::Fastest => return u64::MAX,
            Schedule::Fixed { per_second } => at_rate(*per_second, nanos),
            Schedule::Day { per_day, length } => due_of_day(*per_day, length.as_nanos(), nanos),
            Schedule::Burst { base, peak, every, length } => {
                let (every, length) = (every.as_nanos().max(1), length.as_nanos());
                let length = length.min(every);
                let in_burst = nanos / every * length + (nanos % every).min(length);
                at_rate(*base, nanos - in_burst) + at_rate(*peak, in_burst)
            }
        };
        u64::try_from(due).unwrap_or(u64::MAX)
    }
}

fn due_of_day(per_day: u64, length: u128, nanos: u128) -> u128 {
    let length = length.max(1);
    let (days, within) = (nanos / length, nanos % length);
    let total: u64 = DAY.iter().sum();
    // Place within the day in units of 1/24 of its length.
    let scaled = within * 24;
    let (hour, rest) = ((scaled / length) as usize, scaled % length);
    let before: u64 = DAY[..hour].iter().sum();
    let weight = u128::from(before) * length + u128::from(DAY[hour]) * rest;
    let per_day = u128::from(per_day);
    // Nanoseconds of a day are below 2^47: the product stays below 2^128 for any count.
    days * per_day + per_day * (weight / u128::from(total)) / length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Schedule> {
        let (every, length) = (Duration::from_secs(10), Duration::from_secs(2));
        vec![
            Schedule::Fixed { per_second: 28_000 },
            Schedule::Day { per_day: 1_000_003, length: Duration::from_secs(240) },
            Schedule::Day { per_day: u64::MAX, length: Duration::from_secs(86_400) },
            Schedule::Burst { base: 100, peak: 5_000, every, length },
        ]
    }

    #[test]
    fn what_is_due_never_becomes_less_and_starts_at_zero() {
        for schedule in all() {
            let mut last = 0;
            assert_eq!(schedule.due(Duration::ZERO), 0);
            for step in 0..5_000 {
                let due = schedule.due(Duration::from_millis(step * 97));
                assert!(due >= last, "{schedule:?} at step {step}");
                last = due;
            }
        }
        assert_eq!(Schedule::Fastest.due(Duration::ZERO), u64::MAX);
    }

    #[test]
    fn rates_hold() {
        let second = Duration::from_secs(1);
        assert_eq!(Schedule::Fixed { per_second: 28_000 }.due(second), 28_000);
        let (every, length) = (Duration::from_secs(10), Duration::from_secs(2));
        let burst = Schedule::Burst { base: 100, peak: 5_000, every, length };
        assert_eq!(burst.due(Duration::from_secs(2)), 10_000);
        assert_eq!(burst.due(Duration::from_secs(10)), 10_800);
        assert_eq!(burst.due(Duration::from_secs(21)), 26_600);
    }

    #[test]
    fn a_day_has_its_peak_before_noon_and_its_count_at_the_end() {
        let day = Schedule::Day { per_day: 240_000, length: Duration::from_secs(240) };
        assert_eq!(day.due(Duration::from_secs(240)), 240_000);
        assert_eq!(day.due(Duration::from_secs(480)), 480_000);
        let hour = |h: u64| {
            day.due(Duration::from_secs(h * 10 + 10)) - day.due(Duration::from_secs(h * 10))
        };
        let peak = (0..24).max_by_key(|h| hour(*h));
        assert_eq!(peak, Some(10));
        assert!(hour(3) * 30 < hour(10));
        assert_eq!(DAY.iter().sum::<u64>(), 1_000);
    }
}
