import type { VtpmStateCause } from '../../api/vtpm-states.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import type { Secret } from '../../core/secret.js'
import { replacePrivateFile } from './files.js'
import type { VtpmWitness } from './ports.js'
import type { StoredVm, VmStore } from './vm-store.js'
import {
  corrupt,
  isStateError,
  openVtpmState,
  readVtpmRecord,
  readVtpmState,
  recordVtpmState,
  type VtpmStateFile,
} from './vtpm-record.js'
import { judgeVtpmState, type WitnessAnswer } from './vtpm-standing.js'
import { verifyVtpmState } from './vtpm-state.js'

/** What becomes of an older state that was put back: it is refused, or used with a warning. */
export type RollbackPolicy = 'refuse' | 'warn'

/**
 * Which state a virtual TPM may go on from, by its record and by a witness elsewhere. Operations on one VM must go one after
 * another.
 */
export class VtpmStates {
  readonly #store: VmStore
  readonly #rollback: RollbackPolicy
  readonly #witness: VtpmWitness | undefined
  readonly #logger: Logger
  /** By VM: the state that the witness was told of last by this process. */
  readonly #told = new Map<string, string>()

  constructor(options: {
    readonly store: VmStore
    readonly rollback: RollbackPolicy
    readonly witness: VtpmWitness | undefined
    readonly logger: Logger
  }) {
    this.#store = options.store
    this.#rollback = options.rollback
    this.#witness = options.witness
    this.#logger = options.logger
  }

  /**
   * To be called before the state of a stopped VM is used. What is accepted here is recorded as the state to start from.
   *
   * @throws PlatformError `VTPM_STATE_…`, `VM_KEY_WRONG`; the witness hears of it
   */
  async require(vm: StoredVm, dek: Secret): Promise<void> {
    try {
      await this.#require(vm, dek)
    } catch (error) {
      const reason = await this.#explain(vm, error)
      if (isPlatformError(reason) && reason.code.startsWith('VTPM_STATE_')) {
        const { vmId, name } = vm.descriptor
        const { code, message } = reason
        this.#logger.error({ event: 'vtpm.state-refused', vmId, name, code }, 'a state was refused')
        await this.#trying(vm, (witness) => witness.complain(vmId, { code, message }))
      }
      throw reason
    }
  }

