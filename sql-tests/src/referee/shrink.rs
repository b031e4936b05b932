//! Makes a failing case small: first its query, then the rows and columns of its tables, then the query again.
//!
//! A smaller case is kept if its answers still differ, in whatever way. Nothing is random here, so that the same failure
//! shrinks to the same example.

use std::sync::Arc;

use anyhow::Result;

use super::arena::Arena;
use super::exercised;
use super::faults::Fault;
use super::judge::{Difference, Settings, Verdict, judge};
use super::query::Query;
use super::sites::Kind;
use super::world::{Side, World};

/// The most cases that are tried for one failure.
const N_TRIES_MAX: usize = 600;

/// A case whose answers differ.
#[derive(Debug, Clone)]
pub(super) struct Failing {
    pub(super) sides: Vec<Side>,
    pub(super) query: Query,
    pub(super) settings: Settings,
    pub(super) difference: Difference,
}

/// A failure as it is shown.
#[derive(Debug, Clone)]
pub struct Example {
    /// The kind of source that the round was about.
    pub kind: Kind,
    /// How many tables are left.
    pub n_tables: usize,
    /// How many rows they have.
    pub n_rows: usize,
    /// How many conditions the query has.
    pub n_conditions: usize,
    /// Tables, query, answers and plan, for people.
    pub text: String,
}

/// Shrinks a failure and writes it down.
pub(super) async fn shrink(
    arena: &Arc<Arena>,
    failing: Failing,
    fault: Option<Fault>,
) -> Result<Example> {
    let mut shrinking = Shrinking { arena: Arc::clone(arena), fault, failing, n_tries: 0 };
    shrinking.query().await?;
    shrinking.tables().await?;
    shrinking.rows().await?;
    shrinking.query().await?;
    shrinking.columns().await?;
    shrinking.settings().await?;
    shrinking.written().await
}

struct Shrinking {
    arena: Arc<Arena>,
    fault: Option<Fault>,
    failing: Failing,
    n_tries: usize,
}

impl Shrinking {
    /// Takes things from the query as long as any can be taken.
    async fn query(&mut self) -> Result<()> {
        let world = World::lay(&self.arena, &self.failing.sides, self.fault).await?;
        // It goes on from where it stands: what could not be taken seldom can be after something else is gone.
        let (mut place, mut n_in_vain) = (0, 0);
        loop {
            let smaller = self.failing.query.smaller();
            if n_in_vain >= smaller.len() {
                break;
            }
            place %= smaller.len();
            let (query, settings) = (smaller[place].clone(), self.failing.settings.clone());
            match self.differs(&world, &query, &settings).await? {
                Some(difference) => {
                    self.failing.query = query;
                    self.failing.difference = difference;
                    n_in_vain = 0;
                }
                None => {
                    place += 1;
                    n_in_vain += 1;
                }
            }
        }
        world.clear().await;
        Ok(())
    }

    /// Takes rows away: of each table all, then halves, then smaller pieces.
    async fn rows(&mut self) -> Result<()> {
        for side in 0..self.failing.sides.len() {
            for table in 0..self.failing.sides[side].tables.len() {
                let mut piece = self.failing.sides[side].tables[table].rows.len();
                while piece > 0 {
                    let mut start = 0;
                    while start < self.failing.sides[side].tables[table].rows.len() {
                        let mut sides = self.failing.sides.clone();
                        let rows = &mut sides[side].tables[table].rows;
                        rows.drain(start..(start + piece).min(rows.len()));
                        if !self.try_sides(sides).await? {
                            start += piece;
                        }
                    }
                    piece /= 2;
                }
            }
        }
        Ok(())
    }

    /// Takes away tables that the query does not name.
    async fn tables(&mut self) -> Result<()> {
        let mut sides = self.failing.sides.clone();
        let named = self.failing.query.tables();
        for (number, side) in sides.iter_mut().enumerate() {
            side.tables.retain(|table| named.contains(&(number, table.name.clone())));
        }
        while sides.last().is_some_and(|side| side.tables.is_empty()) {
            sides.pop();
        }
        self.try_sides(sides).await?;
        Ok(())
    }

