import type { Static } from 'typebox'
import { PlatformError, unreachable } from '../core/errors.js'
import { readSecretFile } from '../core/secret-file.js'
import { passphraseSealer } from '../seals/index.js'
import type { Sealer } from '../store/index.js'
import type { SealSection } from './seal-config.js'

export type ConfiguredKind = Static<typeof SealSection>['automatic'][number]

/** Gives the sealer that the settings describe for a kind; nothing is opened or read before it is used. */
export function configuredSealers(
  config: Static<typeof SealSection>,
): (kind: ConfiguredKind) => Sealer {
  return (kind) => {
    switch (kind) {
      case 'passphrase':
        return passphraseFileSealer(config.passphraseFile)
      case 'tpm':
      case 'kmip':
        throw new PlatformError('SEAL_SETTINGS', `seals of kind ${kind} are not there yet`)
      default:
        return unreachable(kind)
    }
  }
}

/** Reads the file each time, so that a passphrase is in memory no longer than it is needed. */
function passphraseFileSealer(file: string): Sealer {
  return {
    kind: 'passphrase',
    guesses: true,
    async newKey() {
      using passphrase = readSecretFile(file)
      return await passphraseSealer(passphrase).newKey()
    },
    async keyOf(parameters) {
      using passphrase = readSecretFile(file)
      return await passphraseSealer(passphrase).keyOf(parameters)
    },
  }
}
