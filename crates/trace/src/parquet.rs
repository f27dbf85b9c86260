//! Traces as Parquet tables, for tools that read columns: DuckDB, pandas, Polars, Spark.
//!
//! One file holds one trace, one row an event. Nothing is lost: [`read`] gives back what [`write()`]
//! was given. What belongs to the run as a whole is JSON in the file's metadata, under [`KEY`].
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `event` | int32 | number of the event, from 0 |
//! | `kind` | string | `call`, `resume`, `line`, `return`, `yield`, `unwind`, `exception` |
//! | `activation` | uint32 | which run of a code object, from 0 |
//! | `depth` | int32 | activations on the stack below this one |
//! | `code` | uint32 | index into the `functions` of the metadata |
//! | `function` | string | qualified name of the code object |
//! | `line` | uint32 | source line, from 1 |
//! | `locals` | string | JSON object of all variables in binding order, a name to its `repr` |
//! | `value` | string or null | what was returned, yielded or raised |
//!
//! Names of variables are unique in an event, as Python has them. A value is its `repr` as a string. Where more is known it is an object: `repr`, `detail` (the same
//! with attributes), `truncated`. The `value` column is JSON for the same reason.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::record::{Row, RowAccessor};
use parquet::schema::parser::parse_message_type;
use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::columns::{are_sound, integers, texts};
use crate::{End, Entry, Event, EventKind, Function, Local, SourceFile, Thread, Trace, Value};

/// The metadata key of what belongs to the run as a whole.
pub const KEY: &str = "cwm.trace";

/// The version that [`write()`] writes and [`read`] accepts.
pub const VERSION: u32 = 1;

const SCHEMA: &str = "message trace {
    required int32 event;
    required binary kind (STRING);
    required int32 activation (INTEGER(32,false));
    required int32 depth;
    required int32 code (INTEGER(32,false));
    required binary function (STRING);
    required int32 line (INTEGER(32,false));
    required binary locals (STRING);
    optional binary value (STRING);
}";

/// Events of a row group: small enough to hold in memory several times over.
const GROUP: usize = 1 << 16;

/// Why a table could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The Parquet library refused.
    #[error("not a sound Parquet file: {0}")]
    Parquet(#[from] ParquetError),
    /// Its parts contradict each other.
    #[error("the Parquet file is damaged")]
    Damaged,
    /// A table, but none of ours.
    #[error("a Parquet file, but not a trace: its metadata lacks `{KEY}`")]
    NotATrace,
    /// Written by another version of this program.
    #[error(
        "the trace has format version {0}, but only version {VERSION} can be read; record it again \
         or use the version of cwm that wrote it"
    )]
    Version(u32),
    /// The metadata or a value is not what it should be.
    #[error("event {event}: {what}")]
    Malformed {
        /// Number of the row, from 0.
        event: usize,
        /// What is wrong.
        what: String,
    },
    /// The JSON of the metadata is wrong, or cannot be made.
    #[error("the metadata of the trace: {0}")]
    Metadata(#[from] serde_json::Error),
}

/// The metadata.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    version: u32,
    python: String,
    file: String,
    source: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    other_files: Vec<SourceFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    thread: Option<Thread>,
    entry: Entry,
    functions: Vec<Function>,
    end: End,
    stdout: String,
    stderr: String,
}

