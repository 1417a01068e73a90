import { PlatformError } from '../src/core/errors.js'
import type { Tpm } from '../src/tpm/index.js'
import { createCommandQueue } from './command-queue.js'
import { capabilityCommands } from './commands/capability.js'
import { keyCommands } from './commands/keys.js'
import { nvCommands } from './commands/nv.js'
import { pcrCommands } from './commands/pcr.js'
import { signingCommands } from './commands/signing.js'
import { openEsysContext } from './esys-context.js'
import { startSessions } from './sessions.js'

/** Longest command that is waited for: making an RSA key on a slow hardware TPM. */
const DEADLINE_MS = 120_000

/**
 * Opens a TPM through tpm2-tss.
 *
 * Everything that this process left in the TPM is flushed when it is closed; what an earlier process left is
 * flushed by `flushLeftovers`.
 *
 * @param options.tcti `device:/dev/tpmrm0`, or `swtpm:path=/socket` with swtpm's control socket at `/socket.ctrl`
 * @throws PlatformError `TPM_TCTI`, `TPM_UNREACHABLE`
 */
export async function openTpm(options: { readonly tcti: string }): Promise<Tpm> {
  const context = await openEsysContext(options.tcti)
  const queue = createCommandQueue({ deadlineMs: DEADLINE_MS })
  const capability = capabilityCommands(context.address)
  let sessions: Awaited<ReturnType<typeof startSessions>>
  try {
    sessions = await queue.run(() => startSessions(context.address))
  } catch (error) {
    await context.close()
    throw error
  }
  const { address } = context
  const pcr = pcrCommands(address, sessions)
  const nv = nvCommands(address, sessions)
  const keys = keyCommands(address, sessions)
  const signing = signingCommands(address, sessions)
  const queued =
    <A extends readonly unknown[], R>(command: (...args: A) => Promise<R>) =>
    (...args: A): Promise<R> =>
      queue.run(() => command(...args))

  let closed: Promise<void> | undefined
  const close = async (): Promise<void> => {
    const answering = await queue
      .run(async () => {
        await sessions.flush(sessions.authorisation)
        await sessions.flush(sessions.confidential)
      })
      .then(
        () => true,
        () => false,
      )
    queue.end('the TPM was closed')
    await queue.idle()
    // A lost TPM may still hold a call in its thread: freeing the context under it would crash.
    if (answering) await context.close()
  }

  return {
    getRandom: queued(keys.getRandom),
    properties: queued(capability.properties),
    pcrRead: queued(pcr.pcrRead),
    pcrExtend: queued(pcr.pcrExtend),
    nvRead: queued(nv.nvRead),
    createPrimary: queued(keys.createPrimary),
    create: queued(keys.create),
    load: queued(keys.load),
    quote: queued(signing.quote),
    certify: queued(signing.certify),
    activateCredential: queued(keys.activateCredential),
    rsaDecryptWithPcrPolicy: queued(keys.rsaDecryptWithPcrPolicy),
    flush: queued(keys.flush),
    flushLeftovers: queued(() =>
      capability.flushLeftovers([sessions.authorisation, sessions.confidential]),
    ),
    async [Symbol.asyncDispose]() {
      closed ??= close()
      await closed
    },
  }
}

/** Whether an error says that the TPM is gone, so that it must be opened anew. */
export function isTpmLost(error: unknown): boolean {
  return error instanceof PlatformError && error.code === 'TPM_UNREACHABLE'
}
