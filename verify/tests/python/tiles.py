"""Heads, tiles, their paths and bundles (FORMAT.md section 11.2)."""

import re

from chain import (
    after, check_chain, check_final, need, read_certificate, read_changes, read_header, read_link,
    read_shard, Refused,
)
from sm import sm3
from values import Bad, inclusion_root, interior, leaf, Reader, root_of

WIDTH, LEVELS = 256, 8


# --- heads --------------------------------------------------------------------------------------

def read_head(data):
    r = Reader(data)
    if len(data) > 1 << 21 or r.take(3) != b"PM\x01":
        raise Bad("magic")
    out = {"header": read_header(r), "certificate": read_certificate(r.bytes(6600)),
           "changes": read_changes(r)}
    out["shards"] = [read_shard(r) for _ in range(r.count(4097))]
    r.end()
    return out


def verify_head(data, trust):
    """The step that refuses, and the number of leaves of each log."""
    try:
        head = read_head(data)
    except Bad:
        return "decode", None
    header, shards = head["header"], head["shards"]
    try:
        need("shard", [shard["shard"] for shard in shards] == list(range(len(shards))))
        root = root_of([leaf(shard["raw"]) for shard in shards])
        need("shard", root == header["shards_root"])
        check_chain(trust, [header], head["changes"])
        check_final(header, head["certificate"], after(trust, head["changes"]))
    except Refused as refusal:
        return refusal.step, None
    logs = {str(shard["shard"]): shard["log_size"] for shard in shards}
    return None, {**logs, "history": header["height"] + 1}


# --- paths --------------------------------------------------------------------------------------

NUMBER = r"0|[1-9][0-9]*"
PATH = re.compile(rf"(history|{NUMBER})/(entries|[0-7])/((?:x[0-9]{{3}}/)*)([0-9]{{3}})"
                  rf"(?:\.p/([1-9][0-9]*))?", re.ASCII)


def parse_path(path):
    """Log, part (a level or `entries`), index and width; None where it names no tile."""
    match = PATH.fullmatch(path)
    if not match:
        return None
    log, part, groups, last, width = match.groups()
    index = int(groups.replace("x", "").replace("/", "") + last)
    if groups.startswith("x000") or index >= 1 << 56:
        return None
    if (log != "history" and int(log) >= 1 << 32) or (width and int(width) >= WIDTH):
        return None
    return log, part if part == "entries" else int(part), index, int(width or WIDTH)


def path_of(log, part, index, width):
    digits = str(index)
    digits = digits.rjust(-(-len(digits) // 3) * 3, "0")
    groups = [digits[i:i + 3] for i in range(0, len(digits), 3)]
    groups = ["x" + group for group in groups[:-1]] + groups[-1:]
    partial = "" if width == WIDTH else f".p/{width}"
    return f"{log}/{part}/{'/'.join(groups)}{partial}"


def path_in(log, part, index, size):
    """The path of a tile as wide as a log of this size has it, if it has any of it."""
    count = size if part == "entries" else size // WIDTH ** part
    width = min(count - WIDTH * index, WIDTH)
    return path_of(log, part, index, width) if width > 0 else None


# --- proofs -------------------------------------------------------------------------------------

class Log:
    """A log of a size, read from tiles by path."""

    def __init__(self, name, size, tiles):
        self.name, self.size, self.tiles = name, size, tiles

    def complete(self, level, index):
        """The root of the subtree of 2^level leaves, the index-th of its level."""
        part, row = divmod(level, 8)
        first = index << row
        path = path_in(self.name, part, first // WIDTH, self.size)
        data, width = self.tiles[path], parse_path(path)[3]
        if len(data) != 32 * width:
            raise Bad("length of a tile")
        at = first % WIDTH
        return root_of([data[32 * i:32 * i + 32] for i in range(at, at + (1 << row))])

    def root(self, begin, end):
        """The root over leaves, by the recursion of RFC 6962."""
        if begin == end:
            return sm3()
        level = (end - begin).bit_length() - 1
        if end - begin == 1 << level:
            return self.complete(level, begin >> level)
        middle = begin + (1 << level)
        return interior(self.root(begin, middle), self.root(middle, end))

    def inclusion(self, index):
        """The proof of RFC 9162 section 2.1.3.1."""
        begin, end, proof = 0, self.size, []
        while end - begin > 1:
            middle = begin + (1 << (end - begin - 1).bit_length() - 1)
            if index < middle:
                proof.append(self.root(middle, end))
                end = middle
            else:
                proof.append(self.root(begin, middle))
                begin = middle
        return proof[::-1]


def prove(log, root, index, hash_):
    """The step that refuses tiles, and the proof that they give."""
    try:
        found, proof = log.root(0, log.size), log.inclusion(index)
    except Bad:
        return "decode", None
    if found != root or inclusion_root(hash_, index, log.size, proof) != root:
        return "inclusion", None
    return None, proof


# --- bundles ------------------------------------------------------------------------------------

def read_bundle(data, width):
    r = Reader(data)
    items = [r.take(r.uint(2)) for _ in range(width)]
    r.end()
    return items


def check_bundle(path, data, hashes):
    """The step that refuses a bundle beside the tile of its leaves, and its items."""
    log, part, _, width = parse_path(path)
    if part != "entries":
        raise AssertionError(f"{path} is no bundle")
    try:
        items = read_bundle(data, width)
        if log == "history":
            found = [leaf(read_link(item)["header"]["digest"]) for item in items]
        else:
            found = [leaf(item) for item in items]
    except Bad:
        return "decode", None
    return ("inclusion", None) if b"".join(found) != hashes else (None, items)
