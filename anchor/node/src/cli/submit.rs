//! `piaogen submit`: signs documents or registry changes and sends them into the stream.

use super::{DOCUMENT_MAX, No, Output, Place, read_text};
use crate::run::chain::clock_ms;
use crate::setup;
use crate::sinks::StreamSink;
use anyhow::{Context, Result, bail, ensure};
use piaogen_crypto::sm2::PublicKey;
use piaogen_loadgen::send::Sink;
use piaogen_verify::document::Fields;
use piaogen_verify::fields::{name_of, tag};
use piaogen_verify::genesis::{Genesis, ROLES};
use piaogen_verify::json;
use piaogen_verify::record::{self, Draft, RecordKind};
use piaogen_verify::scheme::{Scheme, check_invoice};
use piaogen_verify::value;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Secret key that signs, PKCS#8 PEM.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
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
    /// Register a participant.
    Register {
        /// Its id, for example CN-USCC:91440300708461136T.
        #[arg(long)]
        party: String,
        /// Its name.
        #[arg(long)]
        name: String,
        /// Its roles: authority, issuer.
        #[arg(long, required = true)]
        role: Vec<String>,
        /// Its public key, SPKI PEM.
        #[arg(long, value_name = "FILE")]
        public: PathBuf,
    },
    /// Replace the keys of a participant by a new one.
    Rotate {
        /// Its id.
        #[arg(long)]
        party: String,
        /// The new public key, SPKI PEM.
        #[arg(long, value_name = "FILE")]
        public: PathBuf,
    },
    /// Make a key invalid.
    Revoke {
        /// The key id, in hex.
        #[arg(long)]
        key_id: String,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
    },
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
    if !record.kind.is_invoice() {
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
    if !record.kind.is_invoice() {
        return Ok(());
    }
    check_invoice(&record, &genesis.file.schemes).map_err(|outcome| {
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
    let path = arguments.key.as_ref().context("--key FILE is needed to sign")?;
    let key = setup::secret_key(path)?;
    let sign = |kind, secret, fields: &Fields| {
        Draft { kind, signed_at: clock_ms(), secret, fields: fields.pairs() }
            .sign(&genesis.chain, &key)
    };
    if let What::Issue { documents } = &arguments.what {
        return documents
            .iter()
            .map(|path| {
                let name = path.display().to_string();
                let document = json::document_from_json(&read_text(path, DOCUMENT_MAX)?)
                    .with_context(|| name.clone())?;
                let kind = kind_of(&document.fields, genesis);
                Ok(sign(kind, document.secret, &document.fields))
            })
            .collect();
    }
    let (kind, fields) = registry_fields(&arguments.what)?;
    Ok(vec![sign(kind, [0; 16], &fields)])
}

/// Red where the scheme counts its type among the red ones.
fn kind_of(fields: &Fields, genesis: &Genesis) -> RecordKind {
    let code = fields.get(tag::SCHEME).unwrap_or_default();
    let red = Scheme::find(&genesis.file.schemes, code)
        .is_some_and(|scheme| scheme.red_types.iter().any(|t| t == fields.text(tag::TYPE_CODE)));
    if red { RecordKind::IssueRed } else { RecordKind::Issue }
}

fn public_key(path: &Path) -> Result<Vec<u8>> {
    let key = PublicKey::from_spki_pem(&read_text(path, 64 << 10)?)
        .with_context(|| format!("public key {}", path.display()))?;
    Ok(key.to_compressed().to_vec())
}

fn registry_fields(what: &What) -> Result<(RecordKind, Fields)> {
    let mut fields = Fields::new();
    let kind = match what {
        What::Register { party, name, role, public } => {
            let mut roles = 0;
            for name in role {
                let known = ROLES.iter().find(|(_, known)| known == name);
                roles |= known.with_context(|| format!("there is no role {name:?}"))?.0;
            }
            fields.set_text(tag::PARTY, party);
            fields.set_text(tag::PARTY_NAME, name);
            fields.set(tag::ROLES, value::uint(roles));
            fields.set(tag::PUBLIC_KEY, public_key(public)?);
            RecordKind::Register
        }
        What::Rotate { party, public } => {
            fields.set_text(tag::PARTY, party);
            fields.set(tag::PUBLIC_KEY, public_key(public)?);
            RecordKind::Rotate
        }
        What::Revoke { key_id, reason } => {
            let id = hex::decode(key_id).map_err(|_| anyhow::anyhow!("--key-id is not hex"))?;
            ensure!(id.len() == 32, "--key-id has {} bytes, not 32", id.len());
            fields.set(tag::REVOKED_KEY, id);
            fields.set_text(tag::REASON, reason.as_deref().unwrap_or(""));
            RecordKind::Revoke
        }
        What::Issue { .. } | What::Records { .. } => bail!("not a registry change"),
    };
    Ok((kind, fields))
}
