//! Shards of texts: one Parquet file, a row a text.
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `id` | string | name of the text |
//! | `origin` | string | name of the source in the recipe |
//! | `licence` | string | SPDX expression |
//! | `kind` | string | `cwm`, `live` or `nd` for a run in a dialect, or a kind of [`crate::text`] |
//! | `group` | string | texts of one group belong on one side of a split |
//! | `text` | string | what a model trains on |
//! | `document` | string | the JSON object of the [`crate::text::Document`], empty for a dialect |

use std::fs::File;
use std::io::Write;

use cwm_trace::columns::texts;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::record::RowAccessor;

use crate::shard::{ShardError, read_rows, table};

const SCHEMA: &str = "message texts {
    required binary id (STRING);
    required binary origin (STRING);
    required binary licence (STRING);
    required binary kind (STRING);
    required binary group (STRING);
    required binary text (STRING);
    required binary document (STRING);
}";

/// One text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextRow {
    /// Unique within what one recipe makes.
    pub id: String,
    /// SPDX expression.
    pub licence: String,
    /// A dialect or a kind of text.
    pub kind: String,
    /// Texts of one group belong on one side of a split.
    pub group: String,
    /// What a model trains on.
    pub text: String,
    /// JSON of what it was made of; empty for a run in a dialect.
    pub document: String,
}

impl TextRow {
    fn columns(&self) -> [&str; 6] {
        [
            &self.id,
            &self.licence,
            &self.kind,
            &self.group,
            &self.text,
            &self.document,
        ]
    }
}

/// Writes texts of one source as a table with Snappy compression. The same texts give the same bytes.
///
/// # Errors
/// Those of the writer.
pub fn write_texts(
    rows: &[TextRow],
    origin: &str,
    out: impl Write + Send,
) -> Result<(), ShardError> {
    let mut writer = table(SCHEMA, WriterProperties::builder(), out)?;
    let mut group = writer.next_row_group()?;
    let column = |at: usize| {
        rows.iter()
            .map(|row| row.columns()[at].into())
            .collect::<Vec<ByteArray>>()
    };
    texts(&mut group, &column(0), None)?;
    texts(&mut group, &vec![ByteArray::from(origin); rows.len()], None)?;
    for at in 1..6 {
        texts(&mut group, &column(at), None)?;
    }
    group.close()?;
    writer.close()?;
    Ok(())
}

/// Reads the texts of a shard.
///
/// # Errors
/// [`ShardError`].
pub fn read_texts(file: File) -> Result<Vec<TextRow>, ShardError> {
    read_rows(file, SCHEMA, ShardError::NotTexts, |_, row| {
        let text = |at: usize| row.get_string(at).cloned();
        Ok(TextRow {
            id: text(0)?,
            licence: text(2)?,
            kind: text(3)?,
            group: text(4)?,
            text: text(5)?,
            document: text(6)?,
        })
    })
}
