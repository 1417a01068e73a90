import { basename } from 'node:path'
import { type Static, Type } from 'typebox'
import { Exactly, Name, Uuid } from '../../api/common.js'
import { KeyContext, MAX_BATCH_ITEMS, Purpose, WrappedKey } from '../../api/key-provider.js'
import { messageOf } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import { type DiskBundle, listBundles } from './disk-bundle.js'
import { isErrno } from './errno.js'
import { isThere, readPrivateFile, replacePrivateFile } from './files.js'
import { CREATING, pathsOf } from './layout.js'
import type { KeyClient } from './ports.js'
import { encodeRecord, type KeyRecord, KeyRecords, parseRecord, readRecord } from './records.js'
import { byProvider, contextOf } from './vm-keys.js'

const FILE = 'releases.json'
const MAX_OCTETS = 64 * 1024 * 1024

const Pending = Exactly({
  vmId: Uuid,
  provider: Name,
  wrapped: WrappedKey,
  purpose: Purpose,
  context: KeyContext,
})
export type PendingRelease = Static<typeof Pending>

const PendingFile = Exactly({ format: Type.Literal(1), releases: Type.Array(Pending) })

/**
 * Wrapped keys that no VM of this host needs any longer, until their providers know it: on the disk, so that a provider
 * that is away, or an agent that is ended, loses none.
 *
 * A key is noted before it is dropped. What is found in the records of its VM when it is to be released was not dropped
 * after all, and is kept.
 */
export class KeyReleases {
  readonly #directory: string
  readonly #keys: KeyClient
  readonly #logger: Logger
  #turn: Promise<void> = Promise.resolve()

  constructor(directory: string, keys: KeyClient, logger: Logger) {
    this.#directory = directory
    this.#keys = keys
    this.#logger = logger
  }

  /**
   * Notes keys and then has them dropped, with nothing released in between. The note is on the disk before `drop` begins.
   */
  note(pending: readonly PendingRelease[], drop = async (): Promise<void> => {}): Promise<void> {
    return this.#inTurn(async () => {
      const before = await this.#read()
      const known = new Set(before.map(({ wrapped }) => wrapped))
      const added = pending.filter(({ wrapped }) => !known.has(wrapped))
      if (added.length > 0) await this.#write([...before, ...added])
      await drop()
    })
  }

  /** Strikes keys of a VM that another host has now: it needs them, whoever noted them here. */
  async keepRecords(vmId: string, records: readonly KeyRecord[]): Promise<void> {
    const needed = new Set(records.map(({ wrapped }) => wrapped))
    await this.#inTurn(async () => {
      const before = await this.#read()
      const left = before.filter((one) => one.vmId !== vmId || !needed.has(one.wrapped))
      if (left.length < before.length) await this.#write(left)
    })
  }

  /** Notes the keys of a directory that is about to be removed, as far as its records can be read. */
  async noteAllOf(vmId: string, root: string): Promise<void> {
    const { keys } = pathsOf(root)
    // it was not made after all, and may have come to no keys yet
    if (basename(root).startsWith(CREATING) && !(await isThere(keys))) return
    const records = await readRecord(keys, KeyRecords, 'keys.json').catch((error: unknown) =>
      this.#notReleased(vmId, error),
    )
    if (records) await this.noteRecords(vmId, records.keys)
  }

  /**
   * Notes keys of a VM that may have been dropped; those that are still used are not. Never throws: a key that is not
   * released harms nobody.
   */
  async noteRecords(vmId: string, records: readonly KeyRecord[]): Promise<void> {
    const all = records.map(({ object, provider, purpose, wrapped }) => ({
      ...{ vmId, provider, purpose, wrapped },
      context: contextOf(vmId, object),
    }))
    try {
      // a disk that was detached may leave this host at any time: its key is not to be in the notes
      const pending: PendingRelease[] = []
      for (const one of all) if (!(await this.#isInUse(one))) pending.push(one)
      await this.note(pending)
    } catch (error) {
      this.#notReleased(vmId, error)
    }
  }

  /** Notes the key of a detached disk that came into another VM, under a key that is wrapped for that. Never throws. */
  async noteBundle({ vm: { vmId }, encrypted }: DiskBundle): Promise<void> {
    if (!encrypted) return
    const { provider, wrapped, object } = encrypted
    await this.noteRecords(vmId, [{ object, provider, wrapped, purpose: 'vm-disk', generation: 1 }])
  }

  /** Tells providers; what they cannot be told now stays for the next time. Never throws. */
  async flush(): Promise<void> {
    const told = this.#inTurn(async () => {
      const all = await this.#read()
      if (all.length === 0) return
      const dropped: PendingRelease[] = []
      for (const one of all) if (!(await this.#isInUse(one))) dropped.push(one)
      const left = new Set<PendingRelease>()
      for (const [provider, items] of batchesOf(dropped)) {
        try {
          await this.#keys.release(provider, items)
        } catch (error) {
          for (const item of items) left.add(item)
          const reason = messageOf(error)
          this.#logger.info(
            { event: 'vm.release-later', provider, reason, keys: items.length },
            'wrapped keys are released later',
          )
        }
      }
      await this.#write([...left])
    })
    await told.catch((error: unknown) => {
      const reason = messageOf(error)
      this.#logger.error({ event: 'vm.release-failed', reason }, 'wrapped keys are not released')
    })
  }

  /** Resolves when nothing is being noted or told any more. */
  settled(): Promise<void> {
    return this.#turn
  }

  #notReleased(vmId: string, error: unknown): void {
    const reason = messageOf(error)
    this.#logger.warn(
      { event: 'vm.keys-not-released', vmId, reason },
      'wrapped keys of a VM stay noted with their provider',
    )
  }

  async #isInUse({ vmId, wrapped }: PendingRelease): Promise<boolean> {
    const octets = await readPrivateFile(
      pathsOf(`${this.#directory}/${vmId}`).keys,
      MAX_OCTETS,
    ).catch((error: unknown) => {
      if (isErrno(error, 'ENOTDIR')) return undefined
      throw error
    })
    if (octets !== undefined && Buffer.from(octets).includes(wrapped)) return true
    const detached = await listBundles(this.#directory)
    return detached.some(({ bundle }) => bundle.encrypted?.wrapped === wrapped)
  }

  async #read(): Promise<readonly PendingRelease[]> {
    const octets = await readPrivateFile(`${this.#directory}/${FILE}`, MAX_OCTETS)
    if (!octets) return []
    return parseRecord(PendingFile, octets, 'VM_DESCRIPTOR_CORRUPT', FILE).releases
  }

  #write(releases: readonly PendingRelease[]): Promise<void> {
    return replacePrivateFile(this.#directory, FILE, encodeRecord({ format: 1, releases }))
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(work)
    this.#turn = turn.catch(() => undefined)
    return turn
  }
}

function batchesOf(
  pending: readonly PendingRelease[],
): readonly (readonly [provider: string, items: readonly PendingRelease[]])[] {
  return [...byProvider(pending)].flatMap(([provider, items]) =>
    Array.from(
      { length: Math.ceil(items.length / MAX_BATCH_ITEMS) },
      (_, index) =>
        [provider, items.slice(index * MAX_BATCH_ITEMS, (index + 1) * MAX_BATCH_ITEMS)] as const,
    ),
  )
}
