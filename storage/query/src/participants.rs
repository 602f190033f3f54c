//! Who has which key: the registry's rows and the genesis as a table.
//!
//! A row of `records` names its signer by key id. Whose key that is, and with which roles it came,
//! follows from the genesis file and the registry's accepted rows, so that a query can ask for what
//! one participant did.
//!
//! Invariants
//! - One row for each key that ever was, revoked ones too; `from_height` is when it was registered.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, Int64Builder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use piaogen_crypto::sm2::PublicKey;
use piaogen_storage::archive::Archive;
use piaogen_verify::entry::{Entry, Outcome};
use piaogen_verify::fields::tag;
use piaogen_verify::genesis::{Genesis, ROLES};
use piaogen_verify::{record, value};

use crate::QueryError;

/// The columns of `participants`.
pub(crate) fn schema() -> SchemaRef {
    let field = |name: &str, of: DataType, may_be_null| Field::new(name, of, may_be_null);
    Arc::new(Schema::new(vec![
        field("party", DataType::Utf8, false),
        field("name", DataType::Utf8, true),
        field("roles", DataType::Utf8, true),
        field("key_id", DataType::Binary, false),
        field("from_height", DataType::Int64, false),
    ]))
}

/// The rows of the table.
#[derive(Default)]
struct Keys {
    party: StringBuilder,
    name: StringBuilder,
    roles: StringBuilder,
    key_id: BinaryBuilder,
    from_height: Int64Builder,
}

impl Keys {
    /// A key; who rotates one brings neither name nor roles.
    fn push(&mut self, party: &str, held: Option<(&str, u64)>, key: &PublicKey, height: i64) {
        self.party.append_value(party);
        self.name.append_option(held.map(|(name, _)| name));
        self.roles.append_option(held.map(|(_, roles)| names(roles)));
        self.key_id.append_value(key.key_id());
        self.from_height.append_value(height);
    }

    fn finish(mut self) -> Result<RecordBatch, arrow::error::ArrowError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.party.finish()),
            Arc::new(self.name.finish()),
            Arc::new(self.roles.finish()),
            Arc::new(self.key_id.finish()),
            Arc::new(self.from_height.finish()),
        ];
        RecordBatch::try_new(schema(), columns)
    }
}

fn names(roles: u64) -> String {
    let held = ROLES.iter().filter(|(role, _)| roles & role != 0);
    held.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

/// Reads the registry of an archive.
pub(crate) fn read(archive: &Archive) -> Result<RecordBatch, QueryError> {
    let failed = |what: String| QueryError::Failed(what);
    let bytes = archive.genesis()?.ok_or_else(|| {
        QueryError::Refused("the archive has no genesis.json, so nobody is known in it".into())
    })?;
    let genesis = Genesis::parse(&bytes).map_err(|error| failed(error.to_string()))?;
    let mut keys = Keys::default();
    for (party, name, roles, key) in &genesis.participants {
        keys.push(party, Some((name.as_str(), *roles)), key, 0);
    }
    for row in archive.rows(genesis.file.partitions, 0) {
        let row = row?;
        let entry = Entry::decode(&row.entry).map_err(|error| failed(error.to_string()))?;
        let Ok(record) = record::decode(&row.record) else { continue };
        let key = record.get(tag::PUBLIC_KEY).and_then(|bytes| bytes.try_into().ok());
        let key = key.and_then(|bytes| PublicKey::from_compressed(bytes).ok());
        if let (Outcome::Accepted, Some(key)) = (entry.outcome, key) {
            let roles = record.get(tag::ROLES).and_then(|bytes| value::uint_of(bytes).ok());
            let held = roles.map(|roles| (record.text(tag::PARTY_NAME), roles));
            let height = i64::try_from(row.height).unwrap_or(i64::MAX);
            keys.push(record.text(tag::PARTY), held, &key, height);
        }
    }
    keys.finish().map_err(|error| failed(error.to_string()))
}
