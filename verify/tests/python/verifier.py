"""A second verifier, written from FORMAT.md alone, with the standard library alone.

It reads the tables of fields out of FORMAT.md, brings its own SM3 and SM2 verification, and checks
every vector in verify/vectors, good and bad. Where it and the reference code disagree, one of them
or the document is wrong.

    python3 verifier.py FORMAT.md vectors/
"""

import base64
import json
import re
import sys
import unicodedata
from pathlib import Path


# --- SM3 (GB/T 32905) ---------------------------------------------------------------------------

M32 = 0xFFFFFFFF


def rotl(x, n):
    n %= 32
    return ((x << n) | (x >> (32 - n))) & M32


TJ = [rotl(0x79CC4519 if j < 16 else 0x7A879D8A, j) for j in range(64)]
IV = (0x7380166F, 0x4914B2B9, 0x172442D7, 0xDA8A0600,
      0xA96F30BC, 0x163138AA, 0xE38DEE4D, 0xB0FB0E4E)


def sm3_block(v, block):
    w = [int.from_bytes(block[i:i + 4], "big") for i in range(0, 64, 4)]
    for j in range(16, 68):
        x = w[j - 16] ^ w[j - 9] ^ rotl(w[j - 3], 15)
        w.append(x ^ rotl(x, 15) ^ rotl(x, 23) ^ rotl(w[j - 13], 7) ^ w[j - 6])
    a, b, c, d, e, f, g, h = v
    for j in range(64):
        a12 = rotl(a, 12)
        ss1 = rotl((a12 + e + TJ[j]) & M32, 7)
        if j < 16:
            ff, gg = a ^ b ^ c, e ^ f ^ g
        else:
            ff, gg = (a & b) | (a & c) | (b & c), (e & f) | (~e & M32 & g)
        tt1 = (ff + d + (ss1 ^ a12) + (w[j] ^ w[j + 4])) & M32
        tt2 = (gg + h + ss1 + w[j]) & M32
        a, b, c, d = tt1, a, rotl(b, 9), c
        e, f, g, h = tt2 ^ rotl(tt2, 9) ^ rotl(tt2, 17), e, rotl(f, 19), g
    return tuple(x ^ y for x, y in zip(v, (a, b, c, d, e, f, g, h)))


def sm3(*parts):
    data = b"".join(parts)
    padded = data + b"\x80" + b"\x00" * (-(len(data) + 9) % 64) + (len(data) * 8).to_bytes(8, "big")
    v = IV
    for i in range(0, len(padded), 64):
        v = sm3_block(v, padded[i:i + 64])
    return b"".join(x.to_bytes(4, "big") for x in v)


# --- SM2 (GB/T 32918.2) -------------------------------------------------------------------------

P = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
A = P - 3
B = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
N = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
G = (0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7,
     0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0)
ID = b"1234567812345678"


def double(p):
    x, y, z = p
    if not y or not z:
        return (1, 1, 0)
    yy = y * y % P
    s = 4 * x * yy % P
    m = (3 * x * x + A * pow(z, 4, P)) % P
    x3 = (m * m - 2 * s) % P
    return (x3, (m * (s - x3) - 8 * yy * yy) % P, 2 * y * z % P)


def add(p, q):
    if not p[2]:
        return q
    if not q[2]:
        return p
    z1, z2 = p[2] * p[2] % P, q[2] * q[2] % P
    u1, u2 = p[0] * z2 % P, q[0] * z1 % P
    s1, s2 = p[1] * z2 * q[2] % P, q[1] * z1 * p[2] % P
    if u1 == u2:
        return double(p) if s1 == s2 else (1, 1, 0)
    h, r = (u2 - u1) % P, (s2 - s1) % P
    h2 = h * h % P
    h3 = h * h2 % P
    x3 = (r * r - h3 - 2 * u1 * h2) % P
    return (x3, (r * (u1 * h2 - x3) - s1 * h3) % P, h * p[2] * q[2] % P)


