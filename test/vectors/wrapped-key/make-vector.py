#!/usr/bin/env python3
"""Makes vector.json: a wrapped key by an implementation that shares nothing with src/key-provider.

HKDF and HMAC from Python's standard library; AES-256-GCM built here from one-block AES of the openssl
command, so that no library wraps the mode. See docs/wrapped-key-format.md.
"""
import base64, hashlib, hmac, json, struct, subprocess


def b64(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def lp(*parts):
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def hkdf(key, salt, info, length):
    prk = hmac.new(salt, key, hashlib.sha256).digest()
    okm, block, counter = b"", b"", 1
    while len(okm) < length:
        block = hmac.new(prk, block + info + bytes([counter]), hashlib.sha256).digest()
        okm, counter = okm + block, counter + 1
    return okm[:length]


def aes_block(key, block):
    done = subprocess.run(
        ["openssl", "enc", "-aes-256-ecb", "-nopad", "-K", key.hex()],
        input=block, capture_output=True, check=True)
    return done.stdout


def gf_multiply(x, y):
    product = 0
    for bit in range(127, -1, -1):
        if (y >> bit) & 1:
            product ^= x
        x = (x >> 1) ^ (0xE1 << 120 if x & 1 else 0)
    return product


def gcm(key, iv, plaintext, aad):
    h = int.from_bytes(aes_block(key, bytes(16)), "big")
    ciphertext = b""
    for index in range(0, len(plaintext), 16):
        counter = struct.pack(">I", index // 16 + 2)
        stream = aes_block(key, iv + counter)
        ciphertext += bytes(a ^ b for a, b in zip(plaintext[index:index + 16], stream))
    tag = 0
    for data in (aad, ciphertext):
        for index in range(0, len(data), 16):
            block = data[index:index + 16].ljust(16, b"\0")
            tag = gf_multiply(tag ^ int.from_bytes(block, "big"), h)
    lengths = struct.pack(">QQ", len(aad) * 8, len(ciphertext) * 8)
    tag = gf_multiply(tag ^ int.from_bytes(lengths, "big"), h)
    mask = int.from_bytes(aes_block(key, iv + struct.pack(">I", 1)), "big")
    return ciphertext, (tag ^ mask).to_bytes(16, "big")


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


domain = b"sigillo wrapped key v1"
primary, dek = bytes(range(32)), bytes(range(100, 132))
salt, iv, identifier = bytes(range(16)), bytes(range(40, 52)), bytes(range(60, 76))
provider, version, purpose = "0f0e0d0c-0b0a-4908-8706-050403020100", 3, "vm-disk"
context = {"vm": "7f0c1d2e-3b4a-4958-8677-8695a4b3c2d1", "object": "disk-root"}

header = canonical({
    "alg": "HKDF-SHA256+A256GCM", "ctx": b64(hashlib.sha256(canonical(context)).digest()),
    "dek": b64(identifier), "iv": b64(iv), "provider": provider, "purpose": purpose,
    "salt": b64(salt), "v": 1, "version": version})
keys = hkdf(primary, salt, lp(domain, provider.encode(), str(version).encode(), purpose.encode()), 64)
commitment = hmac.new(keys[32:], header, hashlib.sha256).digest()[:16]
ciphertext, tag = gcm(keys[:32], iv, dek, lp(domain, header, canonical(context)))
print(json.dumps({
    "primary": primary.hex(), "provider": provider, "version": version, "purpose": purpose,
    "context": context, "dek": dek.hex(), "random": (salt + iv + identifier).hex(),
    "wrapped": "sgl1.%s.%s" % (b64(header), b64(commitment + ciphertext + tag))}, indent=2))
