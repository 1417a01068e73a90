import { createCipheriv, createDecipheriv, createHmac, hash, pbkdf2 } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { promisify } from 'node:util'
import { concat, parseUtf8, timingSafeEqual } from '../core/bytes.js'
import { isPlatformError, PlatformError } from '../core/errors.js'
import { Secret } from '../core/secret.js'
import { type DerNode, derInteger, derText, objectIdentifier, parseDer, TAG } from './der.js'
import {
  encodeDer,
  encodeInteger,
  encodeNull,
  encodeObjectIdentifier,
  encodeOctetString,
  encodeSequence,
} from './der-encode.js'

/** One secret of a PKCS#12 file: a secret bag whose value is an OCTET STRING. */
export interface Pkcs12Secret {
  /** The attribute friendlyName. */
  readonly name: string
  readonly octets: Secret
}

const OID = {
  data: '1.2.840.113549.1.7.1',
  encryptedData: '1.2.840.113549.1.7.6',
  pbes2: '1.2.840.113549.1.5.13',
  pbkdf2: '1.2.840.113549.1.5.12',
  hmacWithSha256: '1.2.840.113549.2.9',
  aes256Cbc: '2.16.840.1.101.3.4.1.42',
  sha256: '2.16.840.1.101.3.4.2.1',
  secretBag: '1.2.840.113549.1.12.10.1.5',
  friendlyName: '1.2.840.113549.1.9.20',
} as const

/** Of PBKDF2, and of the MAC, which would be the easier way to guess the passphrase if it had fewer. */
const ITERATIONS = 600_000
/** What a file may ask of us: some ten seconds. */
const MAX_ITERATIONS = 10_000_000
const SALT_OCTETS = 16
const IV_OCTETS = 16
const KEY_OCTETS = 32
const MAX_FILE_OCTETS = 1024 * 1024
const BMP_STRING = 0x1e
const IMPLICIT_0 = 0x80
/** Rounds of the MAC's derivation between two turns of the event loop: a few milliseconds. */
const ROUNDS_AT_ONCE = 4_000

const deriveKey = promisify(pbkdf2)

/**
 * A PKCS#12 file of secrets under a passphrase: PBES2 (PBKDF2 with HMAC-SHA-256 and 600 000 iterations, AES-256-CBC) and
 * a MAC with SHA-256 that took as many. `openssl pkcs12 -info` shows its secrets.
 *
 * @param options.passphrase UTF-8; how hard it is to guess is not checked
 * @param options.random the system's generator
 * @see RFC 7292; RFC 8018, sections 6.2 and A
 */
export async function sealPkcs12(options: {
  readonly passphrase: Secret
  readonly secrets: readonly Pkcs12Secret[]
  readonly random: (octets: number) => Uint8Array
}): Promise<Uint8Array> {
  const { passphrase, random } = options
  const [salt, macSalt, iv] = [random(SALT_OCTETS), random(SALT_OCTETS), random(IV_OCTETS)]
  const plaintext = encodeSequence(...options.secrets.map(encodeBag))
  try {
    using key = await encryptionKey(passphrase, salt, ITERATIONS)
    const ciphertext = key.use((octets) => {
      const cipher = createCipheriv('aes-256-cbc', octets, iv)
      return concat(cipher.update(plaintext), cipher.final())
    })
    const safes = encodeSequence(encodeEncryptedData({ salt, iv, ciphertext }))
    const mac = await macOf(passphrase, { salt: macSalt, iterations: ITERATIONS, content: safes })
    return encodeSequence(
      encodeInteger(3),
      encodeContent(OID.data, encodeOctetString(safes)),
      encodeSequence(
        encodeSequence(
          encodeSequence(encodeObjectIdentifier(OID.sha256), encodeNull()),
          encodeOctetString(mac),
        ),
        encodeOctetString(macSalt),
        encodeInteger(ITERATIONS),
      ),
    )
  } finally {
    plaintext.fill(0)
  }
}

/**
 * The secrets of a file of `sealPkcs12`, in their order. They belong to the caller, who disposes of them.
 *
 * Other files of PKCS#12 are refused, also where they are well-formed: other algorithms, other kinds of bags.
 *
 * @throws PlatformError `PKCS12_UNREADABLE` for what is no such file or not whole, `PKCS12_ALGORITHM`,
 *   `PKCS12_PASSPHRASE`, `PKCS12_ALTERED` where the passphrase opens the file and its MAC is of another
 */
