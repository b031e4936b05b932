//! A lake: a folder of files, written by Meshwork and by others.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Result;
use async_trait::async_trait;
use tempfile::TempDir;

use crate::doors::Doors;
use crate::source::{
    Away, Broken, Limits, Properties, Source, Table, Type, Writes, is_open, name_of, of,
};
use crate::written::{self, SCHEMA};

/// Lines of the endless file, a kilobyte each: more than all buffers on the way to a client hold.
const N_LINES: usize = 150_000;

/// A scratch folder.
pub(crate) struct Lake {
    folder: TempDir,
}

impl Lake {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { folder: TempDir::new()? })
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(SCHEMA).join(file)
    }
}

#[async_trait]
impl Source for Lake {
    fn kind(&self) -> &'static str {
        "lake"
    }

    fn properties(&self) -> Properties {
        [("location".to_owned(), self.folder.path().to_string_lossy().into_owned())].into()
    }

    fn schema(&self) -> &'static str {
        SCHEMA
    }

    fn types(&self) -> Vec<Type> {
        let mut types = written::types();
        let digits = "9999999999999999999999999999999999999999999999.9999";
        types.push(of(
            "DECIMAL(50, 4)",
            "decimal(50,4)",
            &[("'9999999999999999999999999999999999999999999999.9999'", digits)],
        ));
        types.push(of("TIME", "time(9)", &[("'23:59:59.999999'", "23:59:59.999999")]));
        types
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
            names_refused: &[
                ("per%cent", "INVALID_NAME"),
                ("question?", "INVALID_NAME"),
                ("back\\slash", "INVALID_NAME"),
                ("a/b", "INVALID_NAME"),
                ("a=b", "INVALID_NAME"),
            ],
        }
    }

    fn requests(&self) -> Vec<(&'static str, &'static str)> {
        vec![("SELECT day, name FROM {t}", "projection=[name, day]")]
    }

    async fn endless(&mut self, _doors: &mut Doors) -> Result<Vec<String>> {
        let mut file = BufWriter::new(File::create(self.path("endless.csv"))?);
        let filler = "x".repeat(1000);
        writeln!(file, "n,filler")?;
        for n in 0..N_LINES {
            writeln!(file, "{n},{filler}")?;
        }
        file.flush()?;
        Ok(vec![name_of(SCHEMA, "endless")])
    }

    async fn is_read(&self, ids: &[u32]) -> Result<Option<bool>> {
        is_open(&self.path("endless.csv"), ids).map(Some)
    }

    fn away(&self) -> Result<Away, &'static str> {
        let gone = self.folder.path().join("no such folder").to_string_lossy().into_owned();
        Ok(Away { properties: [("location".to_owned(), gone)].into(), code: "SOURCE_UNAVAILABLE" })
    }

    async fn broken(&mut self, doors: &mut Doors) -> Result<Vec<Broken>> {
        let columns =
            vec![crate::source::Column { name: "n".to_owned(), declared: "BIGINT".to_owned() }];
        let table =
            Table { name: "cut".to_owned(), columns, rows: vec![vec![Some("1".to_owned())]; 100] };
        self.make(doors, &table).await?;
        for file in fs::read_dir(self.path("cut"))? {
            let file = file?.path();
            if file.extension().is_some_and(|extension| extension == "parquet") {
                let whole = fs::read(&file)?;
                fs::write(&file, &whole[..whole.len() / 2])?;
            }
        }
        fs::create_dir_all(self.path("nothing"))?;
        fs::write(self.path("nothing/part.parquet"), "")?;
        fs::write(self.path("torn.json"), "{\"a\": 1}\n{\"a\": ")?;
        let broken = |table: &str, code| Broken {
            relation: name_of(SCHEMA, table),
            code,
            names: table.to_owned(),
        };
        Ok(vec![
            broken("cut", "CORRUPT_FILE"),
            broken("nothing", "CORRUPT_FILE"),
            broken("torn", "CORRUPT_FILE"),
        ])
    }
}
