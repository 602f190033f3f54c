"""Headers, certificates, validator sets and cosignatures (FORMAT.md sections 7, 8, 10 and 12.1)."""

import base64
import re

from sm import decompress, key_id, sm2_verify, sm3
from values import (
    Bad, blob, inclusion_root, interior, is_int, keys_of, leaf, Reader, u32, u64, unhex, vint,
)


# --- headers and certificates (sections 7 and 8) ------------------------------------------------

def read_shard(r):
    raw = r.take(92)
    s = Reader(raw)
    return {"raw": raw, "shard": s.uint(4), "next_offset": s.uint(8), "log_size": s.uint(8),
            "log_root": s.take(32), "invoices": s.uint(8), "status_root": s.take(32)}


def shard_from_json(value):
    keys_of(value, ["shard", "next_offset", "log_size", "log_root", "invoices", "status_root"])
    return (u32(value["shard"]) + u64(value["next_offset"]) + u64(value["log_size"])
            + unhex(value["log_root"], 32) + u64(value["invoices"])
            + unhex(value["status_root"], 32))


HASHES = ["parent", "cut", "shards_root", "history_root", "validators", "next_validators"]


def read_header(r):
    raw = r.take(264)
    if raw[:4] != b"PH\x01\x00":
        raise Bad("magic of a header")
    h = Reader(raw[4:])
    out = {"raw": raw, "chain": h.take(32), "height": h.uint(8), "epoch": h.uint(8),
           "time_ms": h.i64()}
    for name in HASHES:
        out[name] = h.take(32)
    out["shards"], out["records"] = h.uint(4), h.uint(8)
    out["digest"] = sm3(b"\x0a", raw)
    return out


