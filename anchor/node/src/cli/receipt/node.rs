//! Gets receipts from a node that runs, with what witnesses have cosigned where it has that.
//!
//! Where a record lies in the stream its status proof says, so a number is asked for in two steps.
//! Cosignatures are put into a receipt by tiles of the log over the headers, which any node hands
//! out: so a receipt of yesterday gets them without being another.
//!
//! Invariants
//! - Nothing is written that is of another record, or of other headers, than was asked for.
//! - A receipt without cosignatures is said to have none, and is written all the same: who demands
//!   them attaches them later.

use super::{Arguments, Wanted, read_receipt, shown, stream_place};
use crate::cli::{No, Output, status};
use crate::mirror::of_tiles;
use crate::run::receipts::{Show, carry, cosignable, cosigned};
use crate::sinks::split;
use crate::site::Site;
use anyhow::{Context, Result, ensure};
use piaogen_crypto::Digest;
use piaogen_verify::consistency::Consistency;
use piaogen_verify::epoch::EPOCH_PROOF_MAX;
use piaogen_verify::merkle::prove_inclusion;
use piaogen_verify::opening::OpenedField;
use piaogen_verify::receipt::{RECEIPT_MAX, Receipt};
use piaogen_verify::tiles::{HEAD_MAX, Head, Log, Tile, TileHashes, Tiles, WIDTH};
use piaogen_verify::witness::Cosigned;

/// The tiles that a node hands out.
struct Asked<'a>(&'a Site);

impl Tiles for Asked<'_> {
    type Error = anyhow::Error;

    fn tile(&self, tile: &Tile) -> Result<Vec<Digest>> {
        let bytes = self.0.ask(&format!("tiles/{tile}"), 32 * WIDTH)?;
        tile.decode(&bytes).with_context(|| format!("tiles/{tile}"))
    }
}

/// Does with a node what `piaogen receipt` does with a folder.
pub(super) fn run(node: &Site, arguments: &Arguments, output: Output) -> Result<()> {
    let wanted = &arguments.wanted;
    let which = &wanted.which;
    if let Some(height) = which.consistency {
        return wanted.write_consistency(&extends(node, height)?);
    }
    if let Some(path) = &which.attach {
        return wanted.attach(path, |receipt| attach(node, wanted, receipt), output);
    }
    if let Some(path) = &which.renew {
        let mut receipt = read_receipt(path)??;
        renew(node, &mut receipt)?;
        return wanted.write(&receipt, output);
    }
    let mut receipt = find(node, arguments)?;
    if let Show::Only(tags) = shown(&arguments.show)? {
        let hide = |field: &mut OpenedField| {
            if !tags.contains(&field.tag) {
                *field = OpenedField::hidden(field.tag, field.digest());
            }
        };
        receipt.fields.iter_mut().for_each(hide);
    }
    wanted.write(&receipt, output)
}

/// The receipt of the record that is wanted, cosigned where the node has that.
fn find(node: &Site, arguments: &Arguments) -> Result<Receipt> {
    let wanted = &arguments.wanted;
    let (place, entry) = match &wanted.which.at {
        Some(at) => (stream_place(at)?, None),
        None => {
            let (number, subject) = wanted.named()?;
            let named = (wanted.scheme.as_str(), number);
            let proof = status::ask(node, named, wanted.seller.as_deref(), &subject)?.receipt;
            ((proof.shard.shard, proof.entry.offset), Some(proof.entry))
        }
    };
    let given = !wanted.cosigned.is_empty();
    let cosigned = match arguments.newest || given {
        true => None,
        false => ask(node, place, true)?,
    };
    if cosigned.is_none() && !arguments.newest && !given {
        tracing::warn!(
            "the node has no cosignatures over this record yet: the receipt is without; --attach \
             puts them into it when witnesses have signed"
        );
    }
    let mut receipt = match cosigned {
        Some(receipt) => receipt,
        None => {
            let (partition, offset) = place;
            let none = || format!("no provable record at partition {partition} offset {offset}");
            ask(node, place, false)?.with_context(none)?
        }
    };
    let same = entry.is_none_or(|entry| entry == receipt.entry);
    ensure!(same, No("the node answered with the receipt of another record".into()));
    if given {
        attach(node, wanted, &mut receipt)?;
    }
    Ok(receipt)
}

/// The receipt of the record at a place of the stream, if the node has one; none with cosignatures
/// where it hands out none.
fn ask(node: &Site, (partition, offset): (u32, u64), cosigned: bool) -> Result<Option<Receipt>> {
    let path = format!("receipts/{partition}/{offset}?count=1");
    let limit = RECEIPT_MAX as u64 + 4;
    let answer = match cosigned {
        true => node.get(&format!("{path}&cosigned=1"), limit)?,
        false => Some(node.ask(&path, limit)?),
    };
    let receipts = split(&answer.unwrap_or_default())?;
    let Some(bytes) = receipts.first() else { return Ok(None) };
    let receipt = Receipt::decode(bytes).context("the node's answer is no receipt")?;
    let own = (receipt.shard.shard, receipt.entry.offset) == (partition, offset);
    ensure!(own, No("the node answered with the receipt of another record".into()));
    ensure!(
        receipt.cosigned.is_some() == cosigned,
        No("the node answered with other cosignatures than it was asked for".into())
    );
    Ok(Some(receipt))
}

/// Puts the cosignatures of --cosigned, or those of the node, into a receipt.
fn attach(node: &Site, wanted: &Wanted, receipt: &mut Receipt) -> Result<()> {
    let signed = match wanted.checkpoint()? {
        Some(checkpoint) => cosigned(&checkpoint, Vec::new()),
        None => {
            let place = (receipt.shard.shard, receipt.entry.offset);
            let of_node = ask(node, place, true)?.and_then(|receipt| receipt.cosigned);
            of_node.context(
                "the node has no cosignatures over this record yet: let the witnesses catch up, \
                 or name theirs with --cosigned",
            )?
        }
    };
    let size = signed.size;
    // What the node does not know it has no tiles of.
    let height = cosignable(receipt, size, size)?;
    let hashes = TileHashes { tiles: Asked(node), log: Log::History, size };
    let proof = of_tiles(prove_inclusion(&hashes, height, size))?;
    carry(receipt, Cosigned { proof, ..signed })
}

/// The proof that the node's newest header extends that of a height.
fn extends(node: &Site, height: u64) -> Result<Consistency> {
    let head = Head::decode(&node.ask("head", HEAD_MAX)?);
    let newest = head.context("the node's answer is no head")?.header.height;
    let bytes = node.ask(&format!("consistency/{height}/{newest}"), EPOCH_PROOF_MAX as u64)?;
    let proof = Consistency::decode(&bytes).context("the node's answer is no proof")?;
    let own = (proof.older.height, proof.newer.height) == (height, newest);
    ensure!(own, No("the node answered with a proof of other heights".into()));
    Ok(proof)
}

/// Leads a receipt to the node's newest header.
fn renew(node: &Site, receipt: &mut Receipt) -> Result<()> {
    let proof = extends(node, receipt.header.height)?;
    ensure!(
        proof.older == receipt.header,
        No(format!(
            "TWO HISTORIES: the node has another block {} than the receipt: a witness or a mirror \
             that follows the one makes evidence of the other",
            proof.older.height
        ))
    );
    receipt.history = Some((proof.newer, proof.proof));
    receipt.certificate = proof.certificate;
    receipt.changes = proof.changes;
    receipt.cosigned = None;
    Ok(())
}
