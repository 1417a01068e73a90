import { type Generated, sql, type Transaction } from 'kysely'
import { Value } from 'typebox/value'
import { type EventView, VmReport } from '../../api/control-plane.js'
import { isoTime } from '../../core/clock.js'
import { PlatformError } from '../../core/errors.js'
import { type PeopleTables, readRights } from '../../people/index.js'
import {
  appendAudit,
  type FoundationTables,
  isTokenRevoked,
  isUniqueViolation,
  readHostStatus,
  recordOnce,
  type Store,
} from '../../store/index.js'
import type {
  ControlPlaneStore,
  ControlPlaneTransaction,
  HostCaller,
  StoredHandOver,
  StoredVm,
} from '../ports.js'
import { type HostKeyTables, hostKeyTransaction } from './host-key-store.js'
import { type InventoryTables, inventoryTransaction, noteHostSeen } from './inventory-store.js'
import { type TaskTables, taskTransaction } from './task-store.js'
import { placeOfVm, placesOfVms } from './vm-places.js'
import { type VtpmTables, vtpmTransaction } from './vtpm-store.js'

interface ControlPlaneTables {
  control_plane_clusters: { name: string; created_at_ms: number }
  control_plane_vms: {
    vm_id: string
    host_id: string
    cluster: string
    report: string
    reported_at_ms: number
    state: string | null
    provider: string | null
  }
  control_plane_hand_overs: {
    vm_id: string
    export_id: string
    host_id: string
    cluster: string
    ticket_digest: Uint8Array
    offered_at_ms: number
  }
  control_plane_events: {
    seq: Generated<number>
    at_ms: number
    severity: EventView['severity']
    type: string
    subject: string
    message: string
    detail: string | null
  }
}

type Tx = Transaction<
  ControlPlaneTables &
    InventoryTables &
    HostKeyTables &
    TaskTables &
    VtpmTables &
    PeopleTables &
    FoundationTables
>

/** The name of the service's audit chain. */
export const AUDIT_CHAIN = 'control-plane'

export function controlPlaneStore(store: Store): ControlPlaneStore {
  return {
    transaction: (work) => store.transaction((tx: Tx) => work(transactionOf(tx))),
  }
}

