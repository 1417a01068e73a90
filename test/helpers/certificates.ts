import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'

/** DER and certificates made octet by octet, so that tests can have them wrong in any one way. */

export const DAY_MS = 86_400_000

export function der(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const content = Buffer.concat(parts)
  const { length } = content
  const header =
    length < 0x80
      ? [length]
      : length < 0x100
        ? [0x81, length]
        : length < 0x10000
          ? [0x82, length >> 8, length & 0xff]
          : [0x83, length >> 16, (length >> 8) & 0xff, length & 0xff]
  return new Uint8Array(Buffer.concat([Buffer.from([tag, ...header]), content]))
}

export const sequence = (...parts: readonly Uint8Array[]) => der(0x30, ...parts)
export const set = (...parts: readonly Uint8Array[]) => der(0x31, ...parts)
export const octetString = (octets: Uint8Array) => der(0x04, octets)
export const bitString = (octets: Uint8Array, unused = 0) =>
  der(0x03, Uint8Array.of(unused), octets)
export const utf8 = (text: string) => der(0x0c, Buffer.from(text))
export const boolean = (value: boolean) => der(0x01, Uint8Array.of(value ? 0xff : 0))

export function integer(value: number | string): Uint8Array {
  const hex = typeof value === 'string' ? value : value.toString(16)
  const octets = Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex')
  return der(0x02, (octets[0] ?? 0) > 127 ? Buffer.concat([Uint8Array.of(0), octets]) : octets)
}

export function oid(text: string): Uint8Array {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number)
  const octets = [first * 40 + second, ...rest].flatMap((arc) => {
    const groups = [arc & 0x7f]
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) {
      groups.unshift((left & 0x7f) | 0x80)
    }
    return groups
  })
  return der(0x06, Uint8Array.from(octets))
}

export function time(ms: number): Uint8Array {
  const text = new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, '')
  return der(0x18, Buffer.from(text))
}

/** `[type, value]` pairs, each a relative name of its own. */
export function name(...attributes: readonly (readonly [string, string])[]): Uint8Array {
  return sequence(...attributes.map(([type, value]) => set(sequence(oid(type), utf8(value)))))
}

export const commonName = (text: string) => name(['2.5.4.3', text])

export interface TestExtension {
  readonly id: string
  readonly critical?: boolean
  readonly value: Uint8Array
}

export const extension = (id: string, value: Uint8Array, critical = false): TestExtension => ({
  id,
  value,
  critical,
})

function encodeExtension({ id, critical, value }: TestExtension): Uint8Array {
  return sequence(oid(id), ...(critical ? [boolean(true)] : []), octetString(value))
}

/** Bits of keyUsage by their numbers. */
export function keyUsage(...bits: readonly number[]): TestExtension {
  const octet = bits.reduce((value, bit) => value | (0x80 >> bit), 0)
  return extension('2.5.29.15', bitString(Uint8Array.of(octet)), true)
}

export const basicConstraints = (isCa: boolean, pathLength?: number): TestExtension =>
  extension(
    '2.5.29.19',
    sequence(
      ...(isCa ? [boolean(true)] : []),
      ...(pathLength === undefined ? [] : [integer(pathLength)]),
    ),
    true,
  )

export const TCG_ATTRIBUTES = [
  ['2.23.133.2.1', 'id:49465800'],
  ['2.23.133.2.2', 'SLB9670'],
  ['2.23.133.2.3', 'id:000D'],
] as const

export const tpmName = (attributes: readonly (readonly [string, string])[] = TCG_ATTRIBUTES) =>
  extension('2.5.29.17', sequence(der(0xa4, name(...attributes))), true)

export const purposes = (...ids: readonly string[]): TestExtension =>
  extension('2.5.29.37', sequence(...ids.map(oid)))

export const policies = (...ids: readonly string[]): TestExtension =>
  extension('2.5.29.32', sequence(...ids.map((id) => sequence(oid(id)))))

export interface KeyPair {
  readonly publicKey: KeyObject
  readonly privateKey: KeyObject
}

export const ecKeys = (namedCurve = 'P-256'): KeyPair => generateKeyPairSync('ec', { namedCurve })

const RSA_SHA256 = sequence(oid('1.2.840.113549.1.1.11'), der(0x05))
const ECDSA_SHA256 = sequence(oid('1.2.840.10045.4.3.2'))
export const RSA_SHA1 = sequence(oid('1.2.840.113549.1.1.5'), der(0x05))

export interface TestSigner {
  readonly subject: Uint8Array
  readonly keys: KeyPair
}

