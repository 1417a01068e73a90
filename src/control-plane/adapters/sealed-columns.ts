import { KEY_SERVERS_PURPOSE, keyServersContext } from '../../key-servers/index.js'
import { type SealedColumn, textOf } from '../../store/index.js'
import { KDK_PURPOSE, kdkContext } from './kdk-seal.js'
import { subjectOf } from './key-server-keks.js'

/** What this service keeps sealed in tables of its own. */
export const CONTROL_PLANE_SEALED: readonly SealedColumn[] = [
  {
    ...{ table: 'control_plane_host_keys', column: 'sealed', keys: ['provider_id', 'version'] },
    purpose: KDK_PURPOSE,
    contextOf: (row) =>
      kdkContext({ providerId: textOf(row, 'provider_id'), version: Number(row['version']) }),
  },
  {
    table: 'control_plane_key_providers',
    column: 'sealed_key_servers',
    keys: ['provider_id'],
    purpose: KEY_SERVERS_PURPOSE,
    contextOf: (row) =>
      keyServersContext(subjectOf(textOf(row, 'provider_id')), textOf(row, 'key_servers')),
  },
]
