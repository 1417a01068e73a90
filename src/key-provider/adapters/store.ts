import { type Kysely, sql, type Transaction } from 'kysely'
import { ProviderSettings, TpmPcrs } from '../../api/key-provider.js'
import { KeyAttributesView } from '../../api/key-servers.js'
import { canonicalJson } from '../../core/canonical-json.js'
import { PlatformError } from '../../core/errors.js'
import type { KeyPlace } from '../../key-servers/index.js'
import {
  appendAudit,
  type FoundationTables,
  isTokenRevoked,
  isUniqueViolation,
  jsonColumn,
  keptQuery,
  type Parameters,
  readHostStatus,
  readHostStatuses,
  recordOnce,
  type Store,
} from '../../store/index.js'
import type { KeyState } from '../domain/key-state.js'
import type {
  KeyProviderStore,
  KeyProviderTransaction,
  NewVersion,
  Reference,
  StoredBackend,
  StoredProvider,
} from '../ports.js'

interface KeyProviderTables {
  key_provider_providers: {
    provider_id: string
    name: string
    settings: string
    created_at_ms: number
    key_place: KeyPlace | null
    key_servers: string | null
    key_servers_sealed: Uint8Array | null
    /** JSON. */
    tpm_pcrs: string | null
  }
  key_provider_versions: {
    provider_id: string
    version: number
    state: KeyState
    created_at_ms: number
    changed_at_ms: number | null
    sealed: Uint8Array
    /** Canonical JSON. */
    attributes: string | null
    destroy_at_ms: number | null
  }
  key_references: {
    provider_id: string
    dek_id: string
    version: number
  }
}

type Tx = Transaction<KeyProviderTables & FoundationTables>

const readSettings = jsonColumn(ProviderSettings)
const readPcrs = jsonColumn(TpmPcrs)
const readAttributes = jsonColumn(KeyAttributesView)

const selectProvider = keptQuery(
  (db: Kysely<KeyProviderTables>, parameter: Parameters<{ readonly name: string }>) =>
    db.selectFrom('key_provider_providers').selectAll().where('name', '=', parameter('name')),
)

const selectVersions = keptQuery(
  (db: Kysely<KeyProviderTables>, parameter: Parameters<{ readonly providerId: string }>) =>
    db
      .selectFrom('key_provider_versions')
      .selectAll()
      .where('provider_id', '=', parameter('providerId'))
      .orderBy('version'),
)

/** The name of the service's audit chain. */
export const AUDIT_CHAIN = 'key-provider'

export function keyProviderStore(store: Store): KeyProviderStore {
  return {
    transaction: (work) => store.transaction((tx: Tx) => work(transactionOf(tx))),
  }
}

