import 'reflect-metadata'
import { createPrivateKey, createPublicKey, type KeyObject, webcrypto } from 'node:crypto'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  cryptoProvider,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  PublicKey,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509'
import { toHex } from '../core/bytes.js'
import { messageOf, PlatformError } from '../core/errors.js'
import { randomOctets } from '../core/random.js'
import { certificatePem } from './certificate.js'

// The library's types are the browser's; Node's implementation is the same.
cryptoProvider.set(webcrypto as unknown as Parameters<typeof cryptoProvider.set>[0])

const SECONDS_PER_DAY = 86_400
const SERIAL_OCTETS = 16
/** Certificates begin to be valid a little before they are made: clocks differ. */
const BACKDATE_MS = 5 * 60 * 1000

const EKU_SERVER = '1.3.6.1.5.5.7.3.1'
const EKU_CLIENT = '1.3.6.1.5.5.7.3.2'

export type AuthorityKeyType = 'p256' | 'p384' | 'rsa3072'

const KEY_ALGORITHMS = {
  p256: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
  p384: { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' },
  rsa3072: {
    name: 'RSASSA-PKCS1-v1_5',
    modulusLength: 3072,
    publicExponent: Uint8Array.of(1, 0, 1),
    hash: 'SHA-256',
  },
} as const

/** A certificate authority with its key in memory. */
export interface Authority {
  readonly certificateDer: Uint8Array
  readonly certificatePem: string
  /** PKCS#8, PEM: to be kept sealed or in a file of mode 0600. */
  privateKeyPem(): Promise<string>
  /** @internal used by the functions of this folder */
  readonly signer: Signer
}

interface Signer {
  readonly certificate: X509Certificate
  readonly keyType: AuthorityKeyType
  readonly keys: webcrypto.CryptoKeyPair
}

/**
 * Makes a certificate authority: self-signed, or below `parent`.
 *
 * @param options.now milliseconds; the certificate begins five minutes before
 */
export async function createAuthority(options: {
  readonly commonName: string
  readonly keyType: AuthorityKeyType
  readonly validityDays: number
  readonly now: number
  readonly parent?: Authority
}): Promise<Authority> {
  const algorithm = KEY_ALGORITHMS[options.keyType]
  const keys = (await webcrypto.subtle.generateKey(algorithm, true, [
    'sign',
    'verify',
  ])) as webcrypto.CryptoKeyPair
  const parent = options.parent?.signer
  const subject = nameOf(options.commonName)
  const certificate = await issue({
    subject,
    publicKey: keys.publicKey,
    signer: parent ?? { keys, keyType: options.keyType, subject },
    validityDays: options.validityDays,
    now: options.now,
    extensions: [
      new BasicConstraintsExtension(true, parent ? 0 : undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
    ],
  })
  return authorityOf({ certificate, keyType: options.keyType, keys })
}

/**
 * Opens a certificate authority from its two PEM texts.
 *
 * @throws PlatformError `CERT_UNREADABLE` where they cannot be read, `CERT_KEY_MISMATCH` where they are not of one key
 */
export async function openAuthority(pem: {
  readonly certificatePem: string
  readonly privateKeyPem: string
}): Promise<Authority> {
  try {
    const certificate = new X509Certificate(pem.certificatePem)
    const privateKey = createPrivateKey(pem.privateKeyPem)
    const publicKey = createPublicKey(privateKey)
    const spki = publicKey.export({ type: 'spki', format: 'der' })
    if (!spki.equals(Buffer.from(certificate.publicKey.rawData))) {
      throw new PlatformError(
        'CERT_KEY_MISMATCH',
        'expected the private key of the certificate, found another',
      )
    }
    const keyType = keyTypeOf(publicKey)
    const algorithm = KEY_ALGORITHMS[keyType]
    const pkcs8 = privateKey.export({ type: 'pkcs8', format: 'der' })
    const keys = {
      privateKey: await webcrypto.subtle.importKey('pkcs8', pkcs8, algorithm, true, ['sign']),
      publicKey: await webcrypto.subtle.importKey('spki', spki, algorithm, true, ['verify']),
    }
    pkcs8.fill(0)
    return authorityOf({ certificate, keyType, keys })
  } catch (cause) {
    if (cause instanceof PlatformError) throw cause
    throw new PlatformError('CERT_UNREADABLE', `expected an authority: ${messageOf(cause)}`, {
      cause,
    })
  }
}

/** A certificate with the key that was made for it; PEM. */
export interface CertifiedKey {
  readonly certificatePem: string
  readonly privateKeyPem: string
}

/** Makes a key and a certificate for a TLS server. */
export function issueServerCertificate(
  authority: Authority,
  options: {
    readonly dnsNames: readonly string[]
    readonly ipAddresses: readonly string[]
    readonly validityDays: number
    readonly now: number
  },
): Promise<CertifiedKey> {
  const [name = options.ipAddresses[0] ?? 'server'] = options.dnsNames
  return issueTlsCertificate(authority, { ...options, commonName: name }, [
    new ExtendedKeyUsageExtension([EKU_SERVER]),
    new SubjectAlternativeNameExtension([
      ...options.dnsNames.map((value) => ({ type: 'dns' as const, value })),
      ...options.ipAddresses.map((value) => ({ type: 'ip' as const, value })),
    ]),
  ])
}

/** Makes a key and a certificate for a TLS client, which its common name identifies. */
export function issueClientCertificate(
  authority: Authority,
  options: {
    readonly commonName: string
    readonly validityDays: number
    readonly now: number
  },
): Promise<CertifiedKey> {
  return issueTlsCertificate(authority, options, [new ExtendedKeyUsageExtension([EKU_CLIENT])])
}

async function issueTlsCertificate(
  authority: Authority,
  options: {
    readonly commonName: string
    readonly validityDays: number
    readonly now: number
  },
  extensions: readonly Extension[],
): Promise<CertifiedKey> {
  const keys = (await webcrypto.subtle.generateKey(KEY_ALGORITHMS.p256, true, [
    'sign',
    'verify',
  ])) as webcrypto.CryptoKeyPair
  const certificate = await issue({
    subject: nameOf(options.commonName),
    publicKey: keys.publicKey,
    signer: authority.signer,
    validityDays: options.validityDays,
    now: options.now,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      ...extensions,
    ],
  })
  return {
    certificatePem: certificatePem(new Uint8Array(certificate.rawData)),
    privateKeyPem: await pkcs8Pem(keys.privateKey),
  }
}

/** @internal used by the functions of this folder */
export async function issue(options: {
  readonly subject: Name
  readonly publicKey: webcrypto.CryptoKey | PublicKey
  readonly signer:
    | Signer
    | {
        readonly keys: webcrypto.CryptoKeyPair
        readonly keyType: AuthorityKeyType
        readonly subject: Name
      }
  readonly validityDays: number
  readonly now: number
  readonly extensions: readonly Extension[]
}): Promise<X509Certificate> {
  const { signer } = options
  const issuerKey =
    'certificate' in signer
      ? signer.certificate.publicKey
      : new PublicKey(await webcrypto.subtle.exportKey('spki', signer.keys.publicKey))
  const subjectKey =
    options.publicKey instanceof PublicKey
      ? options.publicKey
      : new PublicKey(await webcrypto.subtle.exportKey('spki', options.publicKey))
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: options.subject.toString(),
    issuer: 'certificate' in signer ? signer.certificate.subject : signer.subject.toString(),
    notBefore: new Date(options.now - BACKDATE_MS),
    notAfter: new Date(options.now + options.validityDays * SECONDS_PER_DAY * 1000),
    publicKey: subjectKey,
    signingKey: signer.keys.privateKey,
    signingAlgorithm: KEY_ALGORITHMS[signer.keyType],
    extensions: [
      ...options.extensions,
      await SubjectKeyIdentifierExtension.create(subjectKey),
      await AuthorityKeyIdentifierExtension.create(issuerKey),
    ],
  } as Parameters<typeof X509CertificateGenerator.create>[0])
  return certificate
}

