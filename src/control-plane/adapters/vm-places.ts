import type { Kysely } from 'kysely'
import type { Place } from '../../people/index.js'

/** Where VMs are, for scopes of permissions. */
export type VmPlace = Extract<Place, { readonly kind: 'vm' }>

export interface VmPlaceTables {
  control_plane_vms: { vm_id: string; cluster: string }
}

/** The place of a VM; of one that is not known, a place that only permissions on the site, or on this id, cover. */
export async function placeOfVm<T extends VmPlaceTables>(
  db: Kysely<T>,
  vmId: string,
): Promise<VmPlace> {
  const place = (await placesOfVms(db, [vmId])).get(vmId)
  return place ?? { kind: 'vm', vmId, tags: [] }
}

/** The places of those VMs that are known, by id. */
export async function placesOfVms<T extends VmPlaceTables>(
  db: Kysely<T>,
  vmIds: readonly string[],
): Promise<ReadonlyMap<string, VmPlace>> {
  const tables = db as unknown as Kysely<VmPlaceTables>
  const places = new Map<string, VmPlace>()
  for (let at = 0; at < vmIds.length; at += MOST_AT_ONCE) {
    const rows = await tables
      .selectFrom('control_plane_vms')
      .select(['vm_id', 'cluster'])
      .where('vm_id', 'in', vmIds.slice(at, at + MOST_AT_ONCE))
      .execute()
    for (const { vm_id: vmId, cluster } of rows) {
      places.set(vmId, { kind: 'vm', vmId, cluster, tags: [] })
    }
  }
  return places
}

/** Parameters of one statement: SQLite takes more, and the statement stays small. */
const MOST_AT_ONCE = 500
