import { creationAttributes, useAttributes } from '../../key-servers/index.js'
import type {
  KeyServerKeys,
  Keystore,
  NewVersion,
  StoredProvider,
  StoredVersion,
  TpmKeys,
} from '../ports.js'
import { PRIMARY_KEY_OCTETS } from './primaries.js'

export interface NewKey {
  readonly version: NewVersion
  /** Attributes that the key server did not take. */
  readonly refusedAttributes: readonly string[]
}

export type PrimaryKeyMaker = ReturnType<typeof primaryKeyMaker>

/** Makes versions of primary keys where the provider has them. */
export function primaryKeyMaker(deps: {
  readonly keystore: Keystore
  readonly keyServers: KeyServerKeys
  readonly tpmKeys: TpmKeys
  readonly random: (octets: number) => Uint8Array
  readonly productVersion: string
}) {
  const { keystore, keyServers, tpmKeys } = deps

  const make = async (
    { providerId, name, backend }: Owner,
    { version, state, nowMs }: Wanted,
  ): Promise<NewKey> => {
    const id = { version, createdAtMs: nowMs }
    const created = creationAttributes(deps.productVersion)
    const attributes = { ...created, ...(state === 'active' ? usedBy({ providerId, name }) : {}) }
    if (backend.kind === 'kmip') {
      const provider = { providerId, backend }
      const { sealed } = await keyServers.make(provider, id)
      const refusedAttributes = await keyServers.describe(provider, { ...id, sealed }, attributes)
      return { version: { ...id, state, sealed, attributes }, refusedAttributes }
    }
    const octets = deps.random(PRIMARY_KEY_OCTETS)
    try {
      const sealed =
        backend.kind === 'tpm'
          ? await tpmKeys.seal({ providerId, ...id }, backend.pcrs, octets)
          : keystore.seal({ providerId, ...id }, octets)
      return { version: { ...id, state, sealed, attributes }, refusedAttributes: [] }
    } finally {
      octets.fill(0)
    }
  }

  return {
    /**
     * Makes a version and lets `store` store it. Where that fails, the key that was made in a key server is destroyed
     * there: nothing was wrapped with it.
     */
    async withNew<R>(
      owner: Owner,
      wanted: Wanted,
      store: (made: NewKey) => Promise<R>,
    ): Promise<R> {
      const made = await make(owner, wanted)
      try {
        return await store(made)
      } catch (error) {
        const { providerId, backend } = owner
        if (backend.kind === 'kmip') await keyServers.discard({ providerId, backend }, made.version)
        throw error
      }
    },

    /** Names the provider in the attributes of a version that comes into use; returns what the key server refused. */
    async nameUse(
      { providerId, name, backend }: Owner,
      version: StoredVersion,
    ): Promise<{
      readonly attributes: NewVersion['attributes']
      readonly refused: readonly string[]
    }> {
      const attributes = {
        ...creationAttributes(deps.productVersion),
        ...version.attributes,
        ...usedBy({ providerId, name }),
      }
      if (backend.kind !== 'kmip') return { attributes, refused: [] }
      const refused = await keyServers.describe({ providerId, backend }, version, attributes)
      return { attributes, refused }
    },
  }
}

type Owner = Pick<StoredProvider, 'providerId' | 'name' | 'backend'>

interface Wanted {
  readonly version: number
  readonly state: 'active' | 'pre-active'
  readonly nowMs: number
}

/** The key is in use as long as it is active. */
function usedBy({ providerId, name }: { readonly providerId: string; readonly name: string }) {
  return useAttributes({ component: 'Key Provider', name, identifier: providerId })
}
