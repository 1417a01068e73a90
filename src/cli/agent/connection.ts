import type { Command } from 'commander'
import { type Client, createClient } from '../../api/client.js'
import { cancelTask, getTask, type TaskView } from '../../api/host-agent.js'
import { environment } from '../../core/config.js'
import type { ErrorCode } from '../../core/error-codes.js'
import { isPlatformError, PlatformError } from '../../core/errors.js'
import { createOutput, type Output, progressBar } from '../output.js'

const DEFAULT_SOCKET = '/run/sigillo/agent.sock'
/** Longest answer of the agent: an attestation on a slow TPM. */
const TIMEOUT_MS = 180_000
const POLL_MS = 200

export interface AgentConnection extends AsyncDisposable {
  readonly client: Client
  readonly output: Output
}

interface Flags {
  readonly socket?: string
  readonly json?: boolean
}

/** Adds the option that says where the agent is. */
export function withSocket(command: Command): Command {
  return command.option(
    '--socket <path>',
    `socket of the agent (or $SIGILLO_AGENT_SOCKET; default ${DEFAULT_SOCKET})`,
  )
}

export function connectAgent(command: Command): AgentConnection {
  const { socket, json } = command.optsWithGlobals<Flags>()
  const socketPath = socket ?? environment()['SIGILLO_AGENT_SOCKET'] ?? DEFAULT_SOCKET
  const client = createClient({
    baseUrl: 'http://localhost',
    socketPath,
    timeoutMs: TIMEOUT_MS,
  })
  return {
    client,
    output: createOutput({ json: json === true }),
    [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
  }
}

/**
 * Waits for a task with its progress on the terminal; throws the error that it failed with.
 *
 * An interrupt (Ctrl-C) cancels a task that can be cancelled, and waits until all is as it was.
 */
export async function followTask(connection: AgentConnection, task: TaskView): Promise<TaskView> {
  const { client, output } = connection
  const params = { taskId: task.taskId }
  let current = task
  let isInterrupted = false
  const onInterrupt = () => {
    isInterrupted = true
  }
  if (task.cancellable) process.on('SIGINT', onInterrupt)
  try {
    while (current.state === 'running') {
      const { percent, step, octets } = current
      output.progress(progressBar(percent, step, octets))
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
      if (isInterrupted) {
        isInterrupted = false
        output.note('cancelling')
        await client.call(cancelTask, { params, body: {} }).catch((error: unknown) => {
          // it has just ended
          if (!isPlatformError(error, 'TASK_UNCANCELLABLE')) throw error
        })
      }
      current = await client.call(getTask, { params })
    }
  } finally {
    process.off('SIGINT', onInterrupt)
  }
  if (current.error) {
    throw new PlatformError(current.error.code as ErrorCode, current.error.message)
  }
  return current
}