    /// Takes away columns that the query does not name, if it fails without them.
    async fn columns(&mut self) -> Result<()> {
        self.tables().await?;
        for side in 0..self.failing.sides.len() {
            for table in 0..self.failing.sides[side].tables.len() {
                for place in (0..self.failing.sides[side].tables[table].columns.len()).rev() {
                    let mut sides = self.failing.sides.clone();
                    let table = &mut sides[side].tables[table];
                    if self.failing.query.names_column(&table.columns[place].name) {
                        continue;
                    }
                    table.columns.remove(place);
                    table.rows.iter_mut().for_each(|row| drop(row.remove(place)));
                    if !table.columns.is_empty() {
                        self.try_sides(sides).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Forgets settings that do not matter.
    async fn settings(&mut self) -> Result<()> {
        let world = World::lay(&self.arena, &self.failing.sides, self.fault).await?;
        for place in (0..self.failing.settings.len()).rev() {
            let mut settings = self.failing.settings.clone();
            settings.remove(place);
            let query = self.failing.query.clone();
            if let Some(difference) = self.differs(&world, &query, &settings).await? {
                self.failing.settings = settings;
                self.failing.difference = difference;
            }
        }
        world.clear().await;
        Ok(())
    }

    /// Takes over other tables if the case fails with them; returns whether it does.
    async fn try_sides(&mut self, sides: Vec<Side>) -> Result<bool> {
        if self.n_tries >= N_TRIES_MAX {
            return Ok(false);
        }
        self.n_tries += 1;
        // Some tables cannot be without some columns.
        let Ok(world) = World::lay(&self.arena, &sides, self.fault).await else { return Ok(false) };
        let (query, settings) = (self.failing.query.clone(), self.failing.settings.clone());
        let difference = self.differs(&world, &query, &settings).await?;
        world.clear().await;
        let is_failing = difference.is_some();
        if let Some(difference) = difference {
            self.failing.sides = sides;
            self.failing.difference = difference;
        }
        Ok(is_failing)
    }

    async fn differs(
        &mut self,
        world: &World,
        query: &Query,
        settings: &Settings,
    ) -> Result<Option<Difference>> {
        if self.n_tries >= N_TRIES_MAX {
            return Ok(None);
        }
        self.n_tries += 1;
        match judge(world, query, settings, self.fault).await? {
            Verdict::Different(difference) => Ok(Some(difference)),
            Verdict::Same | Verdict::Failed | Verdict::Undetermined | Verdict::Known => Ok(None),
        }
    }

    async fn written(self) -> Result<Example> {
        let Failing { sides, query, settings, difference } = &self.failing;
        let world = World::lay(&self.arena, sides, self.fault).await?;
        let plans = exercised::explain(&world, query, settings).await.unwrap_or_default();
        let copy = exercised::explain_copy(&world, query, settings).await.unwrap_or_default();
        world.clear().await;
        let mut text = format!("what differs: {}\n", difference.what);
        for (number, side) in sides.iter().enumerate() {
            let (schema, name) = (format!("s{number}"), side.kind.name());
            text.push_str(&format!("tables of s{number}, {name} {:?}:\n", side.flavour.properties));
            for statement in self.arena.site(side.kind)?.statements(&schema, &side.tables) {
                text.push_str(&format!("  {statement};\n"));
            }
        }
        let sql = query.sql(&|table| format!("s{}.{}", table.side, table.table));
        text.push_str(&format!("query: {sql}\nsettings: {settings:?}\n"));
        if let Some(fault) = self.fault {
            let wrong =
                fault.in_query(query).sql(&|table| format!("s{}.{}", table.side, table.table));
            text.push_str(&format!("planted: {fault:?}, which asks: {wrong}\n"));
        }
        for (name, answer) in
            ["pushdown on", "pushdown off", "copy, whole"].iter().zip(&difference.answers)
        {
            text.push_str(&format!("{name}: {answer}\n"));
        }
        for (of, plans) in [("sources", plans), ("copies", copy)] {
            for (kind, plan) in plans.iter().filter(|(kind, _)| kind != "logical_plan") {
                text.push_str(&format!("{kind} over {of}:\n{}\n", plan.trim_end()));
            }
        }
        Ok(Example {
            kind: sides.first().map_or(Kind::Sqlite, |side| side.kind),
            n_tables: query.tables().len(),
            n_rows: sides.iter().flat_map(|side| &side.tables).map(|table| table.rows.len()).sum(),
            n_conditions: query.n_conditions(),
            text,
        })
    }
}