def two_multiples(s, t, public):
    g, q = (G[0], G[1], 1), (public[0], public[1], 1)
    both, out = add(g, q), (1, 1, 0)
    for i in range(255, -1, -1):
        out = double(out)
        bits = (s >> i & 1, t >> i & 1)
        if bits != (0, 0):
            out = add(out, {(1, 0): g, (0, 1): q, (1, 1): both}[bits])
    return out


def decompress(key):
    if len(key) != 33 or key[0] not in (2, 3):
        raise ValueError("public key")
    x = int.from_bytes(key[1:], "big")
    yy = (x * x * x + A * x + B) % P
    y = pow(yy, (P + 1) // 4, P)
    if x >= P or y * y % P != yy:
        raise ValueError("public key is not on the curve")
    return (x, y if y & 1 == key[0] & 1 else P - y)


def b32(n):
    return n.to_bytes(32, "big")


def key_id(key):
    x, y = decompress(key)
    return sm3(b"\x05", b32(x), b32(y))


def sm2_verify(key, message, signature):
    x, y = decompress(key)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if len(signature) != 64 or not (0 < r < N and 0 < s < N):
        return False
    z = sm3((len(ID) * 8).to_bytes(2, "big"), ID, *map(b32, (A, B, G[0], G[1], x, y)))
    e = int.from_bytes(sm3(z, message), "big")
    t = (r + s) % N
    if t == 0:
        return False
    point = two_multiples(s, t, (x, y))
    if not point[2]:
        return False
    affine = point[0] * pow(point[2], -2, P) % P
    return (e + affine) % N == r


# --- primitive encodings (section 1) ------------------------------------------------------------

class Bad(Exception):
    """Bytes or JSON are not what the format says. `cause` as in section 5."""

    def __init__(self, what, cause="encoding", limit=None):
        super().__init__(what)
        self.cause, self.limit = cause, limit


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if n > len(self.data) - self.at:
            raise Bad("too short")
        self.at += n
        return self.data[self.at - n:self.at]

    def uint(self, n):
        return int.from_bytes(self.take(n), "big")

    def i64(self):
        return int.from_bytes(self.take(8), "big", signed=True)

    def leb(self, most, bits):
        n = 0
        for i in range(most):
            byte = self.uint(1)
            n |= (byte & 0x7F) << (7 * i)
            if not byte & 0x80:
                if n >> bits or (byte == 0 and i):
                    break
                return n
        raise Bad("integer", "not_canonical")

    def vint(self):
        return self.leb(10, 64)

    def zint(self):
        n = self.leb(19, 128)
        return (n >> 1) ^ -(n & 1)

    def count(self, limit):
        n = self.vint()
        if n > limit:
            raise Bad("limit", None, (n, limit))
        return n

    def bytes(self, limit):
        return self.take(self.count(limit))

    def digests(self, limit):
        return [self.take(32) for _ in range(self.count(limit))]

    def end(self):
        if self.at != len(self.data):
            raise Bad("trailing bytes")


def vint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out) + bytes([n])


def zint(n):
    return vint((n << 1) ^ (n >> 127))


def blob(data):
    return vint(len(data)) + data


def u16(n):
    return n.to_bytes(2, "big")


def u32(n):
    return n.to_bytes(4, "big")


def u64(n):
    return n.to_bytes(8, "big")


# --- Merkle trees (section 1) -------------------------------------------------------------------

def leaf(data):
    return sm3(b"\x00", data)


def interior(left, right):
    return sm3(b"\x01", left, right)


def root_of(leaves):
    if not leaves:
        return sm3()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return interior(root_of(leaves[:k]), root_of(leaves[k:]))


def inclusion_root(hash_, index, size, proof):
    """RFC 9162 section 2.1.3.2; None where the proof does not fit."""
    if index >= size:
        return None
    fn, sn = index, size - 1
    for p in proof:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            hash_ = interior(p, hash_)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            hash_ = interior(hash_, p)
        fn, sn = fn >> 1, sn >> 1
    return hash_ if sn == 0 else None


