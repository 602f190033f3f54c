"""Checks evidence (FORMAT.md section 12.2)."""

import base64

from chain import (
    after, changes_from_json, check_chain, check_final, check_history, header_from_json, need,
    point, put_digests, read_certificate, read_changes, read_header, read_shard, Refused,
    shard_from_json, sm2_verify_once, vote_message, witnesses_of,
)
from piaogen import cosignatures_of, read_note, signers_of
from values import (
    Bad, blob, consistent, inclusion_root, keys_of, leaf, Reader, unhex, vint,
)

VOTES = {1: ("notarize", b"_NOTARIZE"), 2: ("finalize", b"_FINALIZE"), 3: ("timeout", b"_NULLIFY")}


def read_vote(r):
    kind = r.uint(1)
    if kind not in VOTES:
        raise Bad("vote")
    proposal = b"" if kind == 3 else vint(r.vint()) + r.take(32)
    return {"kind": kind, "proposal": proposal, "signature": r.take(64)}


def read_certified(r):
    return {"changes": read_changes(r), "header": read_header(r),
            "certificate": read_certificate(r.bytes(6600))}


def read_checkpoint(r):
    try:
        chain_id, text, signatures = read_note(r.bytes(262144).decode("utf-8"))
    except UnicodeDecodeError:
        raise Bad("checkpoint") from None
    size, root = text.split("\n")[1:3]
    return {"chain_id": chain_id, "text": text, "size": int(size), "root": root,
            "signatures": signatures}


def read_log(r):
    return {"block": read_certified(r), "shard": read_shard(r), "proof": r.digests(32)}


def read_subtree(r):
    return r.take(32), r.digests(64)


def read_rewritten(r):
    out = {"older": read_log(r), "newer": read_log(r), "history": r.digests(64), "subtree": None}
    mark = r.uint(1)
    if mark > 1:
        raise Bad("mark of a difference")
    if mark:
        level, index = r.uint(1), r.vint()
        if level > 63:
            raise Bad("level")
        out["subtree"] = level, index, read_subtree(r), read_subtree(r)
    return out


def read_evidence(data):
    r = Reader(data)
    if len(data) > 2097152 or r.take(3) != b"PE\x01":
        raise Bad("magic")
    kind = r.uint(1)
    if kind == 1:
        out = {"changes": read_changes(r), "key": point(r.take(33)), "epoch": r.vint(),
               "view": r.vint(), "first": read_vote(r), "second": read_vote(r)}
    elif kind in (2, 3):
        out = {"first": read_certified(r), "second": read_certified(r)}
        if kind == 3:
            out["other"], out["proof"] = r.take(32), r.digests(64)
    elif kind == 4:
        out = {"first": read_checkpoint(r), "second": read_checkpoint(r)}
        mark = r.uint(1)
        if mark > 1:
            raise Bad("mark of the prefix")
        out["prefix"] = (r.take(32), r.digests(64)) if mark else None
    elif kind == 5:
        out = read_rewritten(r)
    else:
        raise Bad("kind")
    r.end()
    return kind, out


def exclude(first, second):
    kinds = sorted((first["kind"], second["kind"]))
    if kinds == [2, 3]:
        return True
    return kinds in ([1, 1], [2, 2]) and first["proposal"] != second["proposal"]


def check_votes(e, trust):
    check_chain(trust, [], e["changes"])
    need("conflict", exclude(e["first"], e["second"]))
    trust = after(trust, e["changes"])
    need("epoch", e["epoch"] >= trust["epoch"])
    need("validators", e["key"] in trust["keys"])
    for vote in (e["first"], e["second"]):
        said = vint(e["epoch"]) + vint(e["view"]) + vote["proposal"]
        message = vote_message(trust["chain"], said, VOTES[vote["kind"]][1])
        need("signature", sm2_verify_once(e["key"], message, vote["signature"]))
    who = [e["key"].hex()]
    return {"kind": "double_vote", "first": who, "second": who, "liars": who, "liars_min": 1}


def check_side(side, trust):
    """Of a certified header the certificate, the keys of the set, and who signed."""
    own = after(trust, side["changes"])
    check_final(side["header"], side["certificate"], own)
    signers = [own["keys"][i].hex() for i in side["certificate"]["signers"]]
    return side["certificate"], own["keys"], signers


