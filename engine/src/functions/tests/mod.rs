//! What SQL users see of our functions, and that nothing else changed: DataFusion itself is the oracle.

mod support;

use std::sync::Arc;

use datafusion::arrow::array::{Decimal128Array, Int64Array};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_proto::bytes::{physical_plan_from_bytes, physical_plan_to_bytes};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{register, with_plain_operators};
use crate::{Error, ErrorKind};
use support::{
    GREATEST, batch, edge_value, numbers, one_row, only_integer, ours, overflows, plain, pretty,
    register_rows, run, shown,
};

#[tokio::test]
async fn decimal_operators_fail_where_digits_would_be_lost() {
    let ours = ours();
    let greatest = "CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0))";
    for sql in [
        format!("SELECT {greatest} + 1"),
        format!("SELECT -x - 5 FROM (VALUES ({greatest})) t(x)"),
        format!("SELECT x + y FROM (VALUES ({greatest}, 1)) t(x, y)"),
        "SELECT CAST(5 AS DECIMAL(38, 37)) * 3".to_owned(),
        "SELECT CAST('1.5' AS DECIMAL(38, 37)) + x FROM (VALUES (10)) t(x)".to_owned(),
    ] {
        overflows(&ours, &sql).await;
    }
    for (sql, expected) in [
        (format!("SELECT {greatest} - 1 > 0"), "true"),
        (format!("{} FROM (VALUES (4)) t(x)", "SELECT CAST('2.5' AS DECIMAL(38, 2)) * x"), "10.00"),
    ] {
        let text = shown(&ours, &sql).await.unwrap();
        assert!(text.contains(expected), "{sql}: {text}");
    }
}

#[tokio::test]
async fn integer_operators_fail_where_they_would_wrap() {
    let ours = ours();
    for sql in [
        // Constants.
        "SELECT 9223372036854775807 + 1",
        "SELECT -9223372036854775808 - 1",
        "SELECT 9223372036854775807 * 2",
        "SELECT x + 1 FROM (SELECT 9223372036854775807 AS x)",
        "SELECT * FROM (VALUES (9223372036854775807 + 1))",
        // Columns of every width.
        "SELECT greatest_one + 1 FROM edge",
        "SELECT least_one - 1 FROM edge",
        "SELECT greatest_one * greatest_one FROM edge",
        "SELECT -least_one FROM edge",
        "SELECT -least_tiny FROM edge",
        "SELECT int_one + int_one FROM edge",
        "SELECT least_tiny + least_tiny FROM edge",
        "SELECT unsigned_one - unsigned_two FROM edge",
        "SELECT max(greatest_one) + 1 FROM edge",
        // Every place for an expression.
        "SELECT 1 FROM edge WHERE greatest_one + 1 > 0",
        "SELECT count(*) FROM edge GROUP BY greatest_one + 1",
        "SELECT max(greatest_one + 1) FROM edge",
        "SELECT g, count(*) FROM t GROUP BY g HAVING max(a) * 9223372036854775807 > 0",
        "SELECT a FROM t ORDER BY a * 9223372036854775807",
        "SELECT sum(a) OVER (ORDER BY a * 9223372036854775807) FROM t",
        "SELECT 1 FROM t JOIN edge ON t.a + edge.greatest_one = edge.least_one",
        "SELECT 1 FROM t JOIN edge ON t.a + edge.greatest_one > t.g + edge.int_one",
        "SELECT 1 FROM t WHERE a IN (SELECT greatest_one + 3 FROM edge)",
        "SELECT (SELECT greatest_one + 3 FROM edge) FROM t",
        "SELECT 1 FROM t WHERE EXISTS (SELECT 1 FROM edge WHERE greatest_one + t.a > 0)",
        "SELECT CASE WHEN a > 0 THEN a * 9223372036854775807 END FROM t",
        "SELECT abs(greatest_one + 1) FROM edge",
        "SELECT CAST(greatest_one + 1 AS DOUBLE) FROM edge",
        "WITH RECURSIVE n AS (SELECT 4611686018427387904 AS x UNION ALL SELECT x * 2 FROM n \
         WHERE x > 0) SELECT * FROM n",
    ] {
        overflows(&ours, sql).await;
    }
}

#[tokio::test]
async fn lambdas_are_checked() {
    let ours = ours();
    run(&ours, "SET datafusion.sql_parser.dialect = 'duckdb'").await.unwrap();
    run(&ours, "SELECT array_transform([1, 2], x -> x + 1)").await.unwrap();
    overflows(&ours, "SELECT array_transform([1, 9223372036854775807], x -> x + 1)").await;
}

