import {
  createHash,
  createPublicKey,
  type JsonWebKey,
  type KeyObject,
  X509Certificate,
} from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { concat, fromBase64url, fromHex, toHex } from '../../src/core/bytes.js'
import { failures } from '../../src/core/finding.js'
import { ByteReader } from '../../src/core/reader.js'
import {
  attestationKeyTemplate,
  EK_TEMPLATES,
  encodeSignature,
  type HashName,
  type KeyScheme,
  nameOf,
  type PublicArea,
  parseAttest,
  parsePublicArea,
  parseSignature,
  parseTpm2bPublic,
  pcrDigest,
  verifyAttestationKey,
  verifyCertify,
  verifyEndorsementKey,
  verifyQuote,
} from '../../src/tpm/index.js'
import { verifySignature } from '../../src/tpm/signature.js'
import { saySkipped, sharedVectors } from '../helpers/vectors.js'

/** Evidence of other people's machines, with the verdicts that its manifest gives (section 1 of MANIFEST.md there). */
const shared = sharedVectors('attestation')
if (!shared) saySkipped('attestation: quotes and certifications', 49)

const GO_TPM_TOOLS = 'google_go-tpm-tools/internal/test/attestations'
const GO_ATTESTATION = 'google_go-attestation'
const TRUSTEE = 'confidential-containers_trustee/deps/verifier/test_data'
const KEYLIME = 'keylime_keylime/test-data/files'
const HIRS = 'nsacyber_HIRS/HIRS_AttestationCA/src/test/resources/tpm2'
const ENACTTRUST = 'veraison_services/scheme/tpm-enacttrust/test'
const PARSEC = 'veraison_services/scheme/parsec-tpm/test/evidence/evidence.cbor'
const WEBAUTHN = 'MasterKale_SimpleWebAuthn/webauthn-tpm-attestation.json'

function file(...path: readonly string[]): Uint8Array {
  if (!shared) throw new TypeError('shared vectors')
  return new Uint8Array(readFileSync(join(shared, ...path)))
}

function json<T>(...path: readonly string[]): T {
  return JSON.parse(new TextDecoder().decode(file(...path))) as T
}

function base64(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'base64'))
}

/** Where the first digest lies in a PCR file of tpm2-tools 4, its size in two octets before it. */
const FIRST_DIGEST = 140

/** A quote of the Trustee project's evidence, PCR values from 0 on. */
interface BareQuote {
  readonly message: string
  readonly signature: string
  readonly pcrs: readonly string[]
}

/** Values of PCR 0 and on. */
function pcrValues(values: readonly Uint8Array[]): ReadonlyMap<number, Uint8Array> {
  return new Map(values.map((value, pcr) => [pcr, value]))
}

function pcrsUpTo(last: number): readonly number[] {
  return Array.from({ length: last + 1 }, (_, pcr) => pcr)
}

/** A public area around a bare key, where the TPM's own is not part of the evidence. */
function areaOf(key: KeyObject, scheme: KeyScheme): PublicArea {
  const jwk = key.export({ format: 'jwk' })
  if (jwk.kty === 'EC') {
    const template = parsePublicArea(attestationKeyTemplate('ecc-p256'))
    if (template.type !== 'ecc') throw new TypeError('an ECC template')
    return { ...template, scheme, x: fromBase64url(jwk.x ?? ''), y: fromBase64url(jwk.y ?? '') }
  }
  const template = parsePublicArea(attestationKeyTemplate('rsa-2048'))
  if (template.type !== 'rsa') throw new TypeError('an RSA template')
  const modulus = fromBase64url(jwk.n ?? '')
  return { ...template, scheme, keyBits: modulus.length * 8, modulus }
}

const RSASSA_SHA256 = { kind: 'rsassa', hash: 'sha256' } as const

function codesOf(findings: Parameters<typeof failures>[0]): readonly string[] {
  return failures(findings).map(({ code }) => code)
}

