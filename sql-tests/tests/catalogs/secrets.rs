//! No secret of a catalog comes out of a node: not in a result, an error, a log or an argument of a process.
//!
//! Every secret has a kernel that nothing else contains and that URLs leave as it is; it is looked for as
//! itself and as what it becomes in base64 and in printed bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use meshwork::client::{Answer, Client};
use meshwork::demo::rest::RestServer;
use meshwork_sql_tests::cluster::{Cluster, Shape};
use meshwork_sql_tests::servers::{MariaDb, Postgres, free_port};
use meshwork_sql_tests::spread::catalog_file;
use serde_json::json;

/// What all secrets here contain.
const KERNEL: &str = "Zs3cretKernelZ";

/// A secret: the variable that holds it on every node, if a file refers to it, and its value.
struct Secret {
    variable: &'static str,
    value: &'static str,
}

/// What files refer to.
const IN_ENVIRONMENT: [Secret; 7] = [
    Secret { variable: "S_POSTGRES", value: "Env+postgres/Zs3cretKernelZ=1" },
    Secret { variable: "S_MYSQL", value: "Env+mysql/Zs3cretKernelZ=2" },
    Secret { variable: "S_BASIC", value: "Env+basic/Zs3cretKernelZ=3" },
    Secret { variable: "S_BEARER", value: "Env-bearer.Zs3cretKernelZ~4" },
    Secret { variable: "S_HEADER", value: "Env-header.Zs3cretKernelZ~5" },
    Secret { variable: "S_QUERY", value: "Env+query/Zs3cretKernelZ=6&more" },
    Secret { variable: "S_LAKE", value: "Env+lake/Zs3cretKernelZ=7" },
];

/// What statements say, and what stands in files as it is.
const WRITTEN: [&str; 9] = [
    "Made+postgres/Zs3cretKernelZ=1",
    "Made+mysql/Zs3cretKernelZ=2",
    "Made+basic/Zs3cretKernelZ=3",
    "Made+query/Zs3cretKernelZ=6&more",
    "Made+lake/Zs3cretKernelZ=7",
    "Made+lakeid/Zs3cretKernelZ=8",
    "Mistyped+Zs3cretKernelZ=9",
    "File+postgres/Zs3cretKernelZ=1",
    "Wrong+postgres/Zs3cretKernelZ=0",
];

/// So much is logged that whatever can be logged is.
const LOGS: (&str, &str) = ("MESHWORK_LOG", "trace");

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_leaves_one_process() -> Result<()> {
    check(Shape::Standalone).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_leaves_a_cluster() -> Result<()> {
    check(Shape::Workers(2)).await
}

async fn check(shape: Shape) -> Result<()> {
    let _turn = crate::TURN.lock().await;
    let sources = Sources::new().await?;
    let mut variables: Vec<(&str, &str)> =
        IN_ENVIRONMENT.iter().map(|secret| (secret.variable, secret.value)).collect();
    variables.push(LOGS);
    let mut cluster = Cluster::start_with(shape, &sources.files()?, &variables).await?;
    let mut said = Said::default();
    let mut client = cluster.client().await?;
    sources.use_all(&mut client, &mut said).await?;
    drop(client);

    for node in cluster.nodes() {
        let id = node.id()?;
        for file in ["cmdline", "comm"] {
            said.hear(&format!("{file} of a node"), &fs::read(format!("/proc/{id}/{file}"))?);
        }
    }
    let definitions = texts_below(&cluster.home().join("root"))?;
    for node in cluster.nodes() {
        let written = node.written().await?;
        ensure!(written.contains("TRACE"), "the logs are not as verbose as they can be");
        said.hear("output and log of a node", written.as_bytes());
    }
    // What a statement wrote out is kept with the definition; what the environment holds stays there.
    ensure!(definitions.contains(WRITTEN[0]) && definitions.contains("${ENV:S_POSTGRES}"));
    for secret in &IN_ENVIRONMENT {
        ensure!(!definitions.contains(secret.value), "{} is in the root", secret.variable);
    }
    let mut secrets = IN_ENVIRONMENT.iter().map(|secret| secret.value).chain(WRITTEN);
    ensure!(secrets.all(|secret| secret.contains(KERNEL)));
    said.has_no_secret()
}

/// All that nodes have said to anybody.
#[derive(Default)]
struct Said {
    parts: Vec<(String, Vec<u8>)>,
    n_answers: usize,
    n_errors: usize,
}

impl Said {
    fn hear(&mut self, whence: &str, bytes: &[u8]) {
        self.parts.push((whence.to_owned(), bytes.to_vec()));
    }

    /// Runs a statement and hears its rows or its error, causes included.
    async fn run(&mut self, client: &mut Client, sql: &str) -> Result<()> {
        // A statement that says a secret is not to be shown in a failure of this test either.
        let whence: String = sql.chars().take(60).collect();
        match client.run(sql).await {
            Ok(Answer::Rows(batches)) => {
                self.n_answers += 1;
                self.hear(&whence, pretty_format_batches(&batches)?.to_string().as_bytes());
                self.hear(&whence, raw(&batches).as_bytes());
            }
            Ok(Answer::Changed(_)) => self.n_answers += 1,
            Err(error) => {
                self.n_errors += 1;
                self.hear(&whence, format!("{error} {error:?}").as_bytes());
            }
        }
        Ok(())
    }

    async fn works(&mut self, client: &mut Client, sql: &str) -> Result<()> {
        let before = self.n_errors;
        self.run(client, sql).await?;
        let last = self.parts.last().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned());
        ensure!(self.n_errors == before, "{sql}: {}", last.unwrap_or_default());
        Ok(())
    }

    async fn fails(&mut self, client: &mut Client, sql: &str) -> Result<()> {
        let before = self.n_errors;
        self.run(client, sql).await?;
        ensure!(self.n_errors == before + 1, "{sql} was to fail");
        Ok(())
    }

    fn has_no_secret(&self) -> Result<()> {
        ensure!(self.n_answers > 30 && self.n_errors > 10, "little was asked");
        let mut found = Vec::new();
        for (whence, bytes) in &self.parts {
            let text = String::from_utf8_lossy(bytes);
            for form in forms(KERNEL) {
                if let Some((before, after)) = text.split_once(&form) {
                    let before: String = before.chars().rev().take(300).collect();
                    let before: String = before.chars().rev().collect();
                    let after: String = after.chars().take(50).collect();
                    found.push(format!("in {whence}: …{before}{form}{after}…"));
                }
            }
        }
        ensure!(found.is_empty(), "{} leaks:\n{}", found.len(), found.join("\n"));
        Ok(())
    }
}

