//! Whatever the order, the rows are the same: nasty groups of joins in all their orders.

use std::sync::Arc;

use datafusion::arrow::array::{Int64Array, RecordBatch};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{DataFrame, SessionContext};

use super::graph::{Graph, Tree};

/// Classes over three relations, over two columns of one relation, conditions on one, two and three relations, NULLs.
const QUERIES: [&str; 6] = [
    "SELECT * FROM r, s, t WHERE r.a = s.a AND s.b = t.b",
    "SELECT * FROM r, s, t WHERE r.a = s.a AND s.a = t.a",
    "SELECT * FROM r, s, t WHERE r.a = s.a AND r.b = s.a AND s.b = t.b",
    "SELECT r.b FROM r, s, t WHERE r.a = s.a AND s.b = t.b AND r.b + s.b > t.a",
    "SELECT t.a FROM r JOIN s ON r.a = s.a AND r.b < s.b JOIN t ON s.b = t.b AND random() < 2",
    "SELECT * FROM r, s, t, r AS u WHERE r.a = s.a AND s.b = t.b AND t.a = u.b AND u.a = r.a",
];

#[tokio::test]
async fn every_order_returns_the_same_rows() {
    let context = context();
    for sql in QUERIES {
        let plan = optimized(&context, sql).await;
        let expected = rows(&context, plan.clone()).await;
        assert!(expected.len() > 4, "{sql} returns nothing");
        let (top, graph) = graph_in(&plan);
        let trees = trees((0..graph.relations().len()).collect());
        assert!(trees.len() >= 3);
        for tree in trees {
            let built = graph.built(&tree).unwrap();
            let whole = plan.clone().transform_down(|node| match node == top {
                true => Ok(Transformed::complete(built.clone())),
                false => Ok(Transformed::no(node)),
            });
            let found = rows(&context, whole.unwrap().data).await;
            assert_eq!(found, expected, "{sql}\n{tree:?}\n{}", built.display_indent());
        }
    }
}

/// Returns all trees over these relations; which side is left does not matter.
fn trees(relations: Vec<usize>) -> Vec<Tree> {
    if let [only] = relations[..] {
        return vec![Tree::Relation(only)];
    }
    let mut found = Vec::new();
    // The first relation is always on the left.
    for mask in 0..(1_usize << (relations.len() - 1)) - 1 {
        let is_left = |place: usize| place == 0 || mask & (1 << (place - 1)) != 0;
        let side = |left: bool| -> Vec<usize> {
            let places = (0..relations.len()).filter(|place| is_left(*place) == left);
            places.map(|place| relations[place]).collect()
        };
        for left in trees(side(true)) {
            for right in trees(side(false)) {
                found.push(Tree::Join(Arc::new(left.clone()), Arc::new(right)));
            }
        }
    }
    found
}

/// Returns the top of the first group of joins in a plan.
fn graph_in(plan: &LogicalPlan) -> (LogicalPlan, Graph) {
    let mut found = None;
    plan.apply(|node| {
        found = Graph::of(node)?.map(|graph| (node.clone(), graph));
        Ok(match found {
            Some(_) => TreeNodeRecursion::Stop,
            None => TreeNodeRecursion::Continue,
        })
    })
    .unwrap();
    found.unwrap_or_else(|| panic!("no joins in\n{}", plan.display_indent()))
}

async fn optimized(context: &SessionContext, sql: &str) -> LogicalPlan {
    let state = context.state();
    state.optimize(&state.create_logical_plan(sql).await.unwrap()).unwrap()
}

async fn rows(context: &SessionContext, plan: LogicalPlan) -> Vec<String> {
    let batches = DataFrame::new(context.state(), plan).collect().await.unwrap();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
    rows.sort();
    rows
}

fn context() -> SessionContext {
    let context = SessionContext::new();
    for (name, shift) in [("r", 0), ("s", 1), ("t", 2)] {
        let a = (0..12).map(|n| (n % 5 != 4).then_some((n + shift) % 4));
        let b = (0..12).map(|n| Some((n * 7 + shift) % 3));
        let columns = [("a", a.collect::<Int64Array>()), ("b", b.collect::<Int64Array>())];
        let columns = columns.map(|(name, values)| (name, Arc::new(values) as _));
        context.register_batch(name, RecordBatch::try_from_iter(columns).unwrap()).unwrap();
    }
    context
}
