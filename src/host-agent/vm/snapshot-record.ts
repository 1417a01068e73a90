import { createHmac, hkdfSync } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { Exactly, HexDigest, Name, Sentence, Time, Uuid } from '../../api/common.js'
import { fromHex, timingSafeEqual, toHex, utf8 } from '../../core/bytes.js'
import { type CanonicalValue, canonicalJson } from '../../core/canonical-json.js'
import { PlatformError } from '../../core/errors.js'
import { Secret } from '../../core/secret.js'
import { MachineShape } from './machine-shape.js'
import { encodeRecord, readRecord } from './records.js'

const KEY_OCTETS = 32
/** In the directory of a snapshot that has the memory of its VM. */
export const MEMORY_FILE = 'memory.enc'

/** What is needed to load the memory of a VM, beside its home. */
const SnapshotMemory = Exactly({
  /** Of `memory.enc`, which has its own integrity. */
  octets: Type.Integer({ minimum: 0 }),
  ...MachineShape.properties,
})
export type SnapshotMemory = Static<typeof SnapshotMemory>

export const SnapshotRecord = Exactly({
  format: Type.Literal(1),
  snapshotId: Uuid,
  vmId: Uuid,
  name: Name,
  description: Type.Optional(Sentence),
  createdAt: Time,
  /** Of the home key; 0 of a VM that is plain. */
  generation: Type.Integer({ minimum: 0 }),
  parts: Type.Array(
    Exactly({
      file: Type.String({
        pattern:
          '^(vm\\.json|home\\.(enc|json)|nvram\\.(fd|luks)|vtpm/tpm2-00\\.permall|' +
          'vtpm/certs/[a-z-]{1,20}\\.pem|disk-[a-z0-9._-]{1,58}\\.(luks|raw))$',
      }),
      octets: Type.Integer({ minimum: 0 }),
      /** Not of disks: to read them takes long, and a volume has no integrity while it is used either. */
      sha256: Type.Optional(HexDigest),
    }),
    { maxItems: 64 },
  ),
  /** Of a VM that ran. Without its memory, the disks are as after a power cut. */
  running: Type.Optional(Type.Literal(true)),
  memory: Type.Optional(SnapshotMemory),
})
export type SnapshotRecord = Static<typeof SnapshotRecord>

/** `snapshots/<id>/snapshot.json` */
export const SealedSnapshot = Exactly({
  snapshot: SnapshotRecord,
  /** HMAC-SHA-256 of the canonical JSON text; absent of a VM that is plain. */
  mac: Type.Optional(Type.String({ pattern: '^[0-9a-f]{64}$' })),
})
export type SealedSnapshot = Static<typeof SealedSnapshot>

/** @param homeKey undefined of a VM that is plain: it has nothing to be authenticated with */
export function sealSnapshot(snapshot: SnapshotRecord, homeKey: Secret | undefined): string {
  const mac = homeKey ? { mac: toHex(macOf(snapshot, homeKey)) } : {}
  return encodeRecord({ snapshot, ...mac })
}

/** What a record says, before it can be known whether it is true. @throws PlatformError `VM_DESCRIPTOR_CORRUPT` */
export function readSnapshot(path: string): Promise<SealedSnapshot> {
  return readRecord(path, SealedSnapshot, 'snapshot.json')
}

/** @throws PlatformError `VM_SNAPSHOT_CORRUPT` for a record that was not written with this home key */
export function verifySnapshot(
  { snapshot, mac }: SealedSnapshot,
  homeKey: Secret | undefined,
): void {
  const isTrue = homeKey
    ? mac !== undefined && timingSafeEqual(macOf(snapshot, homeKey), fromHex(mac))
    : mac === undefined
  if (isTrue) return
  throw new PlatformError(
    'VM_SNAPSHOT_CORRUPT',
    `the record of snapshot ${snapshot.name} was not written with the home key of its VM`,
  )
}

function macOf(snapshot: SnapshotRecord, homeKey: Secret): Uint8Array {
  const { vmId, snapshotId } = snapshot
  const info = utf8(`sigillo snapshot v1 ${vmId} ${snapshotId}`)
  using key = new Secret(
    homeKey.use(
      (octets) => new Uint8Array(hkdfSync('sha256', octets, new Uint8Array(), info, KEY_OCTETS)),
    ),
  )
  const text = utf8(canonicalJson(snapshot as CanonicalValue))
  return key.use((octets) => createHmac('sha256', octets).update(text).digest())
}
