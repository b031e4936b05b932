//! Random tables: what they are called, what their columns are, which rows they hold.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::values::{Class, Datum, Domain, pick};

/// The most rows of a table; most have far fewer.
const N_ROWS_MAX: usize = 200;
/// How often a value is one that only the source can write, where there are such.
const OWN_SHARE: f64 = 0.15;

/// A type of column of a source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec {
    /// What it is to the engine.
    pub(super) class: Class,
    /// The type as the source declares it.
    pub(super) declared: &'static str,
    /// What it can hold.
    pub(super) domain: Domain,
    /// What it can hold that the engine cannot write: literals of the source.
    pub(super) own: &'static [&'static str],
}

impl Spec {
    /// Returns a type without values of the source's own.
    pub(super) const fn new(class: Class, declared: &'static str, domain: Domain) -> Self {
        Self { class, declared, domain, own: &[] }
    }

    /// Returns the same type with values of the source's own.
    pub(super) const fn with(self, own: &'static [&'static str]) -> Self {
        Self { own, ..self }
    }

    fn draw(&self, rng: &mut StdRng) -> Datum {
        match self.own {
            [_, ..] if rng.random_bool(OWN_SHARE) => Datum::Own(pick(rng, self.own)),
            _ => self.domain.draw(rng),
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Begins with its class's prefix.
    pub(super) name: String,
    /// Its type.
    pub(super) spec: Spec,
}

/// A table with its rows.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// What it is called.
    pub(super) name: String,
    /// Its columns; the first three are a number for each row, and keys that other tables share.
    pub(super) columns: Vec<Column>,
    /// Its rows.
    pub(super) rows: Vec<Vec<Datum>>,
    /// What a declaration ends with: `STRICT`.
    pub(super) suffix: &'static str,
}

impl Table {
    /// Whether the source takes statistics of it: without them nothing is known of its rows, and less is moved.
    pub(super) fn is_analyzed(&self) -> bool {
        !self.rows.is_empty() && self.columns.len() != 5
    }

    /// Returns the column of that name.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

/// What tables of a source are made of.
#[derive(Debug, Clone)]
pub(super) struct Palette {
    /// The types of the columns that all tables have: a number, a key, a text.
    pub(super) always: [Spec; 3],
    /// The types of the others.
    pub(super) types: Vec<Spec>,
    /// What a declaration may end with.
    pub(super) suffixes: &'static [&'static str],
}

/// Returns so many tables.
pub(super) fn draw_tables(rng: &mut StdRng, palette: &Palette, n_tables: usize) -> Vec<Table> {
    (0..n_tables).map(|number| draw_table(rng, palette, number)).collect()
}

fn draw_table(rng: &mut StdRng, palette: &Palette, number: usize) -> Table {
    let always = ["int_id", "int_k", "text_s"];
    let mut columns: Vec<Column> = always
        .iter()
        .zip(palette.always)
        .map(|(name, spec)| Column { name: (*name).to_owned(), spec })
        .collect();
    for place in 0..rng.random_range(2..7) {
        let spec = *palette.types.choose(rng).expect("a source has types");
        // A name that has to be quoted says so.
        let ending = pick(rng, &["", "", " Q"]);
        columns.push(Column { name: format!("{}{place}{ending}", spec.class.prefix()), spec });
    }
    let n_rows = match rng.random_range(0..10) {
        0 => 0,
        1 => 1,
        2 => rng.random_range(50..=N_ROWS_MAX),
        _ => rng.random_range(2..30),
    };
    let row = |id: usize, rng: &mut StdRng| {
        let mut row = vec![Datum::Int(id as i128)];
        row.extend(columns.iter().skip(1).map(|column| column.spec.draw(rng)));
        row
    };
    let rows = (0..n_rows).map(|id| row(id, rng)).collect();
    let suffix = palette.suffixes.choose(rng).copied().unwrap_or("");
    Table { name: format!("t{number}"), columns, rows, suffix }
}