/// Returns what a text looks like on its way: in base64 whatever stands before and behind it.
fn forms(text: &str) -> Vec<String> {
    let numbers: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
    let mut forms = vec![text.to_owned(), numbers.join(", ")];
    for n_before in 0..3 {
        let mut bytes = vec![0_u8; n_before];
        bytes.extend(text.bytes());
        // Letters that also depend on the neighbours are left out.
        forms.push(base64(&bytes).chars().skip(n_before.div_ceil(3) * 4).collect());
    }
    forms
}

/// Returns whole groups of three bytes in base64.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks_exact(3) {
        let bits = three.iter().fold(0_usize, |bits, byte| (bits << 8) | usize::from(*byte));
        text.extend([18, 12, 6, 0].map(|shift| char::from(LETTERS[(bits >> shift) & 63])));
    }
    text
}

/// The servers behind the catalogs.
struct Sources {
    postgres: Arc<Postgres>,
    mariadb: Arc<MariaDb>,
    api: RestServer,
}

impl Sources {
    async fn new() -> Result<Self> {
        let (postgres, mariadb) = (Postgres::shared()?, MariaDb::shared()?);
        let mut statements = vec!["CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS id".to_owned()];
        for (user, password) in [
            ("of_file", IN_ENVIRONMENT[0].value),
            ("of_statement", WRITTEN[0]),
            ("of_plain_file", WRITTEN[7]),
        ] {
            statements.push(format!("DROP ROLE IF EXISTS {user}"));
            statements.push(format!("CREATE ROLE {user} SUPERUSER LOGIN PASSWORD '{password}'"));
        }
        postgres.execute(&statements.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        let mut statements = vec![
            "CREATE DATABASE IF NOT EXISTS secrets".to_owned(),
            "CREATE TABLE IF NOT EXISTS secrets.t (id int)".to_owned(),
        ];
        for (user, password) in [("of_file", IN_ENVIRONMENT[1].value), ("of_statement", WRITTEN[1])]
        {
            statements
                .push(format!("CREATE OR REPLACE USER {user}@'%' IDENTIFIED BY '{password}'"));
            statements.push(format!("GRANT SELECT ON *.* TO {user}@'%'"));
        }
        mariadb.execute(&statements.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        let rows = BTreeMap::from([("t".to_owned(), vec![json!({"id": 1})])]);
        Ok(Self { postgres, mariadb, api: RestServer::start(rows).await? })
    }

    /// The catalogs of files: by reference, and one with a password as it is.
    fn files(&self) -> Result<Vec<(&'static str, String)>> {
        let reference = |secret: usize| format!("${{ENV:{}}}", IN_ENVIRONMENT[secret].variable);
        Ok(vec![
            ("pg_file", catalog_file("postgres", self.postgres_as("of_file", &reference(0)))),
            ("pg_plain", catalog_file("postgres", self.postgres_as("of_plain_file", WRITTEN[7]))),
            ("my_file", catalog_file("mysql", self.mariadb_as("of_file", &reference(1)))),
            ("basic_file", catalog_file("rest", self.rest(BASIC, &reference(2)))),
            ("bearer_file", catalog_file("rest", self.rest(BEARER, &reference(3)))),
            ("header_file", catalog_file("rest", self.rest(HEADER, &reference(4)))),
            ("query_file", catalog_file("rest", self.rest(QUERY, &reference(5)))),
            ("lake_file", catalog_file("lake", lake("an-id", &reference(6))?)),
        ])
    }

    fn postgres_as(&self, user: &str, password: &str) -> BTreeMap<String, String> {
        with(self.postgres.properties(), user, password)
    }

    fn mariadb_as(&self, user: &str, password: &str) -> BTreeMap<String, String> {
        with(self.mariadb.properties(), user, password)
    }

    fn rest(&self, auth: &str, key: &str) -> BTreeMap<String, String> {
        let manifest = format!(
            "{{connector: {{name: api, version: 1, base_url: \"{}/v1\", allow_http: true, allow_private: true}}, \
             auth: {auth}, tables: {{t: {{list: {{path: /t, rows: \"$.rows[*]\"}}, schema: {{columns: {{id: int64}}}}}}, \
             gone: {{list: {{path: /gone, rows: \"$.rows[*]\"}}, schema: {{columns: {{id: int64}}}}}}}}}}",
            self.api.url()
        );
        [("manifest_inline", manifest.as_str()), ("secret.key", key)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    /// Says all that users say about catalogs with secrets in them.
    async fn use_all(&self, client: &mut Client, said: &mut Said) -> Result<()> {
        let mut catalogs: Vec<(&str, &str)> = vec![
            ("pg_file", "public.kept"),
            ("pg_plain", "public.kept"),
            ("my_file", "secrets.t"),
            ("basic_file", "api.t"),
            ("bearer_file", "api.t"),
            ("header_file", "api.t"),
            // The server takes an unknown parameter for a filter that nothing passes.
            ("query_file", "api.t"),
        ];
        for (name, kind, properties) in [
            ("pg_made", "postgres", self.postgres_as("of_statement", WRITTEN[0])),
            ("pg_wrong", "postgres", self.postgres_as("of_statement", WRITTEN[8])),
            ("pg_reference", "postgres", self.postgres_as("of_file", "${ENV:S_POSTGRES}")),
            ("my_made", "mysql", self.mariadb_as("of_statement", WRITTEN[1])),
            ("basic_made", "rest", self.rest(BASIC, WRITTEN[2])),
            ("query_made", "rest", self.rest(QUERY, WRITTEN[3])),
            ("lake_made", "lake", lake(WRITTEN[5], WRITTEN[4])?),
        ] {
            said.works(client, &create(name, kind, &properties)).await?;
            said.fails(client, &create(name, kind, &properties)).await?;
        }
        catalogs.extend([
            ("pg_made", "public.kept"),
            ("pg_reference", "public.kept"),
            ("my_made", "secrets.t"),
            ("basic_made", "api.t"),
            ("query_made", "api.t"),
        ]);
        for (catalog, table) in &catalogs {
            let select = format!("SELECT * FROM {catalog}.{table} WHERE id > 0");
            for before in ["", "EXPLAIN ", "EXPLAIN ANALYZE "] {
                said.works(client, &format!("{before}{select}")).await?;
            }
            said.run(client, &format!("EXPLAIN VERBOSE {select}")).await?;
            said.fails(client, &format!("SELECT nothing FROM {catalog}.{table}")).await?;
            said.fails(client, &format!("SELECT * FROM {catalog}.{table}_not_there")).await?;
            said.works(client, &format!("SHOW CREATE CATALOG {catalog}")).await?;
            for table in ["schemata", "tables", "columns", "views"] {
                said.works(client, &format!("SELECT * FROM {catalog}.information_schema.{table}"))
                    .await?;
            }
        }
        for sql in [
            "SELECT * FROM basic_file.api.gone",
            "SELECT * FROM query_made.api.gone",
            "SELECT * FROM pg_wrong.public.kept",
            "SELECT * FROM lake_made.a.t",
            "SELECT * FROM lake_file.a.t",
        ] {
            said.fails(client, sql).await?;
        }
        for lake in ["lake_file", "lake_made"] {
            said.works(client, &format!("SHOW CREATE CATALOG {lake}")).await?;
        }
        mistakes(client, said).await?;
        for sql in [
            "SELECT * FROM system.runtime.queries",
            "SELECT * FROM system.runtime.nodes",
            "SELECT * FROM system.runtime.catalogs",
            "SELECT * FROM system.information_schema.columns",
            "SHOW CATALOGS",
            "SHOW SESSION",
            "DROP CATALOG pg_made",
            "DROP CATALOG lake_made",
        ] {
            said.works(client, sql).await?;
        }
        Ok(())
    }
}

/// Statements about catalogs that are wrong, each in another way, with a secret in them.
async fn mistakes(client: &mut Client, said: &mut Said) -> Result<()> {
    let secret = WRITTEN[6];
    for wrong in [
        format!("CREATE CATALOG bad USING postgres WITH (password '{secret}')"),
        format!("CREATE CATALOG bad USING postgres WITH (password = '{secret}'"),
        format!("CREATE CATALOG bad USING postgres WITH (password = '{secret}' host = 'x')"),
        format!("CREATE CATALOG bad USING postgres WITH ('{secret}')"),
        format!("CREATE CATALOG bad USING postgres WITH (password = '{secret}')"),
        format!("CREATE CATALOG bad USING nothing WITH (password = '{secret}')"),
        format!(
            "CREATE CATALOG bad USING postgres WITH (port = '{secret}', host = 'x', user = 'y', database = 'z')"
        ),
        format!(
            "CREATE CATALOG bad USING rest WITH (manifest_inline = 'auth: {{type: bearer, token: \"{secret}\"}}')"
        ),
    ] {
        said.fails(client, &wrong).await?;
    }
    Ok(())
}

const BASIC: &str = "{type: basic, username: me, password: \"${secret:key}\"}";
const BEARER: &str = "{type: bearer, token: \"${secret:key}\"}";
const HEADER: &str = "{type: api_key, in: header, name: X-Key, value: \"${secret:key}\"}";
const QUERY: &str = "{type: api_key, in: query, name: api_key, value: \"${secret:key}\"}";

fn with(
    mut properties: BTreeMap<String, String>,
    user: &str,
    password: &str,
) -> BTreeMap<String, String> {
    properties.insert("user".to_owned(), user.to_owned());
    properties.insert("password".to_owned(), password.to_owned());
    properties
}

/// A lake on a server that is not there.
fn lake(id: &str, key: &str) -> Result<BTreeMap<String, String>> {
    let endpoint = format!("http://127.0.0.1:{}", free_port()?);
    Ok([
        ("location", "s3://bucket/prefix"),
        ("endpoint", &endpoint),
        ("allow_http", "true"),
        ("access_key_id", id),
        ("secret_access_key", key),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into())
}

fn create(name: &str, kind: &str, properties: &BTreeMap<String, String>) -> String {
    let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let pairs = properties.iter().map(|(key, value)| format!("{} = {}", text(key), text(value)));
    format!("CREATE CATALOG {name} USING {kind} WITH ({})", pairs.collect::<Vec<_>>().join(", "))
}

/// Every file below a folder, as text.
fn texts_below(folder: &Path) -> Result<String> {
    let mut text = String::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false => text.push_str(&String::from_utf8_lossy(&fs::read(path)?)),
            }
        }
    }
    Ok(text)
}

/// All values of all rows, however wide a shown table may cut them.
fn raw(batches: &[RecordBatch]) -> String {
    format!("{batches:?}")
}

#[test]
fn forms_of_a_secret_are_found() {
    let found = |text: &str| forms(KERNEL).iter().any(|form| text.contains(form));
    assert!(found("password = 'Env+basic/Zs3cretKernelZ=3'") && !found("Zs3cret"));
    assert!(found("?key=Env%2Bbasic%2FZs3cretKernelZ%3D3"));
    // A name, a colon and a secret.
    assert!(found("Basic bWU6RW52K2Jhc2ljL1pzM2NyZXRLZXJuZWxaPTM="));
    assert!(found("Basic eW91OkVuditiYXNpYy9aczNjcmV0S2VybmVsWj0z"));
    assert!(found("Basic dGhlbTpFbnYrYmFzaWMvWnMzY3JldEtlcm5lbFo9Mw=="));
}
