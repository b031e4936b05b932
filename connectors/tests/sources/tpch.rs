//! Generated tables.

use crate::harness::Catalogs;

fn catalogs() -> Catalogs {
    let catalogs = Catalogs::new();
    catalogs.define("tpch", "tpch", &[]);
    catalogs
}

#[tokio::test]
async fn all_tables_are_listed_and_read() {
    let catalogs = catalogs();
    let connector = catalogs.connector("tpch");
    assert_eq!(connector.schema_names().await.unwrap(), ["sf0.01", "sf0.1", "sf1", "tiny"]);
    let tables = connector.tables("tiny").await.unwrap();
    let counts = [1500, 60175, 25, 15000, 2000, 8000, 5, 100];
    assert_eq!(tables.len(), counts.len());
    for (table, count) in tables.iter().zip(counts) {
        let sql = format!("SELECT count(*) FROM tpch.tiny.{}", table.name);
        assert_eq!(catalogs.rows(&sql).await, [count.to_string()], "{}", table.name);
    }
    assert!(connector.tables("nothing").await.unwrap().is_empty());
}

#[tokio::test]
async fn values_are_those_of_the_specification() {
    let catalogs = catalogs();
    let sql = "SELECT l_orderkey, l_quantity, l_shipdate, l_comment FROM tpch.\"sf0.01\".lineitem \
               WHERE l_orderkey = 1 AND l_linenumber = 1";
    assert_eq!(catalogs.rows(sql).await.len(), 1);
    let sql = "SELECT sum(l_extendedprice * l_discount) FROM tpch.tiny.lineitem \
               WHERE l_shipdate >= DATE '1994-01-01' AND l_shipdate < DATE '1995-01-01' \
               AND l_discount BETWEEN 0.05 AND 0.07 AND l_quantity < 24";
    assert_eq!(catalogs.rows(sql).await, ["1193053.2253"]);
}

#[tokio::test]
async fn a_limit_ends_generation_and_filters_stay_with_the_engine() {
    let catalogs = catalogs();
    assert_eq!(catalogs.rows("SELECT o_orderkey FROM tpch.sf1.orders LIMIT 3").await.len(), 3);
    let plan = catalogs.plan("SELECT count(*) FROM tpch.tiny.orders WHERE o_orderkey = 7").await;
    assert!(plan.contains("FilterExec") && plan.contains("splits=3"), "{plan}");
}
