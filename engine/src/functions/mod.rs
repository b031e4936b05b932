//! SQL semantics of our own, on top of DataFusion's functions: whole numbers never wrap, and doubles and dates are compared
//! as what they are.
//!
//! DataFusion computes integer `+ - *`, unary minus and `sum` modulo two to the width of the type, and gives decimals of
//! more digits than their type has. Here they are errors with the code `NUMERIC_OVERFLOW`. Coordinator and workers must
//! [`register`] the same functions, because plans name them. Nothing here may change a result that fits its type, nor a
//! column's name.
//!
//! ```text
//! a + 1            type_coercion          CAST(a AS Int64) + 1
//!                  check_overflow         checked_add(CAST(a AS Int64), 1)      overflow.rs, arithmetic.rs
//! sum(a)           by name in registry    our sum, exact in 128 bits            sum/
//! min(a), max(a)   by name in registry    floats in one order, in groups too    extremes.rs
//! a = b            compare_alike          CAST(a AS Float64) = b                compared.rs
//! ```
//!
//! Division and modulo by zero, `abs` and `CAST` are errors in DataFusion already; the tests hold it to that.
//! Not covered: arithmetic in arguments of table functions, which DataFusion folds before any rule runs.

mod arithmetic;
mod compared;
mod extremes;
mod overflow;
mod sum;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::functions_aggregate::min_max::{Max, Min};
use datafusion::logical_expr::AggregateUDF;
use datafusion::optimizer::AnalyzerRule;

pub use arithmetic::plain_operator;
pub use overflow::with_plain_operators;

use arithmetic::checked_functions;
use compared::CompareAlike;
use extremes::Extreme;
use overflow::CheckOverflow;
use sum::ExactSum;

/// Returns the builder with our functions and rules in it; call it after `with_default_features`, which would
/// put DataFusion's `sum` back. Calling it again changes nothing.
pub fn register(mut builder: SessionStateBuilder) -> SessionStateBuilder {
    builder.scalar_functions().get_or_insert_default().extend(checked_functions());
    let sum = Arc::new(AggregateUDF::new_from_impl(ExactSum::default()));
    let min = Arc::new(AggregateUDF::new_from_impl(Extreme::<Min>::default()));
    let max = Arc::new(AggregateUDF::new_from_impl(Extreme::<Max>::default()));
    builder.aggregate_functions().get_or_insert_default().extend([sum, min, max]);
    if has_rule(&mut builder) {
        return builder;
    }
    let mut rules = builder.analyzer().take().unwrap_or_default().rules;
    rules.insert(0, Arc::new(CompareAlike));
    builder.with_analyzer_rules(rules).with_analyzer_rule(Arc::new(CheckOverflow))
}

/// Whether the rule is in the builder, as an addition or with the analyzer of an earlier session.
fn has_rule(builder: &mut SessionStateBuilder) -> bool {
    let ours = |rule: &Arc<dyn AnalyzerRule + Send + Sync>| rule.name() == CheckOverflow::NAME;
    let added = builder.analyzer_rules().as_ref().is_some_and(|rules| rules.iter().any(ours));
    added || builder.analyzer().as_ref().is_some_and(|analyzer| analyzer.rules.iter().any(ours))
}
