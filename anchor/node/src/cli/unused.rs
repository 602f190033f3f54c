//! `piaogen unused`: states that the keys of a node have voted nowhere.
//!
//! A node that is given a key after the key's epoch has begun cannot know what the key has said in it,
//! and follows without a vote until the epoch ends. Who made the key does know. Where more keys are so
//! than a set can miss, the epoch would not end: this is then the way on.

use super::{Output, Place};
use anyhow::Result;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// State it: neither `key` nor `next_key` of this configuration has voted, on any machine, unless
    /// its record is in `signed` here. One that has can then vote twice, which everybody can prove.
    #[arg(long, required = true)]
    never_voted: bool,
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let config = arguments.place.config()?;
    let signed = config.signed_dir();
    let mut keys = Vec::new();
    for source in [Some(&config.key), config.next_key.as_ref()].into_iter().flatten() {
        let key = source.public_key()?;
        keys.push((hex::encode(key.to_compressed()), piaogen_order::begin_record(&signed, &key)?));
    }
    let row = |(key, begun): &(String, bool)| serde_json::json!({ "key": key, "begun": begun });
    let json = serde_json::json!({ "keys": keys.iter().map(row).collect::<Vec<_>>() });
    output.print(&json, || {
        let line = |(key, begun): &(String, bool)| match begun {
            true => format!("{key}  its record begins: it may vote"),
            false => format!("{key}  its record was there, and stays as it is"),
        };
        keys.iter().map(line).collect::<Vec<_>>().join("\n")
    })
}
