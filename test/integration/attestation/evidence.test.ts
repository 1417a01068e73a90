import { cp, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  createAttestation,
  createNonce,
  type Evidence,
  getDiscovery,
  getJwks,
  verifyAttestationAudit,
} from '../../../src/api/attestation.js'
import { captureBaseImage, listBaseImages, removeBaseImage } from '../../../src/api/base-images.js'
import { addAnchors } from '../../../src/api/endorsement.js'
import { getHost, getHostHistory, revokeHost } from '../../../src/api/hosts.js'
import { getPolicy } from '../../../src/api/policies.js'
import { fromBase64url, toBase64url } from '../../../src/core/bytes.js'
import {
  generateSessionKeys,
  importJwks,
  verifyAttestationResult,
} from '../../../src/tokens/index.js'
import { createLab, type Lab, withOtherBootLoader } from '../../../swtpm/index.js'
import {
  bootHost,
  CLUSTER,
  GOOD_BOOT,
  type TestHost,
  ticketFor,
  trustHost,
} from '../../helpers/host.js'
import { lying, openTestSite, setPolicy, type TestSite } from '../../helpers/site.js'

let site: TestSite
let lab: Lab
let host: TestHost
let other: TestHost

beforeAll(async () => {
  lab = await createLab()
  site = await openTestSite()
  await site.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
  host = await bootHost(lab, 'host')
  other = await bootHost(lab, 'other', { attestationKey: 'rsa-2048' })
  await trustHost(site, host, 'good')
  await other.enrol(site.anybody, await ticketFor(site))
})
afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await other[Symbol.asyncDispose]()
  await site[Symbol.asyncDispose]()
  await lab[Symbol.asyncDispose]()
})

const viewOf = (hostId: string) => site.admin.call(getHost, { params: { hostId } })
const reasonsOf = async (hostId: string) =>
  JSON.stringify((await site.auditOf(hostId)).at(-1)?.detail)
const refused = { code: 'ATTESTATION_REFUSED', message: 'the evidence was not accepted' }

function flipped(text: string, octet: number): string {
  const octets = Uint8Array.from(fromBase64url(text))
  octets[octet] = (octets[octet] ?? 0) ^ 1
  return toBase64url(octets)
}

describe('a host that booted the base image', () => {
  test.each(['ecc-p256', 'rsa-2048'] as const)(
    'gets a token that says so (attestation key %s)',
    async (kind) => {
      const as = kind === 'ecc-p256' ? host : other
      const { token, keys } = await as.attest(site.anybody)
      const jwks = await importJwks(await site.anybody.call(getJwks, {}))
      const claims = await verifyAttestationResult(token, {
        ...{ jwks, issuer: `${site.url}/attestation`, audience: site.url },
        ...{ nowSeconds: Math.floor(site.clock.nowMs() / 1000), skewSeconds: 5 },
      })
      expect(claims).toMatchObject({
        sub: as.hostId,
        submods: { host: { ear_status: 'affirming' } },
        sigillo: { cluster: CLUSTER, base_image: 'good', ek: 'ca', insecure_test: true },
      })
      expect(claims.sigillo.session_jwk).toEqual(keys.session.publicJwk)
      expect(claims.sigillo.binding_key?.pcrs).toContain(7)
      const view = await viewOf(as.hostId)
      expect(view).toMatchObject({
        state: 'trusted',
        lastVerdict: { accepted: true, tokenId: claims.jti },
      })
      expect(view.lastVerdict?.boot).toMatchObject({
        secureBoot: 'on',
        kernel: expect.stringContaining('vmlinuz'),
      })
      expect(await reasonsOf(as.hostId)).toContain(claims.jti)
    },
  )

  test('finds the keys of the service by its discovery document', async () => {
    const discovery = await site.anybody.call(getDiscovery, {})
    expect(discovery.issuer).toBe(`${site.url}/attestation`)
    expect(discovery.jwks_uri).toBe(site.anybody.urlOf(getJwks))
  })
})

