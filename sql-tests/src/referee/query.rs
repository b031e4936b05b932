//! Queries as small trees, so that they can be drawn, written down and made smaller.
//!
//! A tree knows tables by side and name only; [`Query::sql`] is told how they are called, so that one tree is asked
//! of a source and of its copy.

use std::collections::BTreeSet;

use super::values::Class;

/// A table in a query.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TableRef {
    /// Which of the round's sources it is of.
    pub(super) side: usize,
    /// Its name there.
    pub(super) table: String,
    /// Its name in the query.
    pub(super) alias: String,
}

/// An expression. Conditions are expressions of class [`Class::Bool`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    /// A column of a table of the query.
    Column {
        /// The table's name in the query.
        alias: String,
        /// The column's name.
        name: String,
        /// What it is.
        class: Class,
    },
    /// A literal as the engine writes it.
    Literal {
        /// The text.
        sql: String,
        /// What it is.
        class: Class,
    },
    /// An operator or a function; each `{}` of the form is an argument.
    Call {
        /// How it is written.
        form: &'static str,
        /// Its arguments.
        arguments: Vec<Expr>,
        /// What it returns.
        class: Class,
    },
    /// `value IN (list)`
    In {
        /// What is looked for.
        value: Box<Expr>,
        /// `IN` or `NOT IN`.
        operator: &'static str,
        /// Where.
        list: Vec<Expr>,
    },
    /// All of these.
    All(Vec<Expr>),
    /// Any of these.
    Any(Vec<Expr>),
    /// An aggregate of the rows of a group.
    Aggregate(Box<Aggregate>),
    /// A condition with a subquery.
    Nested(Box<Nested>),
}

/// `function([DISTINCT] argument) [FILTER (WHERE filter)]`
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Aggregate {
    /// `count`, `sum`, ...
    pub(super) function: &'static str,
    /// `DISTINCT `, or nothing.
    pub(super) distinct: &'static str,
    /// None for `*`.
    pub(super) argument: Option<Expr>,
    /// Which rows count.
    pub(super) filter: Option<Expr>,
    /// What it returns.
    pub(super) class: Class,
}

/// `[value] operator (SELECT output FROM table WHERE filters)`
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Nested {
    /// What is compared; none for `EXISTS`.
    pub(super) value: Option<Expr>,
    /// `EXISTS`, `NOT EXISTS`, `IN`, `NOT IN`, or a comparison.
    pub(super) operator: &'static str,
    /// What the subquery returns.
    pub(super) output: Expr,
    /// What it reads.
    pub(super) table: TableRef,
    /// Its conditions; they may name tables of the query around it.
    pub(super) filters: Vec<Expr>,
}

/// A kind of join that is written as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinKind {
    /// Rows of both sides.
    Inner,
    /// All rows of the left side.
    Left,
    /// All rows of the right side.
    Right,
    /// All rows of both.
    Full,
}

impl JoinKind {
    fn sql(self) -> &'static str {
        match self {
            Self::Inner => "JOIN",
            Self::Left => "LEFT JOIN",
            Self::Right => "RIGHT JOIN",
            Self::Full => "FULL JOIN",
        }
    }
}

/// One more table of a select.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Join {
    /// How.
    pub(super) kind: JoinKind,
    /// Which.
    pub(super) table: TableRef,
    /// On which conditions; not empty.
    pub(super) on: Vec<Expr>,
}

/// One `SELECT`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Select {
    /// `DISTINCT `, or nothing.
    pub(super) distinct: &'static str,
    /// What it returns; not empty.
    pub(super) outputs: Vec<Expr>,
    /// The first table.
    pub(super) from: TableRef,
    /// The others.
    pub(super) joins: Vec<Join>,
    /// The conditions of `WHERE`.
    pub(super) filters: Vec<Expr>,
    /// The keys of `GROUP BY`.
    pub(super) group: Vec<Expr>,
    /// The conditions of `HAVING`.
    pub(super) having: Vec<Expr>,
}

