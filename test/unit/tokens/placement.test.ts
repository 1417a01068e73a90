import { beforeAll, describe, expect, test } from 'vitest'
import {
  createPlacement,
  generateSessionKeys,
  jwkThumbprint,
  type Placement,
  type SessionKeys,
  verifyPlacement,
} from '../../../src/tokens/index.js'
import { ISSUER, NOW } from './forge.js'

const placement: Placement = {
  verifier: ISSUER,
  vmId: '5f0c8f0a-1b2c-4d3e-8f90-123456789abc',
  nonce: Uint8Array.of(1, 2, 3),
  ekPublic: Uint8Array.of(4),
  akPublic: Uint8Array.of(5),
  hostToken: 'eyJ.a.b',
}

let keys: SessionKeys
let statement: string

beforeAll(async () => {
  keys = await generateSessionKeys()
  statement = await createPlacement(placement, keys.dpop, NOW)
})

const verify = (
  text: string,
  changes: Partial<Placement & { jkt: string; nowSeconds: number }> = {},
) =>
  verifyPlacement(text, {
    ...placement,
    jkt: jwkThumbprint(keys.dpop.publicJwk),
    nowSeconds: NOW + 10,
    maxAgeSeconds: 60,
    ...changes,
  })

describe('the statement of a host about a VM', () => {
  test('is verified by the key that its token is bound to', async () => {
    await verify(statement)
  })

  test('is for one VM, one nonce, its keys, one token and one service', async () => {
    const others: readonly Partial<Placement>[] = [
      { vmId: '00000000-0000-4000-8000-000000000000' },
      { nonce: Uint8Array.of(1, 2, 4) },
      { ekPublic: Uint8Array.of(9) },
      { akPublic: Uint8Array.of(9) },
      { hostToken: 'eyJ.a.c' },
      { verifier: 'https://other.example' },
    ]
    for (const other of others) {
      await expect(verify(statement, other)).rejects.toMatchObject({ code: 'PLACEMENT_CLAIMS' })
    }
  })

  test('is refused when it was not made just now', async () => {
    for (const nowSeconds of [NOW + 61, NOW - 61]) {
      await expect(verify(statement, { nowSeconds })).rejects.toMatchObject({
        code: 'PLACEMENT_TIME',
      })
    }
  })

  test('is refused by another key, with another signature, or as another thing', async () => {
    const other = await generateSessionKeys()
    const byOther = await createPlacement(placement, other.dpop, NOW)
    await expect(verify(byOther)).rejects.toMatchObject({ code: 'PLACEMENT_KEY' })
    const [header, , signature] = byOther.split('.')
    const [, payload] = statement.split('.')
    const mixed = [statement.split('.')[0], payload, signature].join('.')
    await expect(verify(mixed)).rejects.toMatchObject({ code: 'PLACEMENT_SIGNATURE' })
    for (const text of ['', 'a.b', 'a.b.c', `${header}.${payload}`, 'x'.repeat(5000)]) {
      await expect(verify(text)).rejects.toMatchObject({ code: 'PLACEMENT_MALFORMED' })
    }
  })
})
