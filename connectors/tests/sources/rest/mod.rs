//! A JSON API as tables, against a real server.

mod api;

use std::time::Duration;

use meshwork_engine::{ErrorKind, environment};

use crate::harness::Catalogs;
use api::Api;

const SCHEMA: &str = "schema: {columns: {id: int64!, name: utf8}}";

fn table(name: &str, rows: &str, more: &str) -> String {
    format!("  {name}: {{list: {{path: /{name}, rows: \"{rows}\"}}, {SCHEMA}{more}}}\n")
}

fn all(name: &str) -> String {
    format!("SELECT count(*), count(DISTINCT id), min(id), max(id) FROM rest.api.{name}")
}

#[tokio::test]
async fn every_way_of_paging_reads_every_row() {
    let tables = [
        table(
            "cursor",
            "$.data[*]",
            ", paginate: {type: cursor, next: $.paging.next, send: {query: cursor}, \
               page_size: {query: limit, max: 3}, stop: missing, max_pages: 100, on_max: error}",
        ),
        table(
            "offset",
            "$.data.rows[*]",
            ", paginate: {type: offset, send: {query: offset}, \
               page_size: {query: limit, max: 6}}",
        ),
        table("page", "$[*]", ", paginate: {type: page, send: {query: page}}"),
        table("linked", "$[*]", ", paginate: {type: link_header}"),
        table("next", "$.data[*]", ", paginate: {type: next_url, next: $.next}"),
    ];
    let api = Api::new("", &tables.concat()).await;
    let listed = api.catalogs.connector("rest").tables("api").await.unwrap();
    let names: Vec<&str> = listed.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["cursor", "linked", "next", "offset", "page"]);
    for (name, n_pages) in [("cursor", 4), ("offset", 4), ("page", 3), ("linked", 3), ("next", 3)] {
        assert_eq!(api.rows(&all(name)).await, ["10|10|0|9"], "{name}");
        assert_eq!(api.asked().len(), n_pages, "{name}");
    }
    let sql = "SELECT name FROM rest.api.linked ORDER BY id DESC LIMIT 2";
    assert_eq!(api.rows(sql).await, ["item 9", "item 8"]);
    assert_eq!(api.rows("SELECT count(*) FROM rest.api.page").await, ["10"]);
    api.catalogs.connector("rest").check().await.unwrap();
}

#[tokio::test]
async fn a_listing_that_does_not_end_is_an_error() {
    let paging = "type: cursor, next: $.paging.next, send: {query: cursor}";
    let claimed = "  claimed: {list: {path: /offset, rows: \"$.data.rows[*]\", params: {claimed: \"12\"}}, \
                   paginate: {type: offset, send: {query: offset}, total: $.total}, \
                   schema: {columns: {id: int64!}}}\n";
    let counted = "  counted: {list: {path: /offset, rows: \"$.data.rows[*]\"}, \
                   paginate: {type: offset, send: {query: offset}, total: $.total}, \
                   schema: {columns: {id: int64!}}}\n";
    let tables = [
        table("endless", "$.data[*]", &format!(", paginate: {{{paging}, max_pages: 5}}")),
        table("linked", "$[*]", ""),
        table("cursor", "$.data[*]", &format!(", paginate: {{{paging}, max_pages: 3}}")),
        claimed.to_owned(),
        counted.to_owned(),
    ];
    let api = Api::new("", &tables.concat()).await;
    for name in ["endless", "linked", "cursor", "claimed"] {
        let error = api.error(&format!("SELECT count(*) FROM rest.api.{name}")).await;
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Source, "SOURCE_TRUNCATED"));
        assert!(error.message.contains(name), "{error:?}");
    }
    api.asked();
    assert_eq!(api.rows("SELECT count(*) FROM rest.api.counted").await, ["10"]);
    assert_eq!(api.asked().len(), 3);
}