export async function openPkcs12(
  file: Uint8Array,
  passphrase: Secret,
): Promise<readonly Pkcs12Secret[]> {
  if (file.length > MAX_FILE_OCTETS) {
    throw unreadable(`at most ${MAX_FILE_OCTETS} octets, found ${file.length}`)
  }
  const { safes, mac, encrypted } = readable(() => parseFile(file))
  const isAuthentic = timingSafeEqual(
    await macOf(passphrase, { ...mac, content: safes }),
    mac.digest,
  )
  const secrets = await decryptBags(encrypted, passphrase)
  if (isAuthentic && secrets) return secrets
  for (const { octets } of secrets ?? []) octets.dispose()
  if (secrets) throw new PlatformError('PKCS12_ALTERED', 'expected the file as it was made')
  throw new PlatformError('PKCS12_PASSPHRASE', 'expected the passphrase of the file')
}

interface Encrypted {
  readonly salt: Uint8Array
  readonly iterations: number
  readonly iv: Uint8Array
  readonly ciphertext: Uint8Array
}

function parseFile(file: Uint8Array) {
  const [version, authSafe, macData] = parts(parseDer(file), 3)
  if (derInteger(version) !== 3) throw unreadable('version 3')
  const safes = octetsOf(contentOf(authSafe, OID.data))
  const [digestInfo, macSalt, iterations] = parts(macData, 3)
  const [algorithm, digest] = parts(digestInfo, 2)
  requireOid(parts(algorithm, 2)[0], OID.sha256)
  const [safe] = parts(parseDer(safes), 1)
  return {
    safes,
    mac: {
      digest: octetsOf(digest),
      salt: octetsOf(macSalt),
      iterations: iterationsOf(iterations),
    },
    encrypted: parseEncryptedData(contentOf(safe, OID.encryptedData)),
  }
}

function parseEncryptedData(node: DerNode): Encrypted {
  const [version, info] = parts(node, 2)
  if (derInteger(version) !== 0) throw unreadable('version 0 of encrypted data')
  const [type, algorithm, content] = parts(info, 3)
  requireOid(type, OID.data)
  if (content.tag !== IMPLICIT_0) throw unreadable('encrypted content')
  const [scheme, parameters] = parts(algorithm, 2)
  requireOid(scheme, OID.pbes2)
  const [derivation, cipher] = parts(parameters, 2)
  const [kdf, kdfParameters] = parts(derivation, 2)
  requireOid(kdf, OID.pbkdf2)
  const [salt, iterations, prf] = parts(kdfParameters, 3)
  requireOid(parts(prf, 2)[0], OID.hmacWithSha256)
  const [encryption, iv] = parts(cipher, 2)
  requireOid(encryption, OID.aes256Cbc)
  const ivOctets = octetsOf(iv)
  if (ivOctets.length !== IV_OCTETS) throw unreadable(`${IV_OCTETS} octets of IV`)
  return {
    salt: octetsOf(salt),
    iterations: iterationsOf(iterations),
    iv: ivOctets,
    ciphertext: content.content,
  }
}

function encodeEncryptedData(encrypted: Omit<Encrypted, 'iterations'>): Uint8Array {
  const { salt, iv, ciphertext } = encrypted
  const derivation = encodeSequence(
    encodeObjectIdentifier(OID.pbkdf2),
    encodeSequence(
      encodeOctetString(salt),
      encodeInteger(ITERATIONS),
      encodeSequence(encodeObjectIdentifier(OID.hmacWithSha256), encodeNull()),
    ),
  )
  const cipher = encodeSequence(encodeObjectIdentifier(OID.aes256Cbc), encodeOctetString(iv))
  return encodeContent(
    OID.encryptedData,
    encodeSequence(
      encodeInteger(0),
      encodeSequence(
        encodeObjectIdentifier(OID.data),
        encodeSequence(encodeObjectIdentifier(OID.pbes2), encodeSequence(derivation, cipher)),
        encodeDer(IMPLICIT_0, ciphertext),
      ),
    ),
  )
}

/** Nothing where the passphrase, or an octet of what is encrypted, is another. */
async function decryptBags(
  encrypted: Encrypted,
  passphrase: Secret,
): Promise<readonly Pkcs12Secret[] | undefined> {
  const { salt, iterations, iv, ciphertext } = encrypted
  using key = await encryptionKey(passphrase, salt, iterations)
  let plaintext: Uint8Array | undefined
  try {
    plaintext = key.use((octets) => {
      const decipher = createDecipheriv('aes-256-cbc', octets, iv)
      return concat(decipher.update(ciphertext), decipher.final())
    })
    return parseDer(plaintext).children.map(parseBag)
  } catch {
    // Padding or structure: which of them is nobody's business
    return undefined
  } finally {
    plaintext?.fill(0)
  }
}

function encodeBag({ name, octets }: Pkcs12Secret): Uint8Array {
  const bmp = new Uint8Array(Buffer.from(name, 'utf16le').swap16())
  return octets.use((secret) =>
    encodeSequence(
      encodeObjectIdentifier(OID.secretBag),
      encodeDer(TAG.context(0), encodeContent(OID.data, encodeOctetString(secret))),
      encodeDer(
        TAG.set,
        encodeSequence(
          encodeObjectIdentifier(OID.friendlyName),
          encodeDer(TAG.set, encodeDer(BMP_STRING, bmp)),
        ),
      ),
    ),
  )
}

