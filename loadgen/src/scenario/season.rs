//! Chooses the stories of a season, and gives their records act by act.
//!
//! A story is told again whenever one of its records is wanted, so that a season of any length
//! takes a few bytes a story.
//!
//! Invariants
//! - The same seed, clock and number of stories give the same records.
//! - Every script is played at least once, where there are as many stories as scripts.

use super::cast::{Cast, Counts};
use super::invoice::Press;
use super::story::{ACTS, FIRST, Pattern, Step, Story};
use super::{forgery, fraud, honest};
use crate::rng::{Purpose, Rng};
use crate::source::{Damage, Generated, Kind, Prepared, Signatures, Source, SourceError, sign_all};
use piaogen_crypto::sm2::SecretKey;
use piaogen_crypto::{Digest, Lanes};
use piaogen_verify::document::Document;
use piaogen_verify::fields::tag;
use piaogen_verify::genesis::Genesis;
use piaogen_verify::record::{Class, partition};
use rayon::prelude::*;
use std::ops::Range;

/// What can be told, how often, and what the report counts it as.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) pattern: Pattern,
    pub(super) weight: u32,
    tell: fn(&mut Story<'_>),
}

pub(crate) const fn script(pattern: Pattern, weight: u32, tell: fn(&mut Story<'_>)) -> Script {
    Script { pattern, weight, tell }
}

use Pattern as P;

/// Every script; the first is the invoice to which nothing happens.
pub(crate) const SCRIPTS: &[Script] = &[
    script(P::Honest, 300, honest::plain),
    script(P::Honest, 60, honest::consumer),
    script(P::Honest, 120, honest::booked),
    script(P::Honest, 30, honest::reimbursed),
    script(P::Honest, 50, honest::factored),
    script(P::Honest, 30, honest::settled),
    script(P::Honest, 20, honest::passed_on),
    script(P::Honest, 20, honest::shared),
    script(P::Honest, 10, honest::transferred),
    script(P::Honest, 20, honest::credited),
    script(P::Honest, 20, honest::slipped),
    script(P::Honest, 10, honest::credited_with_consent),
    script(P::Honest, 20, honest::disputed),
    script(P::Honest, 10, honest::cleared),
    script(P::Honest, 10, honest::exported),
    script(P::Honest, 20, honest::documented),
    script(P::Honest, 20, honest::repeated),
    script(P::Honest, 10, honest::lapsed),
    script(P::Honest, 5, honest::subscription),
    script(P::DoublePledge, 10, fraud::pledged_twice_at_once),
    script(P::DoublePledge, 10, fraud::held_twice_at_once),
    script(P::DoublePledge, 10, fraud::pledged_twice_later),
    script(P::DoublePledge, 5, fraud::pledged_to_itself),
    script(P::RedAfterPledge, 10, fraud::red_after_drawdown),
    script(P::RedAfterPledge, 5, fraud::slip_after_drawdown),
    script(P::RedAfterPledge, 5, fraud::red_elsewhere),
    script(P::RedAfterPledge, 5, fraud::void_elsewhere),
    script(P::AlteredField, 10, forgery::raised_amount),
    script(P::AlteredField, 5, forgery::other_buyer),
    script(P::Invented, 10, forgery::invented),
    script(P::Unconfirmed, 5, fraud::unconfirmed),
    script(P::Unconfirmed, 5, fraud::denied),
    script(P::Unconfirmed, 5, fraud::confirmation_taken_back),
    script(P::Resubmitted, 5, forgery::copied_amount),
    script(P::Resubmitted, 5, forgery::copied_order),
    script(P::Resubmitted, 5, forgery::copied_lines),
    script(P::Resubmitted, 3, forgery::split),
    script(P::Resubmitted, 5, forgery::reissued_while_pledged),
    script(P::Elsewhere, 5, forgery::imported_copy),
    script(P::PaidAmount, 10, fraud::paid_before),
    script(P::Diverted, 10, fraud::diverted),
    script(P::FalseRelease, 5, fraud::released_by_others),
    script(P::FalseRelease, 10, fraud::expired_hold),
    script(P::OverFinancing, 10, fraud::over_financed),
    script(P::OverFinancing, 5, fraud::overdrawn_hold),
    script(P::DoubleBooking, 10, fraud::booked_twice),
    script(P::DoubleBooking, 5, fraud::booked_by_two),
    script(P::DoubleClaim, 10, fraud::claimed_twice),
    script(P::FalseDeduction, 10, fraud::deducted_falsely),
    script(P::FalseSlip, 5, fraud::late_slip),
    script(P::FalseSlip, 5, fraud::red_without_slip),
    script(P::Forbidden, 5, fraud::forbidden),
];

/// What a season is made of.
#[derive(Clone, Debug)]
pub struct SeasonConfig {
    /// Everything follows from it.
    pub seed: u64,
    /// How many stories.
    pub stories: u64,
    /// Who plays.
    pub counts: Counts,
    /// How long what is short-lived lives, in milliseconds of block time.
    pub short_ms: i64,
    /// Whether records are really signed.
    pub signatures: Signatures,
    scripts: &'static [Script],
    weights: Vec<u32>,
    /// Whether each script is played once before chance decides.
    every: bool,
}

impl SeasonConfig {
    /// A season of about so many records.
    pub fn of_records(seed: u64, records: u64) -> SeasonConfig {
        let weights: Vec<u32> = SCRIPTS.iter().map(|script| script.weight).collect();
        let lengths = lengths(SCRIPTS);
        let whole: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let steps: u64 = (weights.iter().zip(&lengths))
            .map(|(weight, acts)| {
                u64::from(*weight) * acts.iter().map(|n| u64::from(*n)).sum::<u64>()
            })
            .sum();
        let stories = (records * whole / steps.max(1)).max(SCRIPTS.len() as u64);
        let scale = |per: u64, min: u64, max: u64| (stories / per).clamp(min, max) as u32;
        let counts = Counts {
            sellers: scale(6, 20, 3_000),
            buyers: scale(6, 20, 3_000),
            banks: scale(200, 5, 200),
        };
        let signatures = Signatures::Real;
        let (scripts, short_ms, every) = (SCRIPTS, 8_000, true);
        SeasonConfig { seed, stories, counts, short_ms, signatures, scripts, weights, every }
    }

    /// So many stories that follow these scripts in turn by chance.
    pub(crate) fn of_scripts(seed: u64, stories: u64, scripts: &'static [Script]) -> SeasonConfig {
        let weights = scripts.iter().map(|script| script.weight).collect();
        SeasonConfig { stories, scripts, weights, ..SeasonConfig::of_records(seed, stories * 5) }
    }

    /// Which script a story follows.
    pub(super) fn script(&self, story: u64) -> usize {
        if self.every && story < self.scripts.len() as u64 {
            return story as usize;
        }
        let mut rng = Rng::new(self.seed, Purpose::Story, story | 1 << 62);
        let mut roll = rng.below(self.weights.iter().map(|weight| u64::from(*weight)).sum());
        for (at, weight) in self.weights.iter().enumerate() {
            match roll.checked_sub(u64::from(*weight)) {
                None => return at,
                Some(rest) => roll = rest,
            }
        }
        0
    }
}

pub(super) fn sketch_cast() -> Cast {
    let key = crate::parties::key(0, "authority", 0);
    Cast::new(0, Counts { sellers: 2, buyers: 2, banks: 3 }, &key)
}

pub(super) fn sketch<'a>(cast: &'a Cast, script: &Script, index: u64) -> Story<'a> {
    let press = Press { cast, seed: 0, now: 0, short_ms: 0, full: false };
    let mut story = Story::begin(press, [0; ACTS], index);
    (script.tell)(&mut story);
    story
}