describe.skipIf(!shared)('Google vTPM of a COS 85 machine', () => {
  interface Bundle {
    readonly akPub: string
    readonly quotes: readonly {
      readonly quote: string
      readonly signature: string
      readonly bank: string
      readonly pcrs: Readonly<Record<string, string>>
    }[]
  }
  const bundles = [
    { name: 'gce-cos-85-nonce9009', nonce: fromHex('9009') },
    { name: 'gce-cos-85-no-nonce', nonce: new Uint8Array() },
  ]
  const cases = bundles.flatMap((bundle) =>
    (['sha1', 'sha256', 'sha384'] as const).map((bank) => ({ ...bundle, bank })),
  )

  function verdict(name: string, bank: HashName, nonce: Uint8Array) {
    const { akPub, quotes } = json<Bundle>(GO_TPM_TOOLS, `${name}.decoded.json`)
    const found = quotes.find((quote) => quote.bank === bank)
    if (!found) throw new TypeError(`a quote of bank ${bank}`)
    const { quote, signature, pcrs } = found
    const values = pcrsUpTo(23).map((pcr) => fromHex(pcrs[String(pcr)] ?? ''))
    return verifyQuote({
      attest: fromHex(quote),
      signature: fromHex(signature),
      ak: parsePublicArea(fromHex(akPub)),
      expectedExtraData: nonce,
      selection: { bank, pcrs: pcrsUpTo(23) },
      pcrValues: pcrValues(values),
    }).findings
  }

  test.each(cases)('$name, bank $bank: accepted unless it is SHA-1', ({ name, bank, nonce }) => {
    expect(codesOf(verdict(name, bank, nonce))).toEqual(bank === 'sha1' ? ['QUOTE_HASH_WEAK'] : [])
  })

  test.each(cases)('$name, bank $bank: refused under another nonce', ({ name, bank }) => {
    expect(codesOf(verdict(name, bank, fromHex('900900')))).toContain('QUOTE_NONCE')
  })

  test('its attestation key is a restricted signing key', () => {
    const { akPub } = json<Bundle>(GO_TPM_TOOLS, 'gce-cos-85-nonce9009.decoded.json')
    expect(codesOf(verifyAttestationKey(parsePublicArea(fromHex(akPub))))).toEqual([])
  })
})

describe.skipIf(!shared)('Windows on a shielded VM', () => {
  interface Evidence {
    readonly AK: { readonly Public: string }
    readonly Quote: { readonly Quote: string; readonly Signature: string }
    readonly Log: { readonly PCRs: readonly { readonly Index: number; readonly Digest: string }[] }
  }

  test('is refused: its quote is signed with SHA-1 over the bank of SHA-1', () => {
    const { AK, Quote, Log } = json<Evidence>(
      GO_ATTESTATION,
      'attest/testdata/windows_gcp_shielded_vm.json',
    )
    const values = new Map<number, Uint8Array>(
      Log.PCRs.map((pcr) => [pcr.Index, base64(pcr.Digest)]),
    )
    const { findings, quote } = verifyQuote({
      attest: base64(Quote.Quote),
      signature: base64(Quote.Signature),
      ak: parsePublicArea(base64(AK.Public)),
      expectedExtraData: new Uint8Array(),
      selection: { bank: 'sha1', pcrs: pcrsUpTo(23) },
      pcrValues: values,
    })
    expect(new Set(codesOf(findings))).toEqual(new Set(['QUOTE_HASH_WEAK']))
    expect(quote?.selections).toEqual([{ bank: 'sha1', pcrs: pcrsUpTo(23) }])
  })
})

describe.skipIf(!shared)('a hardware TPM of the Trustee project', () => {
  function input() {
    const { ak_public, tpm_quote } = json<{
      ak_public: string
      tpm_quote: BareQuote
    }>(TRUSTEE, 'tpm_evidence.json')
    const key = createPublicKey({
      key: Buffer.from(ak_public, 'base64'),
      format: 'der',
      type: 'spki',
    })
    const attest = base64(tpm_quote.message)
    return {
      attest,
      signature: base64(tpm_quote.signature),
      ak: areaOf(key, RSASSA_SHA256),
      expectedExtraData: parseAttest(attest).extraData,
      selection: { bank: 'sha256', pcrs: pcrsUpTo(23) } as const,
      pcrValues: pcrValues(tpm_quote.pcrs.map(fromHex)),
    }
  }

  test('is accepted with its whole nonce', () => {
    expect(codesOf(verifyQuote(input()).findings)).toEqual([])
  })

  test('is refused with its nonce without the zeros that padded it', () => {
    const expectedExtraData = input().expectedExtraData.subarray(0, 48)
    expect(codesOf(verifyQuote({ ...input(), expectedExtraData }).findings)).toEqual([
      'QUOTE_NONCE',
    ])
  })
})