/// One key of an order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order {
    /// The place of the output that is ordered by.
    pub(super) output: usize,
    /// What follows: `DESC NULLS FIRST`.
    pub(super) direction: &'static str,
}

/// A query.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Query {
    /// One select, or several of the same columns.
    pub(super) selects: Vec<Select>,
    /// What stands between them.
    pub(super) set: &'static str,
    /// The order.
    pub(super) order: Vec<Order>,
    /// The most rows.
    pub(super) limit: Option<usize>,
    /// The rows that are left out before.
    pub(super) offset: Option<usize>,
}

/// How a table is called where the query is asked.
pub(super) type NameOf<'a> = &'a dyn Fn(&TableRef) -> String;

impl Expr {
    /// Returns `true`, which is no condition.
    pub(super) fn truth() -> Self {
        Self::Literal { sql: "TRUE".to_owned(), class: Class::Bool }
    }

    /// Returns a call of one form.
    pub(super) fn call(form: &'static str, class: Class, arguments: Vec<Self>) -> Self {
        Self::Call { form, arguments, class }
    }

    /// What it returns.
    pub(super) fn class(&self) -> Class {
        match self {
            Self::Column { class, .. } | Self::Literal { class, .. } | Self::Call { class, .. } => {
                *class
            }
            Self::In { .. } | Self::All(_) | Self::Any(_) | Self::Nested(_) => Class::Bool,
            Self::Aggregate(aggregate) => aggregate.class,
        }
    }

    /// Calls `visit` with itself and all that is in it.
    fn for_each_mut(&mut self, visit: &mut dyn FnMut(&mut Self)) {
        visit(self);
        match self {
            Self::Column { .. } | Self::Literal { .. } => {}
            Self::Call { arguments: parts, .. } | Self::All(parts) | Self::Any(parts) => {
                parts.iter_mut().for_each(|part| part.for_each_mut(visit));
            }
            Self::In { value, list, .. } => {
                value.for_each_mut(visit);
                list.iter_mut().for_each(|part| part.for_each_mut(visit));
            }
            Self::Aggregate(aggregate) => {
                let Aggregate { argument, filter, .. } = aggregate.as_mut();
                argument.iter_mut().chain(filter).for_each(|part| part.for_each_mut(visit));
            }
            Self::Nested(nested) => {
                let Nested { value, output, filters, .. } = nested.as_mut();
                let parts = value.iter_mut().chain([output]).chain(filters);
                parts.for_each(|part| part.for_each_mut(visit));
            }
        }
    }

    /// Returns the names of the tables of the query around it that it needs, sorted.
    pub(super) fn aliases(&self) -> Vec<String> {
        let mut columns = Vec::new();
        self.columns(&mut columns);
        let aliases: BTreeSet<String> = columns.into_iter().map(|(alias, _)| alias).collect();
        aliases.into_iter().collect()
    }

    /// Adds the columns that it names, as alias and name, those of subqueries' own tables left out.
    fn columns(&self, found: &mut Vec<(String, String)>) {
        match self {
            Self::Column { alias, name, .. } => found.push((alias.clone(), name.clone())),
            Self::Literal { .. } => {}
            Self::Call { arguments: parts, .. } | Self::All(parts) | Self::Any(parts) => {
                parts.iter().for_each(|part| part.columns(found));
            }
            Self::In { value, list, .. } => {
                value.columns(found);
                list.iter().for_each(|part| part.columns(found));
            }
            Self::Aggregate(aggregate) => {
                aggregate
                    .argument
                    .iter()
                    .chain(&aggregate.filter)
                    .for_each(|part| part.columns(found));
            }
            Self::Nested(nested) => {
                let mut inner = Vec::new();
                nested.output.columns(&mut inner);
                nested.filters.iter().for_each(|filter| filter.columns(&mut inner));
                found.extend(inner.into_iter().filter(|(alias, _)| *alias != nested.table.alias));
                nested.value.iter().for_each(|value| value.columns(found));
            }
        }
    }