/// Writes `trace` as a table with Snappy compression.
///
/// # Errors
/// Those of the writer; [`Error::Malformed`] for an event that refers to a code object the trace does
/// not list; [`Error::Metadata`] for a time limit that is not a finite number, which JSON cannot say.
pub fn write(trace: &Trace, out: impl Write + Send) -> Result<(), Error> {
    let run = Run {
        version: VERSION,
        python: trace.python.clone(),
        file: trace.file.clone(),
        source: trace.source.clone(),
        other_files: trace.other_files.clone(),
        thread: trace.thread.clone(),
        entry: trace.entry.clone(),
        functions: trace.functions.clone(),
        end: trace.end.clone(),
        stdout: trace.stdout.clone(),
        stderr: trace.stderr.clone(),
    };
    let text = serde_json::to_string(&run)?;
    // A limit of infinity would be written as null, which does not come back.
    serde_json::from_str::<Run>(&text)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(vec![KeyValue::new(KEY.to_owned(), text)]))
        .build();
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut writer = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
    let depths = depths(&trace.events);
    for (number, events) in trace.events.chunks(GROUP).enumerate() {
        let first = number * GROUP;
        let rows = Rows {
            trace,
            events,
            first,
            depths: &depths[first..],
        };
        let mut group = writer.next_row_group()?;
        rows.write(&mut group)?;
        group.close()?;
    }
    writer.close()?;
    Ok(())
}

/// The depth of each event: how many activations lie below its own.
fn depths(events: &[Event]) -> Vec<i32> {
    let mut depth = 0;
    events
        .iter()
        .map(|event| {
            depth += i32::from(event.kind.enters());
            let own = (depth - 1).max(0);
            depth -= i32::from(event.kind.leaves());
            own
        })
        .collect()
}

/// The events of one row group.
struct Rows<'a> {
    trace: &'a Trace,
    events: &'a [Event],
    /// Number of the first one.
    first: usize,
    depths: &'a [i32],
}

impl Rows<'_> {
    /// Writes the columns in the order of [`SCHEMA`].
    fn write<W: Write + Send>(
        &self,
        group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), Error> {
        let events = self.events;
        let integer = |of: &dyn Fn(usize, &Event) -> i32| -> Vec<i32> {
            events.iter().enumerate().map(|(i, e)| of(i, e)).collect()
        };
        let names = events
            .iter()
            .enumerate()
            .map(|(i, event)| self.function(i, event).map(|f| f.qualname.as_str().into()))
            .collect::<Result<Vec<ByteArray>, Error>>()?;
        integers(group, &integer(&|i, _| (self.first + i) as i32))?;
        let kinds = events.iter().map(|event| event.kind.name().into());
        texts(group, &kinds.collect::<Vec<_>>(), None)?;
        integers(group, &integer(&|_, e| e.activation as i32))?;
        integers(group, &self.depths[..events.len()])?;
        integers(group, &integer(&|_, e| e.function as i32))?;
        texts(group, &names, None)?;
        integers(group, &integer(&|_, e| e.line as i32))?;
        let locals = events.iter().map(|event| {
            let entries = event.locals.iter();
            let object: Map<_, _> = entries
                .map(|l| (l.name.to_string(), json(&l.value)))
                .collect();
            serde_json::Value::Object(object)
                .to_string()
                .as_str()
                .into()
        });
        texts(group, &locals.collect::<Vec<_>>(), None)?;
        let values = events.iter().filter_map(|event| event.value.as_ref());
        let values: Vec<ByteArray> = values
            .map(|v| json(v).to_string().as_str().into())
            .collect();
        let present = events.iter().map(|event| i16::from(event.value.is_some()));
        texts(group, &values, Some(&present.collect::<Vec<_>>()))?;
        Ok(())
    }

    fn function(&self, row: usize, event: &Event) -> Result<&Function, Error> {
        let functions = &self.trace.functions;
        functions
            .get(event.function as usize)
            .ok_or_else(|| Error::Malformed {
                event: self.first + row,
                what: format!(
                    "refers to function {}, but the trace lists {}",
                    event.function,
                    functions.len()
                ),
            })
    }
}

/// A value as its text alone, where that is all there is to say.
fn json(value: &Value) -> serde_json::Value {
    if value.detail.is_none() && !value.truncated {
        return serde_json::Value::String(value.repr.to_string());
    }
    let mut object = Map::new();
    object.insert("repr".into(), value.repr.as_ref().into());
    if let Some(detail) = &value.detail {
        object.insert("detail".into(), detail.as_ref().into());
    }
    if value.truncated {
        object.insert("truncated".into(), true.into());
    }
    serde_json::Value::Object(object)
}

