//! `piaogen receipt`: makes receipts from a data folder, or gets them from a node; renews them, and
//! has them carry what witnesses signed.

mod node;

use super::verify::{Proof, read_receipt};
use super::{DOCUMENT_MAX, No, Origin, Output, read_text};
use crate::config::Config;
use crate::run::receipts::{Prover, Show, provable_at_rest};
use crate::setup;
use anyhow::{Context, Result, anyhow, bail, ensure};
use piaogen_anchor::registry::Registry;
use piaogen_storage::archive::Archive;
use piaogen_storage::{Row, StoreReader};
use piaogen_verify::checkpoint::{CHECKPOINT_MAX, Checkpoint};
use piaogen_verify::consistency::Consistency;
use piaogen_verify::document::Document;
use piaogen_verify::fields::{DOCUMENT, Tag, by_name, tag};
use piaogen_verify::genesis::Genesis;
use piaogen_verify::json;
use piaogen_verify::receipt::Receipt;
use piaogen_verify::record;
use piaogen_verify::scheme::Scheme;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    origin: Origin,
    #[command(flatten)]
    wanted: Wanted,
    /// Fields to show, comma-separated; `all` shows all, nothing hides all.
    #[arg(long, value_delimiter = ',')]
    show: Vec<String>,
    /// Under the node's newest header. Without it a node is asked for what witnesses have cosigned,
    /// where it has that, which is some blocks older.
    #[arg(long, requires = "from", conflicts_with = "cosigned")]
    newest: bool,
}

/// A receipt or a consistency proof, and where it goes: of a data folder as of a mirror.
#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// The record: by number, by place in the stream, or an old receipt.
    #[command(flatten)]
    pub(super) which: Which,
    /// The scheme of the number.
    #[arg(long, default_value = "CN-EINV")]
    pub(super) scheme: String,
    /// The seller, where the scheme numbers per seller.
    #[arg(long)]
    seller: Option<String>,
    /// Carry the cosignatures of this checkpoint, in whose log the receipt's newest header must be.
    /// Several files are joined: of several witnesses over one size.
    #[arg(long, value_name = "FILE", conflicts_with = "consistency")]
    cosigned: Vec<PathBuf>,
    /// Where it goes; standard output without it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the compact form instead of JSON.
    #[arg(long)]
    compact: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// The first accepted record with this number.
    #[arg(long)]
    pub(super) number: Option<String>,
    /// The record at this place of the stream.
    #[arg(long, value_name = "PARTITION:OFFSET")]
    pub(super) at: Option<String>,
    /// Lead this receipt to the newest header.
    #[arg(long, value_name = "RECEIPT")]
    pub(super) renew: Option<PathBuf>,
    /// Leave this receipt, status proof or history as it is, but for the cosignatures of --cosigned;
    /// with `receipt --from` and without --cosigned, for those that the node has.
    #[arg(long, value_name = "PROOF")]
    pub(super) attach: Option<PathBuf>,
    /// Not a receipt: that the newest header extends the one of this height.
    #[arg(long, value_name = "HEIGHT")]
    pub(super) consistency: Option<u64>,
}

impl Wanted {
    /// The number, where it is by number, and its subject.
    pub(super) fn named(&self) -> Result<(&str, Vec<u8>)> {
        let Some(number) = self.which.number.as_deref() else { bail!("which record?") };
        let seller = self.seller.as_deref().map(str::as_bytes);
        Ok((number, record::subject(self.scheme.as_bytes(), seller, number.as_bytes())))
    }

    /// The checkpoint with the cosignatures of all files that are named.
    pub(super) fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        let mut joined: Option<Checkpoint> = None;
        for path in &self.cosigned {
            let note = read_text(path, CHECKPOINT_MAX as u64)?;
            let note = Checkpoint::parse(&note).with_context(|| path.display().to_string())?;
            match &mut joined {
                None => joined = Some(note),
                Some(first) => {
                    let same = first.join(&note);
                    ensure!(same, unlike(first, &note, path));
                }
            }
        }
        Ok(joined)
    }

    /// Has the proof in a file carry the cosignatures that `cosign` puts into the receipt in it.
    pub(super) fn attach(
        &self,
        path: &Path,
        cosign: impl FnOnce(&mut Receipt) -> Result<()>,
        output: Output,
    ) -> Result<()> {
        let mut proof = Proof::read(path)?;
        cosign(proof.receipt_mut())?;
        let carried = proof.receipt_mut().cosigned.as_ref();
        let carried = carried.map(|cosigned| (cosigned.size, cosigned.cosignatures.len()));
        let (size, count) = carried.unwrap_or_default();
        put(self.out.as_deref(), proof.to_bytes(self.compact))?;
        let Some(out) = &self.out else { return Ok(()) };
        let json = serde_json::json!({ "proof": out, "cosigned": size, "cosignatures": count });
        output.print(&json, || format!("{}: {count} cosignatures", out.display()))
    }

    /// Writes a receipt to where it goes.
    pub(super) fn write(&self, receipt: &Receipt, output: Output) -> Result<()> {
        write(receipt, self.out.as_deref(), self.compact, output)
    }

    /// Writes a consistency proof to where it goes.
    pub(super) fn write_consistency(&self, proof: &Consistency) -> Result<()> {
        let bytes = if self.compact { proof.encode() } else { proof.to_json().into_bytes() };
        put(self.out.as_deref(), bytes)
    }
}

