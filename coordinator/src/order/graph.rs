//! A group of inner joins as relations, equalities between their columns, and other conditions.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchemaRef, ExprSchema, NullEquality, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, Filter, Join, JoinConstraint, JoinType, LogicalPlan, Operator, Projection,
};

/// With more relations there are too many orders to look at.
const RELATIONS_MAX: usize = 9;
/// With two relations there is one order.
const RELATIONS_MIN: usize = 3;

/// Some relations of a graph: bit `i` stands for relation `i`.
pub(super) type Set = u32;

/// An order: which two sides are joined, and what these are.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    /// A relation.
    Relation(usize),
    /// An inner join of two sides.
    Join(Arc<Tree>, Arc<Tree>),
}

/// Columns of several relations that are equal in every row of the result.
#[derive(Debug, Default)]
pub(super) struct Class {
    /// Each with its relation.
    pub(super) members: Vec<(usize, Column)>,
    /// Whether a source could compare them: numbers and dates.
    pub(super) is_plain: bool,
}

/// What inner joins that stand next to each other say together.
#[derive(Debug)]
pub(super) struct Graph {
    relations: Vec<LogicalPlan>,
    classes: Vec<Class>,
    /// Conditions that are no equality of two columns, each with the relations that it needs.
    others: Vec<(Set, Expr)>,
    written: Tree,
    schema: DFSchemaRef,
}

impl Graph {
    /// Returns the graph of the joins at whose top `plan` is; `None` if there is nothing to choose.
    pub(super) fn of(plan: &LogicalPlan) -> Result<Option<Self>> {
        if join_of(plan).is_none() {
            return Ok(None);
        }
        let mut found = Found::default();
        let Some(written) = found.add(plan) else { return Ok(None) };
        if !(RELATIONS_MIN..=RELATIONS_MAX).contains(&found.relations.len()) {
            return Ok(None);
        }
        let Found { relations, conditions } = found;
        let schema = Arc::clone(plan.schema());
        let mut graph =
            Self { relations, classes: Vec::new(), others: Vec::new(), written, schema };
        for condition in conditions {
            if graph.add(condition).is_none() {
                return Ok(None);
            }
        }
        Ok(Some(graph))
    }

    pub(super) fn relations(&self) -> &[LogicalPlan] {
        &self.relations
    }

    pub(super) fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The order of the plan as it is.
    pub(super) fn written(&self) -> &Tree {
        &self.written
    }

    /// Notes a condition; `None` if it is about something else than the relations.
    fn add(&mut self, condition: Expr) -> Option<()> {
        if let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = &condition
            && let (Expr::Column(left), Expr::Column(right)) = (left.as_ref(), right.as_ref())
        {
            let (left, right) = (self.placed(left)?, self.placed(right)?);
            if left.0 != right.0 && self.data_type(&left) == self.data_type(&right) {
                self.equate(left, right);
                return Some(());
            }
        }
        let columns = condition.column_refs().into_iter();
        let places = columns.map(|column| Some(1 << self.placed(column)?.0));
        let places: Option<BTreeSet<Set>> = places.collect();
        let needed = places?.into_iter().fold(0, |all, place| all | place);
        // A condition without columns has no place of its own.
        (needed != 0).then(|| self.others.push((needed, condition)))
    }

    /// Returns a column with its relation.
    fn placed(&self, column: &Column) -> Option<(usize, Column)> {
        let has = |relation: &LogicalPlan| relation.schema().has_column(column);
        let mut places = self.relations.iter().enumerate().filter(|(_, relation)| has(relation));
        match (places.next(), places.next()) {
            (Some((place, _)), None) => Some((place, column.clone())),
            _ => None,
        }
    }

    fn data_type(&self, (relation, column): &(usize, Column)) -> Option<&DataType> {
        let field = self.relations.get(*relation)?.schema().field_from_column(column).ok()?;
        Some(field.data_type())
    }

    fn equate(&mut self, left: (usize, Column), right: (usize, Column)) {
        let is_plain = self.data_type(&left).is_some_and(is_plain);
        let mut joined = Class { members: vec![left, right], is_plain };
        let (touched, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.classes)
            .into_iter()
            .partition(|class| class.members.iter().any(|m| joined.members.contains(m)));
        self.classes = others;
        for member in touched.into_iter().flat_map(|class| class.members) {
            if !joined.members.contains(&member) {
                joined.members.push(member);
            }
        }
        self.classes.push(joined);
    }

