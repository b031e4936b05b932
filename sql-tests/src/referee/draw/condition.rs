//! Random conditions: every form that sources are offered, and those around them that they must refuse.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::{Drawing, Known, column_of};
use crate::referee::query::{Aggregate, Expr, Nested};
use crate::referee::tables::Column;
use crate::referee::values::{Class, Datum, pick};

const COMPARISONS: [&str; 6] =
    ["{} = {}", "{} <> {}", "{} < {}", "{} <= {}", "{} > {}", "{} >= {}"];

impl Drawing<'_, '_> {
    /// Draws a condition; the deeper it stands, the plainer it is.
    pub(super) fn condition(&mut self, depth: usize) -> Expr {
        match self.rng.random_range(0..100) {
            0..16 if depth < 2 => {
                let parts =
                    (0..self.rng.random_range(2..4)).map(|_| self.condition(depth + 1)).collect();
                if self.chance(0.4) { Expr::All(parts) } else { Expr::Any(parts) }
            }
            16..22 if depth < 2 => {
                let inner = self.condition(depth + 1);
                Expr::call("NOT ({})", Class::Bool, vec![inner])
            }
            22..32 if depth == 0 => self.nested(),
            _ => self.test(),
        }
    }

    /// Draws a test of one column.
    fn test(&mut self) -> Expr {
        let (known, column) = self.column();
        let class = column.spec.class;
        let tested = column_of(&known, column);
        if class == Class::Opaque {
            return self.null_test(tested);
        }
        match self.rng.random_range(0..100) {
            0..12 => self.null_test(tested),
            12..28 => {
                let list = (0..self.rng.random_range(1..5))
                    .map(|_| self.literal(&known, column))
                    .collect();
                let operator = pick(self.rng, &["IN", "IN", "NOT IN"]);
                Expr::In { value: Box::new(tested), operator, list }
            }
            28..36 => {
                let form = pick(self.rng, &["{} BETWEEN {} AND {}", "{} NOT BETWEEN {} AND {}"]);
                let arguments =
                    vec![tested, self.literal(&known, column), self.literal(&known, column)];
                Expr::call(form, Class::Bool, arguments)
            }
            36..46 => {
                let other = self.column_where(&|other| other == class);
                Expr::call(pick(self.rng, &COMPARISONS), Class::Bool, vec![tested, other])
            }
            46..60 if class == Class::Text => self.like(&known, column),
            60..64 if class == Class::Text => {
                let literal = self.literal(&known, column);
                let form =
                    pick(self.rng, &["lower({}) = {}", "trim({}) = {}", "concat({}, 'x') <> {}"]);
                Expr::call(form, Class::Bool, vec![tested, literal])
            }
            64..68 if class.is_number() => {
                // Of another type than the column, so that one of the two is converted.
                let literals =
                    ["0.5", "2e0", "1", "-1", "300", "9223372036854775808", "1e300", "0.001"];
                let literal = pick(self.rng, &literals);
                let literal = Expr::Literal { sql: literal.to_owned(), class };
                Expr::call(pick(self.rng, &COMPARISONS), Class::Bool, vec![tested, literal])
            }
            68..72 if matches!(class, Class::Date | Class::Timestamp | Class::Instant) => {
                // Nothing of nanoseconds, which fails for what is far from 1970.
                let literals = [
                    "DATE '2001-01-01'",
                    "CAST('2001-01-01 12:30:00.5' AS TIMESTAMP(6))",
                    "CAST('1970-01-01 00:00:00' AS TIMESTAMP(6))",
                    "'2001-12-31'",
                ];
                let literal = pick(self.rng, &literals);
                let literal = Expr::Literal { sql: literal.to_owned(), class };
                Expr::call(pick(self.rng, &COMPARISONS), Class::Bool, vec![tested, literal])
            }
            72..90 if class == Class::Bool => match self.chance(0.5) {
                true => tested,
                false => Expr::call("NOT ({})", Class::Bool, vec![tested]),
            },
            90..94 => {
                let arguments =
                    vec![tested, self.literal(&known, column), self.literal(&known, column)];
                Expr::call("coalesce({}, {}) = {}", Class::Bool, arguments)
            }
            94..97 => {
                let arguments = vec![tested, self.literal(&known, column)];
                let form =
                    pick(self.rng, &["{} IS DISTINCT FROM {}", "{} IS NOT DISTINCT FROM {}"]);
                Expr::call(form, Class::Bool, arguments)
            }
            _ => {
                let literal = self.literal(&known, column);
                let mut arguments = vec![tested, literal];
                if self.chance(0.1) {
                    arguments.reverse();
                }
                Expr::call(pick(self.rng, &COMPARISONS), Class::Bool, arguments)
            }
        }
    }

    fn null_test(&mut self, tested: Expr) -> Expr {
        let form = pick(self.rng, &["{} IS NULL", "{} IS NOT NULL"]);
        Expr::call(form, Class::Bool, vec![tested])
    }

