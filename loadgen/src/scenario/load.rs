//! A load: generated invoices in great number, and among them some with a life, all in one stream.
//!
//! Invoices to which nothing happens come from the generator, good and bad; those with a life from
//! stories, whose later steps follow at a distance: most soon, some when many other records lie
//! between. What becomes of a record is known beforehand in both, so a load can be kept in a file,
//! sent as fast as it goes, and every receipt checked.
//!
//! The stream is cut into rounds. In each the same number of stories begins, the steps that are due
//! of earlier ones are sent, and so many generated invoices that the ratio of events to invoices is
//! right. So nothing is remembered but where each round starts.
//!
//! Invariants
//! - The same configuration gives the same bytes, whatever the range, the batch or the threads.
//! - Steps of a story, and records of the generator, keep their order.
//! - Stories count hours from the genesis: a load must be executed within a day after it, for then
//!   holds begin to end.

use super::cast::Counts;
use super::season::{Script, Season, SeasonConfig, script, sketch, sketch_cast};
use super::story::{FIRST, LATER, Pattern as P};
use super::{fraud, honest};
use crate::generator::{Generator, GeneratorConfig};
use crate::rng::{Purpose, Rng};
use crate::source::{Generated, Prepared, Source, SourceError, sign_range};
use piaogen_crypto::Lanes;
use piaogen_crypto::sm2::SecretKey;
use piaogen_verify::document::Document;
use piaogen_verify::genesis::Genesis;
use piaogen_verify::record::Class;
use std::collections::VecDeque;
use std::ops::Range;

/// What happens in a load: much tax and booking, some lending, and what must be refused.
const SCRIPTS: &[Script] = &[
    script(P::Honest, 300, honest::deducted),
    script(P::Honest, 200, honest::entered),
    script(P::Honest, 120, honest::booked),
    script(P::Honest, 60, honest::reimbursed),
    script(P::Honest, 20, honest::factored),
    script(P::Honest, 20, honest::settled),
    script(P::Honest, 10, honest::passed_on),
    script(P::Honest, 10, honest::shared),
    script(P::Honest, 5, honest::transferred),
    script(P::Honest, 15, honest::credited),
    script(P::Honest, 15, honest::slipped),
    script(P::Honest, 5, honest::credited_with_consent),
    script(P::Honest, 10, honest::disputed),
    script(P::Honest, 5, honest::cleared),
    script(P::Honest, 5, honest::exported),
    script(P::Honest, 10, honest::documented),
    script(P::Honest, 10, honest::repeated),
    script(P::DoublePledge, 5, fraud::pledged_twice_at_once),
    script(P::DoublePledge, 5, fraud::held_twice_at_once),
    script(P::DoublePledge, 5, fraud::pledged_twice_later),
    script(P::DoublePledge, 2, fraud::pledged_to_itself),
    script(P::RedAfterPledge, 5, fraud::red_after_drawdown),
    script(P::Unconfirmed, 2, fraud::confirmation_taken_back),
    script(P::PaidAmount, 3, fraud::paid_before),
    script(P::Diverted, 3, fraud::diverted),
    script(P::FalseRelease, 2, fraud::released_by_others),
    script(P::OverFinancing, 3, fraud::over_financed),
    script(P::OverFinancing, 2, fraud::overdrawn_hold),
    script(P::DoubleBooking, 10, fraud::booked_twice),
    script(P::DoubleBooking, 5, fraud::booked_by_two),
    script(P::DoubleClaim, 5, fraud::claimed_twice),
    script(P::FalseDeduction, 5, fraud::deducted_falsely),
    script(P::FalseSlip, 3, fraud::red_without_slip),
    script(P::Forbidden, 3, fraud::forbidden),
];

/// Most events for 100 invoices.
pub const EVENTS_MAX: u64 = 200;

/// How soon the steps of a story follow.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// So many of 1000 stories.
    share: u64,
    /// Rounds from the first step to the second.
    first: u64,
    /// Rounds between later steps; at least one, so that no round has two of one story.
    stride: u64,
}

const PACES: [Pace; 4] = [
    Pace { share: 500, first: 1, stride: 1 },
    Pace { share: 300, first: 4, stride: 2 },
    Pace { share: 150, first: 24, stride: 4 },
    Pace { share: 50, first: 96, stride: 1 },
];