#[tokio::test]
async fn filters_become_parameters_and_are_checked_again() {
    let rules = ", pushdown: [{column: id, ops: [eq, in], param: ids, semantics: exact}, \
                 {column: name, ops: [eq], param: name}, \
                 {column: id, ops: [ge, lt], params: {ge: from, lt: before}}, {limit: true}]";
    let api = Api::new("", &table("filtered", "$[*]", rules)).await;
    for (filter, rows, asked) in [
        ("id = 3", vec!["3"], "ids=3"),
        ("id IN (3, 4, 11)", vec!["3", "4"], "ids=3%2C4%2C11"),
        ("id IN (1, 3, 5, 7, 9)", vec!["1", "3", "5", "7", "9"], "ids=1%2C3%2C5%2C7%2C9"),
        ("id = 3 OR id = 4", vec!["3", "4"], "ids=3%2C4"),
        ("name = 'item 5'", vec!["5"], "name=item+5"),
        ("id >= 7 AND id < 9", vec!["7", "8"], "from=7&before=9"),
        ("id BETWEEN 7 AND 8", vec!["7", "8"], "from=7"),
        ("id > 8", vec!["9"], ""),
        ("id <> 1 AND name LIKE '%1'", vec![], ""),
        ("id = 3 AND name = 'item 4'", vec![], "ids=3&name=item+4"),
        ("id = 3 OR name = 'item 4'", vec!["3", "4"], ""),
    ] {
        let sql = format!("SELECT id FROM rest.api.filtered WHERE {filter} ORDER BY id");
        assert_eq!(api.rows(&sql).await, rows, "{filter}");
        assert_eq!(api.asked(), [format!("filtered?{asked}")], "{filter}");
    }
    let plan = api.catalogs.plan("SELECT * FROM rest.api.filtered WHERE id = 3").await;
    assert!(plan.contains("/v1/filtered?ids=3") && !plan.contains("FilterExec"), "{plan}");
    let plan = api.catalogs.plan("SELECT * FROM rest.api.filtered WHERE name = 'x'").await;
    assert!(plan.contains("name=x") && plan.contains("FilterExec"), "{plan}");
}

#[tokio::test]
async fn one_parameter_carries_one_filter_in_all_passes_of_the_planner() {
    let rules = ", pushdown: [{column: id, ops: [eq, in], param: ids, semantics: exact}, \
                 {column: name, ops: [eq], param: ids, semantics: exact}, {limit: true}]";
    let tables = table("filtered", "$[*]", rules).replace("name: utf8", "name: utf8, even: bool");
    let api = Api::new("", &tables).await;
    let grouped = "FROM rest.api.filtered WHERE id IN (3, 4) GROUP BY id HAVING id IN (4, 5)";
    for (sql, rows, ids) in [
        (format!("SELECT id, count(*) {grouped}"), vec!["4|1"], "3%2C4"),
        (format!("SELECT count(*) FROM (SELECT id {grouped})"), vec!["1"], "3%2C4"),
        // The filter that stays here needs a column that nobody else does.
        (both("count(*)", "item 4"), vec!["0"], "3"),
        (both("count(*)", "item 3"), vec!["1"], "3"),
        (both("even", "item 3"), vec!["false"], "3"),
        (both("id", "item 4") + " LIMIT 1", vec![], "3"),
        (both("id", "item 3") + " LIMIT 1", vec!["3"], "3"),
    ] {
        assert_eq!(api.rows(&sql).await, rows, "{sql}");
        assert_eq!(api.asked(), [format!("filtered?ids={ids}")], "{sql}");
    }
    let plan = api.catalogs.plan(&format!("SELECT id {grouped}")).await;
    assert!(plan.contains("ids=3%2C4") && plan.contains("FilterExec"), "{plan}");
}

fn both(what: &str, name: &str) -> String {
    format!("SELECT {what} FROM rest.api.filtered WHERE id = 3 AND name = '{name}'")
}

