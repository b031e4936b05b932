//! What a source may gather the rows of a split into: partial results, which the engine merges.
//!
//! Partial on purpose: a split is a part of the table, so what it returns is never the answer, and a scan that is cut
//! into many splits needs no other rule than one that is not. The columns are those of DataFusion's partial
//! aggregation, so that its final one stands above unchanged.

use datafusion::arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Predicate, RemoteColumn, Value};

/// Rows gathered by the values of some columns. Without groups it is one row, also of no rows at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    /// What rows are gathered by. NULLs are one group.
    pub groups: Vec<Group>,
    /// What is computed of each group.
    pub measures: Vec<Measure>,
}

/// A column that rows are gathered by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The column, as an index into `RemoteScan::columns`.
    pub column: usize,
    /// Its name in the result.
    pub name: String,
}

/// A value that is computed of each group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// What is computed.
    pub function: Function,
    /// Of what; `None` counts rows.
    pub argument: Option<Value>,
    /// Which rows count; all if `None`.
    pub filter: Option<Predicate>,
    /// Its name in the result.
    pub name: String,
    /// Its type in the result.
    pub data_type: DataType,
    /// Whether it may be NULL.
    pub nullable: bool,
}

/// A partial result that can be merged by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Function {
    /// How many values are not NULL; how many rows, without an argument.
    Count,
    /// How many values are not NULL; NULL if there is none. The count of an average: a group of which 0 came is taken for one
    /// that has an average.
    CountOrNull,
    /// The exact sum of all values that are not NULL; NULL if there is none.
    Sum,
    /// The least value; NULL if there is none.
    Min,
    /// The greatest value; NULL if there is none.
    Max,
}

impl Function {
    /// Returns a call of the function in SQL.
    pub fn sql(self, argument: &str) -> String {
        match self {
            Self::Count => format!("count({argument})"),
            Self::CountOrNull => format!("nullif(count({argument}), 0)"),
            Self::Sum => format!("sum({argument})"),
            Self::Min => format!("min({argument})"),
            Self::Max => format!("max({argument})"),
        }
    }

    /// Whether it is a number of rows.
    pub fn counts(self) -> bool {
        matches!(self, Self::Count | Self::CountOrNull)
    }
}

impl Aggregate {
    /// Returns the columns of the result. The least and the greatest of a column arrive as the column does; other
    /// measures have nothing but a type, as which the source has to return them.
    pub(super) fn output(&self, columns: &[RemoteColumn]) -> Vec<RemoteColumn> {
        let group = |group: &Group| {
            let column = columns.get(group.column)?.clone();
            Some(RemoteColumn { name: group.name.clone(), ..column })
        };
        let groups = self.groups.iter().filter_map(group);
        groups.chain(self.measures.iter().map(|measure| measure.output(columns))).collect()
    }
}

impl Measure {
    /// Returns the column whose values this is one of, if it is, and is of its type.
    pub fn picked<'a>(&self, columns: &'a [RemoteColumn]) -> Option<&'a RemoteColumn> {
        let column = match (self.function, &self.argument) {
            (Function::Min | Function::Max, Some(Value::Column(column))) => columns.get(*column)?,
            _ => return None,
        };
        (column.data_type == self.data_type).then_some(column)
    }

    /// Returns the column of its values, as the source returns them.
    pub fn output(&self, columns: &[RemoteColumn]) -> RemoteColumn {
        let picked = self.picked(columns);
        let column = RemoteColumn {
            name: self.name.clone(),
            data_type: self.data_type.clone(),
            nullable: self.nullable,
            remote_type: picked.map_or_else(String::new, |column| column.remote_type.clone()),
            detail: picked.map_or(Json::Null, |column| column.detail.clone()),
        };
        match self.function {
            Function::Sum => column.into_total(),
            Function::Count | Function::CountOrNull | Function::Min | Function::Max => column,
        }
    }
}
