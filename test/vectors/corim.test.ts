import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { toHex } from '../../src/core/bytes.js'
import { parseCorim, pcrReferenceValues, verifySignedCorim } from '../../src/corim/index.js'
import { corim, map, measured, moduleTag, NOW_MS, triple } from '../helpers/corim.js'
import {
  MEASURED_BOOT_VARIANTS,
  measuredPcrs,
  saySkipped,
  sharedVectors,
} from '../helpers/vectors.js'

describe('the PCRs of our own machines', () => {
  test.each(MEASURED_BOOT_VARIANTS)(
    'go into a manifest and come out as they are (%s)',
    (variant) => {
      const pcrs = [...measuredPcrs(variant)]
      const expected = new Map(pcrs.map(([pcr, value]) => [pcr, [toHex(value)]]))
      const keyed = triple(pcrs.map(([pcr, value]) => measured(pcr, { 2: [[1, value]] })))
      const registers = triple([
        map({ 1: map({ 14: new Map(pcrs.map(([pcr, value]) => [pcr, [[1, value]]])) }) }),
      ])
      for (const state of [keyed, registers]) {
        const manifest = parseCorim(corim([moduleTag([state])]))
        expect(pcrReferenceValues(manifest, { bank: 'sha256' })).toMatchObject({
          pcrs: expected,
          unused: [],
        })
      }
    },
  )
})

const shared = sharedVectors('attestation')
const scheme = (...path: readonly string[]) =>
  join(shared ?? '', 'veraison_services', 'scheme', ...path)
const read = (path: string) => new Uint8Array(readFileSync(path))
if (!shared) saySkipped('attestation (CoRIM)', 2)

describe.runIf(shared)('evidence of others is no manifest', () => {
  test.each([
    ['parsec-tpm', 'test', 'evidence', 'evidence.cbor'],
    ['tpm-enacttrust', 'test', 'evidence', 'basic.token'],
  ])('%s', (...path) => {
    const octets = read(scheme(...path))
    const refusal = expect.objectContaining({ code: expect.stringMatching(/^CORIM_(TYPE|CBOR)$/) })
    expect(() => parseCorim(octets)).toThrow(refusal)
    expect(() => verifySignedCorim(octets, { keys: [], nowMs: NOW_MS })).toThrow(refusal)
  })
})

/** Manifests for TPMs of veraison/services, where they are among the shared vectors. */
const manifests = scheme('parsec-tpm', 'test', 'corim')
const hasManifests = shared !== undefined && existsSync(manifests)
if (!hasManifests) saySkipped('attestation (CoRIM of veraison/services)', 10)

describe.runIf(hasManifests)('manifests of others', () => {
  const all = hasManifests ? readdirSync(manifests).filter((name) => name.endsWith('.cbor')) : []

  test('the good one has the PCRs that it was made for', () => {
    const manifest = parseCorim(read(join(manifests, 'corim-parsec-tpm-valid.cbor')))
    expect(manifest.tags.flatMap((tag) => (tag.kind === 'comid' ? tag.otherTriples : []))).toEqual([
      'attest-key-triples',
    ])
    const { pcrs, unused } = pcrReferenceValues(manifest, { bank: 'sha384' })
    expect([...pcrs.keys()]).toEqual([0, 1, 2])
    expect(unused).toEqual([])
  })

  test.each(all.filter((name) => name.includes('-bad-')))('%s has no PCR', (name) => {
    const manifest = parseCorim(read(join(manifests, name)))
    expect(pcrReferenceValues(manifest, { bank: 'sha256' }).states).toEqual([])
  })

  test.each(all)('%s is not accepted as signed', (name) => {
    const verdict = verifySignedCorim(read(join(manifests, name)), { keys: [], nowMs: NOW_MS })
    expect(verdict.findings).toMatchObject([{ code: 'CORIM_UNSIGNED' }])
    expect(verdict.manifest).toBeUndefined()
  })
})
