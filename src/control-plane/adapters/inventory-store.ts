import { type Selectable, sql, type Transaction } from 'kysely'
import { PlatformError } from '../../core/errors.js'
import type { PolicyPart } from '../../storage-policies/index.js'
import { type FoundationTables, isUniqueViolation } from '../../store/index.js'
import type {
  GivenPolicy,
  InventoryTransaction,
  StoredEncryption,
  StoredHost,
  StoredStoragePolicy,
} from '../inventory-ports.js'

export interface InventoryTables {
  control_plane_hosts: {
    host_id: string
    last_seen_at_ms: number | null
    reset_count: number | null
    encryption: StoredEncryption['setting']
    off_at_reset: number | null
    encryption_set_by: string | null
    encryption_set_at_ms: number | null
    told_mode: string | null
  }
  control_plane_storage_policies: {
    name: string
    encrypted: number
    provider: string | null
    created_at_ms: number
    changed_at_ms: number
    changed_by: string
  }
  control_plane_vm_policies: {
    vm_id: string
    part: string
    policy: string
    given_encrypted: number
    given_provider: string | null
    given_by: string
    given_at_ms: number
  }
  control_plane_vm_tags: { vm_id: string; tag: string }
}

interface CountedTables {
  control_plane_vms: { host_id: string; state: string | null; provider: string | null }
}

type HostRow = Selectable<InventoryTables['control_plane_hosts']>
type Status = Pick<
  Selectable<FoundationTables['host_status']>,
  'host_id' | 'cluster' | 'state' | 'updated_at_ms'
>

const PAGE_HOSTS = 100
const ON_DEMAND: StoredEncryption = { setting: 'on-demand' }