def blame(kind, e, trust):
    one, keys, first = check_side(e["first"], trust)
    other, other_keys, second = check_side(e["second"], trust)
    liars, least = [], 0
    if one["epoch"] == other["epoch"] and keys == other_keys:
        n = len(keys)
        least = 2 * (n - (n - 1) // 3) - n
        if one["view"] == other["view"]:
            liars = [signer for signer in first if signer in second]
    return {"kind": kind, "first": first, "second": second, "liars": liars, "liars_min": least}


def check_headers(kind, e, trust):
    first, second = e["first"], e["second"]
    check_chain(trust, [first["header"], second["header"]], first["changes"] + second["changes"])
    low, high = first["header"], second["header"]
    if kind == 2:
        need("conflict", low["height"] == high["height"] and low["raw"] != high["raw"])
        return blame("fork", e, trust)
    root = inclusion_root(leaf(e["other"]), low["height"], high["height"], e["proof"])
    need("history", root == high["history_root"])
    need("conflict", e["other"] != low["digest"])
    return blame("rewrite", e, trust)


def check_rewritten(e, trust):
    logs, subtree = (e["older"], e["newer"]), e["subtree"]
    (low, old), (high, new) = [(log["block"]["header"], log["shard"]) for log in logs]
    need("conflict", (subtree is not None) == (new["log_size"] > old["log_size"]))
    if subtree:
        level, index, *found = subtree
        for shard, (digest, proof) in zip((old, new), found):
            need("inclusion", (index + 1) << level <= shard["log_size"])
            items = (shard["log_size"] - 1 >> level) + 1
            need("inclusion", inclusion_root(digest, index, items, proof) == shard["log_root"])
    for log, header in zip(logs, (low, high)):
        root = inclusion_root(leaf(log["shard"]["raw"]), log["shard"]["shard"], header["shards"],
                              log["proof"])
        need("shard", root == header["shards_root"])
    check_chain(trust, [low, high], [change for log in logs for change in log["block"]["changes"]])
    check_history(low, high, e["history"])
    need("conflict", old["shard"] == new["shard"])
    if subtree:
        need("conflict", found[0][0] != found[1][0])
    else:
        need("conflict", new["log_size"] < old["log_size"] or new["log_root"] != old["log_root"])
    first = []
    if low["epoch"] >= trust["epoch"]:
        _, _, first = check_side(e["older"]["block"], trust)
    _, _, second = check_side(e["newer"]["block"], trust)
    liars = [signer for signer in first if signer in second]
    return {"kind": "rewritten_log", "first": first, "second": second, "liars": liars,
            "liars_min": len(liars)}


def known(trust, log):
    validators = signers_of(trust, log["text"], log["signatures"])
    witnesses = witnesses_of(trust, log["text"], cosignatures_of(log["signatures"]))
    found = [trust["keys"][i].hex() for i in validators]
    found += [trust["witnesses"][i][0] for i in witnesses]
    need("quorum", found)
    return found


def check_logs(e, trust):
    first, second, prefix = e["first"], e["second"], e["prefix"]
    need("chain", first["chain_id"] == second["chain_id"] == trust["chain_id"])
    roots = [unbase64_root(log) for log in (first, second)]
    if prefix is None:
        need("conflict", first["size"] == second["size"])
        other = roots[1]
    else:
        need("conflict", first["size"] < second["size"])
        other, proof = prefix
        need("history", consistent(first["size"], second["size"], other, roots[1], proof))
    need("conflict", other != roots[0])
    one, two = known(trust, first), known(trust, second)
    liars = [signer for signer in one if signer in two]
    return {"kind": "cosigned", "first": one, "second": two, "liars": liars,
            "liars_min": len(liars)}


def unbase64_root(log):
    return base64.b64decode(log["root"])


def verify_evidence(data, trust):
    """The step that refuses, and what is proved."""
    try:
        kind, evidence = read_evidence(data)
    except Bad:
        return "decode", None
    try:
        if kind == 1:
            return None, check_votes(evidence, trust)
        if kind == 4:
            return None, check_logs(evidence, trust)
        if kind == 5:
            return None, check_rewritten(evidence, trust)
        return None, check_headers(kind, evidence, trust)
    except Refused as refusal:
        return refusal.step, None


# --- JSON ---------------------------------------------------------------------------------------

def vote_from_json(value):
    keys_of(value, ["kind", "parent", "payload", "signature"])
    kind = next(code for code, (name, _) in VOTES.items() if name == value["kind"])
    proposal = b"" if kind == 3 else vint(value["parent"]) + unhex(value["payload"], 32)
    return bytes([kind]) + proposal + unhex(value["signature"], 64)


def certified_from_json(value, more=()):
    keys_of(value, ["header", "certificate", "changes", *more])
    return (changes_from_json(value.get("changes", [])) + header_from_json(value["header"])
            + blob(unhex(value["certificate"])))


def log_from_json(value):
    return (certified_from_json(value, ["shard", "shard_proof"]) + shard_from_json(value["shard"])
            + put_digests(value["shard_proof"]))


def subtree_from_json(value):
    keys_of(value, ["hash", "proof"])
    return unhex(value["hash"], 32) + put_digests(value["proof"])


def difference_from_json(value):
    keys_of(value, ["level", "index", "older", "newer"])
    return (bytes([value["level"]]) + vint(value["index"]) + subtree_from_json(value["older"])
            + subtree_from_json(value["newer"]))


def evidence_from_json(value):
    if value["format"] != "piaogen/evidence/1":
        raise Bad("format")
    if value["kind"] == "double_vote":
        keys_of(value, ["format", "kind", "key", "epoch", "view", "first", "second", "changes"])
        out = b"\x01" + changes_from_json(value.get("changes", [])) + unhex(value["key"], 33)
        out += vint(value["epoch"]) + vint(value["view"])
        out += vote_from_json(value["first"]) + vote_from_json(value["second"])
    elif value["kind"] == "fork":
        keys_of(value, ["format", "kind", "first", "second"])
        out = b"\x02" + certified_from_json(value["first"]) + certified_from_json(value["second"])
    elif value["kind"] == "rewrite":
        keys_of(value, ["format", "kind", "older", "newer", "other", "proof"])
        out = b"\x03" + certified_from_json(value["older"]) + certified_from_json(value["newer"])
        out += unhex(value["other"], 32) + put_digests(value["proof"])
    elif value["kind"] == "rewritten_log":
        keys_of(value, ["format", "kind", "older", "newer", "history", "difference"])
        out = b"\x05" + log_from_json(value["older"]) + log_from_json(value["newer"])
        out += put_digests(value["history"])
        if "difference" in value:
            out += b"\x01" + difference_from_json(value["difference"])
        else:
            out += b"\x00"
    else:
        keys_of(value, ["format", "kind", "first", "second", "prefix"])
        out = b"\x04" + blob(value["first"].encode()) + blob(value["second"].encode())
        if "prefix" in value:
            keys_of(value["prefix"], ["root", "proof"])
            out += b"\x01" + unhex(value["prefix"]["root"], 32)
            out += put_digests(value["prefix"]["proof"])
        else:
            out += b"\x00"
    return b"PE\x01" + out
