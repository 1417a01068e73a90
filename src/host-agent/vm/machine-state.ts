import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { messageOf, type PlatformError } from '../../core/errors.js'
import type { Logger } from '../../core/logger.js'
import type { VmPaths } from './layout.js'
import { Qmp } from './qmp.js'
import type { StoredVm } from './vm-store.js'

const POLL_MS = 20
const CONNECT_TIMEOUT_MS = 20_000
const LOAD_TIMEOUT_MS = 60_000
const CANCEL_TIMEOUT_MS = 10_000
const NO_LIMIT = 2 ** 40

/** Makes the error of an operation of what went wrong. */
type Failed = (what: string, cause?: unknown) => PlatformError

/**
 * Takes the state of a VM out of its QEMU: memory, devices and virtual TPM. The guest goes on while most of it is copied, and
 * is stopped when this returns, with its disks flushed and given up by QEMU; `resumeMachine` lets it go on.
 *
 * When this throws, the guest may be stopped too.
 *
 * @param options.take called with the octets in their order; QEMU waits while it has not resolved
 * @param options.stopAfterOctets so many octets after the guest is stopped, however much it still changes: at most about as
 *   many as its memory has come after that
 * @param options.onStopped called when the guest is stopped for good
 */
export async function sendState(
  qmp: Qmp,
  { liveSocket }: VmPaths,
  options: {
    readonly take: (octets: Buffer) => Promise<void>
    readonly stopAfterOctets?: number
    readonly onStopped?: () => void
    readonly failed: Failed
    readonly signal: AbortSignal | undefined
  },
): Promise<void> {
  const { take, stopAfterOctets = Number.POSITIVE_INFINITY, failed, signal } = options
  await rm(liveSocket, { force: true })
  const server = createServer()
  server.listen(liveSocket)
  await once(server, 'listening')
  try {
    const connected = once(server, 'connection', {
      signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS),
    })
    connected.catch(() => undefined)
    await qmp.execute('migrate-set-parameters', { 'max-bandwidth': NO_LIMIT })
    await qmp.execute('migrate', { uri: `unix:${liveSocket}` })
    const [stream] = (await connected) as [Socket]
    // told by QEMU
    stream.on('error', () => undefined)
    let octets = 0
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      signal?.throwIfAborted()
      await take(chunk)
      const isFirstBeyond = octets <= stopAfterOctets && octets + chunk.length > stopAfterOctets
      octets += chunk.length
      if (isFirstBeyond) await qmp.execute('stop')
    }
    for (;;) {
      const status = await migrationStatus(qmp)
      if (status === 'completed') break
      if (status === 'failed' || status === 'cancelled') throw failed(`QEMU says ${status}`)
      await delay(POLL_MS)
    }
    options.onStopped?.()
  } catch (error) {
    await cancelMigration(qmp).catch(() => undefined)
    throw error
  } finally {
    server.close()
    await rm(liveSocket, { force: true })
  }
}

/** Gives a QEMU that waits for it the state of a VM. It has still to be asked whether it could load it: `untilLoaded`. */
export async function giveState(
  { liveSocket }: VmPaths,
  pieces: AsyncIterable<Uint8Array>,
  failed: Failed,
): Promise<void> {
  const socket: Socket = connect(liveSocket)
  socket.on('error', () => undefined)
  try {
    for await (const piece of pieces) {
      // waited for: a piece may be overwritten when the next one is asked for
      await new Promise<void>((resolve, reject) => {
        socket.write(piece, (cause) => {
          if (cause) reject(failed('QEMU takes no more', cause))
          else resolve()
        })
      })
    }
    socket.end()
  } catch (error) {
    socket.destroy()
    throw error
  }
}

/** Resolves when a QEMU has loaded all of the state that it was given. The guest does not run yet. */
export async function untilLoaded(qmp: Qmp, failed: Failed): Promise<void> {
  for (const end = performance.now() + LOAD_TIMEOUT_MS; performance.now() < end; ) {
    const { status } = await qmp
      .execute('query-status')
      .then((answer) => answer as { readonly status?: unknown })
      .catch((cause: unknown) => {
        throw failed(`QEMU cannot load the state of the VM: ${messageOf(cause)}`, cause)
      })
    if (status === 'paused' || status === 'prelaunch') return
    await delay(POLL_MS)
  }
  throw failed('QEMU did not load the state of the VM in time')
}

/** Lets a guest go on that was stopped, for a move or for a snapshot. Nothing is done for one that was not. */
export async function resumeMachine(paths: VmPaths): Promise<void> {
  await using qmp = await Qmp.connect(paths.qmpSocket)
  const { status } = (await qmp.execute('query-status')) as { readonly status?: unknown }
  if (status === 'postmigrate' || status === 'paused') await qmp.execute('cont')
}

/**
 * Lets a guest go on whose agent ended while it was stopped. Where the VM is not locked, no host was told to take it. Never
 * throws: what does not answer is seen when the VM is stopped.
 */
export async function resumeStopped(vm: StoredVm, logger: Logger): Promise<void> {
  if (vm.exported) return
  await resumeMachine(vm.paths).catch((error: unknown) => {
    const { vmId, name } = vm.descriptor
    const reason = messageOf(error)
    logger.warn({ event: 'vm.not-resumed', vmId, name, reason }, 'QEMU does not answer')
  })
}

/** Its end is waited for: a guest that is let go on before it would be stopped once more. */
async function cancelMigration(qmp: Qmp): Promise<void> {
  await qmp.execute('migrate_cancel')
  for (const end = performance.now() + CANCEL_TIMEOUT_MS; performance.now() < end; ) {
    const status = await migrationStatus(qmp)
    if (status === undefined) return
    if (['none', 'completed', 'failed', 'cancelled'].includes(status)) return
    await delay(POLL_MS)
  }
}

async function migrationStatus(qmp: Qmp): Promise<string | undefined> {
  const { status } = (await qmp.execute('query-migrate')) as { readonly status?: string }
  return status
}