/** Hosts, storage policies and tags. */
export function inventoryTransaction<T extends InventoryTables & FoundationTables>(
  transaction: Transaction<T>,
): InventoryTransaction {
  const tx = transaction as unknown as Transaction<
    InventoryTables & CountedTables & FoundationTables
  >

  const loadHosts = async (hostIds: readonly string[]): Promise<readonly StoredHost[]> => {
    if (hostIds.length === 0) return []
    const statuses = await tx
      .selectFrom('host_status')
      .select(['host_id', 'cluster', 'state', 'updated_at_ms'])
      .where('host_id', 'in', hostIds)
      .execute()
    const rows = await tx
      .selectFrom('control_plane_hosts')
      .selectAll()
      .where('host_id', 'in', hostIds)
      .execute()
    return hostIds.flatMap((hostId) => {
      const status = bestOf(statuses.filter(({ host_id }) => host_id === hostId))
      const row = rows.find(({ host_id }) => host_id === hostId)
      return status ? [storedHost(status, row)] : []
    })
  }

  return {
    async listHosts({ cluster, attestation }, { after, limit = PAGE_HOSTS }) {
      let query = tx.selectFrom('host_status').select('host_id').distinct()
      if (cluster !== undefined) query = query.where('cluster', '=', cluster)
      if (attestation !== undefined) query = query.where('state', '=', attestation)
      if (after !== undefined) query = query.where('host_id', '>', after)
      const rows = await query.orderBy('host_id').limit(limit).execute()
      return loadHosts(rows.map(({ host_id: hostId }) => hostId))
    },

    async findHost(hostId) {
      return (await loadHosts([hostId]))[0]
    },

    async saveHostEncryption(hostId, { setting, offAtReset, setBy, setAtMs }) {
      const columns = {
        encryption: setting,
        off_at_reset: offAtReset ?? null,
        encryption_set_by: setBy ?? null,
        encryption_set_at_ms: setAtMs ?? null,
      }
      await tx
        .insertInto('control_plane_hosts')
        .values({
          ...{ host_id: hostId, last_seen_at_ms: null, reset_count: null, told_mode: null },
          ...columns,
        })
        .onConflict((conflict) => conflict.column('host_id').doUpdateSet(columns))
        .execute()
    },

    async saveToldMode(hostId, mode) {
      const columns = { told_mode: mode }
      await tx
        .insertInto('control_plane_hosts')
        .values({ ...newHostRow(hostId), ...columns })
        .onConflict((conflict) => conflict.column('host_id').doUpdateSet(columns))
        .execute()
    },

    async countVms(hostIds) {
      if (hostIds.length === 0) return new Map()
      const rows = await tx
        .selectFrom('control_plane_vms')
        .select([
          'host_id',
          sql<number>`count(*)`.as('total'),
          sql<number>`coalesce(sum(case when state = 'running' then 1 else 0 end), 0)`.as(
            'running',
          ),
          sql<number>`count(provider)`.as('encrypted'),
        ])
        .where('host_id', 'in', hostIds)
        .groupBy('host_id')
        .execute()
      return new Map(rows.map(({ host_id: hostId, ...count }) => [hostId, count]))
    },

    async listStoragePolicies() {
      const rows = await tx
        .selectFrom('control_plane_storage_policies')
        .selectAll()
        .orderBy('name')
        .execute()
      return rows.map(storedPolicy)
    },

    async findStoragePolicy(name) {
      const row = await tx
        .selectFrom('control_plane_storage_policies')
        .selectAll()
        .where('name', '=', name)
        .executeTakeFirst()
      return row && storedPolicy(row)
    },

    async insertStoragePolicy(policy) {
      try {
        await tx
          .insertInto('control_plane_storage_policies')
          .values({ ...policyRow(policy), created_at_ms: policy.createdAtMs })
          .execute()
      } catch (error) {
        if (!isUniqueViolation(error)) throw error
        const expected = `expected a new name, found storage policy ${policy.name}`
        throw new PlatformError('CONFLICT', expected)
      }
    },

    async updateStoragePolicy(policy) {
      await tx
        .updateTable('control_plane_storage_policies')
        .set(policyRow(policy))
        .where('name', '=', policy.name)
        .execute()
    },

    async removeStoragePolicy(name) {
      await tx.deleteFrom('control_plane_storage_policies').where('name', '=', name).execute()
    },

    async listGivenPolicies(vmIds) {
      if (vmIds.length === 0) return []
      const rows = await tx
        .selectFrom('control_plane_vm_policies')
        .selectAll()
        .where('vm_id', 'in', vmIds)
        .execute()
      return rows.map(givenPolicy)
    },

    async listPartsWithPolicy(policy, limit) {
      const rows = await tx
        .selectFrom('control_plane_vm_policies')
        .selectAll()
        .where('policy', '=', policy)
        .orderBy('vm_id')
        .limit(limit)
        .execute()
      return rows.map(givenPolicy)
    },

    async saveGivenPolicy({ vmId, part, policy, given, givenBy, givenAtMs }) {
      const columns = {
        policy,
        given_encrypted: given.encrypted ? 1 : 0,
        given_provider: given.provider ?? null,
        given_by: givenBy,
        given_at_ms: givenAtMs,
      }
      await tx
        .insertInto('control_plane_vm_policies')
        .values({ vm_id: vmId, part, ...columns })
        .onConflict((conflict) => conflict.columns(['vm_id', 'part']).doUpdateSet(columns))
        .execute()
    },

    async removeGivenPolicies(vmId) {
      await tx.deleteFrom('control_plane_vm_policies').where('vm_id', '=', vmId).execute()
    },

    async keepGivenPolicies(vmId, parts) {
      await tx
        .deleteFrom('control_plane_vm_policies')
        .where('vm_id', '=', vmId)
        .where('part', 'not in', parts)
        .execute()
    },

    async listTags(vmIds) {
      if (vmIds.length === 0) return new Map()
      const rows = await tx
        .selectFrom('control_plane_vm_tags')
        .selectAll()
        .where('vm_id', 'in', vmIds)
        .orderBy('tag')
        .execute()
      const tags = new Map<string, string[]>()
      for (const { vm_id: vmId, tag } of rows) {
        const of = tags.get(vmId)
        if (of) of.push(tag)
        else tags.set(vmId, [tag])
      }
      return tags
    },

    async addTag(vmId, tag) {
      await tx
        .insertInto('control_plane_vm_tags')
        .values({ vm_id: vmId, tag })
        .onConflict((conflict) => conflict.doNothing())
        .execute()
    },

    async removeTag(vmId, tag) {
      await tx
        .deleteFrom('control_plane_vm_tags')
        .where('vm_id', '=', vmId)
        .where('tag', '=', tag)
        .execute()
    },

    async removeTags(vmId) {
      await tx.deleteFrom('control_plane_vm_tags').where('vm_id', '=', vmId).execute()
    },
  }
}

