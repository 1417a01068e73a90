import { toHex } from '../core/bytes.js'
import { type Finding, failed, passed } from '../core/finding.js'

/** What a good host measures: PCR values by index, in one bank. */
export interface ReferenceValues {
  readonly name: string
  readonly bank: string
  /** Accepted digests of each PCR, in hexadecimal. */
  readonly pcrs: ReadonlyMap<number, readonly string[]>
  /** Not accepted before or after these moments, milliseconds. */
  readonly notBeforeMs?: number
  readonly notAfterMs?: number
}

export interface ReferenceMatch {
  readonly findings: readonly Finding[]
  /** The base image that all pinned PCRs agree with. */
  readonly matched?: string
  /** The base image that the findings of a mismatch compare with: the one with the fewest differences. */
  readonly nearest?: string
}

/**
 * Compares quoted PCR values with the base images of a cluster.
 *
 * One image must agree in every pinned PCR: values of two images never add up to a match. A pinned PCR that an image
 * has no value for is a difference.
 */
export function matchBaseImage(
  images: readonly ReferenceValues[],
  input: {
    readonly bank: string
    readonly pinnedPcrs: readonly number[]
    readonly pcrValues: ReadonlyMap<number, Uint8Array>
    readonly nowMs: number
  },
): ReferenceMatch {
  if (input.pinnedPcrs.length === 0) {
    return { findings: [passed('base-image', 'not needed: the policy pins no PCR')] }
  }
  const candidates = images
    .filter((image) => image.bank === input.bank && isValid(image, input.nowMs))
    .map((image) => ({ image, findings: compareWith(image, input.pinnedPcrs, input.pcrValues) }))
  const [nearest] = candidates.sort((a, b) => a.findings.length - b.findings.length)
  if (!nearest) {
    const finding = failed(
      'base-image',
      'BASE_IMAGE_NONE',
      `a base image of the cluster in bank ${input.bank} that is valid now`,
      'none',
    )
    return { findings: [finding] }
  }
  const { name } = nearest.image
  if (nearest.findings.length === 0) {
    return { findings: [passed('base-image', name)], matched: name, nearest: name }
  }
  return { findings: nearest.findings, nearest: name }
}

function isValid({ notBeforeMs, notAfterMs }: ReferenceValues, nowMs: number): boolean {
  return (notBeforeMs ?? nowMs) <= nowMs && nowMs <= (notAfterMs ?? nowMs)
}

function compareWith(
  image: ReferenceValues,
  pinnedPcrs: readonly number[],
  values: ReadonlyMap<number, Uint8Array>,
): readonly Finding[] {
  return pinnedPcrs.flatMap((pcr) => {
    const expected = image.pcrs.get(pcr)
    const value = values.get(pcr)
    const found = value && toHex(value)
    if (expected !== undefined && found !== undefined && expected.includes(found)) return []
    return [
      failed(
        'base-image',
        'BASE_IMAGE_PCR',
        `${expected?.join(' or ') ?? 'no value'} (base image ${image.name})`,
        found ?? 'no value',
        { pcr },
      ),
    ]
  })
}
