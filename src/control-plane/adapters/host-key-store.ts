import type { Selectable, Transaction } from 'kysely'
import { PlatformError } from '../../core/errors.js'
import { type FoundationTables, isUniqueViolation, readHostStatuses } from '../../store/index.js'
import type {
  HostKeyTransaction,
  StoredDefaultProvider,
  StoredHostKey,
  StoredKeyProvider,
} from '../host-key-ports.js'
import { type DeliveryTables, deliveryTransaction } from './delivery-store.js'

export interface HostKeyTables extends DeliveryTables {
  control_plane_key_providers: {
    provider_id: string
    name: string
    kind: StoredKeyProvider['kind']
    tpm_required: number
    state: StoredKeyProvider['state']
    created_at_ms: number
    backup_max_age_days: number | null
    /** `<digest>:<version>` */
    pending_backup: string | null
    backed_up_at_ms: number | null
    warned_at_ms: number | null
    key_servers: string | null
    sealed_key_servers: Uint8Array | null
  }
  control_plane_key_provider_clusters: { provider_id: string; cluster: string }
  control_plane_host_keys: {
    provider_id: string
    version: number
    created_at_ms: number
    usable_at_ms: number | null
    sealed: Uint8Array | null
    key_id: string | null
    cluster: string | null
    use_kind: 'vm' | 'host' | null
    use_id: string | null
    described_at_ms: number | null
  }
  control_plane_default_providers: {
    /** Empty for the site. */
    cluster: string
    provider: string
    set_by: string
    set_at_ms: number
  }
  control_plane_host_key_revision: { id: number; revision: number }
}

const UNDESCRIBED_AT_ONCE = 100
/** What a default of the site has in the place of a cluster. */
const OF_SITE = ''