describe('evidence that the enrolled TPM did not make for this nonce changes nothing:', () => {
  const cases: readonly [string, string, (evidence: Evidence) => unknown | Promise<unknown>][] = [
    ['an octet of the quote', 'QUOTE_', (e) => ({ ...e, attest: flipped(e.attest, 40) })],
    ['the magic', 'QUOTE_MAGIC', (e) => ({ ...e, attest: flipped(e.attest, 0) })],
    [
      'the type',
      'QUOTE_TYPE',
      (e) => ({
        ...e,
        attest: e.bindingKey?.attest ?? '',
        signature: e.bindingKey?.signature ?? '',
      }),
    ],
    [
      'an octet of the signature',
      'QUOTE_SIGNATURE',
      (e) => ({ ...e, signature: flipped(e.signature, 20) }),
    ],
    [
      'a nonce nobody gave',
      'NONCE_UNKNOWN',
      (e) => ({ ...e, nonce: toBase64url(new Uint8Array(40)) }),
    ],
    [
      'a PCR value',
      'QUOTE_PCR_DIGEST',
      (e) => ({ ...e, pcrs: e.pcrs.map(({ pcr }) => ({ pcr, digest: '00'.repeat(32) })) }),
    ],
    ['a PCR left out', 'QUOTE_PCR_VALUES', (e) => ({ ...e, pcrs: e.pcrs.slice(1) })],
    [
      'another event log',
      'QUOTE_NONCE',
      (e) => ({ ...e, eventLog: flipped(e.eventLog ?? '', 900) }),
    ],
    [
      'a quote that is cut short',
      'DECODE_TRUNCATED',
      (e) => ({ ...e, attest: toBase64url(fromBase64url(e.attest).subarray(0, 60)) }),
    ],
    [
      'a binding key that is none',
      'DECODE_VALUE',
      (e) => ({ ...e, bindingKey: { ...e.bindingKey, publicArea: toBase64url(Buffer.alloc(40)) } }),
    ],
    ['no event log', 'QUOTE_NONCE', ({ eventLog: _, ...e }) => e],
    ['no binding key', 'QUOTE_NONCE', ({ bindingKey: _, ...e }) => e],
    ['the name of another host', 'NONCE_UNKNOWN', (e) => ({ ...e, hostId: 'other' })],
    ['a host nobody enrolled', 'HOST_UNKNOWN', (e) => ({ ...e, hostId: 'nobody' })],
    [
      'the proof key of a thief',
      'QUOTE_NONCE',
      async (e) => ({ ...e, proofKey: (await generateSessionKeys()).dpop.publicJwk }),
    ],
    [
      'the session key of a thief',
      'QUOTE_NONCE',
      async (e) => ({ ...e, sessionKey: (await generateSessionKeys()).session.publicJwk }),
    ],
  ]

  test.each(cases)('%s (%s)', async (_, reason, change) => {
    const before = await viewOf('host')
    let sent: Evidence | undefined
    const keeping = lying(site.anybody, createAttestation, (evidence: Evidence) => {
      sent = evidence
      return evidence
    })
    await host.attest(keeping)
    // the nonce of that evidence is used; the change must be what is refused, so a fresh one is taken
    const { nonce } = await site.anybody.call(createNonce, { body: { hostId: 'host' } })
    expect(nonce).not.toBe(sent?.nonce)
    const changed = await changedEvidence(change)
    await expect(
      site.anybody.call(createAttestation, { body: changed as Evidence }),
    ).rejects.toMatchObject(refused)
    const { hostId } = changed as Evidence
    expect(await reasonsOf(hostId)).toContain(reason)
    expect((await site.auditOf(hostId)).at(-1)).toMatchObject({ outcome: 'refused' })
    const after = await viewOf('host')
    expect({ ...after, lastVerdict: null }).toEqual({ ...before, lastVerdict: null })
    expect(after.lastVerdict?.accepted).toBe(true)
  })

  /** Fresh evidence of `host`, changed, and never sent as it was. */
  async function changedEvidence(change: (evidence: Evidence) => unknown): Promise<unknown> {
    let made: Evidence | undefined
    const holding = lying(site.anybody, createAttestation, (evidence: Evidence) => {
      made = evidence
      return { ...evidence, hostId: 'a-host-that-is-not-there' }
    })
    await host.attest(holding).catch(() => undefined)
    if (!made) throw new Error('no evidence was made')
    return change(made)
  }
})

