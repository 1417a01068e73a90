import { constants, createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { fromBase64url } from '../../../src/core/bytes.js'
import {
  type Attest,
  attestationKeyTemplate,
  encodeAttest,
  encodeSignature,
  HASH_ALGORITHMS,
  type HashName,
  type KeyScheme,
  type PcrSelection,
  type PublicArea,
  parsePublicArea,
  TPM_GENERATED,
} from '../../../src/tpm/index.js'
import { imported } from '../../helpers/key-pair.js'

/** A key pair whose public half is written as a TPM would write it. */
export interface ForgedKey {
  readonly area: PublicArea
  readonly privateKey: KeyObject
}

export type SigningScheme = Exclude<KeyScheme, { readonly kind: 'null' }>
export type KeySize = 2048 | 3072 | 'P-256' | 'P-384'

const pairs = new Map<string, KeyObject>()

/** An attestation key; `seed` tells keys of one size apart. Key pairs are made once in a test file. */
export function forgeKey(size: KeySize, scheme: SigningScheme, seed = 0): ForgedKey {
  const id = `${size} ${seed}`
  const privateKey = pairs.get(id) ?? generateKey(size)
  pairs.set(id, privateKey)
  return { privateKey, area: areaOf(privateKey, scheme) }
}

function generateKey(size: KeySize): KeyObject {
  return typeof size === 'number'
    ? imported(generateKeyPairSync('rsa', { modulusLength: size })).privateKey
    : imported(generateKeyPairSync('ec', { namedCurve: size })).privateKey
}

const { nameAlg, attributes, authPolicy } = parsePublicArea(attestationKeyTemplate('ecc-p256'))

function areaOf(privateKey: KeyObject, scheme: SigningScheme): PublicArea {
  const base = { nameAlg, attributes, authPolicy, scheme }
  const jwk = privateKey.export({ format: 'jwk' })
  if (jwk.kty === 'RSA') {
    const modulus = fromBase64url(jwk.n ?? '')
    return { ...base, type: 'rsa', keyBits: modulus.length * 8, exponent: 0, modulus }
  }
  const curve = jwk.crv === 'P-256' ? 'P-256' : 'P-384'
  const [x, y] = [fromBase64url(jwk.x ?? ''), fromBase64url(jwk.y ?? '')]
  return { ...base, type: 'ecc', curve, x, y }
}

/** TPMT_SIGNATURE of `data` by the key, in its scheme or another. */
export function signatureBy(
  { privateKey }: ForgedKey,
  data: Uint8Array,
  scheme: SigningScheme,
  saltLength: number = constants.RSA_PSS_SALTLEN_DIGEST,
): Uint8Array {
  const { kind, hash } = scheme
  if (kind === 'ecdsa') {
    const both = sign(hash, data, { key: privateKey, dsaEncoding: 'ieee-p1363' })
    const [r, s] = [both.subarray(0, both.length / 2), both.subarray(both.length / 2)]
    return encodeSignature({ kind, hash, r, s })
  }
  const padding = kind === 'rsapss' ? constants.RSA_PKCS1_PSS_PADDING : constants.RSA_PKCS1_PADDING
  const signature = sign(hash, data, { key: privateKey, padding, saltLength })
  return encodeSignature({ kind: kind === 'rsapss' ? 'rsapss' : 'rsassa', hash, signature })
}

export const NONCE = new Uint8Array(32).fill(0x5a)

/** PCR values that tell indexes and banks apart. */
export function forgedPcrs({ bank, pcrs }: PcrSelection): ReadonlyMap<number, Uint8Array> {
  return new Map(pcrs.map((pcr) => [pcr, digest(bank, Uint8Array.of(pcr))]))
}

export function digest(hash: HashName, ...parts: readonly Uint8Array[]): Uint8Array {
  const state = createHash(hash)
  for (const part of parts) state.update(part)
  return new Uint8Array(state.digest())
}

/** What every attest structure of these tests begins with. */
export const ATTEST_BASE = {
  magic: TPM_GENERATED,
  qualifiedSigner: new Uint8Array(34).fill(7),
  extraData: NONCE,
  clockInfo: { clock: 123_456n, resetCount: 3, restartCount: 1, safe: true },
  firmwareVersion: 0x2019_0023_0025_0000n,
} as const

export type QuoteAttest = Attest & { readonly type: 'quote' }

export interface ForgedQuote {
  readonly attest: Uint8Array
  readonly signature: Uint8Array
  readonly ak: PublicArea
  readonly expectedExtraData: Uint8Array
  readonly selection: PcrSelection
  readonly pcrValues: ReadonlyMap<number, Uint8Array>
}

/** A quote as a TPM makes it, of a key that is not in a TPM; `change` alters the structure before it is signed. */
export function forgeQuote(
  key: ForgedKey,
  scheme: SigningScheme,
  options: {
    readonly selection?: PcrSelection
    readonly change?: Partial<QuoteAttest>
    readonly saltLength?: number
  } = {},
): ForgedQuote {
  const selection = options.selection ?? { bank: 'sha256', pcrs: [0, 4, 7] }
  const pcrValues = forgedPcrs(selection)
  const attest = encodeAttest({
    ...ATTEST_BASE,
    type: 'quote',
    selections: [selection],
    pcrDigest: digest(scheme.hash, ...pcrValues.values()),
    ...options.change,
  })
  const signature = signatureBy(key, attest, scheme, options.saltLength)
  return { attest, signature, ak: key.area, expectedExtraData: NONCE, selection, pcrValues }
}

/** The largest salt of RSAPSS: what TPMs before FIPS 186-4 take. */
export function longestSalt(bits: number, hash: HashName): number {
  return bits / 8 - HASH_ALGORITHMS[hash].digestOctets - 2
}