/// How many records each script has in each act.
fn lengths(scripts: &[Script]) -> Vec<[u8; ACTS]> {
    let cast = sketch_cast();
    let of = |script: &Script| {
        let mut acts = [0; ACTS];
        sketch(&cast, script, 0).steps.iter().for_each(|step| acts[step.act] += 1);
        acts
    };
    scripts.iter().map(of).collect()
}

/// A season on a chain.
#[derive(Debug)]
pub struct Season {
    config: SeasonConfig,
    cast: Cast,
    chain: Digest,
    partitions: u32,
    lengths: Vec<[u8; ACTS]>,
    /// The block time at which each act began; 0 where it has not.
    pub(crate) clock: [i64; ACTS],
}

impl Season {
    /// A season with the keys of all who play.
    pub fn new(config: SeasonConfig, genesis: &Genesis, authority: &SecretKey) -> Season {
        let cast = Cast::new(config.seed, config.counts, authority);
        Season {
            cast,
            chain: genesis.chain,
            partitions: genesis.file.partitions,
            lengths: lengths(config.scripts),
            clock: [0; ACTS],
            config,
        }
    }

    /// What it is made of.
    pub fn config(&self) -> &SeasonConfig {
        &self.config
    }

    /// How many records there are in all acts.
    pub fn records(&self) -> u64 {
        let of = |story| self.lengths[self.config.script(story)].iter().map(|n| u64::from(*n));
        (0..self.config.stories).map(|story| of(story).sum::<u64>()).sum()
    }

