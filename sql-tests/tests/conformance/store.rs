//! The native store, in a folder.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use async_trait::async_trait;
use tempfile::TempDir;

use crate::doors::Doors;
use crate::source::{
    Away, Broken, Column, Limits, Properties, Source, Table, Type, Writes, name_of,
};
use crate::written::{self, SCHEMA};

/// A scratch folder.
pub(crate) struct Store {
    folder: TempDir,
}

impl Store {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { folder: TempDir::new()? })
    }

    /// All data files of all tables.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => files
                        .extend(path.extension().is_some_and(|e| e == "parquet").then_some(path)),
                }
            }
        }
        Ok(files)
    }
}

#[async_trait]
impl Source for Store {
    fn kind(&self) -> &'static str {
        "store"
    }

    fn properties(&self) -> Properties {
        [("location".to_owned(), self.folder.path().to_string_lossy().into_owned())].into()
    }

    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn types(&self) -> Vec<Type> {
        written::types()
    }

    fn writable(&self) -> Option<Properties> {
        Some(self.properties())
    }

    fn limits(&self) -> Limits {
        Limits {
            writes: Writes::Yes,
            n_columns: 300,
            // DataFusion reads the files; what it prunes is not a request to anybody.
            pushed_marks: &[],
            n_pushed_min: 0,
            names_refused: &[],
        }
    }

    fn requests(&self) -> Vec<(&'static str, &'static str)> {
        vec![("SELECT day, name FROM {t}", "projection=[name, day]")]
    }

    async fn endless(&mut self, _doors: &mut Doors) -> Result<Vec<String>> {
        let t = name_of(SCHEMA, "standard");
        Ok(vec![format!("(SELECT a.id FROM {t} a, {t} b, {t} c, {t} d, {t} e)")])
    }

    fn away(&self) -> Result<Away, &'static str> {
        let file = self.folder.path().join("a file");
        fs::write(&file, "not a folder").unwrap();
        let location = file.join("database").to_string_lossy().into_owned();
        Ok(Away {
            properties: [("location".to_owned(), location)].into(),
            code: "SOURCE_UNAVAILABLE",
        })
    }

    async fn broken(&mut self, doors: &mut Doors) -> Result<Vec<Broken>> {
        let footer_is_gone = |bytes: &mut Vec<u8>| {
            let footer = bytes.len() - 8;
            bytes[footer..].fill(0);
        };
        self.break_table(doors, "cut", footer_is_gone).await?;
        self.break_table(doors, "short", |bytes| bytes.truncate(bytes.len() / 2)).await?;
        let broken = |table, code, names: &str| Broken {
            relation: name_of(SCHEMA, table),
            code,
            names: names.to_owned(),
        };
        Ok(vec![
            broken("cut", "CORRUPT_FILE", "Corrupt footer"),
            broken("short", "CORRUPT_FILE", "less than it once had"),
        ])
    }
}

impl Store {
    /// Makes a table of one file, and damages the file.
    async fn break_table(
        &mut self,
        doors: &mut Doors,
        name: &str,
        damage: impl FnOnce(&mut Vec<u8>),
    ) -> Result<()> {
        let before = self.files()?;
        let columns = vec![Column { name: "n".to_owned(), declared: "BIGINT".to_owned() }];
        let rows = vec![vec![Some("1".to_owned())]; 100];
        self.make(doors, &Table { name: name.to_owned(), columns, rows }).await?;
        let made =
            self.files()?.into_iter().find(|file| !before.contains(file)).context("no file")?;
        let mut bytes = fs::read(&made)?;
        damage(&mut bytes);
        Ok(fs::write(&made, &bytes)?)
    }
}
