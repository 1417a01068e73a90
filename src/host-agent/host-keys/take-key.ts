import { Value } from 'typebox/value'
import { HostKeysContent, takeHostKey } from '../../api/host-keys.js'
import { fromBase64url, parseUtf8 } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { Secret } from '../../core/secret.js'
import type { Tpm } from '../../tpm/index.js'
import type { Authority } from '../adapters/authority.js'
import { openAnswer } from '../adapters/open-answer.js'

/** What a key of a standard provider is for. */
export interface KeyUse {
  readonly kind: 'vm' | 'host'
  /** Id of the VM; hardware UUID of the host. */
  readonly id: string
}

/** A key as the control plane gave it. The secret belongs to the caller. */
export interface TakenKey {
  readonly providerId: string
  readonly version: number
  readonly secret: Secret
}

export type KeyTaker = (provider: string, use: KeyUse) => Promise<TakenKey>

/** Asks the control plane for a key of a standard provider: a new one for a VM, the same one again for the host. */
export function createKeyTaker(authority: Authority, tpm: () => Promise<Tpm>): KeyTaker {
  return async (provider, use) => {
    const session = await authority.session()
    const answer = await authority.call(takeHostKey, { body: { provider, use: { ...use } } })
    const { providerId, version } = answer
    const plaintext = await openAnswer(answer.sealed, session, answer.assurance, tpm)
    try {
      const { keys } = Value.Parse(HostKeysContent, JSON.parse(parseUtf8(plaintext)))
      const found = keys.find((one) => one.provider === providerId && one.version === version)
      if (!found) throw new PlatformError('AGENT_ANSWER', `expected key ${version}, found none`)
      return { providerId, version, secret: new Secret(fromBase64url(found.key)) }
    } finally {
      plaintext.fill(0)
    }
  }
}
