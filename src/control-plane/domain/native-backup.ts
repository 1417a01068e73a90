import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { Exactly, Name, Time, Uuid } from '../../api/common.js'
import type { HostKeyProviderView } from '../../api/host-keys.js'
import { parseUtf8, toHex, utf8 } from '../../core/bytes.js'
import { canonicalJson } from '../../core/canonical-json.js'
import { isoTime } from '../../core/clock.js'
import { digestOf } from '../../core/digest.js'
import { PlatformError } from '../../core/errors.js'
import { Secret } from '../../core/secret.js'
import type { ChangeSignal, KdkSeal, StoredHostKey, StoredKeyProvider } from '../host-key-ports.js'
import type { ControlPlaneStore } from '../ports.js'
import {
  active,
  known,
  recordChange,
  requireClusters,
  requireNative,
  viewOf,
} from './host-key-providers.js'
import type { Act } from './inventory.js'

/** A file of named secrets under a passphrase. */
export interface BackupFiles {
  seal(passphrase: Secret, secrets: readonly NamedSecret[]): Promise<Uint8Array>
  /** The secrets belong to the caller. @throws PlatformError `PKCS12_…` */
  open(file: Uint8Array, passphrase: Secret): Promise<readonly NamedSecret[]>
}

interface NamedSecret {
  readonly name: string
  readonly octets: Secret
}

/** The name of the first secret of a backup: what the others are. */
const DESCRIPTION = 'sigillo native key provider'

/** What the first secret says, as canonical JSON. */
const Description = Exactly({
  format: Type.Literal(1),
  providerId: Uuid,
  name: Name,
  tpmRequired: Type.Boolean(),
  backupMaxAgeDays: Type.Integer({ minimum: 1, maximum: 3650 }),
  madeAt: Time,
  versions: Type.Array(
    Exactly({ version: Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1 }), createdAt: Time }),
    { minItems: 1, maxItems: 1000 },
  ),
})
type Description = Static<typeof Description>

const KDK_OCTETS = 32

/** Backups of native key providers. A key is used once a backup with it is known to be written. */
export function createNativeBackups(deps: {
  readonly store: ControlPlaneStore
  readonly kdks: KdkSeal
  readonly files: BackupFiles
  readonly changes: ChangeSignal
}) {
  const { store, kdks, files } = deps
  return {
    /**
     * A file with every version of the key. Nothing may be wrapped with a new version before `confirm` is told that the
     * file was written.
     */
    make: async (
      act: Act,
      name: string,
      passphrase: Secret,
    ): Promise<{ readonly file: Uint8Array; readonly digest: string }> => {
      const { provider, keys } = await store.transaction(async (tx) => {
        const provider = await active(tx, name)
        requireNative(provider)
        return { provider, keys: await tx.listHostKeys(provider.providerId) }
      })
      const secrets = backupSecrets(kdks, provider, keys, act.nowMs)
      const file = await files.seal(passphrase, secrets).finally(() => {
        for (const { octets } of secrets) octets.dispose()
      })
      const digest = toHex(digestOf('sha256', file))
      const version = keys.at(-1)?.version ?? 0
      await store.transaction(async (tx) => {
        const { providerId } = await active(tx, name)
        await tx.updateKeyProvider(providerId, { pendingBackup: { digest, version } })
        await tx.audit({
          atMs: act.nowMs,
          actor: act.actor,
          action: 'key-provider.backup',
          subject: `provider:${name}`,
          outcome: 'allowed',
          detail: { providerId, digest, version },
        })
      })
      return { file, digest }
    },

    /** @throws PlatformError `BACKUP_DIGEST` where this is not the file that was made last */
    confirm: async (act: Act, name: string, digest: string): Promise<HostKeyProviderView> => {
      const view = await store.transaction(async (tx) => {
        const provider = await active(tx, name)
        const { pendingBackup, providerId } = provider
        if (pendingBackup?.digest !== digest) {
          const expected = `expected the backup of ${name} that was made last, found another`
          throw new PlatformError('BACKUP_DIGEST', expected)
        }
        await tx.makeUsable(providerId, pendingBackup.version, act.nowMs)
        await tx.updateKeyProvider(providerId, {
          pendingBackup: undefined,
          backedUpAtMs: act.nowMs,
          warnedAtMs: 0,
        })
        await tx.raiseHostKeyRevision()
        const message = `key provider ${name} backed up to version ${pendingBackup.version}`
        const { version } = pendingBackup
        await recordChange(tx, act, provider, 'backed-up', message, { digest, version })
        return viewOf(tx, await known(tx, name), act.nowMs)
      })
      deps.changes.raise()
      return view
    },

    /**
     * Makes the provider of a backup again: same identity, same keys, so that what was wrapped before opens.
     *
     * @throws PlatformError `PKCS12_…`, `BACKUP_CONTENT`, `CONFLICT` where it is here
     */
    restore: async (
      act: Act,
      backup: {
        readonly file: Uint8Array
        readonly passphrase: Secret
        readonly name: string | undefined
        readonly clusters: readonly string[]
      },
    ): Promise<HostKeyProviderView> => {
      const secrets = await files.open(backup.file, backup.passphrase)
      try {
        const { description, kdks: restored } = readBackup(secrets)
        const { providerId } = description
        const keys = restored.map(({ version, createdAtMs, octets }): StoredHostKey => {
          const sealed = octets.use((kdk) => kdks.seal({ providerId, version }, kdk))
          return { providerId, version, createdAtMs, sealed, usableAtMs: act.nowMs }
        })
        const provider = restoredProvider(description, backup, keys, act.nowMs)
        const view = await store.transaction(async (tx) => {
          await requireClusters(tx, backup.clusters)
          await tx.insertKeyProvider(provider)
          for (const key of keys) await tx.insertHostKey(key)
          await tx.raiseHostKeyRevision()
          const message = `key provider ${provider.name} restored from a backup of ${description.madeAt}`
          const { clusters } = provider
          const versions = keys.map(({ version }) => version)
          await recordChange(tx, act, provider, 'restored', message, { clusters, versions })
          return viewOf(tx, provider, act.nowMs)
        })
        deps.changes.raise()
        return view
      } finally {
        for (const { octets } of secrets) octets.dispose()
      }
    },
  }
}