/** A signed structure: what is signed, its algorithm, its signature. */
export function signed(
  body: (algorithm: Uint8Array) => Uint8Array,
  { privateKey }: KeyPair,
  options: { readonly algorithm?: Uint8Array; readonly hash?: string } = {},
): Uint8Array {
  const algorithm =
    options.algorithm ?? (privateKey.asymmetricKeyType === 'ec' ? ECDSA_SHA256 : RSA_SHA256)
  const content = body(algorithm)
  const signature = sign(options.hash ?? 'sha256', content, privateKey)
  return sequence(content, algorithm, bitString(signature))
}

export interface CertificateOptions {
  readonly issuer: TestSigner
  readonly subject: Uint8Array
  readonly publicKey: KeyObject | Uint8Array
  readonly serial?: number | string
  readonly notBeforeMs?: number
  readonly notAfterMs?: number
  readonly extensions?: readonly TestExtension[]
  readonly algorithm?: Uint8Array
  readonly hash?: string
}

export function certificate(options: CertificateOptions): Uint8Array {
  const now = Date.now()
  const spki =
    options.publicKey instanceof Uint8Array
      ? options.publicKey
      : new Uint8Array(options.publicKey.export({ type: 'spki', format: 'der' }))
  return signed(
    (algorithm) =>
      sequence(
        der(0xa0, integer(2)),
        integer(options.serial ?? 1),
        algorithm,
        options.issuer.subject,
        sequence(
          time(options.notBeforeMs ?? now - DAY_MS),
          time(options.notAfterMs ?? now + 365 * DAY_MS),
        ),
        options.subject,
        spki,
        der(0xa3, sequence(...(options.extensions ?? []).map(encodeExtension))),
      ),
    options.issuer.keys,
    options,
  )
}

export interface TestAuthority extends TestSigner {
  readonly der: Uint8Array
}

/** An authority; its own issuer unless there is one. */
export function authority(
  text: string,
  options: {
    readonly issuer?: TestSigner
    readonly keys?: KeyPair
    readonly pathLength?: number
    readonly extensions?: readonly TestExtension[]
    readonly notAfterMs?: number
    readonly serial?: number | string
  } = {},
): TestAuthority {
  const subject = commonName(text)
  const keys = options.keys ?? ecKeys()
  const octets = certificate({
    issuer: options.issuer ?? { subject, keys },
    subject,
    publicKey: keys.publicKey,
    ...(options.notAfterMs === undefined ? {} : { notAfterMs: options.notAfterMs }),
    ...(options.serial === undefined ? {} : { serial: options.serial }),
    extensions: options.extensions ?? [basicConstraints(true, options.pathLength), keyUsage(5, 6)],
  })
  return { subject, keys, der: octets }
}

export interface RevocationListOptions {
  readonly serials?: readonly (number | string)[]
  readonly thisUpdateMs?: number
  readonly nextUpdateMs?: number
  readonly extensions?: readonly TestExtension[]
  readonly entryExtensions?: readonly TestExtension[]
  readonly version?: number
  readonly algorithm?: Uint8Array
  readonly hash?: string
}

export function revocationList(
  issuer: TestSigner,
  options: RevocationListOptions = {},
): Uint8Array {
  const now = Date.now()
  const entries = (options.serials ?? []).map((serial) =>
    sequence(
      integer(serial),
      time(now - DAY_MS),
      ...(options.entryExtensions
        ? [sequence(...options.entryExtensions.map(encodeExtension))]
        : []),
    ),
  )
  return signed(
    (algorithm) =>
      sequence(
        integer(options.version ?? 1),
        algorithm,
        issuer.subject,
        time(options.thisUpdateMs ?? now - DAY_MS),
        time(options.nextUpdateMs ?? now + 30 * DAY_MS),
        ...(entries.length > 0 ? [sequence(...entries)] : []),
        ...(options.extensions
          ? [der(0xa0, sequence(...options.extensions.map(encodeExtension)))]
          : []),
      ),
    issuer.keys,
    options,
  )
}

export function pemOf(label: string, octets: Uint8Array): string {
  const base64 =
    Buffer.from(octets)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${base64.join('\n')}\n-----END ${label}-----\n`
}

/** hardwareModuleName of a TPM 2.0 as device certificates have it. */
export const hardwareName = (serial: string, type = '2.23.133.1.2'): TestExtension =>
  extension(
    '2.5.29.17',
    sequence(
      der(
        0xa0,
        oid('1.3.6.1.5.5.7.8.4'),
        der(0xa0, sequence(oid(type), octetString(Buffer.from(serial)))),
      ),
    ),
  )
