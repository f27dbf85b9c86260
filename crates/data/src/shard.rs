//! Shards: many records in one Parquet file, for tools that read columns and for training.
//!
//! A row is a record. `record` is the whole of it, the JSON object that [`write_record`] writes; the other
//! columns say what tools like to select by.
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `id` | string | name of the record |
//! | `origin` | string | name of the source in the recipe |
//! | `licence` | string | SPDX expression of the program's text |
//! | `group` | string | the same for runs of one function: they belong on one side of a split |
//! | `level` | int32 | difficulty of a generated program, 1 to 6, 0 for drills; -1 for programs of people |
//! | `events` | int32 | length of the run |
//! | `program` | string | text of the program |
//! | `record` | string | JSON of the record |
//!
//! [`write_record`]: crate::write_record

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use cwm_trace::columns::{are_sound, integers, texts, texts_in_batches};
use parquet::basic::Compression;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::{Row, RowAccessor};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use crate::record::{Record, record_json};

const SCHEMA: &str = "message records {
    required binary id (STRING);
    required binary origin (STRING);
    required binary licence (STRING);
    required binary group (STRING);
    required int32 level;
    required int32 events;
    required binary program (STRING);
    required binary record (STRING);
}";
/// Events of a record, on average, above which records are written page by page and without a dictionary: a shard of
/// level 6 would be a single page of a hundred megabytes.
const LONG: usize = 200;
/// Events of such a batch, which is about one megabyte.
const BATCH: usize = 4096;
/// The column of the schema that holds the whole record.
const RECORD: usize = 7;

/// Why there is no shard, or nothing in it.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The file is no Parquet, or cannot be written.
    #[error("{0}")]
    Parquet(#[from] ParquetError),
    /// It is Parquet and something else.
    #[error("it is a Parquet file of something else than recorded programs")]
    NotAShard,
    /// It is Parquet and something else than texts.
    #[error("it is a Parquet file of something else than texts")]
    NotTexts,
    /// A row is no record.
    #[error("row {row} is not a recorded program: {source}")]
    Row {
        /// Counted from 0.
        row: usize,
        /// The cause.
        source: serde_json::Error,
    },
    /// It is damaged.
    #[error("the file is damaged")]
    Damaged,
}

/// Writes records of one source as a table with Snappy compression. The same records give the same bytes.
///
/// # Errors
/// Those of the writer.
pub fn write_shard(
    records: &[Record],
    origin: &str,
    out: impl Write + Send,
) -> Result<(), ShardError> {
    let events: usize = records.iter().map(|record| record.trace.events.len()).sum();
    let per_record = events / records.len().max(1);
    // A dictionary of records has all of them; short ones keep theirs, so that their shards stay what they were.
    let is_long = per_record > LONG;
    let column = ColumnPath::from("record");
    let properties = WriterProperties::builder().set_column_dictionary_enabled(column, !is_long);
    let mut writer = table(SCHEMA, properties, out)?;
    let mut group = writer.next_row_group()?;
    let same = |text: &str| vec![ByteArray::from(text); records.len()];
    let each = |text: fn(&Record) -> &str| -> Vec<ByteArray> {
        records.iter().map(|record| text(record).into()).collect()
    };
    texts(&mut group, &each(|record| &record.id), None)?;
    texts(&mut group, &same(origin), None)?;
    texts(&mut group, &each(|record| record.origin.licence()), None)?;
    texts(&mut group, &each(Record::group), None)?;
    let levels = records
        .iter()
        .map(|r| r.origin.level().map_or(-1, i32::from));
    let levels: Vec<_> = levels.collect();
    integers(&mut group, &levels)?;
    let events = records.iter().map(|r| r.trace.events.len());
    let events: Vec<_> = events.map(|n| n.try_into().unwrap_or(i32::MAX)).collect();
    integers(&mut group, &events)?;
    texts(&mut group, &each(|record| &record.trace.source), None)?;
    let whole = |(row, record)| {
        let json = record_json(record).map_err(|source| ShardError::Row { row, source });
        json.map(ByteArray::from)
    };
    let batch = if is_long {
        (BATCH / per_record).max(1)
    } else {
        records.len().max(1)
    };
    let batches = records.chunks(batch).zip((0..).step_by(batch));
    texts_in_batches(
        &mut group,
        batches.map(|(some, first)| (first..).zip(some).map(whole).collect()),
    )?;
    group.close()?;
    writer.close()?;
    Ok(())
}

/// Begins a table of this schema, with Snappy compression.
pub(crate) fn table<W: Write + Send>(
    schema: &str,
    properties: WriterPropertiesBuilder,
    out: W,
) -> Result<SerializedFileWriter<W>, ParquetError> {
    let properties = properties.set_compression(Compression::SNAPPY);
    let schema = Arc::new(parse_message_type(schema)?);
    SerializedFileWriter::new(out, schema, Arc::new(properties.build()))
}

/// Reads the records of a shard.
///
/// # Errors
/// [`ShardError`].
pub fn read_shard(file: File) -> Result<Vec<Record>, ShardError> {
    read_rows(file, SCHEMA, ShardError::NotAShard, |row, fields| {
        serde_json::from_str(fields.get_string(RECORD)?)
            .map_err(|source| ShardError::Row { row, source })
    })
}

/// The rows of a table of this schema, each as `read` takes it, which is told its number; a table of another
/// schema is an error of the caller's.
pub(crate) fn read_rows<T>(
    file: File,
    schema: &str,
    other: ShardError,
    read: impl Fn(usize, &Row) -> Result<T, ShardError>,
) -> Result<Vec<T>, ShardError> {
    // The Parquet library asserts some of what it reads, so a damaged file can make it panic.
    let all = std::panic::AssertUnwindSafe(|| {
        let reader = SerializedFileReader::new(file)?;
        let expected = parse_message_type(schema)?;
        let metadata = reader.metadata();
        if metadata.file_metadata().schema().get_fields() != expected.get_fields() {
            return Err(other);
        }
        if !are_sound(&reader) {
            return Err(ShardError::Damaged);
        }
        let rows = reader.get_row_iter(None)?.enumerate();
        rows.map(|(number, row)| read(number, &row?)).collect()
    });
    std::panic::catch_unwind(all).unwrap_or(Err(ShardError::Damaged))
}