/** Notes that a host called, and how often its TPM was reset until then. */
export async function noteHostSeen<T extends InventoryTables>(
  transaction: Transaction<T>,
  hostId: string,
  seen: { readonly atMs: number; readonly resetCount: number },
): Promise<void> {
  const columns = { last_seen_at_ms: seen.atMs, reset_count: seen.resetCount }
  await (transaction as unknown as Transaction<InventoryTables>)
    .insertInto('control_plane_hosts')
    .values({ ...newHostRow(hostId), ...columns })
    .onConflict((conflict) => conflict.column('host_id').doUpdateSet(columns))
    .execute()
}

function newHostRow(hostId: string): HostRow {
  return {
    ...{ host_id: hostId, last_seen_at_ms: null, reset_count: null, off_at_reset: null },
    ...{ encryption: ON_DEMAND.setting, encryption_set_by: null, encryption_set_at_ms: null },
    told_mode: null,
  }
}

function bestOf(statuses: readonly Status[]): Status | undefined {
  const newest = statuses.toSorted((a, b) => b.updated_at_ms - a.updated_at_ms)
  return newest.find(({ state }) => state === 'trusted') ?? newest[0]
}

function storedHost(status: Status, row: HostRow | undefined): StoredHost {
  const encryption: StoredEncryption = row
    ? {
        setting: row.encryption,
        offAtReset: row.off_at_reset ?? undefined,
        setBy: row.encryption_set_by ?? undefined,
        setAtMs: row.encryption_set_at_ms ?? undefined,
      }
    : ON_DEMAND
  return {
    hostId: status.host_id,
    cluster: status.cluster,
    attestation: status.state,
    attestationChangedAtMs: status.updated_at_ms,
    lastSeenAtMs: row?.last_seen_at_ms ?? undefined,
    resetCount: row?.reset_count ?? undefined,
    encryption,
    toldMode: row?.told_mode ?? undefined,
  }
}

function policyRow({ name, encrypted, provider, changedAtMs, changedBy }: StoredStoragePolicy) {
  return {
    ...{ name, encrypted: encrypted ? 1 : 0, provider: provider ?? null },
    ...{ changed_at_ms: changedAtMs, changed_by: changedBy },
  }
}

function storedPolicy(
  row: Selectable<InventoryTables['control_plane_storage_policies']>,
): StoredStoragePolicy {
  return {
    name: row.name,
    encrypted: row.encrypted === 1,
    ...(row.provider === null ? {} : { provider: row.provider }),
    createdAtMs: row.created_at_ms,
    changedAtMs: row.changed_at_ms,
    changedBy: row.changed_by,
  }
}

function givenPolicy(row: Selectable<InventoryTables['control_plane_vm_policies']>): GivenPolicy {
  return {
    vmId: row.vm_id,
    part: row.part as PolicyPart,
    policy: row.policy,
    given: {
      encrypted: row.given_encrypted === 1,
      ...(row.given_provider === null ? {} : { provider: row.given_provider }),
    },
    givenBy: row.given_by,
    givenAtMs: row.given_at_ms,
  }
}
