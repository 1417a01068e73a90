import { createHash, type KeyObject, sign } from 'node:crypto'
import { encode, Tagged } from 'cborg'

/** Data for the CBOR writer: another program's, so that ours does not test itself. */
export type Writable = unknown

export const tagged = (tag: number, value: Writable) => new Tagged(tag, value)
export const cbor = (value: Writable): Uint8Array => new Uint8Array(encode(value))
/** A map with these members; those that are `undefined` are left out. */
export const map = (members: Readonly<Record<string, Writable>>): Map<number, Writable> =>
  new Map(
    Object.entries(members).flatMap(([key, value]): [number, Writable][] =>
      value === undefined ? [] : [[Number(key), value]],
    ),
  )
export const uri = (text: string) => tagged(32, text)
export const uuid = (octet: number) => tagged(37, new Uint8Array(16).fill(octet))
/** Seconds. */
export const time = (iso: string) => tagged(1, Date.parse(iso) / 1000)
export const sha256 = (text: string) => new Uint8Array(createHash('sha256').update(text).digest())
export const sha384 = (text: string) => new Uint8Array(createHash('sha384').update(text).digest())

export const CLASS = map({ 1: 'ACME', 2: 'Rack 7' })
export const ENVIRONMENT = map({ 0: CLASS })

/** A measurement of a PCR, or of what the key says. */
export const measured = (key: Writable, values: Readonly<Record<string, Writable>>) =>
  map({ 0: key, 1: map(values) })
export const pcr = (index: number, content: string) =>
  measured(index, { 2: [[1, sha256(content)]] })

export const triple = (measurements: readonly Writable[], environment: Writable = ENVIRONMENT) => [
  environment,
  measurements,
]

/** `concise-mid-tag` with reference triples, inside its tag. */
export function moduleTag(
  triples: readonly Writable[],
  members: Readonly<Record<string, Writable>> = {},
) {
  const all = { 1: map({ 0: 'tag 1' }), 4: map({ 0: triples }), ...members }
  return tagged(506, cbor(map(all)))
}

export function corimMap(
  tags: readonly Writable[],
  members: Readonly<Record<string, Writable>> = {},
) {
  return map({ 0: 'manifest 1', 1: tags, ...members })
}

/** Octets of an unsigned manifest. */
export function corim(
  tags: readonly Writable[],
  members: Readonly<Record<string, Writable>> = {},
): Uint8Array {
  return cbor(tagged(501, corimMap(tags, members)))
}

export const ONE_STATE = moduleTag([triple([pcr(0, 'firmware'), pcr(4, 'loader')])])

export const META = cbor(
  map({
    0: map({ 0: 'ACME Ltd.', 1: uri('https://acme.example') }),
    1: map({ 0: time('2026-01-01'), 1: time('2027-01-01') }),
  }),
)
export const NOW_MS = Date.parse('2026-11-24')

export interface Signing {
  readonly privateKey: KeyObject
  readonly algorithm?: number
  /** Headers beside or instead of the usual ones; `undefined` leaves one out. */
  readonly headers?: Readonly<Record<string, Writable>>
  readonly unprotected?: Writable
  readonly payload?: Uint8Array | null
}

/** Octets of a signed manifest. */
export function signedCorim(signing: Signing): Uint8Array {
  const { privateKey, algorithm = -7, headers = {}, unprotected = map({}) } = signing
  const payload = signing.payload === undefined ? corim([ONE_STATE]) : signing.payload
  const protectedHeaders = cbor(
    map({ 1: algorithm, 3: 'application/rim+cbor', 8: META, ...headers }),
  )
  const data = cbor(['Signature1', protectedHeaders, new Uint8Array(), payload ?? new Uint8Array()])
  const signature = signatureOf(data, privateKey, algorithm)
  return cbor(tagged(18, [protectedHeaders, unprotected, payload, signature]))
}

function signatureOf(data: Uint8Array, key: KeyObject, algorithm: number): Uint8Array {
  if (algorithm === -8) return new Uint8Array(sign(null, data, key))
  if (algorithm === -37) {
    return new Uint8Array(sign('sha256', data, { key, padding: 6, saltLength: 32 }))
  }
  const hash = algorithm === -35 ? 'sha384' : 'sha256'
  return new Uint8Array(sign(hash, data, { key, dsaEncoding: 'ieee-p1363' }))
}

export const publicPem = (key: KeyObject): string =>
  key.export({ type: 'spki', format: 'pem' }).toString()
