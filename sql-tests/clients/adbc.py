"""Python ADBC against a running coordinator: what a notebook or a tool does, checked.

    pip install adbc-driver-flightsql adbc-driver-manager pyarrow
    python adbc.py grpc://127.0.0.1:8815 [user password]

Needs the catalog `tpch` (kind "tpch") and, for writing, a table that takes INSERT, named by the
environment variable MESHWORK_WRITABLE (`catalog.schema.table` with columns id BIGINT, name VARCHAR);
without it the checks that write are left out and said to be. Prints one line for each check and exits
with 1 when one failed.
"""

import os
import sys
import threading
import time

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flight
import adbc_driver_manager
import pyarrow

LARGE_ROWS = 1_000_000
LARGE = os.environ.get(
    "MESHWORK_LARGE", f"SELECT * FROM tpch.sf1.lineitem LIMIT {LARGE_ROWS}"
)
TABLE = os.environ.get("MESHWORK_TABLE", "tpch.tiny.nation")
WRITABLE = os.environ.get("MESHWORK_WRITABLE")
SLOW = os.environ.get(
    "MESHWORK_SLOW",
    "SELECT count(*) FROM tpch.sf1.lineitem a, tpch.sf1.lineitem b WHERE a.l_comment <> b.l_comment",
)

failures = []


def check(name, work):
    started = time.monotonic()
    try:
        said = work()
    except Exception as error:  # each check stands for itself
        failures.append(name)
        print(f"FAIL {name}: {type(error).__name__}: {error}")
        return
    print(f"ok   {name} ({time.monotonic() - started:.2f} s) {said or ''}".rstrip())


def expect(found, wanted):
    assert found == wanted, f"found {found!r}, wanted {wanted!r}"


def one(cursor, sql, parameters=None):
    cursor.execute(sql, parameters)
    rows = cursor.fetchall()
    expect(len(rows), 1)
    return rows[0]


def connect(arguments):
    options = {}
    if len(arguments) == 3:
        options = {"username": arguments[1], "password": arguments[2]}
    options[adbc_driver_flightsql.DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value] = "true"
    return flight.connect(arguments[0], db_kwargs=options, autocommit=True)


