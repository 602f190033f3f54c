//! Asks the archive in SQL.
//!
//! Two tables, `records` and `blocks`, over exactly the segments that the manifests name; what lies
//! beside them is never read. A third, `participants`, says whose the keys are; it is made when a
//! query names it. DataFusion plans and runs the query within a bound on memory,
//! spilling to disk beyond it, and rows are written as they come.
//!
//! | file | topic |
//! |---|---|
//! | `table.rs` | segments as a table |
//! | `participants.rs` | the registry as a table |
//! | `output.rs` | results as a table, CSV or JSON |
//!
//! Invariants
//! - Read only: whatever a statement says, nothing is changed and no other file is read.
//! - Memory and disk are bounded by [`QueryOptions`], whatever the query.

mod output;
mod participants;
mod table;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::common::SchemaError;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use piaogen_storage::StoreError;
use piaogen_storage::archive::{Archive, Series, blocks_schema, records_schema};

use table::SegmentTable;

/// How results are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// For people: columns padded to their widths.
    Table,
    /// RFC 4180 with a header.
    Csv,
    /// One JSON object a line; decimals are strings, so that no reader rounds them.
    Json,
}

/// Bounds of a query.
#[derive(Clone, Debug)]
pub struct QueryOptions {
    /// Memory for sorting, grouping and joining, in bytes; more than that spills.
    pub memory_bytes: usize,
    /// Folder for what spills; the system's temporary folder by default.
    pub spill_dir: Option<PathBuf>,
    /// Most bytes that may spill.
    pub spill_bytes: u64,
    /// Threads; 0 for one a core.
    pub threads: usize,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self { memory_bytes: 512 << 20, spill_dir: None, spill_bytes: 32 << 30, threads: 0 }
    }
}

/// Why a query gives no answer; the variant is its class.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The query is wrong.
    #[error("{0}")]
    Refused(String),
    /// A bound was reached.
    #[error("{0}")]
    Busy(String),
    /// The archive, the runtime or the output failed.
    #[error("the query failed: {0}")]
    Failed(String),
}

impl From<StoreError> for QueryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(what) => Self::Refused(what),
            StoreError::Busy(what) => Self::Busy(what),
            fatal => Self::Failed(fatal.to_string()),
        }
    }
}

/// Answers a query over an archive, and says how many rows it wrote. Blocks until all is written.
pub fn query(
    archive: &Archive,
    sql: &str,
    format: Format,
    options: &QueryOptions,
    out: &mut dyn Write,
) -> Result<u64, QueryError> {
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| QueryError::Failed(format!("cannot start threads: {error}")))?;
    let context = context(archive, options, threads).map_err(|error| explain(&error, options))?;
    if sql.to_ascii_lowercase().contains("participants") {
        let batch = participants::read(archive)?;
        let table = MemTable::try_new(participants::schema(), vec![vec![batch]]);
        let added = table.and_then(|table| context.register_table("participants", Arc::new(table)));
        added.map_err(|error| explain(&error, options))?;
    }
    runtime.block_on(run(&context, sql, format, options, out))
}

fn context(
    archive: &Archive,
    options: &QueryOptions,
    threads: usize,
) -> Result<SessionContext, DataFusionError> {
    let spill = match &options.spill_dir {
        None => DiskManagerMode::OsTmpDirectory,
        Some(folder) => DiskManagerMode::Directories(vec![folder.clone()]),
    };
    let spill = DiskManagerBuilder::default()
        .with_mode(spill)
        .with_max_temp_directory_size(options.spill_bytes);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(options.memory_bytes)))
        .with_disk_manager_builder(spill)
        .build_arc()?;
    let mut config = SessionConfig::new()
        .with_target_partitions(threads)
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(true);
    let parquet = &mut config.options_mut().execution.parquet;
    parquet.pushdown_filters = true;
    parquet.reorder_filters = true;
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .build();
    let context = SessionContext::new_with_state(state);
    let (store, prefix) = archive.store();
    context.register_object_store(table::store_url().as_ref(), store);
    let (mut records, mut blocks) = (Vec::new(), Vec::new());
    for segment in archive.segments() {
        match segment.series() {
            Series::Records(_) => records.push(segment),
            Series::Blocks => blocks.push(segment),
        }
    }
    let records = SegmentTable::records(records_schema(), records, prefix.clone());
    let blocks = SegmentTable::blocks(blocks_schema(), blocks, prefix);
    context.register_table("records", Arc::new(records))?;
    context.register_table("blocks", Arc::new(blocks))?;
    Ok(context)
}

async fn run(
    context: &SessionContext,
    sql: &str,
    format: Format,
    options: &QueryOptions,
    out: &mut dyn Write,
) -> Result<u64, QueryError> {
    let plan = context.state().create_logical_plan(sql).await;
    let plan = plan.map_err(|error| explain(&error, options))?;
    let read_only =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    read_only.verify_plan(&plan).map_err(|error| {
        QueryError::Refused(format!(
            "the archive is read only, so a query may only select: {}; use SELECT, EXPLAIN, \
             DESCRIBE or SHOW",
            first_line(&error)
        ))
    })?;
    let frame = context.execute_logical_plan(plan).await;
    let stream = match frame {
        Ok(frame) => frame.execute_stream().await,
        Err(error) => Err(error),
    };
    let mut stream = stream.map_err(|error| explain(&error, options))?;
    let mut writer = output::Writer::new(format, &stream.schema(), out);
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|error| explain(&error, options))?;
        writer.write(&batch).map_err(|error| QueryError::Failed(error.to_string()))?;
    }
    writer.finish().map_err(|error| QueryError::Failed(error.to_string()))
}

fn first_line(error: &DataFusionError) -> String {
    error.strip_backtrace().lines().next().unwrap_or_default().to_owned()
}

fn columns() -> String {
    let names = |schema: &arrow::datatypes::Schema, more: &[&str]| {
        let own = schema.fields().iter().map(|field| field.name().as_str());
        more.iter().copied().chain(own).collect::<Vec<_>>().join(", ")
    };
    format!(
        "records has {}; blocks has {}; participants has {}",
        names(&records_schema(), &["date", "shard"]),
        names(&blocks_schema(), &[]),
        names(&participants::schema(), &[])
    )
}

/// Says what to do about a failure.
fn explain(error: &DataFusionError, options: &QueryOptions) -> QueryError {
    match error.find_root() {
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, .. } => QueryError::Refused(format!(
                "there is no column {:?} here: {}",
                field.name(),
                columns()
            )),
            other => QueryError::Refused(other.to_string()),
        },
        DataFusionError::ResourcesExhausted(what) => QueryError::Busy(format!(
            "the query needs more than {} bytes of memory and {} of disk ({}): select less, or \
             give it more memory",
            options.memory_bytes,
            options.spill_bytes,
            what.lines().next().unwrap_or_default()
        )),
        root @ (DataFusionError::SQL(..) | DataFusionError::NotImplemented(_)) => {
            QueryError::Refused(first_line(root))
        }
        DataFusionError::Plan(what) if what.contains("not found") => {
            let what = what.lines().next().unwrap_or_default();
            QueryError::Refused(format!(
                "{what}; the tables are records, blocks and participants: {}",
                columns()
            ))
        }
        root @ DataFusionError::Plan(_) => QueryError::Refused(first_line(root)),
        root => QueryError::Failed(first_line(root)),
    }
}
