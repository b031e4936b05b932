"""Reads all of lineitem into Arrow, for `bench read`: `postgres` or `mariadb`, by `duckdb`, `connectorx` or `adbc`.

Needs duckdb==1.5.5 with duckdb-extension-postgres-scanner and duckdb-extension-mysql-scanner, connectorx, pyarrow, adbc-driver-postgresql (PyPI).
Arguments: the server, the reader, the ports of PostgreSQL and MariaDB; PGPASSWORD and MYSQL_PWD are in the environment, and BENCH_TLS, which
is `prefer` or `disable`.
The answer is {"ms": ..., "cpu_s": ..., "rows": ...}: time and processor time of reading alone, batches are counted and dropped where the
reader allows it.
"""

import importlib.util
import json
import os
import pathlib
import resource
import sys
import time
import urllib.parse

server, reader, postgres_port, mariadb_port = sys.argv[1:]
PASSWORD = urllib.parse.quote(os.environ["PGPASSWORD" if server == "postgres" else "MYSQL_PWD"], safe="")
TLS = os.environ["BENCH_TLS"]
COLUMNS = (
    "l_orderkey, l_partkey, l_suppkey, l_linenumber, l_quantity, l_extendedprice, l_discount, l_tax, l_returnflag, "
    "l_linestatus, l_shipdate, l_commitdate, l_receiptdate, l_shipinstruct, l_shipmode, l_comment"
)
SQL = f"SELECT {COLUMNS} FROM lineitem"


def by_duckdb():
    import duckdb

    connection = duckdb.connect(config={"threads": 2})
    kind = "postgres" if server == "postgres" else "mysql"
    package = pathlib.Path(importlib.util.find_spec(f"duckdb_extension_{kind}_scanner").origin).parent
    (extension,) = package.glob("extensions/*/*.duckdb_extension")
    connection.execute(f"LOAD '{extension}'")
    target = {
        "postgres": f"host=127.0.0.1 port={postgres_port} user=tester dbname=postgres sslmode={TLS}",
        "mysql": f"host=127.0.0.1 port={mariadb_port} user=tester database=tpch ssl_mode={'disabled' if TLS == 'disable' else 'preferred'}",
    }[kind]
    connection.execute(f"ATTACH '{target}' AS source (TYPE {kind}, READ_ONLY)")
    schema = "public" if kind == "postgres" else "tpch"

    def read():
        batches = connection.execute(f"SELECT {COLUMNS} FROM source.{schema}.lineitem").to_arrow_reader(8192)
        return sum(batch.num_rows for batch in batches)

    return read


def by_connectorx():
    import connectorx

    uri = {
        "postgres": f"postgresql://tester:{PASSWORD}@127.0.0.1:{postgres_port}/postgres?sslmode={TLS}",
        "mariadb": f"mysql://tester:{PASSWORD}@127.0.0.1:{mariadb_port}/tpch",
    }[server]
    split = {"partition_on": "l_orderkey", "partition_num": 2}
    return lambda: connectorx.read_sql(uri, SQL, return_type="arrow", **split).num_rows


def by_adbc():
    import adbc_driver_postgresql.dbapi

    uri = f"postgresql://tester:{PASSWORD}@127.0.0.1:{postgres_port}/postgres?sslmode={TLS}"
    connection = adbc_driver_postgresql.dbapi.connect(uri)

    def read():
        cursor = connection.cursor()
        cursor.execute(SQL)
        batches = cursor.fetch_record_batch()
        return sum(batch.num_rows for batch in batches)

    return read


read = {"duckdb": by_duckdb, "connectorx": by_connectorx, "adbc": by_adbc}[reader]()
used = resource.getrusage(resource.RUSAGE_SELF)
began = time.perf_counter()
rows = read()
took = time.perf_counter() - began
after = resource.getrusage(resource.RUSAGE_SELF)
cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
print(json.dumps({"ms": took * 1e3, "cpu_s": cpu, "rows": rows}), flush=True)
# Some drivers do not survive the end of the interpreter.
os._exit(0)
