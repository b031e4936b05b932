//! The columns of a table: how each arrives, and what pushdown must know of it.

use meshwork_engine::remote::RemoteColumn;
use meshwork_engine::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::{Kind, Type};

use super::configuration::{Configuration, Unbounded, Unrepresentable};
use super::connection::Server;
use super::error;
use super::listing::get;
use super::snapshot::Snapshot;
use super::wire::Wire;

/// Columns with their domains resolved to base types. NOT NULL of a parent binds no child. A table without columns still
/// answers one row, so that it differs from a table that does not exist.
const COLUMNS: &str = "WITH RECURSIVE relation AS ( \
       SELECT c.oid, c.relkind::text AS kind, c.relhassubclass AS has_children FROM pg_catalog.pg_class c \
       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
       WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
     ), base AS ( \
       SELECT a.attnum, a.atttypid AS type, a.atttypmod AS modifier FROM pg_catalog.pg_attribute a \
       JOIN relation r ON a.attrelid = r.oid WHERE a.attnum > 0 AND NOT a.attisdropped \
       UNION ALL \
       SELECT b.attnum, t.typbasetype, \
         CASE WHEN t.typtypmod >= 0 THEN t.typtypmod ELSE b.modifier END \
       FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type WHERE t.typtype = 'd' \
     ) \
     SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), \
       a.attnotnull AND r.kind IN ('r', 'p', 'm') AND NOT r.has_children, t.oid, b.modifier, t.typname::text, \
       COALESCE(l.collisdeterministic, true), \
       l.oid = 100, \
       l.collprovider::text = 'c' AND l.collcollate IN ('C', 'POSIX'), \
       EXISTS (SELECT 1 FROM pg_catalog.pg_index i \
         WHERE i.indrelid = r.oid AND i.indisvalid AND i.indkey[0] = a.attnum), \
       t.typtype = 'c' OR t.typname = 'record', \
       l.collname::text \
     FROM relation r \
     LEFT JOIN pg_catalog.pg_attribute a \
       ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped \
     LEFT JOIN (base b JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype <> 'd') \
       ON b.attnum = a.attnum \
     LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation \
     ORDER BY a.attnum";

/// Which conditions on a column mean the same at the server and in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Meaning {
    /// Compared as numbers, truth values, dates: the same everywhere.
    Exact,
    /// Floats: the same but around zero and NaN.
    Float,
    /// Text whose equality is that of bytes; `ordered` if its order is too.
    Text {
        /// Whether `<` compares bytes.
        ordered: bool,
        /// Whether the server can hold any character.
        any_character: bool,
    },
    /// Text whose equality is coarser than that of bytes: trailing spaces, case, accents.
    CoarseText {
        /// Whether the server can hold any character.
        any_character: bool,
    },
    /// A UUID: the engine sees its canonical text.
    Uuid,
    /// Nothing is known but whether it is NULL.
    Opaque,
    /// A row in a column; not even whether it is NULL is known, as one of NULLs counts as NULL there.
    Composite,
}

/// As what the server sends a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sent {
    /// As what it is.
    Itself,
    /// As the text that the server writes.
    Text,
    /// A number as the nearest float.
    Double,
}

/// What the connector keeps in `RemoteColumn::detail`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Detail {
    /// How the value arrives.
    pub(super) wire: Wire,
    /// As what the server is asked to send it.
    pub(super) sent: Sent,
    /// What may be pushed.
    pub(super) meaning: Meaning,
    /// Whether values that Arrow cannot hold are read as NULL.
    pub(super) may_become_null: bool,
    /// Whether an index begins with it.
    pub(super) is_indexed: bool,
    /// The type without domain, for literals: `bpchar`, ...
    pub(super) base_type: String,
    /// The name of the collation of text.
    pub(super) collation: Option<String>,
}

impl Detail {
    /// Returns the detail of a column of this connector; one that the server computes has none but its type.
    pub(super) fn of(column: &RemoteColumn) -> Result<Self> {
        if column.detail.is_null() {
            return Ok(Self {
                wire: match column.is_total() {
                    true => Wire::of_total(&column.data_type)?,
                    false => Wire::of_computed(&column.data_type)?,
                },
                sent: Sent::Itself,
                meaning: Meaning::Opaque,
                may_become_null: false,
                is_indexed: false,
                base_type: String::new(),
                collation: None,
            });
        }
        Self::deserialize(&column.detail).map_err(|e| {
            Error::internal(format!("column \"{}\" is not one of PostgreSQL", column.name))
                .caused_by(&e)
        })
    }