#[tokio::test]
async fn a_text_with_a_comma_is_not_sent_where_commas_part_values() {
    let rules = ", pushdown: [{column: name, ops: [eq, in], param: names}]";
    let apart = ", pushdown: [{column: name, ops: [eq], param: names}, \
                 {column: name, ops: [in], param: names}]";
    let repeated = ", pushdown: [{column: name, ops: [eq, in], param: names, in_style: repeat}]";
    let api = Api::new("", &table("filtered", "$[*]", rules)).await;
    api.define("apart", "", &table("filtered", "$[*]", apart));
    api.define("repeated", "", &table("filtered", "$[*]", repeated));
    for (catalog, name, asked) in [
        ("rest", "a,b", ""),
        ("rest", "a", "names=a"),
        ("apart", "a,b", ""),
        ("repeated", "a,b", "names=a%2Cb"),
    ] {
        let sql = format!("SELECT id FROM {catalog}.api.filtered WHERE name = '{name}'");
        assert!(api.rows(&sql).await.is_empty(), "{sql}");
        assert_eq!(api.asked(), [format!("filtered?{asked}")], "{sql}");
    }
}

#[tokio::test]
async fn times_finer_than_a_microsecond_lose_no_rows() {
    for semantics in ["exact", "inexact"] {
        let table = format!(
            "  moments: {{list: {{path: /moments, rows: \"$[*]\"}}, \
             pushdown: [{{column: at, ops: [eq, in, ge, gt, le, lt], semantics: {semantics}, \
             params: {{eq: eq, in: eq, ge: ge, gt: gt, le: le, lt: lt}}}}], \
             schema: {{columns: {{id: int64!, at: timestamp_us_utc}}}}}}\n"
        );
        let api = Api::new("", &table).await;
        let midnight = "TIMESTAMP '2024-01-01T00:00:00Z'";
        let newyear = "TIMESTAMP '2023-01-01T00:00:00Z'";
        let time = "-01-01T00%3A00%3A00.000000Z";
        for (filter, rows, asked) in [
            (format!("at = {midnight}"), vec!["0"], String::new()),
            (format!("at <= {midnight}"), vec!["0"], String::new()),
            (format!("at IN ({newyear}, {midnight})"), vec!["0"], String::new()),
            (format!("at BETWEEN {newyear} AND {midnight}"), vec!["0"], format!("ge=2023{time}")),
            (format!("at > {midnight}"), vec!["1"], format!("gt=2024{time}")),
            (format!("at >= {midnight}"), vec!["0", "1"], format!("ge=2024{time}")),
            (format!("at < {midnight}"), vec![], format!("lt=2024{time}")),
        ] {
            let sql = format!("SELECT id FROM rest.api.moments WHERE {filter} ORDER BY id");
            assert_eq!(api.rows(&sql).await, rows, "{semantics}: {filter}");
            assert_eq!(api.asked(), [format!("moments?{asked}")], "{semantics}: {filter}");
        }
    }
}

#[tokio::test]
async fn a_limit_that_one_page_satisfies_needs_no_other_page() {
    let rules = ", pushdown: [{limit: true}]";
    let tables = "  offset: {list: {path: /offset, rows: \"$.data.rows[*]\"}, \
                  paginate: {type: none, total: $.total}, pushdown: [{limit: true}], \
                  schema: {columns: {id: int64!}}}\n"
        .to_owned()
        + &table("linked", "$[*]", rules);
    let api = Api::new("", &tables).await;
    for name in ["offset", "linked"] {
        for limit in [2, 4] {
            let sql = format!("SELECT id FROM rest.api.{name} LIMIT {limit}");
            assert_eq!(api.rows(&sql).await.len(), limit, "{sql}");
        }
        let error = api.error(&format!("SELECT id FROM rest.api.{name} LIMIT 5")).await;
        assert_eq!(error.code, "SOURCE_TRUNCATED", "{name}");
    }
}

