//! The formats of files and their options.

use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use meshwork_engine::Result;
use meshwork_engine::catalog::Properties;

/// How the rows of a file are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Format {
    Parquet,
    Csv,
    /// One object a line.
    Json,
}

impl Format {
    /// Returns the format that a file's name says, and the name without its ending.
    pub(super) fn of_file(name: &str) -> Option<(Self, &str)> {
        let (stem, extension) = name.rsplit_once('.')?;
        let format = match extension {
            "parquet" => Self::Parquet,
            "csv" => Self::Csv,
            "json" | "jsonl" | "ndjson" => Self::Json,
            _ => return None,
        };
        Some((format, stem))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Parquet => "Parquet",
            Self::Csv => "CSV",
            Self::Json => "JSON",
        }
    }
}

/// The options of one catalog for its files.
#[derive(Debug, Clone)]
pub(super) struct Formats {
    delimiter: u8,
    quote: u8,
    header: bool,
    newlines_in_values: bool,
}

impl Formats {
    pub(super) fn from_properties(properties: &mut Properties) -> Result<Self> {
        Ok(Self {
            delimiter: character(properties, "csv.delimiter", b',')?,
            quote: character(properties, "csv.quote", b'"')?,
            header: properties.parsed("csv.header", true)?,
            // A file with line breaks in quotes that is read in pieces gives wrong rows, so pieces are
            // what one asks for.
            newlines_in_values: properties.parsed("csv.newlines_in_values", true)?,
        })
    }

    /// Returns DataFusion's reader and writer of a format, with the session's options for it.
    pub(super) fn reader(&self, format: Format, session: &dyn Session) -> Arc<dyn FileFormat> {
        match format {
            Format::Parquet => {
                let options = session.default_table_options().parquet;
                Arc::new(ParquetFormat::default().with_options(options))
            }
            Format::Csv => Arc::new(
                CsvFormat::default()
                    .with_delimiter(self.delimiter)
                    .with_quote(self.quote)
                    .with_has_header(self.header)
                    .with_newlines_in_values(self.newlines_in_values),
            ),
            Format::Json => Arc::new(JsonFormat::default()),
        }
    }
}

fn character(properties: &mut Properties, key: &str, default: u8) -> Result<u8> {
    let Some(text) = properties.optional(key) else { return Ok(default) };
    match (text.as_str(), text.as_bytes()) {
        ("\\t", _) => Ok(b'\t'),
        (_, [one]) if one.is_ascii() => Ok(*one),
        _ => Err(properties.wrong(format!("property \"{key}\" is not one ASCII character"))),
    }
}
