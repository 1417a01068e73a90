import { createHmac, hkdfSync } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { Exactly, Name, Octets, Uuid } from '../../api/common.js'
import { fromBase64url, timingSafeEqual, toBase64url, utf8 } from '../../core/bytes.js'
import { type CanonicalValue, canonicalJson } from '../../core/canonical-json.js'
import { messageOf } from '../../core/errors.js'
import { Secret } from '../../core/secret.js'
import { readPrivateFile } from './files.js'
import { live } from './live-channel.js'
import { MachineShape } from './machine-shape.js'
import { Descriptor, type KeyRecord, KeyRecords, parseRecord } from './records.js'
import { filesOf } from './vm-files.js'
import type { StoredVm } from './vm-store.js'

const KEY_OCTETS = 32
export const NONCE_OCTETS = 32
const MAX_FILE_OCTETS = 1024 * 1024

const OfferedFile = Exactly({
  file: Type.String({
    pattern:
      '^(vm\\.json|keys\\.json|home\\.enc|nvram\\.fd|vtpm\\.json|vtpm/certs/[a-z-]{1,20}\\.pem)$',
  }),
  content: Octets(MAX_FILE_OCTETS, 'as it lies on the disk of the other host'),
})

/** A VM that runs, as its host offers it to another one. */
const Offer = Exactly({
  format: Type.Literal(1),
  vmId: Uuid,
  exportId: Uuid,
  hostId: Name,
  cluster: Name,
  shape: MachineShape,
  /** Those that it has, by id: their files are in the same directory. */
  snapshots: Type.Array(Uuid, { maxItems: 64 }),
  /** Directory of the VM on storage that both hosts have: its disks are there. */
  directory: Type.String({ pattern: '^(/[A-Za-z0-9._-]+)+$', maxLength: 1024 }),
  nonce: Octets(NONCE_OCTETS, 'of this move'),
  files: Type.Array(OfferedFile, { maxItems: 16 }),
})
export type Offer = Static<typeof Offer>

export const SealedOffer = Exactly({ offer: Offer, mac: Octets(32, 'HMAC-SHA-256 of the offer') })
export type SealedOffer = Static<typeof SealedOffer>

export const Ready = Exactly({ nonce: Octets(NONCE_OCTETS, 'of this move') })

/**
 * Small files of a VM that runs: all but its volumes and the state of its virtual TPM, which is in the stream.
 *
 * @throws PlatformError `VM_LIVE` for a link, or a file that is too large
 */
export async function offeredFiles({ paths, descriptor }: StoredVm): Promise<Offer['files']> {
  const files = (await filesOf(paths.root, descriptor)).filter(
    ({ file }) => !/^disk-|\.(luks|permall)$/.test(file),
  )
  return Promise.all(
    files.map(async ({ file }) => ({
      file,
      content: toBase64url(await readPart(`${paths.root}/${file}`)),
    })),
  )
}

export function sealOffer(offer: Offer, homeKey: Secret): SealedOffer {
  return { offer, mac: toBase64url(macOf(offer, homeKey)) }
}

/** @throws PlatformError `VM_LIVE` for an offer that was not made with this home key */
export function verifyOffer({ offer, mac }: SealedOffer, homeKey: Secret): void {
  if (timingSafeEqual(macOf(offer, homeKey), fromBase64url(mac))) return
  throw live('the offer was not made with the home key of the VM')
}

/** What an offer says of its VM, before it can be known whether it is true. @throws PlatformError `VM_LIVE` */
export function readOffer({ offer }: SealedOffer): {
  readonly descriptor: Descriptor
  readonly records: readonly KeyRecord[]
} {
  const octets = (name: string) =>
    fromBase64url(offer.files.find(({ file }) => file === name)?.content ?? '')
  const descriptor = parseRecord(Descriptor, octets('vm.json'), 'VM_LIVE', 'vm.json')
  const { keys } = parseRecord(KeyRecords, octets('keys.json'), 'VM_LIVE', 'keys.json')
  const names = offer.files.map(({ file }) => file)
  if (descriptor.vmId !== offer.vmId || new Set(names).size !== names.length) {
    throw live('the offer is not of one VM')
  }
  return { descriptor, records: keys }
}

async function readPart(path: string): Promise<Uint8Array> {
  const octets = await readPrivateFile(path, MAX_FILE_OCTETS).catch((cause: unknown) => {
    throw live(`${path}: ${messageOf(cause)}`, cause)
  })
  if (!octets) throw live(`expected ${path}`)
  return octets
}

function macOf(offer: Offer, homeKey: Secret): Uint8Array {
  const info = utf8(`sigillo live v1 ${offer.vmId} ${offer.exportId} offer`)
  using key = new Secret(
    homeKey.use(
      (octets) => new Uint8Array(hkdfSync('sha256', octets, new Uint8Array(), info, KEY_OCTETS)),
    ),
  )
  const text = utf8(canonicalJson(offer as CanonicalValue))
  return key.use((octets) => createHmac('sha256', octets).update(text).digest())
}
