//! The cases in their order, and the table that most of them read.

use anyhow::{Result, bail, ensure};
use meshwork_sql_tests::source::nasty_texts;

use crate::doors::Doors;
use crate::source::{CATALOG, Column, Kind, Source, Table, Value, Writes};
use crate::{failing, gathering, page, reading};

/// All cases. Those that need tables of their own are `refused` where nobody can make one.
const CASES: [&str; 15] = [
    "types",
    "nulls",
    "empty",
    "wide",
    "names",
    "listing",
    "filters",
    "projection",
    "limit",
    "gathering",
    "writes",
    "cancel",
    "away",
    "broken",
    "page",
];

/// One source on trial.
pub(crate) struct Trial {
    pub(crate) source: Box<dyn Source>,
    pub(crate) doors: Doors,
    /// The standard table, as it stands behind `FROM`.
    pub(crate) standard: String,
}

/// Runs all cases and reports all that fail, not only the first.
pub(crate) async fn run(source: impl Source + 'static) -> Result<()> {
    let mut source: Box<dyn Source> = Box::new(source);
    let mut doors = Doors::open().await?;
    doors.define(CATALOG, source.kind(), &source.properties()).await?;
    let standard = source.standard(&mut doors).await?;
    let mut trial = Trial { source, doors, standard };
    let only = std::env::var("MESHWORK_TEST_CASE").unwrap_or_default();
    let cases: Vec<&str> = CASES.into_iter().filter(|name| name.contains(&only)).collect();
    ensure!(!cases.is_empty(), "no case is named {only}");
    let mut failures = Vec::new();
    for name in cases {
        if let Err(error) = trial.case(name).await {
            failures.push(format!("== {name}: {error:?}"));
        }
    }
    match failures.is_empty() {
        true => Ok(()),
        false => bail!("{} cases fail:\n{}", failures.len(), failures.join("\n")),
    }
}

impl Trial {
    async fn case(&mut self, name: &str) -> Result<()> {
        let made = self.source.limits().writes != Writes::Never;
        match name {
            "types" | "nulls" | "empty" | "wide" | "names" if !made => {
                failing::tables_are_refused(self).await
            }
            "types" => reading::types(self).await,
            "nulls" => reading::nulls(self).await,
            "empty" => reading::empty(self).await,
            "wide" => reading::wide(self).await,
            "names" => reading::names(self).await,
            "listing" => reading::listing(self).await,
            "filters" => reading::filters(self).await,
            "projection" => reading::projection(self).await,
            "limit" => reading::limit(self).await,
            "gathering" => gathering::gathering(self).await,
            "writes" => failing::writes(self).await,
            "cancel" => failing::cancel(self).await,
            "away" => failing::away(self).await,
            "broken" => failing::broken(self).await,
            "page" => Box::pin(page::page(self)).await,
            other => bail!("there is no case {other}"),
        }
    }
}

/// The columns of the standard table.
pub(crate) const STANDARD: [(&str, Kind); 7] = [
    ("id", Kind::Integer),
    ("name", Kind::Text),
    ("amount", Kind::Decimal),
    ("ratio", Kind::Double),
    ("flag", Kind::Truth),
    ("day", Kind::Date),
    ("at", Kind::Moment),
];

/// The rows of the standard table: texts that parsers and collations take for something else, and between
/// them numbers and times up to their bounds, and NULLs.
pub(crate) fn standard_rows() -> Vec<[Value; 7]> {
    let amounts = [Some("0.01"), Some("-0.01"), Some("1234567890.12"), Some("0.00"), None];
    let ratios = [Some("0.1"), Some("-0.1"), Some("1e300"), None, Some("-1e-300"), Some("1.5")];
    let days =
        [Some("2024-02-29"), Some("1000-01-01"), None, Some("9999-12-31"), Some("1970-01-01")];
    let moments = [
        Some("2024-03-10 05:00:00"),
        None,
        Some("1969-12-31 23:59:59.999999"),
        Some("9999-12-31 23:59:59.999999"),
    ];
    fn some(values: &[Option<&'static str>], row: usize) -> Option<&'static str> {
        values[row % values.len()]
    }
    let texts = nasty_texts().into_iter().map(Value::Text).chain([Value::Null, Value::Null]);
    let row = |(row, text): (usize, Value)| {
        [
            Value::Integer(i64::try_from(row).unwrap() - 3),
            text,
            some(&amounts, row).map_or(Value::Null, Value::Decimal),
            some(&ratios, row).map_or(Value::Null, Value::Double),
            if row % 3 == 2 { Value::Null } else { Value::Truth(row % 3 == 0) },
            some(&days, row).map_or(Value::Null, Value::Date),
            some(&moments, row).map_or(Value::Null, Value::Moment),
        ]
    };
    texts.enumerate().map(row).collect()
}

/// The standard table in a source's words.
pub(crate) fn standard<S: Source + ?Sized>(source: &S) -> Table {
    let column = |(name, kind): &(&str, Kind)| Column {
        name: (*name).to_owned(),
        declared: source.declared(*kind).to_owned(),
    };
    let literal = |value: &Value| match value {
        Value::Null => None,
        value => Some(source.literal(value)),
    };
    Table {
        name: "standard".to_owned(),
        columns: STANDARD.iter().map(column).collect(),
        rows: standard_rows().iter().map(|row| row.iter().map(literal).collect()).collect(),
    }
}
