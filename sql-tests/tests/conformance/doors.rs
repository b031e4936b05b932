//! Both clusters, asked together: a standalone process, and a coordinator with two workers.
//!
//! Every answer is that of both, or the case fails: distributed equals single-node.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::stream::BoxStream;
use meshwork::client::{Answer, Client};
use meshwork_engine::{Error, environment};
use meshwork_sql_tests::cluster::{Cluster, Node, Shape};

use crate::source::quoted;

/// How a NULL is shown: no value of the cases looks like it.
pub(crate) const NULL: &str = "∅";

/// Longer than any statement of the suite takes; one that hangs fails here.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(60);

/// The rows of an answer: each a line of shown values, sorted.
pub(crate) type Rows = Vec<Vec<String>>;

/// One cluster and a session in it.
pub(crate) struct Door {
    pub(crate) cluster: Cluster,
    client: Client,
}

/// The clusters over the same sources.
pub(crate) struct Doors {
    pub(crate) all: [Door; 2],
}

impl Doors {
    pub(crate) async fn open() -> Result<Self> {
        Ok(Self {
            all: [Door::open(Shape::Standalone).await?, Door::open(Shape::Workers(2)).await?],
        })
    }

    /// The standalone process.
    pub(crate) fn first(&mut self) -> &mut Door {
        &mut self.all[0]
    }

    /// Defines a catalog on both, in place of one of that name.
    pub(crate) async fn define(
        &mut self,
        name: &str,
        kind: &str,
        properties: &BTreeMap<String, String>,
    ) -> Result<()> {
        let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let pair = |key: &str, value: &str| format!("{} = {}", text(key), text(value));
        // What is made through one door is listed by the other at once.
        let mut pairs = vec![pair("metadata_freshness", "0s")];
        pairs.extend(properties.iter().map(|(key, value)| pair(key, value)));
        let (name, with) = (quoted(name), pairs.join(", "));
        self.change_all(&format!("DROP CATALOG IF EXISTS {name}")).await?;
        self.change_all(&format!("CREATE CATALOG {name} USING {kind} WITH ({with})")).await
    }

    /// Runs a statement that changes a session or a cluster on both.
    pub(crate) async fn change_all(&mut self, sql: &str) -> Result<()> {
        for door in &mut self.all {
            door.change(sql).await?;
        }
        Ok(())
    }

    /// Returns the rows, which are the same from both.
    pub(crate) async fn rows(&mut self, sql: &str) -> Result<Rows> {
        let [alone, spread] = &mut self.all;
        let rows = alone.rows(sql).await?;
        let others = spread.rows(sql).await.context("with workers")?;
        ensure!(rows == others, "{}\nalone: {rows:?}\nwith workers: {others:?}", brief(sql));
        Ok(rows)
    }

    /// Returns the only value of a query.
    pub(crate) async fn value(&mut self, sql: &str) -> Result<String> {
        let rows = self.rows(sql).await?;
        match rows.as_slice() {
            [row] if row.len() == 1 => Ok(row[0].clone()),
            _ => bail!("{sql}\nis not one value: {rows:?}"),
        }
    }

    /// Returns the error of a statement, which has the same code on both.
    pub(crate) async fn error(&mut self, sql: &str) -> Result<Error> {
        let [alone, spread] = &mut self.all;
        let error = alone.error(sql).await?;
        let other = spread.error(sql).await.context("with workers")?;
        let same = (error.kind, &error.code) == (other.kind, &other.code);
        ensure!(same, "{sql}\nalone: {error:?}\nwith workers: {other:?}");
        Ok(error)
    }
}

impl Door {
    async fn open(shape: Shape) -> Result<Self> {
        let cluster = Cluster::start(shape, &[]).await?;
        let mut client = cluster.client().await?;
        // More than one batch, and operators that meet the borders between them.
        client.run("SET SESSION batch_size = 16").await?;
        Ok(Self { cluster, client })
    }

    pub(crate) async fn change(&mut self, sql: &str) -> Result<u64> {
        match self.run(sql).await? {
            Ok(Answer::Changed(n_rows)) => Ok(n_rows),
            Ok(Answer::Rows(_)) => bail!("{}\nanswered with rows", brief(sql)),
            Err(error) => bail!("{}\n{error:?}", brief(sql)),
        }
    }

    pub(crate) async fn batches(&mut self, sql: &str) -> Result<Vec<RecordBatch>> {
        match self.run(sql).await? {
            Ok(Answer::Rows(batches)) => Ok(batches),
            Ok(Answer::Changed(_)) => bail!("{}\nanswered without rows", brief(sql)),
            Err(error) => bail!("{}\n{error:?}", brief(sql)),
        }
    }

    pub(crate) async fn rows(&mut self, sql: &str) -> Result<Rows> {
        shown(&self.batches(sql).await?)
    }

    pub(crate) async fn error(&mut self, sql: &str) -> Result<Error> {
        match self.run(sql).await? {
            Ok(answer) => bail!("{sql}\nwas to fail, and answered {answer:?}"),
            Err(error) => Ok(error),
        }
    }

    /// Opens a result in a session of its own; dropping both cancels the query.
    pub(crate) async fn stream(
        &self,
        sql: &str,
    ) -> Result<BoxStream<'static, meshwork_engine::Result<RecordBatch>>> {
        Ok(self.cluster.client().await?.stream(sql).await?)
    }

    /// The processes of the cluster that read sources.
    pub(crate) fn process_ids(&mut self) -> Result<Vec<u32>> {
        let coordinator = self.cluster.coordinator().id()?;
        let workers = self.cluster.workers().iter().map(Node::id);
        std::iter::once(Ok(coordinator)).chain(workers).collect()
    }

    /// Runs a statement to its end; the inner error is that of the statement.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<meshwork_engine::Result<Answer>> {
        let answer =
            environment::within(STATEMENT_DEADLINE, &brief(sql), self.client.run(sql)).await;
        answer.map_err(|late| anyhow::anyhow!("{late}\n{}", self.cluster.logs()))
    }
}

/// Returns the values of an answer as they are shown, sorted.
pub(crate) fn shown(batches: &[RecordBatch]) -> Result<Rows> {
    let options = FormatOptions::default().with_null(NULL);
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter();
        let formatters: Vec<ArrayFormatter<'_>> = columns
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
            .collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            let cells = formatters.iter().map(|cell| cell.value(row).try_to_string());
            rows.push(cells.collect::<Result<Vec<_>, _>>()?);
        }
    }
    rows.sort();
    Ok(rows)
}

/// Returns the beginning of a statement, enough to find it.
fn brief(sql: &str) -> String {
    sql.chars().take(400).collect()
}