#[tokio::test]
async fn a_sum_fails_exactly_when_its_value_does_not_fit() {
    let ours = ours();
    for sql in [
        "SELECT sum(x) FROM (VALUES (9223372036854775807), (1)) AS v(x)",
        "SELECT sum(x) FROM (VALUES (-9223372036854775808), (-1)) AS v(x)",
        "SELECT g, sum(big) FROM wide GROUP BY g",
        "SELECT sum(big) FILTER (WHERE g = 1) FROM wide",
        "SELECT g, sum(big) FILTER (WHERE g = 1) FROM wide GROUP BY g",
        "SELECT sum(DISTINCT big) FROM wide WHERE big > 0",
        "SELECT g, sum(DISTINCT big), count(DISTINCT id) FROM wide WHERE big > 0 GROUP BY g",
        "SELECT sum(big) OVER (ORDER BY id) FROM wide",
        "SELECT sum(big) OVER (ORDER BY id ROWS 1 PRECEDING) FROM wide",
        "SELECT sum(DISTINCT big) OVER (ORDER BY id ROWS 1 PRECEDING) FROM wide",
        "SELECT sum(big) OVER (PARTITION BY g) FROM wide",
        "SELECT sum(unsigned) FROM wide",
        "SELECT sum(decimal) FROM wide",
        "SELECT g, sum(decimal) FROM wide GROUP BY g",
        "SELECT sum(duration) FROM wide",
        "SELECT 1 FROM wide GROUP BY g HAVING sum(big) > 0",
        "SELECT sum(big) FROM wide GROUP BY GROUPING SETS ((g), ())",
    ] {
        overflows(&ours, sql).await;
    }
    // Partial sums leave the type, the result does not; frames that overflow are not asked for.
    for (sql, expected) in [
        ("SELECT sum(big) FROM wide WHERE g = 0", "9223372036854775807"),
        ("SELECT sum(big) FROM wide WHERE g = 0 GROUP BY g", "9223372036854775807"),
        ("SELECT sum(DISTINCT big) FROM wide WHERE g = 0", "0"),
        ("SELECT sum(decimal) FROM wide WHERE g = 0", "99999999999999999999999999999999999999"),
        (
            "SELECT sum(big) OVER (ORDER BY id ROWS BETWEEN CURRENT ROW AND CURRENT ROW) AS s \
             FROM wide WHERE id = 1",
            "9223372036854775807",
        ),
    ] {
        let text = shown(&ours, sql).await.unwrap();
        assert!(text.contains(&format!("| {expected} ")), "{sql}\n{text}");
    }
}

