//! `piaogen submit`: signs documents, events or registry changes and sends them into the stream.

mod make;

use self::make::{Event, RegistryChange};
use super::{DOCUMENT_MAX, No, Output, Place, read_text};
use crate::keys::KeySource;
use crate::run::chain::clock_ms;
use crate::setup;
use crate::sinks::StreamSink;
use anyhow::{Context, Result, bail, ensure};
use piaogen_loadgen::send::Sink;
use piaogen_verify::document::{Document, Fields};
use piaogen_verify::event::check_event;
use piaogen_verify::fields::{name_of, tag};
use piaogen_verify::genesis::Genesis;
use piaogen_verify::json;
use piaogen_verify::record::{self, Class, Draft, RecordKind};
use piaogen_verify::scheme::{Scheme, check_invoice};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Where the secret key is that signs: a file (PKCS#8, encrypted or not), env:NAME, or a
    /// pkcs11: URI.
    #[arg(long, value_name = "KEY")]
    key: Option<KeySource>,
    /// Send even what is known to be refused: the refusal becomes a leaf.
    #[arg(long)]
    anyway: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Issue invoices: documents in JSON, as `import` makes them.
    Issue {
        /// The documents.
        #[arg(required = true)]
        documents: Vec<PathBuf>,
    },
    /// Say what happened to an invoice.
    Event(Event),
    #[command(flatten)]
    Registry(RegistryChange),
    /// Send records that are signed already: JSON, one a line.
    Records {
        /// The file; - is standard input.
        file: PathBuf,
    },
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let config = arguments.place.config()?;
    let genesis = setup::genesis(&config.genesis)?;
    let records = make(arguments, &genesis)?;
    for bytes in &records {
        if let Err(why) = precheck(bytes, &genesis)
            && !arguments.anyway
        {
            return Err(No(format!("{why}; nothing was sent (--anyway sends it)")).into());
        }
    }
    let (topic, registry) = setup::streams(&config, &genesis)?;
    let mut sink = StreamSink::open(&*topic, &*registry)?;
    for (token, bytes) in (0..).zip(&records) {
        let partition = partition_of(bytes, &genesis)?;
        while let Err(error) = sink.send(partition, bytes, token) {
            ensure!(
                error == piaogen_loadgen::send::SendError::Busy,
                "sending record {token}: {error}"
            );
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    sink.flush()?;
    let mut acks = Vec::new();
    sink.poll_acks(&mut acks)?;
    acks.sort_by_key(|ack| ack.token);
    let sent: Vec<serde_json::Value> = acks
        .iter()
        .map(|ack| serde_json::json!({ "partition": ack.partition, "offset": ack.offset }))
        .collect();
    output.print(&serde_json::json!({ "sent": sent }), || {
        acks.iter()
            .map(|ack| format!("sent: partition {} offset {}\n", ack.partition, ack.offset))
            .collect()
    })
}

fn partition_of(bytes: &[u8], genesis: &Genesis) -> Result<u32> {
    let record = record::decode(bytes).map_err(|_| anyhow::anyhow!("the record is malformed"))?;
    if record.kind.is_registry() {
        return Ok(genesis.file.partitions);
    }
    let subject = record
        .subject(&genesis.file.schemes)
        .map_err(|tag| anyhow::anyhow!("the record has no {}", name_of(tag)))?;
    Ok(record::partition(&subject, genesis.file.partitions))
}

/// What can be known of a record before it is sent.
fn precheck(bytes: &[u8], genesis: &Genesis) -> Result<(), String> {
    let record = record::decode(bytes)
        .map_err(|u| piaogen_verify::entry::Outcome::of_flaw(u.tag, u.flaw).explain())?;
    let checked = match record.kind.class() {
        Class::Invoice => check_invoice(&record, &genesis.file.schemes),
        Class::Event => check_event(&record),
        Class::Registry => Ok(()),
    };
    checked.map_err(|outcome| {
        format!("{} would be {} {}", record.text(tag::NUMBER), outcome.name(), outcome.explain())
    })
}

fn make(arguments: &Arguments, genesis: &Genesis) -> Result<Vec<Vec<u8>>> {
    if let What::Records { file } = &arguments.what {
        let text = read_text(file, 1 << 30)?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        return (1..)
            .zip(lines)
            .map(|(n, line)| json::record_from_json(line).with_context(|| format!("line {n}")))
            .collect();
    }
    let key = arguments.key.as_ref().context("--key KEY is needed to sign")?.open()?;
    let sign = |kind, secret, fields: &Fields| {
        Draft { kind, signed_at: clock_ms(), secret, fields: fields.pairs() }
            .sign_by(&genesis.chain, &*key)
    };
    match &arguments.what {
        What::Issue { documents } => documents
            .iter()
            .map(|path| {
                let document = document(path)?;
                let kind = kind_of(&document.fields, genesis);
                Ok(sign(kind, document.secret, &document.fields)?)
            })
            .collect(),
        What::Event(event) => {
            let (kind, fields) = event.fields()?;
            let mut secret = [0; 16];
            getrandom::fill(&mut secret)
                .map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
            Ok(vec![sign(kind, secret, &fields)?])
        }
        What::Registry(change) => {
            let (kind, fields) = change.fields()?;
            Ok(vec![sign(kind, [0; 16], &fields)?])
        }
        What::Records { .. } => bail!("records are signed already"),
    }
}

fn document(path: &Path) -> Result<Document> {
    let text = read_text(path, DOCUMENT_MAX)?;
    json::document_from_json(&text).with_context(|| path.display().to_string())
}

/// Red where the scheme counts its type among the red ones.
fn kind_of(fields: &Fields, genesis: &Genesis) -> RecordKind {
    let code = fields.get(tag::SCHEME).unwrap_or_default();
    let red = Scheme::find(&genesis.file.schemes, code)
        .is_some_and(|scheme| scheme.red_types.iter().any(|t| t == fields.text(tag::TYPE_CODE)));
    if red { RecordKind::IssueRed } else { RecordKind::Issue }
}
