import { X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { concat, fromHex, toHex } from '../../../src/core/bytes.js'
import { failures } from '../../../src/core/finding.js'
import {
  type Credential,
  EK_TEMPLATES,
  type HashName,
  makeCredential,
  nameOf,
  type PublicArea,
  parseAttest,
  parseTpm2bPublic,
  pcrDigest,
  policyPcrDigest,
  publicKeyOf,
  verifyAttestationKey,
  verifyBindingKey,
  verifyCertify,
  verifyEndorsementKey,
  verifyQuote,
} from '../../../src/tpm/index.js'
import { createLab, type Lab, type LabTpm } from '../../../swtpm/index.js'
import { tpm2 } from '../native/tpm2-tools.js'

const NONCE = fromHex('5e'.repeat(32))
const PCRS = [0, 4, 7, 16]
const AK_ATTRIBUTES = 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign'

let lab: Lab
let tpm: LabTpm
let folder: string
beforeAll(async () => {
  lab = await createLab()
  tpm = await lab.manufacture('t', { pcrBanks: ['sha1', 'sha256', 'sha384'] })
  await tpm.start()
  folder = await mkdtemp(join(tmpdir(), 'sgl-'))
  await run('pcrextend', [`4:sha256=${'a7'.repeat(32)},sha384=${'a7'.repeat(48)}`])
})
afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
  await lab[Symbol.asyncDispose]()
})

const path = (name: string) => join(folder, name)
const read = async (name: string) => new Uint8Array(await readFile(path(name)))

/** Runs a tool, and flushes what it leaves in the three slots of the TPM. */
async function run(program: string, args: readonly string[]): Promise<string> {
  const output = await tpm2(program, args, tpm.tcti)
  await tpm2('flushcontext', ['-t'], tpm.tcti)
  return output
}

function codes(findings: Parameters<typeof failures>[0]): readonly string[] {
  return failures(findings).map(({ code }) => code)
}

/** Makes a restricted signing key with the tool: its context, its public area, its name as the TPM tells it. */
async function makeAttestationKey(algorithm: string): Promise<PublicArea> {
  await run('createprimary', [
    ...['-C', 'e', '-G', algorithm, '-g', 'sha256', '-a', AK_ATTRIBUTES, '-c', path('ak.ctx')],
  ])
  await run('readpublic', ['-c', path('ak.ctx'), '-o', path('ak.pub'), '-n', path('ak.name')])
  return parseTpm2bPublic(await read('ak.pub'))
}

async function readPcrs(bank: HashName): Promise<ReadonlyMap<number, Uint8Array>> {
  await run('pcrread', [`${bank}:${PCRS.join(',')}`, '-o', path('pcrs')])
  const octets = await read('pcrs')
  const size = octets.length / PCRS.length
  return new Map(PCRS.map((pcr, index) => [pcr, octets.subarray(index * size, (index + 1) * size)]))
}

const KINDS = [
  { key: 'ecc256', scheme: 'ecdsa', hash: 'sha256' },
  { key: 'ecc384', scheme: 'ecdsa', hash: 'sha384' },
  { key: 'rsa2048', scheme: 'rsassa', hash: 'sha256' },
  { key: 'rsa2048', scheme: 'rsapss', hash: 'sha256' },
  { key: 'rsa2048', scheme: 'rsapss', hash: 'sha512' },
  { key: 'rsa3072', scheme: 'rsassa', hash: 'sha384' },
] as const

describe.each(KINDS)('an attestation key of tpm2-tools: $key, $scheme, $hash', (kind) => {
  let ak: PublicArea
  beforeAll(async () => {
    ak = await makeAttestationKey(`${kind.key}:${kind.scheme}-${kind.hash}:null`)
  })

  test('is read, found to be one, and has the name that the TPM tells', async () => {
    expect(codes(verifyAttestationKey(ak))).toEqual([])
    expect(toHex(nameOf(ak))).toBe(toHex(await read('ak.name')))
  })

  test.each(['sha256', 'sha384'] as const)(
    'signs a quote of bank %s that verifies',
    async (bank) => {
      await run('quote', [
        ...['-c', path('ak.ctx'), '-l', `${bank}:${PCRS.join(',')}`, '-q', toHex(NONCE)],
        ...['-g', kind.hash, '--scheme', kind.scheme, '-m', path('msg'), '-s', path('sig')],
      ])
      const input = {
        attest: await read('msg'),
        signature: await read('sig'),
        ak,
        expectedExtraData: NONCE,
        selection: { bank, pcrs: PCRS },
        pcrValues: await readPcrs(bank),
      }
      expect(codes(verifyQuote(input).findings)).toEqual([])
      const stale = input.pcrValues.get(4)
      if (!stale) throw new TypeError('a value of PCR 4')
      const pcrValues = new Map(input.pcrValues).set(4, stale.with(0, (stale[0] ?? 0) ^ 1))
      expect(codes(verifyQuote({ ...input, pcrValues }).findings)).toEqual(['QUOTE_PCR_DIGEST'])
    },
  )
})

const ENDORSEMENT_KEYS = [
  { name: 'RSA-2048', handle: '0x81010001', template: EK_TEMPLATES.rsa2048, policy: true },
  { name: 'P-256', handle: '0x81010002', template: EK_TEMPLATES.eccP256, policy: true },
  { name: 'P-384', handle: '0x81010016', template: EK_TEMPLATES.eccP384, policy: false },
] as const

