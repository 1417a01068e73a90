import { connect } from 'node:net'
import { PlatformError } from '../src/core/errors.js'

const TIMEOUT_MS = 5_000

/** Sends one TPM command to a unix socket and returns the response, as it is. */
export function transmit(socketPath: string, command: Uint8Array): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath)
    const fail = (message: string): void => {
      socket.destroy()
      reject(new PlatformError('TPM_UNREACHABLE', `${socketPath}: ${message}`))
    }
    socket.setTimeout(TIMEOUT_MS, () => fail('no response in time'))
    socket.once('error', (error) => fail(error.message))
    socket.once('data', (response) => {
      socket.destroy()
      resolve(new Uint8Array(response))
    })
    socket.once('connect', () => socket.write(command))
  })
}
