import { type Selectable, sql, type Transaction } from 'kysely'
import type { FoundationTables } from '../../store/index.js'
import type { HostKeyTransaction, StoredDelivery } from '../host-key-ports.js'
import type { HostKeyTables } from './host-key-store.js'

export interface DeliveryTables {
  control_plane_key_deliveries: {
    provider_id: string
    version: number
    host_id: string
    state: StoredDelivery['state']
    code: string | null
    at_ms: number
  }
}

/** Deliveries that are made known in one round of the watch. */
const PENDING_AT_ONCE = 1000

type DeliveryTransaction = Pick<
  HostKeyTransaction,
  | 'listDeliveries'
  | 'listDeliveriesTo'
  | 'countDeliveries'
  | 'saveDelivery'
  | 'removeDelivery'
  | 'addPendingDeliveries'
  | 'listOverdueDeliveries'
>

/** Which host has which key, is to get it, or is to erase it. */
export function deliveryTransaction(
  tx: Transaction<HostKeyTables & FoundationTables>,
): DeliveryTransaction {
  return {
    async listDeliveries(providerId, page) {
      let query = tx
        .selectFrom('control_plane_key_deliveries')
        .selectAll()
        .where('provider_id', '=', providerId)
        .orderBy('version')
        .orderBy('host_id')
      if (page) {
        const { version, hostId } = page.behind
        query = query.where(({ eb, or, and }) =>
          or([
            eb('version', '>', version),
            and([eb('version', '=', version), eb('host_id', '>', hostId)]),
          ]),
        )
      }
      if (page?.limit !== undefined) query = query.limit(page.limit)
      return (await query.execute()).map(storedDelivery)
    },

    async listDeliveriesTo(hostId) {
      const rows = await tx
        .selectFrom('control_plane_key_deliveries')
        .selectAll()
        .where('host_id', '=', hostId)
        .execute()
      return rows.map(storedDelivery)
    },

    async countDeliveries(providerId) {
      const rows = await tx
        .selectFrom('control_plane_key_deliveries')
        .select((row) => ['state', row.fn.countAll<number>().as('deliveries')])
        .where('provider_id', '=', providerId)
        .groupBy('state')
        .execute()
      return Object.fromEntries(rows.map(({ state, deliveries }) => [state, Number(deliveries)]))
    },

    async saveDelivery({ providerId, version, hostId, state, code, atMs }) {
      const columns = { state, code: code ?? null, at_ms: atMs }
      await tx
        .insertInto('control_plane_key_deliveries')
        .values({ provider_id: providerId, version, host_id: hostId, ...columns })
        .onConflict((conflict) =>
          conflict.columns(['provider_id', 'version', 'host_id']).doUpdateSet(columns),
        )
        .execute()
    },

    async removeDelivery({ providerId, version, hostId }) {
      await tx
        .deleteFrom('control_plane_key_deliveries')
        .where('provider_id', '=', providerId)
        .where('version', '=', version)
        .where('host_id', '=', hostId)
        .execute()
    },

    async addPendingDeliveries(atMs) {
      const missing = await tx
        .selectFrom('control_plane_host_keys as key')
        .innerJoin('control_plane_key_providers as provider', (join) =>
          join.onRef('provider.provider_id', '=', 'key.provider_id'),
        )
        .innerJoin('control_plane_key_provider_clusters as serves', (join) =>
          join.onRef('serves.provider_id', '=', 'key.provider_id'),
        )
        .innerJoin('host_status as host', (join) =>
          join.onRef('host.cluster', '=', 'serves.cluster'),
        )
        .leftJoin('control_plane_key_deliveries as delivery', (join) =>
          join
            .onRef('delivery.provider_id', '=', 'key.provider_id')
            .onRef('delivery.version', '=', 'key.version')
            .onRef('delivery.host_id', '=', 'host.host_id'),
        )
        .select(['key.provider_id', 'key.version', 'host.host_id'])
        .distinct()
        .where('provider.state', '=', 'active')
        .where('key.usable_at_ms', 'is not', null)
        .where('host.state', 'in', ['trusted', 'late'])
        .where('delivery.host_id', 'is', null)
        .where(
          sql<boolean>`host.host_id not in
            (select host_id from control_plane_hosts where encryption = 'off')`,
        )
        .where(sql<boolean>`(key.cluster is null or key.cluster = host.cluster)`)
        .limit(PENDING_AT_ONCE)
        .execute()
      for (const row of missing) {
        await tx
          .insertInto('control_plane_key_deliveries')
          .values({ ...row, state: 'pending', code: null, at_ms: atMs })
          .execute()
      }
    },

    async listOverdueDeliveries(beforeMs) {
      const rows = await tx
        .selectFrom('control_plane_key_deliveries')
        .selectAll()
        .where('state', 'in', ['pending', 'delivered'])
        .where('at_ms', '<=', beforeMs)
        .limit(PENDING_AT_ONCE)
        .execute()
      return rows.map(storedDelivery)
    },
  }
}

function storedDelivery(
  row: Selectable<HostKeyTables['control_plane_key_deliveries']>,
): StoredDelivery {
  return {
    providerId: row.provider_id,
    version: row.version,
    hostId: row.host_id,
    state: row.state,
    code: row.code ?? undefined,
    atMs: row.at_ms,
  }
}