#[tokio::test]
async fn a_limit_stops_paging() {
    let paging = ", paginate: {type: cursor, next: $.paging.next, send: {query: cursor}, \
                  page_size: {query: limit, max: 3}}";
    let api = Api::new(
        "",
        &table("cursor", "$.data[*]", &format!("{paging}, pushdown: [{{limit: true}}]")),
    )
    .await;
    assert_eq!(api.rows("SELECT id FROM rest.api.cursor LIMIT 2").await, ["0", "1"]);
    assert_eq!(api.asked(), ["cursor?limit=2"]);
    assert_eq!(api.rows("SELECT id FROM rest.api.cursor LIMIT 4").await.len(), 4);
    assert_eq!(api.asked().len(), 2);
    // The limit counts rows that pass the filter, so it stays with the engine.
    assert_eq!(api.rows("SELECT id FROM rest.api.cursor WHERE id > 6 LIMIT 2").await, ["7", "8"]);
}

#[tokio::test]
async fn a_part_of_the_path_is_a_required_filter() {
    let tables = "  orders: {list: {path: \"/customers/{{filter.cid}}/orders\", rows: \"$[*]\"}, \
                  pushdown: [{column: customer, ops: [eq], path_param: cid, required: true}], \
                  schema: {columns: {customer: utf8!, total: \"decimal(10,2)\"}}}\n";
    let api = Api::new("", tables).await;
    let sql = "SELECT customer, total FROM rest.api.orders WHERE customer = 'a/b ü'";
    assert_eq!(api.rows(sql).await, ["a/b ü|12.50"]);
    assert_eq!(api.asked(), ["orders of a/b ü?"]);
    let error = api.error("SELECT * FROM rest.api.orders").await;
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::User, "FILTER_REQUIRED"));
    assert!(error.message.contains("customer"), "{error:?}");
    let error = api.error("SELECT * FROM rest.api.orders WHERE customer = '..'").await;
    assert_eq!(error.code, "FILTER_VALUE");
    assert!(api.asked().is_empty());
}

#[tokio::test]
async fn a_value_in_the_path_is_not_filled_again() {
    let tables = "  orders: {list: {path: \"/customers/{{filter.a}}-{{filter.b}}/orders\", \
                  rows: \"$[*]\"}, pushdown: [\
                  {column: a, ops: [eq], path_param: a, required: true}, \
                  {column: b, ops: [eq], path_param: b, required: true}], \
                  schema: {columns: {a: utf8, b: utf8}}}\n";
    let api = Api::new("", tables).await;
    let sql = "SELECT * FROM rest.api.orders WHERE a = '{{filter.b}}' AND b = 'x'";
    assert!(api.rows(sql).await.is_empty());
    assert_eq!(api.asked(), ["orders of {{filter.b}}-x?"]);
}

#[tokio::test]
async fn a_busy_source_is_asked_again_when_it_says() {
    let tables = table("busy", "$[*]", "")
        + "  later: {list: {path: /busy, rows: \"$[*]\", params: {wait: \"3600\"}}, \
           schema: {columns: {id: int64}}}\n";
    let api = Api::new("retry: {max: 2, backoff: {base: 10ms}}", &tables).await;
    let before = environment::instant();
    assert_eq!(api.rows("SELECT count(*) FROM rest.api.busy").await, ["2"]);
    assert!(before.elapsed() >= Duration::from_secs(2));
    assert_eq!(api.asked().len(), 3);
    let error = api.error("SELECT count(*) FROM rest.api.later").await;
    assert_eq!(error.code, "SOURCE_RATE_LIMITED");
    let hint = error.hint.unwrap();
    assert!(error.retryable && hint.contains("asks to wait 3600 s"), "{hint}");
    assert!(hint.contains("retry_after_max"), "{hint}");

    api.asked();
    api.define("impatient", "retry: {max: 1}", &tables);
    let error = api.error("SELECT count(*) FROM impatient.api.busy").await;
    assert_eq!((error.code.as_str(), api.asked().len()), ("SOURCE_RATE_LIMITED", 2));
}

