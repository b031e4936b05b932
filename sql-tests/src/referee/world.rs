//! The tables of one round: what they are, where they lie, and their local copies.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use meshwork_engine::catalog::CatalogDefinition;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::arena::{Arena, rows, session};
use super::faults::Fault;
use super::memory;
use super::query::{NameOf, Query, TableRef, own_name, quoted};
use super::sites::{Flavour, Kind, Site};
use super::tables::{Table, draw_tables};

/// How many queries are asked of one set of tables.
pub(super) const CASES_PER_ROUND: u64 = 100;
/// How often there is a second source.
const SECOND_SHARE: f64 = 0.5;

/// The tables of one source in one round.
#[derive(Debug, Clone)]
pub(super) struct Side {
    pub(super) kind: Kind,
    pub(super) flavour: Flavour,
    pub(super) tables: Vec<Table>,
}

/// Returns the kind of source that a round is about.
pub(super) fn kind_of(round: u64) -> Kind {
    let n_kinds = Kind::ALL.len() as u64;
    Kind::ALL[usize::try_from(round % n_kinds).unwrap_or_default()]
}

/// Draws the tables of a round: some of one source, and perhaps one of another.
pub(super) fn draw_sides(arena: &Arena, seed: u64, round: u64) -> Result<Vec<Side>> {
    let mut rng = rng_of(seed, round, "round");
    let mut sides = vec![draw_side(arena, &mut rng, kind_of(round), 3)?];
    if rng.random_bool(SECOND_SHARE) {
        let kind = *Kind::ALL.choose(&mut rng).context("there are kinds")?;
        sides.push(draw_side(arena, &mut rng, kind, 1)?);
    }
    Ok(sides)
}

fn draw_side(arena: &Arena, rng: &mut StdRng, kind: Kind, n_tables: usize) -> Result<Side> {
    let flavour = arena.site(kind)?.flavour(rng);
    let tables = draw_tables(rng, &flavour.palette, n_tables);
    Ok(Side { kind, flavour, tables })
}

/// Returns the randomness of a numbered thing: that of one number says nothing of the next.
pub(super) fn rng_of(seed: u64, number: u64, purpose: &str) -> StdRng {
    let mut key = [0_u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&number.to_le_bytes());
    for (byte, letter) in key[16..].iter_mut().zip(purpose.bytes()) {
        *byte = letter;
    }
    StdRng::from_seed(key)
}

/// Tables that lie in their sources, with copies beside them.
#[derive(Debug)]
pub(super) struct World {
    pub(super) arena: Arc<Arena>,
    places: Vec<Place>,
    /// The names of columns, by side and table.
    columns: BTreeMap<(usize, String), Vec<String>>,
    copy: String,
}

/// Where the tables of a side lie.
#[derive(Debug)]
struct Place {
    site: Arc<dyn Site>,
    /// What the site was told to call the schema.
    label: String,
    /// The catalog and the schema in the engine.
    catalog: String,
    schema: String,
    kind: Kind,
}

impl World {
    /// Lays the tables, defines their catalogs and copies them.
    pub(super) async fn lay(
        arena: &Arc<Arena>,
        sides: &[Side],
        fault: Option<Fault>,
    ) -> Result<Self> {
        let copy = arena.label();
        let mut world =
            Self { arena: Arc::clone(arena), places: Vec::new(), columns: BTreeMap::new(), copy };
        match world.fill(sides, fault).await {
            Ok(()) => Ok(world),
            Err(error) => {
                world.clear().await;
                Err(error)
            }
        }
    }

    async fn fill(&mut self, sides: &[Side], fault: Option<Fault>) -> Result<()> {
        let mut copies: BTreeMap<(String, String), Arc<dyn TableProvider>> = BTreeMap::new();
        for (number, side) in sides.iter().enumerate() {
            let site = Arc::clone(self.arena.site(side.kind)?);
            let label = self.arena.label();
            let (catalog, schema) = (label.clone(), site.schema_name(&label));
            let mut properties = site.properties(&label);
            properties.extend(
                side.flavour.properties.iter().map(|(key, value)| ((*key).into(), (*value).into())),
            );
            let definition = CatalogDefinition {
                name: catalog.clone(),
                kind: side.kind.name().to_owned(),
                properties,
            };
            self.places.push(Place {
                site: Arc::clone(&site),
                label: label.clone(),
                catalog,
                schema,
                kind: side.kind,
            });
            site.lay(&label, &side.tables).await?;
            let definition = match fault {
                Some(fault) => fault.in_catalog(definition),
                None => definition,
            };
            self.arena.catalogs.define(definition);
            for table in &side.tables {
                let names = table.columns.iter().map(|column| column.name.clone()).collect();
                self.columns.insert((number, table.name.clone()), names);
                let copied =
                    self.copy_of(number, table).await.with_context(|| table.name.clone())?;
                copies.insert((format!("s{number}"), table.name.clone()), copied);
            }
        }
        memory::keep(&self.copy, copies);
        self.arena.catalogs.define(CatalogDefinition {
            name: self.copy.clone(),
            kind: memory::KIND.to_owned(),
            properties: BTreeMap::new(),
        });
        Ok(())
    }

