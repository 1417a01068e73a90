import type { Kysely } from 'kysely'
import type { Place } from '../../people/index.js'

/** Where VMs are, for scopes of permissions. */
export type VmPlace = Extract<Place, { readonly kind: 'vm' }>

export interface VmPlaceTables {
  control_plane_vms: { vm_id: string; cluster: string }
  control_plane_vm_tags: { vm_id: string; tag: string }
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
    const some = vmIds.slice(at, at + MOST_AT_ONCE)
    const rows = await tables
      .selectFrom('control_plane_vms')
      .select(['vm_id', 'cluster'])
      .where('vm_id', 'in', some)
      .execute()
    const tags = await tables
      .selectFrom('control_plane_vm_tags')
      .selectAll()
      .where('vm_id', 'in', some)
      .execute()
    for (const { vm_id: vmId, cluster } of rows) {
      const own = tags.filter((row) => row.vm_id === vmId).flatMap(({ tag }) => foldersOf(tag))
      places.set(vmId, { kind: 'vm', vmId, cluster, tags: [...new Set(own)] })
    }
  }
  return places
}

/** Parameters of one statement: SQLite takes more, and the statement stays small. */
const MOST_AT_ONCE = 500

/** A tag with the folders that it is in: a permission on `prod` holds for `prod/web`, too. */
function foldersOf(tag: string): readonly string[] {
  const names = tag.split('/')
  return names.map((_, index) => names.slice(0, index + 1).join('/'))
}
