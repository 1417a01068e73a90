import { isPlatformError } from '../core/errors.js'
import { shareSetOf } from '../seals/index.js'
import { parametersOf, type StoredSeal } from '../store/index.js'

/** What a person can tell a seal by. */
export function describeSeal(seal: StoredSeal): string {
  try {
    const { kind: _, rootKey: __, generation: ___, ...own } = parametersOf(seal)
    switch (seal.kind) {
      case 'shares': {
        const { setId, threshold, count } = shareSetOf(own)
        return `set ${setId}, ${threshold} of ${count}`
      }
      case 'tpm':
        return `PCRs ${String(own['pcrs'])} (sha256)`
      case 'kmip':
        return `key ${String(own['keyId'])}`
      default:
        return ''
    }
  } catch (error) {
    if (!isPlatformError(error)) throw error
    return `cannot be read (${error.code})`
  }
}

/** The parameters of a kind alone, without those that all kinds have. */
export function ownParametersOf(seal: StoredSeal): Readonly<Record<string, unknown>> {
  const { kind: _, rootKey: __, generation: ___, ...own } = parametersOf(seal)
  return own
}
