import { TAG } from './tags.js'
import { integer, type Structure, structure, type Ttlv, valueAt } from './ttlv.js'

export interface ProtocolVersion {
  readonly major: number
  readonly minor: number
}

/** The versions that we speak, best first. */
export const VERSIONS: readonly ProtocolVersion[] = [
  { major: 2, minor: 1 },
  { major: 2, minor: 0 },
  { major: 1, minor: 4 },
  { major: 1, minor: 3 },
  { major: 1, minor: 2 },
  { major: 1, minor: 1 },
  { major: 1, minor: 0 },
]

/** `2.1` */
export function versionText(version: ProtocolVersion): string {
  return `${version.major}.${version.minor}`
}

/** Below zero when `a` is the earlier version, zero when they are the same. */
export function compareVersions(a: ProtocolVersion, b: ProtocolVersion): number {
  return a.major - b.major || a.minor - b.minor
}

/** @see KMIP 2.1 Specification, clause 9.13 */
export function versionToTtlv(version: ProtocolVersion): Structure {
  return structure(TAG.ProtocolVersion, [
    integer(TAG.ProtocolVersionMajor, version.major),
    integer(TAG.ProtocolVersionMinor, version.minor),
  ])
}

/** Throws `KMIP_MESSAGE` when a number is missing, twice or no integer. */
export function versionFromTtlv(item: Ttlv): ProtocolVersion {
  return {
    major: valueAt(item, TAG.ProtocolVersionMajor, 'Integer'),
    minor: valueAt(item, TAG.ProtocolVersionMinor, 'Integer'),
  }
}