    /// Returns the plan of an order, with the columns of the original.
    pub(super) fn built(&self, tree: &Tree) -> Result<LogicalPlan> {
        let (plan, _set) = self.joined(tree)?;
        let columns = self.schema.columns().into_iter().map(Expr::Column).collect();
        let input = Arc::new(plan);
        let projection = Projection::try_new_with_schema(columns, input, Arc::clone(&self.schema))?;
        Ok(LogicalPlan::Projection(projection))
    }

    fn joined(&self, tree: &Tree) -> Result<(LogicalPlan, Set)> {
        let (left, right) = match tree {
            Tree::Relation(index) => return Ok((self.relation(*index)?, 1 << index)),
            Tree::Join(left, right) => (left, right),
        };
        let ((left, left_set), (right, right_set)) = (self.joined(left)?, self.joined(right)?);
        let on = self.equalities(left_set, right_set);
        let both = left_set | right_set;
        let is_new = |needed: Set| {
            needed & !both == 0 && needed & !left_set != 0 && needed & !right_set != 0
        };
        let others = self.others.iter().filter(|(needed, _)| is_new(*needed));
        let filter = conjunction(others.map(|(_, condition)| condition.clone()));
        let join = Join::try_new(
            Arc::new(left),
            Arc::new(right),
            on,
            filter,
            JoinType::Inner,
            JoinConstraint::On,
            NullEquality::NullEqualsNothing,
            false,
        )?;
        Ok((LogicalPlan::Join(join), both))
    }

    /// Returns a relation with the conditions that are about it alone.
    fn relation(&self, index: usize) -> Result<LogicalPlan> {
        let relation = self.relations.get(index).cloned().unwrap_or_default();
        let own = self.others.iter().filter(|(needed, _)| *needed == 1 << index);
        let mut conditions: Vec<Expr> = own.map(|(_, condition)| condition.clone()).collect();
        for class in &self.classes {
            let members = class.members.iter().filter(|(of, _)| *of == index);
            let members: Vec<&Column> = members.map(|(_, column)| column).collect();
            let equal = members.windows(2).filter_map(|pair| match pair {
                [one, other] => {
                    Some(Expr::Column((*one).clone()).eq(Expr::Column((*other).clone())))
                }
                _ => None,
            });
            conditions.extend(equal);
        }
        Ok(match conjunction(conditions) {
            Some(condition) => LogicalPlan::Filter(Filter::try_new(condition, Arc::new(relation))?),
            None => relation,
        })
    }

    /// Returns an equality for each class that both sides have a member of; within each side its members are equal already.
    fn equalities(&self, left: Set, right: Set) -> Vec<(Expr, Expr)> {
        let member = |class: &Class, of: Set| {
            let found = class.members.iter().find(|(relation, _)| of & (1 << relation) != 0);
            found.map(|(_, column)| Expr::Column(column.clone()))
        };
        let pair = |class: &Class| Some((member(class, left)?, member(class, right)?));
        self.classes.iter().filter_map(pair).collect()
    }
}

/// The relations and conditions of a tree of joins.
#[derive(Default)]
struct Found {
    relations: Vec<LogicalPlan>,
    conditions: Vec<Expr>,
}

impl Found {
    /// Adds a plan: its relations if it is an inner join, or itself. `None` if a name stands for two columns.
    fn add(&mut self, plan: &LogicalPlan) -> Option<Tree> {
        let Some(join) = join_of(plan) else {
            let names: BTreeSet<Column> = plan.schema().columns().into_iter().collect();
            let is_known =
                |other: &LogicalPlan| names.iter().any(|name| other.schema().has_column(name));
            if self.relations.iter().any(is_known) {
                return None;
            }
            self.relations.push(plan.clone());
            return Some(Tree::Relation(self.relations.len() - 1));
        };
        let (left, right) = (self.add(&join.left)?, self.add(&join.right)?);
        for (left, right) in &join.on {
            self.conditions.push(left.clone().eq(right.clone()));
        }
        let filter = join.filter.iter().flat_map(split_conjunction);
        self.conditions.extend(filter.cloned());
        Some(Tree::Join(Arc::new(left), Arc::new(right)))
    }
}

/// Returns the inner join that a plan is, seen through projections that only choose columns.
fn join_of(plan: &LogicalPlan) -> Option<&Join> {
    match plan {
        LogicalPlan::Join(join)
            if join.join_type == JoinType::Inner
                && join.null_equality == NullEquality::NullEqualsNothing =>
        {
            Some(join)
        }
        LogicalPlan::Projection(projection)
            if projection.expr.iter().all(|expr| matches!(expr, Expr::Column(_))) =>
        {
            join_of(&projection.input)
        }
        // Whatever else there is becomes a relation.
        _ => None,
    }
}

/// Whether equality of such values is the same everywhere.
fn is_plain(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_decimal() || *data_type == DataType::Date32
}
