//! One hash for each encoded type, over many pseudo-random values.

use crate::common::chain::Chain;
use crate::common::epochs::{Epochs, TIP};
use crate::common::life::Life;
use crate::common::{self, Random, lives};
use piaogen_crypto::sm3::Hasher;
use piaogen_verify::encoding::put_bytes;
use piaogen_verify::epoch::EpochProof;
use piaogen_verify::fields::DOCUMENT;
use piaogen_verify::follow::Follower;
use piaogen_verify::{json, record};
use serde_json::{Map, Value};
use std::sync::LazyLock;

const COUNT: u32 = 4_096;

fn hash(seed: u64, encode: impl Fn(&mut Random) -> Vec<u8>) -> Value {
    let mut random = Random(seed);
    let mut hasher = Hasher::new();
    let mut framed = Vec::new();
    for _ in 0..COUNT {
        framed.clear();
        put_bytes(&mut framed, &encode(&mut random));
        hasher.update(&framed);
    }
    Value::String(hex::encode(hasher.finalize()))
}

type Encode = fn(&mut Random) -> Vec<u8>;

/// Followers of the example at rest at every height where they may: there are no random ones.
static RESTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let chain = Chain::build();
    let epochs = Epochs::build(&Life::build(&chain));
    let mut follower = Follower::new(&chain.trust).unwrap();
    let rest = |height| {
        follower.take(&epochs.link(height)).unwrap();
        follower.rest()
    };
    (0..=TIP).filter_map(rest).collect()
});

/// The hash of each type.
pub(crate) fn all() -> Value {
    let types: [(&str, Encode); 34] = [
        ("value", |r| {
            let field = &DOCUMENT[r.below(DOCUMENT.len() as u64) as usize];
            common::value_of(r, field.kind)
        }),
        ("document.json", |r| json::document_to_json(&common::document_of(r)).into_bytes()),
        ("commitment", |r| common::document_of(r).commitment().to_vec()),
        ("record", common::record_of),
        ("record.json", |r| {
            let bytes = common::record_of(r);
            json::record_to_json(&record::decode(&bytes).unwrap()).into_bytes()
        }),
        ("record.signed", |r| {
            let bytes = common::record_of(r);
            let record = record::decode(&bytes).unwrap();
            record.signed(&r.array(), &record.commitment()).to_vec()
        }),
        ("entry", |r| common::entry_of(r).encode()),
        ("leaf", |r| common::entry_of(r).leaf().to_vec()),
        ("shard", |r| common::shard_of(r).leaf().to_vec()),
        ("cut", |r| common::cut_of(r).digest().to_vec()),
        ("header", |r| common::header_of(r).encode().to_vec()),
        ("certificate", |r| common::certificate_of(r).encode()),
        ("receipt", |r| common::receipt_of(r).encode()),
        ("receipt.json", |r| common::receipt_of(r).to_json().into_bytes()),
        ("consistency", |r| common::consistency_of(r).encode()),
        ("checkpoint", |r| common::checkpoint_of(r).to_note().into_bytes()),
        ("status_proof", |r| {
            let mut out = Vec::new();
            common::status_proof_of(r).encode(&mut out);
            out
        }),
        ("record_of_any_kind", lives::record_of_any_kind),
        ("record_of_any_kind.json", |r| {
            let bytes = lives::record_of_any_kind(r);
            json::record_to_json(&record::decode(&bytes).unwrap()).into_bytes()
        }),
        ("record_of_any_kind.signed", |r| {
            let bytes = lives::record_of_any_kind(r);
            let record = record::decode(&bytes).unwrap();
            record.signed(&r.array(), &record.commitment()).to_vec()
        }),
        ("entry_of_event", |r| lives::entry_of_event(r).encode()),
        ("status", |r| lives::status_of(r).encode()),
        ("status.json", |r| json::status_to_json(&lives::status_of(r)).into_bytes()),
        ("status.digest", |r| lives::status_of(r).digest().to_vec()),
        ("status_receipt", |r| lives::status_receipt_of(r).encode()),
        ("history", |r| lives::history_of(r).encode()),
        ("epoch_proof", |r| EpochProof { changes: common::changes_of(r) }.encode()),
        ("epoch_proof.json", |r| {
            EpochProof { changes: common::changes_of(r) }.to_json().into_bytes()
        }),
        ("cosignature", |r| common::cosignature_of(r).to_line().bytes),
        ("link", |r| common::link_of(r).encode()),
        ("evidence", |r| common::evidence_of(r).encode()),
        ("evidence.json", |r| common::evidence_of(r).to_json().into_bytes()),
        ("head", |r| common::head_of(r).encode()),
        ("follower", |r| RESTS[r.below(RESTS.len() as u64) as usize].clone()),
    ];
    let hashes = (1u64..).zip(types);
    let hashes: Map<String, Value> =
        hashes.map(|(seed, (name, encode))| (name.into(), hash(seed, encode))).collect();
    Value::Object(hashes)
}
