//! Counts what was answered and told against what is true.
//!
//! Invariants
//! - Every record is counted once: honest or fraud, as it should be or not.
//! - Alerts are told apart by record, kind and recipient, so that a repeated one counts once.

use super::cast::Actor;
use super::season::{Act, Season};
use super::story::{Pair, Pattern, Step};
use crate::drive::Watch;
use crate::outcomes::{Mismatch, Sent};
use crate::source::Expected;
use piaogen_verify::alert::SignedAlert;
use piaogen_verify::conflict::Detail;
use piaogen_verify::entry::Outcome;
use piaogen_verify::receipt::Receipt;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Kinds of alerts that say that something is wrong, not only that something happened.
const SUSPICIONS: &[&str] = &[
    "dup_different",
    "lien_hit",
    "over_financed",
    "over_booked",
    "wrong_payee",
    "file_elsewhere",
    "registry_number_elsewhere",
];
/// Begins the kinds of alerts on near-duplicates.
const NEAR: &str = "near_";
/// Most surprises that are kept.
const SURPRISES_MAX: usize = 50;

/// What is counted of one pattern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Stories of which a record was answered.
    pub stories: u64,
    /// Records that had to be accepted, or to get their first answer again, with nothing to tell.
    pub honest: u64,
    /// Of these, those that were refused.
    pub false_refusals: u64,
    /// Frauds: records that had to be refused, or to be told.
    pub injected: u64,
    /// Of these, those that were, with the right answer and a proof.
    pub caught: u64,
    /// Those that were refused with another answer than the rules say.
    pub otherwise: u64,
    /// Those that went through.
    pub missed: u64,
    /// Those that only an alert tells, and no alerts were to be had.
    pub unobserved: u64,
    /// Records whose receipt does not verify or is not theirs.
    pub unproved: u64,
    /// Alerts that had to come.
    pub alerts: u64,
    /// Of these, those that came.
    pub told: u64,
}

/// What is counted of one way of making two invoices alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Near {
    /// Pairs that were made.
    pub pairs: u64,
    /// Pairs of which an alert told.
    pub found: u64,
    /// Whether they are one trade.
    pub fraud: bool,
    /// Whether what is compared can find them.
    pub visible: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    kind: String,
    to: Option<String>,
    shard: u32,
    log_index: u64,
}

struct Owed {
    keys: Vec<Key>,
    pattern: Pattern,
    /// A fraud that nothing but these alerts tells.
    only: bool,
}

/// Counts the answers and alerts of a season.
#[derive(Default)]
pub struct Tally {
    rows: BTreeMap<Pattern, Row>,
    near: BTreeMap<&'static str, Near>,
    owed: Vec<Owed>,
    told: HashSet<Key>,
    /// Pairs of records that alerts say are alike, each with its shard and log index.
    near_told: HashSet<[(u32, u64); 2]>,
    /// Story and place of each invoice that is like another.
    invoices: HashMap<(u32, u64), (u64, u64)>,
    /// Log indices of steps that a later refusal must name.
    places: HashMap<(u64, usize), u64>,
    false_alarms: BTreeMap<String, u64>,
    unsigned: u64,
    surprises: Vec<String>,
    observed: bool,
}

impl Tally {
    /// Nothing counted; whether alerts will come.
    pub fn new(observed: bool) -> Tally {
        Tally { observed, ..Tally::default() }
    }

    /// What is counted of each pattern.
    pub fn rows(&self) -> &BTreeMap<Pattern, Row> {
        &self.rows
    }