#[tokio::test]
async fn what_fits_is_as_datafusion_gives_it_and_named_the_same() {
    let (ours, plain) = (ours(), plain());
    for sql in [
        "SELECT a + 1, a - 1, a * 2, -a, a + g, g * g, -(a + g) * 2, (a + g) / 2, a % 3 FROM t",
        "SELECT a + 1.5, a * 1.5e0, a + NULL, NULL - a, -1.5, +a, a / 2 FROM t",
        "SELECT a + d, d * 2, d - d, g + t.a FROM t",
        "SELECT DATE '2024-01-01' + INTERVAL '1 day', DATE '2024-01-05' - DATE '2024-01-01'",
        "SELECT a + 1 AS b, count(*) FROM t GROUP BY a + 1 HAVING sum(a + 1) > 0 ORDER BY a + 1",
        "SELECT sum(a + 1), sum(a) + 1, avg(a * 2), min(-a), sum(d), sum(DISTINCT g) FROM t",
        "SELECT g, sum(a), sum(a) FILTER (WHERE a > 3), sum(DISTINCT a), sum(g), sum(f), sum(d) \
         FROM t GROUP BY g ORDER BY g",
        "SELECT g, sum(n) FROM t GROUP BY g ORDER BY g",
        "SELECT sum(n), sum(n) FILTER (WHERE false), sum(a) FILTER (WHERE n IS NULL) FROM t",
        "SELECT a, sum(a) OVER (ORDER BY a), sum(n) OVER (ORDER BY a ROWS 2 PRECEDING), \
         sum(DISTINCT g) OVER (ORDER BY a ROWS 2 PRECEDING), sum(d) OVER (ORDER BY a ROWS BETWEEN \
         1 PRECEDING AND 1 FOLLOWING), sum(f) OVER (ORDER BY a ROWS 1 PRECEDING) FROM t ORDER BY a",
        "SELECT x.a + y.a FROM t x JOIN t y ON x.a + 1 = y.a ORDER BY 1",
        "SELECT a FROM t WHERE a * 2 > 4 AND a + g < 100 ORDER BY -a",
        "SELECT 9223372036854775806 + 1, -9223372036854775808, -9223372036854775807 - 1",
        "SELECT arrow_typeof(int_one + 1), arrow_typeof(least_tiny * least_tiny) FROM edge \
         WHERE false",
        "SELECT -9223372036854775808 % -1, 9223372036854775808, 7 / 2, -7 % 3",
        "SELECT sum(INTERVAL '1 day'), avg(a), avg(g) FROM t",
        "SELECT CASE WHEN a > 100 THEN a * 9223372036854775807 ELSE 0 END FROM t",
        "SELECT a * 9223372036854775807 FROM t WHERE a = 0",
        "SELECT 1 FROM t WHERE false AND a * 9223372036854775807 > 0",
    ] {
        let expected = shown(&plain, sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let given = shown(&ours, sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        assert_eq!(given, expected, "{sql}");
    }
}

#[tokio::test]
async fn other_integer_edges_are_errors_too() {
    let ours = ours();
    for (sql, code) in [
        ("SELECT a / 0 FROM t", "DIVISION_BY_ZERO"),
        ("SELECT a % 0 FROM t", "DIVISION_BY_ZERO"),
        ("SELECT 1 / 0", "DIVISION_BY_ZERO"),
        ("SELECT least_one / -1 FROM edge", "NUMERIC_OVERFLOW"),
        ("SELECT -9223372036854775808 / -1", "NUMERIC_OVERFLOW"),
        ("SELECT CAST(greatest_one AS INT) FROM edge", "INVALID_CAST"),
        ("SELECT CAST(1e30 AS BIGINT)", "INVALID_CAST"),
        ("SELECT CAST(-1 AS BIGINT UNSIGNED)", "INVALID_CAST"),
    ] {
        let error = run(&ours, sql).await.expect_err(sql);
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::User, code), "{sql}: {error}");
    }
    let error = run(&ours, "SELECT abs(least_one) FROM edge").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::User, "{error}");
}

#[tokio::test]
async fn views_and_parameters_are_checked() {
    let ours = ours();
    run(&ours, "CREATE VIEW sums AS SELECT a + 9223372036854775800 AS x FROM t").await.unwrap();
    overflows(&ours, "SELECT * FROM sums").await;
    overflows(&ours, "SELECT count(x) FROM sums WHERE x > 0").await;
    run(&ours, "PREPARE typed(BIGINT) AS SELECT a + $1 FROM t").await.unwrap();
    overflows(&ours, "EXECUTE typed(9223372036854775807)").await;
    run(&ours, "EXECUTE typed(1)").await.unwrap();
    run(&ours, "PREPARE inferred AS SELECT a * $1 FROM t").await.unwrap();
    overflows(&ours, "EXECUTE inferred(9223372036854775807)").await;
    for sql in ["SELECT $1 + 1", "SELECT $1 * $1", "SELECT -($1 - 1) - 3", "SELECT a + $1 FROM t"] {
        // Also when the plan was optimized before the value came.
        let state = ours.state();
        let plan = state.create_logical_plan(sql).await.unwrap();
        let early = state.optimize(&plan).unwrap();
        for plan in [plan, early] {
            let value = ParamValues::List(vec![ScalarValue::Int64(Some(GREATEST)).into()]);
            let plan = plan.with_param_values(value).unwrap();
            let error = match ours.execute_logical_plan(plan).await {
                Ok(frame) => frame.collect().await.expect_err(sql),
                Err(error) => error,
            };
            let error = Error::from(error);
            assert_eq!(error.code, "NUMERIC_OVERFLOW", "{sql}: {error}");
        }
    }
}