/** 127 random bits: positive, and never zero at its head. */
function serialNumber(): string {
  const octets = randomOctets(SERIAL_OCTETS)
  octets[0] = ((octets[0] ?? 0) & 0x3f) | 0x40
  return toHex(octets)
}

export function nameOf(commonName: string): Name {
  return new Name([{ CN: [commonName] }])
}

function authorityOf(signer: Signer): Authority {
  const certificateDer = new Uint8Array(signer.certificate.rawData)
  return {
    certificateDer,
    certificatePem: certificatePem(certificateDer),
    privateKeyPem: () => pkcs8Pem(signer.keys.privateKey),
    signer,
  }
}

async function pkcs8Pem(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key))
  const pem = createPrivateKey({ key: der, type: 'pkcs8', format: 'der' }).export({
    type: 'pkcs8',
    format: 'pem',
  })
  der.fill(0)
  return pem.toString()
}

function keyTypeOf(key: KeyObject): AuthorityKeyType {
  const { namedCurve, modulusLength } = key.asymmetricKeyDetails ?? {}
  if (namedCurve === 'prime256v1') return 'p256'
  if (namedCurve === 'secp384r1') return 'p384'
  if (key.asymmetricKeyType === 'rsa' && (modulusLength ?? 0) >= 3072) return 'rsa3072'
  throw new PlatformError('CERT_UNREADABLE', 'expected a key on P-256 or P-384, or RSA-3072')
}
