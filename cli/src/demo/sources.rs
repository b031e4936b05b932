//! The sample sources, below one folder. What is there from an earlier run is used again.
//!
//! ```text
//! <folder>/lake/tpch/<table>/*.parquet    all eight tables of TPC-H
//! <folder>/shop.db                        SQLite: customer, supplier
//! REST on a free port                     nation, region, ten rows a page
//! <folder>/ads/                           the versioned store, filled by `clicks`
//! <folder>/etc/catalog/*.toml             what makes them catalogs
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use rusqlite::{Connection, params_from_iter};

use super::rest::{RestServer, rows_of};
use super::say;
use super::tpch::{Extent, Part, Table, write};

/// Files of each large table.
const N_FILES: i32 = 4;
/// Rows that the generator hands out at a time.
const BATCH_ROWS: usize = 8192;

const MANIFEST: &str = r#"connector: {name: geography, version: 1, base_url: "BASE", allow_http: true, allow_private: true}
tables:
  nation:
    list: {path: /v1/nation, rows: "$.rows[*]"}
    paginate: {type: offset, send: {query: offset}, page_size: {query: limit, max: 10}, total: $.total}
    pushdown: [{column: n_regionkey, ops: [eq], param: n_regionkey, semantics: exact}]
    schema: {columns: {n_nationkey: int64, n_name: utf8, n_regionkey: int64, n_comment: utf8}}
  region:
    list: {path: /v1/region, rows: "$.rows[*]"}
    paginate: {type: offset, send: {query: offset}, page_size: {query: limit, max: 10}, total: $.total}
    schema: {columns: {r_regionkey: int64, r_name: utf8, r_comment: utf8}}
"#;

/// What has to live as long as the demo.
#[derive(Debug)]
pub(super) struct Sources {
    _rest: RestServer,
}

/// Lays all sources out and writes their catalogs.
pub(super) async fn lay(folder: &Path, scale: f64) -> Result<Sources> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let folder = fs::canonicalize(folder)?;
    lay_lake(&folder, scale)?;
    lay_sqlite(&folder.join("shop.db"), scale)?;
    let rest = RestServer::start(geography()?).await?;
    say(&format!("  rest    nation, region at {}", rest.url()));
    write_catalogs(&folder, &rest.url())?;
    Ok(Sources { _rest: rest })
}

fn lay_lake(folder: &Path, scale: f64) -> Result<()> {
    say(&format!("laying out sample sources under {}", folder.display()));
    let schema = folder.join("lake").join("tpch");
    fs::create_dir_all(&schema)?;
    for table in Table::ALL {
        write(&schema, table, Extent { scale, n_files: N_FILES })?;
    }
    say(&format!("  lake    eight tables of TPC-H at scale factor {scale}, as Parquet"));
    Ok(())
}

fn lay_sqlite(path: &Path, scale: f64) -> Result<()> {
    if !path.exists() {
        let aside = path.with_extension("new");
        if aside.exists() {
            fs::remove_file(&aside)?;
        }
        let mut database = Connection::open(&aside)?;
        for table in [Table::Customer, Table::Supplier] {
            fill_sqlite(&mut database, table, scale)?;
        }
        database.close().map_err(|(_open, error)| error)?;
        fs::rename(&aside, path)?;
    }
    say("  sqlite  customer, supplier");
    Ok(())
}

fn fill_sqlite(database: &mut Connection, table: Table, scale: f64) -> Result<()> {
    let schema = table.schema();
    let columns: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), sqlite_type(field.data_type())))
        .collect();
    let name = table.name();
    let places = vec!["?"; columns.len()].join(", ");
    let transaction = database.transaction()?;
    transaction.execute(&format!("CREATE TABLE {name} ({})", columns.join(", ")), [])?;
    let mut insert = transaction.prepare(&format!("INSERT INTO {name} VALUES ({places})"))?;
    for batch in generated(table, scale)? {
        let options = FormatOptions::default();
        let columns = batch.columns().iter();
        let formatters: Vec<ArrayFormatter<'_>> = columns
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
            .collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            // SQLite turns the text into what the column declares.
            insert
                .execute(params_from_iter(formatters.iter().map(|f| f.value(row).to_string())))?;
        }
    }
    drop(insert);
    Ok(transaction.commit()?)
}

fn sqlite_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Int32 | DataType::Int64 => "BIGINT".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        // The two tables hold nothing else but text.
        _ => "TEXT".to_owned(),
    }
}

fn geography() -> Result<BTreeMap<String, Vec<serde_json::Value>>> {
    let rows = |table: Table| Ok((table.name().to_owned(), rows_of(&generated(table, 1.0)?)?));
    [Table::Nation, Table::Region].into_iter().map(rows).collect()
}

fn generated(table: Table, scale: f64) -> Result<Vec<RecordBatch>> {
    let whole = Part { scale, part: 1, n_parts: 1, batch_size: BATCH_ROWS };
    Ok(table.batches(whole).collect::<Result<_, _>>()?)
}

fn write_catalogs(folder: &Path, rest_url: &str) -> Result<()> {
    let catalogs = folder.join("etc").join("catalog");
    fs::create_dir_all(&catalogs)?;
    let manifest = folder.join("geography.yaml");
    fs::write(&manifest, MANIFEST.replace("BASE", rest_url))?;
    let at = |name: &str| format!("{:?}", folder.join(name).to_string_lossy());
    let files = [
        ("lake", format!("connector = \"lake\"\nlocation = {}\n", at("lake"))),
        ("shop", format!("connector = \"sqlite\"\npath = {}\n", at("shop.db"))),
        ("geo", format!("connector = \"rest\"\nmanifest = {}\n", at("geography.yaml"))),
        ("ads", format!("connector = \"store\"\nlocation = {}\n", at("ads"))),
        ("tpch", "connector = \"tpch\"\n".to_owned()),
    ];
    for (name, text) in files {
        fs::write(catalogs.join(format!("{name}.toml")), text)?;
    }
    Ok(())
}