#[tokio::test]
async fn deadlines_and_bounds_hold() {
    let head = "limits: {request_timeout: 200ms, total_timeout: 900ms, body_bytes_max: 100000}\n\
                retry: {max: 50, backoff: {base: 50ms, max: 50ms}}";
    let names = ["slow", "large", "broken", "shapeless", "gone"];
    let tables: String = names.iter().map(|name| table(name, "$[*]", "")).collect();
    let api = Api::new(head, &tables).await;
    let before = environment::instant();
    let error = api.error("SELECT * FROM rest.api.slow").await;
    assert_eq!(error.code, "DEADLINE_EXCEEDED", "{error:?}");
    assert!(before.elapsed() < Duration::from_secs(3));
    assert!(api.asked().len() > 1);
    let hint = error.hint.unwrap();
    assert!(hint.contains("total_timeout") && !hint.contains("asks to wait"), "{hint}");
    for text in [&hint, &error.message] {
        let fraction = |part: &str| part.chars().take_while(char::is_ascii_digit).count();
        assert!(text.split('.').skip(1).all(|part| fraction(part) <= 3), "{text}");
    }
    for (name, code) in [
        ("large", "SOURCE_ANSWER_TOO_LARGE"),
        ("broken", "SOURCE_FORMAT"),
        ("shapeless", "SOURCE_FORMAT"),
        ("gone", "SOURCE_HTTP_ERROR"),
    ] {
        let error = api.error(&format!("SELECT * FROM rest.api.{name}")).await;
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Source, code), "{error:?}");
        assert!(error.message.contains(&format!("/v1/{name}")), "{error:?}");
    }
}

#[tokio::test]
async fn values_have_their_declared_types_or_are_errors() {
    let columns = "text: utf8!, small: int32, big: int64, ratio: float64, yes: bool, \
                   money: \"decimal(10,2)\", day: date, local: timestamp_us, \
                   at: timestamp_us_utc, any: json, deep: {type: utf8, path: $.deep.er}";
    let spoiled = |name: &str| {
        format!(
            "  bad_{name}: {{list: {{path: /typed, rows: \"$[*]\", params: {{spoil: {name}}}}}, \
                 schema: {{mode: declared, columns: {{{columns}}}}}}}\n"
        )
    };
    let names = ["text", "small", "big", "ratio", "yes", "money", "day", "local", "at"];
    let mut tables: String = names.iter().map(|name| spoiled(name)).collect();
    tables.push_str(&format!(
        "  typed: {{list: {{path: /typed, rows: \"$[*]\"}}, schema: {{columns: {{{columns}}}}}}}\n"
    ));
    tables.push_str(
        "  lacking: {list: {path: /typed, rows: \"$[*]\"}, schema: {columns: {small: int32!}}}\n",
    );
    let api = Api::new("", &tables).await;
    let rows = api.rows("SELECT text, big, deep FROM rest.api.typed").await;
    assert_eq!(rows[..2], ["a|9007199254740993|found", "b||"]);
    for name in names {
        let error = api.error(&format!("SELECT {name} FROM rest.api.bad_{name}")).await;
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Source, "SOURCE_VALUE_MISMATCH"));
        assert!(error.message.contains(&format!("column \"{name}\"")), "{error:?}");
        assert!(error.message.contains("a value is a list"), "{error:?}");
    }
    let error = api.error("SELECT * FROM rest.api.lacking").await;
    assert!(error.message.contains("a row has no $.small"), "{error:?}");
}

