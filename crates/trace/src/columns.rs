//! Columns of Parquet files, for the tables of this crate and of those that build on it.

use std::fs::File;
use std::io::Write;

use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedRowGroupWriter;

/// The first bytes of any Parquet file.
pub const MAGIC: &[u8] = b"PAR1";

/// Writes the next column, which is one of integers.
///
/// # Errors
/// Those of the writer.
pub fn integers<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[i32],
) -> Result<(), ParquetError> {
    if let Some(mut column) = group.next_column()? {
        if let ColumnWriter::Int32ColumnWriter(writer) = column.untyped() {
            writer.write_batch(values, None, None)?;
        }
        column.close()?;
    }
    Ok(())
}

/// Writes the next column, which is one of texts; `present` says which rows of it are not null.
///
/// # Errors
/// Those of the writer.
pub fn texts<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[ByteArray],
    present: Option<&[i16]>,
) -> Result<(), ParquetError> {
    if let Some(mut column) = group.next_column()? {
        if let ColumnWriter::ByteArrayColumnWriter(writer) = column.untyped() {
            writer.write_batch(values, present, None)?;
        }
        column.close()?;
    }
    Ok(())
}

/// Writes the next column, which is one of texts, some rows at a time, so that not all need be in memory at once and
/// a page has no more than those of a batch that reaches the limit of the page.
///
/// # Errors
/// Those of the batches and those of the writer.
pub fn texts_in_batches<W: Write + Send, E: From<ParquetError>>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    batches: impl Iterator<Item = Result<Vec<ByteArray>, E>>,
) -> Result<(), E> {
    if let Some(mut column) = group.next_column()? {
        if let ColumnWriter::ByteArrayColumnWriter(writer) = column.untyped() {
            for batch in batches {
                writer.write_batch(&batch?, None, None)?;
            }
        }
        column.close()?;
    }
    Ok(())
}

/// Whether the places of all columns make sense: of what does not, the library reads anything.
pub fn are_sound(reader: &SerializedFileReader<File>) -> bool {
    let groups = reader.metadata().row_groups();
    groups
        .iter()
        .flat_map(|group| group.columns())
        .all(|chunk| {
            let dictionary = chunk.dictionary_page_offset().unwrap_or(0);
            chunk.compressed_size() >= 0 && chunk.data_page_offset() >= 0 && dictionary >= 0
        })
}
