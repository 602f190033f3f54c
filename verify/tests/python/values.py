"""Primitive encodings, trees, tables of fields and values (FORMAT.md sections 1 and 2).

The tables are read out of the document itself.
"""

import json
import re
import unicodedata

from sm import sm3


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

TABLES = {}     # name -> {tag: (field name, type)}
SHAPES = {}     # kind of an event -> (name, names that are required, names that are optional)
CONFLICTS = {}  # outcome -> (name, form of the detail)


def read_tables(text):
    between = text.split("<!-- fields: begin")[1].split("<!-- fields: end -->")[0]
    table = None
    for line in between.splitlines():
        if line.startswith("#### `"):
            table = TABLES.setdefault(line.split("`")[1], {})
        row = re.match(r"\| (\d+) \| `(\w+)` \| [^|]+ \| (.+) \|$", line)
        if row:
            table[int(row[1])] = (row[2], row[3])
    for kind, name, _, required, optional in rows(text, "events", 5):
        names = [re.findall(r"`(\w+)`", cell) for cell in (required, optional)]
        SHAPES[int(kind)] = (name.strip("`"), *names)
    for code, name, detail, _ in rows(text, "conflicts", 4):
        CONFLICTS[int(code)] = (name.strip("`"), detail.split(" ")[-1])


def rows(text, mark, cells):
    between = text.split(f"<!-- {mark}: begin")[1].split(f"<!-- {mark}: end -->")[0]
    for line in between.splitlines():
        row = line.strip("| ").split(" | ")
        if re.match(r"\| \d+ \|", line) and len(row) == cells:
            yield row


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
    if kind == "opening":
        if len(data) > 16384:
            raise Bad("opening", None, (len(data), 16384))
        r = Reader(data)
        fields = read_opening(r)
        r.end()
        if not fields:
            raise Bad("no fields", "not_canonical")
        try:
            check_opening("document", fields)
        except Bad:
            raise Bad("shown value", "not_canonical") from None
        return
    if kind == "history":
        history_of(data)
        return
    if kind == "keys":
        check_keys(data)
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


def check_keys(data):
    r = Reader(data)
    count = r.count(100)
    if count == 0:
        raise Bad("no keys", "range")
    last = b""
    for _ in range(count):
        key = r.take(33)
        if key <= last:
            raise Bad("order", "order")
        last = key
    r.end()


def history_of(data):
    """Log index and id of each record that made a status (section 2.1)."""
    r, out = Reader(data), []
    count = r.count(256)
    if count == 0:
        raise Bad("no history", "not_canonical")
    for _ in range(count):
        index = r.vint()
        if out and out[-1][0] >= index:
            raise Bad("order", "order")
        out.append((index, r.take(16)))
    r.end()
    return out


def read_opening(r):
    """Tag, digest, salt and value of each field; the last two None where it is hidden (2.7)."""
    fields = []
    for _ in range(r.count(128)):
        tag = r.vint()
        if tag > 0xFFFF or (fields and fields[-1][0] >= tag):
            raise Bad("tag")
        mark = r.uint(1)
        if mark == 0:
            fields.append((tag, r.take(32), None, None))
        elif mark == 1:
            salt_, value = r.take(16), r.bytes(65536)
            digest = sm3(b"\x03", u16(tag), salt_, value)
            fields.append((tag, digest, salt_, value))
        else:
            raise Bad("mark of a field")
    return fields


def check_opening(table, fields):
    for tag, _, _, value in fields:
        if value is not None:
            check_members(table, [(tag, value)])


def put_opening(fields):
    """Encodes tag and either a digest, or salt and value."""
    out = vint(len(fields))
    for tag, digest, salt_, value in fields:
        out += vint(tag)
        out += b"\x00" + digest if value is None else b"\x01" + salt_ + blob(value)
    return out


def opening_from_json(table, value):
    shown = {name: field["value"] for name, field in value.items() if "value" in field}
    exponent = exponent_in(shown)
    fields = []
    for name, field in value.items():
        keys_of(field, ["digest"] if "digest" in field else ["salt", "value"])
        tag = tag_of(table, name)
        if tag is None:
            tag = int(re.fullmatch(r"tag_(\d+)", name)[1])
        if "digest" in field:
            fields.append((tag, unhex(field["digest"], 32), None, None))
        else:
            data = value_from_json(TABLES[table][tag][1], field["value"], exponent)
            fields.append((tag, None, unhex(field["salt"], 16), data))
    return sorted(fields, key=lambda field: field[0])


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
    elif kind == "keys":
        data = vint(len(value)) + b"".join(unhex(key, 33) for key in value)
    elif kind == "flag":
        if value is not True:
            raise Bad("flag")
        data = b"\x01"
    elif kind == "opening":
        data = put_opening(opening_from_json("document", value))
    elif kind == "history":
        data = vint(len(value))
        for entry in value:
            keys_of(entry, ["index", "id"])
            data += vint(entry["index"]) + unhex(entry["id"], 16)
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
