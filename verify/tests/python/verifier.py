"""A second verifier: checks every vector of a folder, good and bad, against FORMAT.md.

It is written from that document alone, with the standard library alone. Where it and the reference
code disagree, one of them or the document is wrong.

    python3 verifier.py FORMAT.md vectors/
"""

import json
import sys
from pathlib import Path

from chain import (
    advance, epochs_from_json, follow, go_on, read_certificate, read_trust_root, Refused, resume,
    vote_message, witnesses_of,
)
from evidence import evidence_from_json, verify_evidence
from piaogen import (
    commitment_of, cosignatures_of, digests_of, entry_from_json, history_from_json, partition_of,
    put_fields, read_entry, read_kinds, read_note, read_outcomes, read_record, receipt_from_json,
    record_from_json, said_by, salt, shape, signed_of, status_digest, status_from_json,
    status_proof_from_json, status_root, stirred, subject_of, subject_of_record, totals,
    verify_consistency, verify_history, verify_note, verify_receipt, verify_status_proof, ZERO,
)
from sm import key_id, sm2_verify, sm3
from tiles import check_bundle, Log, parse_path, path_in, path_of, prove, verify_head
from values import (
    Bad, consistent, document_from_json, leaf, read_tables, root_of, TABLES, tag_of, u32, unhex,
)


# --- the vectors --------------------------------------------------------------------------------

def same(what, found, expected):
    if found != expected:
        raise AssertionError(f"{what}: found {found!r}, the vector says {expected!r}")


def check_documents(vectors):
    for case in vectors["cases"]:
        name = case["name"]
        secret, fields, lines = document_from_json(json.dumps(case["document"]))
        names = {tag: known for tag, (known, _) in TABLES["document"].items()}
        same(name, {names[tag]: value.hex() for tag, value in fields}, case["values"])
        digests = digests_of(secret, fields)
        same(name, {names[tag]: digest.hex() for tag, digest in digests}, case["digests"])
        same(name, commitment_of(digests).hex(), case["commitment"])
        found = [{"bytes": line.hex(), "salt": salt(secret, 65536 + k).hex()}
                 for k, line in enumerate(lines)]
        same(name, found, case["lines"])
        if lines:
            leaves = [leaf(salt(secret, 65536 + k) + line) for k, line in enumerate(lines)]
            same(name, u32(len(lines)) + root_of(leaves), dict(fields)[tag_of("document", "lines")])
    for case in vectors["bad"]:
        try:
            document_from_json(case["text"])
        except (Bad, KeyError):
            continue
        raise AssertionError(f"the document {case['name']} must be refused")
    return len(vectors["cases"]) + len(vectors["bad"])


def check_records(vectors):
    chain = unhex(vectors["chain"], 32)
    same("chain", sm3(b"\x09", vectors["genesis"].encode()), chain)
    genesis = json.loads(vectors["genesis"])
    keys = {key_id(unhex(key)): unhex(key) for key in vectors["keys"]}
    for case in vectors["cases"]:
        name, data = case["name"], unhex(case["record"])
        record = read_record(data)
        if "refused" in case:
            same(name, record, case["refused"])
            same(name, sm3(b"\x07", data).hex(), case["commitment"])
            continue
        if "outcome" in record:
            raise AssertionError(f"the record {name} is refused with {record}")
        same(name, record["commitment"].hex(), case["commitment"])
        same(name, record_from_json(case["json"]), data)
        message = signed_of(chain, record)
        same(name, message.hex(), case["signed"])
        key = keys.get(record["signer"])
        holds = key is not None and sm2_verify(key, message, record["signature"])
        same(name, holds, case["signature_holds"])
        subject = subject_of_record(record, genesis)
        same(name, None if subject is None else subject.hex(), case.get("subject"))
        if "totals" in case:
            allowed = vectors["tolerance_totals"], vectors["tolerance_tax"]
            same(name, totals(record["fields"], *allowed), case["totals"])
    return len(vectors["cases"])


def check_entries(vectors):
    for case in vectors["cases"]:
        data = unhex(case["entry"])
        same(case["name"], read_entry(data), case["json"])
        same(case["name"], entry_from_json(case["json"]), data)
        same(case["name"], leaf(data).hex(), case["leaf"])
    for case in vectors["bad"]:
        try:
            read_entry(unhex(case["entry"]))
        except Bad:
            continue
        raise AssertionError(f"the entry {case['name']} must be refused")
    return len(vectors["cases"]) + len(vectors["bad"])


def check_certificates(vectors):
    for case in vectors["cases"]:
        found = read_certificate(unhex(case["certificate"]))
        for name in ("epoch", "view", "parent", "validators", "signers"):
            same(name, found[name], case[name])
        same("payload", found["payload"].hex(), case["payload"])
        signed = vote_message(unhex(vectors["chain"]), found["proposal"])
        same("signed", signed.hex(), case["signed"])
    for case in vectors["bad"]:
        try:
            read_certificate(unhex(case["certificate"]))
        except Bad:
            continue
        raise AssertionError(f"the certificate {case['name']} must be refused")
    return len(vectors["cases"]) + len(vectors["bad"])