#[tokio::test]
async fn operators_agree_with_128_bits() {
    let seed: u64 = 20_240_611;
    let mut random = StdRng::seed_from_u64(seed);
    let ours = ours();
    for _ in 0..300 {
        let (left, right) = (edge_value(&mut random), edge_value(&mut random));
        let (wide_left, wide_right) = (i128::from(left), i128::from(right));
        let batch = one_row(left, right);
        ours.deregister_table("pair").unwrap();
        ours.register_batch("pair", batch).unwrap();
        for (expression, exact) in [
            ("x + y", wide_left + wide_right),
            ("x - y", wide_left - wide_right),
            ("x * y", wide_left * wide_right),
            ("-x", -wide_left),
        ] {
            let given = run(&ours, &format!("SELECT {expression} AS z FROM pair")).await;
            let context = format!("{expression} with x={left}, y={right}, seed {seed}");
            match i64::try_from(exact) {
                Ok(exact) => assert_eq!(only_integer(&given.unwrap()), Some(exact), "{context}"),
                Err(_) => assert_eq!(given.expect_err(&context).code, "NUMERIC_OVERFLOW"),
            }
        }
    }
}

#[tokio::test]
async fn sums_agree_with_128_bits() {
    let seed: u64 = 7;
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..60 {
        let ours = ours();
        let n_rows = random.random_range(1..400);
        let rows: Vec<(i64, Option<i64>)> = (0..n_rows)
            .map(|_| {
                let value = random.random_bool(0.8).then(|| edge_value(&mut random));
                (random.random_range(0..5), value)
            })
            .collect();
        register_rows(&ours, &rows);
        for group in 0..5 {
            let mut values = rows.iter().filter(|(g, _)| *g == group).filter_map(|(_, v)| *v);
            let exact = values.clone().map(i128::from).sum::<i128>();
            let empty = values.next().is_none();
            for sql in [
                format!("SELECT sum(v) FROM rows WHERE g = {group}"),
                format!("SELECT sum(v) FILTER (WHERE g = {group}) FROM rows"),
                format!("SELECT sum(v) FROM rows WHERE g IN ({group}, 99) GROUP BY g"),
            ] {
                let given = run(&ours, &sql).await;
                let context = format!("{sql}, seed {seed}, round {round}");
                match i64::try_from(exact) {
                    Ok(exact) => {
                        let expected = (!empty).then_some(exact);
                        assert_eq!(only_integer(&given.unwrap()), expected, "{context}");
                    }
                    Err(_) => assert_eq!(given.expect_err(&context).code, "NUMERIC_OVERFLOW"),
                }
            }
        }
    }
}

#[tokio::test]
async fn plans_survive_the_trip_to_a_node_with_the_same_functions() {
    let (here, there) = (ours(), ours());
    for (sql, fits) in [
        ("SELECT g, sum(a + 1), sum(DISTINCT a) FROM t WHERE -a < 0 GROUP BY g ORDER BY g", true),
        ("SELECT sum(a) OVER (ORDER BY a ROWS 1 PRECEDING) * 2 AS s FROM t ORDER BY s", true),
        ("SELECT g, sum(big) FROM wide GROUP BY g", false),
        ("SELECT greatest_one * 2 FROM edge", false),
    ] {
        let state = here.state();
        let plan = state.create_logical_plan(sql).await.unwrap();
        let plan = state.create_physical_plan(&plan).await.unwrap();
        let bytes = physical_plan_to_bytes(Arc::clone(&plan)).unwrap();
        let decoded = physical_plan_from_bytes(&bytes, there.task_ctx().as_ref()).unwrap();
        let text = |plan: &Arc<_>| displayable(Arc::as_ref(plan)).indent(false).to_string();
        assert_eq!(text(&decoded), text(&plan), "{sql}");
        let first = collect(plan, here.task_ctx()).await;
        let second = collect(decoded, there.task_ctx()).await;
        if fits {
            assert_eq!(pretty(&first.unwrap()), pretty(&second.unwrap()), "{sql}");
        } else {
            assert_eq!(Error::from(first.unwrap_err()).code, "NUMERIC_OVERFLOW", "{sql}");
            assert_eq!(Error::from(second.unwrap_err()).code, "NUMERIC_OVERFLOW", "{sql}");
        }
    }
}

#[tokio::test]
async fn a_plan_for_readers_has_the_operators_that_were_written() {
    let (ours, plain) = (ours(), plain());
    for sql in [
        "SELECT a + 1, -(a * g) FROM t WHERE a - g > 0",
        "SELECT g * 2, sum(a + 1) FROM t GROUP BY g * 2",
    ] {
        let state = ours.state();
        let plan = state.optimize(&state.create_logical_plan(sql).await.unwrap()).unwrap();
        assert!(plan.display_indent().to_string().contains("checked_"), "{sql}");
        let readable = with_plain_operators(plan).unwrap().display_indent().to_string();
        let state = plain.state();
        let expected = state.optimize(&state.create_logical_plan(sql).await.unwrap()).unwrap();
        assert_eq!(readable, expected.display_indent().to_string(), "{sql}");
    }
}