#[tokio::test]
async fn numbers_are_read_as_they_were_sent() {
    let listing = |name: &str, params: &str| {
        format!(
            "  {name}: {{list: {{path: /exact, rows: \"$[*]\"{params}}}, schema: {{columns: \
             {{id: int64!, money: \"decimal(30,12)\", any: json}}}}}}\n"
        )
    };
    let tables = listing("exact", "")
        + &listing("long", ", params: {money: \"0.1234567890123\"}")
        + &listing("large", ", params: {money: \"1e999999999\"}");
    let api = Api::new("", &tables).await;
    let rows = api.rows("SELECT money, any FROM rest.api.exact ORDER BY id").await;
    assert_eq!(
        rows,
        [
            "99999999.999999999999|{\"b\": 1.10, \"a\": 12345678901234567890123}",
            "123456.123456789012|[1.0]",
            "-0.000000150000|\"x\"",
            "125.000000000000|",
        ]
    );
    for name in ["long", "large"] {
        let error = api.error(&format!("SELECT money FROM rest.api.{name}")).await;
        assert_eq!(error.code, "SOURCE_VALUE_MISMATCH", "{error:?}");
    }
}

#[tokio::test]
async fn credentials_are_sent_and_never_shown() {
    let tables = table("guarded", "$[*]", "") + &table("away", "$[*]", "");
    let api = Api::new("", &tables).await;
    let error = api.error("SELECT * FROM rest.api.guarded").await;
    assert_eq!(error.code, "SOURCE_AUTHENTICATION");
    for (name, auth) in [
        ("bearer", "{type: bearer, token: \"${secret:key}\"}"),
        ("basic", "{type: basic, username: me, password: \"${secret:key}\"}"),
        ("header", "{type: api_key, in: header, name: X-Key, value: \"${secret:key}\"}"),
        ("query", "{type: api_key, in: query, name: api_key, value: \"${secret:key}\"}"),
    ] {
        api.define(name, &format!("auth: {auth}"), &tables);
        let sql = format!("SELECT count(*) FROM {name}.api.guarded");
        assert_eq!(api.rows(&sql).await, ["1"], "{name}");
        let plan = api.catalogs.plan(&format!("SELECT * FROM {name}.api.guarded")).await;
        let debug = format!("{:?}", api.catalogs.connector(name));
        // The redirect leads to another host, which nobody allowed.
        let error = api.error(&format!("SELECT * FROM {name}.api.away")).await;
        assert_eq!(error.code, "SOURCE_FORBIDDEN_ADDRESS", "{error:?}");
        for shown in [&plan, &debug, &format!("{error:?}")] {
            assert!(!shown.contains("s3cr3t"), "{name}: {shown}");
        }
        assert!(name != "query" || plan.contains("api_key=***"), "{plan}");
    }
}

#[tokio::test]
async fn an_allowed_host_gets_no_credentials() {
    let api = Api::new("", &table("page", "$[*]", "")).await;
    let port = api.address.port();
    let manifest = format!(
        "connector: {{name: test, version: 1, base_url: \"http://127.0.0.1:{port}/v1\", \
         allow_http: true, allow_private: true, allowed_hosts: [\"localhost:{port}\"]}}\n\
         auth: {{type: bearer, token: \"${{secret:key}}\"}}\ntables:\n{}",
        table("away", "$[*]", "")
    );
    api.catalogs.define("two", "rest", &[("manifest_inline", &manifest), ("secret.key", "x")]);
    assert_eq!(api.rows("SELECT name FROM two.api.away").await, ["clean"]);
}

#[tokio::test]
async fn a_key_that_the_api_echoes_goes_to_no_other_host() {
    let tables = "  echo: {list: {path: /echo, rows: \"$.data[*]\"}, \
                  paginate: {type: next_url, next: $.next}, schema: {columns: {id: int64!}}}\n  \
                  lost: {list: {path: /echo, rows: \"$.data[*]\", params: {to: gone}}, \
                  paginate: {type: next_url, next: $.next}, schema: {columns: {id: int64!}}}\n";
    let api = Api::new("", tables).await;
    let port = api.address.port();
    let manifest = format!(
        "connector: {{name: test, version: 1, base_url: \"http://127.0.0.1:{port}/v1\", \
         allow_http: true, allow_private: true, allowed_hosts: [\"localhost:{port}\"]}}\n\
         auth: {{type: api_key, in: query, name: api_key, value: \"${{secret:key}}\"}}\n\
         tables:\n{tables}"
    );
    let properties = [("manifest_inline", manifest.as_str()), ("secret.key", "s3cr3t-value")];
    api.catalogs.define("two", "rest", &properties);
    assert_eq!(api.rows("SELECT count(*) FROM two.api.echo").await, ["10"]);
    assert_eq!(api.asked(), ["127.0.0.1?api_key=s3cr3t-value", "localhost?from=5"]);
    let error = api.error("SELECT count(*) FROM two.api.lost").await;
    assert_eq!(error.code, "SOURCE_HTTP_ERROR", "{error:?}");
    assert!(
        error.message.contains("/gone") && !format!("{error:?}").contains("s3cr3t"),
        "{error:?}"
    );
}