/// Why the note in a file is not joined with the ones before it.
fn unlike(first: &Checkpoint, note: &Checkpoint, path: &Path) -> anyhow::Error {
    let (path, size, other) = (path.display(), first.size, note.size);
    if first.chain_id != note.chain_id {
        return anyhow!("{path} is of chain {}, not of {}", note.chain_id, first.chain_id);
    }
    if size != other {
        return anyhow!(
            "{path} is over {other} headers, the one before it over {size}: `piaogen witness \
             gather` finds a size that all signed"
        );
    }
    No(format!(
        "TWO HISTORIES: {path} has another root of the first {size} headers than the one before \
         it; `piaogen witness gather` with both makes evidence of them, if witnesses signed both"
    ))
    .into()
}

/// An invoice, by number.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// The number; not needed where the document is at hand.
    #[arg(long)]
    number: Option<String>,
    /// The scheme of the number.
    #[arg(long, default_value = "CN-EINV")]
    pub(super) scheme: String,
    /// The seller, where the scheme numbers per seller.
    #[arg(long)]
    pub(super) seller: Option<String>,
}

impl Target {
    /// The number that is named, and its subject.
    pub(super) fn named(&self) -> Result<(&str, Vec<u8>)> {
        let number = self.number.as_deref().context("which invoice? --number")?;
        let seller = self.seller.as_deref().map(str::as_bytes);
        Ok((number, record::subject(self.scheme.as_bytes(), seller, number.as_bytes())))
    }

    /// The subject: of the number that is named, else of the document.
    fn subject(&self, genesis: &Genesis, document: Option<&Document>) -> Result<Vec<u8>> {
        if self.number.is_some() {
            return Ok(self.named()?.1);
        }
        let fields = &document.context("which invoice? --number or --document")?.fields;
        let need = |tag| fields.get(tag).context("the document has no scheme, number or seller");
        let (scheme, number) = (need(tag::SCHEME)?, need(tag::NUMBER)?);
        let per_seller = Scheme::find(&genesis.file.schemes, scheme).is_some_and(|s| s.per_seller);
        let seller = per_seller.then(|| need(tag::SELLER_PARTY)).transpose()?;
        Ok(record::subject(scheme, seller, number))
    }

    /// The shard of the invoice and the row that created it, if there is one that is provable.
    pub(super) fn find(
        &self,
        folder: &Folder,
        prover: &Prover<'_, StoreReader>,
        document: Option<&Document>,
    ) -> Result<Option<(u32, Row)>> {
        let subject = self.subject(&folder.genesis, document)?;
        let shard = record::partition(&subject, folder.genesis.file.partitions);
        let Some(place) = folder.reader.find(shard, &subject)? else { return Ok(None) };
        Ok(prover.row(shard, place.log_index)?.map(|row| (shard, row)))
    }

    /// The same, where there must be one.
    pub(super) fn row(
        &self,
        folder: &Folder,
        prover: &Prover<'_, StoreReader>,
    ) -> Result<(u32, Row)> {
        let none = "no such invoice was accepted (or it is not provable yet)";
        self.find(folder, prover, None)?.context(none)
    }
}

/// A data folder at rest, opened for reading.
pub(crate) struct Folder {
    pub(crate) genesis: Genesis,
    pub(crate) reader: StoreReader,
    pub(crate) archive: Archive,
}

impl Folder {
    /// Opens what a configuration names.
    pub(crate) fn open(config: &Config) -> Result<Folder> {
        let genesis = setup::genesis(&config.genesis)?;
        let reader = StoreReader::open(&config.dir)?;
        let archive = setup::archive_at_rest(config, Some(genesis.chain))?;
        Ok(Folder { genesis, reader, archive })
    }

    /// The registry as of the last flush point.
    pub(crate) fn registry(&self) -> Result<Registry> {
        let states = &self.reader.flushed().shards;
        let size = states.last().map_or(0, |state| state.log_size);
        crate::run::rebuild_registry(&self.genesis, &self.archive, &self.reader, size)
    }

    /// What answers from it.
    pub(super) fn prover(&self) -> Result<Prover<'_, StoreReader>> {
        let provable = provable_at_rest(&self.genesis, &self.archive, &self.reader)?;
        Ok(Prover { store: &self.reader, archive: &self.archive, provable })
    }
}