describe.each(ENDORSEMENT_KEYS)('the endorsement key $name', ({ handle, template, policy }) => {
  let ek: PublicArea
  let ak: PublicArea
  beforeAll(async () => {
    // swtpm_setup makes the RSA and the P-384 key; the tool makes the P-256 key from its own template
    if (template === EK_TEMPLATES.eccP256) {
      await run('createek', ['-G', 'ecc', '-c', handle, '-u', path('ek.tool.pub')])
    }
    await run('readpublic', ['-c', handle, '-o', path('ek.pub')])
    ek = parseTpm2bPublic(await read('ek.pub'))
    ak = await makeAttestationKey('ecc256:ecdsa-sha256:null')
  })

  test('follows its template', () => {
    expect(verifyEndorsementKey(ek)).toEqual([
      expect.objectContaining({ check: 'ek.template', ok: true }),
      expect.objectContaining({ check: 'ek.strength', ok: true }),
    ])
  })

  test.skipIf(template === EK_TEMPLATES.eccP256)('is the key of its certificate', async () => {
    const index = `0x${template.certificateNvIndex.toString(16)}`
    await run('nvread', [index, '-o', path('ek.cert')])
    const certificate = new X509Certificate(await read('ek.cert'))
    expect(certificate.publicKey.equals(publicKeyOf(ek))).toBe(true)
  })

  /** What the TPM finds in a credential; rejects where it refuses to open it. */
  async function activate({ credentialBlob, encryptedSecret }: Credential): Promise<string> {
    // the file of tpm2_makecredential: a magic and a version before the two structures
    const header = fromHex('badcc0de00000001')
    await writeFile(path('credential'), concat(header, credentialBlob, encryptedSecret))
    const args = ['-c', path('ak.ctx'), '-C', handle, '-i', path('credential'), '-o', path('out')]
    if (!policy) {
      await run('activatecredential', args)
      return toHex(await read('out'))
    }
    await run('startauthsession', ['--policy-session', '-S', path('session')])
    try {
      await run('policysecret', ['-S', path('session'), '-c', 'e'])
      await run('activatecredential', [...args, '-P', `session:${path('session')}`])
    } finally {
      await tpm2('flushcontext', [path('session')], tpm.tcti)
    }
    return toHex(await read('out'))
  }

  test('opens a credential that was made without a TPM', async () => {
    for (const secret of [fromHex('c3'.repeat(32)), fromHex('01')]) {
      const credential = makeCredential({ ek, akName: nameOf(ak), secret })
      expect(await activate(credential)).toBe(toHex(secret))
    }
  })

  test('does not open a credential for another name', async () => {
    const akName = nameOf(ak).with(5, (nameOf(ak)[5] ?? 0) ^ 1)
    const credential = makeCredential({ ek, akName, secret: fromHex('c3'.repeat(32)) })
    await expect(activate(credential)).rejects.toThrow(/integrity|0x.*DF/i)
  })
})

describe('a binding key, made with tpm2-tools', () => {
  const selection = { bank: 'sha256', pcrs: [4, 7] } as const
  let ak: PublicArea
  let publicArea: PublicArea
  let expectedAuthPolicy: Uint8Array
  beforeAll(async () => {
    const values = await readPcrs('sha256')
    const digest = pcrDigest(
      'sha256',
      selection.pcrs.map((pcr) => values.get(pcr) ?? new Uint8Array()),
    )
    expectedAuthPolicy = policyPcrDigest(selection, digest)
    await run('createpolicy', ['--policy-pcr', '-l', 'sha256:4,7', '-L', path('policy')])
    await run('createprimary', ['-C', 'e', '-G', 'ecc', '-c', path('parent.ctx')])
    await run('create', [
      ...['-C', path('parent.ctx'), '-G', 'rsa2048:oaep-sha256:null', '-L', path('policy')],
      ...['-a', 'fixedtpm|fixedparent|sensitivedataorigin|noda|decrypt'],
      ...['-u', path('key.pub'), '-r', path('key.priv'), '-c', path('key.ctx')],
    ])
    publicArea = parseTpm2bPublic(await read('key.pub'))
    ak = await makeAttestationKey('ecc256:ecdsa-sha256:null')
  })

  test('has the policy that we compute', async () => {
    expect(toHex(expectedAuthPolicy)).toBe(toHex(await read('policy')))
    expect(codes(verifyBindingKey({ publicArea, expectedAuthPolicy }))).toEqual([])
  })

  test('is certified by an attestation key', async () => {
    await run('certify', [
      ...['-c', path('key.ctx'), '-C', path('ak.ctx'), '-g', 'sha256'],
      ...['-o', path('attest'), '-s', path('signature')],
    ])
    const attest = await read('attest')
    // the tool chooses the qualifying data and does not take any
    const { extraData: expectedExtraData } = parseAttest(attest)
    const signature = await read('signature')
    const input = { attest, signature, ak, expectedExtraData, certified: publicArea }
    expect(codes(verifyCertify(input).findings)).toEqual([])
    expect(codes(verifyCertify({ ...input, certified: ak }).findings)).toEqual(['CERTIFY_NAME'])
    const another = { ...input, expectedExtraData: NONCE }
    expect(codes(verifyCertify(another).findings)).toEqual(['CERTIFY_NONCE'])
  })
})
