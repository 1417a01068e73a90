import type { GuestView } from '../../api/guests.js'
import { isoTime } from '../../core/clock.js'
import { PlatformError } from '../../core/errors.js'
import { readPage, type StoredPage } from '../../core/page.js'
import type { StoredGuest } from '../guest-ports.js'
import type { AttestationStore, AttestationTransaction } from '../ports.js'
import { type Act, record } from './administration.js'

/** What administrators see of VMs and do with them. Each act is one transaction with its audit record. */
export function createGuestAdministration({ store }: { readonly store: AttestationStore }) {
  return {
    list: (filter: { readonly hostId?: string | undefined }, page: StoredPage) =>
      store.transaction(async (tx) => {
        const { items, ...rest } = await readPage(
          page,
          (at) => tx.listGuests({ ...filter, ...at }),
          ({ vmId }) => vmId,
        )
        const guests: GuestView[] = []
        for (const guest of items) guests.push(await guestView(tx, guest))
        return { guests, ...rest }
      }),

    get: (vmId: string) =>
      store.transaction(async (tx) => guestView(tx, await knownGuest(tx, vmId))),

    getBundle: (vmId: string) =>
      store.transaction(async (tx) => (await knownGuest(tx, vmId)).bundle),

    revoke: (act: Act, vmId: string, reason: string) =>
      store.transaction(async (tx) => {
        const guest = await knownGuest(tx, vmId)
        if (guest.state === 'revoked') {
          throw new PlatformError('CONFLICT', `VM ${vmId} is revoked already`)
        }
        await tx.saveGuest({ ...guest, state: 'revoked' })
        await tellOf(tx, act, 'guest.revoked', guest, { reason })
        await record(tx, act, 'guest.revoke', `vm:${vmId}`, { reason })
        return guestView(tx, await knownGuest(tx, vmId))
      }),

    /** With it goes what keeps a VM from being taken for one on the host that it left, and its revocation. */
    remove: (act: Act, vmId: string) =>
      store.transaction(async (tx) => {
        const guest = await knownGuest(tx, vmId)
        await tx.removeGuest(vmId)
        await tellOf(tx, act, 'guest.removed', guest, {})
        await record(tx, act, 'guest.remove', `vm:${vmId}`, { state: guest.state })
      }),
  }
}

export type GuestAdministration = ReturnType<typeof createGuestAdministration>

async function knownGuest(tx: AttestationTransaction, vmId: string): Promise<StoredGuest> {
  const guest = await tx.findGuest(vmId)
  if (!guest) throw new PlatformError('NOT_FOUND', `no evidence of a guest of VM ${vmId}`)
  return guest
}

function tellOf(
  tx: AttestationTransaction,
  act: Act,
  type: 'guest.revoked' | 'guest.removed',
  { vmId, hostId, cluster }: StoredGuest,
  detail: { readonly reason?: string },
): Promise<void> {
  const { operator, nowMs: atMs } = act
  return tx.addEvent({ atMs, type, hostId, cluster, detail: { vmId, operator, ...detail } })
}

async function guestView(tx: AttestationTransaction, guest: StoredGuest): Promise<GuestView> {
  const state = (await tx.findHost(guest.hostId))?.state ?? 'not enrolled'
  return {
    vmId: guest.vmId,
    hostId: guest.hostId,
    cluster: guest.cluster,
    state: guest.state,
    host: { trusted: state === 'trusted', state },
    ekFingerprint: guest.ekFingerprint,
    certificateIssuedAt: isoTime(guest.certificateIssuedAtMs),
    verdict: guest.bundle.verdict,
  }
}
