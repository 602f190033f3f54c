#!/usr/bin/env python3
"""Reads an archive with DuckDB and with pyarrow, and prints what each finds as one JSON object.

Usage: read_archive.py ARCHIVE

Nothing of Piaogen is used: only the files, by the layout that any reader of Parquet knows. The
caller compares the two answers with each other and with its own.
"""

import hashlib
import json
import sys

import duckdb
import pyarrow.compute as pc
import pyarrow.dataset as ds


def digest(leaves):
    """SHA-256 over all leaves in the order of shard and log index."""
    hasher = hashlib.sha256()
    for leaf in leaves:
        hasher.update(leaf)
    return hasher.hexdigest()


def with_duckdb(root):
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    records = f"read_parquet('{root}/records/*/*/*.parquet', hive_partitioning = true)"
    one = lambda sql: con.execute(sql).fetchone()
    rows, gross, vat, numbers = one(
        "SELECT count(*), sum(total_gross)::VARCHAR, sum(total_vat)::VARCHAR,"
        f" count(DISTINCT number) FROM {records}"
    )
    outcomes = con.execute(f"SELECT outcome, count(*) FROM {records} GROUP BY 1").fetchall()
    days = con.execute(
        "SELECT DISTINCT date::VARCHAR, strftime(block_time AT TIME ZONE 'UTC', '%Y-%m-%d')"
        f" FROM {records} ORDER BY 1"
    ).fetchall()
    leaves = con.execute(f"SELECT leaf FROM {records} ORDER BY shard, log_index").fetchall()
    preceding = one(
        f"SELECT count(*) FROM (SELECT unnest(preceding) AS p FROM {records}) WHERE p.number != ''"
    )[0]
    blocks, offsets = one(
        "SELECT count(*), sum(list_sum(cut))::VARCHAR"
        f" FROM read_parquet('{root}/blocks/*.parquet')"
    )
    return {
        "rows": rows,
        "gross": gross,
        "vat": vat,
        "numbers": numbers,
        "outcomes": dict(outcomes),
        "days": sorted(day for day, own in days if day == own),
        "leaves": digest(leaf for (leaf,) in leaves),
        "preceding": preceding,
        "blocks": blocks,
        "offsets": offsets,
    }


def with_pyarrow(root):
    records = ds.dataset(f"{root}/records", format="parquet", partitioning="hive")
    table = records.to_table(
        columns=[
            "shard", "log_index", "date", "block_time", "number", "outcome",
            "total_gross", "total_vat", "leaf", "preceding",
        ]
    ).sort_by([("shard", "ascending"), ("log_index", "ascending")])
    counts = pc.value_counts(table["outcome"]).to_pylist()
    members = pc.struct_field(pc.list_flatten(table["preceding"]), "number")
    days = set(zip(table["date"].to_pylist(), pc.strftime(table["block_time"], "%Y-%m-%d").to_pylist()))
    blocks = ds.dataset(f"{root}/blocks", format="parquet").to_table(columns=["cut"])
    return {
        "rows": table.num_rows,
        "gross": str(pc.sum(table["total_gross"]).as_py()),
        "vat": str(pc.sum(table["total_vat"]).as_py()),
        "numbers": pc.count_distinct(table["number"]).as_py(),
        "outcomes": {entry["values"]: entry["counts"] for entry in counts},
        "days": sorted(str(day) for day, own in days if str(day) == own),
        "leaves": digest(table["leaf"].to_pylist()),
        "preceding": pc.count(members).as_py(),
        "blocks": blocks.num_rows,
        "offsets": str(pc.sum(pc.list_flatten(blocks["cut"])).as_py()),
    }


if __name__ == "__main__":
    root = sys.argv[1]
    print(json.dumps({"duckdb": with_duckdb(root), "pyarrow": with_pyarrow(root)}))
