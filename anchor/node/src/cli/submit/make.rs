//! What the arguments of `piaogen submit` say, as the fields of a record.
//!
//! An event is any of the protocol's, so its fields come as the JSON object that a record in JSON
//! has; what every event needs of the invoice is taken from its document.

use super::document;
use crate::cli::identity::Identity;
use crate::cli::{No, read_file};
use anyhow::{Context, Result, bail, ensure};
use piaogen_crypto::sm2::PublicKey;
use piaogen_verify::document::{Document, Fields};
use piaogen_verify::fields::{REGISTRY, by_tag, tag};
use piaogen_verify::genesis::ROLES;
use piaogen_verify::header::{VALIDATORS_MAX, ValidatorSet};
use piaogen_verify::json;
use piaogen_verify::opening;
use piaogen_verify::policy::Policy;
use piaogen_verify::record::{self, Class, RecordKind};
use piaogen_verify::status::FACTS_SHOWN;
use piaogen_verify::value;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Event {
    /// What happened: book, finance_hold, finance_open, buyer_confirm, slip_open, ... as in
    /// PROTOCOL section 7.
    kind: String,
    /// The invoice's document: gives number, scheme, seller and currency, and shows the chain what
    /// a status repeats of the invoice.
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
    /// The fields, as in a record in JSON: '{"amount": "100.00", "reference": "R-1"}'.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    fields: String,
}

/// What the event's fields need of the document where they do not say it themselves.
const OF_DOCUMENT: [u16; 4] = [tag::NUMBER, tag::SCHEME, tag::SELLER_PARTY, tag::CURRENCY];

impl Event {
    /// Kind and fields of the record.
    pub(super) fn fields(&self) -> Result<(RecordKind, Fields)> {
        let document = self.document.as_deref().map(document).transpose()?;
        let own: serde_json::Value = serde_json::from_str(&self.fields).context("--fields")?;
        let mut fields = serde_json::Map::new();
        if let Some(document) = &document {
            fields.extend(of_document(document)?);
        }
        fields.extend(own.as_object().context("--fields must be a JSON object")?.clone());
        let (kind, mut fields) = read(&self.kind, &fields)?;
        if let Some(document) = &document {
            let shown = |tag| FACTS_SHOWN.contains(&tag);
            let opened = opening::open(document.secret, &document.fields, shown);
            fields.set(tag::OPENING, opening::encode(&opened));
        }
        Ok((kind, fields))
    }
}

fn of_document(document: &Document) -> Result<serde_json::Map<String, serde_json::Value>> {
    let pairs = document.fields.iter().filter(|(tag, _)| OF_DOCUMENT.contains(tag));
    let pairs: Vec<_> = pairs.collect();
    let text = json::fields_to_json(&pairs).to_string();
    serde_json::from_str(&text).context("the document")
}

/// Reads the fields of an event: as a record in JSON, whose signature nobody looks at.
fn read(
    kind: &str,
    fields: &serde_json::Map<String, serde_json::Value>,
) -> Result<(RecordKind, Fields)> {
    let unsigned = serde_json::json!({
        "format": json::RECORD_FORMAT,
        "kind": kind,
        "signer": "00".repeat(32),
        "signed_at": 0,
        "body": { "secret": "00".repeat(16), "fields": fields },
        "signature": "00".repeat(64),
    });
    let bytes = json::record_from_json(&unsigned.to_string())?;
    let record =
        record::decode(&bytes).map_err(|u| anyhow::anyhow!("{}", record_flaw(u.tag, u.flaw)))?;
    ensure!(
        record.kind.class() == Class::Event,
        "{kind} is not something that happens to invoices"
    );
    let fields = record.fields.iter().map(|(tag, value)| (*tag, value.to_vec())).collect();
    Ok((record.kind, fields))
}