def check_receipts(vectors):
    trust = read_trust_root(vectors["trust_root"])
    for case in vectors["cases"]:
        data = unhex(case["receipt"])
        same(case["name"], verify_receipt(data, trust), case["step"])
        if "json" in case:
            same(case["name"], receipt_from_json(case["json"]).hex(), data.hex())
    return len(vectors["cases"])


def check_consistency(vectors):
    trust = read_trust_root(vectors["trust_root"])
    for case in vectors["cases"]:
        same(case["name"], verify_consistency(unhex(case["consistency"]), trust), case["step"])
    for log in vectors["logs"]:
        proof = [unhex(item, 32) for item in log["proof"]]
        roots = unhex(log["old_root"], 32), unhex(log["new_root"], 32)
        same("log", consistent(log["old_size"], log["new_size"], *roots, proof), log["holds"])
    return len(vectors["cases"]) + len(vectors["logs"])


def check_checkpoints(vectors):
    trust = read_trust_root(vectors["trust_root"])
    for case in vectors["cases"]:
        found = verify_note(case["note"], trust)
        same(case["name"], found, (case["step"], case.get("signers")))
    return len(vectors["cases"])


def check_statuses(vectors):
    for case in vectors["cases"]:
        found = status_root(unhex(case["record"]), case["index"], unhex(case["proof"]))
        same("status", None if found is None else found.hex(), case["status_root"])
    for case in vectors["bad"]:
        try:
            status_root(ZERO, 0, unhex(case["proof"]))
        except Bad:
            continue
        raise AssertionError(f"the status proof {case['name']} must be refused")
    return len(vectors["cases"]) + len(vectors["bad"])


def check_events(vectors):
    for case in vectors["cases"]:
        name, data = case["name"], unhex(case["record"])
        record = read_record(data)
        if "refused" in case:
            same(name, record, case["refused"])
            same(name, sm3(b"\x07", data).hex(), case["commitment"])
            continue
        if "outcome" in record:
            raise AssertionError(f"the event {name} is refused with {record}")
        same(name, record["commitment"].hex(), case["commitment"])
        same(name, record_from_json(case["json"]), data)
        if "shape" in case:
            same(name, shape(record), case["shape"])
    for case in vectors["entries"]:
        data = unhex(case["entry"])
        same("entry", read_entry(data), case["json"])
        same("entry", entry_from_json(case["json"]), data)
        same("entry", leaf(data).hex(), case["leaf"])
    return len(vectors["cases"]) + len(vectors["entries"])


def check_status_documents(vectors):
    names = {tag: known for tag, (known, _) in TABLES["status"].items()}
    for case in vectors["cases"]:
        secret, fields = status_from_json(case["status"])
        same("status", {names[tag]: value.hex() for tag, value in fields}, case["values"])
        same("status", (secret + put_fields(fields)).hex(), case["stored"])
        same("status", status_digest(digests_of(secret, fields)).hex(), case["digest"])
    secret = bytes(16)
    for step in vectors["stirred"]:
        secret = stirred(secret, unhex(step["event"], 16))
        same("secret", secret.hex(), step["after"])
    for case in vectors["bad"]:
        try:
            status_from_json(json.loads(case["text"]))
        except (Bad, KeyError):
            continue
        raise AssertionError(f"the status {case['name']} must be refused")
    return len(vectors["cases"]) + len(vectors["stirred"]) + len(vectors["bad"])


def check_status_proofs(vectors):
    trust = read_trust_root(vectors["trust_root"])
    for case in vectors["cases"]:
        data = unhex(case["proof"])
        same(case["name"], verify_status_proof(data, trust), case["step"])
        if "json" in case:
            same(case["name"], status_proof_from_json(case["json"]).hex(), data.hex())
            said = said_by(data)
            same(case["name"], said, {name: case[name] for name in said})
    return len(vectors["cases"])


def check_histories(vectors):
    trust = read_trust_root(vectors["trust_root"])
    for case in vectors["cases"]:
        data = unhex(case["history"])
        same(case["name"], verify_history(data, trust), case["step"])
        if "json" in case:
            same(case["name"], history_from_json(case["json"]).hex(), data.hex())
    return len(vectors["cases"])


def check_epochs(vectors):
    trust = read_trust_root(vectors["trust_root"])
    for case in vectors["cases"]:
        data = unhex(case["proof"])
        step, advanced = advance(data, trust)
        same(case["name"], step, case["step"])
        if "json" in case:
            same(case["name"], epochs_from_json(case["json"]).hex(), data.hex())
            same(case["name"], advanced, read_trust_root(case["advanced"]))
    return len(vectors["cases"])