    fn sql(&self, name_of: NameOf<'_>) -> String {
        let list = |parts: &[Self], between: &str| -> String {
            let parts: Vec<String> = parts.iter().map(|part| part.sql(name_of)).collect();
            parts.join(between)
        };
        match self {
            Self::Column { alias, name, .. } => format!("{alias}.{}", quoted(name)),
            Self::Literal { sql, .. } => sql.clone(),
            Self::Call { form, arguments, .. } => {
                let mut arguments = arguments.iter();
                let mut written = String::new();
                for (place, piece) in form.split("{}").enumerate() {
                    if place > 0 {
                        written.push_str(
                            &arguments.next().map_or_else(String::new, |a| a.sql(name_of)),
                        );
                    }
                    written.push_str(piece);
                }
                written
            }
            Self::In { value, operator, list: values } => {
                format!("{} {operator} ({})", value.sql(name_of), list(values, ", "))
            }
            Self::All(parts) => format!("({})", list(parts, " AND ")),
            Self::Any(parts) => format!("({})", list(parts, " OR ")),
            Self::Aggregate(aggregate) => {
                let Aggregate { function, distinct, argument, filter, .. } = aggregate.as_ref();
                let argument = argument.as_ref().map_or_else(|| "*".to_owned(), |a| a.sql(name_of));
                let filter = filter
                    .as_ref()
                    .map_or_else(String::new, |f| format!(" FILTER (WHERE {})", f.sql(name_of)));
                format!("{function}({distinct}{argument}){filter}")
            }
            Self::Nested(nested) => {
                let Nested { value, operator, output, table, filters } = nested.as_ref();
                let value =
                    value.as_ref().map_or_else(String::new, |v| format!("{} ", v.sql(name_of)));
                let (output, name) = (output.sql(name_of), name_of(table));
                let conditions = clause(" WHERE ", &list(filters, " AND "));
                format!(
                    "{value}{operator} (SELECT {output} FROM {name} AS {}{conditions})",
                    table.alias
                )
            }
        }
    }

    /// Calls `visit` with the tables of subqueries.
    fn for_each_table(&self, visit: &mut dyn FnMut(&TableRef)) {
        match self {
            Self::Column { .. } | Self::Literal { .. } => {}
            Self::Call { arguments: parts, .. } | Self::All(parts) | Self::Any(parts) => {
                parts.iter().for_each(|part| part.for_each_table(visit));
            }
            Self::In { value, list, .. } => {
                value.for_each_table(visit);
                list.iter().for_each(|part| part.for_each_table(visit));
            }
            Self::Aggregate(aggregate) => {
                let parts = aggregate.argument.iter().chain(&aggregate.filter);
                parts.for_each(|part| part.for_each_table(visit));
            }
            Self::Nested(nested) => {
                visit(&nested.table);
                nested.filters.iter().for_each(|filter| filter.for_each_table(visit));
            }
        }
    }
}

impl Select {
    fn sql(&self, name_of: NameOf<'_>) -> String {
        let list = |parts: &[Expr], between: &str| -> String {
            parts.iter().map(|part| part.sql(name_of)).collect::<Vec<_>>().join(between)
        };
        let outputs: Vec<String> = self
            .outputs
            .iter()
            .enumerate()
            .map(|(place, output)| format!("{} AS c{place}", output.sql(name_of)))
            .collect();
        let named = |table: &TableRef| format!("{} AS {}", name_of(table), table.alias);
        let mut sql =
            format!("SELECT {}{} FROM {}", self.distinct, outputs.join(", "), named(&self.from));
        for Join { kind, table, on } in &self.joins {
            sql.push_str(&format!(" {} {} ON {}", kind.sql(), named(table), list(on, " AND ")));
        }
        sql.push_str(&clause(" WHERE ", &list(&self.filters, " AND ")));
        sql.push_str(&clause(" GROUP BY ", &list(&self.group, ", ")));
        sql.push_str(&clause(" HAVING ", &list(&self.having, " AND ")));
        sql
    }