fn record_flaw(tag: u16, flaw: value::Flaw) -> String {
    piaogen_verify::entry::Outcome::of_flaw(tag, flaw).explain()
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum RegistryChange {
    /// Register a participant.
    Register {
        /// Its id, for example CN-USCC:91440300708461136T; that of its certificate if left out.
        #[arg(long, required_unless_present = "certificate")]
        party: Option<String>,
        /// Its name; that of its certificate if left out.
        #[arg(long, required_unless_present = "certificate")]
        name: Option<String>,
        /// Its roles: authority, issuer, bank, court, importer, company, auditor, governor.
        #[arg(long, required = true)]
        role: Vec<String>,
        /// Its public key, SPKI in PEM or DER.
        #[arg(long, value_name = "FILE", required_unless_present = "certificate")]
        public: Option<PathBuf>,
        /// Its certificate, PEM or DER, in place of --public.
        #[arg(long, value_name = "FILE", conflicts_with = "public", requires = "issuer")]
        certificate: Option<PathBuf>,
        /// Certificates of the CA that you trust, and of those between; the last one is believed.
        #[arg(long, value_name = "FILE", requires = "certificate")]
        issuer: Vec<PathBuf>,
    },
    /// Replace the keys of a participant by a new one.
    Rotate {
        /// Its id.
        #[arg(long)]
        party: String,
        /// The new public key, SPKI in PEM or DER.
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
    /// Let a participant act for the one who signs.
    Delegate {
        /// Who may act.
        #[arg(long)]
        party: String,
        /// What for: kinds of events.
        #[arg(long, required = true)]
        kind: Vec<String>,
        /// Until when, milliseconds since 1970.
        #[arg(long)]
        until_ms: i64,
    },
    /// End that.
    DelegateEnd {
        /// Who may no longer act.
        #[arg(long)]
        party: String,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Propose who finalizes blocks from the next epoch on, or sign what another authority
    /// proposed: with the same arguments, since the same content is the same proposal.
    Validators {
        /// All validators of the new set: their public keys, SPKI in PEM or DER.
        #[arg(long, value_name = "FILE", required = true)]
        public: Vec<PathBuf>,
        /// The digest of the set in whose place it comes, in hex; `inspect block` shows it.
        #[arg(long, value_name = "HEX")]
        base: String,
        /// Blocks in an epoch from then on; as it is where left out.
        #[arg(long)]
        epoch_blocks: Option<u64>,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Set the policy from a height on: all parameters, the defaults where nothing is said.
    Policy {
        /// The first height.
        #[arg(long)]
        from_height: u64,
        /// A parameter: lien_blocks=0.
        #[arg(long, value_name = "NAME=VALUE")]
        set: Vec<String>,
    },
}

impl RegistryChange {
    /// Kind and fields of the record.
    pub(super) fn fields(&self) -> Result<(RecordKind, Fields)> {
        let mut fields = Fields::new();
        let kind = match self {
            RegistryChange::Register { role, .. } => {
                let (party, name, key) = self.newcomer()?;
                fields.set_text(tag::PARTY, &party);
                fields.set_text(tag::PARTY_NAME, &name);
                fields.set(tag::ROLES, value::uint(roles(role)?));
                fields.set(tag::PUBLIC_KEY, key);
                RecordKind::Register
            }
            RegistryChange::Rotate { party, public } => {
                fields.set_text(tag::PARTY, party);
                fields.set(tag::PUBLIC_KEY, public_key(public)?);
                RecordKind::Rotate
            }
            RegistryChange::Revoke { key_id, reason } => {
                let id = hex::decode(key_id).map_err(|_| anyhow::anyhow!("--key-id is not hex"))?;
                ensure!(id.len() == 32, "--key-id has {} bytes, not 32", id.len());
                fields.set(tag::REVOKED_KEY, id);
                fields.set_text(tag::REASON, reason.as_deref().unwrap_or(""));
                RecordKind::Revoke
            }
            RegistryChange::Delegate { party, kind, until_ms } => {
                fields.set_text(tag::PARTY, party);
                fields.set(tag::KINDS, value::uint(kinds(kind)?));
                fields.set(tag::UNTIL, value::time(*until_ms));
                RecordKind::Delegate
            }
            RegistryChange::DelegateEnd { party, reason } => {
                fields.set_text(tag::PARTY, party);
                fields.set_text(tag::REASON, reason.as_deref().unwrap_or(""));
                RecordKind::DelegateEnd
            }
            RegistryChange::Validators { public, base, epoch_blocks, reason } => {
                let base = hex::decode(base).map_err(|_| anyhow::anyhow!("--base is not hex"))?;
                ensure!(base.len() == 32, "--base has {} bytes, not 32", base.len());
                fields.set(tag::BASE, base);
                fields.set(tag::VALIDATORS, validators(public)?);
                if let Some(blocks) = epoch_blocks {
                    fields.set(tag::EPOCH_BLOCKS, value::uint(*blocks));
                }
                fields.set_text(tag::REASON, reason.as_deref().unwrap_or(""));
                RecordKind::Validators
            }
            RegistryChange::Policy { from_height, set } => {
                fields.set(tag::EFFECTIVE_HEIGHT, value::uint(*from_height));
                policy(set, &mut fields)?;
                RecordKind::Policy
            }
        };
        Ok((kind, fields))
    }

    /// Id, name and key of a participant to register: those given, else those of the certificate.
    fn newcomer(&self) -> Result<(String, String, Vec<u8>)> {
        let RegistryChange::Register { party, name, public, certificate, issuer, .. } = self else {
            bail!("not a registration");
        };
        let (mut party, mut name) = (party.clone(), name.clone());
        let key = match (certificate, public) {
            (Some(file), _) => {
                let identity = Identity::read(file, issuer)?;
                if let Some(why) = identity.objection() {
                    return Err(No(format!("{}: {why}; nothing was sent", file.display())).into());
                }
                party = party.or_else(|| identity.party.clone());
                name = name.or_else(|| identity.name.clone());
                identity.public_key()
            }
            (None, Some(file)) => public_key(file)?,
            (None, None) => bail!("--public FILE or --certificate FILE is needed"),
        };
        Ok((
            party.context("the certificate names no unified social credit code; give --party")?,
            name.context("the certificate names no organization; give --name")?,
            key,
        ))
    }
}

fn roles(names: &[String]) -> Result<u64> {
    names.iter().try_fold(0, |roles, name| {
        let known = ROLES.iter().find(|(_, known)| known == name);
        Ok(roles | known.with_context(|| format!("there is no role {name:?}"))?.0)
    })
}

fn kinds(names: &[String]) -> Result<u64> {
    names.iter().try_fold(0, |kinds, name| {
        let known = |kind: &&RecordKind| kind.class() == Class::Event && kind.name() == name;
        let kind = RecordKind::ALL.iter().find(known);
        Ok(kinds | 1 << *kind.with_context(|| format!("there is no event {name:?}"))? as u8)
    })
}

fn policy(set: &[String], fields: &mut Fields) -> Result<()> {
    let name_of = |tag| by_tag(REGISTRY, tag).map_or("", |field| field.name);
    for (tag, default) in Policy::default().values() {
        fields.set(tag, value::uint(default));
    }
    for one in set {
        let (name, number) =
            one.split_once('=').with_context(|| format!("{one:?} is not NAME=VALUE"))?;
        let tag = Policy::TAGS.iter().find(|tag| name_of(**tag) == name);
        let tag = tag.with_context(|| {
            let all: Vec<&str> = Policy::TAGS.iter().map(|tag| name_of(*tag)).collect();
            format!("there is no parameter {name:?}; they are {}", all.join(", "))
        })?;
        fields.set(*tag, value::uint(number.parse().with_context(|| one.clone())?));
    }
    Ok(())
}

/// The keys of a validator set.
fn validators(files: &[PathBuf]) -> Result<Vec<u8>> {
    let keys = files.iter().map(|file| {
        PublicKey::from_spki(&read_file(file, 64 << 10)?)
            .with_context(|| format!("public key {}", file.display()))
    });
    let set = ValidatorSet::new(keys.collect::<Result<_>>()?)
        .with_context(|| format!("a set has 1 to {VALIDATORS_MAX} different keys"))?;
    let keys: Vec<[u8; 33]> = set.keys().iter().map(PublicKey::to_compressed).collect();
    Ok(value::keys(&keys))
}

fn public_key(path: &Path) -> Result<Vec<u8>> {
    let key = PublicKey::from_spki(&read_file(path, 64 << 10)?)
        .with_context(|| format!("public key {}", path.display()))?;
    Ok(key.to_compressed().to_vec())
}
