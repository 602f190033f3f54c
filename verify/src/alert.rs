//! Alerts: what a validator tells a party, signed (`FORMAT.md` section 15).
//!
//! An alert says that a record of the chain concerns somebody; the record's receipt proves it. The
//! signature only tells whose word it is until then. Alerts come at least once and in the order of
//! each shard's log; the id says which are the same.
//!
//! Invariants
//! - JSON and the signed bytes determine each other.

use crate::encoding::{put_bytes, put_vint};
use crate::entry::SUBJECT_MAX;
use crate::json::{JSON_MAX, Json, JsonError, Result, object, parse, wrong};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use piaogen_crypto::sm2::{self, PublicKey, SecretKey, Signature};
use piaogen_crypto::{Digest, sm3};

/// The key `format` of an alert.
pub const FORMAT: &str = "piaogen/alert/1";
const DOMAIN: &[u8; 14] = b"piaogen/alr/1\n";
const NAME_MAX: usize = 64;

/// A record of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its shard.
    pub shard: u32,
    /// Its log index.
    pub log_index: u64,
}

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// The genesis digest.
    pub chain: Digest,
    /// What happened, as a word.
    pub kind: String,
    /// The participant who must know; `None`: all authorities.
    pub to: Option<String>,
    /// Scheme of the invoice.
    pub scheme: String,
    /// Number of the invoice; of a scheme that numbers per seller, seller and number.
    pub number: String,
    /// The record that did it.
    pub at: Place,
    /// The height of its block.
    pub height: u64,
    /// The time of that block, milliseconds since 1970.
    pub time_ms: i64,
    /// A record of another invoice, which this one resembles or repeats.
    pub other: Option<Place>,
}

/// An alert with its signature, which may or may not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAlert {
    /// The alert.
    pub alert: Alert,
    /// Key id of the validator.
    pub signer: Digest,
    /// Over [`Alert::signed`].
    pub signature: Signature,
}

impl Place {
    fn put(self, out: &mut Vec<u8>) {
        put_vint(out, self.shard.into());
        put_vint(out, self.log_index);
    }

    fn to_json(self) -> Json {
        let log_index = Json::Int(self.log_index.into());
        object([("shard", Json::Int(self.shard.into())), ("log_index", log_index)])
    }

    fn from_json(json: &Json) -> Result<Place> {
        let o = json.object(&["shard", "log_index"])?;
        let (shard, log_index) = (o.need("shard", Json::int)?, o.need("log_index", Json::int)?);
        Ok(Place { shard, log_index })
    }
}

impl Alert {
    /// What is signed.
    pub fn signed(&self) -> Vec<u8> {
        let mut out = DOMAIN.to_vec();
        out.extend_from_slice(&self.chain);
        put_bytes(&mut out, self.kind.as_bytes());
        put_bytes(&mut out, self.to.as_deref().unwrap_or("").as_bytes());
        put_bytes(&mut out, self.scheme.as_bytes());
        put_bytes(&mut out, self.number.as_bytes());
        self.at.put(&mut out);
        put_vint(&mut out, self.height);
        out.extend_from_slice(&self.time_ms.to_be_bytes());
        if let Some(other) = &self.other {
            other.put(&mut out);
        }
        out
    }

    /// What is the same in an alert that came twice: the hash of the signed bytes.
    pub fn id(&self) -> Digest {
        sm3::hash(&self.signed())
    }

    /// Signs the alert.
    pub fn sign(self, key: &SecretKey) -> SignedAlert {
        let signature = key.sign(&self.signed());
        SignedAlert { alert: self, signer: key.public_key().key_id(), signature }
    }
}

