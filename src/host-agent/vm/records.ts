import { type Static, type TSchema, Type } from 'typebox'
import { Exactly, HexDigest, Name, Time, Uuid } from '../../api/common.js'
import { Purpose, WrappedKey } from '../../api/key-provider.js'
import { parseUtf8 } from '../../core/bytes.js'
import type { ErrorCode } from '../../core/error-codes.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { misfitOf } from '../../core/schema-errors.js'
import { parseStrictJson } from '../../core/strict-json.js'
import { readPrivateFile } from './files.js'

/** Largest record that is read. */
const MAX_RECORD_OCTETS = 256 * 1024

const Generation = Type.Integer({ minimum: 1 })
const Octets = Type.Integer({ minimum: 1 })

/** `vm.json`: what may be known of a VM without its keys. */
export const Descriptor = Exactly({
  format: Type.Literal(1),
  vmId: Uuid,
  name: Name,
  /** Absent: the home is plain, and with it all of the VM. */
  provider: Type.Optional(Name),
  createdAt: Time,
  vtpm: Type.Boolean(),
  /** Absent: the variables of the firmware are plain, as the home is, or as agents before left them. */
  nvram: Type.Optional(Type.Literal('encrypted')),
  disks: Type.Array(
    Exactly({ name: Name, sizeOctets: Octets, plain: Type.Optional(Type.Literal(true)) }),
    { maxItems: 16 },
  ),
})
export type Descriptor = Static<typeof Descriptor>

export const KeyRecord = Exactly({
  object: Type.String({ pattern: '^(home|vtpm|vtpm-migration|disk-[a-z0-9._-]{1,58})$' }),
  purpose: Purpose,
  provider: Name,
  wrapped: WrappedKey,
  generation: Generation,
})
export type KeyRecord = Static<typeof KeyRecord>

/** `keys.json` */
export const KeyRecords = Exactly({
  format: Type.Literal(1),
  keys: Type.Array(KeyRecord, { maxItems: 64 }),
})

/** The plaintext of `home.enc`, or `home.json`: all that a start needs. A disk without a volume id is plain. */
export const Home = Exactly({
  name: Name,
  provider: Type.Optional(Name),
  memoryMib: Type.Integer({ minimum: 1 }),
  cpus: Type.Integer({ minimum: 1 }),
  vtpm: Type.Boolean(),
  /** The volume with the variables of the firmware, where they are encrypted. */
  nvram: Type.Optional(Exactly({ sizeOctets: Octets, volumeId: Uuid })),
  disks: Type.Array(Exactly({ name: Name, sizeOctets: Octets, volumeId: Type.Optional(Uuid) }), {
    maxItems: 16,
  }),
})
export type Home = Static<typeof Home>

/** What may be known of a VM with this home. */
export function descriptorOf(
  home: Home,
  { vmId, createdAt }: Pick<Descriptor, 'vmId' | 'createdAt'>,
): Descriptor {
  const { name, provider, vtpm, nvram, disks } = home
  return {
    ...{ format: 1, vmId, name, createdAt, vtpm },
    ...(provider === undefined ? {} : { provider }),
    ...(nvram ? { nvram: 'encrypted' } : {}),
    disks: disks.map(({ name, sizeOctets, volumeId }) => ({
      ...{ name, sizeOctets },
      ...(volumeId === undefined ? { plain: true } : {}),
    })),
  }
}

/**
 * `vtpm.json`: `digest` is of the state when the VM last stopped. It binds while `state` is `stopped`; a VM that was
 * running when its host or agent crashed has a newer state that nobody recorded.
 */
export const VtpmRecord = Exactly({
  format: Type.Literal(1),
  state: Type.Union([Type.Literal('stopped'), Type.Literal('running')]),
  generation: Generation,
  digest: HexDigest,
})
export type VtpmRecord = Static<typeof VtpmRecord>

/** `exported.json` */
export const ExportedMark = Exactly({
  format: Type.Literal(1),
  exportId: Uuid,
  exportedAt: Time,
})
export type ExportedMark = Static<typeof ExportedMark>

/** `brought.json`: by which export a VM came from another host, and for which task. */
export const BroughtMark = Exactly({
  format: Type.Literal(1),
  exportId: Uuid,
  taskId: Type.Optional(Uuid),
})
export type BroughtMark = Static<typeof BroughtMark>

export const ProcessIdentity = Exactly({
  pid: Type.Integer({ minimum: 2 }),
  startTicks: Type.String({ pattern: '^[0-9]{1,20}$' }),
  bootId: Uuid,
})
export type ProcessIdentity = Static<typeof ProcessIdentity>

export const Accelerator = Type.Union([Type.Literal('kvm'), Type.Literal('tcg')])
export type Accelerator = Static<typeof Accelerator>

/** `run/run.json`: programs of a VM that runs. It is written last: without it a start was not finished. */
export const RunRecord = Exactly({
  format: Type.Literal(1),
  accelerator: Accelerator,
  qemu: ProcessIdentity,
  swtpm: Type.Optional(ProcessIdentity),
  /** The snapshot from whose memory it went on, if it did. */
  resumedFrom: Type.Optional(Uuid),
})
export type RunRecord = Static<typeof RunRecord>

/** @throws PlatformError `VM_DESCRIPTOR_CORRUPT`, also when there is no such file */
export async function readRecord<S extends TSchema>(
  path: string,
  schema: S,
  what: string,
): Promise<Static<S>> {
  const octets = await readPrivateFile(path, MAX_RECORD_OCTETS).catch((cause) => {
    throw new PlatformError('VM_DESCRIPTOR_CORRUPT', `${what}: ${messageOf(cause)}`, { cause })
  })
  if (!octets) throw new PlatformError('VM_DESCRIPTOR_CORRUPT', `${what} is not there`)
  return parseRecord(schema, octets, 'VM_DESCRIPTOR_CORRUPT', what)
}

/** @throws PlatformError with `code` on anything but JSON text of the schema */
export function parseRecord<S extends TSchema>(
  schema: S,
  octets: Uint8Array,
  code: ErrorCode,
  what: string,
): Static<S> {
  let value: unknown
  try {
    value = parseStrictJson(parseUtf8(octets), { maxDepth: 8, maxItems: 10_000 })
  } catch (cause) {
    throw new PlatformError(code, `${what} is not JSON text`, { cause })
  }
  const misfit = misfitOf(schema, value)
  if (misfit !== undefined) throw new PlatformError(code, `${what}${misfit}`)
  return value as Static<S>
}

export function encodeRecord(record: unknown): string {
  return `${JSON.stringify(record, undefined, 2)}\n`
}
