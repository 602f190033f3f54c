"""Reads and checks what FORMAT.md describes from records up to checkpoints."""

import base64
import re

from chain import (
    after, changes_from_json, check_chain, check_final, check_history, check_witnesses,
    cosigned_from_json, header_from_json, is_name, need, put_digests, read_certificate,
    read_changes, read_cosigned, read_header, read_shard, Refused, shard_from_json,
    sm2_verify_once,
)
from sm import key_id, sm3
from values import (
    Bad, blob, check, check_opening, CONFLICTS, entries_of, exponent_in, fields_from_json,
    history_of, inclusion_root, interior, keys_of, leaf, opening_from_json, put_opening,
    read_opening, Reader, SHAPES, TABLES, tag_of, u16, u32, u64, unhex, vint, zint,
)


# --- commitment (sections 2.3 to 2.5) -----------------------------------------------------------

def salt(secret, i):
    block = sm3(b"\x02", secret, u32(i // 2))
    return block[16:] if i & 1 else block[:16]


def field_digest(tag, salt_, value):
    return sm3(b"\x03", u16(tag), salt_, value)


def commitment_of(digests, prefix=b"\x04"):
    return sm3(prefix, vint(len(digests)), *(u16(tag) + digest for tag, digest in digests))


def digests_of(secret, fields):
    return [(tag, field_digest(tag, salt(secret, tag), value)) for tag, value in fields]


# --- totals (section 2.6) -----------------------------------------------------------------------

def amount_in(fields, table, name):
    data = dict(fields).get(tag_of(table, name))
    return 0 if data is None else Reader(data).zint()


def half_away(n, d):
    q, r = divmod(abs(n), d)
    q += r * 2 >= d
    return -q if n < 0 else q


def totals(fields, tolerance, tolerance_tax):
    """None, or number and difference of the first rule that does not hold."""
    def get(name):
        return amount_in(fields, "document", name)

    def has(name):
        return tag_of("document", name) in dict(fields)

    rules = [(1, get("total_gross") - get("total_net") - get("total_vat"), tolerance)]
    if has("lines_net"):
        lines = get("lines_net") - get("allowances_total") + get("charges_total")
        rules.append((2, get("total_net") - lines, tolerance))
    if has("amount_due"):
        due = get("total_gross") - get("prepaid") + get("rounding")
        rules.append((3, get("amount_due") - due, tolerance))
    if has("vat_breakdown"):
        table = "document.vat_breakdown"
        taxable = tax = worst = 0
        for entry in entries_of(dict(fields)[tag_of("document", "vat_breakdown")]):
            own, own_tax = amount_in(entry, table, "taxable"), amount_in(entry, table, "tax")
            taxable, tax = taxable + own, tax + own_tax
            rate = dict(entry).get(tag_of(table, "rate"))
            if rate is not None:
                r = Reader(rate)
                scale, n = r.uint(1), r.zint()
                difference = own_tax - half_away(own * n, 10 ** (scale + 2))
                if abs(difference) > abs(worst):
                    worst = difference
        rules += [(4, taxable - get("total_net"), tolerance),
                  (5, tax - get("total_vat"), tolerance),
                  (6, worst, tolerance_tax)]
    for rule, difference, allowed in rules:
        if abs(difference) > allowed:
            return {"rule": rule, "difference": str(difference)}
    return None


# --- records (section 4) ------------------------------------------------------------------------

KINDS = {1: "issue", 2: "issue_red", 3: "import", 64: "register", 65: "rotate", 66: "revoke",
         67: "delegate", 68: "delegate_end", 69: "policy", 70: "validators"}


def read_kinds():
    """The kinds of events, from the table of section 4.1."""
    KINDS.update({code: name for code, (name, _, _) in SHAPES.items()})


def table_of(code):
    return "document" if code < 4 else "event" if code < 64 else "registry"


def refused(tag, bad):
    if bad.limit:
        detail = {"tag": tag, "value": bad.limit[0], "limit": bad.limit[1]}
        return {"outcome": "LIMIT", "detail": detail}
    return {"outcome": "MALFORMED", "detail": {"tag": tag, "cause": bad.cause}}


def read_record(data):
    """A record, or the outcome that it is refused with."""
    if len(data) > 65536:
        return refused(0, Bad("record", None, (len(data), 65536)))
    if len(data) < 44 + 64 or data[:3] != b"PR\x01":
        return refused(0, Bad("envelope"))
    if data[3] not in KINDS:
        return refused(0, Bad("kind", "unknown_kind"))
    kind, body, signature = KINDS[data[3]], data[44:-64], data[-64:]
    table = table_of(data[3])
    secret = b"" if table == "registry" else body[:16]
    if table != "registry" and len(body) < 16:
        return refused(0, Bad("secret"))
    r, at, fields = Reader(body[len(secret):]), 0, []
    try:
        for _ in range(r.count(128)):
            at = 0
            tag = r.vint()
            if tag > 0xFFFF:
                raise Bad("tag", "unknown_tag")
            at = tag
            if tag not in TABLES[table]:
                raise Bad("tag", "unknown_tag")
            if fields and fields[-1][0] >= tag:
                raise Bad("order", "order")
            value = r.bytes(65536)
            check(TABLES[table][tag][1], value)
            fields.append((tag, value))
        at = 0
        r.end()
    except Bad as bad:
        return refused(at, bad)
    if table == "document":
        commitment = commitment_of(digests_of(secret, fields))
    else:
        commitment = sm3(b"\x0e" if table == "event" else b"\x0d", body)
    return {"kind": kind, "code": data[3], "signer": data[4:36],
            "signed_at": int.from_bytes(data[36:44], "big", signed=True),
            "secret": secret, "fields": fields, "commitment": commitment, "signature": signature}


COMMON = ["scheme", "number", "seller_party", "currency", "text", "opening", "expected_version",
          "on_behalf"]


def shape(record):
    """None, or what the shape of an event is refused with (section 4.1)."""
    _, required, optional = SHAPES[record["code"]]
    fields = dict(record["fields"])
    for name in required:
        if tag_of("event", name) not in fields:
            return refused(tag_of("event", name), Bad(name, "missing"))
    for tag in fields:
        if TABLES["event"][tag][0] not in COMMON + required + optional:
            return refused(tag, Bad("field", "not_allowed"))
    for name, least in (("amount", 1), ("tax", 0), ("advanced", 0)):
        tag = tag_of("event", name)
        if tag in fields and amount_in(record["fields"], "event", name) < least:
            return refused(tag, Bad(name, "sign"))
    return None


def signed_of(chain, record):
    return (b"piaogen/rec/1\n" + chain + bytes([record["code"]])
            + record["signed_at"].to_bytes(8, "big", signed=True) + record["commitment"])


def put_fields(fields):
    return vint(len(fields)) + b"".join(vint(tag) + blob(value) for tag, value in fields)


def record_from_json(value):
    keys_of(value, ["format", "kind", "signer", "signed_at", "body", "signature"])
    if value["format"] != "piaogen/record/1":
        raise Bad("format")
    code = next(code for code, name in KINDS.items() if name == value["kind"])
    if table_of(code) != "registry":
        keys_of(value["body"], ["secret", "fields"])
        fields = value["body"]["fields"]
        body = unhex(value["body"]["secret"], 16)
        body += put_fields(fields_from_json(table_of(code), fields, exponent_in(fields)))
    else:
        body = put_fields(fields_from_json("registry", value["body"], 0))
    return (b"PR\x01" + bytes([code]) + unhex(value["signer"], 32)
            + value["signed_at"].to_bytes(8, "big", signed=True) + body
            + unhex(value["signature"], 64))


def subject_of(scheme, seller, number):
    return blob(scheme) + blob(number if seller is None else seller + b":" + number)


def partition_of(subject, partitions):
    return int.from_bytes(sm3(b"\x08", subject)[:8], "big") % partitions


def subject_of_record(record, genesis):
    fields = dict(record["fields"])
    if table_of(record["code"]) != "registry":
        scheme, number = fields.get(2001), fields.get(1)
        if scheme is None or number is None:
            return None
        per_seller = any(s["code"].encode() == scheme and s["per_seller"]
                         for s in genesis["schemes"])
        if per_seller and 2006 not in fields:
            return None
        return subject_of(scheme, fields[2006] if per_seller else None, number)
    if record["kind"] == "revoke":
        name = fields.get(3005)
        name = None if name is None else name.hex().encode()
    elif record["kind"] in ("policy", "validators"):
        name = record["kind"].upper().encode()
    else:
        name = fields.get(3001)
    return None if name is None else subject_of(b"REGISTRY", None, name)


# --- entries (section 5) ------------------------------------------------------------------------

OUTCOMES = {0: "ACCEPTED", 1: "REPLAY", 2: "DUP_DIFFERENT", 10: "BAD_SIGNATURE",
            11: "NOT_REGISTERED", 12: "KEY_REVOKED", 13: "WRONG_ROLE", 14: "WRONG_ACTOR",
            20: "MALFORMED", 21: "LIMIT", 22: "TOTALS", 23: "CLOCK_SKEW",
            24: "TYPE_NOT_ACCEPTED", 25: "UNKNOWN_SCHEME", 26: "WRONG_PARTITION",
            30: "PARTY_EXISTS", 31: "KEY_IN_USE", 32: "NOT_FOUND", 33: "ALREADY_SIGNED",
            34: "STALE_SET"}
CAUSES = ["encoding", "unknown_tag", "order", "missing", "not_canonical", "not_allowed",
          "characters", "range", "sign", "check_digit", "unknown_kind"]


def read_conflict(form, r):
    if form == "index":
        return {"index": r.uint(8)}
    if form == "time_ms":
        return {"time_ms": r.i64()}
    if form == "amount":
        return {"amount": str(r.zint())}
    if form == "number":
        return {"number": r.vint()}
    return {"commitment": r.take(32).hex()} if form == "commitment" else {}


def put_conflict(form, d):
    if form == "index":
        return u64(d["index"])
    if form == "time_ms":
        return d["time_ms"].to_bytes(8, "big", signed=True)
    if form == "amount":
        return zint(int(d["amount"]))
    if form == "number":
        return vint(d["number"])
    return unhex(d["commitment"], 32) if form == "commitment" else b""


def read_outcomes():
    """The conflicts, from the table of section 5.1."""
    OUTCOMES.update({code: name for code, (name, _) in CONFLICTS.items()})


def form_of(name):
    return next((form for known, form in CONFLICTS.values() if known == name), None)


def read_detail(name, data):
    r, out = Reader(data), {}
    if form_of(name):
        out = read_conflict(form_of(name), r)
    if name in ("REPLAY", "DUP_DIFFERENT"):
        out["first"] = r.uint(8)
        if name == "DUP_DIFFERENT":
            out["commitment"] = r.take(32).hex()
    elif name == "MALFORMED":
        out["tag"], cause = r.uint(2), r.uint(1)
        if not 1 <= cause <= len(CAUSES):
            raise Bad("cause")
        out["cause"] = CAUSES[cause - 1]
    elif name == "LIMIT":
        out = {"tag": r.uint(2), "value": r.vint(), "limit": r.vint()}
    elif name == "TOTALS":
        out = {"rule": r.uint(1), "difference": str(r.zint())}
    elif name == "CLOCK_SKEW":
        out["tag"] = r.uint(2)
    elif name == "WRONG_PARTITION":
        out["partition"] = r.uint(4)
    elif name == "STALE_SET":
        out["set"] = r.take(32).hex()
    r.end()
    return out


def put_detail(name, d):
    if form_of(name):
        return put_conflict(form_of(name), d)
    if name == "REPLAY":
        return u64(d["first"])
    if name == "DUP_DIFFERENT":
        return u64(d["first"]) + unhex(d["commitment"], 32)
    if name == "MALFORMED":
        return u16(d["tag"]) + bytes([CAUSES.index(d["cause"]) + 1])
    if name == "LIMIT":
        return u16(d["tag"]) + vint(d["value"]) + vint(d["limit"])
    if name == "TOTALS":
        return bytes([d["rule"]]) + zint(int(d["difference"]))
    if name == "CLOCK_SKEW":
        return u16(d["tag"])
    if name == "STALE_SET":
        return unhex(d["set"], 32)
    return u32(d["partition"]) if name == "WRONG_PARTITION" else b""


def readable_subject(subject):
    try:
        r = Reader(subject)
        scheme, number = r.bytes(64).decode("utf-8"), r.bytes(256).decode("utf-8")
        r.end()
        return scheme, number
    except (Bad, UnicodeDecodeError):
        return None


def read_entry(data):
    """The entry as its JSON."""
    r, out = Reader(data), {}
    if r.uint(1) != 1:
        raise Bad("version")
    kind = r.uint(1)
    if kind != 0 and kind not in KINDS:
        raise Bad("kind")
    out["kind"] = KINDS.get(kind)
    out["offset"] = r.uint(8)
    subject = r.bytes(256)
    if subject:
        parts = readable_subject(subject)
        if parts is None:
            out["subject"] = subject.hex()
        else:
            out["scheme"], out["number"] = parts
    code = r.uint(1)
    if code not in OUTCOMES:
        raise Bad("outcome")
    out["outcome"] = OUTCOMES[code]
    detail = read_detail(OUTCOMES[code], r.bytes(64))
    if detail:
        out["detail"] = detail
    out["commitment"], out["signer"] = r.take(32).hex(), r.take(32).hex()
    issue = r.vint()
    if issue:
        out["issue"] = issue - 1
    out["status"] = r.take(32).hex()
    r.end()
    return out


def entry_from_json(value):
    kind = next((code for code, name in KINDS.items() if name == value["kind"]), 0)
    code = next(code for code, name in OUTCOMES.items() if name == value["outcome"])
    if "scheme" in value:
        subject = subject_of(value["scheme"].encode(), None, value["number"].encode())
    else:
        subject = unhex(value.get("subject", ""))
    issue = value["issue"] + 1 if "issue" in value else 0
    return (bytes([1, kind]) + u64(value["offset"]) + blob(subject) + bytes([code])
            + blob(put_detail(value["outcome"], value.get("detail")))
            + unhex(value["commitment"], 32) + unhex(value["signer"], 32) + vint(issue)
            + unhex(value["status"], 32))


# --- status (section 6) -------------------------------------------------------------------------

ZERO = bytes(32)


def status_interior(left, right):
    return ZERO if left == right == ZERO else interior(left, right)


def status_root(record, index, data):
    r = Reader(data)
    bitmap, hash_ = r.uint(5), record
    if index >> 40:
        return None
    for level in range(40):
        sibling = ZERO
        if bitmap >> level & 1:
            sibling = r.take(32)
            if sibling == ZERO:
                raise Bad("a zero sibling is not sent")
        right = index >> level & 1
        hash_ = status_interior(*((sibling, hash_) if right else (hash_, sibling)))
    r.end()
    return hash_


# --- receipts (section 9) -----------------------------------------------------------------------

def read_receipt(data):
    if len(data) > 262144:
        raise Bad("too long")
    r = Reader(data)
    if r.take(3) != b"PT\x01":
        raise Bad("magic")
    out = {}
    out["fields"] = read_opening(r)
    out["entry_bytes"] = r.bytes(1024)
    out["entry"] = read_entry(out["entry_bytes"])
    out["log_index"] = r.vint()
    out["inclusion"] = r.digests(64)
    out["shard"] = read_shard(r)
    out["shard_proof"] = r.digests(32)
    out["header"] = read_header(r)
    mark = r.uint(1)
    if mark > 1:
        raise Bad("mark of the history")
    out["history"] = (read_header(r), r.digests(64)) if mark else None
    out["certificate"] = read_certificate(r.bytes(6600))
    out["changes"] = read_changes(r)
    mark = r.uint(1)
    if mark > 1:
        raise Bad("mark of the cosignatures")
    out["cosigned"] = read_cosigned(r) if mark else None
    r.end()
    return out


def check_shown(step, table, fields):
    try:
        check_opening(table, fields)
    except Bad:
        raise Refused(step) from None


def check_receipt(receipt, trust):
    if receipt["fields"]:
        check_shown("document", "document", receipt["fields"])
        digests = [(tag, digest) for tag, digest, _, _ in receipt["fields"]]
        need("document", commitment_of(digests).hex() == receipt["entry"]["commitment"])
    shard, header = receipt["shard"], receipt["header"]
    root = inclusion_root(leaf(receipt["entry_bytes"]), receipt["log_index"],
                          shard["log_size"], receipt["inclusion"])
    need("inclusion", root == shard["log_root"])
    root = inclusion_root(leaf(shard["raw"]), shard["shard"], header["shards"],
                          receipt["shard_proof"])
    need("shard", root == header["shards_root"])
    last, proof = receipt["history"] or (header, None)
    check_chain(trust, [header, last], receipt["changes"])
    if receipt["history"]:
        check_history(header, last, proof)
    check_final(last, receipt["certificate"], after(trust, receipt["changes"]))
    return check_witnesses(trust, last, receipt["cosigned"])


def verdict(read, check_all, data, trust):
    """None, or the name of the step that refuses."""
    try:
        proof = read(data)
    except Bad:
        return "decode"
    try:
        check_all(proof, trust)
    except Refused as refusal:
        return refusal.step
    return None


def verify_receipt(data, trust):
    return verdict(read_receipt, check_receipt, data, trust)


def receipt_from_json(value):
    keys_of(value, ["format", "fields", "entry", "log_index", "inclusion", "shard", "shard_proof",
                    "header", "history", "certificate", "changes", "cosigned"])
    if value["format"] != "piaogen/receipt/1":
        raise Bad("format")
    fields = opening_from_json("document", value["fields"])
    out = b"PT\x01" + put_opening(fields)
    out += blob(entry_from_json(value["entry"])) + vint(value["log_index"])
    out += put_digests(value["inclusion"])
    out += shard_from_json(value["shard"]) + put_digests(value["shard_proof"]) + header_from_json(value["header"])
    if "history" in value:
        out += b"\x01" + header_from_json(value["history"]["header"])
        out += put_digests(value["history"]["proof"])
    else:
        out += b"\x00"
    out += blob(unhex(value["certificate"])) + changes_from_json(value.get("changes", []))
    if "cosigned" in value:
        return out + b"\x01" + cosigned_from_json(value["cosigned"])
    return out + b"\x00"


# --- status documents (section 6.1) -------------------------------------------------------------

def status_digest(digests):
    return commitment_of(digests, b"\x06")


def stirred(secret, own):
    return sm3(b"\x0f", secret, own)[:16]


def status_from_json(value):
    """Secret and fields; refuses a face that does not follow from the rest."""
    keys_of(value, ["format", "secret", "status"])
    if value["format"] != "piaogen/status-document/1":
        raise Bad("format")
    status = value["status"]
    fields = fields_from_json("status", status, exponent_in(status))
    read_face(dict(fields)[tag_of("status", "face")])
    if status["face"] != [face_of(status, dict(fields))]:
        raise Bad("the face does not follow")
    for financing in status.get("financings", []):
        if financing["state"] not in ("hold", "open", "settled", "released", "defaulted"):
            raise Bad("state")
        if financing.get("form", "pledge") not in ("pledge", "assignment", "discount"):
            raise Bad("form")
    return unhex(value["secret"], 16), fields


def amounts_of(fields, part, member="amount", among=None):
    """Minor units of a member in each entry of a list; None where an entry lacks it."""
    data = fields.get(tag_of("status", part))
    out = []
    for entry in entries_of(data) if data else []:
        entry, table = dict(entry), f"status.{part}"
        state = entry.get(tag_of(table, "state"), b"").decode()
        if among is None or state in among:
            amount = entry.get(tag_of(table, member))
            out.append(None if amount is None else Reader(amount).zint())
    return out


LIENS = ("hold", "open", "defaulted")


def face_of(status, fields):
    """The face by the table of section 6.1."""
    old = status["face"][0]
    gross = Reader(fields[tag_of("status", "total_gross")]).zint()
    red = (amounts_of(fields, "red") or [0])[0]
    void = old["lifecycle"] == "void"
    liens = amounts_of(fields, "financings", among=LIENS)
    repaid = amounts_of(fields, "financings", "repaid", among=LIENS)
    paid = sum(amounts_of(fields, "payments"))
    left = 0 if void else max(gross - red, 0)
    confirmed = (amounts_of(fields, "confirmation") or [None])[0]
    disputed = (amounts_of(fields, "confirmation", "disputed") or [None])[0] or 0
    left -= paid + disputed
    if confirmed is not None:
        left = min(left, confirmed - paid)
    state = {name: status[name][0]["state"] if name in status else None
             for name in ("slip", "deduction", "confirmation")}
    lifecycle = ("void" if void else "active" if red == 0
                 else "full_red" if red >= gross else "part_red")
    face = {"version": len(status.get("history", [])), "lifecycle": lifecycle, "risk": old["risk"],
            "liens": len(liens), "buyer": state["confirmation"] or "none"}
    flags = {"frozen": "freezes" in status, "booked": "bookings" in status,
             "red_pending": state["slip"] in ("pending", "confirmed"),
             "used": state["deduction"] not in (None, "unselected"),
             "claimed": "claims" in status,
             "over_financed": max(left, 0) < sum(liens) - sum(some or 0 for some in repaid)}
    return face | {name: True for name, holds in flags.items() if holds}


WORDS = {"lifecycle": ("active", "part_red", "full_red", "void"),
         "risk": ("normal", "doubtful", "abnormal"),
         "buyer": ("none", "requested", "confirmed", "disputed", "refused")}


def read_face(data):
    entries = entries_of(data)
    if len(entries) != 1:
        raise Bad("one face")
    face = {TABLES["status.face"][tag][0]: value for tag, value in entries[0]}
    for name in ("version", "liens"):
        if name not in face:
            raise Bad("face")
        face[name] = Reader(face[name]).vint()
    for name, words in WORDS.items():
        if face.get(name, b"").decode() not in words:
            raise Bad("word")
    return face


# --- status proofs and histories (sections 9.1 and 9.2) -----------------------------------------

def read_status_proof(data):
    if len(data) > 524288:
        raise Bad("too long")
    r = Reader(data)
    if r.take(3) != b"PS\x01":
        raise Bad("magic")
    out = {"receipt": read_receipt(r.bytes(262144))}
    bitmap = r.uint(5)
    siblings = [r.take(32) for _ in range(bitmap.bit_count())]
    if ZERO in siblings:
        raise Bad("a zero sibling is not sent")
    out["path"] = bitmap.to_bytes(5, "big") + b"".join(siblings)
    out["fields"] = read_opening(r)
    r.end()
    return out


def record_of(proof):
    if not proof["fields"]:
        return ZERO
    return status_digest([(tag, digest) for tag, digest, _, _ in proof["fields"]])


def shown_part(proof, name):
    tag = tag_of("status", name)
    return next((value for known, _, _, value in proof["fields"] if known == tag), None)


def check_status_proof(proof, trust):
    receipt = proof["receipt"]
    check_receipt(receipt, trust)
    entry = receipt["entry"]
    need("issue", entry["outcome"] == "ACCEPTED" and "issue" in entry
         and entry["kind"] in ("issue", "issue_red", "import"))
    check_shown("status", "status", proof["fields"])
    commitment, face = shown_part(proof, "commitment"), shown_part(proof, "face")
    need("status", commitment is None or commitment.hex() == entry["commitment"])
    if face is not None:
        try:
            read_face(face)
        except Bad:
            raise Refused("status") from None
    root = status_root(record_of(proof), entry["issue"], proof["path"])
    need("path", root == receipt["shard"]["status_root"])


def verify_status_proof(data, trust):
    return verdict(read_status_proof, check_status_proof, data, trust)


def said_by(data):
    """What a true status proof says."""
    proof = read_status_proof(data)
    parts = [TABLES["status"].get(tag, ("",))[0] for tag, _, _, _ in proof["fields"]]
    face = shown_part(proof, "face")
    face = {} if face is None else read_face(face)
    return {"height": proof["receipt"]["header"]["height"], "untouched": record_of(proof) == ZERO,
            "no_lien": "financings" not in parts or face.get("liens") == 0,
            "no_booking": "bookings" not in parts or (bool(face) and "booked" not in face),
            "shown": [TABLES["status"][tag][0] for tag, _, _, value in proof["fields"]
                      if value is not None]}


def status_proof_from_json(value):
    keys_of(value, ["format", "receipt", "path", "status"])
    if value["format"] != "piaogen/status/1":
        raise Bad("format")
    bitmap, siblings = 0, b""
    for sibling in value["path"]:
        keys_of(sibling, ["level", "digest"])
        if bitmap >> sibling["level"]:
            raise Bad("levels ascend")
        bitmap |= 1 << sibling["level"]
        siblings += unhex(sibling["digest"], 32)
    return (b"PS\x01" + blob(receipt_from_json(value["receipt"])) + bitmap.to_bytes(5, "big")
            + siblings + put_opening(opening_from_json("status", value["status"])))


def read_history(data):
    if len(data) > 2097152:
        raise Bad("too long")
    r = Reader(data)
    if r.take(3) != b"PY\x01":
        raise Bad("magic")
    out = {"status": read_status_proof(r.bytes(524288)), "records": []}
    for _ in range(r.count(256)):
        log_index, entry = r.vint(), r.bytes(1024)
        out["records"].append((log_index, entry, read_entry(entry), r.digests(64)))
    r.end()
    return out


def check_history_proof(history, trust):
    status, records = history["status"], history["records"]
    check_status_proof(status, trust)
    receipt, record = status["receipt"], record_of(status)
    data = shown_part(status, "history")
    need("records", data is not None or record == ZERO)
    made = [] if data is None else history_of(data)
    need("records", len(made) == len(records))
    events = [name for code, name in KINDS.items() if 4 <= code <= 52]
    about = ("scheme", "number", "subject", "issue")
    for (index, id_), (log_index, raw, entry, inclusion) in zip(made, records):
        need("records", log_index == index > receipt["log_index"])
        need("records", entry["outcome"] == "ACCEPTED" and entry["kind"] in events)
        need("records", all(entry.get(key) == receipt["entry"].get(key) for key in about))
        need("records", entry["commitment"][:32] == id_.hex())
        shard = receipt["shard"]
        root = inclusion_root(leaf(raw), index, shard["log_size"], inclusion)
        need("records", root == shard["log_root"])
    need("records", not records or records[-1][2]["status"] == record.hex())


def verify_history(data, trust):
    return verdict(read_history, check_history_proof, data, trust)


def history_from_json(value):
    keys_of(value, ["format", "status", "records"])
    if value["format"] != "piaogen/history/1":
        raise Bad("format")
    out = b"PY\x01" + blob(status_proof_from_json(value["status"])) + vint(len(value["records"]))
    for record in value["records"]:
        keys_of(record, ["log_index", "entry", "inclusion"])
        out += vint(record["log_index"]) + blob(entry_from_json(record["entry"]))
        out += put_digests(record["inclusion"])
    return out


# --- consistency and checkpoints (sections 11 and 12) -------------------------------------------

def verify_consistency(data, trust):
    try:
        r = Reader(data)
        if r.take(3) != b"PC\x01":
            raise Bad("magic")
        older, newer, proof = read_header(r), read_header(r), r.digests(64)
        certificate, changes = read_certificate(r.bytes(6600)), read_changes(r)
        r.end()
    except Bad:
        return "decode"
    try:
        check_chain(trust, [older, newer], changes)
        check_history(older, newer, proof)
        check_final(newer, certificate, after(trust, changes))
    except Refused as refusal:
        return refusal.step
    return None


def unbase64(text):
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Bad("base64") from None
    if base64.b64encode(data).decode() != text:
        raise Bad("base64")
    return data


def read_note(note):
    text, blank, lines = note.partition("\n\n")
    match = re.fullmatch(r"piaogen/([a-z0-9-]{1,32})\n([1-9][0-9]*)\n([^\n]+)", text)
    if not blank or not match or int(match[2]) >= 1 << 64 or (lines and lines[-1] != "\n"):
        raise Bad("note")
    if len(unbase64(match[3])) != 32:
        raise Bad("root")
    signatures = []
    for line in lines.split("\n")[:-1]:
        parts = re.fullmatch(r"— ([^\s+]+) (\S+)", line)
        if not parts:
            raise Bad("signature line")
        data = unbase64(parts[2])
        if not 4 < len(data) <= 1024:
            raise Bad("signature line")
        signatures.append((parts[1], data))
    return match[1], text + "\n", signatures


def cosignatures_of(signatures):
    """Name, hint, time and signature of each line that is a cosignature."""
    return [(name, data[:4], int.from_bytes(data[4:12], "big"), data[12:])
            for name, data in signatures if len(data) == 76 and is_name(name)]


def signers_of(trust, text, signatures):
    """Places of the validators that signed a checkpoint."""
    signers = []
    for i, key in enumerate(trust["keys"]):
        own = [data for name, data in signatures
               if name == key.hex()[:16] and data[:4] == key_id(key)[:4]]
        for data in own:
            message = b"piaogen/ckpt/1\n" + text.encode()
            need("signature", len(data) == 68 and sm2_verify_once(key, message, data[4:]))
        if own:
            signers.append(i)
    return signers


def verify_note(note, trust):
    """The step that refuses and the signers."""
    try:
        chain_id, text, signatures = read_note(note)
    except Bad:
        return "decode", None
    if chain_id != trust["chain_id"]:
        return "chain", None
    try:
        signers = signers_of(trust, text, signatures)
        need("quorum", signers)
    except Refused as refusal:
        return refusal.step, None
    return None, signers
