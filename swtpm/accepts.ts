import { connect } from 'node:net'

/** Whether somebody listens on a unix socket: its file is there a moment before. */
export function accepts(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(socketPath)
    probe.once('error', () => resolve(false))
    probe.once('connect', () => probe.destroy())
    probe.once('close', (hadError) => resolve(!hadError))
  })
}
