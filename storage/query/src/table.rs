//! The segments of an archive as a table.
//!
//! The files and their sizes come from the manifests, so nothing is listed and leftovers are not
//! seen. Filters go down into the scan, where partition values, statistics, page index and bloom
//! filters leave out what cannot match; they are applied again above it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use object_store::path::Path as StorePath;
use piaogen_storage::archive::SegmentInfo;

const DAY_MS: i64 = 86_400_000;

/// The name under which the archive's store is known to a query.
pub(crate) fn store_url() -> ObjectStoreUrl {
    ObjectStoreUrl::parse("archive://segments").expect("a constant URL")
}

/// Segments with the same columns.
#[derive(Debug)]
pub(crate) struct SegmentTable {
    schema: TableSchema,
    files: Vec<PartitionedFile>,
}

impl SegmentTable {
    pub(crate) fn records(
        schema: SchemaRef,
        segments: Vec<SegmentInfo>,
        prefix: StorePath,
    ) -> Self {
        let partitions = vec![
            Arc::new(Field::new("date", DataType::Date32, false)),
            Arc::new(Field::new("shard", DataType::Int32, false)),
        ];
        let file = |segment: &SegmentInfo| {
            let day = segment.first_time_ms.div_euclid(DAY_MS);
            file(segment, &prefix).with_partition_values(vec![
                ScalarValue::Date32(i32::try_from(day).ok()),
                ScalarValue::Int32(segment.shard.and_then(|shard| i32::try_from(shard).ok())),
            ])
        };
        let files = segments.iter().map(file).collect();
        Self {
            schema: TableSchema::builder(schema).with_table_partition_cols(partitions).build(),
            files,
        }
    }

    pub(crate) fn blocks(schema: SchemaRef, segments: Vec<SegmentInfo>, prefix: StorePath) -> Self {
        let files = segments.iter().map(|segment| file(segment, &prefix)).collect();
        Self { schema: TableSchema::from(schema), files }
    }
}

fn file(segment: &SegmentInfo, prefix: &StorePath) -> PartitionedFile {
    let mut file = PartitionedFile::new(segment.path.clone(), segment.bytes);
    let path = segment.path.split('/').fold(prefix.clone(), |path, part| path.join(part));
    file.object_meta.location = path;
    file
}

#[async_trait]
impl TableProvider for SegmentTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = TableParquetOptions {
            global: state.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let mut source =
            ParquetSource::new(self.schema.clone()).with_table_parquet_options(options);
        if let Some(filter) = conjunction(filters.to_vec()) {
            let schema = DFSchema::try_from(self.schema().as_ref().clone())?;
            source = source.with_predicate(state.create_physical_expr(filter, &schema)?);
        }
        let groups = state.config().target_partitions().clamp(1, self.files.len().max(1));
        let mut grouped = vec![Vec::new(); groups];
        for (at, file) in self.files.iter().enumerate() {
            grouped[at % groups].push(file.clone());
        }
        let config = FileScanConfigBuilder::new(store_url(), Arc::new(source))
            .with_file_groups(grouped.into_iter().map(FileGroup::new).collect())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
