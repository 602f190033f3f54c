//! Queries over a sealed archive: answers, refusals, bounds; and other readers of the same files.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use piaogen_crypto::sm2::PublicKey;
use piaogen_query::{Format, QueryError, QueryOptions, query};
use piaogen_storage::RowRef;
use piaogen_storage::archive::{Archive, ArchiveConfig, BlockRef};
use piaogen_verify::entry::Entry;
use piaogen_verify::fields::tag;
use piaogen_verify::record::RecordKind;
use piaogen_verify::{record, value};

#[path = "../../tests/mini_chain/mod.rs"]
mod mini_chain;
use mini_chain::{MiniChain, Plan};

const PLAN: Plan = Plan { seed: 3, partitions: 3, blocks: 14, rows: 60, signed: true };

fn seal(archive: &Archive, chain: &MiniChain) {
    archive.put_genesis(&chain.genesis_bytes).unwrap();
    for (shard, rows) in (0..).zip(&chain.shards) {
        let rows = rows.iter().map(|row| RowRef {
            log_index: row.log_index,
            height: row.height,
            time_ms: row.time_ms,
            entry: &row.entry,
            record: &row.record,
        });
        archive.seal(shard, rows).unwrap();
    }
    let encoded: Vec<_> = chain
        .blocks
        .iter()
        .map(|block| (block.header.encode(), block.cut.encode(), &block.certificate))
        .collect();
    let blocks =
        encoded.iter().map(|(header, cut, certificate)| BlockRef { header, cut, certificate });
    archive.seal_blocks(blocks).unwrap();
}

fn archive(folder: &Path, chain: &MiniChain) -> Archive {
    let mut config = ArchiveConfig::new(folder.display().to_string());
    config.segment_rows = 300;
    config.row_group_rows = 128;
    let archive = Archive::open(config, chain.genesis.chain).unwrap();
    seal(&archive, chain);
    archive
}

