import { getVmAttestation } from '../../api/guest-channel.js'
import { type App, addOperation } from '../../http/index.js'
import type { GuestDoor } from '../guests/guest-door.js'

/** Guests of VMs, on the agent's socket. */
export function addGuestRoutes(app: App, { guests }: { readonly guests: GuestDoor }): void {
  addOperation(app, getVmAttestation, { access: 'local' }, async ({ params }) =>
    guests.statusOf(params.vm),
  )
}
