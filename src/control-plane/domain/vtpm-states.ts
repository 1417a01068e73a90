import type { VtpmStateCause, VtpmStateNote, VtpmStateStanding } from '../../api/vtpm-states.js'
import { PlatformError } from '../../core/errors.js'
import { type Page, readPage, type StoredPage } from '../../core/page.js'
import { SITE } from '../../people/index.js'
import type { ControlPlaneStore, ControlPlaneTransaction, HostCaller } from '../ports.js'
import type { CertificateFilter, StoredCertificate, StoredVtpmState } from '../vtpm-ports.js'
import { type Act, requireOwner } from './inventory.js'

/** What is worth an event, and what of it is an act that is audited. */
const NOTED: Readonly<Record<VtpmStateCause, { readonly what: string; readonly isAct: boolean }>> =
  {
    recorded: { what: '', isAct: false },
    late: { what: 'was recorded while this was not told', isAct: false },
    unrecorded: { what: 'is what a run left whose end nobody saw', isAct: false },
    tolerated: { what: 'is an older one, used as the policy of its host says', isAct: true },
    accepted: { what: 'is an older one that an administrator of the host accepted', isAct: true },
    restored: { what: 'was restored from the copy of it', isAct: true },
  }

/**
 * Keeps the states of virtual TPMs in their order, as hosts tell of them. A host is asked for nothing but digests; that an
 * older state does not become the newest again is decided here, where who puts files back has no say.
 */
export function createVtpmStates(store: ControlPlaneStore) {
  const own = async (
    tx: ControlPlaneTransaction,
    caller: HostCaller,
    vmId: string,
    nowMs: number,
  ): Promise<void> => {
    await tx.admit(caller, nowMs)
    requireOwner(await tx.findVm(vmId), caller, vmId)
  }

  return {
    /** @throws PlatformError `FORBIDDEN` for a VM of another host */
    check: (caller: HostCaller, vmId: string, digest: string, nowMs: number) =>
      store.transaction(async (tx) => {
        await own(tx, caller, vmId, nowMs)
        const newest = await tx.newestVtpmState(vmId)
        return {
          standing: await standingOf(tx, vmId, digest, newest),
          newestGeneration: newest?.generation ?? 0,
        }
      }),

    /**
     * Takes a state as the newest.
     *
     * @throws PlatformError `FORBIDDEN`; `VTPM_STATE_ROLLBACK` for one that others have come after, unless somebody answers
     *   for it; its event is there all the same
     */
    note: async (
      caller: HostCaller,
      vmId: string,
      note: VtpmStateNote,
      nowMs: number,
    ): Promise<void> => {
      const refused = await store.transaction(async (tx) => {
        await own(tx, caller, vmId, nowMs)
        const newest = await tx.newestVtpmState(vmId)
        const { generation, digest, cause } = note
        const isNewest = newest?.generation === generation && newest.digest === digest
        if (!isNewest && !(await isNewer(tx, vmId, note, newest))) {
          const message = `the state of generation ${generation} of VM ${vmId} is an older one`
          await addEvent(tx, vmId, nowMs, {
            ...{ type: 'vtpm.state-rolled-back', severity: 'error', message },
            detail: { generation, digest, hostId: caller.hostId },
          })
          return message
        }
        if (!isNewest) {
          const { hostId } = caller
          await tx.addVtpmState({ vmId, generation, digest, cause, hostId, notedAtMs: nowMs })
        }
        if (isNewest && cause !== 'restored') return undefined
        if (newest || cause === 'restored') await tellOf(tx, caller, vmId, note, nowMs)
        return undefined
      })
      if (refused !== undefined) throw new PlatformError('VTPM_STATE_ROLLBACK', refused)
    },

    /** A host refused to use a state. */
    complain: (
      caller: HostCaller,
      vmId: string,
      problem: { readonly code: string; readonly message: string },
      nowMs: number,
    ) =>
      store.transaction(async (tx) => {
        await own(tx, caller, vmId, nowMs)
        const { code, message } = problem
        await addEvent(tx, vmId, nowMs, {
          ...{ type: 'vtpm.state-refused', severity: 'error', message },
          detail: { code, hostId: caller.hostId },
        })
      }),

    /** @throws PlatformError `FORBIDDEN` for who may not see the VM */
    list: (act: Act, vmId: string, page: StoredPage): Promise<Page<StoredVtpmState>> =>
      store.transaction(async (tx) => {
        const rights = await tx.rightsOf(act)
        rights.require(['System.Read'], await tx.placeOfVm(vmId))
        const read = (part: StoredPage) => tx.listVtpmStates(vmId, part)
        return readPage(page, read, ({ generation }) => String(generation))
      }),

    /**
     * Certificates that were issued, for one VM or for all.
     *
     * @throws PlatformError `FORBIDDEN` for who may not see the VM, or the site
     */
    listCertificates: (
      act: Act,
      filter: CertificateFilter,
      page: StoredPage,
    ): Promise<Page<StoredCertificate>> =>
      store.transaction(async (tx) => {
        const { vmId } = filter
        const rights = await tx.rightsOf(act)
        rights.require(['System.Read'], vmId === undefined ? SITE : await tx.placeOfVm(vmId))
        const read = (part: StoredPage) => tx.listCertificates(filter, part)
        return readPage(page, read, ({ fingerprint }) => fingerprint)
      }),
  }
}

export type VtpmStates = ReturnType<typeof createVtpmStates>

async function standingOf(
  tx: ControlPlaneTransaction,
  vmId: string,
  digest: string,
  newest: StoredVtpmState | undefined,
): Promise<VtpmStateStanding> {
  if (!newest) return 'none'
  if (newest.digest === digest) return 'newest'
  return (await tx.findVtpmState(vmId, digest)) ? 'superseded' : 'unknown'
}

async function isNewer(
  tx: ControlPlaneTransaction,
  vmId: string,
  { generation, digest, cause }: VtpmStateNote,
  newest: StoredVtpmState | undefined,
): Promise<boolean> {
  if (!newest) return true
  if (generation <= newest.generation) return false
  const mayBeOlder = cause === 'accepted' || cause === 'tolerated'
  return mayBeOlder || (await standingOf(tx, vmId, digest, newest)) !== 'superseded'
}

async function tellOf(
  tx: ControlPlaneTransaction,
  caller: HostCaller,
  vmId: string,
  { generation, digest, cause }: VtpmStateNote,
  nowMs: number,
): Promise<void> {
  const { what, isAct } = NOTED[cause]
  if (what === '') return
  const detail = { generation, digest, hostId: caller.hostId }
  const message = `the state of generation ${generation} of VM ${vmId} ${what}`
  await addEvent(tx, vmId, nowMs, {
    ...{ type: `vtpm.state-${cause}`, severity: 'warning', message, detail },
  })
  if (!isAct) return
  await tx.audit({
    ...{ atMs: nowMs, actor: `host:${caller.hostId}`, action: `vtpm.state-${cause}` },
    ...{ subject: `vm:${vmId}`, outcome: 'done', detail: { generation, digest } },
  })
}

async function addEvent(
  tx: ControlPlaneTransaction,
  vmId: string,
  atMs: number,
  event: {
    readonly type: string
    readonly severity: 'warning' | 'error'
    readonly message: string
    readonly detail: { readonly [name: string]: string | number }
  },
): Promise<void> {
  await tx.addEvent({ atMs, subject: `vm:${vmId}`, ...event })
}
