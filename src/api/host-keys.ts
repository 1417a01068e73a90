import { type Static, Type } from 'typebox'
import {
  Empty,
  Exactly,
  Name,
  Next,
  NumberedPageQuery,
  Octets,
  PageQuery,
  Sentence,
  Time,
  Uuid,
} from './common.js'
import { DefaultInForce } from './default-provider.js'
import { Assurance, SealedKeys } from './key-provider.js'
import { ConnectionTest, KeyServersInput, KeyServersView } from './key-servers.js'
import { onSite } from './needs.js'
import { operation } from './operation.js'

/** Key providers whose keys the control plane delivers to hosts: native and standard ones. */
const BASE = '/control-plane/v1'

/** How many keys one answer brings. */
export const MAX_DELIVERED_KEYS = 500

export const HostKeyKind = Type.Union([Type.Literal('native'), Type.Literal('standard')])
export type HostKeyKind = Static<typeof HostKeyKind>

/** Of a native provider the version of its key; of a standard provider the number of one of its keys. */
const Version = Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1 })

// ---------------------------------------------------------------- what hosts call

const HostKeyProvider = Exactly({
  providerId: Uuid,
  name: Name,
  kind: HostKeyKind,
  tpmRequired: Type.Boolean({ description: 'keys are sealed to the TPM of the host' }),
  current: Type.Optional(
    Type.Integer({ minimum: 1, description: 'native: the version that wraps' }),
  ),
  versions: Type.Array(Version, { description: 'all that the host is to hold, and no others' }),
})
export type HostKeyProvider = Static<typeof HostKeyProvider>

/** The plaintext of sealed host keys. */
export const HostKeysContent = Exactly({
  keys: Type.Array(
    Exactly({ provider: Uuid, version: Version, key: Octets(32, 'the key, 32 octets') }),
    { maxItems: MAX_DELIVERED_KEYS },
  ),
})

export const HostKeyReport = Exactly({
  revision: Type.Integer({ minimum: 0, description: 'of the last answer; 0 before there is one' }),
  waitSeconds: Type.Integer({
    minimum: 0,
    maximum: 20,
    description: 'how long the answer may wait for something new',
  }),
  holds: Type.Array(
    Exactly({ providerId: Uuid, versions: Type.Array(Version, { maxItems: 10_000 }) }),
    { maxItems: 64, description: 'what is in the memory of the agent now' },
  ),
  failed: Type.Array(
    Exactly({
      providerId: Uuid,
      version: Version,
      code: Type.String({ pattern: '^[A-Z][A-Z0-9_]{0,63}$' }),
    }),
    { maxItems: MAX_DELIVERED_KEYS, description: 'what came and could not be opened' },
  ),
})
export type HostKeyReport = Static<typeof HostKeyReport>

export const syncHostKeys = operation({
  id: 'syncHostKeys',
  summary: 'Say what keys this host holds; get those that it lacks, and what it is to hold',
  method: 'POST',
  path: `${BASE}/host/keys/sync`,
  status: 200,
  body: HostKeyReport,
  answer: Exactly({
    revision: Type.Integer(),
    providers: Type.Array(HostKeyProvider),
    defaultProvider: Type.Optional(DefaultInForce),
    encryptionOff: Type.Optional(
      Type.Literal(true, { description: 'nothing is to be encrypted on this host' }),
    ),
    sealed: Exactly({ session: SealedKeys, tpm: SealedKeys }),
    missing: Type.Array(
      Exactly({ providerId: Uuid, version: Version, code: Type.String(), message: Sentence }),
      { description: 'keys that could not be had or sealed' },
    ),
    more: Type.Boolean({ description: 'there are more keys than fit in one answer' }),
  }),
})
export type HostKeysAnswer = Static<(typeof syncHostKeys)['answer']>

