//! Makes proofs of what became of an invoice, of a running node or of a data folder at rest.
//!
//! Invariants
//! - A proof is made against one provable header, of the status as it was under it; where that is no
//!   longer known, none is made.

use super::receipts::{Prover, Reads, Show};
use anyhow::{Context, Result, bail};
use piaogen_storage::Row;
use piaogen_verify::entry::Entry;
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::header::ShardEntry;
use piaogen_verify::receipt::Receipt;
use piaogen_verify::status::{History, HistoryRecord, Status, StatusProof, StatusReceipt, ZERO};

/// The shard was executed further than the header that everything is proved against, by more than
/// is remembered.
#[derive(Debug, thiserror::Error)]
#[error("the state is ahead of the last final header; ask again in a moment")]
pub struct Ahead;

/// What became of an invoice, and the proof of it.
pub struct Proved {
    /// The status; `None` while the invoice is untouched.
    pub status: Option<Status>,
    /// The proof.
    pub proof: StatusReceipt,
}

impl<R: Reads> Prover<'_, R> {
    /// The proof of the status of the invoice that this row created, with these fields of the
    /// document and these parts of the status shown.
    pub fn status(&self, shard: u32, row: &Row, show: &Show, parts: &[Tag]) -> Result<Proved> {
        self.status_beside(self.receipt(shard, row, show)?, parts)
    }

    /// The proof of the status of the invoice whose record has this receipt, made just now.
    pub fn status_beside(&self, receipt: Receipt, parts: &[Tag]) -> Result<Proved> {
        let issue = receipt.entry.issue.context("the record did not create an invoice")?;
        let ShardEntry { shard, status_root, .. } = receipt.shard;
        let path = self.store.status_path(shard, issue, &status_root)?.ok_or(Ahead)?;
        let status = match path.document {
            Some(bytes) if path.record != ZERO => {
                Some(Status::of_stored(&bytes).context("a stored status does not decode")?)
            }
            _ => None,
        };
        let Ok(siblings) = path.siblings.try_into() else { bail!("a status path is too short") };
        let proof = StatusReceipt::new(receipt, StatusProof { siblings }, status.as_ref(), parts);
        Ok(Proved { status, proof })
    }

    /// Every record that made the status of an invoice.
    pub fn history_of(&self, shard: u32, row: &Row, show: &Show, parts: &[Tag]) -> Result<History> {
        let parts: Vec<Tag> = parts.iter().copied().chain([tag::HISTORY]).collect();
        let Proved { status, proof } = self.status(shard, row, show, &parts)?;
        let made = status.map(|status| status.history).unwrap_or_default();
        let records = made
            .into_iter()
            .map(|(log_index, _)| self.history_record(shard, log_index, &proof.receipt.shard))
            .collect::<Result<_>>()?;
        Ok(History { status: proof, records })
    }

    fn history_record(
        &self,
        shard: u32,
        log_index: u64,
        state: &ShardEntry,
    ) -> Result<HistoryRecord> {
        let row = self.row(shard, log_index)?.context("a record of a status is missing")?;
        let entry = Entry::decode(&row.entry).context("a stored entry does not decode")?;
        let inclusion = self.inclusion(shard, log_index, state.log_size)?;
        Ok(HistoryRecord { log_index, entry, inclusion })
    }
}