def check_links(vectors):
    trust = read_trust_root(vectors["trust_root"])
    links = [unhex(link) for link in vectors["links"]]
    same("links", follow(links, trust), (None, vectors["final"]))
    for case in vectors["cases"]:
        step, _ = follow(links[:case["at"]] + [unhex(case["link"])], trust)
        same(case["name"], step, case["step"])
    for case in vectors["followers"]:
        step, follower = resume(unhex(case["follower"]), trust)
        same(case["name"], step, case["step"])
        if follower:
            found = go_on(follower, links[case["height"] + 1:])
            same(case["name"], found, (None, case["final"]))
    return 1 + len(vectors["cases"]) + len(vectors["followers"])


def check_later_receipts(vectors):
    trusts = {name: read_trust_root(root) for name, root in vectors["trust_roots"].items()}
    for case in vectors["cases"]:
        data = unhex(case["receipt"])
        same(case["name"], verify_receipt(data, trusts[case["trust"]]), case["step"])
        if "json" in case:
            same(case["name"], receipt_from_json(case["json"]).hex(), data.hex())
    return len(vectors["cases"])


def check_cosignatures(vectors):
    trust = read_trust_root(vectors["trust_root"])
    for case in vectors["cases"]:
        _, text, signatures = read_note(case["note"])
        found = cosignatures_of(signatures)
        same(case["name"], [time for _, _, time, _ in found], case["times"])
        try:
            witnesses, step = witnesses_of(trust, text, found), None
        except Refused as refusal:
            witnesses, step = None, refusal.step
        same(case["name"], (witnesses, step), (case.get("witnesses"), case.get("step")))
    return len(vectors["cases"])


def check_evidence(vectors):
    trust = read_trust_root(vectors["trust_root"])
    for case in vectors["cases"]:
        data = unhex(case["evidence"])
        own = read_trust_root(case["trust_root"]) if "trust_root" in case else trust
        found = verify_evidence(data, own)
        same(case["name"], found, (case["step"], case.get("proves")))
        if "json" in case:
            same(case["name"], evidence_from_json(case["json"]).hex(), data.hex())
    return len(vectors["cases"])


def check_tiles(vectors):
    trust = read_trust_root(vectors["trust_root"])
    for case in vectors["heads"]:
        found = verify_head(unhex(case["head"]), trust)
        same(case["name"], found, (case["step"], case.get("logs")))
    for case in vectors["paths"]["good"]:
        tile = case["log"], case["part"], case["index"], case["width"]
        same(case["path"], parse_path(case["path"]), tile)
        same(case["path"], path_of(*tile), case["path"])
    for path in vectors["paths"]["bad"]:
        same(path, parse_path(path), None)
    for case in vectors["parts"]:
        path = path_in("3", case["part"], case["index"], case["size"])
        same("part", path, case["path"])
    proofs = 0
    for log in vectors["proofs"]:
        tiles = {path: unhex(tile) for path, tile in log["tiles"].items()}
        for case in log["cases"]:
            instead = {path: unhex(tile) for path, tile in case.get("instead", {}).items()}
            read = Log(log["log"], log["size"], {**tiles, **instead})
            step, proof = prove(read, unhex(log["root"]), case["index"], unhex(case["leaf"]))
            found = None if proof is None else [digest.hex() for digest in proof]
            same(case["name"], (step, found), (case["step"], case.get("proof")))
            proofs += 1
    for case in vectors["bundles"]:
        step, items = check_bundle(case["path"], unhex(case["bundle"]), unhex(case["hashes"]))
        same(case["name"], step, case["step"])
        if step is None:
            same(case["name"], [item.hex() for item in items], case["items"])
    paths = len(vectors["paths"]["good"]) + len(vectors["paths"]["bad"])
    return len(vectors["heads"]) + paths + len(vectors["parts"]) + proofs + len(vectors["bundles"])


def check_partitions(vectors):
    for case in vectors:
        seller = None if case["seller"] is None else case["seller"].encode()
        subject = subject_of(case["scheme"].encode(), seller, case["number"].encode())
        same("subject", subject.hex(), case["subject"])
        same("partition", partition_of(subject, case["partitions"]), case["partition"])
    return len(vectors)


CHECKS = {"documents": check_documents, "records": check_records, "entries": check_entries,
          "certificates": check_certificates, "receipts": check_receipts,
          "consistency": check_consistency, "checkpoint": check_checkpoints,
          "status": check_statuses, "partition": check_partitions, "events": check_events,
          "statuses": check_status_documents, "status_proofs": check_status_proofs,
          "histories": check_histories, "epochs": check_epochs, "links": check_links,
          "receipts_later": check_later_receipts, "cosignatures": check_cosignatures,
          "evidence": check_evidence, "tiles": check_tiles}


def main(document, folder):
    same("SM3", sm3(b"abc").hex(),
         "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0")
    read_tables(Path(document).read_text(encoding="utf-8"))
    read_kinds()
    read_outcomes()
    failures = 0
    for name, check_all in CHECKS.items():
        vectors = json.loads((Path(folder) / f"{name}.json").read_text(encoding="utf-8"))
        try:
            print(f"{name}: {check_all(vectors)} agree")
        except AssertionError as error:
            failures += 1
            print(f"{name}: DISAGREES: {error}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