function transactionOf(tx: Tx): KeyProviderTransaction {
  const load = async (
    row: KeyProviderTables['key_provider_providers'],
  ): Promise<StoredProvider> => {
    const { rows: versions } = await selectVersions(tx, { providerId: row.provider_id })
    return {
      providerId: row.provider_id,
      name: row.name,
      settings: readSettings(row.settings),
      backend: backendOf(row),
      createdAtMs: row.created_at_ms,
      versions: versions.map((version) => ({
        version: version.version,
        state: version.state,
        createdAtMs: version.created_at_ms,
        ...(version.changed_at_ms === null ? {} : { changedAtMs: version.changed_at_ms }),
        sealed: new Uint8Array(version.sealed),
        ...(version.destroy_at_ms === null ? {} : { destroyAtMs: version.destroy_at_ms }),
        ...(version.attributes === null ? {} : { attributes: readAttributes(version.attributes) }),
      })),
    }
  }

  const insertVersion = async (providerId: string, version: NewVersion): Promise<void> => {
    await tx
      .insertInto('key_provider_versions')
      .values({
        provider_id: providerId,
        version: version.version,
        state: version.state,
        created_at_ms: version.createdAtMs,
        sealed: version.sealed,
        attributes: canonicalJson({ ...version.attributes }),
      })
      .execute()
  }

  return {
    async listProviders() {
      const rows = await tx
        .selectFrom('key_provider_providers')
        .selectAll()
        .orderBy('name')
        .execute()
      const providers: StoredProvider[] = []
      for (const row of rows) providers.push(await load(row))
      return providers
    },

    async findProvider(name) {
      const [row] = (await selectProvider(tx, { name })).rows
      return row && load(row)
    },

    async insertProvider(provider) {
      try {
        await tx
          .insertInto('key_provider_providers')
          .values({
            provider_id: provider.providerId,
            name: provider.name,
            settings: JSON.stringify(provider.settings),
            created_at_ms: provider.createdAtMs,
            ...backendColumns(provider.backend),
          })
          .execute()
      } catch (error) {
        if (!isUniqueViolation(error)) throw error
        const message = `expected a new name, found key provider ${provider.name}`
        throw new PlatformError('CONFLICT', message)
      }
      await insertVersion(provider.providerId, provider.firstVersion)
    },

    async setSettings(providerId, settings) {
      await tx
        .updateTable('key_provider_providers')
        .set({ settings: JSON.stringify(settings) })
        .where('provider_id', '=', providerId)
        .execute()
    },

    async setKeyServers(providerId, servers) {
      await tx
        .updateTable('key_provider_providers')
        .set({ key_servers: servers.settings, key_servers_sealed: servers.sealed })
        .where('provider_id', '=', providerId)
        .execute()
    },

    async setTpmBinding(providerId, pcrs, versions) {
      await tx
        .updateTable('key_provider_providers')
        .set({ tpm_pcrs: JSON.stringify(pcrs) })
        .where('provider_id', '=', providerId)
        .execute()
      for (const { version, sealed } of versions) {
        await tx
          .updateTable('key_provider_versions')
          .set({ sealed })
          .where('provider_id', '=', providerId)
          .where('version', '=', version)
          .execute()
      }
    },

    addVersion: insertVersion,

    async setAttributes(providerId, version, attributes) {
      await tx
        .updateTable('key_provider_versions')
        .set({ attributes: canonicalJson({ ...attributes }) })
        .where('provider_id', '=', providerId)
        .where('version', '=', version)
        .execute()
    },

    async setVersionState(providerId, version, state, atMs) {
      await tx
        .updateTable('key_provider_versions')
        .set({ state, changed_at_ms: atMs })
        .where('provider_id', '=', providerId)
        .where('version', '=', version)
        .execute()
    },

    async setDestruction(providerId, version, atMs) {
      await tx
        .updateTable('key_provider_versions')
        .set({ destroy_at_ms: atMs ?? null })
        .where('provider_id', '=', providerId)
        .where('version', '=', version)
        .execute()
    },

    async eraseKey(providerId, version) {
      await tx
        .updateTable('key_provider_versions')
        .set({ sealed: new Uint8Array() })
        .where('provider_id', '=', providerId)
        .where('version', '=', version)
        .execute()
      await tx
        .deleteFrom('key_references')
        .where('provider_id', '=', providerId)
        .where('version', '=', version)
        .execute()
    },

    async addReferences(providerId, references) {
      for (const [version, dekIds] of byVersion(references)) {
        await sql`
          insert or ignore into key_references (provider_id, version, dek_id)
          select ${providerId}, ${version}, value from json_each(${dekIds})
        `.execute(tx)
      }
    },

    async removeReferences(providerId, references) {
      for (const [version, dekIds] of byVersion(references)) {
        await sql`
          delete from key_references where provider_id = ${providerId} and version = ${version}
          and dek_id in (select value from json_each(${dekIds}))
        `.execute(tx)
      }
    },

    async countReferences(providerId) {
      const rows = await tx
        .selectFrom('key_references')
        .select(['version', (build) => build.fn.countAll<number>().as('count')])
        .where('provider_id', '=', providerId)
        .groupBy('version')
        .execute()
      return new Map(rows.map(({ version, count }) => [version, count]))
    },

    readHostStatus: (issuer, hostId) => readHostStatus(tx, issuer, hostId),

    listHostStatuses: (hostId) => readHostStatuses(tx, hostId),

    isTokenRevoked: (tokenId) => isTokenRevoked(tx, tokenId),

    useProof: (thumbprint, id, expiresAtMs) =>
      recordOnce(tx, 'dpop', `${thumbprint}.${id}`, expiresAtMs),

    async audit(entry) {
      await appendAudit(tx, { chain: AUDIT_CHAIN, ...entry })
    },
  }
}

/** JSON of the identifiers of each version: one parameter for a whole batch, nothing is built or bound for each key. */
function byVersion(references: readonly Reference[]): ReadonlyMap<number, string> {
  const dekIds = new Map<number, string[]>()
  for (const { version, dekId } of references) {
    const known = dekIds.get(version)
    if (known) known.push(dekId)
    else dekIds.set(version, [dekId])
  }
  return new Map([...dekIds].map(([version, ids]) => [version, JSON.stringify(ids)]))
}

function backendOf(row: KeyProviderTables['key_provider_providers']): StoredBackend {
  if (row.tpm_pcrs !== null) return { kind: 'tpm', pcrs: readPcrs(row.tpm_pcrs) }
  const { key_place: place, key_servers: settings, key_servers_sealed: sealed } = row
  if (place === null || settings === null || sealed === null) return { kind: 'embedded' }
  return { kind: 'kmip', place, servers: { settings, sealed: new Uint8Array(sealed) } }
}

function backendColumns(backend: StoredBackend) {
  if (backend.kind === 'embedded') return {}
  if (backend.kind === 'tpm') return { tpm_pcrs: JSON.stringify(backend.pcrs) }
  const { place, servers } = backend
  return { key_place: place, key_servers: servers.settings, key_servers_sealed: servers.sealed }
}