#[tokio::test]
async fn private_addresses_are_refused_unless_allowed() {
    let api = Api::new("", &table("page", "$[*]", "")).await;
    let port = api.address.port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let manifest = format!(
            "connector: {{name: test, version: 1, base_url: \"http://{host}:{port}/v1\", \
             allow_http: true}}\ntables:\n{}",
            table("page", "$[*]", "")
        );
        api.catalogs.define("inside", "rest", &[("manifest_inline", &manifest)]);
        let error = api.error("SELECT * FROM inside.api.page").await;
        assert_eq!(error.kind, ErrorKind::Source, "{error:?}");
        assert!(api.asked().is_empty(), "{host}");
    }
}

#[tokio::test]
async fn mistakes_in_a_manifest_are_named() {
    let catalogs = Catalogs::new();
    let good = "connector: {name: a, version: 1, base_url: \"https://api.example.com\"}\n\
                tables: {t: {list: {path: /t, rows: $}, schema: {columns: {id: int64}}}}";
    catalogs.define("good", "rest", &[("manifest_inline", good)]);
    catalogs.connector("good");
    for (from, to, named) in [
        ("version: 1", "version: 1, colour: red", "colour"),
        ("rows: $", "rows: $, order_by: x", "order_by"),
        ("version: 1", "version: 2", "version"),
        ("https:", "http:", "allow_http"),
        ("id: int64", "id: integer", "integer"),
        ("rows: $", "rows: data", "list.rows"),
        ("/t", "t", "list.path"),
        ("/t", "\"/{{filter.x}}\"", "\"x\""),
        ("/t", "\"/{{config.y}}\"", "config.y"),
        ("/t", "\"/{{env.HOME}}\"", "env.HOME"),
        ("tables", "auth: {type: bearer, token: literal}\ntables", "auth.token"),
        ("tables", "auth: {type: bearer, token: \"${secret:z}\"}\ntables", "secret.z"),
        ("tables", "auth: {type: basic, token: x}\ntables", "auth.token"),
        ("tables", "auth: {type: oauth2}\ntables", "oauth2"),
        ("tables", "retry: {on: [soon]}\ntables", "retry.on"),
        ("tables", "limits: {total_timeout: 5 parsecs}\ntables", "limits.total_timeout"),
        ("rows: $}", "rows: $}, paginate: {type: cursor, next: $.n}", "paginate.send"),
        ("rows: $}", "rows: $}, paginate: {type: cursor, on_max: stop}", "stop"),
        ("rows: $}", "rows: $}, pushdown: [{column: x, ops: [eq], param: x}]", "\"x\""),
        ("rows: $}", "rows: $}, pushdown: [{column: id, ops: [ge, lt], param: x}]", "\"id\""),
    ] {
        assert!(good.contains(from), "{from}");
        let manifest = good.replacen(from, to, 1);
        catalogs.define("wrong", "rest", &[("manifest_inline", &manifest)]);
        let error = catalogs.refusal("wrong");
        assert_eq!(error.kind, ErrorKind::User);
        assert!(error.message.contains(named), "{to}: {error:?}");
        assert!(error.message.contains("catalog \"wrong\""), "{error:?}");
    }
}
