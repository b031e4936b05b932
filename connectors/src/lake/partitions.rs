//! Hive's folders: `year=2026/day=2026-01-31/` are columns of every row below them.

use std::sync::Arc;

use chrono::NaiveDate;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use meshwork_engine::{Error, Result};
use object_store::ObjectMeta;
use object_store::path::Path;

/// Hive's name of the folder for NULL.
const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

/// A file and what its folders say.
#[derive(Debug, Clone)]
pub(super) struct LakeFile {
    pub(super) meta: ObjectMeta,
    /// One value for each partition column.
    pub(super) values: Vec<ScalarValue>,
}

/// The partition columns of a table and its files with their values.
#[derive(Debug)]
pub(super) struct Partitioned {
    pub(super) fields: Vec<FieldRef>,
    pub(super) files: Vec<LakeFile>,
}

/// Reads the folders between `root` and each file.
pub(super) fn partition(files: Vec<ObjectMeta>, root: &Path, table: &str) -> Result<Partitioned> {
    let pairs: Vec<Vec<(String, String)>> =
        files.iter().map(|file| pairs_of(&file.location, root)).collect();
    let keys = |pairs: &Vec<(String, String)>| {
        pairs.iter().map(|(key, _value)| key.clone()).collect::<Vec<_>>()
    };
    let names = pairs.first().map(keys).unwrap_or_default();
    for (file, pairs) in files.iter().zip(&pairs) {
        if keys(pairs) != names {
            return Err(Error::source(
                "PARTITION_MISMATCH",
                format!(
                    "file \"{}\" of table \"{table}\" is not partitioned by [{}] as other files are",
                    file.location,
                    names.join(", ")
                ),
            ));
        }
    }
    let column = |index: usize| {
        let text = |pairs: &Vec<(String, String)>| {
            pairs.get(index).map(|(_key, value)| value.clone()).filter(|v| v != NULL_FOLDER)
        };
        pairs.iter().map(text).collect::<Vec<Option<String>>>()
    };
    let columns: Vec<_> = (0..names.len()).map(column).collect();
    let types: Vec<DataType> = columns.iter().map(|texts| type_of(texts)).collect();
    let fields = names.iter().zip(&types).zip(&columns).map(|((name, data_type), texts)| {
        let nullable = texts.iter().any(Option::is_none);
        Arc::new(Field::new(name, data_type.clone(), nullable))
    });
    let fields = fields.collect();
    let with_values = |(row, meta): (usize, ObjectMeta)| {
        let value = |(texts, data_type): (&Vec<Option<String>>, &DataType)| match &texts[row] {
            Some(text) => ScalarValue::try_from_string(text.clone(), data_type),
            None => ScalarValue::try_from(data_type),
        };
        let values = columns.iter().zip(&types).map(value).collect::<Result<_, _>>()?;
        Ok(LakeFile { meta, values })
    };
    let files = files.into_iter().enumerate().map(with_values).collect::<Result<_>>()?;
    Ok(Partitioned { fields, files })
}

fn pairs_of(file: &Path, root: &Path) -> Vec<(String, String)> {
    let folders: Vec<_> = file.prefix_match(root).into_iter().flatten().collect();
    let n_folders = folders.len().saturating_sub(1);
    let pair = |part: &object_store::path::PathPart<'_>| {
        let (key, value) = part.as_ref().split_once('=')?;
        (!key.is_empty()).then(|| (decoded(key), decoded(value)))
    };
    folders.iter().take(n_folders).filter_map(pair).collect()
}

/// Integer, then date, then text: the narrowest that fits all values.
fn type_of(texts: &[Option<String>]) -> DataType {
    let mut known = texts.iter().flatten().peekable();
    if known.peek().is_none() {
        return DataType::Utf8;
    }
    if known.clone().all(|text| is_integer(text)) {
        return DataType::Int64;
    }
    if known.all(|text| is_date(text)) { DataType::Date32 } else { DataType::Utf8 }
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && text.parse::<i64>().is_ok()
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok()
}

/// Resolves `%41`; what is not such an escape stays as it is.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let hex = |index: usize| bytes.get(index).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(byte) = bytes.get(index) {
        match (byte, hex(index + 1), hex(index + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
                index += 3;
            }
            _ => {
                out.push(*byte);
                index += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_broken| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{decoded, type_of};
    use datafusion::arrow::datatypes::DataType;

    #[test]
    fn types_are_the_narrowest_that_fit() {
        let of = |texts: &[&str]| {
            type_of(&texts.iter().map(|text| Some((*text).to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(of(&["2024", "-3", "07"]), DataType::Int64);
        assert_eq!(of(&["2024-01-31"]), DataType::Date32);
        assert_eq!(of(&["2024-01-31", "2024-02-30"]), DataType::Utf8);
        assert_eq!(of(&["1", "x"]), DataType::Utf8);
        assert_eq!(of(&["99999999999999999999"]), DataType::Utf8);
    }

    #[test]
    fn escapes_are_resolved() {
        assert_eq!(decoded("a%20b%2Fc"), "a b/c");
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%FF"), "%FF");
    }
}
