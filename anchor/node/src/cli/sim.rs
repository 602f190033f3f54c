//! `piaogen sim`: runs sets of validators from seeds, and checks what is promised.
//!
//! Nothing of a running node is in it: validators, network, disks, clocks and brokers are simulated.

use super::{No, Output};
use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use piaogen_sim::{Config, Fault, Report, Role};
use piaogen_verify::genesis::PARTITIONS_MAX;
use piaogen_verify::header::VALIDATORS_MAX;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Which seeds: one, or A..B without B.
    #[arg(long, default_value = "0..100", value_parser = seeds)]
    seeds: Range<u64>,
    /// How many validators a set has.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=VALIDATORS_MAX))]
    validators: u64,
    /// Partitions of the topic of records.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=PARTITIONS_MAX as i64))]
    partitions: u32,
    /// Records of a run, beside those of the registry.
    #[arg(long, default_value_t = 120)]
    records: u64,
    /// Whether anything goes wrong at all.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    faults: bool,
    /// Let only this go wrong, instead of what the seed says.
    #[arg(long, value_parser = PossibleValuesParser::new(Fault::ALL.map(Fault::name)))]
    fault: Option<String>,
    /// Let some validators behave like this, instead of what the seed says.
    #[arg(long, value_parser = PossibleValuesParser::new(Role::ALL.map(Role::name)))]
    role: Option<String>,
    /// Whether the validator set changes meanwhile, in epochs, instead of what the seed says.
    #[arg(long)]
    epochs: Option<bool>,
    /// How many behave like that; as many as may fail where it is not said.
    #[arg(long, requires = "role")]
    liars: Option<u64>,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
    let range = match text.split_once("..") {
        Some((first, end)) => number(first)?..number(end)?,
        None => {
            let seed = number(text)?;
            seed..seed.checked_add(1).ok_or("is too large")?
        }
    };
    if range.is_empty() { Err("holds no seed; give A..B with A below B".into()) } else { Ok(range) }
}

impl Arguments {
    fn config(&self, seed: u64) -> Config {
        let n = self.validators as usize;
        let liars = self.liars.map_or((n - 1) / 3, |liars| liars as usize);
        let role = self.role.as_deref().and_then(Role::of_name);
        Config {
            validators: n,
            partitions: self.partitions,
            records: self.records,
            fault: self.fault.as_deref().and_then(Fault::of_name),
            role: role.map(|role| (role, liars)),
            epochs: self.epochs,
            faults: self.faults,
            ..Config::new(seed)
        }
    }

    /// The command that runs one seed of these again.
    fn again(&self, seed: u64) -> String {
        let (validators, records) = (self.validators, self.records);
        let mut text =
            format!("piaogen sim --seeds {seed} --validators {validators} --records {records}");
        if self.partitions != 2 {
            let _ = write!(text, " --partitions {}", self.partitions);
        }
        // Writing to a string cannot fail.
        if !self.faults {
            text.push_str(" --faults false");
        }
        for (name, value) in [("fault", &self.fault), ("role", &self.role)] {
            let _ = value.as_ref().map(|value| write!(text, " --{name} {value}"));
        }
        let _ = self.liars.map(|liars| write!(text, " --liars {liars}"));
        let _ = self.epochs.map(|epochs| write!(text, " --epochs {epochs}"));
        text
    }
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let (begun, next) = (Instant::now(), AtomicU64::new(arguments.seeds.start));
    let (failed, printed) = (Mutex::new(Vec::new()), Mutex::new(Ok(())));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !arguments.seeds.contains(&seed) {
                return;
            }
            let ran = piaogen_sim::run(&arguments.config(seed));
            // One at a time, so that lines stay whole.
            let mut printed = printed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let good = ran.as_ref().is_ok_and(Report::is_good);
            let said = ran.map_err(Into::into).and_then(|one| say(arguments, &one, output));
            *printed = std::mem::replace(&mut *printed, Ok(())).and(said);
            if !good {
                failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(seed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    printed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())?;
    let mut failed = failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    failed.sort_unstable();
    let runs = arguments.seeds.end - arguments.seeds.start;
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!("{runs} runs in {seconds:.1} s, {:.1} a second", runs as f64 / seconds);
    match failed.first() {
        None => Ok(()),
        Some(seed) => {
            let again = arguments.again(*seed);
            Err(No(format!("{} of {runs} runs failed; again: {again}", failed.len())).into())
        }
    }
}

fn say(arguments: &Arguments, report: &Report, output: Output) -> Result<()> {
    let Report { seed, fingerprint, elapsed, blocks, records, counts, violations } = report;
    let json = serde_json::json!({
        "seed": seed, "good": report.is_good(), "fingerprint": fingerprint,
        "simulated_ms": u64::try_from(elapsed.as_millis()).context("a run of years")?,
        "blocks": blocks, "records": records, "counts": counts, "violations": violations,
        "again": arguments.again(*seed),
    });
    output.print(&json, || {
        let short = if fingerprint.is_empty() { "-" } else { fingerprint };
        let happened: Vec<String> =
            counts.iter().map(|(what, times)| format!("{what} {times}")).collect();
        let mut text = format!(
            "seed {seed}: {short}, {blocks} blocks, {records} records, {:.1} s; {}",
            elapsed.as_secs_f64(),
            happened.join(", ")
        );
        for violation in violations {
            let _ = write!(text, "\n  FAILED {violation}");
        }
        if !violations.is_empty() {
            let _ = write!(text, "\n  again: {}", arguments.again(*seed));
        }
        text
    })
}