pub(super) fn shown(names: &[String]) -> Result<Show> {
    if names.iter().any(|name| name == "all") {
        return Ok(Show::All);
    }
    let tag = |name: &String| -> Result<Tag> {
        let field = by_name(DOCUMENT, name);
        Ok(field.with_context(|| format!("there is no field {name:?}; see verify/FORMAT.md"))?.tag)
    };
    Ok(Show::Only(names.iter().map(tag).collect::<Result<_>>()?))
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let wanted = &arguments.wanted;
    let which = &wanted.which;
    if let Some(node) = arguments.origin.node()? {
        return node::run(&node, arguments, output);
    }
    let folder = Folder::open(&arguments.origin.config()?)?;
    let prover = folder.prover()?;
    if let Some(height) = which.consistency {
        let newest = prover.provable.header.height;
        let none = || format!("the newest header is {newest}: it extends only those below");
        let proof = prover.consistency(height, newest)?.with_context(none)?;
        return wanted.write_consistency(&proof);
    }
    if let Some(path) = &which.attach {
        let note = wanted.checkpoint()?.context("--attach wants --cosigned")?;
        return wanted.attach(path, |receipt| prover.cosign(receipt, &note), output);
    }
    let checkpoint = wanted.checkpoint()?;
    let mut receipt = if let Some(path) = &which.renew {
        let mut receipt = read_receipt(path)??;
        prover.renew(&mut receipt)?;
        receipt
    } else {
        let (shard, index) = place(wanted, &folder, &prover)?;
        let row = prover.row(shard, index)?.context("the record is not provable yet")?;
        prover.receipt(shard, &row, &shown(&arguments.show)?)?
    };
    if let Some(checkpoint) = &checkpoint {
        prover.cosign(&mut receipt, checkpoint)?;
    }
    wanted.write(&receipt, output)
}

fn place(wanted: &Wanted, folder: &Folder, prover: &Prover<'_, StoreReader>) -> Result<(u32, u64)> {
    if let Some(at) = &wanted.which.at {
        let (partition, offset) = stream_place(at)?;
        let index = prover.index_of_offset(partition, offset)?;
        let none = || format!("no provable record at partition {partition} offset {offset}");
        return Ok((partition, index.with_context(none)?));
    }
    let (number, subject) = wanted.named()?;
    let shard = record::partition(&subject, folder.genesis.file.partitions);
    let place = folder.reader.find(shard, &subject)?;
    let none = || format!("{} {number} was not accepted (or is not flushed yet)", wanted.scheme);
    Ok((shard, place.with_context(none)?.log_index))
}

/// Writes a receipt, and says what it is where it went to a file.
pub(super) fn write(
    receipt: &Receipt,
    out: Option<&Path>,
    compact: bool,
    output: Output,
) -> Result<()> {
    let bytes = if compact { receipt.encode() } else { receipt.to_json().into_bytes() };
    let length = bytes.len();
    put(out, bytes)?;
    match out {
        None => Ok(()),
        Some(path) => {
            let outcome = receipt.entry.outcome.name();
            let count = receipt.cosigned.as_ref().map_or(0, |cosigned| cosigned.cosignatures.len());
            let json = serde_json::json!({
                "receipt": path, "bytes": length, "outcome": outcome, "cosignatures": count,
            });
            output.print(&json, || {
                let cosigned = match count {
                    0 => String::new(),
                    count => format!(", {count} cosignatures"),
                };
                format!("{}: {length} bytes, {outcome}{cosigned}", path.display())
            })
        }
    }
}

/// A place of the stream as it is written: PARTITION:OFFSET.
pub(super) fn stream_place(at: &str) -> Result<(u32, u64)> {
    at.split_once(':')
        .and_then(|(p, o)| Some((p.parse().ok()?, o.parse().ok()?)))
        .with_context(|| format!("--at {at:?} is not PARTITION:OFFSET"))
}

/// Writes to a file, or to standard output.
pub(super) fn put(path: Option<&Path>, bytes: Vec<u8>) -> Result<()> {
    use std::io::Write;
    match path {
        Some(path) => std::fs::write(path, bytes).with_context(|| path.display().to_string()),
        None => std::io::stdout().write_all(&bytes).context("standard output"),
    }
}

/// Shows fields of a receipt from the holder's own document: needs no node.
pub(super) fn reveal(receipt: &Path, document: &Path, show: &[String]) -> Result<Receipt> {
    let mut receipt = read_receipt(receipt)??;
    let document = json::document_from_json(&read_text(document, DOCUMENT_MAX)?)?;
    let tags: Vec<Tag> = match shown(show)? {
        Show::All => document.fields.iter().map(|(tag, _)| tag).collect(),
        Show::Only(tags) => tags,
    };
    receipt.hide_all();
    receipt.show(&document, &tags)?;
    Ok(receipt)
}