impl SignedAlert {
    /// Whether this key signed it.
    pub fn holds(&self, key: &PublicKey) -> bool {
        self.signer == key.key_id() && sm2::verify(key, &self.alert.signed(), &self.signature)
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        let alert = &self.alert;
        let mut members = alloc::vec![
            ("format".into(), Json::of(FORMAT)),
            ("chain".into(), Json::hex(&alert.chain)),
            ("id".into(), Json::hex(&alert.id())),
            ("kind".into(), Json::of(alert.kind.as_str())),
        ];
        if let Some(to) = &alert.to {
            members.push(("to".into(), Json::of(to.as_str())));
        }
        members.push(("scheme".into(), Json::of(alert.scheme.as_str())));
        members.push(("number".into(), Json::of(alert.number.as_str())));
        members.push(("at".into(), alert.at.to_json()));
        members.push(("height".into(), Json::Int(alert.height.into())));
        members.push(("time_ms".into(), Json::Int(alert.time_ms.into())));
        if let Some(other) = &alert.other {
            members.push(("other".into(), other.to_json()));
        }
        members.push(("signer".into(), Json::hex(&self.signer)));
        members.push(("signature".into(), Json::hex(&self.signature.0)));
        Json::Object(members).to_string()
    }

    /// Reads JSON.
    pub fn from_json(text: &str) -> core::result::Result<SignedAlert, JsonError> {
        let json = parse(text, JSON_MAX)?;
        let known = [
            "format",
            "chain",
            "id",
            "kind",
            "to",
            "scheme",
            "number",
            "at",
            "height",
            "time_ms",
            "other",
            "signer",
            "signature",
        ];
        let o = json.object(&known)?;
        o.expect_format(FORMAT)?;
        let alert = Alert {
            chain: o.need("chain", Json::array)?,
            kind: o.need("kind", |json| word(json, NAME_MAX))?,
            to: o.maybe("to", |json| word(json, NAME_MAX))?,
            scheme: o.need("scheme", |json| word(json, 16))?,
            number: o.need("number", |json| word(json, SUBJECT_MAX as usize))?,
            at: o.need("at", Place::from_json)?,
            height: o.need("height", Json::int)?,
            time_ms: o.need("time_ms", Json::int)?,
            other: o.maybe("other", Place::from_json)?,
        };
        if o.need("id", Json::array::<32>)? != alert.id() {
            return wrong("has an id that is not of what it says");
        }
        let (signer, signature) =
            (o.need("signer", Json::array)?, o.need("signature", Json::array)?);
        Ok(SignedAlert { alert, signer, signature: Signature(signature) })
    }
}

fn word(json: &Json, limit: usize) -> Result<String> {
    match json.text()? {
        text if (1..=limit).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(text.into())
        }
        _ => wrong(alloc::format!("must be 1 to {limit} printable ASCII characters")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert() -> Alert {
        Alert {
            chain: [1; 32],
            kind: "near_amount".into(),
            to: Some("K".into()),
            scheme: "CN-EINV".into(),
            number: "1".into(),
            at: Place { shard: 3, log_index: 9 },
            other: Some(Place { shard: 4, log_index: 2 }),
            height: 7,
            time_ms: -1,
        }
    }

    #[test]
    fn an_alert_reads_as_it_was_written_and_every_part_is_signed() {
        let key = SecretKey::from_bytes(&[7; 32]).unwrap();
        let for_all = Alert { to: None, other: None, ..alert() };
        for alert in [alert(), for_all] {
            let signed = alert.sign(&key);
            assert!(signed.holds(&key.public_key()));
            let text = signed.to_json();
            assert!(!text.contains('\n'));
            assert_eq!(SignedAlert::from_json(&text), Ok(signed));
        }
        let text = alert().sign(&key).to_json();
        for (good, bad) in [
            ("near_amount", "near_order"),
            ("\"to\":\"K\"", "\"to\":\"L\""),
            ("\"log_index\":9", "\"log_index\":8"),
            ("\"height\":7", "\"height\":6"),
            ("\"number\":\"1\"", "\"number\":\"3\""),
            ("\"shard\":4", "\"shard\":5"),
        ] {
            assert!(SignedAlert::from_json(&text.replacen(good, bad, 1)).is_err(), "{bad}");
        }
    }
}