def main(arguments):
    connection = connect(arguments)
    cursor = connection.cursor()
    catalog, schema, table = TABLE.split(".")

    def get_info():
        info = connection.adbc_get_info()
        expect(info["vendor_name"], "Meshwork")
        return info["vendor_version"]

    check("get_info", get_info)

    for depth in ["catalogs", "db_schemas", "tables", "all"]:

        def get_objects(depth=depth):
            found = connection.adbc_get_objects(depth=depth, catalog_filter=catalog)
            trees = found.read_all().to_pylist()
            names = [tree["catalog_name"] for tree in trees]
            assert catalog in names, names
            if depth in ("tables", "all"):
                tables = [
                    (tree["catalog_name"], place["db_schema_name"], entry["table_name"])
                    for tree in trees
                    for place in tree["catalog_db_schemas"]
                    for entry in place["db_schema_tables"]
                ]
                assert (catalog, schema, table) in tables, tables[:20]
                return f"{len(tables)} tables"
            return None

        check(f"get_objects {depth}", get_objects)

    def get_objects_columns():
        found = connection.adbc_get_objects(
            depth="all", catalog_filter=catalog, db_schema_filter=schema, table_name_filter=table
        )
        entries = [
            entry
            for tree in found.read_all().to_pylist()
            for place in tree["catalog_db_schemas"]
            for entry in place["db_schema_tables"]
        ]
        expect(len(entries), 1)
        assert entries[0]["table_columns"], "no columns"
        return f"{len(entries[0]['table_columns'])} columns"

    check("get_objects of one table", get_objects_columns)
    check("get_table_types", lambda: expect(connection.adbc_get_table_types(), ["SYSTEM TABLE", "TABLE", "VIEW"]))

    def table_schema():
        found = connection.adbc_get_table_schema(
            table, catalog_filter=catalog, db_schema_filter=schema
        )
        assert len(found) > 0, found
        return f"{len(found)} columns"

    check("get_table_schema", table_schema)

    def types():
        sql = """SELECT TRUE, CAST(1 AS TINYINT), CAST(2 AS SMALLINT), CAST(3 AS INTEGER),
          CAST(4 AS BIGINT), CAST(1.5 AS REAL), CAST(2.5 AS DOUBLE), CAST(3.25 AS DECIMAL(10,2)),
          'text', X'0102', DATE '2026-02-28', TIMESTAMP '2026-02-28 12:34:56', NULL,
          arrow_cast('view', 'Utf8View'), arrow_cast('d', 'Dictionary(Int32, Utf8)'),
          make_array(1, 2), INTERVAL '1' DAY"""
        cursor.execute(sql)
        found = cursor.fetch_arrow_table()
        expect(found.num_rows, 1)
        expect(found.column(13).type, pyarrow.string())
        expect(found.column(14).type, pyarrow.string())
        expect(found.column(8).to_pylist(), ["text"])
        return f"{found.num_columns} columns"

    check("all types", types)
    check("question mark parameters", lambda: expect(one(cursor, "SELECT ? + 1, '?', ?", (41, "b")), (42, "?", "b")))
    check("dollar parameters", lambda: expect(one(cursor, "SELECT $2, $1", ("a", "b")), ("b", "a")))
    twelve = ", ".join(f"${n} AS c{n}" for n in range(1, 13))
    check("twelve parameters", lambda: expect(one(cursor, f"SELECT {twelve}", tuple(map(str, range(12)))), tuple(map(str, range(12)))))
    check("parameter is null", lambda: expect(one(cursor, "SELECT ? IS NULL", (None,)), (True,)))

    def filtered():
        found = one(cursor, f"SELECT count(*) FROM {TABLE} WHERE n_nationkey < ?", (5,))
        expect(found, (5,))

    check("parameter in a filter", filtered)

    def session():
        cursor.execute("SET SESSION batch_size = 1024")
        connection.adbc_current_catalog = catalog
        connection.adbc_current_db_schema = schema
        expect(one(cursor, f"SELECT count(*) FROM {table}")[0] > 0, True)
        return connection.adbc_current_catalog

    check("session catalog and schema", session)

    def error(sql, kind, code):
        def raised():
            try:
                cursor.execute(sql)
                cursor.fetchall()
            except kind as error:
                assert code in str(error), str(error)
                return str(error).splitlines()[0][:100]
            raise AssertionError("no error")

        return raised

    programming = adbc_driver_manager.ProgrammingError
    check("error of a missing table", error("SELECT * FROM tpch.tiny.no_such_table_here", programming, "TABLE_NOT_FOUND"))
    check("error of syntax", error("SELEC 1", programming, "SYNTAX_ERROR"))
    check("error while running", error("SELECT 1 / (n_nationkey - n_nationkey) FROM " + TABLE, adbc_driver_manager.Error, "DIVISION_BY_ZERO"))

    def large():
        cursor.execute(LARGE)
        found = cursor.fetch_arrow_table()
        expect(found.num_rows, LARGE_ROWS)
        return f"{found.nbytes / 1e6:.0f} MB"

    check("one million rows", large)

    def cancelled():
        started = time.monotonic()
        other = connect(arguments)
        try:
            slow = other.cursor()
            threading.Timer(1.5, slow.adbc_cancel).start()
            try:
                slow.execute(SLOW)
                slow.fetchall()
            except adbc_driver_manager.Error:
                took = time.monotonic() - started
                assert took < 5, f"cancelled only after {took:.1f} s"
                expect(one(cursor, "SELECT 1"), (1,))
                return None
            raise AssertionError("not cancelled")
        finally:
            other.close()

    check("cancel", cancelled)

    if WRITABLE:

        def many():
            before = one(cursor, f"SELECT count(*) FROM {WRITABLE}")[0]
            rows = [(n, f"row {n}") for n in range(5)]
            cursor.executemany(f"INSERT INTO {WRITABLE} VALUES (?, ?)", rows)
            expect(cursor.rowcount, 5)
            expect(one(cursor, f"SELECT count(*) FROM {WRITABLE}")[0] - before, 5)

        def update():
            count = cursor.adbc_statement
            count.set_sql_query(f"INSERT INTO {WRITABLE} VALUES (7, 'seven')")
            expect(count.execute_update(), 1)

        check("executemany INSERT", many)
        check("execute_update", update)
    else:
        print("left out: executemany and execute_update (MESHWORK_WRITABLE is not set)")

    cursor.close()
    connection.close()
    print(f"{len(failures)} failed" if failures else "all passed")
    return 1 if failures else 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 4):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
