//! The witnesses of a devnet, and receipts that demand several of them.
//!
//! Nobody tells them of each other: each follows a node and signs. What they signed is gathered
//! from their folders into the file that every node hands out with its receipts.

use super::processes::{GLANCE, Kind, PATIENCE, Post, Processes};
use super::sight::Table;
use crate::gather::{Gathered, gather};
use crate::members::Member;
use crate::setup::{random_key, replace, write_new};
use crate::sinks::cosigned_receipts;
use anyhow::{Context, Result, bail, ensure};
use piaogen_verify::receipt::Receipt;
use piaogen_verify::trust_root::TrustRoot;
use piaogen_verify::witness::Witness;
use std::path::Path;
use std::time::Instant;

/// What is gathered, beside the folders of all nodes.
const GATHERED: &str = "cosigned";
/// Where a node of a devnet finds it.
pub(super) const TOML: &str = "\n[store]\ncosigned = \"../cosigned\"\n";
/// The trust root that lists the witnesses.
const WATCHED: &str = "watched.json";
/// Of so many witnesses the cosignatures are demanded, where there are so many.
const QUORUM: u32 = 2;
/// Seconds between two looks of a witness.
const EVERY: &str = "1";
/// So many receipts of each partition are asked for.
const RECEIPTS: u64 = 100;

/// The witnesses, and the trust root that demands them.
pub(super) struct Watch {
    trust: TrustRoot,
    pub(super) posts: Vec<Post>,
}

/// What cosignatures came to.
#[derive(Clone, Debug)]
pub(super) struct Cosigned {
    size: u64,
    signed: usize,
    quorum: u32,
    receipts: usize,
}

impl Cosigned {
    pub(super) fn line(&self) -> String {
        let Cosigned { size, signed, quorum, receipts } = self;
        format!(
            "{signed} witnesses cosigned {size} headers; {receipts} receipts that demand {quorum} \
             of them verify"
        )
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "size": self.size, "witnesses": self.signed, "quorum": self.quorum,
            "receipts": self.receipts,
        })
    }
}

impl Watch {
    /// Makes the folders and keys of so many witnesses, who follow observers where there are any.
    pub(super) fn new(
        dir: &Path,
        trust: TrustRoot,
        members: &[Member],
        observers: usize,
        count: u32,
    ) -> Result<Watch> {
        let mut watch = Watch { trust, posts: Vec::new() };
        let pool = if observers > 0 { observers } else { members.len() };
        for number in 1..=count {
            let (name, key) = (format!("witness-{number}"), random_key()?);
            let folder = dir.join(&name);
            std::fs::create_dir(&folder)
                .with_context(|| format!("creating {}", folder.display()))?;
            let pem = folder.join("witness.pem");
            write_new(&pem, key.to_pkcs8_pem().as_bytes(), true)?;
            let followed = &members[members.len() - 1 - (number as usize - 1) % pool];
            let host = format!("{name}.example");
            let text = |path: &Path| path.display().to_string();
            let options = [
                ("--dir", text(&folder)),
                ("--from", format!("http://{}", followed.http)),
                ("--key", text(&pem)),
                ("--name", host.clone()),
                ("--trust-root", text(&dir.join("trust-root.json"))),
                ("--every", EVERY.into()),
            ];
            let options = options.into_iter().flat_map(|(name, value)| [name.to_string(), value]);
            let arguments = std::iter::once("witness".to_string()).chain(options).collect();
            watch.trust.witnesses.push(Witness { name: host, key: key.public_key() });
            watch.posts.push(Post {
                name,
                kind: Kind::Witness,
                folder,
                arguments,
                namespace: None,
            });
        }
        watch.trust.witness_quorum = QUORUM.min(count);
        write_new(&dir.join(WATCHED), watch.trust.to_json().as_bytes(), false)?;
        Ok(watch)
    }

    /// Gathers until receipts of a node, of every partition and of the registry, carry what the
    /// trust root demands; nothing where there are no witnesses.
    pub(super) fn check(
        &self,
        dir: &Path,
        http: &str,
        partitions: u32,
        processes: &Processes,
        table: &Table,
    ) -> Result<Option<Cosigned>> {
        let quorum = self.trust.witness_quorum;
        if quorum == 0 {
            return Ok(None);
        }
        let from: Vec<String> =
            self.posts.iter().map(|post| post.folder.display().to_string()).collect();
        let until = Instant::now() + PATIENCE;
        loop {
            match gather(&from, &self.trust, quorum) {
                Gathered::Enough(note) => {
                    replace(&dir.join(GATHERED), note.to_note().as_bytes())?;
                    let receipts = self.verified(http, partitions)?;
                    if receipts > 0 {
                        let (size, signed) = (note.size, note.signatures.len());
                        return Ok(Some(Cosigned { size, signed, quorum, receipts }));
                    }
                }
                Gathered::Few(_) => {}
                Gathered::Split(evidence) => {
                    bail!("the witnesses signed two histories: {}", evidence.to_json());
                }
            }
            table.show(&processes.look());
            processes.alive()?;
            ensure!(Instant::now() < until, "waited {PATIENCE:?} in vain for cosignatures");
            std::thread::sleep(GLANCE);
        }
    }

    /// How many receipts of a node verify with the cosignatures that are demanded; none before the
    /// registry's, the first of all, are among them.
    fn verified(&self, http: &str, partitions: u32) -> Result<usize> {
        let mut count = 0;
        for partition in (0..=partitions).rev() {
            let receipts = cosigned_receipts(http, partition, RECEIPTS)?;
            if partition == partitions && receipts.is_empty() {
                return Ok(0);
            }
            for bytes in receipts {
                let receipt = Receipt::decode(&bytes).context("a cosigned receipt")?;
                let verified = receipt.verify(&self.trust);
                let verified = verified.map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
                ensure!(verified.witnesses >= self.trust.witness_quorum, "it counts too few");
                count += 1;
            }
        }
        Ok(count)
    }
}