#[tokio::test]
async fn comparisons_stay_plain_and_registering_twice_changes_nothing() {
    let builder = register(register(SessionStateBuilder::new().with_default_features()));
    let state = register(SessionStateBuilder::new_from_existing(builder.build())).build();
    let rules = state.analyzer().rules.iter().filter(|rule| rule.name() == "check_overflow");
    assert_eq!(rules.count(), 1);
    let context = SessionContext::new_with_state(state);
    context.register_batch("t", numbers()).unwrap();
    let sql = "SELECT a FROM t WHERE a > 1 AND g = 2 AND a IN (4, 5) AND n IS NULL";
    let state = context.state();
    let plan = state.optimize(&state.create_logical_plan(sql).await.unwrap()).unwrap();
    assert!(!plan.display_indent().to_string().contains("checked_"));
}

#[tokio::test]
async fn the_error_says_what_overflowed_and_no_values() {
    let error = run(&ours(), "SELECT int_one + int_one FROM edge").await.unwrap_err();
    assert_eq!(error.message, "addition overflowed type INTEGER");
    let error = run(&ours(), "SELECT sum(decimal) FROM wide").await.unwrap_err();
    assert_eq!(error.message, "sum overflowed type DECIMAL(38, 0)");
}

/// Prints what exactness costs: the best of several runs, over DataFusion's.
#[tokio::test]
#[ignore = "measures; run with --release -- --ignored --nocapture"]
async fn exactness_costs_little() {
    const ROWS: i64 = 6_000_000;
    const RUNS: usize = 9;
    let batches: Vec<_> = (0..ROWS / 8192)
        .map(|i| {
            let rows = || (i * 8192..(i + 1) * 8192).map(|n| n * 2_654_435_761 % 1_500_007);
            let decimals = Decimal128Array::from_iter_values(rows().map(i128::from));
            batch(vec![
                ("few", Arc::new(Int64Array::from_iter_values(rows().map(|n| n % 10)))),
                ("many", Arc::new(Int64Array::from_iter_values(rows()))),
                ("x", Arc::new(Int64Array::from_iter_values(rows().map(|n| n % 1000)))),
                ("n", Arc::new(Int64Array::from_iter(rows().map(|n| (n % 3 > 0).then_some(n))))),
                ("d", Arc::new(decimals.with_precision_and_scale(12, 2).unwrap())),
            ])
        })
        .collect();
    for n_partitions in [1, 2] {
        let config = SessionConfig::new().with_target_partitions(n_partitions);
        let builder = || {
            let builder = SessionStateBuilder::new().with_config(config.clone());
            builder.with_default_features()
        };
        let sessions = [builder().build(), register(builder()).build()].map(|state| {
            let context = SessionContext::new_with_state(state);
            let parts = batches.chunks(batches.len().div_ceil(n_partitions));
            let table = MemTable::try_new(batches[0].schema(), parts.map(Into::into).collect());
            let schema = context.state().schema_for_ref("rows").unwrap();
            schema.register_table("rows".to_owned(), Arc::new(table.unwrap())).unwrap();
            context
        });
        for sql in [
            "SELECT sum(x) FROM rows",
            "SELECT sum(n) FROM rows",
            "SELECT sum(d) FROM rows",
            "SELECT few, sum(x) FROM rows GROUP BY few",
            "SELECT few, sum(n) FROM rows GROUP BY few",
            "SELECT few, sum(d) FROM rows GROUP BY few",
            "SELECT many, sum(x) FROM rows GROUP BY many",
            "SELECT many, sum(d) FROM rows GROUP BY many",
            "SELECT max(x + few) FROM rows",
            "SELECT max(x * few) FROM rows",
            "SELECT few, sum(x * 2 + 1) FROM rows GROUP BY few",
        ] {
            let mut best = [f64::MAX; 2];
            for _ in 0..RUNS {
                for (session, best) in sessions.iter().zip(&mut best) {
                    let started = crate::environment::instant();
                    run(session, sql).await.unwrap();
                    *best = best.min(started.elapsed().as_secs_f64());
                }
            }
            let [theirs, ours] = best.map(|seconds| seconds * 1e3);
            let ratio = ours / theirs;
            println!("{n_partitions} partitions: {ratio:.2} = {ours:.1} / {theirs:.1} ms: {sql}");
        }
    }
}