describe.skipIf(!shared)('the vTPM of an Azure confidential VM', () => {
  const KEY_MEMBER = '{"keys"'
  const CHALLENGE = new TextEncoder().encode('challenge')
  const NONCE_OF_V2 = fromHex(
    '982f5c6e45df0ed3f10b6f60b02f0c8390e281300f3805e2279c16168cd6ae9aa398f647caa2338748cd0fd9f5f819ef',
  )

  /** As octets in an array of numbers, or as text. */
  type AnyOctets = string | readonly number[]

  interface AzureEvidence {
    readonly quote?: AzureQuote
    readonly tpm_quote?: AzureQuote
    readonly report?: AnyOctets
    readonly hcl_report?: AnyOctets
  }
  interface AzureQuote {
    readonly message: AnyOctets
    readonly signature: AnyOctets
    readonly pcrs: readonly AnyOctets[]
  }

  const octetsOf = (octets: AnyOctets) =>
    typeof octets === 'string' ? fromHex(octets) : Uint8Array.from(octets)

  function input(platform: string) {
    const quote = json<BareQuote>(TRUSTEE, platform, 'tpm-quote-v1.json')
    return inputOf(quote, Buffer.from(file(TRUSTEE, platform, 'hcl-report.bin')), CHALLENGE)
  }

  function evidenceInput(platform: string, name: string, nonce: Uint8Array) {
    const evidence = json<AzureEvidence>(TRUSTEE, platform, name)
    const quote = evidence.tpm_quote ?? evidence.quote
    const report = evidence.hcl_report ?? evidence.report
    if (!quote || !report) throw new TypeError('a quote and a report')
    const octets =
      typeof report === 'string' ? Buffer.from(report, 'base64url') : Buffer.from(report)
    return inputOf(quote, octets, nonce)
  }

  function inputOf(
    { message, signature, pcrs }: AzureQuote,
    reportOctets: Buffer,
    expectedExtraData: Uint8Array,
  ) {
    const report = reportOctets.toString('latin1')
    const start = report.indexOf(KEY_MEMBER)
    const { keys }: { keys: readonly JsonWebKey[] } = JSON.parse(
      report.slice(start, report.lastIndexOf('}') + 1),
    )
    const jwk = keys.find(({ kid }) => kid === 'HCLAkPub')
    if (!jwk) throw new TypeError('the key of the report')
    return {
      attest: octetsOf(message),
      // the evidence carries the bare signature
      signature: encodeSignature({ ...RSASSA_SHA256, signature: octetsOf(signature) }),
      ak: areaOf(createPublicKey({ key: jwk, format: 'jwk' }), RSASSA_SHA256),
      expectedExtraData,
      selection: { bank: 'sha256', pcrs: pcrsUpTo(23) } as const,
      pcrValues: pcrValues(pcrs.map(octetsOf)),
    }
  }

  test.each(['az-snp-vtpm', 'az-tdx-vtpm'])('%s is accepted', (platform) => {
    expect(codesOf(verifyQuote(input(platform)).findings)).toEqual([])
  })

  test.each([
    ['az-snp-vtpm', 'evidence-v0.json', CHALLENGE],
    ['az-snp-vtpm', 'evidence-v1.json', CHALLENGE],
    ['az-snp-vtpm', 'evidence-v2.json', NONCE_OF_V2],
    ['az-tdx-vtpm', 'evidence-v0.json', CHALLENGE],
    ['az-tdx-vtpm', 'evidence-v1.json', CHALLENGE],
  ])(
    '%s is accepted by its whole evidence, and for its nonce alone: %s',
    (platform, name, nonce) => {
      const sound = evidenceInput(platform, name, nonce)
      expect(codesOf(verifyQuote(sound).findings)).toEqual([])
      const expectedExtraData = nonce.toReversed()
      expect(codesOf(verifyQuote({ ...sound, expectedExtraData }).findings)).toEqual([
        'QUOTE_NONCE',
      ])
    },
  )

  test('evidence whose nonce nobody published is refused for that alone', () => {
    const { findings } = verifyQuote(evidenceInput('az-snp-vtpm', 'evidence-genoa.json', CHALLENGE))
    expect(codesOf(findings)).toEqual(['QUOTE_NONCE'])
  })

  test.each(['az-snp-vtpm', 'az-tdx-vtpm'])('%s is refused with each defect', (platform) => {
    const sound = input(platform)
    const reversed = sound.expectedExtraData.toReversed()
    expect(codesOf(verifyQuote({ ...sound, expectedExtraData: reversed }).findings)).toEqual([
      'QUOTE_NONCE',
    ])
    const first = sound.pcrValues.get(0) ?? new Uint8Array()
    const changed = new Map(sound.pcrValues).set(0, first.with(0, (first[0] ?? 0) ^ 1))
    expect(codesOf(verifyQuote({ ...sound, pcrValues: changed }).findings)).toEqual([
      'QUOTE_PCR_DIGEST',
    ])
    const signature = sound.signature.with(6, (sound.signature[6] ?? 0) ^ 1)
    expect(codesOf(verifyQuote({ ...sound, signature }).findings)).toEqual(['QUOTE_SIGNATURE'])
  })
})