function parseBag(node: DerNode): Pkcs12Secret {
  const [type, value, attributes] = parts(node, 3)
  requireOid(type, OID.secretBag)
  const [secretBag] = parts(value, 1)
  const secret = octetsOf(contentOf(secretBag, OID.data))
  const [attribute] = parts(attributes, 1)
  const [attributeType, values] = parts(attribute, 2)
  requireOid(attributeType, OID.friendlyName)
  const [text] = parts(values, 1)
  return { name: derText(text), octets: new Secret(Uint8Array.from(secret)) }
}

/** ContentInfo, and SecretBag, which has the same form. */
function encodeContent(type: string, content: Uint8Array): Uint8Array {
  return encodeSequence(encodeObjectIdentifier(type), encodeDer(TAG.context(0), content))
}

function contentOf(node: DerNode, type: string): DerNode {
  const [found, explicit] = parts(node, 2)
  requireOid(found, type)
  return parts(explicit, 1)[0]
}

async function encryptionKey(
  passphrase: Secret,
  salt: Uint8Array,
  iterations: number,
): Promise<Secret> {
  const key = passphrase.use((octets) => deriveKey(octets, salt, iterations, KEY_OCTETS, 'sha256'))
  return new Secret(await key)
}

/**
 * The MAC over the safes: HMAC-SHA-256 under a key that the passphrase gives by the KDF of PKCS#12, which needs one block
 * for SHA-256. Lets others have their turn: it takes about a second.
 *
 * @see RFC 7292, appendix B.2 (with ID 3) and section 4
 */
async function macOf(
  passphrase: Secret,
  options: {
    readonly salt: Uint8Array
    readonly iterations: number
    readonly content: Uint8Array
  },
): Promise<Uint8Array> {
  const { salt, iterations, content } = options
  const password = passphrase.use(bmpPassphrase)
  const input = concat(new Uint8Array(64).fill(3), repeated(salt), repeated(password))
  password.fill(0)
  let digest: Uint8Array = hash('sha256', input, 'buffer')
  input.fill(0)
  for (let round = 1; round < iterations; round += 1) {
    if (round % ROUNDS_AT_ONCE === 0) await nextTurn()
    digest = hash('sha256', digest, 'buffer')
  }
  try {
    return new Uint8Array(createHmac('sha256', digest).update(content).digest())
  } finally {
    digest.fill(0)
  }
}

/** UTF-16, big-endian, with a zero character at its end. */
function bmpPassphrase(octets: Uint8Array): Uint8Array {
  return new Uint8Array(Buffer.from(`${parseUtf8(octets)}\0`, 'utf16le').swap16())
}

/** As often as fills whole blocks of SHA-256, the last time in part. */
function repeated(octets: Uint8Array): Uint8Array {
  const length = 64 * Math.ceil(octets.length / 64)
  return Uint8Array.from({ length }, (_, index) => octets[index % octets.length] ?? 0)
}

function readable<T>(parse: () => T): T {
  try {
    return parse()
  } catch (cause) {
    if (!isPlatformError(cause, 'CERT_UNREADABLE')) throw cause
    throw unreadable('a whole file', cause)
  }
}

type Nodes<N extends number> = N extends 1
  ? readonly [DerNode]
  : N extends 2
    ? readonly [DerNode, DerNode]
    : readonly [DerNode, DerNode, DerNode]

function parts<N extends 1 | 2 | 3>(node: DerNode, count: N): Nodes<N> {
  if (node.children.length !== count) throw unreadable(`${count} parts`)
  return node.children as unknown as Nodes<N>
}

function octetsOf(node: DerNode): Uint8Array {
  if (node.tag !== TAG.octetString) throw unreadable('an octet string')
  return node.content
}

function iterationsOf(node: DerNode): number {
  const iterations = derInteger(node)
  if (iterations < 1 || iterations > MAX_ITERATIONS) {
    const expected = `expected 1 to ${MAX_ITERATIONS} iterations, found ${iterations}`
    throw new PlatformError('PKCS12_ALGORITHM', expected)
  }
  return iterations
}

function requireOid(node: DerNode, expected: string): void {
  const found = objectIdentifier(node)
  if (found === expected) return
  throw new PlatformError('PKCS12_ALGORITHM', `expected ${expected}, found ${found}`)
}

function unreadable(expected: string, cause?: unknown): PlatformError {
  return new PlatformError('PKCS12_UNREADABLE', `expected ${expected} of PKCS#12`, { cause })
}