    /// Returns the collation for people.
    pub(super) fn collation(&self) -> &str {
        self.collation.as_deref().unwrap_or("of the type")
    }
}

/// Returns the columns of a table, in order, or `None` if there is no such table.
pub(super) async fn of_table(
    server: &Server,
    snapshot: &Snapshot,
    schema: &str,
    table: &str,
) -> Result<Option<Vec<RemoteColumn>>> {
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&schema, Type::TEXT), (&table, Type::TEXT)];
    let rows = snapshot.lookup(COLUMNS, &parameters).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut columns = Vec::with_capacity(rows.len());
    for row in &rows {
        // The one row of a table without columns has no name.
        if let Some(name) = get::<Option<String>>(row, 0)? {
            columns.push(column(&server.configuration, snapshot, row, name)?);
        }
    }
    Ok(Some(columns))
}

/// Returns the columns of a query in the server's own words. Of a text nobody says by which collation it is compared.
///
/// # Errors
/// `Source` with what the server says of the query; `User` when it returns no columns, or two of one name.
pub(super) async fn of_query(
    server: &Server,
    snapshot: &Snapshot,
    statement: &str,
) -> Result<Vec<RemoteColumn>> {
    let wrong = |message: String| Error::user("INVALID_QUERY", message);
    let described = snapshot.describe(statement).await.map_err(error::of_query)?;
    let mut columns: Vec<RemoteColumn> = Vec::with_capacity(described.columns().len());
    for column in described.columns() {
        let (name, type_name) = (column.name().to_owned(), column.type_().name().to_owned());
        if columns.iter().any(|other| other.name == name) {
            let message = format!("the query for the source has two columns named \"{name}\"");
            return Err(wrong(message).with_hint("Give one of them another name with AS."));
        }
        let arrives = Arrives::of(
            &server.configuration,
            column.type_().oid(),
            column.type_modifier(),
            &type_name,
        );
        let meaning = match column.type_().kind() {
            Kind::Composite(_) => Meaning::Composite,
            _ if arrives.wire == Wire::Text => Meaning::Opaque,
            _ => arrives.meaning(&type_name, Collation::UNKNOWN),
        };
        let detail = arrives.detail(&server.configuration, meaning, type_name.clone());
        columns.push(RemoteColumn {
            name,
            data_type: detail.wire.data_type(),
            nullable: true,
            remote_type: type_name,
            detail: to_value(&detail)?,
        });
    }
    match columns.is_empty() {
        true => Err(wrong("the query for the source returns no columns".to_owned())),
        false => Ok(columns),
    }
}

/// Returns a column that is not there yet, of a type by its number and modifier.
pub(super) fn to_be(
    name: &str,
    nullable: bool,
    (oid, modifier): (u32, i32),
    base_type: &str,
    remote_type: String,
) -> Result<RemoteColumn> {
    let wire = Wire::of_type(oid, modifier)
        .ok_or_else(|| Error::not_supported(format!("column \"{name}\" of type {remote_type}")))?;
    let detail = Detail {
        wire,
        sent: Sent::Itself,
        meaning: Meaning::Opaque,
        may_become_null: false,
        is_indexed: false,
        base_type: base_type.to_owned(),
        collation: None,
    };
    Ok(RemoteColumn {
        name: name.to_owned(),
        data_type: detail.wire.data_type(),
        nullable,
        remote_type,
        detail: to_value(&detail)?,
    })
}

fn to_value(detail: &Detail) -> Result<Value> {
    serde_json::to_value(detail)
        .map_err(|e| Error::internal("a column's detail cannot be kept").caused_by(&e))
}

/// How a type arrives.
struct Arrives {
    wire: Wire,
    sent: Sent,
    /// Whether the server's values are of a wider type than the one here.
    is_narrowed: bool,
}