const KeyUse = Type.Union([
  Exactly({ kind: Type.Literal('vm'), id: Uuid }),
  Exactly({
    kind: Type.Literal('host'),
    id: Type.String({ minLength: 1, maxLength: 64, description: 'hardware UUID of the host' }),
  }),
])

export const takeHostKey = operation({
  id: 'takeHostKey',
  summary: 'A new key of a standard provider to encrypt a VM with, or the key of this host',
  method: 'POST',
  path: `${BASE}/host/keys`,
  status: 200,
  body: Exactly({ provider: Name, use: KeyUse }),
  answer: Exactly({
    providerId: Uuid,
    version: Version,
    assurance: Assurance,
    sealed: SealedKeys,
  }),
})

// ---------------------------------------------------------------- what administrators call

const ProviderParams = Exactly({ provider: Name })

const HostKeySettings = {
  clusters: Type.Array(Name, {
    maxItems: 1000,
    uniqueItems: true,
    description: 'clusters whose hosts get its keys',
  }),
  tpmRequired: Type.Boolean({ description: 'seal keys to the TPM of each host, and to no other' }),
}

const BackupMaxAgeDays = Type.Integer({
  minimum: 1,
  maximum: 3650,
  description: 'a backup that is older is warned of',
})

export const HostKeyProviderView = Exactly({
  name: Name,
  providerId: Uuid,
  kind: HostKeyKind,
  state: Type.Union([Type.Literal('active'), Type.Literal('deleting')]),
  ...HostKeySettings,
  createdAt: Time,
  current: Type.Optional(Type.Integer({ description: 'native: the version that wraps' })),
  keys: Type.Integer({ description: 'how many keys or versions there are' }),
  vms: Type.Integer({ description: 'VMs in the inventory that use it' }),
  backup: Type.Optional(
    Exactly({
      state: Type.Union(
        [
          Type.Literal('none'),
          Type.Literal('newest-missing'),
          Type.Literal('old'),
          Type.Literal('done'),
        ],
        { description: 'none: nothing can be wrapped; newest-missing: the newest version waits' },
      ),
      at: Type.Optional(Time),
      maxAgeDays: BackupMaxAgeDays,
    }),
  ),
  keyServers: Type.Optional(KeyServersView),
  deliveries: Type.Record(Type.String(), Type.Integer(), {
    description: 'how many deliveries are in which state',
  }),
})
export type HostKeyProviderView = Static<typeof HostKeyProviderView>

export const createNativeProvider = operation({
  id: 'createNativeProvider',
  needs: onSite('Cryptographer.ManageKeyServers'),
  summary: 'Make a native key provider; it is of no use before its first backup',
  method: 'POST',
  path: `${BASE}/native-providers`,
  status: 201,
  body: Exactly({
    name: Name,
    ...HostKeySettings,
    backupMaxAgeDays: Type.Optional(BackupMaxAgeDays),
  }),
  answer: HostKeyProviderView,
  errors: ['CONFLICT', 'NOT_FOUND'],
  example: { name: 'silver', clusters: ['lab'], tpmRequired: true },
})

const Force = Type.Optional(
  Type.Boolean({
    description: 'save although a server does not answer; nothing else is passed over',
  }),
)

export const createStandardProvider = operation({
  id: 'createStandardProvider',
  needs: onSite('Cryptographer.ManageKeyServers'),
  summary:
    'Make a standard key provider: a key for each VM from key servers, which are tested first',
  method: 'POST',
  path: `${BASE}/standard-providers`,
  status: 201,
  body: Exactly({ name: Name, ...HostKeySettings, keyServers: KeyServersInput, force: Force }),
  answer: HostKeyProviderView,
  errors: ['CONFLICT', 'KEY_SERVERS', 'KEY_SERVERS_TEST', 'NOT_FOUND'],
})

