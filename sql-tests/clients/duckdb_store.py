"""DuckDB beside the store, for `bench store`: one table with the rows of each update, folded by update; one that is folded.

Needs duckdb==1.5.5 (PyPI). Argument: the folder with the updates, b1, b2, ..., as Parquet. The database is a file of its own.
Each line of the input is {"load": number}, {"compact": true}, or {"schema": "loaded" or "folded", "sql": ...}; the answer is a
line {"ms": ..., "rows": ...}.
"""

import json
import pathlib
import sys
import tempfile
import time

import duckdb

FOLDED = "SELECT day, publisher, country, sum(clicks)::BIGINT AS clicks, sum(cost)::BIGINT AS cost FROM {} GROUP BY ALL ORDER BY ALL"

(folder,) = sys.argv[1:]
scratch = tempfile.TemporaryDirectory()
connection = duckdb.connect(str(pathlib.Path(scratch.name) / "bench.duckdb"), config={"threads": 2})
for schema in ("loaded", "folded"):
    connection.execute(f"CREATE SCHEMA {schema}")
connection.execute(
    "CREATE TABLE loaded.t (day DATE, publisher BIGINT, country VARCHAR, clicks BIGINT, cost BIGINT)"
)


def statement(request):
    if "load" in request:
        update = f"read_parquet('{folder}/b{request['load']}/*.parquet')"
        return "INSERT INTO loaded.t " + FOLDED.format(update)
    if "compact" in request:
        return "CREATE TABLE folded.t AS " + FOLDED.format("loaded.t")
    connection.execute(f"USE bench.{request['schema']}")
    return request["sql"]


for line in sys.stdin:
    sql = statement(json.loads(line))
    began = time.perf_counter()
    rows = connection.execute(sql).fetchall()
    took = (time.perf_counter() - began) * 1e3
    print(json.dumps({"ms": took, "rows": [[str(value) for value in row] for row in rows]}), flush=True)