impl Pace {
    /// Rounds from the beginning of a story to one of its steps.
    fn lag(&self, step: usize) -> u64 {
        (step as u64).checked_sub(1).map_or(0, |later| self.first + later * self.stride)
    }
}

/// About how many rounds a load has.
const ROUNDS: u64 = 384;

/// What a load is made of.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// Seed, sellers, signatures, and the shares of bad invoices. Its time is when stories begin.
    pub invoices: GeneratorConfig,
    /// How many records there are, of both sorts.
    pub records: u64,
    /// Events for 100 records of invoices, from 1 to [`EVENTS_MAX`].
    pub events_per_100: u64,
}

/// Where a round starts.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Its first record.
    start: u64,
    /// Its generated invoices, by their index in the generator.
    plain: (u64, u64),
}

/// One record of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    /// A generated invoice.
    Plain(u64),
    /// A step of a story.
    Step { story: u64, step: usize },
}

/// A load on a chain, as a source. What a generated duplicate repeats is named by its index in the
/// generator.
#[derive(Debug)]
pub struct Load {
    config: LoadConfig,
    generator: Generator,
    season: Season,
    /// For each script and step, whether it is an event.
    courses: Vec<Vec<bool>>,
    /// Stories that begin in each round.
    stories: u64,
    rounds: Vec<Round>,
}

impl Load {
    /// A load, with the keys of all who act in it.
    pub fn new(config: LoadConfig, genesis: &Genesis, authority: &SecretKey) -> Load {
        let sellers = config.invoices.sellers.max(2);
        // Each key signs about as often as any other.
        let counts = Counts { sellers, buyers: sellers * 2 / 5, banks: (sellers / 50).min(200) };
        let invoices = GeneratorConfig { sellers, records: None, ..config.invoices.clone() };
        let mut season = SeasonConfig::of_scripts(invoices.seed, 0, SCRIPTS);
        (season.counts, season.signatures) = (counts, invoices.signatures);
        let mut season = Season::new(season, genesis, authority);
        (season.clock[FIRST], season.clock[LATER]) = (invoices.base_time_ms, invoices.base_time_ms);
        let courses = courses();
        let stories = stories_of_a_round(&config, &courses);
        let generator = Generator::new(invoices);
        let mut load = Load { config, generator, season, courses, stories, rounds: Vec::new() };
        load.rounds = load.plan();
        load
    }

    /// Records for the topic `registry` that must be in a block before the first record is.
    pub fn registrations(&self) -> Vec<Vec<u8>> {
        self.season.registrations(self.config.invoices.base_time_ms - 10_000)
    }

    fn pace(&self, story: u64) -> usize {
        let mut roll = Rng::new(self.config.invoices.seed, Purpose::Story, story | 1 << 60);
        let mut roll = roll.below(1_000);
        for (at, pace) in PACES.iter().enumerate() {
            match roll.checked_sub(pace.share) {
                None => return at,
                Some(rest) => roll = rest,
            }
        }
        0
    }

    fn course(&self, story: u64) -> &[bool] {
        &self.courses[self.season.config().script(story)]
    }

    /// Where rounds start, until there are enough records.
    fn plan(&self) -> Vec<Round> {
        // Steps that are due in this round and the next ones: events, others.
        let mut due: VecDeque<(u64, u64)> = VecDeque::new();
        let (mut rounds, mut start, mut plain) = (Vec::new(), 0, 0);
        let (mut events, mut invoices) = (0, 0);
        while start < self.config.records {
            let begun = rounds.len() as u64 * self.stories;
            for story in begun..begun + self.stories {
                let pace = PACES[self.pace(story)];
                for (step, event) in self.course(story).iter().enumerate() {
                    let lag = pace.lag(step) as usize;
                    due.resize(due.len().max(lag + 1), (0, 0));
                    match event {
                        true => due[lag].0 += 1,
                        false => due[lag].1 += 1,
                    }
                }
            }
            let (now, others) = due.pop_front().unwrap_or_default();
            (events, invoices) = (events + now, invoices + others);
            let wanted: u64 = events * 100 / self.config.events_per_100.clamp(1, EVENTS_MAX);
            let more = wanted.saturating_sub(invoices);
            rounds.push(Round { start, plain: (plain, plain + more) });
            (invoices, plain) = (invoices + more, plain + more);
            start += now + others + more;
        }
        rounds
    }

