import type { Tpm } from '../src/tpm/index.js'
import { createCommandQueue } from './command-queue.js'
import { capabilityCommands } from './commands/capability.js'
import { keyCommands } from './commands/keys.js'
import { nvCommands } from './commands/nv.js'
import { pcrCommands } from './commands/pcr.js'
import { randomCommands } from './commands/random.js'
import { sealingCommands } from './commands/sealing.js'
import { secretCommands } from './commands/secrets.js'
import { signingCommands } from './commands/signing.js'
import { type EsysContext, openEsysContext, requireTcti } from './esys-context.js'
import { flushHandle, type Sessions, startSessions } from './sessions.js'
import { isTpmFull } from './tpm-error.js'

/** Longest command that is waited for: making an RSA key on a slow hardware TPM takes half a minute. */
const DEADLINE_MS = 120_000
/** Closing only flushes: a TPM that takes longer is lost. */
const CLOSE_DEADLINE_MS = 5_000

/**
 * Opens a TPM through tpm2-tss.
 *
 * The keys and sessions of this opening are flushed when it is closed; what an earlier process left is flushed where it
 * leaves no room for this one, else by `flushLeftovers`. Once a command failed with `TPM_UNREACHABLE`, all later ones do so at once: close it and open anew.
 *
 * @param options.tcti `device:/dev/tpmrm0`, or `swtpm:path=/socket` with swtpm's control socket at `/socket.ctrl`
 * @param options.deadlineMs how long one command may take before the TPM counts as lost
 * @throws PlatformError `TPM_TCTI`, `TPM_UNREACHABLE`, `TPM_LIBRARY` (tpm2-tss is not installed)
 */
export async function openTpm(options: {
  readonly tcti: string
  readonly deadlineMs?: number
}): Promise<Tpm> {
  requireTcti(options.tcti)
  const queue = createCommandQueue({ deadlineMs: options.deadlineMs ?? DEADLINE_MS })
  /** A call past its deadline still runs in its thread: C's memory is freed when it returns, if ever. */
  const closeWhenReturned = async (opened: Promise<EsysContext>): Promise<void> => {
    const closing = queue.returned().then(async () => (await opened).close())
    if (queue.overdue) closing.catch((): undefined => undefined)
    else await closing
  }

  const opening = openEsysContext(options.tcti)
  const open = async () => {
    const { address } = await opening
    return { address, sessions: await startInRoom(address) }
  }
  const { address, sessions } = await queue.run(open).catch(async (error: unknown) => {
    await closeWhenReturned(opening).catch((): undefined => undefined)
    throw error
  })

  const keysInTpm = new Set<number>()
  const flushOwn = async (): Promise<void> => {
    for (const handle of keysInTpm) await flushHandle(address, handle)
    for (const session of sessions.all) await flushHandle(address, session)
  }
  let closed: Promise<void> | undefined
  const close = async (): Promise<void> => {
    // A lost TPM has nothing to flush; one that refuses is cleared by the next `flushLeftovers`.
    await queue
      .finish(flushOwn, CLOSE_DEADLINE_MS, 'the TPM was closed')
      .catch((): undefined => undefined)
    await closeWhenReturned(opening)
  }

  const queued =
    <A extends readonly unknown[], R>(command: (...args: A) => Promise<R>) =>
    (...args: A): Promise<R> =>
      queue.run(() => command(...args))
  const capability = capabilityCommands(address)
  const random = randomCommands(address, sessions)
  const pcr = pcrCommands(address, sessions)
  const nv = nvCommands(address, sessions)
  const keys = keyCommands(address, sessions, keysInTpm)
  const signing = signingCommands(address, sessions)
  const secrets = secretCommands(address, sessions)
  const sealing = sealingCommands(address, sessions)
  return {
    getRandom: queued(random.getRandom),
    properties: queued(capability.properties),
    pcrRead: queued(pcr.pcrRead),
    pcrExtend: queued(pcr.pcrExtend),
    nvRead: queued(nv.nvRead),
    createPrimary: queued(keys.createPrimary),
    create: queued(keys.create),
    load: queued(keys.load),
    openPersistent: queued(keys.openPersistent),
    quote: queued(signing.quote),
    certify: queued(signing.certify),
    activateCredential: queued(secrets.activateCredential),
    rsaDecryptWithPcrPolicy: queued(secrets.rsaDecryptWithPcrPolicy),
    seal: queued(sealing.seal),
    unsealWithPcrPolicy: queued(sealing.unsealWithPcrPolicy),
    flush: queued(keys.flush),
    flushLeftovers: queued(() => capability.flushLeftovers([...keysInTpm, ...sessions.all])),
    async [Symbol.asyncDispose]() {
      closed ??= close()
      await closed
    },
  }
}

/** A TPM without a resource manager has one user at a time: what is in it when it is full, a dead process left. */
async function startInRoom(address: number): Promise<Sessions> {
  try {
    return await startSessions(address)
  } catch (error) {
    if (!isTpmFull(error)) throw error
    await capabilityCommands(address).flushLeftovers([])
    return startSessions(address)
  }
}