fn value(json: serde_json::Value) -> Result<Value, String> {
    match json {
        serde_json::Value::String(text) => Ok(Value::new(text)),
        other => serde_json::from_value(other).map_err(|error| error.to_string()),
    }
}

/// Reads a trace back.
///
/// # Errors
/// [`Error`]: the file is no Parquet, no trace, of another version, or damaged.
pub fn read(file: File) -> Result<Trace, Error> {
    // The Parquet library asserts some of what it reads, so a damaged file can make it panic.
    std::panic::catch_unwind(|| read_sound(file)).unwrap_or(Err(Error::Damaged))
}

/// Reads a file whose damage, if any, the library reports as it should.
fn read_sound(file: File) -> Result<Trace, Error> {
    let reader = SerializedFileReader::new(file)?;
    if !are_sound(&reader) {
        return Err(Error::Damaged);
    }
    let metadata = reader.metadata().file_metadata();
    let expected = parse_message_type(SCHEMA)?;
    let text = metadata
        .key_value_metadata()
        .and_then(|pairs| pairs.iter().find(|pair| pair.key == KEY))
        .and_then(|pair| pair.value.as_deref())
        .ok_or(Error::NotATrace)?;
    let version = serde_json::from_str::<serde_json::Value>(text)?
        .get("version")
        .and_then(serde_json::Value::as_u64)
        .ok_or(Error::NotATrace)?;
    if version != u64::from(VERSION) {
        return Err(Error::Version(version.try_into().unwrap_or(u32::MAX)));
    }
    let run: Run = serde_json::from_str(text)?;
    if metadata.schema().get_fields() != expected.get_fields() {
        return Err(Error::NotATrace);
    }
    let mut events = Vec::new();
    for (number, row) in reader.get_row_iter(None)?.enumerate() {
        let event = event(&row?, run.functions.len());
        events.push(event.map_err(|what| Error::Malformed {
            event: number,
            what,
        })?);
    }
    Ok(Trace {
        python: run.python,
        file: run.file,
        source: run.source,
        other_files: run.other_files,
        thread: run.thread,
        entry: run.entry,
        functions: run.functions,
        events,
        end: run.end,
        stdout: run.stdout,
        stderr: run.stderr,
    })
}

/// The event of a row; columns are numbered as in [`SCHEMA`].
fn event(row: &Row, functions: usize) -> Result<Event, String> {
    let integer = |column: usize| -> Result<u32, String> {
        row.get_uint(column).map_err(|error| error.to_string())
    };
    let text = |column: usize| row.get_string(column).map_err(|error| error.to_string());
    let parse = |text: &str| serde_json::from_str(text).map_err(|error| error.to_string());
    let name = text(1)?;
    let kind = EventKind::ALL
        .into_iter()
        .find(|&kind| kind.name() == name)
        .ok_or_else(|| format!("there is no kind of event `{name}`"))?;
    let function = integer(4)?;
    if function as usize >= functions {
        return Err(format!(
            "refers to function {function}, but the trace lists {functions}"
        ));
    }
    let serde_json::Value::Object(variables) = parse(text(7)?)? else {
        return Err("the variables are not a JSON object".to_owned());
    };
    let locals = variables
        .into_iter()
        .map(|(name, json)| {
            let (name, value) = (name.into(), value(json)?);
            Ok(Local { name, value })
        })
        .collect::<Result<_, String>>()?;
    let value = match row.is_null(8) {
        Ok(false) => Some(value(parse(text(8)?)?)?),
        _ => None,
    };
    Ok(Event {
        kind,
        activation: integer(2)?,
        function,
        line: integer(6)?,
        locals,
        value,
    })
}