fn ask_as(archive: &Archive, sql: &str, format: Format) -> Result<String, QueryError> {
    let mut out = Vec::new();
    let options = QueryOptions { threads: 2, ..QueryOptions::default() };
    query(archive, sql, format, &options, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn ask(archive: &Archive, sql: &str) -> String {
    ask_as(archive, sql, Format::Csv).unwrap().replace("\r\n", "\n")
}

/// What is true of a chain, computed from its records.
struct Truth {
    gross: i128,
    vat: i128,
    outcomes: BTreeMap<String, u64>,
    numbers: BTreeSet<String>,
    preceding: usize,
    first_number: String,
}

fn truth(chain: &MiniChain) -> Truth {
    let mut truth = Truth {
        gross: 0,
        vat: 0,
        outcomes: BTreeMap::new(),
        numbers: BTreeSet::new(),
        preceding: 0,
        first_number: String::new(),
    };
    for row in chain.shards.iter().flatten() {
        let outcome = Entry::decode(&row.entry).unwrap().outcome.name().to_owned();
        *truth.outcomes.entry(outcome).or_default() += 1;
        let Ok(record) = record::decode(&row.record) else { continue };
        truth.gross += record.amount(tag::TOTAL_GROSS);
        truth.vat += record.amount(tag::TOTAL_VAT);
        if !record.text(tag::NUMBER).is_empty() {
            truth.numbers.insert(record.text(tag::NUMBER).to_owned());
            truth.first_number = record.text(tag::NUMBER).to_owned();
        }
        if let Some(bytes) = record.get(tag::PRECEDING) {
            let entries = value::entries_of(bytes).unwrap();
            truth.preceding += entries.iter().filter(|entry| entry[0].0 == 25).count();
        }
    }
    truth
}

#[test]
fn what_one_participant_did_is_asked_by_name() {
    let chain = MiniChain::make(PLAN);
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(dir.path(), &chain);
    let mut holds: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for row in chain.shards.iter().flatten() {
        let entry = Entry::decode(&row.entry).unwrap();
        if entry.kind == Some(RecordKind::FinanceHold) {
            *holds.entry(entry.signer.to_vec()).or_default() += 1;
        }
    }
    let registry = chain.shards.last().unwrap();
    for row in &registry[1..4] {
        let record = record::decode(&row.record).unwrap();
        let key = record.get(tag::PUBLIC_KEY).unwrap().try_into().unwrap();
        let id = PublicKey::from_compressed(key).unwrap().key_id();
        let sql = format!(
            "SELECT count(*) AS n, min(roles) AS roles FROM records JOIN participants \
             ON participants.key_id = records.signer \
             WHERE participants.party = '{}' AND kind = 'finance_hold'",
            record.text(tag::PARTY)
        );
        let wanted = holds.get(id.as_slice()).copied().unwrap_or(0);
        assert!(wanted > 0, "too few rows to say anything");
        assert_eq!(ask(&archive, &sql), format!("n,roles\n{wanted},issuer\n"));
    }
    let founders = "SELECT party, roles FROM participants WHERE from_height = 0";
    assert_eq!(ask(&archive, founders), "party,roles\nAUTHORITY,authority\n");
}

#[test]
fn answers_are_exact_on_a_folder_and_on_an_object_store() {
    let chain = MiniChain::make(PLAN);
    let truth = truth(&chain);
    let dir = tempfile::tempdir().unwrap();
    let local = archive(dir.path(), &chain);
    let store = Arc::new(object_store::memory::InMemory::new());
    let prefix = object_store::path::Path::from("a b/c");
    let config = ArchiveConfig::new("memory");
    let id = Some(chain.genesis.chain);
    let remote = Archive::open_store(store, prefix, config, id, true).unwrap();
    seal(&remote, &chain);
    for archive in [&local, &remote] {
        let sums = "SELECT count(*) AS n, sum(total_gross) AS gross, sum(total_vat) AS vat, \
                    count(DISTINCT number) AS numbers FROM records";
        let expected = format!(
            "n,gross,vat,numbers\n{},{},{},{}\n",
            chain.rows(),
            truth.gross,
            truth.vat,
            truth.numbers.len()
        );
        assert_eq!(ask(archive, sums), expected);
        let outcomes = "SELECT outcome, count(*) AS n FROM records GROUP BY 1 ORDER BY 1";
        let expected: String =
            truth.outcomes.iter().map(|(outcome, n)| format!("{outcome},{n}\n")).collect();
        assert_eq!(ask(archive, outcomes), format!("outcome,n\n{expected}"));
        let number = &truth.first_number;
        let found = ask(
            archive,
            &format!(
                "SELECT DISTINCT number FROM records WHERE number = '{number}' AND shard >= 0"
            ),
        );
        assert_eq!(found, format!("number\n{number}\n"));
        assert_eq!(
            ask(
                archive,
                "SELECT count(*) AS n FROM records WHERE date = DATE '2026-11-22' AND shard = 1"
            ),
            format!(
                "n\n{}\n",
                chain.shards[1]
                    .iter()
                    .filter(|r| r.time_ms >= mini_chain::FIRST_TIME + 10_000)
                    .count()
            )
        );
        assert_eq!(
            ask(archive, "SELECT max(height) AS h FROM blocks"),
            format!("h\n{}\n", PLAN.blocks)
        );
        let leaf = hex::encode(Entry::decode(&chain.shards[2][5].entry).unwrap().leaf());
        assert_eq!(
            ask(
                archive,
                "SELECT encode(leaf, 'hex') AS leaf FROM records WHERE shard = 2 AND log_index = 5"
            ),
            format!("leaf\n{leaf}\n")
        );
        let preceding =
            "SELECT count(p['number']) AS n FROM (SELECT unnest(preceding) AS p FROM records)";
        assert_eq!(ask(archive, preceding), format!("n\n{}\n", truth.preceding));
    }
}

#[test]
fn what_is_not_in_a_manifest_is_not_seen() {
    let chain = MiniChain::make(Plan { blocks: 3, ..PLAN });
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(dir.path(), &chain);
    let segment = archive.segments().into_iter().find(|s| s.shard == Some(0)).unwrap();
    let path = dir.path().join(&segment.path);
    std::fs::copy(&path, path.with_file_name("leftover.parquet")).unwrap();
    let rows = chain.rows();
    assert_eq!(ask(&archive, "SELECT count(*) AS n FROM records"), format!("n\n{rows}\n"));
}

#[test]
fn formats_and_descriptions() {
    let chain = MiniChain::make(Plan { blocks: 3, ..PLAN });
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(dir.path(), &chain);
    let sql = "SELECT log_index, total_gross, block_time FROM records WHERE shard = 1 \
               AND total_gross IS NOT NULL ORDER BY 1 LIMIT 1";
    let json = ask_as(&archive, sql, Format::Json).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["total_gross"].is_string() && json["block_time"].is_string());
    let all = ask_as(&archive, "SELECT * FROM records", Format::Json).unwrap();
    assert_eq!(all.lines().count(), chain.rows());
    let table = ask_as(&archive, "DESCRIBE records", Format::Table).unwrap();
    assert!(table.contains("total_gross"), "{table}");
    assert!(ask(&archive, "SHOW TABLES").contains("blocks"));
    assert!(ask(&archive, "EXPLAIN SELECT * FROM blocks").contains("plan"));
    assert_eq!(ask(&archive, "SELECT height FROM blocks WHERE height > 99"), "height\n");
}

#[test]
fn nothing_but_queries_is_accepted() {
    let chain = MiniChain::make(Plan { blocks: 2, ..PLAN });
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(dir.path(), &chain);
    let out = dir.path().join("out.csv");
    for sql in [
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW x AS SELECT 1",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "DROP TABLE records",
        "INSERT INTO records SELECT * FROM records",
        "DELETE FROM records",
        "UPDATE records SET height = 1",
        &format!("COPY records TO '{}' STORED AS CSV", out.display()),
        "SET datafusion.execution.batch_size = 1",
        "BEGIN TRANSACTION",
        "SELECT 1; DROP TABLE records",
        "SELECT * FROM '/etc/passwd'",
        "SELECT",
        "",
    ] {
        let refused = ask_as(&archive, sql, Format::Csv);
        assert!(matches!(refused, Err(QueryError::Refused(_))), "{sql}: {refused:?}");
    }
    assert!(!out.exists());
    let message = |sql| ask_as(&archive, sql, Format::Csv).unwrap_err().to_string();
    let unknown = message("SELECT gross FROM records");
    assert!(unknown.contains("\"gross\"") && unknown.contains("total_gross"), "{unknown}");
    assert!(message("SELECT * FROM invoices").contains("the tables are records, blocks"));
    assert!(message("DROP TABLE records").contains("read only"));
}

#[test]
fn memory_is_bounded_and_a_query_that_needs_more_says_so() {
    let chain = MiniChain::make(Plan { rows: 400, blocks: 12, signed: false, ..PLAN });
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(dir.path(), &chain);
    let options = QueryOptions { memory_bytes: 1 << 20, threads: 2, ..QueryOptions::default() };
    let mut out = Vec::new();
    // Grouping by a secret cannot fit; it either spills or says that it needs more.
    let sql = "SELECT secret, array_agg(fields) FROM records GROUP BY 1";
    match query(&archive, sql, Format::Csv, &options, &mut out) {
        Ok(rows) => assert!(rows > 10_000),
        Err(error) => {
            assert!(matches!(error, QueryError::Busy(_)), "{error}");
            assert!(error.to_string().contains("1048576"), "{error}");
        }
    }
}

/// The python with duckdb and pyarrow, if there is one.
fn python() -> Option<PathBuf> {
    let named = std::env::var_os("PIAOGEN_PYTHON").map(PathBuf::from);
    let usual = || {
        let home = std::env::var_os("HOME").map(PathBuf::from)?;
        Some(home.join(".cache/piaogen/venv/bin/python"))
    };
    named.or_else(usual).filter(|python| python.is_file())
}

#[test]
fn duckdb_and_pyarrow_read_the_same_files() {
    let Some(python) = python() else {
        eprintln!("SKIPPED: PIAOGEN_PYTHON names no python with duckdb and pyarrow");
        return;
    };
    let chain = MiniChain::make(PLAN);
    let truth = truth(&chain);
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(dir.path(), &chain);
    let script =
        std::env::current_dir().expect("a folder to be in").join("tests/python/read_archive.py");
    let run = Command::new(python).arg(script).arg(dir.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let answers: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let mut leaves = Vec::new();
    for shard in archive.shards() {
        for row in archive.rows(shard, 0) {
            leaves.push(Entry::decode(&row.unwrap().entry).unwrap().leaf());
        }
    }
    let days: Vec<String> =
        archive.segments().iter().filter(|s| s.shard.is_some()).map(|s| s.date()).collect();
    let days: BTreeSet<String> = days.into_iter().collect();
    let offsets: u64 = chain.blocks.iter().flat_map(|block| &block.cut.0).sum();
    for reader in ["duckdb", "pyarrow"] {
        let answer = &answers[reader];
        assert_eq!(answer["rows"], chain.rows() as u64, "{reader}");
        assert_eq!(answer["gross"], truth.gross.to_string(), "{reader}");
        assert_eq!(answer["vat"], truth.vat.to_string(), "{reader}");
        assert_eq!(answer["numbers"], truth.numbers.len() as u64, "{reader}");
        assert_eq!(answer["preceding"], truth.preceding as u64, "{reader}");
        assert_eq!(answer["blocks"], chain.blocks.len() as u64, "{reader}");
        assert_eq!(answer["offsets"], offsets.to_string(), "{reader}");
        let outcomes: BTreeMap<String, u64> =
            serde_json::from_value(answer["outcomes"].clone()).unwrap();
        assert_eq!(outcomes, truth.outcomes, "{reader}");
        let own: BTreeSet<String> = serde_json::from_value(answer["days"].clone()).unwrap();
        assert_eq!(own, days, "{reader}");
        assert_eq!(answer["leaves"], sha256_of(&leaves), "{reader}");
    }
}

/// SHA-256 by the system's own tool: the script has no SM3, and we have no SHA-256.
fn sha256_of(leaves: &[[u8; 32]]) -> String {
    use std::io::Write;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    leaves.iter().for_each(|leaf| file.write_all(leaf).unwrap());
    let run = Command::new("sha256sum").arg(file.path()).output().unwrap();
    String::from_utf8(run.stdout).unwrap()[..64].to_owned()
}
