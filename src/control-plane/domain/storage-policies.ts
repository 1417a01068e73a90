import type { StoragePolicyView } from '../../api/storage-policies.js'
import { isoTime } from '../../core/clock.js'
import { PlatformError } from '../../core/errors.js'
import { type Page, pageOf, type StoredPage } from '../../core/page.js'
import type { Wanted } from '../../storage-policies/index.js'
import type { StoredStoragePolicy } from '../inventory-ports.js'
import type { ControlPlaneStore, ControlPlaneTransaction } from '../ports.js'
import { requireSomewhere } from './hosts.js'
import type { Act } from './inventory.js'

/** Policies that every site has, by name. They cannot be changed. */
const BUILT_IN: ReadonlyMap<string, Wanted> = new Map([
  ['plain', { encrypted: false }],
  ['encrypted', { encrypted: true }],
])

/** How many VMs a message names. */
const NAMED_VMS = 5
const LOOKED_AT = 100

/** What administrators do with storage policies. Each change is one transaction with its event and audit record. */
export function createStoragePolicies(store: ControlPlaneStore) {
  const change = (
    act: Act,
    what: 'created' | 'changed' | 'deleted',
    name: string,
    work: (tx: ControlPlaneTransaction) => Promise<Wanted>,
  ): Promise<StoragePolicyView> =>
    store.transaction(async (tx) => {
      if (BUILT_IN.has(name)) {
        throw new PlatformError('POLICY_BUILT_IN', `storage policy ${name} is built in`)
      }
      const { encrypted, provider } = await work(tx)
      const detail = { encrypted, ...(provider === undefined ? {} : { provider }) }
      const type = `storage-policy.${what}`
      const subject = `storage-policy:${name}`
      const message = `storage policy ${name} ${what}: ${wordsOf({ encrypted, provider })}`
      await tx.addEvent({ atMs: act.nowMs, severity: 'info', type, subject, message, detail })
      await tx.audit({
        ...{ atMs: act.nowMs, actor: act.actor, action: type, subject, outcome: 'done', detail },
      })
      const note = await noteOn(tx, provider)
      const view = viewOf({
        ...{ name, encrypted, ...(provider === undefined ? {} : { provider }) },
        ...{ createdAtMs: act.nowMs, changedAtMs: act.nowMs, changedBy: act.operator },
        ...((await tx.findStoragePolicy(name)) ?? {}),
      })
      return { ...view, ...(note === undefined ? {} : { note }) }
    })

  return {
    list: (act: Act, page: StoredPage): Promise<Page<StoragePolicyView>> =>
      store.transaction(async (tx) => {
        await requireSomewhere(tx, act)
        const own = (await tx.listStoragePolicies()).map(viewOf)
        return pageOf([...builtInViews(), ...own], page, ({ name }) => name)
      }),

    /** @throws PlatformError `NOT_FOUND` */
    get: (act: Act, name: string): Promise<StoragePolicyView> =>
      store.transaction(async (tx) => {
        await requireSomewhere(tx, act)
        const builtIn = builtInViews().find((policy) => policy.name === name)
        return builtIn ?? viewOf(await requireOwn(tx, name))
      }),

    /** @throws PlatformError `CONFLICT`, `POLICY_BUILT_IN`, `REQUEST_INVALID` */
    create: (act: Act, { name, ...wanted }: Wanted & { readonly name: string }) =>
      change(act, 'created', name, async (tx) => {
        const { nowMs, operator } = act
        const at = { createdAtMs: nowMs, changedAtMs: nowMs, changedBy: operator }
        await tx.insertStoragePolicy({ name, ...checked(wanted), ...at })
        return wanted
      }),

    /** @throws PlatformError `NOT_FOUND`, `POLICY_BUILT_IN`, `REQUEST_INVALID` */
    change: (act: Act, name: string, wanted: Wanted) =>
      change(act, 'changed', name, async (tx) => {
        const { createdAtMs } = await requireOwn(tx, name)
        const at = { createdAtMs, changedAtMs: act.nowMs, changedBy: act.operator }
        await tx.updateStoragePolicy({ name, ...checked(wanted), ...at })
        return wanted
      }),

    /** @throws PlatformError `NOT_FOUND`, `POLICY_BUILT_IN`, `POLICY_IN_USE` */
    remove: (act: Act, name: string) =>
      change(act, 'deleted', name, async (tx) => {
        const policy = await requireOwn(tx, name)
        await requireUnused(tx, name)
        await tx.removeStoragePolicy(name)
        return policy
      }),
  }
}