describe.skipIf(!shared)('the simulator of the Keylime project', () => {
  /** What tpm2-tools 4 wrote: counts and sizes in the order of the machine, digests in slots of 64 octets. */
  function values(): readonly Uint8Array[] {
    const SLOT_OCTETS = 66
    const octets = file(KEYLIME, 'quotepcr.out')
    return [0, 1, 2].map((index) => {
      const start = FIRST_DIGEST + index * SLOT_OCTETS
      const size = new ByteReader(octets.subarray(start), 'little').u16()
      return octets.subarray(start + 2, start + 2 + size)
    })
  }

  function input() {
    const attest = file(KEYLIME, 'quote.out')
    const [first, second, third] = values()
    if (!first || !second || !third) throw new TypeError('three values')
    return {
      attest,
      signature: file(KEYLIME, 'quotesig.out'),
      ak: parseTpm2bPublic(file(KEYLIME, 'ak.pub')),
      expectedExtraData: parseAttest(attest).extraData,
      selection: { bank: 'sha256', pcrs: [15, 16, 22] } as const,
      pcrValues: new Map([
        [15, first],
        [16, second],
        [22, third],
      ]),
    }
  }

  test('is accepted', () => {
    const sound = input()
    expect(toHex(sound.expectedExtraData)).toMatch(/^db1db298/)
    expect(codesOf(verifyQuote(sound).findings)).toEqual([])
    expect(codesOf(verifyAttestationKey(sound.ak))).toEqual([])
  })

  test('is refused with PCR 14 claimed in place of PCR 15', () => {
    const sound = input()
    const [, second, third] = sound.pcrValues
    const first = sound.pcrValues.get(15)
    if (!first || !second || !third) throw new TypeError('three values')
    const claimed = {
      selection: { bank: 'sha256', pcrs: [14, 16, 22] } as const,
      pcrValues: new Map([[14, first], second, third]),
    }
    expect(codesOf(verifyQuote({ ...sound, ...claimed }).findings)).toEqual(['QUOTE_SELECTION'])
  })
})

describe.skipIf(!shared)('names and endorsement keys', () => {
  // ak.name of HIRS is left out: it is not the name of the ak.pub beside it, as sha256sum shows
  test('computes the name that the TPM gave', () => {
    const keylime = parseTpm2bPublic(file(KEYLIME, 'ak.pub'))
    expect(toHex(nameOf(keylime))).toBe(toHex(file(KEYLIME, 'ak.name')))
  })

  test('recognises endorsement keys that follow the profile', () => {
    const keylime = parseTpm2bPublic(file(KEYLIME, 'ek.pub'))
    expect(codesOf(verifyEndorsementKey(keylime))).toEqual([])
    expect(codesOf(verifyEndorsementKey(parsePublicArea(file(HIRS, 'ek.pub'))))).toEqual([])
  })

  test('has the template that a TPM keeps for its RSA endorsement key, octet by octet', () => {
    const kept = file('tpm2-software_tpm2-tools/test/integration/fixtures/ek-template-default.bin')
    expect(toHex(EK_TEMPLATES.rsa2048.publicArea)).toBe(toHex(kept))
  })
})

