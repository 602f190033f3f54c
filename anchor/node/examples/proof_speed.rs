//! Measures proofs of status from a data folder: how large, how long to make, how long to check.
//!
//! `cargo run --release -p piaogen-node --example proof_speed -- DIR [COUNT]`
//!
//! DIR is a chain of `piaogen genesis` that was drained; it is only read. COUNT (default 2,000)
//! invoices are taken from all over the shards, touched ones and untouched ones apart; the proof
//! shows the number of the invoice and the parts of the status that everybody may know. Making a
//! proof is measured with the row of the invoice at hand, and finding the row by itself. One thread.

use anyhow::{Context, Result, ensure};
use piaogen_node::config::Config;
use piaogen_node::run::receipts::{Prover, Show, provable_at_rest};
use piaogen_node::setup;
use piaogen_storage::StoreReader;
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::fields::tag;
use piaogen_verify::record::RecordKind;
use piaogen_verify::status::StatusReceipt;
use piaogen_verify::trust_root::TrustRoot;
use std::path::Path;
use std::time::{Duration, Instant};

const PUBLIC: [u16; 3] = [tag::FACE, tag::ORIGIN, tag::COMMITMENT];

#[derive(Default)]
struct Measured {
    sizes: Vec<usize>,
    finding: Duration,
    making: Duration,
    checking: Duration,
}

impl Measured {
    fn say(mut self, what: &str) {
        self.sizes.sort_unstable();
        let Some(last) = self.sizes.len().checked_sub(1) else { return };
        let each = |took: Duration| took.as_secs_f64() * 1e6 / self.sizes.len() as f64;
        println!(
            "{what:<10} {:>6} proofs: {} bytes in the middle, {} at most; find the row {:.1} us, \
             make {:.1} us, decode and check {:.1} us",
            self.sizes.len(),
            self.sizes[last / 2],
            self.sizes[last],
            each(self.finding),
            each(self.making),
            each(self.checking),
        );
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().context("the folder of a chain is missing")?;
    let count: u64 = arguments.next().map_or(Ok(2_000), |text| text.parse())?;
    let config = Config::load(&Path::new(&dir).join("node.toml"))?;
    let genesis = setup::genesis(&config.genesis)?;
    let trust = TrustRoot::of_genesis(&genesis);
    let reader = StoreReader::open(&config.dir)?;
    let archive = setup::archive_at_rest(&config, Some(genesis.chain))?;
    let provable = provable_at_rest(&genesis, &archive, &reader)?;
    let shards = provable.shards.clone();
    let records: u64 = shards.iter().map(|shard| shard.log_size).sum();
    let prover = Prover { store: &reader, archive: &archive, provable };
    let show = Show::Only(vec![tag::NUMBER]);
    let (mut touched, mut untouched) = (Measured::default(), Measured::default());
    for shard in &shards[..shards.len() - 1] {
        let stride = (records / count.max(1)).max(1);
        for log_index in (0..shard.log_size).step_by(stride as usize) {
            let begun = Instant::now();
            let row = prover.row(shard.shard, log_index)?.context("a row is missing")?;
            let found = begun.elapsed();
            let entry = Entry::decode(&row.entry)?;
            let issue = matches!(entry.kind, Some(RecordKind::Issue | RecordKind::IssueRed));
            if !issue || entry.outcome != Outcome::Accepted {
                continue;
            }
            let begun = Instant::now();
            let proved = prover.status(shard.shard, &row, &show, &PUBLIC)?;
            let bytes = proved.proof.encode();
            let made = begun.elapsed();
            let begun = Instant::now();
            let verified = StatusReceipt::decode(&bytes)?.verify(&trust)?;
            let checked = begun.elapsed();
            ensure!(verified.untouched() == proved.status.is_none(), "the proof says otherwise");
            let of = if verified.untouched() { &mut untouched } else { &mut touched };
            of.sizes.push(bytes.len());
            (of.finding, of.making, of.checking) =
                (of.finding + found, of.making + made, of.checking + checked);
        }
    }
    touched.say("touched");
    untouched.say("untouched");
    Ok(())
}
