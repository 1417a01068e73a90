import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createAttestation, type Evidence } from '../../../src/api/attestation.js'
import { addAnchors } from '../../../src/api/endorsement.js'
import { getEvidenceBundle, getHost } from '../../../src/api/hosts.js'
import { type Policy, setPolicyDraft, testPolicyDraft } from '../../../src/api/policies.js'
import { DEFAULT_POLICY, verifyBundle } from '../../../src/appraisal/index.js'
import { toHex } from '../../../src/core/bytes.js'
import { failures } from '../../../src/core/finding.js'
import { createLab, type Lab } from '../../../swtpm/index.js'
import { bootHost, CLUSTER, GOOD_BOOT, type TestHost, trustHost } from '../../helpers/host.js'
import { fileDigest, imaListOf, type MeasuredFile, templateDataOf } from '../../helpers/ima-list.js'
import { lying, openTestSite, setPolicy, type TestSite } from '../../helpers/site.js'

let site: TestSite
let lab: Lab
let host: TestHost
let measured: MeasuredFile[] = []

const refused = { code: 'ATTESTATION_REFUSED' }
const KNOWN: readonly MeasuredFile[] = ['/usr/bin/a', '/usr/bin/b', '/usr/bin/c'].map((path) => ({
  path,
}))
const RULES: NonNullable<Policy['ima']> = {
  allow: KNOWN.map((file) => ({ path: '/usr/bin/*', digests: [toHex(fileDigest(file))] })),
  exclude: ['/tmp/*'],
  allowViolations: false,
  signers: [],
}
const POLICY: Policy = {
  ...DEFAULT_POLICY,
  pcrs: [...DEFAULT_POLICY.pcrs, 10].sort((a, b) => a - b),
  ima: RULES,
}

beforeAll(async () => {
  lab = await createLab()
  site = await openTestSite()
  await site.admin.call(addAnchors, { body: { pem: lab.anchorsPem, insecureTest: true } })
  host = await bootHost(lab, 'host')
  await trustHost(site, host, 'good')
  await setPolicy(site, CLUSTER, POLICY)
})
afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await site[Symbol.asyncDispose]()
  await lab[Symbol.asyncDispose]()
})

const listFile = () => join(host.stateDirectory, 'binary_runtime_measurements')

/** The kernel measures a file: PCR 10 is extended, the list grows. */
async function measure(...files: readonly MeasuredFile[]): Promise<void> {
  for (const file of files) await host.tpm.extend(10, templateDataOf(file))
  measured.push(...files)
  await writeFile(listFile(), imaListOf(measured))
}

async function reboot(): Promise<void> {
  await host.tpm.boot(GOOD_BOOT)
  await host.reopen()
  measured = []
  await writeFile(listFile(), new Uint8Array())
}

const codes = async () => {
  const { lastVerdict } = await site.admin.call(getHost, { params: { hostId: 'host' } })
  return lastVerdict?.findings.flatMap(({ ok, code }) => (ok ? [] : [code]))
}
/** Attests, and says how much of the list was sent. */
async function attestAndSee(): Promise<
  { readonly from: number; readonly entries: number } | undefined
> {
  let seen: Evidence['ima']
  const client = lying(site.anybody, createAttestation, (evidence: Evidence) => {
    seen = evidence.ima
    return evidence
  })
  await host.attest(client)
  const octets = Buffer.from(seen?.list ?? '', 'base64url').length
  return (
    seen && { from: seen.from, entries: Math.round(octets / imaListOf(KNOWN.slice(0, 1)).length) }
  )
}