  /**
   * Tells the witness of the recorded state, unless it was told.
   *
   * @returns whether it knows; not while it is away
   */
  async tell(vm: StoredVm): Promise<boolean> {
    const { vmId, vtpm } = vm.descriptor
    if (!vtpm || !this.#witness) return true
    const { generation, digest } = await readVtpmRecord(vm.paths)
    const told = this.#told.get(vmId)
    if (told === `${generation} ${digest}`) return true
    const cause = told === undefined && generation > 1 ? 'late' : 'recorded'
    const outcome = await this.#trying(vm, async () => {
      try {
        await this.#note(vm, generation, digest, cause)
      } catch (error) {
        if (!isPlatformError(error, 'VTPM_STATE_ROLLBACK')) throw error
        // its event is there: it is not told again with each report
        this.#told.set(vmId, `${generation} ${digest}`)
        const { message: reason } = error
        this.#logger.error({ event: 'vtpm.state-rolled-back', vmId, reason }, 'an older state')
      }
      return true
    })
    return outcome === true
  }

  /**
   * Makes a state that is refused as an older one the one to start from, because an administrator says so. The witness
   * is told first, and must answer.
   *
   * @throws PlatformError `VTPM_STATE_INTACT` when the state is not refused; `VTPM_STATE_…` of one that cannot be used
   */
  async accept(vm: StoredVm, dek: Secret): Promise<void> {
    const { file, record, standing } = await openVtpmState(vm.paths, dek)
    const { vmId } = vm.descriptor
    const known = await this.#witness?.ask(vmId, file.digest)
    if (judgeVtpmState({ standing, generation: record.generation }, known) !== 'rolled-back') {
      throw new PlatformError('VTPM_STATE_INTACT', 'the state is one that the VM starts from')
    }
    const generation = nextGeneration(record.generation, known)
    await this.#note(vm, generation, file.digest, 'accepted')
    await recordVtpmState(vm.paths, file, generation)
  }

  /**
   * Puts the copy of the recorded state in the place of one that is missing, damaged or older.
   *
   * @throws PlatformError `VTPM_STATE_INTACT` when there is nothing to be restored; `VTPM_STATE_…` of the copy
   */
  async restore(vm: StoredVm, dek: Secret): Promise<void> {
    const { paths, descriptor } = vm
    if (await this.#isUsable(vm, dek)) {
      throw new PlatformError('VTPM_STATE_INTACT', 'the state is one that the VM starts from')
    }
    const record = await readVtpmRecord(paths)
    const copy = await readVtpmState(paths.vtpmBackup)
    if (!verifyVtpmState(copy.parsed, dek)) throw corrupt('does not verify in its copy either')
    const standing =
      copy.digest === record.digest
        ? 'recorded'
        : record.state === 'running'
          ? 'unrecorded'
          : 'other'
    const known = await this.#ask(vm, copy.digest)
    const { generation } = record
    const verdict = judgeVtpmState({ standing, generation }, known)
    if (verdict === 'rolled-back') throw rolledBack(record, copy)
    await replacePrivateFile(paths.vtpm, 'tpm2-00.permall', copy.octets)
    const next = standing === 'recorded' ? generation : nextGeneration(generation, known)
    await recordVtpmState(paths, copy, next)
    const { vmId, name } = descriptor
    this.#logger.warn({ event: 'vtpm.state-restored', vmId, name }, 'a state was restored')
    await this.#trying(vm, () => this.#note(vm, next, copy.digest, 'restored'))
  }

  async #require(vm: StoredVm, dek: Secret): Promise<void> {
    const { file, record, standing } = await openVtpmState(vm.paths, dek)
    const known = await this.#ask(vm, file.digest)
    const { generation } = record
    const verdict = judgeVtpmState({ standing, generation }, known)
    if (verdict === 'current') return
    if (verdict === 'rolled-back' && this.#rollback === 'refuse') throw rolledBack(record, file)
    const { vmId, name } = vm.descriptor
    this.#logger.warn(
      { event: `vtpm.state-${verdict}`, vmId, name },
      'a state is not the known one',
    )
    if (verdict === 'unconfirmed') {
      await this.#trying(vm, () => this.#note(vm, generation, file.digest, 'late'))
      return
    }
    const next = nextGeneration(generation, known)
    await recordVtpmState(vm.paths, file, next)
    const cause = verdict === 'unrecorded' ? 'unrecorded' : 'tolerated'
    await this.#trying(vm, () => this.#note(vm, next, file.digest, cause))
  }

  /** Whether the state verifies and is no older one. */
  async #isUsable(vm: StoredVm, dek: Secret): Promise<boolean> {
    try {
      const { file, record, standing } = await openVtpmState(vm.paths, dek)
      const known = await this.#ask(vm, file.digest)
      const { generation } = record
      return judgeVtpmState({ standing, generation }, known) !== 'rolled-back'
    } catch (error) {
      if (isStateError(error)) return false
      throw error
    }
  }

  /** A state that does not verify may be the one of another VM of this host. */
  async #explain(vm: StoredVm, error: unknown): Promise<unknown> {
    if (!isPlatformError(error, 'VTPM_STATE_CORRUPT')) return error
    const file = await readVtpmState(vm.paths.vtpmState).catch(() => undefined)
    if (!file) return error
    for (const other of await this.#store.list()) {
      if (!other.descriptor.vtpm || other.descriptor.vmId === vm.descriptor.vmId) continue
      const record = await readVtpmRecord(other.paths).catch(() => undefined)
      if (record?.digest !== file.digest) continue
      const message = `the state of the virtual TPM is that of VM ${other.descriptor.name}`
      return new PlatformError('VTPM_STATE_FOREIGN', message, { cause: error })
    }
    return error
  }

  async #note(
    vm: StoredVm,
    generation: number,
    digest: string,
    cause: VtpmStateCause,
  ): Promise<void> {
    const { vmId } = vm.descriptor
    await this.#witness?.note(vmId, { generation, digest, cause })
    this.#told.set(vmId, `${generation} ${digest}`)
  }

  #ask(vm: StoredVm, digest: string): Promise<WitnessAnswer | undefined> {
    return this.#trying(vm, (witness) => witness.ask(vm.descriptor.vmId, digest))
  }

  /** A witness that does not answer keeps nobody from work; that it was not asked is in the log. */
  async #trying<T>(
    vm: StoredVm,
    call: (witness: VtpmWitness) => Promise<T>,
  ): Promise<T | undefined> {
    if (!this.#witness) return undefined
    try {
      return await call(this.#witness)
    } catch (error) {
      const { vmId, name } = vm.descriptor
      const reason = messageOf(error)
      this.#logger.warn({ event: 'vtpm.unwitnessed', vmId, name, reason }, 'no witness of a state')
      return undefined
    }
  }
}

function nextGeneration(generation: number, known: WitnessAnswer | undefined): number {
  return Math.max(generation, known?.newestGeneration ?? 0) + 1
}

function rolledBack(
  record: { readonly generation: number; readonly digest: string },
  found: Pick<VtpmStateFile, 'digest'>,
): PlatformError {
  const what =
    found.digest === record.digest
      ? `a later state than that of generation ${record.generation}, which is here, is known`
      : `expected the state of generation ${record.generation} with SHA-256 ${record.digest}, found ${found.digest}`
  return new PlatformError('VTPM_STATE_ROLLBACK', what)
}
