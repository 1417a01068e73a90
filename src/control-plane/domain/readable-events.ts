import type { EventView } from '../../api/control-plane.js'
import { PlatformError } from '../../core/errors.js'
import { type Place, SITE } from '../../people/index.js'
import type { ControlPlaneStore, ControlPlaneTransaction } from '../ports.js'
import type { Act } from './inventory.js'

/**
 * The next events that the caller may see: who may read the site all of them, others those of their clusters, with the hosts
 * there, and of their VMs.
 *
 * @returns the events, and the number of the last one that was looked at; none where there were no more
 * @throws PlatformError `FORBIDDEN` for who may see nothing at all (any more)
 */
export function readableEvents(
  store: ControlPlaneStore,
  act: Act,
  afterSeq: number,
  limit: number,
): Promise<{ readonly events: readonly EventView[]; readonly last: number | undefined }> {
  return store.transaction(async (tx) => {
    const rights = await tx.rightsOf(act)
    if (!rights.mayAnywhere('System.Read')) {
      throw new PlatformError('FORBIDDEN', 'expected privilege System.Read, found it missing')
    }
    const events = await tx.listEvents(afterSeq, limit)
    const last = events.at(-1)?.seq
    if (rights.may('System.Read', SITE)) return { events, last }
    const places = await placesOf(tx, events)
    return {
      events: events.filter(({ subject }) =>
        rights.may('System.Read', places.get(subject) ?? SITE),
      ),
      last,
    }
  })
}

/** Where the subjects of events are: clusters, hosts and VMs that are still there. Of others, permissions on the site count alone. */
async function placesOf(
  tx: ControlPlaneTransaction,
  events: readonly EventView[],
): Promise<ReadonlyMap<string, Place>> {
  const subjects = [...new Set(events.map(({ subject }) => subject))]
  const named = (kind: string) =>
    subjects
      .filter((subject) => subject.startsWith(`${kind}:`))
      .map((s) => s.slice(kind.length + 1))
  const places = new Map<string, Place>()
  for (const name of named('cluster')) places.set(`cluster:${name}`, { kind: 'cluster', name })
  for (const hostId of named('host')) {
    const host = await tx.hostTrust(hostId)
    if (host) places.set(`host:${hostId}`, { kind: 'cluster', name: host.cluster })
  }
  for (const [vmId, place] of await tx.placesOfVms(named('vm'))) places.set(`vm:${vmId}`, place)
  return places
}
