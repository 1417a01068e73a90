import { createCipheriv, createHash, createHmac, hkdfSync } from 'node:crypto'
import { equalBytes, fromHex, utf8 } from '../core/bytes.js'
import { PlatformError } from '../core/errors.js'

/** A computation whose result is known from a standard. */
interface KnownAnswer {
  readonly name: string
  readonly compute: () => Uint8Array
  readonly expected: string
}

const KNOWN_ANSWERS: readonly KnownAnswer[] = [
  {
    name: 'SHA-256 (FIPS 180-4, example "abc")',
    compute: () => createHash('sha256').update('abc').digest(),
    expected: 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
  },
  {
    name: 'HMAC-SHA-256 (RFC 4231, test case 1)',
    compute: () =>
      createHmac('sha256', new Uint8Array(20).fill(0x0b)).update(utf8('Hi There')).digest(),
    expected: 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7',
  },
  {
    name: 'HKDF-SHA-256 (RFC 5869, test case 1)',
    compute: () =>
      new Uint8Array(
        hkdfSync(
          'sha256',
          new Uint8Array(22).fill(0x0b),
          fromHex('000102030405060708090a0b0c'),
          fromHex('f0f1f2f3f4f5f6f7f8f9'),
          42,
        ),
      ),
    expected:
      '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
  },
  {
    name: 'AES-256-GCM (GCM specification, test case 14)',
    compute: () => {
      const cipher = createCipheriv('aes-256-gcm', new Uint8Array(32), new Uint8Array(12))
      const ciphertext = cipher.update(new Uint8Array(16))
      cipher.final()
      return Buffer.concat([ciphertext, cipher.getAuthTag()])
    },
    expected: 'cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919',
  },
]

/** Compares each algorithm that keys depend on with a known answer; throws `KEY_SELF_TEST` at the first that differs. */
export function selfTest(): void {
  for (const { name, compute, expected } of KNOWN_ANSWERS) {
    if (!equalBytes(compute(), fromHex(expected))) {
      throw new PlatformError(
        'KEY_SELF_TEST',
        `expected the known answer of ${name}, found another`,
      )
    }
  }
}
