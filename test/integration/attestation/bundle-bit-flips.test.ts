import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { captureBaseImage } from '../../../src/api/base-images.js'
import { addAnchors } from '../../../src/api/endorsement.js'
import { type EvidenceBundle, getEvidenceBundle, getHost } from '../../../src/api/hosts.js'
import { DEFAULT_POLICY, verifyBundle } from '../../../src/appraisal/index.js'
import { fromBase64url, fromHex, toBase64url, toHex } from '../../../src/core/bytes.js'
import { isPlatformError } from '../../../src/core/errors.js'
import { failures } from '../../../src/core/finding.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import { bootHost, CLUSTER, ticketFor } from '../../helpers/host.js'
import { openTestSite, setPolicy, type TestSite } from '../../helpers/site.js'
import { measuredBoot } from '../../helpers/vectors.js'

/** A short log of a real boot, so that each of its bits can be tried. */
const BOOT = measuredBoot('01-uki-sb-off', 'binary_bios_measurements')
const TIMEOUT_MS = 300_000

let site: TestSite
let lab: Lab
let bundle: EvidenceBundle

beforeAll(async () => {
  lab = await createLab()
  site = await openTestSite()
  await site.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
  await setPolicy(site, CLUSTER, { ...DEFAULT_POLICY, requireSecureBoot: false })
  await using host = await bootHost(lab, 'host', { eventLog: BOOT })
  await host.enrol(site.anybody, await ticketFor(site))
  await host.attest(site.anybody).catch(() => undefined)
  await site.admin.call(captureBaseImage, { body: { name: 'good', hostId: 'host' } })
  await host.attest(site.anybody)
  const { lastVerdict } = await site.admin.call(getHost, { params: { hostId: 'host' } })
  const params = { hostId: 'host', bundleId: lastVerdict?.bundleId ?? '' }
  bundle = await site.admin.call(getEvidenceBundle, { params })
}, TIMEOUT_MS)
afterAll(async () => {
  await site[Symbol.asyncDispose]()
  await lab[Symbol.asyncDispose]()
})

type Change = (octets: Uint8Array) => Uint8Array

const inBase64url = (text: string, change: Change) => toBase64url(change(fromBase64url(text)))
const inHex = (text: string, change: Change) => toHex(change(fromHex(text)))

/** Every field of octets that a host sends, with a bundle in which it is changed. */
const FIELDS: Readonly<Record<string, (change: Change) => EvidenceBundle>> = {
  nonce: (change) => evidence({ nonce: inBase64url(bundle.evidence.nonce, change) }),
  'quote attest': (change) => evidence({ attest: inBase64url(bundle.evidence.attest, change) }),
  'quote signature': (change) =>
    evidence({ signature: inBase64url(bundle.evidence.signature, change) }),
  'PCR values': (change) => {
    const { pcrs } = bundle.evidence
    const all = Buffer.concat(pcrs.map(({ digest }) => fromHex(digest)))
    const changed = toHex(change(new Uint8Array(all)))
    return evidence({
      pcrs: pcrs.map(({ pcr }, index) => ({
        pcr,
        digest: changed.slice(index * 64, index * 64 + 64),
      })),
    })
  },
  'event log': (change) =>
    evidence({ eventLog: inBase64url(bundle.evidence.eventLog ?? '', change) }),
  'proof key x': (change) => key('proofKey', 'x', change),
  'proof key y': (change) => key('proofKey', 'y', change),
  'session key x': (change) => key('sessionKey', 'x', change),
  'session key y': (change) => key('sessionKey', 'y', change),
  'binding key': (change) => binding('publicArea', change),
  'binding attest': (change) => binding('attest', change),
  'binding signature': (change) => binding('signature', change),
}