    /// What is counted of each way of making invoices alike.
    pub fn near(&self) -> &BTreeMap<&'static str, Near> {
        &self.near
    }

    /// Alerts on what is in order, by kind.
    pub fn false_alarms(&self) -> &BTreeMap<String, u64> {
        &self.false_alarms
    }

    /// Alerts whose signature does not hold.
    pub fn unsigned(&self) -> u64 {
        self.unsigned
    }

    /// Whether alerts were to be had.
    pub fn observed(&self) -> bool {
        self.observed
    }

    /// The first answers that were not as they should be, in words.
    pub fn surprises(&self) -> &[String] {
        &self.surprises
    }

    /// Whether no exact fraud got through and nothing honest was refused.
    pub fn is_good(&self) -> bool {
        let good = |row: &Row| {
            row.missed + row.otherwise + row.false_refusals + row.unproved == 0
                && row.caught + row.unobserved == row.injected
        };
        self.unsigned == 0 && self.rows.values().all(good)
    }

    fn surprise(&mut self, what: String) {
        if self.surprises.len() < SURPRISES_MAX {
            self.surprises.push(what);
        }
    }

    /// Counts the answers of an act.
    pub(crate) fn watch<'a>(&'a mut self, act: &'a Act<'a>) -> Watching<'a> {
        Watching { tally: self, act, last: None }
    }

    fn count(&mut self, step: &Step, place: (u64, usize), answer: Answer, pattern: Pattern) {
        let row = self.rows.entry(pattern).or_default();
        row.stories += u64::from(place.1 == 0);
        if !step.fraud {
            row.honest += 1;
        } else {
            row.injected += 1;
        }
        let only_told = step.expected == Expected::Exactly(Outcome::Accepted);
        match (&answer, step.fraud) {
            (Answer::Unproved, _) => row.unproved += 1,
            (Answer::Right, false) => {}
            (Answer::Right, true) if only_told => {}
            (Answer::Right, true) => row.caught += 1,
            (_, false) => row.false_refusals += 1,
            (Answer::Accepted, true) => row.missed += 1,
            (Answer::Otherwise, true) => row.otherwise += 1,
        }
    }

    fn owe(&mut self, season: &Season, step: &Step, receipt: &Receipt, pattern: Pattern) {
        let id = |actor: Actor| season.cast().get(actor).id.clone();
        let key = |wanted: &super::story::Wanted| Key {
            kind: wanted.kind.into(),
            to: wanted.to.map(id),
            shard: receipt.shard.shard,
            log_index: receipt.log_index,
        };
        let keys: Vec<Key> = step.alerts.iter().map(key).collect();
        self.rows.entry(pattern).or_default().alerts += keys.len() as u64;
        let only = step.fraud && receipt.entry.outcome == Outcome::Accepted;
        if !keys.is_empty() {
            self.owed.push(Owed { keys, pattern, only });
        }
    }

    /// Whether the place that a refusal names is that of the record that is in its way.
    fn names_the_right_place(&self, story: u64, step: &Step, outcome: &Outcome) -> bool {
        let Some(known) = step.because.and_then(|at| self.places.get(&(story, at))) else {
            return true;
        };
        match outcome {
            Outcome::Replay { first } => first == known,
            Outcome::Conflict { detail: Detail::Index(index), .. } => index == known,
            _ => true,
        }
    }

    /// Takes alerts that came.
    pub(crate) fn tell(&mut self, alerts: &[SignedAlert], holds: impl Fn(&SignedAlert) -> bool) {
        for signed in alerts {
            if !holds(signed) {
                self.unsigned += 1;
                continue;
            }
            let alert = &signed.alert;
            let (shard, log_index) = (alert.at.shard, alert.at.log_index);
            if let (true, Some(other)) = (alert.kind.starts_with(NEAR), &alert.other) {
                self.near_told.insert([(other.shard, other.log_index), (shard, log_index)]);
                continue;
            }
            let (kind, to) = (alert.kind.clone(), alert.to.clone());
            self.told.insert(Key { kind, to, shard, log_index });
        }
    }

    /// Pairs of invoices that alerts told of, each with story and place; how many more there are
    /// of records of which nothing is known.
    fn pairs_told(&self) -> (HashSet<Pairing>, u64) {
        let mut strangers = 0;
        let known = |place| self.invoices.get(place).copied();
        let pairs = self.near_told.iter().filter_map(|[one, two]| match (known(one), known(two)) {
            (Some(one), Some(two)) => Some([one.min(two), one.max(two)]),
            _ => {
                strangers += 1;
                None
            }
        });
        let pairs = pairs.collect();
        (pairs, strangers)
    }

    /// Whether every alert that had to come has come.
    pub(crate) fn is_told(&self, season: &Season) -> bool {
        let told = self.pairs_told().0;
        let all = self.owed.iter().flat_map(|owed| &owed.keys).all(|key| self.told.contains(key));
        all && pairs_of(season).all(|(story, pair)| {
            !pair.visible || told.contains(&[(story, pair.places.0), (story, pair.places.1)])
        })
    }

    /// Compares what was told with what had to be. To be called once, at the end.
    pub(crate) fn close(&mut self, season: &Season) {
        let mut due: HashSet<Key> = HashSet::new();
        for Owed { keys, pattern, only } in std::mem::take(&mut self.owed) {
            let row = self.rows.entry(pattern).or_default();
            let told = keys.iter().filter(|key| self.told.contains(*key)).count();
            row.told += told as u64;
            match (only, self.observed) {
                (true, false) => row.unobserved += 1,
                (true, true) if told == keys.len() => row.caught += 1,
                (true, true) => row.missed += 1,
                (false, _) => {}
            }
            if self.observed && told < keys.len() {
                let missing = keys.iter().find(|key| !self.told.contains(*key));
                self.surprise(format!("{}: no alert {missing:?}", pattern.name()));
            }
            due.extend(keys);
        }
        for key in self.told.iter().filter(|key| SUSPICIONS.contains(&key.kind.as_str())) {
            if !due.contains(key) {
                *self.false_alarms.entry(key.kind.clone()).or_default() += 1;
            }
        }
        self.compare_pairs(season);
    }

    fn compare_pairs(&mut self, season: &Season) {
        let (told, strangers) = self.pairs_told();
        let mut known = HashSet::new();
        for (story, pair) in pairs_of(season) {
            let key = [(story, pair.places.0), (story, pair.places.1)];
            let near = self.near.entry(pair.how).or_default();
            (near.fraud, near.visible) = (pair.fraud, pair.visible);
            near.pairs += 1;
            near.found += u64::from(told.contains(&key));
            known.insert(key);
        }
        let strangers = strangers + told.difference(&known).count() as u64;
        if strangers > 0 {
            let near = self.near.entry("unrelated invoices").or_default();
            (near.pairs, near.found) = (strangers, strangers);
        }
    }
}