describe('a host that measures what it runs', () => {
  test('is accepted by its allowed files, and sends only what is new', async () => {
    await measure(...KNOWN.slice(0, 2))
    expect(await attestAndSee()).toEqual({ from: 0, entries: 2 })
    await measure(...KNOWN.slice(2))
    expect(await attestAndSee()).toEqual({ from: 2, entries: 1 })
    expect(await attestAndSee()).toEqual({ from: 3, entries: 0 })
  })

  test('may go on measuring while it attests', async () => {
    await writeFile(listFile(), imaListOf([...measured, { path: '/usr/bin/late' }]))
    await host.attest(site.anybody)
    expect(await codes()).toEqual([])
    await writeFile(listFile(), imaListOf(measured))
  })

  test('is refused for a file that is not allowed, and stays so until it boots again', async () => {
    await measure({ path: '/usr/bin/a', content: 'changed' })
    await expect(host.attest(site.anybody)).rejects.toMatchObject(refused)
    expect(await codes()).toEqual(['IMA_NOT_ALLOWED'])
    await expect(host.attest(site.anybody)).rejects.toMatchObject(refused)
    await reboot()
    await measure(...KNOWN.slice(0, 1), { path: '/tmp/anything' })
    expect(await attestAndSee()).toEqual({ from: 0, entries: 2 })
  })

  test('brings its whole list again at once when the policy changed', async () => {
    await setPolicy(site, CLUSTER, { ...POLICY, tokenTtlSeconds: 200 })
    expect(await attestAndSee()).toEqual({ from: 0, entries: 2 })
  })

  test.each([
    ['no list', () => undefined, 'IMA_MISSING'],
    [
      'a list with an entry left out',
      () => ({ from: 0, list: Buffer.from(imaListOf(measured.slice(1))).toString('base64url') }),
      'IMA_REPLAY',
    ],
    ['a list that is none', () => ({ from: 0, list: 'AAAA' }), 'DECODE_TRUNCATED'],
  ])('is refused with %s', async (_, change, code) => {
    const client = lying(site.anybody, createAttestation, ({ ima: __, ...evidence }: Evidence) => {
      const ima = change()
      return ima ? { ...evidence, ima } : evidence
    })
    await expect(host.attest(client)).rejects.toMatchObject(refused)
    expect(await codes()).toEqual([code])
  })

  test('cannot leave out what was never accepted', async () => {
    await host.attest(site.anybody)
    const client = lying(site.anybody, createAttestation, (evidence: Evidence) => ({
      ...evidence,
      ima: { from: 1, list: '' },
    }))
    await expect(host.attest(client)).rejects.toMatchObject({ code: 'IMA_FROM' })
  })
})

describe('rules for IMA', () => {
  test('need PCR 10 in the quote, and never as a fixed value', async () => {
    const params = { cluster: CLUSTER }
    const draft = (change: Partial<Policy>) =>
      site.admin.call(setPolicyDraft, { params, body: { ...POLICY, ...change } })
    for (const change of [
      { pcrs: DEFAULT_POLICY.pcrs },
      { pinnedPcrs: [10] },
      { bindingPcrs: [10] },
      { ima: { ...RULES, signers: ['no key'] } },
    ]) {
      await expect(draft(change)).rejects.toMatchObject({ code: 'POLICY_INVALID' })
    }
  })

  test('are tried on the last evidence before they count', async () => {
    await host.attest(site.anybody)
    await reboot()
    await measure(...KNOWN)
    await host.attest(site.anybody)
    const params = { cluster: CLUSTER }
    const outcome = async (ima: Policy['ima']) => {
      await site.admin.call(setPolicyDraft, {
        params,
        body: { ...POLICY, ...(ima ? { ima } : {}) },
      })
      const { hosts } = await site.admin.call(testPolicyDraft, { params })
      return hosts.map((result) => [result.outcome, ...result.findings.map(({ code }) => code)])
    }
    expect(await outcome(RULES)).toEqual([['accepted']])
    const stricter = { ...RULES, allow: RULES.allow.slice(0, 1) }
    expect(await outcome(stricter)).toEqual([['refused', 'IMA_NOT_ALLOWED', 'IMA_NOT_ALLOWED']])
  })

  test('are in the bundle with the list, and lead to the same verdict anywhere', async () => {
    const { lastVerdict } = await site.admin.call(getHost, { params: { hostId: 'host' } })
    const params = { hostId: 'host', bundleId: lastVerdict?.bundleId ?? '' }
    const bundle = await site.admin.call(getEvidenceBundle, { params })
    const findings = await verifyBundle(bundle)
    expect(failures(findings)).toEqual([])
    expect(findings.map(({ check }) => check)).toContain('ima.replay')
    const { ima: _, ...evidence } = bundle.evidence
    const forged = { ...bundle, evidence: { ...evidence, ima: { from: 0, list: '' } } }
    expect(failures(await verifyBundle(forged)).map(({ code }) => code)).toContain('IMA_REPLAY')
  })
})
