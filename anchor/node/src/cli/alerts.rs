//! `piaogen alerts`: prints what parties must know, one line of JSON each.

use super::Place;
use crate::run::alerts::outbox;
use anyhow::{Context, Result, ensure};
use piaogen_ingest::stream::{Batch, Stream};
use piaogen_verify::alert::SignedAlert;
use std::io::Write;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Begin with this one; the first is 0.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only those for this participant, or for all authorities: `authorities`.
    #[arg(long, value_name = "PARTY")]
    to: Option<String>,
    /// Go on with those that come.
    #[arg(long)]
    follow: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let config = arguments.place.config()?;
    ensure!(config.dir.exists(), "{} is no data folder", config.dir.display());
    let outbox = outbox(&config.dir)?;
    let end = outbox.end_offset(0)?;
    ensure!(arguments.from <= end, "--from {} is above {end}, the end", arguments.from);
    let mut reader = outbox.reader(0, arguments.from)?;
    let mut batch = Batch::new(1_000, 1 << 20);
    let mut out = std::io::stdout().lock();
    while arguments.follow || reader.next_offset() < end {
        batch.clear();
        reader.poll(&mut batch, Duration::from_millis(200))?;
        for entry in batch.iter() {
            let line = std::str::from_utf8(entry.payload).context("an alert is not UTF-8")?;
            let alert = SignedAlert::from_json(line)
                .with_context(|| format!("alert {} is malformed", entry.offset))?;
            let to = alert.alert.to.as_deref().unwrap_or("authorities");
            if arguments.to.as_deref().is_none_or(|wanted| wanted == to) {
                writeln!(out, "{line}").context("standard output")?;
            }
        }
        out.flush().context("standard output")?;
    }
    Ok(())
}