/// Two invoices, each with story and place.
type Pairing = [(u64, u64); 2];

fn pairs_of(season: &Season) -> impl Iterator<Item = (u64, Pair)> {
    (0..season.config().stories).flat_map(|story| {
        let pairs = season.story(story, false).pairs;
        pairs.into_iter().map(move |pair| (story, pair))
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Right,
    Accepted,
    Otherwise,
    Unproved,
}

/// Counts the answers of one act.
pub(crate) struct Watching<'a> {
    tally: &'a mut Tally,
    act: &'a Act<'a>,
    /// Partition and offset of a record that was answered.
    pub(crate) last: Option<(u32, u64)>,
}

impl Watch for Watching<'_> {
    fn answered(&mut self, sent: &Sent, answer: &Result<Receipt, Mismatch>) {
        let (act, index) = (self.act, self.act.story_of(sent.what.index));
        let story = act.season.story(index, false);
        let Some(at) = act.locate(sent.what.index, &story) else { return };
        let (step, pattern) = (&story.steps[at], act.season.pattern(index));
        let mut verdict = match answer {
            Ok(_) => Answer::Right,
            Err(mismatch) => match mismatch.outcome {
                None => Answer::Unproved,
                Some(Outcome::Accepted) => Answer::Accepted,
                Some(_) => Answer::Otherwise,
            },
        };
        let tally = &mut *self.tally;
        match answer {
            Ok(receipt) => {
                self.last = Some((sent.what.partition, sent.offset));
                if story.steps.iter().any(|later| later.because == Some(at)) {
                    tally.places.insert((index, at), receipt.log_index);
                }
                if !tally.names_the_right_place(index, step, &receipt.entry.outcome) {
                    verdict = Answer::Otherwise;
                    let what = format!("{} names another place", sent.what.expected.name());
                    tally.surprise(what);
                }
                if step.kind.is_invoice() && !story.pairs.is_empty() {
                    let at = (receipt.shard.shard, receipt.log_index);
                    tally.invoices.insert(at, (index, step.place));
                }
                tally.owe(act.season, step, receipt, pattern);
            }
            Err(mismatch) => {
                let kind = step.kind.name();
                tally.surprise(format!("{}: step {at}, {kind}: {mismatch}", pattern.name()));
            }
        }
        tally.count(step, (index, at), verdict, pattern);
    }
}