/** Key providers of hosts and their keys, with the deliveries of these. */
export function hostKeyTransaction<T extends HostKeyTables & FoundationTables>(
  transaction: Transaction<T>,
): HostKeyTransaction {
  const tx = transaction as unknown as Transaction<HostKeyTables & FoundationTables>

  const load = async (
    row: Selectable<HostKeyTables['control_plane_key_providers']>,
  ): Promise<StoredKeyProvider> => {
    const clusters = await tx
      .selectFrom('control_plane_key_provider_clusters')
      .select('cluster')
      .where('provider_id', '=', row.provider_id)
      .orderBy('cluster')
      .execute()
    return storedProvider(
      row,
      clusters.map(({ cluster }) => cluster),
    )
  }

  const setClusters = async (providerId: string, clusters: readonly string[]): Promise<void> => {
    await tx
      .deleteFrom('control_plane_key_provider_clusters')
      .where('provider_id', '=', providerId)
      .execute()
    for (const cluster of clusters) {
      await tx
        .insertInto('control_plane_key_provider_clusters')
        .values({ provider_id: providerId, cluster })
        .execute()
    }
  }

  const keysOf = (providerId: string) =>
    tx.selectFrom('control_plane_host_keys').where('provider_id', '=', providerId)

  return {
    ...deliveryTransaction(tx),

    async listKeyProviders() {
      const rows = await tx
        .selectFrom('control_plane_key_providers')
        .selectAll()
        .orderBy('name')
        .execute()
      const providers: StoredKeyProvider[] = []
      for (const row of rows) providers.push(await load(row))
      return providers
    },

    async findKeyProvider(name) {
      const row = await tx
        .selectFrom('control_plane_key_providers')
        .selectAll()
        .where('name', '=', name)
        .executeTakeFirst()
      return row && load(row)
    },

    async insertKeyProvider(provider) {
      try {
        await tx
          .insertInto('control_plane_key_providers')
          .values({
            provider_id: provider.providerId,
            name: provider.name,
            kind: provider.kind,
            tpm_required: provider.tpmRequired ? 1 : 0,
            state: provider.state,
            created_at_ms: provider.createdAtMs,
            backup_max_age_days: provider.backupMaxAgeDays ?? null,
            pending_backup: null,
            backed_up_at_ms: provider.backedUpAtMs ?? null,
            warned_at_ms: provider.warnedAtMs ?? null,
            key_servers: provider.keyServers?.settings ?? null,
            sealed_key_servers: provider.keyServers?.sealed ?? null,
          })
          .execute()
      } catch (error) {
        if (!isUniqueViolation(error)) throw error
        const expected = `expected a new key provider, found ${provider.name} or its identity here`
        throw new PlatformError('CONFLICT', expected)
      }
      await setClusters(provider.providerId, provider.clusters)
    },

    async updateKeyProvider(providerId, change) {
      const { clusters, keyServers, pendingBackup } = change
      if (clusters) await setClusters(providerId, clusters)
      const columns = {
        ...(change.state === undefined ? {} : { state: change.state }),
        ...(change.backedUpAtMs === undefined ? {} : { backed_up_at_ms: change.backedUpAtMs }),
        ...(change.warnedAtMs === undefined ? {} : { warned_at_ms: change.warnedAtMs }),
        ...('pendingBackup' in change
          ? {
              pending_backup: pendingBackup
                ? `${pendingBackup.digest}:${pendingBackup.version}`
                : null,
            }
          : {}),
        ...(keyServers
          ? { key_servers: keyServers.settings, sealed_key_servers: keyServers.sealed }
          : {}),
      }
      if (Object.keys(columns).length === 0) return
      await tx
        .updateTable('control_plane_key_providers')
        .set(columns)
        .where('provider_id', '=', providerId)
        .execute()
    },

    async removeKeyProvider(providerId) {
      for (const table of [
        'control_plane_key_deliveries',
        'control_plane_host_keys',
        'control_plane_key_provider_clusters',
        'control_plane_key_providers',
      ] as const) {
        await tx.deleteFrom(table).where('provider_id', '=', providerId).execute()
      }
    },

    async listHostKeys(providerId, page) {
      let query = keysOf(providerId).selectAll().orderBy('version')
      if (page) query = query.where('version', '>', page.after)
      if (page?.limit !== undefined) query = query.limit(page.limit)
      return (await query.execute()).map(storedKey)
    },

    async countHostKeys(providerId) {
      const row = await keysOf(providerId)
        .select((row) => row.fn.countAll<number>().as('keys'))
        .executeTakeFirstOrThrow()
      return Number(row.keys)
    },

    async insertHostKey(key) {
      await tx
        .insertInto('control_plane_host_keys')
        .values({
          provider_id: key.providerId,
          version: key.version,
          created_at_ms: key.createdAtMs,
          usable_at_ms: key.usableAtMs ?? null,
          sealed: key.sealed ?? null,
          key_id: key.keyId ?? null,
          cluster: key.cluster ?? null,
          use_kind: key.use?.kind ?? null,
          use_id: key.use?.id ?? null,
          described_at_ms: key.describedAtMs ?? null,
        })
        .execute()
    },

    async findKeyOfHost(providerId, cluster, hardwareId) {
      const row = await keysOf(providerId)
        .selectAll()
        .where('cluster', '=', cluster)
        .where('use_kind', '=', 'host')
        .where('use_id', '=', hardwareId)
        .executeTakeFirst()
      return row && storedKey(row)
    },

    async newestVersion(providerId) {
      const row = await keysOf(providerId)
        .select('version')
        .orderBy('version', 'desc')
        .limit(1)
        .executeTakeFirst()
      return row?.version ?? 0
    },

    async listUndescribedKeys() {
      const rows = await tx
        .selectFrom('control_plane_host_keys')
        .selectAll()
        .where('use_kind', '=', 'vm')
        .where('described_at_ms', 'is', null)
        .limit(UNDESCRIBED_AT_ONCE)
        .execute()
      return rows.map(storedKey)
    },

    async markDescribed(providerId, version, atMs) {
      await tx
        .updateTable('control_plane_host_keys')
        .set({ described_at_ms: atMs })
        .where('provider_id', '=', providerId)
        .where('version', '=', version)
        .execute()
    },

    async makeUsable(providerId, upTo, atMs) {
      await tx
        .updateTable('control_plane_host_keys')
        .set({ usable_at_ms: atMs })
        .where('provider_id', '=', providerId)
        .where('version', '<=', upTo)
        .where('usable_at_ms', 'is', null)
        .execute()
    },

    async eraseSealedKeys(providerId) {
      await tx
        .updateTable('control_plane_host_keys')
        .set({ sealed: null })
        .where('provider_id', '=', providerId)
        .execute()
    },

    async listDefaultProviders() {
      const rows = await tx
        .selectFrom('control_plane_default_providers')
        .selectAll()
        .orderBy('cluster')
        .execute()
      return rows.map(storedDefault)
    },

    async saveDefaultProvider({ cluster, provider, setBy, setAtMs }) {
      const columns = { provider, set_by: setBy, set_at_ms: setAtMs }
      await tx
        .insertInto('control_plane_default_providers')
        .values({ cluster: cluster ?? OF_SITE, ...columns })
        .onConflict((conflict) => conflict.column('cluster').doUpdateSet(columns))
        .execute()
    },

    async removeDefaultProvider(cluster) {
      await tx
        .deleteFrom('control_plane_default_providers')
        .where('cluster', '=', cluster ?? OF_SITE)
        .execute()
    },

    async hostKeyRevision() {
      const row = await tx
        .selectFrom('control_plane_host_key_revision')
        .select('revision')
        .executeTakeFirst()
      return row?.revision ?? 0
    },

    async raiseHostKeyRevision() {
      await tx
        .insertInto('control_plane_host_key_revision')
        .values({ id: 1, revision: 1 })
        .onConflict((conflict) =>
          conflict.column('id').doUpdateSet((row) => ({
            revision: row('control_plane_host_key_revision.revision', '+', 1),
          })),
        )
        .execute()
    },

    async isHostKnown(hostId) {
      const statuses = await readHostStatuses(tx, hostId)
      return statuses.some(({ state }) => state !== 'revoked')
    },
  }
}

