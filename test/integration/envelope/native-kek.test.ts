import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { toHex } from '../../../src/core/bytes.js'
import { deriveNativeKek } from '../../../src/envelope/index.js'

const PROVIDER = '11111111-2222-4333-8444-555555555555'
const KDK = Uint8Array.from({ length: 32 }, (_, index) => index)

/** As docs/host-keys.md says it, by openssl and text alone. */
function byOpenssl(version: string, keyId: string): string {
  const parts = ['sigillo native key v1', PROVIDER, version, keyId].map((part) => {
    const length = part.length.toString(16).padStart(8, '0')
    return length + Buffer.from(part).toString('hex')
  })
  const kdf = ['kdf', '-keylen', '32', '-binary', '-kdfopt', 'digest:SHA256']
  const inputs = ['-kdfopt', `hexkey:${toHex(KDK)}`, '-kdfopt', `hexinfo:${parts.join('')}`]
  return execFileSync('openssl', [...kdf, ...inputs, 'HKDF']).toString('hex')
}

const derive = (version: number, keyId: string) =>
  toHex(deriveNativeKek({ providerId: PROVIDER, version, octets: KDK }, keyId).octets)

test('the key of a VM is derived from the key of a native provider as documented', () => {
  const vm = '99999999-2222-4333-8444-555555555555'
  expect(derive(1, vm)).toBe(byOpenssl('1', vm))
  expect(derive(12, 'host')).toBe(byOpenssl('12', 'host'))
})

test('each VM and each version has another key', () => {
  const keys = [derive(1, 'a'), derive(1, 'b'), derive(2, 'a'), derive(2, 'b')]
  expect(new Set(keys).size).toBe(4)
})