describe.skipIf(!shared)('SHA-1 evidence of rust-keylime', () => {
  test('is read, and its digest is that of PCR 16', () => {
    const text = new TextDecoder().decode(
      file('keylime_rust-keylime/keylime/test-data/test-quote.txt'),
    )
    const [quote = '', signature = '', values = ''] = text.trim().slice(1).split(':')
    const attest = parseAttest(base64(quote))
    if (attest.type !== 'quote') throw new TypeError('a quote')
    expect(new TextDecoder().decode(attest.extraData)).toBe('TEST')
    expect(attest.selections).toEqual([{ bank: 'sha1', pcrs: [16] }])
    expect(parseSignature(base64(signature))).toMatchObject({ kind: 'rsassa', hash: 'sha1' })
    const pcr16 = base64(values).subarray(FIRST_DIGEST + 2, FIRST_DIGEST + 2 + 20)
    expect(toHex(attest.pcrDigest)).toBe(toHex(pcrDigest('sha1', [pcr16])))
  })
})

describe.skipIf(!shared)('synthetic evidence of EnactTrust', () => {
  const NODE_ID_OCTETS = 16

  test('is refused: it answers to no nonce, though its signature is right', () => {
    const reader = new ByteReader(file(ENACTTRUST, 'evidence/basic.token'), 'big')
    reader.take(NODE_ID_OCTETS)
    const attest = reader.take(reader.u16())
    const signature = reader.rest()
    const key = createPublicKey(Buffer.from(file(ENACTTRUST, 'keys/basic.pem.pub')))
    const ak = areaOf(key, { kind: 'ecdsa', hash: 'sha256' })
    const { findings } = verifyQuote({
      attest,
      signature,
      ak,
      expectedExtraData: new Uint8Array(32),
      selection: { bank: 'sha256', pcrs: [1, 2, 3, 4] },
      pcrValues: new Map(),
    })
    expect(findings).toContainEqual({ check: 'quote.signature', ok: true })
    expect(codesOf(findings)).toContain('QUOTE_NONCE')
  })
})

describe.skipIf(!shared)('key attestation of Parsec', () => {
  test('has a certification and a quote of the same signer', () => {
    const evidence = file(PARSEC)
    const certify = parseAttest(byteString(evidence, 'certInfo'))
    const quote = parseAttest(byteString(evidence, 'attestInfo'))
    expect([certify.type, quote.type]).toEqual(['certify', 'quote'])
    expect(toHex(certify.qualifiedSigner)).toBe(toHex(quote.qualifiedSigner))
    expect(toHex(quote.extraData)).toBe('deadbeefdeadbeef')
  })

  test('certifies the key that is with it', () => {
    const evidence = file(PARSEC)
    const certify = parseAttest(byteString(evidence, 'certInfo'))
    if (certify.type !== 'certify') throw new TypeError('a certification')
    expect(toHex(certify.name)).toBe(toHex(nameOf(byteString(evidence, 'pubArea'))))
  })

  /** The CBOR byte string of less than 256 octets behind a text. */
  function byteString(cbor: Uint8Array, member: string): Uint8Array {
    const start = Buffer.from(cbor).indexOf(member) + member.length
    const reader = new ByteReader(cbor.subarray(start), 'big')
    if (reader.u8() !== 0x58) throw new TypeError('a byte string')
    return reader.take(reader.u8())
  }
})

