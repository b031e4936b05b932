//! Random queries over the tables of a round.
//!
//! ```text
//! mod         which tables, which joins, what is returned, in which order, how much of it
//! condition   what rows have to pass
//! ```
//! Two things are not drawn, because their answer is not determined: sums of doubles whose rounding depends on the order
//! of addition (columns of [`Class::Tame`] have exact sums), and operators that fail for some values within conditions,
//! where it depends on the plan which rows are looked at.

mod condition;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::known;
use super::query::{Aggregate, Expr, Join, JoinKind, Order, Query, Select, TableRef};
use super::tables::{Column, Table};
use super::values::{Class, Domain, pick};

/// Integers up to this have exact averages, whatever the order.
const AVERAGED_MAX: i128 = 1 << 40;

/// Draws one query over the tables of each side.
pub(super) fn draw_query(rng: &mut StdRng, sides: &[&[Table]]) -> Query {
    Drawing { rng, sides, scope: Vec::new(), n_aliases: 0 }.query()
}

/// A table that expressions may name.
#[derive(Debug, Clone)]
struct Known<'a> {
    reference: TableRef,
    table: &'a Table,
}

struct Drawing<'a, 'r> {
    rng: &'r mut StdRng,
    sides: &'a [&'a [Table]],
    /// The tables of the select that is being drawn, those of the query around a subquery among them.
    scope: Vec<Known<'a>>,
    n_aliases: usize,
}

