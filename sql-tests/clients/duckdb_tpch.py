"""DuckDB over the tables of TPC-H, for `bench federated`: all of them as Parquet, and spread over PostgreSQL, MariaDB and Parquet.

Needs duckdb==1.5.5, duckdb-extension-postgres-scanner and duckdb-extension-mysql-scanner (PyPI).
Arguments: the folder of the Parquet tables, the ports of PostgreSQL and MariaDB; PGPASSWORD and MYSQL_PWD are in the environment.
Each line of the input is {"schema": "files" or "spread", "sql": ...}; the answer is a line {"ms": ..., "rows": ...}.
"""

import importlib.util
import json
import pathlib
import sys
import time

import duckdb

folder, postgres_port, mariadb_port = sys.argv[1:]
HOMES = {"customer": "pg.public", "supplier": "pg.public", "part": "my.tpch", "partsupp": "my.tpch"}


def load(connection, name):
    package = pathlib.Path(importlib.util.find_spec(f"duckdb_extension_{name}").origin).parent
    (extension,) = package.glob("extensions/*/*.duckdb_extension")
    connection.execute(f"LOAD '{extension}'")


connection = duckdb.connect(config={"threads": 2})
load(connection, "postgres_scanner")
load(connection, "mysql_scanner")
connection.execute(
    f"ATTACH 'host=127.0.0.1 port={postgres_port} user=tester dbname=postgres' AS pg (TYPE postgres, READ_ONLY)"
)
connection.execute(
    f"ATTACH 'host=127.0.0.1 port={mariadb_port} user=tester database=tpch' AS my (TYPE mysql, READ_ONLY)"
)
for schema in ("files", "spread"):
    connection.execute(f"CREATE SCHEMA {schema}")
    for table in sorted(path.name for path in pathlib.Path(folder).iterdir() if path.is_dir()):
        home = HOMES.get(table) if schema == "spread" else None
        source = f"{home}.{table}" if home else f"read_parquet('{folder}/{table}/*.parquet')"
        connection.execute(f"CREATE VIEW {schema}.{table} AS SELECT * FROM {source}")

for line in sys.stdin:
    request = json.loads(line)
    connection.execute(f"USE memory.{request['schema']}")
    began = time.perf_counter()
    rows = connection.execute(request["sql"]).fetchall()
    took = (time.perf_counter() - began) * 1e3
    print(json.dumps({"ms": took, "rows": len(rows)}), flush=True)
