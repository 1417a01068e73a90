import { toHex } from '../core/bytes.js'
import type { HashName } from '../tpm/algorithms.js'
import type { Digest } from './digests.js'
import type { Identifier } from './identifier.js'
import type { Corim, Environment, Measurement, ReferenceValue } from './manifest.js'

export interface PcrReferenceValues {
  readonly bank: HashName
  /** Digests, in hexadecimal, that the manifest accepts for each PCR. Says nothing of which belong together. */
  readonly pcrs: ReadonlyMap<number, readonly string[]>
  /** The states behind that: a machine is in one of them with all its PCRs. */
  readonly states: readonly PcrState[]
  /** Measurements that are not among them and why, a sentence each; the last says how many are not named. */
  readonly unused: readonly string[]
}

export interface PcrState {
  /** What the state is of, in words of the manifest. */
  readonly environment: string
  readonly pcrs: ReadonlyMap<number, string>
}

const MAX_PCR = 23
const MAX_SENTENCES = 100
const MAX_ENVIRONMENT_CHARACTERS = 200

/**
 * The reference values of a manifest that PCRs of a bank can be compared with.
 *
 * A PCR is a measurement whose key is an unsigned integer, or an integrity register of an integer. A measurement that
 * demands more than digests (a security version, flags, a raw value, an authority) is not used, since no quote could
 * meet it; a name and a version only describe. Where one reference value has two digests for one PCR, none can meet
 * both: it is not used at all.
 *
 * **Does not check** that an environment is a machine of the caller's: each is a state in its own right.
 *
 * @see draft-ietf-rats-corim-11, sections "Integrity Registers" and "Reference Values Triple"
 */
export function pcrReferenceValues(
  { referenceValues }: Corim,
  { bank }: { readonly bank: HashName },
): PcrReferenceValues {
  const read = referenceValues.map((value, index) => readState(value, index, bank))
  const states = read.flatMap(({ state }) => (state && state.pcrs.size > 0 ? [state] : []))
  const pcrs = new Map<number, Set<string>>()
  for (const state of states) {
    for (const [pcr, digest] of state.pcrs) {
      pcrs.set(pcr, (pcrs.get(pcr) ?? new Set()).add(digest))
    }
  }
  return {
    bank,
    pcrs: new Map([...pcrs].sort(([a], [b]) => a - b).map(([pcr, all]) => [pcr, [...all]])),
    states,
    unused: shorten(read.flatMap(({ unused }) => unused)),
  }
}

function shorten(sentences: readonly string[]): readonly string[] {
  const more = sentences.length - MAX_SENTENCES
  return more > 0 ? [...sentences.slice(0, MAX_SENTENCES), `and ${more} more`] : sentences
}

interface ReadState {
  readonly state?: PcrState
  readonly unused: readonly string[]
}

function readState(value: ReferenceValue, index: number, bank: HashName): ReadState {
  const environment = describeEnvironment(value.environment)
  const where = `reference value ${index} (${environment})`
  const unused: string[] = []
  const pcrs = new Map<number, string>()
  for (const [position, measurement] of value.measurements.entries()) {
    for (const part of partsOf(measurement)) {
      const read = typeof part === 'string' ? part : pcrOf(part, bank)
      if (typeof read === 'string') {
        unused.push(`${where}, measurement ${position}: ${read}`)
      } else if ((pcrs.get(read.pcr) ?? read.digest) === read.digest) {
        pcrs.set(read.pcr, read.digest)
      } else {
        return { unused: [`${where}: two digests for PCR ${read.pcr}, which cannot both be met`] }
      }
    }
  }
  return { state: { environment, pcrs }, unused }
}

interface Part {
  readonly key?: number | string | Identifier
  readonly digests: readonly Digest[]
}

/** What of a measurement may be a PCR, or why nothing is. */
function partsOf(measurement: Measurement): readonly (Part | string)[] {
  const { digests, integrityRegisters, svn, flags, others } = measurement
  if (svn || flags || others.length > 0) {
    const demands = [...(svn ? ['svn'] : []), ...(flags ? ['flags'] : []), ...others]
    return [`demands ${demands.join(', ')}, which no quote shows`]
  }
  if (!integrityRegisters) return [measurement]
  if (digests.length > 0) return ['has digests of its own beside those of registers']
  return [...integrityRegisters].map(([key, all]) => ({ key, digests: all }))
}

/** The PCR and digest of a part, or why there is none. */
function pcrOf(
  { key, digests }: Part,
  bank: HashName,
): string | { readonly pcr: number; readonly digest: string } {
  if (key === undefined) return 'has no key'
  if (typeof key !== 'number') return `${describeKey(key)} is not the index of a PCR`
  if (key > MAX_PCR) return `there is no PCR ${key}`
  if (digests.length === 0) return `has no digest for PCR ${key}`
  const digest = digests.find(({ hash }) => hash === bank)
  if (!digest) return `has no ${bank} digest for PCR ${key}`
  return { pcr: key, digest: toHex(digest.value) }
}

function describeKey(key: string | Identifier): string {
  return typeof key === 'string' ? `register ${JSON.stringify(key)}` : `${key.kind} ${key.text}`
}

function describeEnvironment(environment: Environment): string {
  const { vendor, model, classId, layer, index, instance, group } = environment
  const parts = [
    vendor,
    model,
    classId && describeKey(classId),
    layer === undefined ? undefined : `layer ${layer}`,
    index === undefined ? undefined : `index ${index}`,
    instance && `instance ${describeKey(instance)}`,
    group && `group ${describeKey(group)}`,
  ]
  const text = parts.filter((part) => part !== undefined).join(', ')
  return text.slice(0, MAX_ENVIRONMENT_CHARACTERS)
}
