#!/usr/bin/env python3
"""Makes vector.json: shares by an implementation that shares nothing with src/seals.

GF(2^8) by tables of logarithms to the base 3; base32 and SHA-256 of Python's standard library. See docs/sealing.md.
"""
import base64, hashlib, json

exp, log = [0] * 510, [0] * 256
x = 1
for power in range(255):
    exp[power] = exp[power + 255] = x
    log[x] = power
    x ^= (x << 1) ^ (0x11B if x & 0x80 else 0)


def times(a, b):
    return 0 if a == 0 or b == 0 else exp[log[a] + log[b]]


def power_of(a, n):
    result = 1
    for _ in range(n):
        result = times(result, a)
    return result


def text_of(set_id, threshold, index, value):
    octets = bytes([1]) + set_id + bytes([threshold, index]) + value
    whole = octets + hashlib.sha256(b"sigillo share v1" + octets).digest()[:5]
    letters = base64.b32encode(whole).decode().lower()
    return "sgl-share-" + "-".join(letters[at:at + 6] for at in range(0, len(letters), 6))


secret = hashlib.sha256(b"a secret").digest()
coefficients = [hashlib.sha256(b"coefficient %d" % n).digest() for n in (1, 2)]
set_id, threshold = bytes.fromhex("0a1b2c3d4e"), 3
shares = []
for index in range(1, 6):
    value = bytes(
        secret[at] ^ times(coefficients[0][at], index) ^ times(coefficients[1][at], power_of(index, 2))
        for at in range(32))
    shares.append({"index": index, "value": value.hex(), "text": text_of(set_id, threshold, index, value)})
print(json.dumps({
    "secret": secret.hex(), "coefficients": [c.hex() for c in coefficients],
    "setId": set_id.hex(), "threshold": threshold, "shares": shares}, indent=2))