def read_certificate(data):
    r = Reader(data)
    out = {"epoch": r.vint(), "view": r.vint(), "parent": r.vint(), "payload": r.take(32)}
    out["proposal"] = data[:r.at]
    n = out["validators"] = r.uint(8)
    if n > 100:
        raise Bad("validators")
    bitmap = int.from_bytes(r.take((n + 7) // 8), "little")
    if bitmap >> n:
        raise Bad("unused bits")
    out["signers"] = [i for i in range(n) if bitmap >> i & 1]
    count = r.count(100)
    if count == 0 or count != len(out["signers"]):
        raise Bad("count")
    out["signatures"] = [r.take(64) for _ in range(count)]
    r.end()
    return out


def vote_message(chain, said, name=b"_FINALIZE"):
    return blob(b"piaogen/order/1\n" + chain + name) + said


class Refused(Exception):
    def __init__(self, step):
        super().__init__(step)
        self.step = step


def need(step, holds):
    if not holds:
        raise Refused(step)


def point(key):
    """The key, if it is a compressed point of the curve."""
    try:
        decompress(key)
    except ValueError as error:
        raise Bad(str(error)) from None
    return key


def set_of(keys):
    return {"keys": keys, "digest": sm3(b"\x0c", vint(len(keys)), *keys)}


def is_name(name):
    return re.fullmatch(r"[^\s+\x00-\x1f\x7f-\x9f]+", name) is not None and len(name.encode()) <= 64


def read_trust_root(value):
    keys_of(value, ["format", "chain_id", "chain", "epoch", "validators", "witnesses",
                    "witness_quorum"])
    if value["format"] != "piaogen/trust-root/1" or not is_int(value["epoch"]):
        raise Bad("format")
    keys = sorted(point(unhex(key, 33)) for key in value["validators"])
    witnesses = []
    for witness in value.get("witnesses", []):
        keys_of(witness, ["name", "public_key"])
        witnesses.append((witness["name"], point(unhex(witness["public_key"], 33))))
    quorum = value.get("witness_quorum", 0)
    if quorum > len(witnesses) or ("witnesses" in value) != ("witness_quorum" in value):
        raise Bad("witnesses")
    return {"chain_id": value["chain_id"], "chain": unhex(value["chain"], 32),
            "epoch": value["epoch"], **set_of(keys), "witnesses": witnesses,
            "witness_quorum": quorum}


SEEN = {}


def sm2_verify_once(key, message, signature):
    known = (key, message, signature)
    if known not in SEEN:
        SEEN[known] = sm2_verify(*known)
    return SEEN[known]


def check_final(header, certificate, trust):
    keys = trust["keys"]
    need("epoch", header["epoch"] >= trust["epoch"])
    need("validators", header["validators"] == trust["digest"])
    need("quorum", certificate["payload"] == header["digest"])
    need("quorum", certificate["epoch"] == header["epoch"])
    need("quorum", certificate["validators"] == len(keys))
    need("quorum", len(certificate["signers"]) >= len(keys) - (len(keys) - 1) // 3)
    message = vote_message(header["chain"], certificate["proposal"])
    for i, signature in zip(certificate["signers"], certificate["signatures"]):
        need("signature", sm2_verify_once(keys[i], message, signature))


def check_history(older, newer, proof):
    root = inclusion_root(leaf(older["digest"]), older["height"], newer["height"], proof)
    need("history", root == newer["history_root"])


def header_from_json(value):
    keys_of(value, ["chain", "height", "epoch", "time_ms", *HASHES, "shards", "records"])
    return (b"PH\x01\x00" + unhex(value["chain"], 32) + u64(value["height"]) + u64(value["epoch"])
            + value["time_ms"].to_bytes(8, "big", signed=True)
            + b"".join(unhex(value[name], 32) for name in HASHES)
            + u32(value["shards"]) + u64(value["records"]))


def put_digests(items):
    return vint(len(items)) + b"".join(unhex(item, 32) for item in items)


# --- epochs (section 7.1) -----------------------------------------------------------------------

def read_changes(r, most=64):
    changes = []
    for _ in range(r.count(most)):
        header, certificate = read_header(r), read_certificate(r.bytes(6600))
        keys = [point(r.take(33)) for _ in range(r.count(100))]
        if not keys or any(a >= b for a, b in zip(keys, keys[1:])):
            raise Bad("validator set")
        changes.append({"header": header, "certificate": certificate, **set_of(keys)})
    return changes


def check_chain(trust, headers, changes):
    need("chain", all(header["chain"] == trust["chain"]
                      for header in headers + [change["header"] for change in changes]))


def after(trust, changes):
    """The trust root to which changes lead."""
    before = -1
    for change in changes:
        header = change["header"]
        need("epoch", header["epoch"] > before)
        before = header["epoch"]
        if before < trust["epoch"]:
            continue
        need("epoch", header["next_validators"] != bytes(32))
        need("epoch", header["next_validators"] == change["digest"])
        need("epoch", header["epoch"] + 1 < 1 << 64)
        check_final(header, change["certificate"], trust)
        trust = {**trust, "epoch": header["epoch"] + 1, "keys": change["keys"],
                 "digest": change["digest"]}
    return trust


def changes_from_json(value):
    out = vint(len(value))
    for change in value:
        keys_of(change, ["header", "certificate", "validators"])
        out += header_from_json(change["header"]) + blob(unhex(change["certificate"]))
        out += vint(len(change["validators"]))
        out += b"".join(unhex(key, 33) for key in change["validators"])
    return out


def advance(data, trust):
    """The step that refuses an epoch proof, and the trust root to which it leads."""
    try:
        r = Reader(data)
        if len(data) > 1 << 20 or r.take(3) != b"PV\x01":
            raise Bad("epoch proof")
        changes = read_changes(r)
        r.end()
    except Bad:
        return "decode", None
    try:
        check_chain(trust, [], changes)
        return None, after(trust, changes)
    except Refused as refusal:
        return refusal.step, None


def epochs_from_json(value):
    keys_of(value, ["format", "changes"])
    if value["format"] != "piaogen/epochs/1":
        raise Bad("format")
    return b"PV\x01" + changes_from_json(value["changes"])


# --- headers in a row (section 11.1) ------------------------------------------------------------

def read_link(data):
    r = Reader(data)
    header, certificate = read_header(r), r.bytes(6600)
    if certificate:
        certificate = read_certificate(certificate)
    keys = [point(r.take(33)) for _ in range(r.count(100))]
    if any(a >= b for a, b in zip(keys, keys[1:])):
        raise Bad("validator set")
    r.end()
    return {"header": header, "certificate": certificate, "next": set_of(keys) if keys else None}


class Log:
    """The complete subtrees of a tree that only grows, the smallest first."""

    def __init__(self, size=0, complete=()):
        self.size, self.complete = size, list(complete)

    def push(self, digest):
        bit = 1
        while self.size & bit:
            digest = interior(self.complete.pop(0), digest)
            bit <<= 1
        self.complete.insert(0, digest)
        self.size += 1

    def root(self):
        if not self.complete:
            return sm3()
        right, *rest = self.complete
        for left in rest:
            right = interior(left, right)
        return right


class Follower:
    def __init__(self, trust):
        self.trust, self.last, self.log, self.final = trust, None, Log(), None

    def take(self, data):
        link = read_link(data)
        header, last = link["header"], self.last
        need("chain", header["chain"] == self.trust["chain"])
        need("history", header["height"] == self.log.size)
        need("history", header["parent"] == (last["digest"] if last else bytes(32)))
        need("history", header["history_root"] == self.log.root())
        need("history", last is None or last["time_ms"] < header["time_ms"])
        expected = (0, self.trust["digest"])
        if last and last["next_validators"] != bytes(32):
            expected = last["epoch"] + 1, last["next_validators"]
        elif last:
            expected = last["epoch"], last["validators"]
        need("epoch", (header["epoch"], header["validators"]) == expected)
        self.check_next(link)
        if link["certificate"]:
            check_final(header, link["certificate"], self.trust)
        self.push(link)

    def check_next(self, link):
        digest = link["next"]["digest"] if link["next"] else bytes(32)
        need("epoch", link["header"]["next_validators"] == digest)
        need("epoch", link["next"] is None or link["certificate"])

    def push(self, link):
        header = link["header"]
        self.log.push(leaf(header["digest"]))
        self.last = header
        if link["certificate"]:
            self.final = {"size": self.log.size, "root": self.log.root().hex()}
        if link["next"]:
            self.trust = {**self.trust, "epoch": header["epoch"] + 1, **link["next"]}


def read_rest(data):
    r = Reader(data)
    if r.take(3) != b"PF\x01":
        raise Bad("magic")
    height = r.vint()
    out = {"log": Log(height, [r.take(32) for _ in range(height.bit_count())])}
    out["link"] = read_link(r.bytes(16384))
    if not out["link"]["certificate"]:
        raise Bad("certificate")
    out["changes"] = read_changes(r, 65536)
    r.end()
    return out


def resume(data, trust):
    """The step that refuses a follower at rest, and the follower."""
    try:
        rest = read_rest(data)
    except Bad:
        return "decode", None
    log, header, follower = rest["log"], rest["link"]["header"], Follower(trust)
    try:
        check_chain(trust, [header], rest["changes"])
        need("history", header["height"] == log.size)
        need("history", header["history_root"] == log.root())
        follower.trust = after(trust, rest["changes"])
        check_final(header, rest["link"]["certificate"], follower.trust)
        follower.check_next(rest["link"])
    except Refused as refusal:
        return refusal.step, None
    follower.log = log
    follower.push(rest["link"])
    return None, follower


def follow(links, trust):
    """The step that refuses the last link, and what is final."""
    return go_on(Follower(trust), links)


def go_on(follower, links):
    for i, data in enumerate(links):
        try:
            follower.take(data)
        except (Bad, Refused) as error:
            if i + 1 < len(links):
                raise AssertionError(f"link {i} is refused") from None
            return getattr(error, "step", "decode"), follower.final
    return None, follower.final


# --- cosignatures (section 12.1) ----------------------------------------------------------------

def note_text(chain_id, size, root):
    return f"piaogen/{chain_id}\n{size}\n{base64.b64encode(root).decode()}\n"


def witnesses_of(trust, text, cosignatures):
    """Places of the known witnesses that signed a checkpoint."""
    found = []
    for i, (name, key) in enumerate(trust["witnesses"]):
        own = [one for one in cosignatures if (one[0], one[1]) == (name, key_id(key)[:4])]
        for _, _, time, signature in own:
            message = b"piaogen/cosig/1\n" + f"time {time}\n{text}".encode()
            need("witness", sm2_verify_once(key, message, signature))
        if own:
            found.append(i)
    return found


def read_cosigned(r):
    out = {"size": r.vint(), "root": r.take(32), "proof": r.digests(64), "cosignatures": []}
    for _ in range(r.count(32)):
        try:
            name = r.bytes(64).decode("utf-8")
        except UnicodeDecodeError:
            raise Bad("name") from None
        if not is_name(name):
            raise Bad("name")
        out["cosignatures"].append((name, r.take(4), r.uint(8), r.take(64)))
    return out


def check_witnesses(trust, certified, cosigned):
    found = []
    if cosigned:
        root = inclusion_root(leaf(certified["digest"]), certified["height"], cosigned["size"],
                              cosigned["proof"])
        need("witness", root == cosigned["root"])
        text = note_text(trust["chain_id"], cosigned["size"], cosigned["root"])
        found = witnesses_of(trust, text, cosigned["cosignatures"])
    need("witness", len(found) >= trust["witness_quorum"])
    return len(found)


def cosigned_from_json(value):
    keys_of(value, ["size", "root", "proof", "cosignatures"])
    out = vint(value["size"]) + unhex(value["root"], 32) + put_digests(value["proof"])
    out += vint(len(value["cosignatures"]))
    for one in value["cosignatures"]:
        keys_of(one, ["name", "hint", "time", "signature"])
        out += blob(one["name"].encode()) + unhex(one["hint"], 4) + u64(one["time"])
        out += unhex(one["signature"], 64)
    return out
