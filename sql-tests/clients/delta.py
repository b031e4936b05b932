"""Reads a Delta table with the Python package deltalake, for the test of exports.

Needs deltalake and pyarrow (PyPI). Argument: the folder. Output: a line of JSON for each row, its values as text in the order of
the columns' names.
"""

import json
import os
import sys

import deltalake

(folder,) = sys.argv[1:]
table = deltalake.DeltaTable(folder).to_pyarrow_table()
for row in table.to_pylist():
    print(json.dumps([None if row[name] is None else str(row[name]) for name in sorted(row)]))
sys.stdout.flush()
# Threads of pyarrow that still run abort a usual exit.
os._exit(0)