def consistent(old, new, old_root, new_root, proof):
    """RFC 9162 section 2.1.4.2."""
    if old > new:
        return False
    if old == 0:
        return not proof and old_root == sm3()
    if old == new:
        return not proof and old_root == new_root
    if old & (old - 1) == 0:
        proof = [old_root] + proof
    if not proof:
        return False
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = proof[0]
    for c in proof[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = interior(c, fr), interior(c, sr)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = interior(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == old_root and sr == new_root


# --- tables of fields (section 2.2), read out of the document -----------------------------------

TABLES = {}  # name -> {tag: (field name, type)}


def read_tables(text):
    between = text.split("<!-- fields: begin")[1].split("<!-- fields: end -->")[0]
    table = None
    for line in between.splitlines():
        if line.startswith("#### `"):
            table = TABLES.setdefault(line.split("`")[1], {})
        row = re.match(r"\| (\d+) \| `(\w+)` \| [^|]+ \| (.+) \|$", line)
        if row:
            table[int(row[1])] = (row[2], row[3])


def tag_of(table, name):
    for tag, (known, _) in TABLES[table].items():
        if known == name:
            return tag
    return None


# --- canonical values (section 2.1) -------------------------------------------------------------

BOUND = 10 ** 30


def check_length(data, limit):
    if not data:
        raise Bad("empty", "not_canonical")
    if len(data) > limit:
        raise Bad("length", None, (len(data), limit))


def check(kind, data):
    """Raises Bad where the bytes are not the canonical form of a value of this type."""
    sized = re.match(r"(text|ascii)\((\d+)\)$", kind)
    if sized:
        check_length(data, int(sized[2]))
        if sized[1] == "ascii":
            if not all(0x21 <= byte <= 0x7E for byte in data):
                raise Bad("characters", "characters")
            return
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise Bad("not UTF-8", "characters") from None
        if any(unicodedata.category(c) == "Cc" and c not in "\t\n" for c in text):
            raise Bad("control", "characters")
        if unicodedata.normalize("NFC", text) != text:
            raise Bad("not NFC", "not_canonical")
        return
    listed = re.match(r"list of `([\w.]+)`$", kind)
    if listed:
        for entry in entries_of(data):
            check_members(listed[1], entry)
        return
    fixed = {"date": 4, "time": 8, "currency": 4, "digest": 32, "key": 33}.get(kind)
    if fixed is not None and len(data) != fixed:
        raise Bad("length")
    r = Reader(data)
    if kind == "date":
        n = int.from_bytes(data, "big")
        year, month, day = n // 10000, n // 100 % 100, n % 100
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        days = [31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        if not (1900 <= year <= 2199 and 1 <= month <= 12 and 1 <= day <= days[month - 1]):
            raise Bad("no such day", "range")
    elif kind == "amount":
        n = r.zint()
        r.end()
        if abs(n) >= BOUND:
            raise Bad("range", "range")
    elif kind == "decimal":
        scale, n = r.uint(1), r.zint()
        r.end()
        if scale > 18 or abs(n) >= BOUND:
            raise Bad("range", "range")
        if scale and n % 10 == 0:
            raise Bad("trailing zero", "not_canonical")
    elif kind == "uint":
        r.vint()
        r.end()
    elif kind == "currency":
        if not all(0x41 <= byte <= 0x5A for byte in data[:3]):
            raise Bad("characters", "characters")
        if data[3] > 4:
            raise Bad("exponent", "range")
    elif kind == "flag":
        if data != b"\x01":
            raise Bad("flag", "not_canonical")
    elif kind == "lines":
        n = r.uint(4)
        r.take(32)
        r.end()
        if n == 0:
            raise Bad("no lines", "range")
        if n > 10000:
            raise Bad("lines", None, (n, 10000))
    elif fixed is None:
        raise ValueError(f"FORMAT.md does not say what {kind} is")


def read_members(r):
    count = r.count(64)
    if count == 0:
        raise Bad("no members", "not_canonical")
    out = []
    for _ in range(count):
        tag = r.uint(2)
        if out and out[-1][0] >= tag:
            raise Bad("order", "order")
        out.append((tag, r.bytes(16384)))
    return out


def entries_of(data):
    r = Reader(data)
    count = r.count(64)
    if count == 0:
        raise Bad("no entries", "not_canonical")
    out = [read_members(r) for _ in range(count)]
    r.end()
    return out


def check_members(table, members):
    for tag, value in members:
        if tag not in TABLES[table]:
            raise Bad("unknown member", "unknown_tag")
        check(TABLES[table][tag][1], value)


def put_members(members):
    return vint(len(members)) + b"".join(u16(tag) + blob(value) for tag, value in members)


# --- JSON (section 2.1) -------------------------------------------------------------------------

def no_repeats(pairs):
    keys = [key for key, _ in pairs]
    if len(keys) != len(set(keys)):
        raise Bad("a key stands twice")
    return dict(pairs)


def parse_json(text):
    try:
        return json.loads(text, object_pairs_hook=no_repeats)
    except ValueError as error:
        raise Bad(str(error)) from None


def is_int(value):
    return isinstance(value, int) and not isinstance(value, bool)


def keys_of(value, known):
    if not isinstance(value, dict) or set(value) - set(known):
        raise Bad("unknown key")
    return value


def unhex(text, length=None):
    if not isinstance(text, str) or not re.fullmatch(r"([0-9a-f]{2})*", text):
        raise Bad("hex")
    data = bytes.fromhex(text)
    if length is not None and len(data) != length:
        raise Bad("length")
    return data


def decimal_string(n, scale):
    digits = str(abs(n)).rjust(scale + 1, "0")
    point = len(digits) - scale
    return ("-" if n < 0 else "") + digits[:point] + ("." + digits[point:] if scale else "")


def read_number(text):
    """Mantissa and scale as written; only the form that decimal_string writes."""
    if not isinstance(text, str) or not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        raise Bad("decimal string")
    whole, _, fraction = text.partition(".")
    n, scale = int(whole + fraction), len(fraction)
    if decimal_string(n, scale) != text or abs(n) >= BOUND:
        raise Bad("decimal string")
    return n, scale


def value_from_json(kind, value, exponent):
    if kind.startswith(("text", "ascii")):
        if not isinstance(value, str):
            raise Bad("string")
        data = value.encode("utf-8")
    elif kind == "date":
        if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            raise Bad("date")
        data = u32(int(value.replace("-", "")))
    elif kind == "time":
        if not is_int(value):
            raise Bad("integer")
        data = value.to_bytes(8, "big", signed=True)
    elif kind == "amount":
        n, scale = read_number(value)
        if scale != exponent:
            raise Bad("decimals")
        data = zint(n)
    elif kind == "decimal":
        n, scale = read_number(value)
        data = bytes([scale]) + zint(n)
    elif kind == "uint":
        if not is_int(value) or not 0 <= value < 1 << 64:
            raise Bad("integer")
        data = vint(value)
    elif kind == "currency":
        keys_of(value, ["code", "exponent"])
        if not is_int(value["exponent"]) or not 0 <= value["exponent"] < 256:
            raise Bad("exponent")
        data = value["code"].encode() + bytes([value["exponent"]])
    elif kind in ("digest", "key"):
        data = unhex(value)
    elif kind == "flag":
        if value is not True:
            raise Bad("flag")
        data = b"\x01"
    elif kind == "lines":
        keys_of(value, ["count", "root"])
        data = u32(value["count"]) + unhex(value["root"], 32)
    else:
        table = kind.split("`")[1]
        if not isinstance(value, list):
            raise Bad("array")
        data = vint(len(value))
        data += b"".join(put_members(fields_from_json(table, entry, exponent)) for entry in value)
    check(kind, data)
    return data


def fields_from_json(table, value, exponent):
    if not isinstance(value, dict):
        raise Bad("object")
    out = []
    for name, item in value.items():
        tag = tag_of(table, name)
        if tag is None:
            raise Bad(f"unknown field {name}")
        out.append((tag, value_from_json(TABLES[table][tag][1], item, exponent)))
    return sorted(out)


def exponent_in(fields):
    if "currency" not in fields:
        return 0
    return value_from_json("currency", fields["currency"], 0)[3]


def document_from_json(text):
    """Secret, fields, encoded lines."""
    value = keys_of(parse_json(text), ["format", "secret", "fields", "lines"])
    if value.get("format") != "piaogen/document/1":
        raise Bad("format")
    secret = unhex(value["secret"], 16)
    exponent = exponent_in(value["fields"])
    fields = fields_from_json("document", value["fields"], exponent)
    lines = [put_members(fields_from_json("line", line, exponent))
             for line in value.get("lines", [])]
    return secret, fields, lines


# --- commitment (sections 2.3 to 2.5) -----------------------------------------------------------

def salt(secret, i):
    block = sm3(b"\x02", secret, u32(i // 2))
    return block[16:] if i & 1 else block[:16]


def field_digest(tag, salt_, value):
    return sm3(b"\x03", u16(tag), salt_, value)


def commitment_of(digests):
    return sm3(b"\x04", vint(len(digests)), *(u16(tag) + digest for tag, digest in digests))


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
        rules += [(4, taxable - get("total_net"), tolerance), (5, tax - get("total_vat"), tolerance),
                  (6, worst, tolerance_tax)]
    for rule, difference, allowed in rules:
        if abs(difference) > allowed:
            return {"rule": rule, "difference": str(difference)}
    return None


# --- records (section 4) ------------------------------------------------------------------------

KINDS = {1: "issue", 2: "issue_red", 64: "register", 65: "rotate", 66: "revoke"}


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
    invoice = data[3] in (1, 2)
    table = "document" if invoice else "registry"
    secret = body[:16] if invoice else b""
    if invoice and len(body) < 16:
        return refused(0, Bad("secret"))
    r, at, fields = Reader(body[16:] if invoice else body), 0, []
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
    if invoice:
        commitment = commitment_of(digests_of(secret, fields))
    else:
        commitment = sm3(b"\x0d", body)
    return {"kind": kind, "code": data[3], "signer": data[4:36],
            "signed_at": int.from_bytes(data[36:44], "big", signed=True),
            "secret": secret, "fields": fields, "commitment": commitment, "signature": signature}


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
    if code in (1, 2):
        keys_of(value["body"], ["secret", "fields"])
        fields = value["body"]["fields"]
        body = unhex(value["body"]["secret"], 16)
        body += put_fields(fields_from_json("document", fields, exponent_in(fields)))
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
    if record["kind"] in ("issue", "issue_red"):
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
    else:
        name = fields.get(3001)
    return None if name is None else subject_of(b"REGISTRY", None, name)


# --- entries (section 5) ------------------------------------------------------------------------

OUTCOMES = {0: "ACCEPTED", 1: "REPLAY", 2: "DUP_DIFFERENT", 10: "BAD_SIGNATURE",
            11: "NOT_REGISTERED", 12: "KEY_REVOKED", 13: "WRONG_ROLE", 14: "WRONG_ACTOR",
            20: "MALFORMED", 21: "LIMIT", 22: "TOTALS", 23: "CLOCK_SKEW",
            24: "TYPE_NOT_ACCEPTED", 25: "UNKNOWN_SCHEME", 26: "WRONG_PARTITION",
            30: "PARTY_EXISTS", 31: "KEY_IN_USE", 32: "NOT_FOUND"}
CAUSES = ["encoding", "unknown_tag", "order", "missing", "not_canonical", "not_allowed",
          "characters", "range", "sign", "check_digit", "unknown_kind"]


def read_detail(name, data):
    r, out = Reader(data), {}
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
    r.end()
    return out


def put_detail(name, d):
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


# --- headers and certificates (sections 7 and 8) ------------------------------------------------

def read_shard(r):
    raw = r.take(92)
    s = Reader(raw)
    return {"raw": raw, "shard": s.uint(4), "next_offset": s.uint(8), "log_size": s.uint(8),
            "log_root": s.take(32), "invoices": s.uint(8), "status_root": s.take(32)}


HASHES = ["parent", "cut", "shards_root", "history_root", "validators"]


def read_header(r):
    raw = r.take(232)
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
    if n > 1024:
        raise Bad("validators")
    bitmap = int.from_bytes(r.take((n + 7) // 8), "little")
    if bitmap >> n:
        raise Bad("unused bits")
    out["signers"] = [i for i in range(n) if bitmap >> i & 1]
    count = r.count(1024)
    if count == 0 or count != len(out["signers"]):
        raise Bad("count")
    out["signatures"] = [r.take(64) for _ in range(count)]
    r.end()
    return out


def vote_message(chain, certificate):
    return blob(b"piaogen/order/1\n" + chain + b"_FINALIZE") + certificate["proposal"]


class Refused(Exception):
    def __init__(self, step):
        super().__init__(step)
        self.step = step


def need(step, holds):
    if not holds:
        raise Refused(step)


def read_trust_root(value):
    keys_of(value, ["format", "chain_id", "chain", "validators"])
    if value["format"] != "piaogen/trust-root/1":
        raise Bad("format")
    keys = sorted(unhex(key, 33) for key in value["validators"])
    return {"chain_id": value["chain_id"], "chain": unhex(value["chain"], 32), "keys": keys,
            "digest": sm3(b"\x0c", vint(len(keys)), *keys)}


SEEN = {}


def sm2_verify_once(key, message, signature):
    known = (key, message, signature)
    if known not in SEEN:
        SEEN[known] = sm2_verify(*known)
    return SEEN[known]


def check_final(header, certificate, trust):
    keys = trust["keys"]
    need("validators", header["validators"] == trust["digest"])
    need("quorum", certificate["payload"] == header["digest"])
    need("quorum", certificate["epoch"] == header["epoch"])
    need("quorum", certificate["validators"] == len(keys))
    need("quorum", len(certificate["signers"]) >= len(keys) - (len(keys) - 1) // 3)
    message = vote_message(header["chain"], certificate)
    for i, signature in zip(certificate["signers"], certificate["signatures"]):
        need("signature", sm2_verify_once(keys[i], message, signature))


def check_history(older, newer, proof):
    root = inclusion_root(leaf(older["digest"]), older["height"], newer["height"], proof)
    need("history", root == newer["history_root"])


# --- receipts (section 9) -----------------------------------------------------------------------

def read_receipt(data):
    if len(data) > 262144:
        raise Bad("too long")
    r = Reader(data)
    if r.take(3) != b"PT\x01":
        raise Bad("magic")
    out, fields = {}, []
    for _ in range(r.count(128)):
        tag = r.vint()
        if tag > 0xFFFF or (fields and fields[-1][0] >= tag):
            raise Bad("tag")
        mark = r.uint(1)
        if mark == 0:
            fields.append((tag, r.take(32), None, None))
        elif mark == 1:
            salt_, value = r.take(16), r.bytes(65536)
            fields.append((tag, field_digest(tag, salt_, value), salt_, value))
        else:
            raise Bad("mark of a field")
    out["fields"] = fields
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
    out["certificate_bytes"] = r.bytes(66000)
    out["certificate"] = read_certificate(out["certificate_bytes"])
    r.end()
    return out


def verify_receipt(data, trust):
    """None, or the name of the step that refuses."""
    try:
        receipt = read_receipt(data)
    except Bad:
        return "decode"
    try:
        if receipt["fields"]:
            for tag, _, _, value in receipt["fields"]:
                if value is not None:
                    try:
                        check_members("document", [(tag, value)])
                    except Bad:
                        raise Refused("document") from None
            digests = [(tag, digest) for tag, digest, _, _ in receipt["fields"]]
            need("document", commitment_of(digests).hex() == receipt["entry"]["commitment"])
        shard, header = receipt["shard"], receipt["header"]
        root = inclusion_root(leaf(receipt["entry_bytes"]), receipt["log_index"],
                              shard["log_size"], receipt["inclusion"])
        need("inclusion", root == shard["log_root"])
        root = inclusion_root(leaf(shard["raw"]), shard["shard"], header["shards"],
                              receipt["shard_proof"])
        need("shard", root == header["shards_root"])
        need("chain", header["chain"] == trust["chain"])
        last = header
        if receipt["history"]:
            last, proof = receipt["history"]
            need("chain", last["chain"] == trust["chain"])
            check_history(header, last, proof)
        check_final(last, receipt["certificate"], trust)
    except Refused as refusal:
        return refusal.step
    return None


def header_from_json(value):
    keys_of(value, ["chain", "height", "epoch", "time_ms", *HASHES, "shards", "records"])
    return (b"PH\x01\x00" + unhex(value["chain"], 32) + u64(value["height"]) + u64(value["epoch"])
            + value["time_ms"].to_bytes(8, "big", signed=True)
            + b"".join(unhex(value[name], 32) for name in HASHES)
            + u32(value["shards"]) + u64(value["records"]))


def receipt_from_json(value):
    keys_of(value, ["format", "fields", "entry", "log_index", "inclusion", "shard", "shard_proof",
                    "header", "history", "certificate"])
    if value["format"] != "piaogen/receipt/1":
        raise Bad("format")
    shown = {name: field["value"] for name, field in value["fields"].items() if "value" in field}
    exponent = exponent_in(shown)
    fields = []
    for name, field in value["fields"].items():
        tag = tag_of("document", name)
        if tag is None:
            tag = int(re.fullmatch(r"tag_(\d+)", name)[1])
        if "digest" in field:
            fields.append((tag, b"\x00" + unhex(field["digest"], 32)))
        else:
            data = value_from_json(TABLES["document"][tag][1], field["value"], exponent)
            fields.append((tag, b"\x01" + unhex(field["salt"], 16) + blob(data)))

    def digests(items):
        return vint(len(items)) + b"".join(unhex(item, 32) for item in items)

    s = value["shard"]
    out = b"PT\x01" + vint(len(fields)) + b"".join(vint(tag) + data for tag, data in sorted(fields))
    out += blob(entry_from_json(value["entry"])) + vint(value["log_index"])
    out += digests(value["inclusion"])
    out += (u32(s["shard"]) + u64(s["next_offset"]) + u64(s["log_size"])
            + unhex(s["log_root"], 32) + u64(s["invoices"]) + unhex(s["status_root"], 32))
    out += digests(value["shard_proof"]) + header_from_json(value["header"])
    if "history" in value:
        out += b"\x01" + header_from_json(value["history"]["header"])
        out += digests(value["history"]["proof"])
    else:
        out += b"\x00"
    return out + blob(unhex(value["certificate"]))


# --- consistency and checkpoints (sections 11 and 12) -------------------------------------------

def verify_consistency(data, trust):
    try:
        r = Reader(data)
        if r.take(3) != b"PC\x01":
            raise Bad("magic")
        older, newer, proof = read_header(r), read_header(r), r.digests(64)
        certificate = read_certificate(r.bytes(66000))
        r.end()
    except Bad:
        return "decode"
    try:
        need("chain", older["chain"] == newer["chain"] == trust["chain"])
        check_history(older, newer, proof)
        check_final(newer, certificate, trust)
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


def verify_note(note, trust):
    """The step that refuses and the signers."""
    try:
        chain_id, text, signatures = read_note(note)
    except Bad:
        return "decode", None
    if chain_id != trust["chain_id"]:
        return "chain", None
    signers = []
    for i, key in enumerate(trust["keys"]):
        own = [data for name, data in signatures
               if name == key.hex()[:16] and data[:4] == key_id(key)[:4]]
        for data in own:
            if len(data) != 68 or not sm2_verify(key, b"piaogen/ckpt/1\n" + text.encode(), data[4:]):
                return "signature", None
        if own:
            signers.append(i)
    return (None, signers) if signers else ("quorum", None)


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
        same("signed", vote_message(unhex(vectors["chain"]), found).hex(), case["signed"])
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
    document = vectors["document"]
    same("status", sm3(b"\x06", unhex(document["bytes"])).hex(), document["record"])
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
          "status": check_statuses, "partition": check_partitions}


def main(document, folder):
    same("SM3", sm3(b"abc").hex(),
         "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0")
    read_tables(Path(document).read_text(encoding="utf-8"))
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