export const setStandardKeyServers = operation({
  id: 'setStandardKeyServers',
  needs: onSite('Cryptographer.ManageKeyServers'),
  summary: 'Change how the key servers of a standard provider are reached, after a test',
  method: 'PUT',
  path: `${BASE}/key-providers/:provider/key-servers`,
  status: 200,
  params: ProviderParams,
  body: Exactly({ keyServers: KeyServersInput, force: Force }),
  answer: HostKeyProviderView,
  errors: ['CONFLICT', 'KEY_SERVERS', 'KEY_SERVERS_TEST'],
})

export const testStandardProvider = operation({
  id: 'testStandardProvider',
  needs: onSite('Cryptographer.ManageKeyServers'),
  summary: 'Test the key servers of a standard provider step by step',
  method: 'POST',
  path: `${BASE}/key-providers/:provider/test`,
  status: 200,
  params: ProviderParams,
  body: Empty,
  answer: ConnectionTest,
  errors: ['CONFLICT'],
})

export const listHostKeyProviders = operation({
  id: 'listHostKeyProviders',
  needs: onSite('Cryptographer.ReadKeyServersInfo'),
  summary: 'Native and standard key providers',
  method: 'GET',
  path: `${BASE}/key-providers`,
  status: 200,
  query: Exactly({ kind: Type.Optional(HostKeyKind), ...PageQuery }),
  answer: Exactly({ providers: Type.Array(HostKeyProviderView), next: Next }),
})

export const getHostKeyProvider = operation({
  id: 'getHostKeyProvider',
  needs: onSite('Cryptographer.ReadKeyServersInfo'),
  summary: 'One native or standard key provider',
  method: 'GET',
  path: `${BASE}/key-providers/:provider`,
  status: 200,
  params: ProviderParams,
  answer: HostKeyProviderView,
})

export const setHostKeyProvider = operation({
  id: 'setHostKeyProvider',
  needs: onSite('Cryptographer.ManageKeyServers'),
  summary: 'Change which clusters get the keys of a key provider',
  method: 'PUT',
  path: `${BASE}/key-providers/:provider/clusters`,
  status: 200,
  params: ProviderParams,
  body: Exactly({ clusters: HostKeySettings.clusters }),
  answer: HostKeyProviderView,
  errors: ['CONFLICT', 'HOST_KEY_IN_USE'],
})

export const rotateNativeProvider = operation({
  id: 'rotateNativeProvider',
  needs: onSite('Cryptographer.ManageKeys'),
  summary: 'Make a new version of the key of a native provider; it is used once it is backed up',
  method: 'POST',
  path: `${BASE}/key-providers/:provider/rotation`,
  status: 201,
  params: ProviderParams,
  body: Empty,
  answer: HostKeyProviderView,
  errors: ['CONFLICT'],
})

export const HostKeyView = Exactly({
  version: Version,
  createdAt: Time,
  state: Type.Union([Type.Literal('not-backed-up'), Type.Literal('usable')]),
  keyId: Type.Optional(Type.String({ description: 'standard: what the key server calls it' })),
  cluster: Type.Optional(Name),
  use: Type.Optional(Exactly({ kind: Type.String(), id: Type.String() })),
})
export type HostKeyView = Static<typeof HostKeyView>

export const listHostKeys = operation({
  id: 'listHostKeys',
  needs: onSite('Cryptographer.ReadKeyServersInfo'),
  summary: 'Keys of a native or standard key provider, without the keys',
  method: 'GET',
  path: `${BASE}/key-providers/:provider/keys`,
  status: 200,
  params: ProviderParams,
  query: Exactly(NumberedPageQuery),
  answer: Exactly({ keys: Type.Array(HostKeyView), next: Next }),
})

export const DeliveryState = Type.Union([
  Type.Literal('pending'),
  Type.Literal('delivered'),
  Type.Literal('confirmed'),
  Type.Literal('failed'),
  Type.Literal('erasing'),
  Type.Literal('erased'),
])
export type DeliveryState = Static<typeof DeliveryState>

