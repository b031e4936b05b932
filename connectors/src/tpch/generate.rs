//! The eight tables and the generator of each.

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow,
    SupplierArrow,
};

/// The batches of one part of a table.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// On average, as the specification says.
const LINES_PER_ORDER: f64 = 4.0;
const SUPPLIERS_PER_PART: f64 = 4.0;
/// A third of the customers has none.
const CUSTOMERS_WITH_ORDERS: f64 = 2.0 / 3.0;

/// A table of TPC-H.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Customer,
    Lineitem,
    Nation,
    Orders,
    Part,
    Partsupp,
    Region,
    Supplier,
}

/// Which part of a table to generate, counted from one, and how.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub scale: f64,
    pub part: i32,
    pub n_parts: i32,
    pub batch_size: usize,
}

impl Table {
    /// All tables, sorted by name.
    pub const ALL: [Self; 8] = [
        Self::Customer,
        Self::Lineitem,
        Self::Nation,
        Self::Orders,
        Self::Part,
        Self::Partsupp,
        Self::Region,
        Self::Supplier,
    ];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Lineitem => "lineitem",
            Self::Nation => "nation",
            Self::Orders => "orders",
            Self::Part => "part",
            Self::Partsupp => "partsupp",
            Self::Region => "region",
            Self::Supplier => "supplier",
        }
    }

    pub fn schema(self) -> SchemaRef {
        match self {
            Self::Customer => CustomerArrow::schema_ref(),
            Self::Lineitem => LineItemArrow::schema_ref(),
            Self::Nation => NationArrow::schema_ref(),
            Self::Orders => OrderArrow::schema_ref(),
            Self::Part => PartArrow::schema_ref(),
            Self::Partsupp => PartSuppArrow::schema_ref(),
            Self::Region => RegionArrow::schema_ref(),
            Self::Supplier => SupplierArrow::schema_ref(),
        }
    }

    /// Returns how many units the generator can cut at (orders for line items, parts for their suppliers);
    /// `None` for the tables of fixed size, whose generators know no parts.
    pub fn n_units(self, scale: f64) -> Option<i64> {
        match self {
            Self::Customer => Some(CustomerGenerator::calculate_row_count(scale, 1, 1)),
            Self::Lineitem | Self::Orders => Some(OrderGenerator::calculate_row_count(scale, 1, 1)),
            Self::Part | Self::Partsupp => Some(PartGenerator::calculate_row_count(scale, 1, 1)),
            Self::Supplier => Some(SupplierGenerator::calculate_row_count(scale, 1, 1)),
            Self::Nation | Self::Region => None,
        }
    }

    /// Returns how many rows the table has: exactly, but for line items, of which an order has 1 to 7.
    pub fn n_rows(self, scale: f64) -> f64 {
        let units = self.n_units(scale).map(|units| units as f64);
        match self {
            Self::Lineitem => units.unwrap_or_default() * LINES_PER_ORDER,
            Self::Partsupp => units.unwrap_or_default() * SUPPLIERS_PER_PART,
            Self::Customer | Self::Orders | Self::Part | Self::Supplier => {
                units.unwrap_or_default()
            }
            Self::Nation => 25.0,
            Self::Region => 5.0,
        }
    }

    /// Returns how many values a key of the table has; `None` for other columns.
    pub fn n_distinct(self, column: &str, scale: f64) -> Option<f64> {
        let (_table, key) = column.split_once('_')?;
        let referred = match key {
            "custkey" if self == Self::Orders => {
                return Some(Self::Customer.n_rows(scale) * CUSTOMERS_WITH_ORDERS);
            }
            "custkey" => Self::Customer,
            "orderkey" => Self::Orders,
            "partkey" => Self::Part,
            "suppkey" => Self::Supplier,
            "nationkey" => Self::Nation,
            "regionkey" => Self::Region,
            _ => return None,
        };
        Some(referred.n_rows(scale))
    }

    /// Returns the rows of one part. The first call in a process computes the generator's text pool, which
    /// takes a moment and some 300 MB.
    pub fn batches(self, wanted: Part) -> Batches {
        let Part { scale, part, n_parts, batch_size } = wanted;
        match self {
            Self::Customer => Box::new(
                CustomerArrow::new(CustomerGenerator::new(scale, part, n_parts))
                    .with_batch_size(batch_size),
            ),
            Self::Lineitem => Box::new(
                LineItemArrow::new(LineItemGenerator::new(scale, part, n_parts))
                    .with_batch_size(batch_size),
            ),
            Self::Nation => Box::new(
                NationArrow::new(NationGenerator::new(scale, part, n_parts))
                    .with_batch_size(batch_size),
            ),
            Self::Orders => Box::new(
                OrderArrow::new(OrderGenerator::new(scale, part, n_parts))
                    .with_batch_size(batch_size),
            ),
            Self::Part => Box::new(
                PartArrow::new(PartGenerator::new(scale, part, n_parts))
                    .with_batch_size(batch_size),
            ),
            Self::Partsupp => Box::new(
                PartSuppArrow::new(PartSuppGenerator::new(scale, part, n_parts))
                    .with_batch_size(batch_size),
            ),
            Self::Region => Box::new(
                RegionArrow::new(RegionGenerator::new(scale, part, n_parts))
                    .with_batch_size(batch_size),
            ),
            Self::Supplier => Box::new(
                SupplierArrow::new(SupplierGenerator::new(scale, part, n_parts))
                    .with_batch_size(batch_size),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, Table};
    use datafusion::arrow::compute::concat_batches;
    use datafusion::arrow::record_batch::RecordBatch;

    fn rows(table: Table, n_parts: i32) -> Vec<RecordBatch> {
        let part = |part| Part { scale: 0.001, part, n_parts, batch_size: 64 };
        (1..=n_parts).flat_map(|i| table.batches(part(i))).map(|batch| batch.unwrap()).collect()
    }

    #[test]
    fn rows_are_counted_without_making_them() {
        for table in Table::ALL {
            let part = Part { scale: 0.01, part: 1, n_parts: 1, batch_size: 8192 };
            let n_rows: usize = table.batches(part).map(|batch| batch.unwrap().num_rows()).sum();
            let (counted, n_rows) = (table.n_rows(0.01), n_rows as f64);
            let is_right = match table {
                Table::Lineitem => (counted / n_rows - 1.0).abs() < 0.01,
                _ => counted == n_rows,
            };
            assert!(is_right, "{table:?}: {counted} instead of {n_rows}");
        }
    }

    #[test]
    fn parts_together_are_the_table() {
        for table in Table::ALL.into_iter().filter(|table| table.n_units(0.001).is_some()) {
            let concat =
                |batches: &[RecordBatch]| concat_batches(&table.schema(), batches).unwrap();
            assert_eq!(concat(&rows(table, 1)), concat(&rows(table, 3)), "{table:?}");
        }
    }
}
