//! `scenario`: a season of frauds, or races of two banks, on a chain that is there or made for it.

use super::{Answer, Host, authority, bar, key_value, read_genesis};
use crate::kafka::{KafkaConfig, KafkaSink};
use crate::scenario::{
    AlertFile, AlertSource, RaceConfig, Season, SeasonConfig, Stage, play, race,
};
use crate::send::Sink;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// What is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Honest trade and every fraud that is known.
    Season,
    /// Two banks race for each of many invoices.
    Race,
}

/// `scenario`
#[derive(Debug, Args)]
pub struct Scenario {
    /// What is played.
    #[arg(default_value = "season")]
    pub what: What,
    /// Everything follows from this number.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// About how many records; of a race, how many invoices are raced for.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=50_000_000))]
    pub records: Option<u64>,
    /// Make a chain for it in a temporary folder, and run it in this process.
    #[arg(long)]
    pub embedded: bool,
    /// Partitions of a chain that is made.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub partitions: u32,
    /// The genesis file of a chain that is there.
    #[arg(long, required_unless_present = "embedded", conflicts_with = "embedded")]
    pub genesis: Option<PathBuf>,
    /// Key of an authority of that chain (PKCS #8 PEM); by default the one of a demo chain with
    /// this seed.
    #[arg(long)]
    pub authority_key: Option<PathBuf>,
    /// Kafka brokers of that chain, `host:port`, separated by commas.
    #[arg(long, required_unless_present = "embedded", conflicts_with = "embedded")]
    pub kafka: Option<String>,
    /// What the names of its topics begin with, as `piaogen genesis --topic-prefix` said.
    #[arg(long, default_value = "")]
    pub topic_prefix: String,
    /// A librdkafka setting, `key=value`; may be repeated.
    #[arg(long = "kafka-option", value_parser = key_value)]
    pub kafka_options: Vec<(String, String)>,
    /// Where a node of that chain serves receipts, `host:port`.
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "embedded")]
    pub receipts: Option<String>,
    /// The file to which that node writes alerts; without it, what only alerts tell is not counted.
    #[arg(long)]
    pub alerts: Option<PathBuf>,
    /// How long to wait for receipts and deadlines, in seconds.
    #[arg(long, default_value_t = 300)]
    pub patience_s: u64,
}

pub(super) fn scenario(args: &Scenario, host: &mut dyn Host) -> Result<Answer> {
    let mut stage = stage(args, host)?;
    match args.what {
        What::Season => {
            let config = SeasonConfig::of_records(args.seed, args.records.unwrap_or(20_000));
            let season = Season::new(config, &stage.genesis, &stage.authority);
            let bar = bar("playing", season.records());
            let play = play(&mut stage, season, &mut |answered| bar.set_position(answered))?;
            bar.finish_and_clear();
            Ok(Answer::Played(Box::new(play)))
        }
        What::Race => {
            let races = args.records.unwrap_or(10_000);
            let bar = bar("racing", races);
            let config = RaceConfig { seed: args.seed, races };
            let report = race(&mut stage, &config, &mut |answered| bar.set_position(answered))?;
            bar.finish_and_clear();
            Ok(Answer::Raced(report))
        }
    }
}

fn stage(args: &Scenario, host: &mut dyn Host) -> Result<Stage> {
    let patience = Duration::from_secs(args.patience_s);
    let (Some(genesis), Some(brokers), Some(receipts)) =
        (&args.genesis, &args.kafka, &args.receipts)
    else {
        return Ok(Stage { patience, ..host.stage(args.seed, args.partitions)? });
    };
    let genesis = read_genesis(genesis)?;
    let authority = authority(args.authority_key.as_deref(), args.seed, &genesis)?;
    let sink = || -> Result<Box<dyn Sink + Send>> {
        let mut config = KafkaConfig::new(brokers, &args.topic_prefix, genesis.file.partitions);
        config.options.clone_from(&args.kafka_options);
        Ok(Box::new(KafkaSink::new(config).context("connecting to Kafka")?))
    };
    let sinks = vec![sink()?, sink()?];
    let receipts = host.receipts(receipts)?;
    let alerts = args.alerts.clone().map(AlertFile::new);
    let alerts = alerts.map(|file| Box::new(file) as Box<dyn AlertSource>);
    Ok(Stage { genesis, authority, sinks, receipts, alerts, patience })
}
