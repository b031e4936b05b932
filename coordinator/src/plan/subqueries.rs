//! `IN` and `EXISTS` as the standard means them, where the planner's joins would answer otherwise.
//!
//! The planner makes joins of both, and a join knows no NULL: of `x NOT IN (1, NULL)` below an `OR` it says true where the
//! standard says unknown. So a condition is taken by its place:
//!
//! ```text
//! WHERE a AND x IN (q)             a row passes or not, and unknown does not: a join is right
//! WHERE a OR  x IN (q)             the same
//! WHERE a AND x NOT IN (q)         right as well, this join knows NULL; but not if q refers to its query
//! anywhere else                    CASE WHEN x IN (q) THEN true
//!                                       WHEN q has no rows THEN false
//!                                       WHEN x IS NULL OR q has a NULL THEN NULL
//!                                       ELSE false END
//! ```
//! What cannot be written so is refused. An `EXISTS` whose query always has a row is true.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue, not_impl_err};
use datafusion::functions_aggregate::count::count_all;
use datafusion::logical_expr::expr::{Case, Exists, InSubquery};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, FetchType, Filter, LogicalPlan, LogicalPlanBuilder, Operator,
    SkipType, lit, not, scalar_subquery, when,
};

/// Rewrites the conditions of a plan that was made from text and not optimized yet.
pub(super) fn three_valued(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Filter(Filter { predicate, input, .. }) => {
            let schema = merge_schema(&[input.as_ref()]);
            let predicate = predicate.transform_up(existing).data()?;
            let predicate = condition(predicate, Place::Passes { alone: true }, &schema)?;
            Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, input)?)))
        }
        // The planner takes such conditions in filters only.
        other => Ok(Transformed::no(other)),
    })
    .data()
}

/// Where a condition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Unknown counts as false; `alone` if no row passes without this condition.
    Passes { alone: bool },
    /// Unknown and false differ.
    Matters,
}

fn condition(expr: Expr, place: Place, schema: &DFSchema) -> Result<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let inner = match place {
                Place::Passes { .. } if op == Operator::Or => Place::Passes { alone: false },
                other => other,
            };
            let left = Box::new(condition(*left, inner, schema)?);
            let right = Box::new(condition(*right, inner, schema)?);
            Ok(Expr::BinaryExpr(BinaryExpr { left, op, right }))
        }
        Expr::Not(inner) => match *inner {
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                in_subquery(InSubquery { expr, subquery, negated: !negated }, place, schema)
            }
            other => condition(other, Place::Matters, schema).map(not),
        },
        Expr::InSubquery(membership) => in_subquery(membership, place, schema),
        // A branch is taken when its condition is true.
        Expr::Case(Case { expr: None, when_then_expr, else_expr }) => {
            let taken = Place::Passes { alone: false };
            let branch = |(when, then): (Box<Expr>, Box<Expr>)| {
                let when = Box::new(condition(*when, taken, schema)?);
                Ok((when, Box::new(condition(*then, Place::Matters, schema)?)))
            };
            let when_then_expr =
                when_then_expr.into_iter().map(branch).collect::<Result<Vec<_>>>()?;
            let other = |other: Box<Expr>| condition(*other, Place::Matters, schema).map(Box::new);
            let else_expr = else_expr.map(other).transpose()?;
            Ok(Expr::Case(Case { expr: None, when_then_expr, else_expr }))
        }
        other => other
            .map_children(|child| condition(child, Place::Matters, schema).map(Transformed::yes))
            .data(),
    }
}

fn in_subquery(membership: InSubquery, place: Place, schema: &DFSchema) -> Result<Expr> {
    let InSubquery { expr, subquery, negated } = membership;
    let is_correlated = !subquery.outer_ref_columns.is_empty();
    let join_is_right = match place {
        Place::Passes { alone } => !negated || (alone && !is_correlated),
        Place::Matters => false,
    };
    let columns = subquery.subquery.schema();
    let may_be_null = |expr: &Expr| expr.nullable(schema).unwrap_or(true);
    if join_is_right || !(may_be_null(&expr) || columns.fields().iter().any(|f| f.is_nullable())) {
        return Ok(Expr::InSubquery(InSubquery { expr, subquery, negated }));
    }
    if is_correlated {
        return not_impl_err!(
            "NOT IN, and IN whose NULL matters, with a subquery that refers to its query (write EXISTS)"
        );
    }
    let rows = LogicalPlanBuilder::from(Arc::clone(&subquery.subquery));
    let column = columns.columns().into_iter().next().map(Expr::Column);
    let column = column.unwrap_or_else(|| lit(ScalarValue::Null));
    let has_none = count(rows.clone())?.eq(lit(0_i64));
    let has_null = count(rows.filter(column.is_null())?)?.gt(lit(0_i64));
    let is_unknown = expr.as_ref().clone().is_null().or(has_null);
    when(Expr::InSubquery(InSubquery { expr, subquery, negated: false }), lit(!negated))
        .when(has_none, lit(negated))
        .when(is_unknown, lit(ScalarValue::Boolean(None)))
        .otherwise(lit(negated))
}

/// Returns how many rows the plan has, as an expression.
fn count(rows: LogicalPlanBuilder) -> Result<Expr> {
    let counted = rows.aggregate(Vec::<Expr>::new(), [count_all()])?.build()?;
    Ok(scalar_subquery(Arc::new(counted)))
}

/// Decides an `EXISTS` that a join would decide wrongly.
fn existing(expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::Exists(Exists { subquery, negated }) = &expr else {
        return Ok(Transformed::no(expr));
    };
    if always_has_a_row(&subquery.subquery) {
        return Ok(Transformed::yes(lit(!negated)));
    }
    if !subquery.outer_ref_columns.is_empty() && takes_rows_away(&subquery.subquery)? {
        return not_impl_err!("OFFSET or LIMIT 0 in an EXISTS that refers to its query");
    }
    Ok(Transformed::no(expr))
}

/// Whether the plan is an aggregate of all rows: of none as well.
fn always_has_a_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Sort(_) => {
            plan.inputs().into_iter().all(always_has_a_row)
        }
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        // All else may have no rows.
        _ => false,
    }
}

/// Whether the plan may have no row although its input has one.
fn takes_rows_away(plan: &LogicalPlan) -> Result<bool> {
    match plan {
        LogicalPlan::Limit(limit) => Ok(!matches!(
            (limit.get_skip_type()?, limit.get_fetch_type()?),
            (SkipType::Literal(0), FetchType::Literal(None | Some(1..)))
        )),
        LogicalPlan::Projection(projection) => takes_rows_away(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => takes_rows_away(&alias.input),
        // Below other nodes a limit is a part of what they compute.
        _ => Ok(false),
    }
}
