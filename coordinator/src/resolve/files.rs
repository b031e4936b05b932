//! Catalogs configured by files: `etc/catalog/<name>.toml`, one file, one catalog.
//!
//! ```toml
//! connector = "postgres"
//! host = "db.example"
//! password = "${ENV:PG_PASSWORD}"
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use meshwork_engine::catalog::CatalogDefinition;
use meshwork_engine::{Error, Result};

/// Reads all catalog files of a folder, sorted by name; a folder that is not there holds none.
///
/// # Errors
/// `User` when a file cannot be read or is no flat TOML, naming the file. No value is ever named.
pub fn read_catalog_files(folder: &Path) -> Result<Vec<CatalogDefinition>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut paths: Vec<_> =
        entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths.iter().map(|path| read_file(path)).collect()
}

fn read_file(path: &Path) -> Result<CatalogDefinition> {
    let shown = path.display();
    let wrong =
        |what: &str| Error::user("CATALOG_CONFIGURATION", format!("catalog file {shown}: {what}"));
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
    let text = std::fs::read_to_string(path).map_err(|e| wrong("cannot be read").caused_by(&e))?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        let line = e
            .span()
            .map_or(0, |span| text.bytes().take(span.start).filter(|b| *b == b'\n').count());
        wrong(&format!("line {}: {}", line + 1, e.message()))
    })?;
    let mut properties = BTreeMap::new();
    flatten("", &toml::Value::Table(table), &mut properties);
    let kind =
        properties.remove("connector").ok_or_else(|| wrong("property \"connector\" is missing"))?;
    Ok(CatalogDefinition { name, kind, properties })
}

/// `[tables] a = "x"` becomes `tables.a = x`; lists become comma-separated text.
fn flatten(prefix: &str, value: &toml::Value, into: &mut BTreeMap<String, String>) {
    let text = match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&key, value, into);
            }
            return;
        }
        toml::Value::Array(values) => {
            let plain = |value: &toml::Value| {
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            };
            values.iter().map(plain).collect::<Vec<_>>().join(",")
        }
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(truth) => truth.to_string(),
        toml::Value::Datetime(time) => time.to_string(),
    };
    into.insert(prefix.to_owned(), text);
}
