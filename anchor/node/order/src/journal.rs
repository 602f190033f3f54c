//! Reads the engine's votes before the engine does, to bring it and the application together.
//!
//! The engine keeps every vote and certificate in its journal and resumes from it. Three things it
//! leaves to others. The application may have recorded less than the journal holds (it was stopped
//! between the engine's write and its own): those finalizations are handed to it again. It may have
//! recorded more than this journal (an older copy was restored): the engine starts above it. And
//! votes of this validator alone that were written, but not yet turned into a certificate, are not
//! counted again by the engine after a restart; it would sit out a timeout, and a block might never
//! get a certificate of its own. In a set of one such a vote is a quorum, so the certificate is
//! made here.
//!
//! Invariants
//! - Nothing is signed here: certificates are assembled from votes that were cast and written.
//! - Votes that were synced and cannot be read are not taken for such that never were
//!   (`journal/damage`): the journal by itself would cut them off like a torn end.
//! - The journal is opened, read and closed before the engine opens it.

mod damage;

use crate::digest::Digest;
use crate::error::Fatal;
use crate::finalization::Finalization;
use crate::scheme::Scheme;
use commonware_codec::Encode;
use commonware_consensus::Viewable;
use commonware_consensus::simplex::types::{
    Artifact, Certificate, Finalize, Notarization, Notarize, Subject,
};
use commonware_cryptography::certificate::Verifier as _;
use commonware_parallel::Sequential;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_runtime::{Metrics, ReadOptions, Storage};
use commonware_storage::journal::segmented::variable::{Config, Journal};
use commonware_utils::NZUsize;
use commonware_utils::iter::NonEmpty;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::Path;

pub(crate) const REPLAY_BUFFER: NonZeroUsize = NZUsize!(64 * 1024);
pub(crate) const WRITE_BUFFER: NonZeroUsize = NZUsize!(16 * 1024);

/// Pages of the journal in memory; with its checksum a page fills one page of the disk.
pub(crate) fn page_cache() -> CacheRef {
    CacheRef::new(damage::PAGE, NZUsize!(256))
}

/// Name of the engine's journal; one for each epoch, because votes of another are no state of it.
pub(crate) fn partition(epoch: u64) -> String {
    format!("epoch-{epoch}")
}

/// What a validator had done before it stopped.
#[derive(Default)]
pub(crate) struct Memory {
    /// Finalizations by view.
    pub(crate) finalizations: BTreeMap<u64, Finalization>,
    /// Certificates that were due, encoded as the engine sends them.
    pub(crate) due: Vec<Vec<u8>>,
    /// Whether there is nothing, and might have been something.
    pub(crate) missing: bool,
    /// The highest view of a vote of this validator.
    pub(crate) voted: u64,
    /// The highest view of anything.
    pub(crate) highest: u64,
}

/// Votes and certificates by view, as the journal has them.
#[derive(Default)]
struct Seen {
    notarize: BTreeMap<u64, Notarize<Scheme, Digest>>,
    finalize: BTreeMap<u64, Finalize<Scheme, Digest>>,
    settled: BTreeSet<u64>,
}

/// Reads the journal in a partition. Up to the view `settled` blocks are final, and nothing is voted
/// for any more.
pub(crate) async fn recall<E: Storage + Metrics>(
    context: E,
    partition: &str,
    scheme: &Scheme,
    directory: &Path,
    settled: u64,
) -> Result<Memory, Fatal> {
    // Before it is opened, which would repair it.
    if let Some(view) = damage::newest(&context, partition).await
        && view > settled
    {
        return Err(Fatal::VotesDamaged { directory: directory.to_path_buf(), view });
    }
    let mut memory = Memory { missing: true, ..Memory::default() };
    let mut seen = Seen::default();
    let most = scheme.certificate_codec_config();
    replay(context, partition, most, directory, |artifact| {
        repeat(scheme, &artifact);
        note(artifact, &mut memory, &mut seen);
    })
    .await?;
    if scheme.quorum() == 1 {
        assemble(scheme, &mut memory, seen);
    }
    Ok(memory)
}

/// Whether the journal of an epoch, whose set is not known here, reaches a view.
pub(crate) async fn reaches<E: Storage + Metrics>(
    context: E,
    epoch: u64,
    view: u64,
    directory: &Path,
) -> Result<bool, Fatal> {
    let (mut memory, mut seen) = (Memory::default(), Seen::default());
    let most = Scheme::certificate_codec_config_unbounded();
    let each = |artifact| note(artifact, &mut memory, &mut seen);
    replay(context, &partition(epoch), most, directory, each).await?;
    Ok(memory.reaches(view))
}

