//! Rollups: the rows of an aggregate table once more, by fewer key columns or in another order of them.
//!
//! ```text
//! table            day, publisher, country │ clicks SUM, best MAX
//! rollup "a"       country, day            │ clicks SUM              fewer rows: they are folded by these columns
//! rollup "b"       publisher, day, country │ clicks SUM, best MAX    the same rows, sorted by another column
//! ```
//! A rollup folds by the functions of its table. With a part of the key, rows fold whose order nobody knows: functions that
//! depend on it are for rollups with the whole key, and so are sums of floats, which depend on it in their last digits.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::log::deltas::PRIMARY;
use crate::table::definition::check_name;
use crate::table::{Column, ColumnRole, TableDef, TableKind, ValueFunction};

/// A rollup of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollup {
    /// The sort order that its files belong to; never used again for another rollup of the table.
    pub index: u32,
    /// Its name, which no other rollup of the table has; case counts.
    pub name: String,
    /// Field ids of its columns, those of its key first, in sort order.
    columns: Vec<u32>,
}

impl TableDef {
    /// Returns the table as a rollup has it: its columns, its key, and its files of earlier definitions.
    pub fn of_rollup(&self, rollup: &Rollup) -> Self {
        let of_rollup = |columns: &[Column]| -> Vec<Column> {
            let column = |id: &u32| columns.iter().find(|column| column.id == *id);
            rollup.columns.iter().filter_map(column).cloned().collect()
        };
        let columns = of_rollup(&self.columns);
        let is_key = |column: &&Column| column.role == ColumnRole::Key;
        Self {
            key: columns.iter().filter(is_key).map(|column| column.name.clone()).collect(),
            columns,
            earlier: self.earlier.iter().map(|(at, columns)| (*at, of_rollup(columns))).collect(),
            rollups: Vec::new(),
            properties: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// Returns the rollup whose files belong to a sort order.
    pub fn rollup(&self, index: u32) -> Option<&Rollup> {
        self.rollups.iter().find(|rollup| rollup.index == index)
    }

    pub(super) fn add_rollup(&mut self, name: &str, columns: &[String]) -> Result<(), String> {
        check_name("rollup name", name)?;
        if self.kind != TableKind::Aggregate {
            return Err("only a table with AGGREGATE KEY has rollups".to_owned());
        }
        if self.rollups.iter().any(|rollup| rollup.name == name) {
            return Err(format!("it has a rollup \"{name}\""));
        }
        let mut chosen: Vec<&Column> = Vec::with_capacity(columns.len());
        for name in columns {
            let Some(column) = self.column(name) else {
                return Err(format!("it has no column \"{name}\""));
            };
            if chosen.iter().any(|known| known.id == column.id) {
                return Err(format!("column \"{name}\" stands twice in the rollup"));
            }
            chosen.push(column);
        }
        let (key, values): (Vec<&Column>, Vec<&Column>) =
            chosen.into_iter().partition(|column| column.role == ColumnRole::Key);
        if key.is_empty() {
            return Err("the rollup has no column of its key".to_owned());
        }
        if key.len() == self.key.len() {
            if key.iter().zip(&self.key).all(|(column, name)| column.name == *name) {
                return Err("the rollup has the key of the table in the same order".to_owned());
            }
        } else if let Some(reason) = values.iter().find_map(|column| depends_on_order(column)) {
            return Err(reason);
        }
        let columns = key.iter().chain(&values).map(|column| column.id).collect();
        self.last_index += 1;
        self.rollups.push(Rollup { index: self.last_index, name: name.to_owned(), columns });
        Ok(())
    }

    pub(super) fn drop_rollup(&mut self, name: &str) -> Result<(), String> {
        match self.rollups.iter().position(|rollup| rollup.name == name) {
            Some(at) => {
                self.rollups.remove(at);
                Ok(())
            }
            None => Err(format!("it has no rollup \"{name}\"")),
        }
    }

    /// Says which rollup has a column.
    pub(super) fn rollup_with(&self, column: u32) -> Option<&Rollup> {
        self.rollups.iter().find(|rollup| rollup.columns.contains(&column))
    }

    /// Takes over the rollups of another definition of the table, as far as their columns are here.
    pub(super) fn with_rollups_of(mut self, other: &Self) -> Self {
        let is_here = |id: &u32| self.columns.iter().any(|column| column.id == *id);
        let kept = other.rollups.iter().filter(|rollup| rollup.columns.iter().all(is_here));
        self.rollups = kept.cloned().collect();
        self.last_index = other.last_index;
        self
    }

    /// Returns the table of a sort order: itself, or as a rollup has it.
    ///
    /// # Errors
    /// Internal if there is no such order.
    pub(crate) fn of_order(self: &Arc<Self>, index: u32) -> Result<Arc<Self>> {
        if index == PRIMARY {
            return Ok(Arc::clone(self));
        }
        let rollup = self.rollup(index).ok_or_else(|| {
            Error::corrupt(self.full_name(), format!("files are of the unknown order {index}"))
        })?;
        Ok(Arc::new(self.of_rollup(rollup)))
    }
}

/// Says why rows with this value cannot be folded in any order.
fn depends_on_order(column: &Column) -> Option<String> {
    let ColumnRole::Value(function) = column.role else { return None };
    let name = &column.name;
    if function.is_ordered() {
        return Some(format!(
            "column \"{name}\" folds by {function}, which needs the whole key in a rollup"
        ));
    }
    (function == ValueFunction::Sum && column.column_type.to_arrow().is_floating()).then(|| {
        format!(
            "column \"{name}\" is a sum of floats, whose last digits depend on the order: it needs the whole key in a \
             rollup, or the type DECIMAL"
        )
    })
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;
    use crate::table::{Alteration, ColumnSpec, ColumnType, TableId, TableSpec};

    fn table() -> TableDef {
        let column = |name: &str, column_type, function| ColumnSpec {
            name: name.to_owned(),
            column_type,
            nullable: true,
            function,
        };
        let spec = TableSpec {
            namespace: "ads".to_owned(),
            name: "clicks".to_owned(),
            kind: TableKind::Aggregate,
            columns: vec![
                column("day", ColumnType::Date, None),
                column("site", ColumnType::Utf8, None),
                column("n", ColumnType::Int64, Some(ValueFunction::Sum)),
                column("f", ColumnType::Float64, Some(ValueFunction::Sum)),
                column("last", ColumnType::Utf8, Some(ValueFunction::Replace)),
            ],
            key: vec!["day".to_owned(), "site".to_owned()],
            properties: BTreeMap::new(),
        };
        TableDef::new(TableId(Ulid::nil()), spec).unwrap()
    }

    fn add(def: &TableDef, name: &str, columns: &[&str]) -> Result<TableDef> {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        def.altered(&Alteration::AddRollup { name: name.to_owned(), columns })
    }

    #[test]
    fn a_rollup_has_its_columns_under_their_present_names() {
        let def = add(&table(), "by_site", &["n", "site"]).unwrap();
        let renamed = Alteration::RenameColumn { name: "site".to_owned(), to: "place".to_owned() };
        let def = def.altered(&renamed).unwrap();
        let rollup = def.of_rollup(&def.rollups[0]);
        let names = |columns: &[&Column]| -> Vec<String> {
            columns.iter().map(|column| column.name.clone()).collect()
        };
        assert_eq!(names(&rollup.file_columns()), ["place", "n"]);
        assert_eq!(names(&rollup.columns_of(2).unwrap()), ["site", "n"]);
        assert_eq!(rollup.key, ["place"]);
        let json = serde_json::to_string(&def).unwrap();
        assert_eq!(serde_json::from_str::<TableDef>(&json).unwrap(), def);
    }

    #[test]
    fn numbers_are_not_used_again() {
        let def = add(&table(), "a", &["site", "n"]).unwrap();
        let def = def.altered(&Alteration::DropRollup("a".to_owned())).unwrap();
        let def = add(&def, "a", &["site", "day", "last", "f"]).unwrap();
        assert_eq!(def.rollups[0].index, 2);
        let dropped = def.altered(&Alteration::DropColumn("f".to_owned())).unwrap_err();
        assert!(dropped.to_string().contains("rollup \"a\" has it"), "{dropped}");
    }

    #[test]
    fn refusals_name_the_column() {
        let with_rollup = add(&table(), "a", &["site", "n"]).unwrap();
        let cases: [(&[&str], &str); 7] = [
            (&["site", "n", "n"], "\"n\" stands twice"),
            (&["site", "m"], "no column \"m\""),
            (&["n"], "no column of its key"),
            (&["day", "site", "n"], "in the same order"),
            (&["site", "last"], "\"last\" folds by REPLACE"),
            (&["site", "f"], "\"f\" is a sum of floats"),
            (&["site"], "it has a rollup \"a\""),
        ];
        for (columns, expected) in cases {
            let name = if columns == ["site"] { "a" } else { "b" };
            let message = add(&with_rollup, name, columns).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
