"""SM3 and SM2 verification in plain Python: slow, short, and nobody else's code."""


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