describe('a nonce', () => {
  test('is used once, also by two at the same moment', async () => {
    let sent: Evidence | undefined
    const twice = lying(site.anybody, createAttestation, (evidence: Evidence) => {
      sent = evidence
      return evidence
    })
    await host.attest(twice)
    const again = () => site.anybody.call(createAttestation, { body: sent as Evidence })
    await expect(again()).rejects.toMatchObject(refused)
    expect(await reasonsOf('host')).toMatch(/NONCE_USED|CLOCK_WENT_BACK/)

    const racing = lying(site.anybody, createAttestation, (evidence: Evidence) => {
      sent = evidence
      return { ...evidence, hostId: 'nobody' }
    })
    await host.attest(racing).catch(() => undefined)
    const answers = await Promise.allSettled([again(), again(), again(), again()])
    expect(answers.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
  })

  test('ends', async () => {
    const late = lying(site.anybody, createAttestation, (evidence: Evidence) => {
      site.clock.advance(61_000)
      return evidence
    })
    await expect(host.attest(late)).rejects.toMatchObject(refused)
    expect(await reasonsOf('host')).toContain('NONCE_EXPIRED')
  })
})

describe('a genuine quote of something else is refused, and seen:', () => {
  test('another boot loader, named', async () => {
    const eventLog = withOtherBootLoader(GOOD_BOOT, 'grubx64.efi', Buffer.from('evil'))
    await using evil = await bootHost(lab, 'evil', { eventLog })
    await evil.enrol(site.anybody, await ticketFor(site))
    await expect(evil.attest(site.anybody)).rejects.toMatchObject(refused)
    const { state, lastVerdict } = await viewOf('evil')
    expect(state).toBe('refused')
    expect(lastVerdict?.differences.join()).toContain('grubx64.efi')
    expect(
      lastVerdict?.findings.filter(({ ok }) => !ok).map(({ code, pcr }) => `${code} ${pcr}`),
    ).toEqual(['BASE_IMAGE_PCR 4'])
  })

  test('a PCR that was extended after boot: the log does not replay; a good boot heals it', async () => {
    await using tampered = await bootHost(lab, 'tampered')
    await tampered.enrol(site.anybody, await ticketFor(site))
    await tampered.attest(site.anybody)
    await tampered.tpm.extend(8, Buffer.from('rootkit'))
    await expect(tampered.attest(site.anybody)).rejects.toMatchObject(refused)
    const seen = await viewOf('tampered')
    expect(seen.state).toBe('refused')
    const codes = seen.lastVerdict?.findings.flatMap(({ ok, code }) => (ok ? [] : [code]))
    expect(codes).toEqual(['EVENTLOG_REPLAY', 'BASE_IMAGE_PCR'])
    await expect(
      site.admin.call(captureBaseImage, { body: { name: 'rootkit', hostId: 'tampered' } }),
    ).rejects.toMatchObject({ code: 'EVIDENCE_NOT_VERIFIED' })

    await tampered.tpm.boot(GOOD_BOOT)
    await tampered.reopen()
    await tampered.attest(site.anybody)
    expect((await viewOf('tampered')).state).toBe('trusted')
    const { verdicts } = await site.admin.call(getHostHistory, {
      params: { hostId: 'tampered' },
      query: {},
    })
    expect(verdicts.map(({ accepted }) => accepted)).toEqual([true, false, true])
  })

  test('a log with nothing in it, a log of another boot, a log cut short', async () => {
    await using liar = await bootHost(lab, 'liar')
    await liar.enrol(site.anybody, await ticketFor(site))
    for (const [log, reason] of [
      [new Uint8Array(), 'DECODE_TRUNCATED'],
      [GOOD_BOOT.subarray(0, GOOD_BOOT.length - 1), 'DECODE_TRUNCATED'],
      [withOtherBootLoader(GOOD_BOOT, 'grubx64.efi', Buffer.from('x')), 'EVENTLOG_REPLAY'],
    ] as const) {
      await writeFile(liar.eventLogFile, log)
      await expect(liar.attest(site.anybody)).rejects.toMatchObject(refused)
      expect(await reasonsOf('liar')).toContain(reason)
    }
    await rm(liar.eventLogFile)
    await expect(liar.attest(site.anybody)).rejects.toMatchObject(refused)
    expect(await reasonsOf('liar')).toContain('EVENT_LOG_MISSING')
  })

  test('a TPM whose state was put back', async () => {
    await using back = await bootHost(lab, 'back')
    await back.enrol(site.anybody, await ticketFor(site))
    await back.tpm.stop()
    const state = join(dirname(back.tpm.socket), 'state')
    await cp(state, `${state}.copy`, { recursive: true })
    await back.tpm.boot(GOOD_BOOT)
    await back.tpm.boot(GOOD_BOOT)
    await back.reopen()
    await back.attest(site.anybody)
    await back.tpm.stop()
    await rm(state, { recursive: true })
    await cp(`${state}.copy`, state, { recursive: true })
    await back.tpm.boot(GOOD_BOOT)
    await back.reopen()
    await expect(back.attest(site.anybody)).rejects.toMatchObject(refused)
    expect(await reasonsOf('back')).toContain('CLOCK_WENT_BACK')
  })
})

describe('what administrators change is true for the next quote:', () => {
  test('a revoked host is refused', async () => {
    await using gone = await bootHost(lab, 'gone')
    await gone.enrol(site.anybody, await ticketFor(site))
    await gone.attest(site.anybody)
    await site.admin.call(revokeHost, { params: { hostId: 'gone' }, body: { reason: 'stolen' } })
    await expect(gone.attest(site.anybody)).rejects.toMatchObject(refused)
    expect(await reasonsOf('gone')).toContain('HOST_REVOKED')
  })

  test('a policy with other PCRs, and back', async () => {
    const params = { cluster: CLUSTER }
    const before = await site.admin.call(getPolicy, { params })
    const set = (change: object) => setPolicy(site, CLUSTER, { ...before.policy, ...change })
    await expect(set({ pinnedPcrs: [15] })).rejects.toMatchObject({ code: 'POLICY_INVALID' })
    const after = await set({ pcrs: [0, 4, 7], pinnedPcrs: [4, 7], bindingPcrs: [7] })
    expect(after).toMatchObject({ revision: before.revision + 1, epoch: before.epoch + 1 })
    await host.attest(site.anybody)
    expect((await viewOf('host')).lastVerdict).toMatchObject({ pcrs: [0, 4, 7], accepted: true })
    await set({ bank: 'sha384' })
    await expect(host.attest(site.anybody)).rejects.toMatchObject({ code: 'TPM_BANK' })
    await set({})
    await host.attest(site.anybody)
  })

  test('a base image that was removed is one no longer', async () => {
    const image = { cluster: CLUSTER, name: 'second' }
    await site.admin.call(captureBaseImage, { body: { name: 'second', hostId: 'host' } })
    await expect(
      site.admin.call(captureBaseImage, { body: { name: 'second', hostId: 'host' } }),
    ).rejects.toMatchObject({ code: 'CONFLICT' })
    await site.admin.call(removeBaseImage, { params: image })
    await host.attest(site.anybody)
    await site.admin.call(removeBaseImage, { params: { ...image, name: 'good' } })
    expect((await site.admin.call(listBaseImages, { query: {} })).baseImages).toEqual([])
    await expect(host.attest(site.anybody)).rejects.toMatchObject(refused)
    expect(await reasonsOf('host')).toContain('BASE_IMAGE_NONE')
  })

  test('and all of it is in a chain of audit records that is whole', async () => {
    const verdict = await site.admin.call(verifyAttestationAudit, {})
    expect(verdict).toMatchObject({ intact: true })
    expect(verdict.records).toBeGreaterThan(50)
  })

  test('and still known after a restart', async () => {
    await site.admin.call(captureBaseImage, { body: { name: 'third', hostId: 'host' } })
    await site.stop()
    await site.start()
    await host.attest(site.anybody)
    expect((await viewOf('gone')).state).toBe('revoked')
  })
})
