import { createHash, createSign, generateKeyPairSync } from 'node:crypto'
import { concat, toHex, utf8 } from '../../../src/core/bytes.js'
import {
  extendIma,
  type ImaPolicy,
  type ImaProgress,
  readImaList,
  readImaSigner,
  startOfIma,
} from '../../../src/ima/index.js'
import { keyIdsOf } from '../../../src/ima/signing-key.js'
import {
  binaryList,
  digestField,
  type Measurement,
  numberField,
  pathField,
  textLine,
} from '../../unit/ima/build-list.js'

const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const SIGNER = readImaSigner(publicKey.export({ type: 'spki', format: 'pem' }).toString())
const SIGNED = '/usr/bin/signed'

const digestOf = (text: string) => new Uint8Array(createHash('sha256').update(text).digest())
const hexOf = (text: string) => `sha256:${toHex(digestOf(text))}`

function signature(text: string): Uint8Array {
  const octets = createSign('sha256').update(text).sign(privateKey)
  const [keyId = new Uint8Array()] = keyIdsOf(SIGNER)
  return concat(Uint8Array.of(3, 2, 4), keyId, Uint8Array.of(1, 0), octets)
}

interface Sample {
  readonly entry: Measurement
  readonly line: string
}

function sample(entry: Measurement, path: string, ...texts: readonly string[]): Sample {
  return { entry, line: textLine(entry, hexOf(path), path, ...texts) }
}

const fields = (path: string, ...others: readonly Uint8Array[]) => [
  digestField('sha256', digestOf(path)),
  pathField(path),
  ...others,
]

/** One entry of each template that has other fields. */
function samples(): readonly Sample[] {
  const xattr = signature(SIGNED)
  const buffer = utf8('root=/dev/sda1 quiet')
  const none = new Uint8Array()
  return [
    sample({ template: 'ima-ng', fields: fields('/init') }, '/init'),
    sample({ template: 'ima-sig', fields: fields(SIGNED, xattr) }, SIGNED, toHex(xattr)),
    sample({ template: 'ima-sig', fields: fields('/bin/sh', none) }, '/bin/sh', ''),
    sample({ template: 'ima-buf', fields: fields('cmdline', buffer) }, 'cmdline', toHex(buffer)),
    sample(
      { template: 'ima-modsig', fields: fields('/m.ko', none, none, buffer) },
      ...(['/m.ko', '', '', toHex(buffer)] as const),
    ),
    sample({ template: 'ima-ng', fields: fields('/violated'), violation: true }, '/violated'),
    sample(
      { template: 'd-ng|n-ng|iuid', fields: fields('/owned', numberField(1000, 4)) },
      ...(['/owned', '1000'] as const),
    ),
  ]
}

const all = samples()
/** A list with every template, as octets and as text. */
export const BINARY = binaryList(all.map(({ entry }) => entry))
export const TEXT = utf8(all.map(({ line }) => line).join(''))

/** Accepts the list and nothing else: signatures, digests, the violation. */
export const POLICY: ImaPolicy = {
  allow: [...readImaList(BINARY)]
    .filter(({ path }) => path !== SIGNED)
    .map(({ path, digest }) => ({ path, digests: new Set([toHex(digest.digest)]) })),
  exclude: [],
  allowViolations: true,
  signers: [SIGNER],
}

export function progressAfter(list: Uint8Array): ImaProgress {
  let progress = startOfIma('sha256')
  for (const entry of readImaList(list)) progress = extendIma(progress, entry, 'own-digest')
  return progress
}