/** Their notes say SHA-256, their octets say SHA-1, in the scheme of the key and in the signature. */
describe.skipIf(!shared)('attestation keys that a TPM certified when it made them', () => {
  function made(name: string) {
    const { vectors } = json<{ vectors: readonly Readonly<Record<string, string>>[] }>(
      GO_ATTESTATION,
      'ak-creation-vectors.json',
    )
    const vector = vectors.find((one) => one['name'] === name)
    return {
      publicArea: base64(vector?.['Public'] ?? ''),
      createData: base64(vector?.['CreateData'] ?? ''),
      attest: base64(vector?.['CreateAttestation'] ?? ''),
      signature: base64(vector?.['CreateSignature'] ?? ''),
    }
  }
  const names = ['TestActivation', 'TestECCActivation']

  test.each(names)('%s: name and creation data are those that were certified', (name) => {
    const { publicArea, createData, attest } = made(name)
    const creation = parseAttest(attest)
    if (creation.type !== 'creation') throw new TypeError('a creation')
    expect(toHex(creation.name)).toBe(toHex(nameOf(publicArea)))
    expect(toHex(creation.creationHash)).toBe(createHash('sha256').update(createData).digest('hex'))
  })

  test.each(names)('%s: key and signature are refused, for they are of SHA-1', (name) => {
    const { publicArea, attest, signature } = made(name)
    const area = parsePublicArea(publicArea)
    expect(area.scheme).toMatchObject({ hash: 'sha1' })
    expect(codesOf(verifyAttestationKey(area))).toEqual(['AK_SCHEME'])
    expect(codesOf(verifySignature('certify', area, parseSignature(signature), attest))).toEqual([
      'CERTIFY_HASH_WEAK',
    ])
  })

  test.each(names)('%s: a creation passes neither as certification nor as quote', (name) => {
    const { publicArea, attest, signature } = made(name)
    const ak = parsePublicArea(publicArea)
    const { extraData: expectedExtraData } = parseAttest(attest)
    const input = { attest, signature, ak, expectedExtraData }
    expect(codesOf(verifyCertify({ ...input, certified: ak }).findings)).toContain('CERTIFY_TYPE')
    const asked = { selection: { bank: 'sha256', pcrs: [0] }, pcrValues: new Map() } as const
    expect(codesOf(verifyQuote({ ...input, ...asked }).findings)).toContain('QUOTE_TYPE')
  })

  test('the ECC key is refused with P-224 written into it', () => {
    const { publicArea } = made('TestECCActivation')
    const CURVE_OFFSET = 48
    expect(toHex(publicArea.subarray(CURVE_OFFSET, CURVE_OFFSET + 2))).toBe('0003')
    expect(() => parsePublicArea(publicArea.with(CURVE_OFFSET + 1, 2))).toThrow(
      expect.objectContaining({ code: 'DECODE_VALUE' }),
    )
  })
})

describe.skipIf(!shared)('keys that the TPMs of Windows machines certified', () => {
  interface Statement {
    readonly name: string
    readonly certInfo: string
    readonly pubArea: string
    readonly sig: string
    /** -257 for RSASSA with SHA-256, -65535 with SHA-1. */
    readonly alg: number
    readonly extraDataExpected: string
    readonly x5c: readonly string[]
  }
  const statements: readonly Statement[] = shared ? json<readonly Statement[]>(WEBAUTHN) : []

  function input({ certInfo, pubArea, sig, alg, extraDataExpected, x5c }: Statement) {
    const scheme = { kind: 'rsassa', hash: alg === -257 ? 'sha256' : 'sha1' } as const
    const { publicKey } = new X509Certificate(base64(x5c[0] ?? ''))
    return {
      attest: base64(certInfo),
      signature: encodeSignature({ ...scheme, signature: base64(sig) }),
      ak: areaOf(publicKey, scheme),
      expectedExtraData: fromHex(extraDataExpected),
      certified: parsePublicArea(base64(pubArea)),
    }
  }

  test('there are six', () => expect(statements).toHaveLength(6))

  test.each(statements)('$name: accepted, or refused for SHA-1 alone', (statement) => {
    const codes = statement.alg === -257 ? [] : ['CERTIFY_HASH_WEAK']
    expect(codesOf(verifyCertify(input(statement)).findings)).toEqual(codes)
  })

  test.each(statements)('$name: refused for another key and another nonce', (statement) => {
    const sound = input(statement)
    const { attributes } = sound.certified
    const certified = { ...sound.certified, attributes: { ...attributes, noDA: !attributes.noDA } }
    expect(codesOf(verifyCertify({ ...sound, certified }).findings)).toContain('CERTIFY_NAME')
    const expectedExtraData = concat(sound.expectedExtraData, Uint8Array.of(0))
    expect(codesOf(verifyCertify({ ...sound, expectedExtraData }).findings)).toContain(
      'CERTIFY_NONCE',
    )
  })
})