    fn exprs_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        let on = self.joins.iter_mut().flat_map(|join| &mut join.on);
        let conditions = on.chain(&mut self.filters).chain(&mut self.having);
        self.outputs.iter_mut().chain(&mut self.group).chain(conditions)
    }

    /// Returns all its expressions.
    fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let on = self.joins.iter().flat_map(|join| &join.on);
        self.outputs.iter().chain(on).chain(&self.filters).chain(&self.group).chain(&self.having)
    }

    /// Returns the tables that it names, those of subqueries among them.
    fn tables(&self) -> Vec<TableRef> {
        let mut tables = vec![self.from.clone()];
        tables.extend(self.joins.iter().map(|join| join.table.clone()));
        self.exprs().for_each(|expr| expr.for_each_table(&mut |table| tables.push(table.clone())));
        tables
    }
}

impl Query {
    /// Returns the query's text.
    pub(super) fn sql(&self, name_of: NameOf<'_>) -> String {
        let selects: Vec<String> = self.selects.iter().map(|select| select.sql(name_of)).collect();
        let mut sql = selects.join(&format!(" {} ", self.set));
        let keys: Vec<String> = self
            .order
            .iter()
            .map(|Order { output, direction }| format!("c{output} {direction}"))
            .collect();
        sql.push_str(&clause(" ORDER BY ", &keys.join(", ")));
        if let Some(limit) = self.limit {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        if let Some(offset) = self.offset {
            sql.push_str(&format!(" OFFSET {offset}"));
        }
        sql
    }

    /// Returns the query without what takes rows away by their place.
    #[must_use]
    pub(super) fn whole(&self) -> Self {
        Self { limit: None, offset: None, ..self.clone() }
    }

    /// Returns the query with columns that are named after their tables as well, so that no two have one name. Each table
    /// has to be read with these names; see [`own_name`].
    #[must_use]
    pub(super) fn with_own_names(&self) -> Self {
        let mut query = self.clone();
        for expr in query.selects.iter_mut().flat_map(Select::exprs_mut) {
            expr.for_each_mut(&mut |expr| {
                if let Expr::Column { alias, name, .. } = expr {
                    *name = own_name(alias, name);
                }
            });
        }
        query
    }

    /// Whether rows are taken away by their place.
    pub(super) fn is_cut(&self) -> bool {
        self.limit.is_some() || self.offset.is_some()
    }

    /// Returns the tables that it names, as side and name, each once.
    pub(super) fn tables(&self) -> BTreeSet<(usize, String)> {
        let tables = self.selects.iter().flat_map(Select::tables);
        tables.map(|table| (table.side, table.table)).collect()
    }

    /// Returns how many conditions it has, those of subqueries and within others among them.
    pub(super) fn n_conditions(&self) -> usize {
        let of = |select: &Select| {
            let on = select.joins.iter().flat_map(|join| &join.on);
            let conditions = on.chain(&select.filters).chain(&select.having);
            conditions.map(n_tests).sum::<usize>()
        };
        self.selects.iter().map(of).sum()
    }

    /// Whether the text names that column of any table.
    pub(super) fn names_column(&self, name: &str) -> bool {
        // Names of columns stand in quotes only, and quotes stand around nothing else that looks so.
        self.sql(&|table| table.table.clone()).contains(&quoted(name))
    }
}

fn n_tests(expr: &Expr) -> usize {
    match expr {
        Expr::All(parts) | Expr::Any(parts) => parts.iter().map(n_tests).sum(),
        Expr::Nested(nested) => 1 + nested.filters.iter().map(n_tests).sum::<usize>(),
        Expr::Literal { .. } => 0,
        Expr::Column { .. } | Expr::Call { .. } | Expr::In { .. } | Expr::Aggregate(_) => 1,
    }
}

/// Returns a name that no other column of a query has.
pub(super) fn own_name(alias: &str, column: &str) -> String {
    format!("{alias}.{column}")
}

/// Returns a clause, or nothing where it would be empty.
fn clause(keyword: &str, content: &str) -> String {
    if content.is_empty() { String::new() } else { format!("{keyword}{content}") }
}

/// Returns a name in quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