    /// What a text begins with, by a function.
    fn beginning(&mut self, tested: Expr, text: &str) -> Expr {
        let (n_letters, forms): (usize, &[&'static str]) = match self.rng.random_range(0..3) {
            0 => (1, &["substr({}, 1, 1) = {}", "left({}, 1) <> {}"]),
            1 => (2, &["left({}, 2) = {}", "substring({}, 1, 2) IN ({}, 'a')"]),
            _ => (3, &["left({}, 3) <> {}", "substr({}, 1, 3) NOT IN ('', {})"]),
        };
        // Now and then the text has another length than what it is compared with.
        let n_letters = if self.chance(0.2) { n_letters - 1 } else { n_letters };
        let start: String = text.chars().take(n_letters).collect();
        let sql = format!("'{}'", start.replace('\'', "''"));
        let start = Expr::Literal { sql, class: Class::Text };
        Expr::call(pick(self.rng, forms), Class::Bool, vec![tested, start])
    }

    fn like(&mut self, known: &Known<'_>, column: &Column) -> Expr {
        let tested = column_of(known, column);
        let text = match self.value(known, column) {
            Datum::Text(text) => text,
            _ => "a".to_owned(),
        };
        if self.chance(0.2) {
            return self.beginning(tested, &text);
        }
        let n_letters = self.rng.random_range(0..=text.chars().count());
        let start: String = text.chars().take(n_letters).collect();
        let rest: String = text.chars().skip(n_letters + 1).collect();
        let pattern = match self.rng.random_range(0..10) {
            0 => format!("%{start}"),
            3 => format!("%{rest}%"),
            4 => format!("{start}%{rest}"),
            1 => text.chars().map(|letter| if letter == 'p' { '_' } else { letter }).collect(),
            2 => format!("{start}_%"),
            _ => format!("{start}%"),
        };
        let pattern = format!("'{}'", pattern.replace('\'', "''"));
        let pattern = Expr::Literal { sql: pattern, class: Class::Text };
        let forms =
            ["{} LIKE {}", "{} LIKE {}", "{} NOT LIKE {}", "{} ILIKE {}", "starts_with({}, {})"];
        Expr::call(pick(self.rng, &forms), Class::Bool, vec![tested, pattern])
    }

    /// Draws a literal for a column: mostly a value that it holds.
    fn literal(&mut self, known: &Known<'_>, column: &Column) -> Expr {
        let class = column.spec.class;
        for _ in 0..10 {
            let written = match self.chance(0.02) {
                true => Datum::Null.engine_literal(class),
                false => self.value(known, column).engine_literal(class),
            };
            if let Some(sql) = written {
                return Expr::Literal { sql, class };
            }
        }
        Expr::Literal { sql: "NULL".to_owned(), class }
    }

    fn value(&mut self, known: &Known<'_>, column: &Column) -> Datum {
        let place = known.table.column(&column.name).expect("the column is the table's");
        match known.table.rows.choose(self.rng) {
            Some(row) if self.rng.random_bool(0.6) && row[place] != Datum::Null => {
                row[place].clone()
            }
            _ => column.spec.domain.draw_value(self.rng),
        }
    }

    /// Draws a condition with a subquery: semi and anti joins, and comparisons with an aggregate.
    fn nested(&mut self) -> Expr {
        let around = self.scope.len();
        let outer = self.scope.choose(self.rng).expect("a select has a table").clone();
        let table = self.table();
        let inner = self.scope.last().expect("it was just added").clone();
        let key = |known: &Known<'_>, name: &str, class: Class| Expr::Column {
            alias: known.reference.alias.clone(),
            name: name.to_owned(),
            class,
        };
        let (name, class) =
            *[("int_k", Class::Int), ("int_k", Class::Int), ("text_s", Class::Text)]
                .choose(self.rng)
                .expect("there are some");
        let (mine, its) = (key(&outer, name, class), key(&inner, name, class));
        let one = Expr::Literal { sql: "1".to_owned(), class: Class::Int };
        let equal = Expr::call("{} = {}", Class::Bool, vec![mine.clone(), its.clone()]);
        // Its own conditions name its own table only.
        let all = std::mem::replace(&mut self.scope, vec![inner]);
        let mut filters: Vec<Expr> =
            (0..self.rng.random_range(0..2)).map(|_| self.condition(2)).collect();
        self.scope = all;
        let (value, operator, output) = match self.rng.random_range(0..8) {
            0..=2 => {
                filters.push(equal);
                (None, pick(self.rng, &["EXISTS", "NOT EXISTS"]), one)
            }
            3 | 4 => (Some(mine), pick(self.rng, &["IN", "IN", "NOT IN"]), its),
            _ => {
                let function = pick(self.rng, &["min", "max", "count"]);
                let is_count = function == "count";
                let value = if is_count { key(&outer, "int_k", Class::Int) } else { mine };
                let class = value.class();
                let aggregate =
                    Aggregate { function, distinct: "", argument: Some(its), filter: None, class };
                let operator = pick(self.rng, &["=", "<", ">="]);
                (Some(value), operator, Expr::Aggregate(Box::new(aggregate)))
            }
        };
        self.scope.truncate(around);
        Expr::Nested(Box::new(Nested { value, operator, output, table, filters }))
    }
}
