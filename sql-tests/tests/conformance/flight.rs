//! Flight SQL: another Meshwork, whose tables lie in a store of its own.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use async_trait::async_trait;
use meshwork::client::Client;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::servers::free_port;
use meshwork_sql_tests::spread::catalog_file;
use tempfile::TempDir;

use crate::doors::{Doors, shown};
use crate::source::{
    Away, Broken, Column, Kind, Limits, Properties, Source, Table, Type, Writes, name_of, quoted,
    statements,
};
use crate::written::{self, SCHEMA};

/// The store's name at the peer.
const STORE: &str = "there";

/// A standalone process and a session in it.
pub(crate) struct Flight {
    peer: Cluster,
    session: Client,
    folder: TempDir,
}

impl Flight {
    pub(crate) async fn new() -> Result<Self> {
        let folder = TempDir::new()?;
        let location = folder.path().to_string_lossy().into_owned();
        let store = catalog_file("store", [("location".to_owned(), location)].into());
        let peer = Cluster::start(Shape::Standalone, &[(STORE, store)]).await?;
        let mut session = peer.client().await?;
        session.run(&format!("CREATE SCHEMA {STORE}.{}", quoted(SCHEMA))).await?;
        Ok(Self { peer, session, folder })
    }

    /// All data files of all tables of the peer.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let (mut files, mut folders) = (Vec::new(), vec![self.folder.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                match path.is_dir() {
                    true => folders.push(path),
                    false if path.extension().is_some_and(|e| e == "parquet") => files.push(path),
                    false => {}
                }
            }
        }
        Ok(files)
    }
}

#[async_trait]
impl Source for Flight {
    fn kind(&self) -> &'static str {
        "flight"
    }

    fn properties(&self) -> Properties {
        [("url", self.peer.url()), ("catalog", STORE)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn speaks_sql(&self) -> bool {
        true
    }

    fn types(&self) -> Vec<Type> {
        written::types()
    }

    fn declared(&self, kind: Kind) -> &'static str {
        written::declared(kind)
    }

    fn limits(&self) -> Limits {
        Limits {
            writes: Writes::No,
            n_columns: 300,
            pushed_marks: &[" WHERE "],
            n_pushed_min: 300,
            names_refused: &[],
        }
    }

    async fn make(&mut self, _doors: &mut Doors, table: &Table) -> Result<()> {
        for statement in statements(SCHEMA, table, quoted) {
            let there = format!("{STORE}.{}", quoted(SCHEMA));
            let statement = statement.replacen(&quoted(SCHEMA), &there, 1);
            self.session.run(&statement).await.with_context(|| table.name.clone())?;
        }
        Ok(())
    }

    fn requests(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            (
                "SELECT day, name FROM {t}",
                "SELECT \"name\", \"day\" FROM \"there\".\"Made here\".\"standard\"",
            ),
            (
                "SELECT count(*) FROM {t}",
                "SELECT count(*) FROM \"there\".\"Made here\".\"standard\"\n",
            ),
            ("SELECT name FROM {t} WHERE id > 5 LIMIT 3", "WHERE \"id\" > 5 LIMIT 3"),
            ("SELECT id FROM {t} WHERE name LIKE 'a%b'", "WHERE \"name\" LIKE 'a%b'"),
            (
                "SELECT id FROM {t} WHERE ratio > 1.5e0",
                "WHERE \"ratio\" > arrow_cast('1.5E0', 'Float64')",
            ),
            (
                "SELECT flag, sum(amount), max(day) FROM {t} GROUP BY flag",
                "SELECT \"flag\", sum(\"amount\"), max(\"day\") FROM",
            ),
            ("SELECT sum(ratio) FROM {t}", ": FLOAT: sum("),
        ]
    }

    async fn endless(&mut self, _doors: &mut Doors) -> Result<Vec<String>> {
        let standard = format!("{STORE}.{}.standard", quoted(SCHEMA));
        let rows = format!("{standard} a, {standard} b, {standard} c, {standard} d, {standard} e");
        let query = format!("SELECT a.id FROM {rows}").replace('\'', "''");
        Ok(vec![format!("TABLE(source.system.query(query => '{query}')) AS endless")])
    }

    async fn is_read(&self, _ids: &[u32]) -> Result<Option<bool>> {
        let mut session = self.peer.client().await?;
        let running = "SELECT count(*) FROM system.runtime.queries WHERE state = 'RUNNING' AND query LIKE '%a.id%'";
        let found = shown(&session.query(running).await?)?;
        // This question is still planned when the queries that run are looked up.
        Ok(Some(found != [["0"]]))
    }

    fn away(&self) -> Result<Away, &'static str> {
        let mut properties = self.properties();
        let url = format!("grpc://127.0.0.1:{}", free_port().unwrap());
        properties.insert("url".to_owned(), url);
        Ok(Away { properties, code: "SOURCE_UNAVAILABLE" })
    }

    async fn broken(&mut self, doors: &mut Doors) -> Result<Vec<Broken>> {
        let before = self.files()?;
        let columns = vec![Column { name: "n".to_owned(), declared: "BIGINT".to_owned() }];
        let rows = vec![vec![Some("1".to_owned())]; 100];
        self.make(doors, &Table { name: "cut".to_owned(), columns, rows }).await?;
        let made = self.files()?.into_iter().find(|file| !before.contains(file));
        let made = made.context("no file")?;
        let whole = fs::read(&made)?;
        fs::write(&made, &whole[..whole.len() / 2])?;
        Ok(vec![Broken {
            relation: name_of(SCHEMA, "cut"),
            code: "SOURCE_QUERY_FAILED",
            names: "catalog \"source\" (Flight SQL at ".to_owned(),
        }])
    }
}