function storedProvider(
  row: Selectable<HostKeyTables['control_plane_key_providers']>,
  clusters: readonly string[],
): StoredKeyProvider {
  const [digest, version] = row.pending_backup?.split(':') ?? []
  return {
    providerId: row.provider_id,
    name: row.name,
    kind: row.kind,
    state: row.state,
    tpmRequired: row.tpm_required === 1,
    clusters,
    createdAtMs: row.created_at_ms,
    backupMaxAgeDays: row.backup_max_age_days ?? undefined,
    pendingBackup: digest === undefined ? undefined : { digest, version: Number(version) },
    backedUpAtMs: row.backed_up_at_ms ?? undefined,
    warnedAtMs: row.warned_at_ms ?? undefined,
    keyServers:
      row.key_servers === null || row.sealed_key_servers === null
        ? undefined
        : { settings: row.key_servers, sealed: new Uint8Array(row.sealed_key_servers) },
  }
}

function storedDefault(
  row: Selectable<HostKeyTables['control_plane_default_providers']>,
): StoredDefaultProvider {
  const { cluster, provider, set_by: setBy, set_at_ms: setAtMs } = row
  return { cluster: cluster === OF_SITE ? undefined : cluster, provider, setBy, setAtMs }
}

function storedKey(row: Selectable<HostKeyTables['control_plane_host_keys']>): StoredHostKey {
  const { use_kind: kind, use_id: id } = row
  return {
    providerId: row.provider_id,
    version: row.version,
    createdAtMs: row.created_at_ms,
    usableAtMs: row.usable_at_ms ?? undefined,
    sealed: row.sealed === null ? undefined : new Uint8Array(row.sealed),
    keyId: row.key_id ?? undefined,
    cluster: row.cluster ?? undefined,
    use: kind === null || id === null ? undefined : { kind, id },
    describedAtMs: row.described_at_ms ?? undefined,
  }
}
