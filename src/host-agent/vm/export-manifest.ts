import { createHmac, hkdfSync } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { Exactly, HexDigest, Name, Time, Uuid } from '../../api/common.js'
import { fromHex, timingSafeEqual, toHex, utf8 } from '../../core/bytes.js'
import { type CanonicalValue, canonicalJson } from '../../core/canonical-json.js'
import { PlatformError } from '../../core/errors.js'
import { Secret } from '../../core/secret.js'
import { encodeRecord, parseRecord } from './records.js'

/** Name of the manifest in the directory of an export: written last, so that an export that has one is whole. */
export const MANIFEST = 'manifest.json'
export const MAX_MANIFEST_OCTETS = 1024 * 1024
/** Those of a VM with all the disks and snapshots that it can have. */
const MAX_PARTS = 1024

const KEY_OCTETS = 32
const Size = Type.Integer({ minimum: 0, maximum: 2 ** 50 })

/** Relative to the directory of a VM. Nothing else can be named, whatever a manifest says. */
const ExportedFile = Type.String({
  pattern:
    '^(vm\\.json|keys\\.json|home\\.enc|nvram\\.(fd|luks)|vtpm\\.json|vtpm/tpm2-00\\.permall|' +
    'vtpm/certs/[a-z-]{1,20}\\.pem|disk-[a-z0-9._-]{1,58}\\.(luks|raw)|' +
    'snapshots/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/' +
    '(snapshot\\.json|memory\\.enc|vm\\.json|home\\.enc|nvram\\.(fd|luks)|vtpm\\+tpm2-00\\.permall|' +
    'vtpm\\+certs\\+[a-z-]{1,20}\\.pem|disk-[a-z0-9._-]{1,58}\\.(luks|raw)))$',
})

export const ExportedPart = Exactly({
  file: ExportedFile,
  octets: Size,
  /** What a sparse copy of it takes, at most. */
  dataOctets: Size,
  sha256: HexDigest,
})
export type ExportedPart = Static<typeof ExportedPart>

/** What is in an export, and of which VM. */
export const ExportManifest = Exactly({
  format: Type.Literal(1),
  exportId: Uuid,
  vmId: Uuid,
  name: Name,
  provider: Name,
  /** Where it was written. */
  hostId: Name,
  cluster: Name,
  exportedAt: Time,
  /** Whether the VM was handed over, or copied. */
  move: Type.Boolean(),
  /** Generation of the home key, which counts its deep recrypts. */
  generation: Type.Integer({ minimum: 1 }),
  parts: Type.Array(ExportedPart, { maxItems: MAX_PARTS }),
})
export type ExportManifest = Static<typeof ExportManifest>

const SealedManifest = Exactly({
  manifest: ExportManifest,
  /** HMAC-SHA-256 of the canonical JSON text of the manifest. */
  mac: Type.String({ pattern: '^[0-9a-f]{64}$' }),
})
export type SealedManifest = Static<typeof SealedManifest>

/** Text of a manifest with its MAC under a key that is derived from the home key of the VM. */
export function sealManifest(manifest: ExportManifest, homeKey: Secret): string {
  return encodeRecord({ manifest, mac: toHex(macOf(manifest, homeKey)) })
}

/**
 * What a manifest says, before it can be known whether it is true.
 *
 * @throws PlatformError `VM_EXPORT_CORRUPT`
 */
export function parseManifest(octets: Uint8Array): SealedManifest {
  return parseRecord(SealedManifest, octets, 'VM_EXPORT_CORRUPT', MANIFEST)
}

/** @throws PlatformError `VM_EXPORT_CORRUPT` for a manifest that was not written with this home key */
export function verifyManifest({ manifest, mac }: SealedManifest, homeKey: Secret): void {
  if (!timingSafeEqual(macOf(manifest, homeKey), fromHex(mac))) {
    throw new PlatformError(
      'VM_EXPORT_CORRUPT',
      `${MANIFEST} was not written with the home key of VM ${manifest.vmId}, or was altered`,
    )
  }
}

/** What shows to the control plane that a host has the home key of a VM that was exported. */
export function handOverTicket(exportId: string, vmId: string, homeKey: Secret): Uint8Array {
  return derive(homeKey, `sigillo hand-over v1 ${vmId} ${exportId}`)
}

/** Name of a part in the directory of an export or a snapshot, which has no directories. */
export function exportedName(file: string): string {
  // a plus sign is in names of parts of snapshots alone, where it stood for a slash once: no two parts have one name
  return file.replaceAll('/', '+')
}

function macOf(manifest: ExportManifest, homeKey: Secret): Uint8Array {
  const { vmId, exportId } = manifest
  using key = new Secret(derive(homeKey, `sigillo export v1 ${vmId} ${exportId}`))
  const text = utf8(canonicalJson(manifest as CanonicalValue))
  return key.use((octets) => createHmac('sha256', octets).update(text).digest())
}

/** HKDF-SHA-256; identifiers have one length, so that no two uses have the same info. */
function derive(homeKey: Secret, info: string): Uint8Array {
  return homeKey.use(
    (key) => new Uint8Array(hkdfSync('sha256', key, new Uint8Array(), utf8(info), KEY_OCTETS)),
  )
}