    /// The records of a round, in their order.
    fn items(&self, round: u64) -> Vec<Item> {
        let longest = self.courses.iter().map(Vec::len).max().unwrap_or(0);
        let mut steps = Vec::new();
        for (at, pace) in PACES.iter().enumerate() {
            for step in 0..longest {
                let Some(begun) = round.checked_sub(pace.lag(step)) else { break };
                let stories = begun * self.stories..(begun + 1) * self.stories;
                let due = stories
                    .filter(|story| self.pace(*story) == at && step < self.course(*story).len());
                steps.extend(due.map(|story| Item::Step { story, step }));
            }
        }
        let mut rng = Rng::new(self.config.invoices.seed, Purpose::Story, round | 1 << 59);
        for at in (1..steps.len()).rev() {
            steps.swap(at, rng.below(at as u64 + 1) as usize);
        }
        let (mut plain, end) = self.rounds[round as usize].plain;
        let mut items = Vec::with_capacity(steps.len() + (end - plain) as usize);
        while plain < end || !steps.is_empty() {
            let left = steps.len() as u64 + end - plain;
            match rng.below(left) < end - plain {
                true => {
                    items.push(Item::Plain(plain));
                    plain += 1;
                }
                false => items.extend(steps.pop()),
            }
        }
        items
    }

    /// What records of a range are.
    fn range(&self, range: &Range<u64>) -> Vec<Item> {
        let mut items = Vec::new();
        let mut round = self.rounds.partition_point(|round| round.start <= range.start);
        round = round.saturating_sub(1);
        while let Some(Round { start, .. }) = self.rounds.get(round).copied()
            && start < range.end
        {
            let skip = range.start.saturating_sub(start) as usize;
            let take = range.end - start.max(range.start);
            items.extend(self.items(round as u64).into_iter().skip(skip).take(take as usize));
            round += 1;
        }
        items
    }

    fn prepare(&self, index: u64, item: Item) -> Prepared<'_> {
        match item {
            Item::Plain(at) => Prepared { index, ..self.generator.prepare(at) },
            Item::Step { story, step } => {
                let step = self.season.story(story, true).steps.swap_remove(step);
                self.season.prepare(index, step)
            }
        }
    }
}

/// For each script and step, whether it is an event.
fn courses() -> Vec<Vec<bool>> {
    let cast = sketch_cast();
    let of = |script| {
        let steps = sketch(&cast, script, 0).steps.into_iter();
        steps.map(|step| step.kind.class() == Class::Event).collect()
    };
    SCRIPTS.iter().map(of).collect()
}

/// So many that a load has about [`ROUNDS`] rounds.
fn stories_of_a_round(config: &LoadConfig, courses: &[Vec<bool>]) -> u64 {
    let weights = || SCRIPTS.iter().map(|script| u64::from(script.weight));
    let events = |course: &Vec<bool>| course.iter().filter(|event| **event).count() as u64;
    let events: u64 = weights().zip(courses).map(|(weight, course)| weight * events(course)).sum();
    // Of all records, so many of 100 more than the ratio are events.
    let per_100 = config.events_per_100.clamp(1, EVENTS_MAX);
    let wanted = config.records / ROUNDS * per_100 / (100 + per_100);
    (wanted * weights().sum::<u64>() / events.max(1)).max(1)
}

impl Source for Load {
    fn len(&self) -> Option<u64> {
        Some(self.config.records)
    }

    fn batch(&self, range: Range<u64>, lanes: Lanes) -> Result<Vec<Generated>, SourceError> {
        let range = range.start..range.end.min(self.config.records).max(range.start);
        let items = self.range(&range);
        let GeneratorConfig { chain, signatures, .. } = &self.config.invoices;
        let prepare = |index: u64| self.prepare(index, items[(index - range.start) as usize]);
        Ok(sign_range(range.clone(), chain, lanes, *signatures, prepare))
    }

    fn document(&self, index: u64) -> Option<Document> {
        let item = *self.range(&(index..index + 1)).first()?;
        self.prepare(index, item).document
    }
}

#[cfg(test)]
mod tests;
