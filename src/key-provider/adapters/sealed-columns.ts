import { KEY_SERVERS_PURPOSE, keyServersContext } from '../../key-servers/index.js'
import { type SealedColumn, textOf } from '../../store/index.js'
import { subjectOf } from './key-server-keys.js'
import { PRIMARY_KEY_PURPOSE, primaryKeyContext } from './keystore.js'

/** What this service keeps sealed in tables of its own. */
export const KEY_PROVIDER_SEALED: readonly SealedColumn[] = [
  {
    ...{ table: 'key_provider_versions', column: 'sealed', keys: ['provider_id', 'version'] },
    purpose: PRIMARY_KEY_PURPOSE,
    contextOf: (row) =>
      primaryKeyContext({
        providerId: textOf(row, 'provider_id'),
        version: Number(row['version']),
        createdAtMs: Number(row['created_at_ms']),
      }),
  },
  {
    ...{ table: 'key_provider_providers', column: 'key_servers_sealed', keys: ['provider_id'] },
    purpose: KEY_SERVERS_PURPOSE,
    contextOf: (row) =>
      keyServersContext(subjectOf(textOf(row, 'provider_id')), textOf(row, 'key_servers')),
  },
]