function transactionOf(tx: Tx): ControlPlaneTransaction {
  const requireTrusted = async (caller: HostCaller): Promise<void> => {
    if (await isTokenRevoked(tx, caller.tokenId)) {
      throw new PlatformError('TOKEN_REVOKED', 'expected a token in force, found it revoked')
    }
    const status = await readHostStatus(tx, caller.issuer, caller.hostId)
    const current =
      status?.state === 'trusted' &&
      status.epoch === caller.hostEpoch &&
      status.policyEpoch === caller.policyEpoch
    if (!current) {
      throw new PlatformError(
        'HOST_STATUS',
        `expected a host that is trusted now, found ${status?.state ?? 'none'} or a newer epoch`,
      )
    }
  }

  return {
    ...hostKeyTransaction(tx),
    ...taskTransaction(tx),
    ...vtpmTransaction(tx),
    ...inventoryTransaction(tx),

    rightsOf: ({ caller, nowMs }) => readRights(tx, caller, nowMs),
    placeOfVm: (vmId) => placeOfVm(tx, vmId),
    placesOfVms: (vmIds) => placesOfVms(tx, vmIds),

    async listClusters() {
      const rows = await tx
        .selectFrom('control_plane_clusters')
        .selectAll()
        .orderBy('name')
        .execute()
      return rows.map((row) => ({ name: row.name, createdAtMs: row.created_at_ms }))
    },

    async insertCluster(cluster) {
      try {
        await tx
          .insertInto('control_plane_clusters')
          .values({ name: cluster.name, created_at_ms: cluster.createdAtMs })
          .execute()
      } catch (error) {
        if (!isUniqueViolation(error)) throw error
        throw new PlatformError('CONFLICT', `expected a new name, found cluster ${cluster.name}`)
      }
    },

    async findVm(vmId) {
      const row = await tx
        .selectFrom('control_plane_vms')
        .selectAll()
        .where('vm_id', '=', vmId)
        .executeTakeFirst()
      return row && storedVm(row)
    },

    async listVms(filter, { after, limit } = {}) {
      const { cluster, hostId, provider, encrypted, state, keyVersion, tag } = filter
      let query = tx.selectFrom('control_plane_vms').selectAll().orderBy('vm_id')
      if (after !== undefined) query = query.where('vm_id', '>', after)
      if (limit !== undefined) query = query.limit(limit)
      if (cluster !== undefined) query = query.where('cluster', '=', cluster)
      if (hostId !== undefined) query = query.where('host_id', '=', hostId)
      if (provider !== undefined) query = query.where('provider', '=', provider)
      if (state !== undefined) query = query.where('state', '=', state)
      if (encrypted !== undefined) {
        query = query.where('provider', encrypted ? 'is not' : 'is', null)
      }
      if (keyVersion !== undefined) {
        // SQLite's own JSON functions: there is no column, since a VM has a version for each of its keys
        query = query.where(
          sql<boolean>`exists (select 1 from json_each(report, '$.keys')
            where json_extract(value, '$.version') = ${keyVersion})`,
        )
      }
      if (tag !== undefined) {
        // those of its folder are between `tag/` and `tag0`, the character after `/`
        const tagged = tx
          .selectFrom('control_plane_vm_tags')
          .select('vm_id')
          .where(({ eb, or, and }) =>
            or([eb('tag', '=', tag), and([eb('tag', '>', `${tag}/`), eb('tag', '<', `${tag}0`)])]),
          )
        query = query.where('vm_id', 'in', tagged)
      }
      return (await query.execute()).map(storedVm)
    },

    async saveVm(vm) {
      const columns = {
        host_id: vm.hostId,
        cluster: vm.cluster,
        report: JSON.stringify(vm.report),
        reported_at_ms: vm.reportedAtMs,
        state: vm.report.state,
        provider: vm.report.provider ?? null,
      }
      await tx
        .insertInto('control_plane_vms')
        .values({ vm_id: vm.vmId, ...columns })
        .onConflict((conflict) => conflict.column('vm_id').doUpdateSet(columns))
        .execute()
    },

    async removeVm(vmId) {
      await tx.deleteFrom('control_plane_vms').where('vm_id', '=', vmId).execute()
    },

    async findHandOver(vmId) {
      const row = await tx
        .selectFrom('control_plane_hand_overs')
        .selectAll()
        .where('vm_id', '=', vmId)
        .executeTakeFirst()
      return row && storedHandOver(row)
    },

    async listHandOvers() {
      const rows = await tx
        .selectFrom('control_plane_hand_overs')
        .selectAll()
        .orderBy('vm_id')
        .execute()
      return rows.map(storedHandOver)
    },

    async saveHandOver(handOver) {
      const columns = {
        export_id: handOver.exportId,
        host_id: handOver.hostId,
        cluster: handOver.cluster,
        ticket_digest: handOver.ticketDigest,
        offered_at_ms: handOver.offeredAtMs,
      }
      await tx
        .insertInto('control_plane_hand_overs')
        .values({ vm_id: handOver.vmId, ...columns })
        .onConflict((conflict) => conflict.column('vm_id').doUpdateSet(columns))
        .execute()
    },

    async removeHandOver(vmId) {
      await tx.deleteFrom('control_plane_hand_overs').where('vm_id', '=', vmId).execute()
    },

    async addEvent({ atMs, detail, ...event }) {
      await tx
        .insertInto('control_plane_events')
        .values({ at_ms: atMs, ...event, detail: detail ? JSON.stringify(detail) : null })
        .execute()
    },

    async newestEvent() {
      const row = await tx
        .selectFrom('control_plane_events')
        .select('seq')
        .orderBy('seq', 'desc')
        .limit(1)
        .executeTakeFirst()
      return row?.seq ?? 0
    },

    async listEvents(afterSeq, limit) {
      const rows = await tx
        .selectFrom('control_plane_events')
        .selectAll()
        .where('seq', '>', afterSeq)
        .orderBy('seq')
        .limit(limit)
        .execute()
      return rows.map(({ at_ms, detail, ...event }) => ({
        ...event,
        at: isoTime(at_ms),
        ...(detail === null
          ? {}
          : { detail: JSON.parse(detail) as NonNullable<EventView['detail']> }),
      }))
    },

    async admit(caller, nowMs) {
      const { proof } = caller
      const key = `${proof.thumbprint}.${proof.id}`
      if (!(await recordOnce(tx, 'dpop', key, proof.expiresAtMs))) {
        throw new PlatformError(
          'DPOP_REPLAYED',
          'expected a proof that was not used, found it used',
        )
      }
      await requireTrusted(caller)
      const { hostId, resetCount } = caller
      await noteHostSeen(tx, hostId, { atMs: nowMs, resetCount })
    },

    requireTrusted,

    async audit(entry) {
      await appendAudit(tx, { chain: AUDIT_CHAIN, ...entry })
    },
  }
}

function storedHandOver(row: ControlPlaneTables['control_plane_hand_overs']): StoredHandOver {
  return {
    vmId: row.vm_id,
    exportId: row.export_id,
    hostId: row.host_id,
    cluster: row.cluster,
    ticketDigest: new Uint8Array(row.ticket_digest),
    offeredAtMs: row.offered_at_ms,
  }
}

function storedVm(row: ControlPlaneTables['control_plane_vms']): StoredVm {
  return {
    vmId: row.vm_id,
    hostId: row.host_id,
    cluster: row.cluster,
    report: Value.Parse(VmReport, JSON.parse(row.report)),
    reportedAtMs: row.reported_at_ms,
  }
}