impl<'a> Drawing<'a, '_> {
    fn chance(&mut self, share: f64) -> bool {
        self.rng.random_bool(share)
    }

    fn query(&mut self) -> Query {
        let mut selects = vec![self.select()];
        let set = match self.chance(0.1) {
            true => pick(self.rng, &["UNION", "UNION ALL", "UNION ALL", "INTERSECT", "EXCEPT"]),
            false => "",
        };
        if !set.is_empty() {
            // The same columns of the same tables, other rows.
            let mut other = selects[0].clone();
            other.filters = self.filters();
            selects.push(other);
        }
        let mut query = Query { selects, set, order: Vec::new(), limit: None, offset: None };
        match self.rng.random_range(0..10) {
            0..=2 => {
                query.order = self.order(&query.selects[0]);
                query.limit = Some(self.n_rows());
            }
            3 => query.limit = Some(self.n_rows()),
            4 => query.order = self.order(&query.selects[0]),
            _ => {}
        }
        if query.limit.is_some() && self.chance(0.2) {
            query.offset = Some(self.n_rows());
        }
        query
    }

    fn n_rows(&mut self) -> usize {
        *[0, 1, 1, 2, 3, 5, 10, 1000].choose(self.rng).expect("there are some")
    }

    fn order(&mut self, select: &Select) -> Vec<Order> {
        let sortable: Vec<usize> = (0..select.outputs.len())
            .filter(|place| !matches!(select.outputs[*place].class(), Class::Opaque))
            .collect();
        let n_keys = self.rng.random_range(1..3);
        let mut order: Vec<Order> = Vec::new();
        for _ in 0..n_keys {
            let Some(output) = sortable.choose(self.rng).copied() else { continue };
            if order.iter().all(|key| key.output != output) {
                let directions =
                    ["ASC", "DESC", "", "ASC NULLS FIRST", "DESC NULLS FIRST", "DESC NULLS LAST"];
                order.push(Order { output, direction: pick(self.rng, &directions) });
            }
        }
        order
    }

    fn select(&mut self) -> Select {
        self.scope.clear();
        let from = self.table();
        // One plain table, so that what stands above it may be moved too.
        let is_bare = self.chance(0.2);
        let n_joins = *[0, 0, 0, 1, 1, 2].choose(self.rng).expect("there are some");
        let n_joins = if is_bare { 0 } else { n_joins };
        let joins: Vec<Join> = (0..n_joins).map(|_| self.join()).collect();
        let filters = if is_bare { Vec::new() } else { self.filters() };
        let mut select = Select {
            distinct: "",
            outputs: Vec::new(),
            from,
            joins,
            filters,
            group: Vec::new(),
            having: Vec::new(),
        };
        match self.rng.random_range(0..10) {
            0..=5 => {
                let n_outputs = self.rng.random_range(1..5);
                select.outputs = (0..n_outputs).map(|_| self.output()).collect();
                if self.chance(0.12) {
                    select.distinct = "DISTINCT ";
                }
            }
            6 | 7 => {
                let n_outputs = self.rng.random_range(1..4);
                select.outputs = (0..n_outputs).map(|_| self.aggregate()).collect();
                if known::is_known(known::BOUNDS_OF_AGGREGATES) && n_outputs > 1 {
                    select.outputs.push(count_of_rows());
                }
            }
            _ => self.group(&mut select),
        }
        select
    }

    fn group(&mut self, select: &mut Select) {
        let n_keys = self.rng.random_range(1..3);
        for _ in 0..n_keys {
            let key = self.group_key();
            if !select.group.contains(&key) {
                select.group.push(key);
            }
        }
        select.outputs = select.group.clone();
        let n_aggregates = self.rng.random_range(0..3);
        select.outputs.extend((0..n_aggregates).map(|_| self.aggregate()));
        if self.chance(0.2) {
            let rows =
                Expr::Literal { sql: self.rng.random_range(0..4).to_string(), class: Class::Int };
            let form = pick(self.rng, &["{} > {}", "{} = {}", "{} <= {}"]);
            select.having.push(Expr::call(form, Class::Bool, vec![count_of_rows(), rows]));
        }
    }

    fn group_key(&mut self) -> Expr {
        let column = self.column_where(&|class| class != Class::Opaque);
        match column.class() {
            Class::Text if self.chance(0.2) => Expr::call("lower({})", Class::Text, vec![column]),
            _ => column,
        }
    }

    fn join(&mut self) -> Join {
        let kinds = [
            JoinKind::Inner,
            JoinKind::Inner,
            JoinKind::Left,
            JoinKind::Left,
            JoinKind::Right,
            JoinKind::Full,
        ];
        let kind = *kinds.choose(self.rng).expect("there are some");
        let before = self.scope.clone();
        let table = self.table();
        let mut on = vec![self.equality(&before, &table)];
        while self.chance(0.35) {
            on.push(self.condition(1));
        }
        Join { kind, table, on }
    }

    /// Returns an equality between a table and one of those before it.
    fn equality(&mut self, before: &[Known<'a>], table: &TableRef) -> Expr {
        let other =
            before.choose(self.rng).expect("a join has a left side").reference.alias.clone();
        let key = match self.rng.random_range(0..10) {
            0 | 1 => ("text_s", Class::Text),
            2 => ("int_id", Class::Int),
            _ => ("int_k", Class::Int),
        };
        let column = |alias: &String| Expr::Column {
            alias: alias.clone(),
            name: key.0.to_owned(),
            class: key.1,
        };
        let (left, right) = (column(&other), column(&table.alias));
        if self.chance(0.15)
            && let Some((left, right)) = self.alike(&other, &table.alias)
        {
            return Expr::call("{} = {}", Class::Bool, vec![left, right]);
        }
        Expr::call("{} = {}", Class::Bool, vec![left, right])
    }

    /// Returns two columns of one class of two tables.
    fn alike(&mut self, left: &str, right: &str) -> Option<(Expr, Expr)> {
        let of =
            |alias: &str| self.scope.iter().find(|known| known.reference.alias == alias).cloned();
        let (left, right) = (of(left)?, of(right)?);
        let one = left.table.columns.choose(self.rng).filter(|c| c.spec.class != Class::Opaque)?;
        let same: Vec<&Column> =
            right.table.columns.iter().filter(|c| c.spec.class == one.spec.class).collect();
        let two = same.choose(self.rng)?;
        Some((column_of(&left, one), column_of(&right, two)))
    }

    fn filters(&mut self) -> Vec<Expr> {
        let n_filters = *[0, 1, 1, 1, 2, 2, 3].choose(self.rng).expect("there are some");
        (0..n_filters).map(|_| self.condition(0)).collect()
    }

    /// Brings one more table into scope.
    fn table(&mut self) -> TableRef {
        let side = match self.sides.len() {
            2 if self.chance(0.35) => 1,
            _ => 0,
        };
        let table = self.sides[side].choose(self.rng).expect("a side has tables");
        self.n_aliases += 1;
        let alias = format!("a{}", self.n_aliases);
        let reference = TableRef { side, table: table.name.clone(), alias };
        self.scope.push(Known { reference: reference.clone(), table });
        reference
    }

    fn column(&mut self) -> (Known<'a>, &'a Column) {
        let known = self.scope.choose(self.rng).expect("a select has a table").clone();
        let column = known.table.columns.choose(self.rng).expect("a table has columns");
        (known, column)
    }

    fn column_where(&mut self, is_wanted: &dyn Fn(Class) -> bool) -> Expr {
        loop {
            // Each table has integers and text.
            let (known, column) = self.column();
            if is_wanted(column.spec.class) {
                return column_of(&known, column);
            }
        }
    }

    fn output(&mut self) -> Expr {
        if self.chance(0.7) {
            return self.column_where(&|_any| true);
        }
        let (known, column) = self.column();
        let class = column.spec.class;
        let one = column_of(&known, column);
        match self.rng.random_range(0..6) {
            0 => Expr::call("({} IS NULL)", Class::Bool, vec![one]),
            1 if class != Class::Opaque => {
                let two = self.column_where(&|other| other == class);
                Expr::call("coalesce({}, {})", class, vec![one, two])
            }
            2 if class != Class::Opaque => {
                let two = self.column_where(&|other| other == class);
                let condition = self.condition(2);
                let form = "CASE WHEN {} THEN {} ELSE {} END";
                Expr::call(form, class, vec![condition, one, two])
            }
            _ => self.computed(one, class),
        }
    }

    fn computed(&mut self, one: Expr, class: Class) -> Expr {
        match class {
            Class::Int => {
                let two = self.column_where(&|other| other == Class::Int);
                let form = pick(self.rng, &["({} + {})", "({} * {})", "({} - {})"]);
                Expr::call(form, Class::Int, vec![one, two])
            }
            Class::Decimal => Expr::call("({} + 1)", Class::Decimal, vec![one]),
            Class::Double | Class::Tame => Expr::call("({} * 2)", Class::Double, vec![one]),
            Class::Text => {
                let form = pick(self.rng, &["upper({})", "concat({}, '|')", "ltrim({})"]);
                Expr::call(form, Class::Text, vec![one])
            }
            Class::Date | Class::Timestamp | Class::Instant => {
                Expr::call("extract(year FROM {})", Class::Int, vec![one])
            }
            Class::Bool => Expr::call("(NOT {})", Class::Bool, vec![one]),
            Class::Real | Class::Bytes | Class::Opaque => one,
        }
    }

    fn aggregate(&mut self) -> Expr {
        let (known, column) = self.column();
        let class = column.spec.class;
        let argument = column_of(&known, column);
        let mut functions = vec!["count"];
        if class != Class::Opaque && class != Class::Bytes {
            functions.extend(["min", "max"]);
        }
        if matches!(class, Class::Int | Class::Decimal | Class::Tame) {
            functions.extend(["sum", "sum"]);
        }
        if matches!(class, Class::Decimal | Class::Tame) || has_exact_average(column) {
            functions.extend(["avg", "avg"]);
        }
        let function = pick(self.rng, &functions);
        let is_all = function == "count" && self.chance(0.5);
        // Without a class that has an order nothing is distinct.
        let distinct = match !is_all && class != Class::Opaque && self.chance(0.25) {
            true => "DISTINCT ",
            false => "",
        };
        let filter = self.chance(0.15).then(|| self.condition(2));
        let argument = (!is_all).then_some(argument);
        let class = match function {
            "count" => Class::Int,
            "avg" if class == Class::Int => Class::Double,
            _ => class,
        };
        Expr::Aggregate(Box::new(Aggregate { function, distinct, argument, filter, class }))
    }
}

/// Returns `count(*)`.
fn count_of_rows() -> Expr {
    Expr::Aggregate(Box::new(Aggregate {
        function: "count",
        distinct: "",
        argument: None,
        filter: None,
        class: Class::Int,
    }))
}

fn has_exact_average(column: &Column) -> bool {
    match column.spec.domain {
        Domain::Keys => true,
        Domain::Ints(min, max) => min > -AVERAGED_MAX && max < AVERAGED_MAX,
        _ => false,
    }
}

fn column_of(known: &Known<'_>, column: &Column) -> Expr {
    Expr::Column {
        alias: known.reference.alias.clone(),
        name: column.name.clone(),
        class: column.spec.class,
    }
}