/// Opens a journal, hands on what is in it, in order, and closes it.
async fn replay<E: Storage + Metrics>(
    context: E,
    partition: &str,
    validators_max: usize,
    directory: &Path,
    mut each: impl FnMut(Artifact<Scheme, Digest>),
) -> Result<(), Fatal> {
    let failed = |error: commonware_storage::journal::Error| Fatal::Journal {
        directory: directory.to_path_buf(),
        reason: error.to_string(),
    };
    let config = Config {
        partition: partition.to_owned(),
        compression: None,
        codec_config: validators_max,
        page_cache: page_cache(),
        write_buffer: WRITE_BUFFER,
    };
    let journal =
        Journal::<_, Artifact<Scheme, Digest>>::init(context, config).await.map_err(failed)?;
    let mut replay =
        journal.replay(0, 0, REPLAY_BUFFER, ReadOptions::default()).await.map_err(failed)?;
    while let Some(item) = replay.next().await {
        let (_, _, _, artifact) = item.map_err(failed)?;
        each(artifact);
    }
    // Repairs of a torn end are kept: the engine would make the same.
    replay.finish().map_err(failed)?.sync_all().await.map_err(failed)?;
    Ok(())
}

/// Votes that were cast are cast again with the same bytes.
fn repeat(scheme: &Scheme, artifact: &Artifact<Scheme, Digest>) {
    match artifact {
        Artifact::Notarize(vote) => {
            scheme.remember(Subject::Notarize { proposal: &vote.proposal }, &vote.attestation);
        }
        Artifact::Nullify(vote) => {
            scheme.remember::<Digest>(Subject::Nullify { round: vote.round }, &vote.attestation);
        }
        Artifact::Finalize(vote) => {
            scheme.remember(Subject::Finalize { proposal: &vote.proposal }, &vote.attestation);
        }
        _ => {}
    }
}

impl Memory {
    /// Whether a vote in this view, if one was cast, is here: the vote itself, or something of a
    /// later view, which nobody has who has yet to vote in this one.
    pub(crate) fn reaches(&self, view: u64) -> bool {
        self.voted >= view || self.highest > view
    }
}

fn note(artifact: Artifact<Scheme, Digest>, memory: &mut Memory, seen: &mut Seen) {
    let view = artifact.view().get();
    memory.missing = false;
    memory.highest = memory.highest.max(view);
    if matches!(artifact, Artifact::Notarize(_) | Artifact::Nullify(_) | Artifact::Finalize(_)) {
        memory.voted = memory.voted.max(view);
    }
    match artifact {
        Artifact::Notarize(vote) => {
            seen.notarize.insert(view, vote);
        }
        Artifact::Finalize(vote) => {
            seen.finalize.insert(view, vote);
        }
        Artifact::Notarization(_) | Artifact::Nullify(_) | Artifact::Nullification(_) => {
            seen.settled.insert(view);
        }
        Artifact::Finalization(finalization) => {
            memory.finalizations.insert(view, finalization);
        }
        Artifact::Certification(..) => {}
    }
}

/// Makes the certificates that the votes of a set of one amount to.
fn assemble(scheme: &Scheme, memory: &mut Memory, seen: Seen) {
    for (view, vote) in seen.finalize {
        let votes = NonEmpty::new(vote, std::iter::empty().take(0));
        if let std::collections::btree_map::Entry::Vacant(place) = memory.finalizations.entry(view)
            && let Ok(made) = Finalization::from_owned_finalizes(scheme, votes, &Sequential)
        {
            tracing::info!(view, "finalization made from the vote that was written");
            place.insert(made);
        }
    }
    let last = memory.finalizations.last_key_value().map_or(0, |(view, _)| *view);
    for (view, vote) in seen.notarize {
        if view <= last || seen.settled.contains(&view) {
            continue;
        }
        let votes = NonEmpty::new(vote, std::iter::empty().take(0));
        if let Ok(made) = Notarization::from_owned_notarizes(scheme, votes, &Sequential) {
            tracing::info!(view = made.view().get(), "proposal taken up where it was left");
            memory.due.push(Certificate::Notarization(made).encode().to_vec());
        }
    }
}