    /// Reads a table without any pushdown.
    async fn copy_of(&self, side: usize, table: &Table) -> Result<Arc<dyn TableProvider>> {
        let settings = [("pushdown", "false".to_owned())];
        let session = session(&self.arena.coordinator, &settings)?;
        let reference = TableRef { side, table: table.name.clone(), alias: String::new() };
        let sql = format!("SELECT * FROM {}", self.name_of(&reference));
        let read = rows(&self.arena.coordinator, &session, &sql).await?;
        Ok(Arc::new(MemTable::try_new(read.schema, vec![read.batches])?))
    }

    fn name_of(&self, table: &TableRef) -> String {
        match self.places.get(table.side) {
            Some(place) => {
                let parts = [&place.catalog, &place.schema, &table.table].map(|part| quoted(part));
                parts.join(".")
            }
            None => quoted(&table.table),
        }
    }

    /// Returns the query as it is asked of the sources.
    pub(super) fn remote_sql(&self, query: &Query) -> String {
        query.sql(&|table| self.name_of(table))
    }

    /// Returns the query as it is asked of the copies.
    pub(super) fn copy_sql(&self, query: &Query) -> String {
        let name: NameOf<'_> =
            &|table| format!("{}.s{}.{}", self.copy, table.side, quoted(&table.table));
        query.sql(name)
    }

    /// Returns the query as it is asked of the copies, every column under a name that no other has.
    pub(super) fn copy_sql_with_own_names(&self, query: &Query) -> String {
        let table =
            |table: &TableRef| format!("{}.s{}.{}", self.copy, table.side, quoted(&table.table));
        query.with_own_names().sql(&|reference| self.with_own_names(reference, &table(reference)))
    }

    /// Returns the query as it is asked of the sources, every column under a name that no other has.
    pub(super) fn remote_sql_with_own_names(&self, query: &Query) -> String {
        let table = |table: &TableRef| self.name_of(table);
        query.with_own_names().sql(&|reference| self.with_own_names(reference, &table(reference)))
    }

    /// Returns a table under that name as a subquery that gives its columns names of their own.
    fn with_own_names(&self, reference: &TableRef, name: &str) -> String {
        let key = (reference.side, reference.table.clone());
        let columns = self.columns.get(&key).map(Vec::as_slice).unwrap_or_default();
        let renamed = |column: &String| {
            format!("{} AS {}", quoted(column), quoted(&own_name(&reference.alias, column)))
        };
        let columns: Vec<String> = columns.iter().map(renamed).collect();
        format!("(SELECT {} FROM {name})", columns.join(", "))
    }

    /// Whether a query reads files, which the engine's own rules prune.
    pub(super) fn reads_files(&self, query: &Query) -> bool {
        let is_file = |side: usize| self.places.get(side).is_some_and(|p| p.kind == Kind::Lake);
        query.tables().iter().any(|(side, _table)| is_file(*side))
    }

    /// Returns the kind of source of a catalog.
    pub(super) fn kind_of_catalog(&self, catalog: &str) -> Option<Kind> {
        self.places.iter().find(|place| place.catalog == catalog).map(|place| place.kind)
    }

    /// Removes everything that was laid. What cannot be removed now goes with the arena.
    pub(super) async fn clear(self) {
        for place in &self.places {
            self.arena.catalogs.remove(&place.catalog);
            if let Err(error) = place.site.clear(&place.label).await {
                tracing::debug!(%error, schema = place.label, "a schema was left behind");
            }
        }
        self.arena.catalogs.remove(&self.copy);
        memory::forget(&self.copy);
    }
}