    pub(crate) fn cast(&self) -> &Cast {
        &self.cast
    }

    /// Records for the topic `registry` that must be in a block before the first record is.
    pub fn registrations(&self, at_ms: i64) -> Vec<Vec<u8>> {
        self.cast.registrations(&self.chain, at_ms)
    }

    /// What a story counts as.
    pub(crate) fn pattern(&self, story: u64) -> Pattern {
        self.config.scripts[self.config.script(story)].pattern
    }

    /// A story, told with documents or as a sketch.
    pub(crate) fn story(&self, index: u64, full: bool) -> Story<'_> {
        let press = Press {
            cast: &self.cast,
            seed: self.config.seed,
            now: self.clock[FIRST],
            short_ms: self.config.short_ms,
            full,
        };
        let mut story = Story::begin(press, self.clock, index);
        (self.config.scripts[self.config.script(index)].tell)(&mut story);
        story
    }

    /// The records of an act, which has begun.
    pub(crate) fn act(&self, act: usize) -> Act<'_> {
        let mut starts = Vec::with_capacity(self.config.stories as usize + 1);
        let mut at = 0;
        for story in 0..self.config.stories {
            starts.push(at);
            at += u64::from(self.lengths[self.config.script(story)][act]);
        }
        starts.push(at);
        Act { season: self, act, starts }
    }

    pub(super) fn prepare(&self, index: u64, step: Step) -> Prepared<'_> {
        let kind = match step.kind.class() {
            Class::Event => Kind::Event,
            _ if step.fields.amount(tag::TOTAL_GROSS) < 0 => Kind::Red,
            _ => Kind::Blue,
        };
        let now = self.clock[step.act];
        Prepared {
            index,
            kind,
            expected: step.expected,
            document: step.document,
            record_kind: step.kind,
            signed_at: now,
            secret: step.secret,
            fields: step.fields.pairs().to_vec(),
            readable: true,
            signer: self.cast.get(step.actor),
            partition: partition(&step.subject, self.partitions),
            subject: step.subject,
            damage: if step.forged { Damage::SignatureBit(77) } else { Damage::None },
        }
    }
}

/// The records of one act, as a source.
#[derive(Debug)]
pub struct Act<'a> {
    pub(crate) season: &'a Season,
    act: usize,
    /// The first record of each story, and the number of all.
    starts: Vec<u64>,
}

impl Act<'_> {
    /// The story of a record, and its number among the story's steps.
    pub(crate) fn locate<'s>(&self, index: u64, story: &'s Story<'_>) -> Option<usize> {
        let within = index.checked_sub(self.starts[story.index as usize])?;
        let steps: &'s [Step] = &story.steps;
        let of_act = steps.iter().enumerate().filter(|(_, step)| step.act == self.act);
        of_act.map(|(at, _)| at).nth(within as usize)
    }

    /// In which story a record stands.
    pub(crate) fn story_of(&self, index: u64) -> u64 {
        (self.starts.partition_point(|start| *start <= index) as u64).saturating_sub(1)
    }

    fn stories(&self, range: &Range<u64>) -> Range<u64> {
        match range.is_empty() {
            true => 0..0,
            false => self.story_of(range.start)..self.story_of(range.end - 1) + 1,
        }
    }
}

impl Source for Act<'_> {
    fn len(&self) -> Option<u64> {
        self.starts.last().copied()
    }

    fn batch(&self, range: Range<u64>, lanes: Lanes) -> Result<Vec<Generated>, SourceError> {
        let range = range.start..range.end.min(self.len().unwrap_or(0)).max(range.start);
        let prepared: Vec<Prepared<'_>> = self
            .stories(&range)
            .into_par_iter()
            .flat_map_iter(|index| {
                let start = self.starts[index as usize];
                if start == self.starts[index as usize + 1] {
                    return Vec::new();
                }
                let steps = self.season.story(index, true).steps.into_iter();
                let of_act = steps.filter(|step| step.act == self.act);
                (start..)
                    .zip(of_act)
                    .filter(|(at, _)| range.contains(at))
                    .map(|(at, step)| self.season.prepare(at, step))
                    .collect()
            })
            .collect();
        let season = self.season;
        Ok(sign_all(prepared, &season.chain, lanes, season.config.signatures))
    }

    fn document(&self, index: u64) -> Option<Document> {
        let mut story = self.season.story(self.story_of(index), true);
        let at = self.locate(index, &story)?;
        story.steps.swap_remove(at).document
    }
}

#[cfg(test)]
mod tests;
