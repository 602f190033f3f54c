#!/usr/bin/env python3
"""Counts what must become of the UCI Online Retail file, from the CSV alone.

Shares nothing with the Rust conversion: it exists to disagree with it. Prints one "name number" a
line. Usage: retail_counts.py FOLDER (with online_retail.csv.gz and reversal_pairs.csv).
"""

import csv
import gzip
import os
import sys
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal


def pennies(row):
    """Quantity times price, rounded half away from zero to the penny."""
    pounds = Decimal(row["Quantity"]) * Decimal(row["UnitPrice"])
    return int(pounds.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP) * 100)


def main(folder):
    path = os.path.join(folder, "online_retail.csv.gz")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    invoices = defaultdict(list)
    for row in rows:
        invoices[row["InvoiceNo"]].append(row)
    originals = defaultdict(set)
    with open(os.path.join(folder, "reversal_pairs.csv"), encoding="utf-8", newline="") as file:
        for pair in csv.DictReader(file):
            originals[pair["credit_invoice"]].add(pair["original_invoice"])

    counts = defaultdict(int)
    counts["rows"] = len(rows)
    # These stay zero for the real file; they are printed to be compared.
    counts["rows_SIGN"] = counts["rows_UNREADABLE"] = 0
    for number, lines in invoices.items():
        if number.startswith("A"):
            counts["refused_TYPE_NOT_ACCEPTED"] += 1
            counts["lines"] += len(lines)
            continue
        credit = number.startswith("C")
        usable = [r for r in lines if int(r["Quantity"]) > 0 and Decimal(r["UnitPrice"]) > 0]
        if not credit and not usable:
            counts["not_invoices"] += 1
            counts["rows_NOT_AN_INVOICE"] += len(lines)
            continue
        # A free item stays on a sale; a line of the other sign does not.
        fitting = [
            r for r in lines
            if (int(r["Quantity"]) < 0) == credit and Decimal(r["UnitPrice"]) >= 0
        ]
        counts["rows_SIGN"] += len(lines) - len(fitting)
        counts["lines"] += len(fitting)
        gross = sum(pennies(r) for r in fitting)
        counts["gross_pennies"] += gross
        if credit:
            counts["accepted_credits"] += 1
            counts["gross_pennies_credits"] += gross
            counts["credits_with_originals"] += bool(originals[number])
            counts["originals_named"] += min(len(originals[number]), 64)
        else:
            counts["accepted_sales"] += 1
            counts["gross_pennies_sales"] += gross
    count_reversals(folder, rows, invoices, counts)
    for name, count in sorted(counts.items()):
        print(name, count)


def count_reversals(folder, rows, invoices, counts):
    """What credits do to their originals: one event each, then a question for a penny too many."""
    events, lines = defaultdict(int), defaultdict(set)
    with open(os.path.join(folder, "reversal_pairs.csv"), encoding="utf-8", newline="") as file:
        for pair in csv.DictReader(file):
            at = int(pair["original_line_row"])
            names = (pair["credit_invoice"], pair["original_invoice"])
            assert rows[int(pair["credit_line_row"])]["InvoiceNo"] == names[0]
            assert rows[at]["InvoiceNo"] == names[1]
            piece = {"Quantity": pair["quantity"], "UnitPrice": rows[at]["UnitPrice"]}
            events[names] += pennies(piece)
            lines[names].add(at)
    credited, credits = defaultdict(int), defaultdict(int)
    for (_, original), amount in events.items():
        credited[original] += amount
        credits[original] += 1
    counts["reversals"] = len(events)
    counts["reversals_without_lines"] = sum(len(at) > 64 for at in lines.values())
    counts["originals_credited"] = len(credited)
    counts["originals_credited_more_than_once"] = sum(n > 1 for n in credits.values())
    counts["pennies_credited"] = sum(credited.values())
    for original, amount in credited.items():
        sold = [r for r in invoices[original] if Decimal(r["UnitPrice"]) >= 0]
        remains = sum(pennies(r) for r in sold if int(r["Quantity"]) > 0) - amount
        # The file never takes more back than was sold.
        assert remains >= 0, original
        counts["pennies_remaining"] += remains
        counts["questions_FULLY_RED"] += remains == 0
        counts["questions_AMOUNT_EXCEEDED"] += remains > 0


if __name__ == "__main__":
    main(sys.argv[1])
