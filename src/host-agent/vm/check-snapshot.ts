import { PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import type { Descriptor } from './records.js'
import { type SealedSnapshot, type SnapshotRecord, verifySnapshot } from './snapshot-record.js'
import { isCertificateFile, snapshotParts } from './vm-files.js'

/**
 * Whether a record is one of a snapshot of this VM, made under the keys that it has, with all of the parts that it has. Does not
 * look at the parts.
 *
 * @param generation of the home key
 * @throws PlatformError `VM_SNAPSHOT_CORRUPT`
 */
export function checkSnapshot(
  sealed: SealedSnapshot,
  descriptor: Descriptor,
  generation: number,
  homeKey: Secret | undefined,
): void {
  verifySnapshot(sealed, homeKey)
  const { snapshot } = sealed
  if (
    snapshot.vmId === descriptor.vmId &&
    snapshot.generation === generation &&
    isWhole(snapshot, descriptor)
  ) {
    return
  }
  throw new PlatformError(
    'VM_SNAPSHOT_CORRUPT',
    `snapshot ${snapshot.name} is not one of VM ${descriptor.vmId} with the parts and keys that it has`,
  )
}

function isWhole({ parts }: SnapshotRecord, descriptor: Descriptor): boolean {
  const files = parts.map(({ file }) => file)
  // a VM may have snapshots of before its firmware variables were encrypted: which they are, their own descriptor says
  const { nvram: _, ...then } = descriptor
  return [then, { ...then, nvram: 'encrypted' } as const].some((each) => {
    const required = snapshotParts(each)
    return (
      required.every((file) => files.includes(file)) &&
      files.every((file) => required.includes(file) || isCertificateFile(file)) &&
      new Set(files).size === files.length
    )
  })
}