/** What the service adds from its own memory, and a copy of a bundle may have changed. */
const KEPT: Readonly<Record<string, (change: Change) => EvidenceBundle>> = {
  'attestation key': (change) => ({ ...bundle, akPublic: inBase64url(bundle.akPublic, change) }),
  'base image': (change) => ({
    ...bundle,
    baseImage: {
      ...baseImage(),
      pcrs: baseImage().pcrs.map(({ pcr, digests }, index) => ({
        pcr,
        digests: digests.map((digest) => (index === 0 ? inHex(digest, change) : digest)),
      })),
    },
  }),
}

/**
 * Bits that bear no trust: a bundle with one of them changed is judged the same.
 *
 * The attestation key stands in a bundle as the service knows it from enrolment. Quotes prove its point and its scheme,
 * and its attributes are judged again, but these four say only how the host may use it: they change its name, which a
 * quote does not carry.
 */
const WITHOUT_TRUST: Readonly<Record<string, readonly number[]>> = {
  // TPMA_OBJECT in octets 4 to 7: noDA, adminWithPolicy, userWithAuth, stClear
  'attestation key': [53, 56, 57, 61],
}

/** They reach the verdict through one hash: one bit of each octet shows as much as all do. `SLOW=1` tries all. */
const HASHED: ReadonlySet<string> = new Set(['PCR values', 'event log'])
const SLOW = process.env['SLOW'] === '1'

function baseImage(): NonNullable<EvidenceBundle['baseImage']> {
  if (!bundle.baseImage) throw new Error('no base image')
  return bundle.baseImage
}

const evidence = (change: Partial<EvidenceBundle['evidence']>): EvidenceBundle => ({
  ...bundle,
  evidence: { ...bundle.evidence, ...change },
})
const key = (name: 'proofKey' | 'sessionKey', part: 'x' | 'y', change: Change) =>
  evidence({
    [name]: { ...bundle.evidence[name], [part]: inBase64url(bundle.evidence[name][part], change) },
  })
function binding(part: 'publicArea' | 'attest' | 'signature', change: Change): EvidenceBundle {
  const { bindingKey } = bundle.evidence
  if (!bindingKey) throw new Error('no binding key')
  return evidence({ bindingKey: { ...bindingKey, [part]: inBase64url(bindingKey[part], change) } })
}

async function isAccepted(changed: EvidenceBundle): Promise<boolean> {
  try {
    return failures(await verifyBundle(changed)).length === 0
  } catch (error) {
    if (isPlatformError(error)) return false
    throw error
  }
}

/** Bits of a field whose change is accepted, of how many that were tried. */
async function acceptedBits(name: string, field: (change: Change) => EvidenceBundle) {
  let length = 0
  field((octets) => {
    length = octets.length
    return octets
  })
  const accepted: number[] = []
  const step = HASHED.has(name) && !SLOW ? 9 : 1
  let bits = 0
  for (let bit = 0; bit < length * 8; bit += step) {
    bits += 1
    const flip: Change = (octets) =>
      octets.with(bit >> 3, (octets[bit >> 3] ?? 0) ^ (0x80 >> (bit & 7)))
    if (await isAccepted(field(flip))) accepted.push(bit)
  }
  return { accepted, bits }
}

test('a bundle is accepted as the host and the service made it', async () => {
  expect(await isAccepted(bundle)).toBe(true)
  expect(bundle.verdict.accepted).toBe(true)
})

describe('any single bit changed is refused in', () => {
  test.each(Object.entries(FIELDS))(
    'the %s',
    async (name, field) => {
      const { accepted, bits } = await acceptedBits(name, field)
      process.stderr.write(`${name}: ${bits} bits, ${accepted.length} of them without trust\n`)
      expect(accepted).toEqual([])
    },
    TIMEOUT_MS,
  )
})

describe('bits that bear no trust are those that are listed, in', () => {
  test.each(Object.entries(KEPT))(
    'the %s',
    async (name, field) => {
      const { accepted, bits } = await acceptedBits(name, field)
      process.stderr.write(`${name}: ${bits} bits, ${accepted.length} of them without trust\n`)
      expect(accepted).toEqual(WITHOUT_TRUST[name] ?? [])
    },
    TIMEOUT_MS,
  )
})