export type StoragePolicyActs = ReturnType<typeof createStoragePolicies>

/** What a policy asks now. @throws PlatformError `NOT_FOUND` */
export async function policyByName(tx: ControlPlaneTransaction, name: string): Promise<Wanted> {
  const { encrypted, provider } = BUILT_IN.get(name) ?? (await requireOwn(tx, name))
  return { encrypted, ...(provider === undefined ? {} : { provider }) }
}

/** The built-in policy that a part which nobody gave one has, so to say. */
export function impliedPolicy(encrypted: boolean): string {
  return encrypted ? 'encrypted' : 'plain'
}

async function requireOwn(tx: ControlPlaneTransaction, name: string): Promise<StoredStoragePolicy> {
  const policy = await tx.findStoragePolicy(name)
  if (!policy) throw new PlatformError('NOT_FOUND', `no storage policy ${name}`)
  return policy
}

async function requireUnused(tx: ControlPlaneTransaction, name: string): Promise<void> {
  for (;;) {
    const parts = await tx.listPartsWithPolicy(name, LOOKED_AT)
    const vmIds = [...new Set(parts.map(({ vmId }) => vmId))]
    const names: string[] = []
    for (const vmId of vmIds) {
      const vm = await tx.findVm(vmId)
      if (vm) names.push(vm.report.name)
      else if (await isBeingMade(tx, vmId)) names.push(vmId)
      else await tx.removeGivenPolicies(vmId)
    }
    if (names.length > 0) {
      const more = names.length > NAMED_VMS ? ' and more' : ''
      const found = `${names.slice(0, NAMED_VMS).join(', ')}${more}`
      const expected = `expected no VM with storage policy ${name}, found ${found}`
      throw new PlatformError('POLICY_IN_USE', expected)
    }
    if (parts.length < LOOKED_AT) return
  }
}

/** A VM that is to be made has the id of its task. Where that has ended without one, no VM has the policy. */
async function isBeingMade(tx: ControlPlaneTransaction, vmId: string): Promise<boolean> {
  const task = await tx.findTask(vmId)
  return task !== undefined && ['queued', 'sent', 'running', 'cancelling'].includes(task.state)
}

function checked({ encrypted, provider }: Wanted): Wanted {
  if (encrypted || provider === undefined) {
    return { encrypted, ...(provider === undefined ? {} : { provider }) }
  }
  const expected = `expected no key provider in a policy that does not encrypt, found ${provider}`
  throw new PlatformError('REQUEST_INVALID', expected)
}

async function noteOn(
  tx: ControlPlaneTransaction,
  provider: string | undefined,
): Promise<string | undefined> {
  if (provider === undefined || (await tx.findKeyProvider(provider))) return undefined
  return `${provider} is no native or standard key provider: it is taken as the name of a trusted one, which is not checked`
}

function builtInViews(): readonly StoragePolicyView[] {
  return [...BUILT_IN].map(([name, { encrypted }]) => ({ name, encrypted, builtIn: true }))
}

function viewOf({
  name,
  encrypted,
  provider,
  createdAtMs,
  changedAtMs,
  changedBy,
}: StoredStoragePolicy): StoragePolicyView {
  return {
    ...{ name, encrypted, builtIn: false, changedBy },
    ...(provider === undefined ? {} : { provider }),
    ...{ createdAt: isoTime(createdAtMs), changedAt: isoTime(changedAtMs) },
  }
}

function wordsOf({ encrypted, provider }: Wanted): string {
  if (!encrypted) return 'plain'
  return provider === undefined ? 'encrypted' : `encrypted with ${provider}`
}