export const HostKeyDeliveryView = Exactly({
  version: Version,
  hostId: Name,
  state: DeliveryState,
  code: Type.Optional(Type.String()),
  at: Time,
})
export type HostKeyDeliveryView = Static<typeof HostKeyDeliveryView>

export const listHostKeyDeliveries = operation({
  id: 'listHostKeyDeliveries',
  needs: onSite('Cryptographer.ReadKeyServersInfo'),
  summary: 'Which host has which key of a key provider',
  method: 'GET',
  path: `${BASE}/key-providers/:provider/deliveries`,
  status: 200,
  params: ProviderParams,
  query: Exactly({
    ...PageQuery,
    after: Type.Optional({
      ...PageQuery.after,
      pattern: '^[0-9]{1,15}:[a-z0-9._-]{1,63}$',
    }),
  }),
  answer: Exactly({ deliveries: Type.Array(HostKeyDeliveryView), next: Next }),
})

export const deleteHostKeyProvider = operation({
  id: 'deleteHostKeyProvider',
  needs: onSite('Cryptographer.ManageKeyServers', 'Cryptographer.ManageKeys'),
  summary: 'Delete a key provider: its hosts erase its keys and confirm it',
  method: 'POST',
  path: `${BASE}/key-providers/:provider/deletion`,
  status: 202,
  params: ProviderParams,
  body: Exactly({
    reason: Sentence,
    force: Type.Optional(
      Type.Boolean({
        description: 'although VMs use it, it is a default, or hosts have not confirmed',
      }),
    ),
  }),
  answer: Exactly({
    deleted: Type.Boolean({ description: 'false while hosts have yet to confirm' }),
    awaits: Type.Array(Name, { description: 'hosts that have yet to confirm' }),
  }),
  errors: ['HOST_KEY_IN_USE'],
})

const Passphrase = Type.String({ minLength: 12, maxLength: 1024 })
const BackupFile = Octets(256 * 1024, 'PKCS#12')

export const backupNativeProvider = operation({
  id: 'backupNativeProvider',
  needs: onSite('Cryptographer.ManageKeys'),
  summary: 'All versions of the key of a native provider as PKCS#12 under a passphrase',
  method: 'POST',
  path: `${BASE}/key-providers/:provider/backups`,
  status: 201,
  params: ProviderParams,
  body: Exactly({ passphrase: Passphrase }),
  answer: Exactly({
    file: BackupFile,
    digest: Type.String({ description: 'SHA-256 of the file, hexadecimal' }),
  }),
  errors: ['CONFLICT'],
})

export const confirmBackup = operation({
  id: 'confirmBackup',
  needs: onSite('Cryptographer.ManageKeys'),
  summary: 'Say that the backup was written: what is in it may be used from now on',
  method: 'POST',
  path: `${BASE}/key-providers/:provider/backups/confirmation`,
  status: 200,
  params: ProviderParams,
  body: Exactly({ digest: Type.String({ pattern: '^[0-9a-f]{64}$' }) }),
  answer: HostKeyProviderView,
  errors: ['BACKUP_DIGEST', 'CONFLICT'],
})

export const restoreNativeProvider = operation({
  id: 'restoreNativeProvider',
  needs: onSite('Cryptographer.ManageKeyServers', 'Cryptographer.ManageKeys'),
  summary: 'Make a native key provider of a backup: same identity, same keys',
  method: 'POST',
  path: `${BASE}/native-providers/restoration`,
  status: 201,
  body: Exactly({
    file: BackupFile,
    passphrase: Type.String({ minLength: 1, maxLength: 1024 }),
    name: Type.Optional(Name),
    clusters: HostKeySettings.clusters,
  }),
  answer: HostKeyProviderView,
  errors: ['BACKUP_CONTENT', 'CONFLICT', 'DECODE_ENCODING', 'NOT_FOUND', 'PKCS12_UNREADABLE'],
})