export type NativeBackups = ReturnType<typeof createNativeBackups>

function backupSecrets(
  kdks: KdkSeal,
  provider: StoredKeyProvider,
  keys: readonly StoredHostKey[],
  nowMs: number,
): readonly NamedSecret[] {
  const { providerId, name, tpmRequired, backupMaxAgeDays = 90 } = provider
  const description: Description = {
    ...{ format: 1, providerId, name, tpmRequired, backupMaxAgeDays },
    madeAt: isoTime(nowMs),
    versions: keys.map(({ version, createdAtMs }) => ({
      version,
      createdAt: isoTime(createdAtMs),
    })),
  }
  return [
    { name: DESCRIPTION, octets: new Secret(utf8(canonicalJson(description))) },
    ...keys.map(({ version, sealed = new Uint8Array() }) => ({
      name: `version ${version}`,
      octets: kdks.open({ providerId, version }, sealed),
    })),
  ]
}

function readBackup(secrets: readonly NamedSecret[]) {
  const [first, ...rest] = secrets
  if (first?.name !== DESCRIPTION) throw notABackup(`a secret named ${DESCRIPTION}`)
  const description = first.octets.use(parseDescription)
  const { versions } = description
  const ascends = versions.every(
    ({ version }, index) => version > (versions[index - 1]?.version ?? 0),
  )
  if (rest.length !== versions.length || !ascends) throw notABackup('one key for each version')
  return {
    description,
    kdks: versions.map(({ version, createdAt }, index) => {
      const { name, octets } = rest[index] ?? first
      if (name !== `version ${version}` || octets.length !== KDK_OCTETS) {
        throw notABackup(`a key of ${KDK_OCTETS} octets for version ${version}`)
      }
      return { version, octets, createdAtMs: Date.parse(createdAt) }
    }),
  }
}

function parseDescription(octets: Uint8Array): Description {
  let value: unknown
  try {
    value = JSON.parse(parseUtf8(octets))
  } catch (cause) {
    throw notABackup('a description in JSON', cause)
  }
  if (!Value.Check(Description, value)) throw notABackup('a description of format 1')
  return value
}

function restoredProvider(
  { providerId, name, tpmRequired, backupMaxAgeDays, madeAt }: Description,
  backup: { readonly name: string | undefined; readonly clusters: readonly string[] },
  keys: readonly StoredHostKey[],
  nowMs: number,
): StoredKeyProvider {
  return {
    ...{ providerId, tpmRequired, backupMaxAgeDays },
    name: backup.name ?? name,
    kind: 'native',
    state: 'active',
    clusters: backup.clusters,
    createdAtMs: keys[0]?.createdAtMs ?? nowMs,
    backedUpAtMs: Date.parse(madeAt),
  }
}

function notABackup(expected: string, cause?: unknown): PlatformError {
  return new PlatformError('BACKUP_CONTENT', `expected ${expected} in the backup`, { cause })
}