impl Arrives {
    fn of(configuration: &Configuration, oid: u32, modifier: i32, base_type: &str) -> Self {
        let found = Wire::of_type(oid, modifier)
            .filter(|wire| configuration.arrays_as_lists || !matches!(wire, Wire::List(_)));
        let narrowed = |wire, sent| Self { wire, sent, is_narrowed: true };
        match (found, base_type, configuration.unbounded) {
            (Some(wire), "bpchar", _) => Self { wire, sent: Sent::Text, is_narrowed: false },
            (Some(wire), ..) => Self { wire, sent: Sent::Itself, is_narrowed: false },
            (None, "numeric", Unbounded::Double) => narrowed(Wire::Float64, Sent::Double),
            (None, "numeric", Unbounded::Decimal { precision, scale }) => {
                match Wire::decimal(precision, scale) {
                    Some(wire) => narrowed(wire, Sent::Itself),
                    None => narrowed(Wire::Text, Sent::Text),
                }
            }
            (None, ..) => narrowed(Wire::Text, Sent::Text),
        }
    }

    /// Returns which conditions mean the same on both sides.
    fn meaning(&self, base_type: &str, collation: Collation) -> Meaning {
        match base_type {
            "citext" => meaning(base_type, &self.wire, collation),
            // The server compares something else than what the engine sees.
            _ if self.is_narrowed => Meaning::Opaque,
            _ => meaning(base_type, &self.wire, collation),
        }
    }

    fn detail(self, configuration: &Configuration, meaning: Meaning, base_type: String) -> Detail {
        let may_become_null = configuration.unrepresentable == Unrepresentable::Null
            && self.wire.may_be_unrepresentable();
        Detail {
            wire: self.wire,
            sent: self.sent,
            meaning,
            may_become_null,
            is_indexed: false,
            base_type,
            collation: None,
        }
    }
}

fn column(
    configuration: &Configuration,
    snapshot: &Snapshot,
    row: &Row,
    name: String,
) -> Result<RemoteColumn> {
    let base_type: String = get(row, 5)?;
    let arrives = Arrives::of(configuration, get(row, 3)?, get(row, 4)?, &base_type);
    let collation = Collation {
        is_deterministic: get(row, 6)?,
        orders_bytes: snapshot.stores_utf8
            && (get::<Option<bool>>(row, 8)?.unwrap_or(false)
                || (get::<Option<bool>>(row, 7)?.unwrap_or(false)
                    && snapshot.database_orders_bytes)),
        stores_utf8: snapshot.stores_utf8,
    };
    let meaning = match get(row, 10)? {
        true => Meaning::Composite,
        false => arrives.meaning(&base_type, collation),
    };
    let detail = arrives.detail(configuration, meaning, base_type);
    let detail = Detail { is_indexed: get(row, 9)?, collation: get(row, 11)?, ..detail };
    Ok(RemoteColumn {
        name,
        data_type: detail.wire.data_type(),
        nullable: detail.may_become_null || !get::<bool>(row, 2)?,
        remote_type: get(row, 1)?,
        detail: to_value(&detail)?,
    })
}

/// What a collation does to comparisons.
#[derive(Debug, Clone, Copy)]
struct Collation {
    is_deterministic: bool,
    orders_bytes: bool,
    stores_utf8: bool,
}

impl Collation {
    /// Nothing may be compared by it.
    const UNKNOWN: Self = Self { is_deterministic: false, orders_bytes: false, stores_utf8: false };
}

fn meaning(base_type: &str, wire: &Wire, collation: Collation) -> Meaning {
    let any_character = collation.stores_utf8;
    match (base_type, wire) {
        ("bpchar" | "citext", _) => Meaning::CoarseText { any_character },
        (_, Wire::Text) if !collation.is_deterministic => Meaning::CoarseText { any_character },
        (_, Wire::Text) => Meaning::Text { ordered: collation.orders_bytes, any_character },
        (_, Wire::Float32 | Wire::Float64) => Meaning::Float,
        (_, Wire::Uuid) => Meaning::Uuid,
        (
            _,
            Wire::Bool
            | Wire::Int16
            | Wire::Int32
            | Wire::Int64
            | Wire::Count
            | Wire::Oid
            | Wire::Decimal128 { .. }
            | Wire::Decimal256 { .. }
            | Wire::Bytes
            | Wire::Date
            | Wire::Timestamp
            | Wire::Instant,
        ) => Meaning::Exact,
        (_, Wire::Time | Wire::Interval | Wire::PaddedText | Wire::List(_)) => Meaning::Opaque,
    }
}
