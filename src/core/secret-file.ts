import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { messageOf, PlatformError } from './errors.js'
import { Secret } from './secret.js'

const MAX_OCTETS = 1024
/** A private key in PEM, RSA of 8192 bits at most. */
export const MAX_KEY_FILE_OCTETS = 8192
const GROUP_AND_OTHERS = 0o077

/**
 * Reads a secret from a file: at most 1024 octets where nothing else is said, one line feed at the end left out.
 *
 * @throws PlatformError `FILE_MODE` where group or others may do anything with the file, `CONFIG_UNREADABLE` where it is
 *   not a regular file, is a symbolic link, is empty or too large, or cannot be read
 */
export function readSecretFile(path: string, maxOctets = MAX_OCTETS): Secret {
  const descriptor = openNoFollow(path)
  try {
    const { mode, size } = fstatSync(descriptor)
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) {
      throw new PlatformError('CONFIG_UNREADABLE', `expected ${path} to be a regular file`)
    }
    if ((mode & GROUP_AND_OTHERS) !== 0) {
      const found = (mode & 0o777).toString(8).padStart(4, '0')
      throw new PlatformError('FILE_MODE', `expected ${path} to have mode 0600, found ${found}`)
    }
    if (size === 0 || size > maxOctets) {
      throw new PlatformError(
        'CONFIG_UNREADABLE',
        `expected ${path} to hold 1 to ${maxOctets} octets, found ${size}`,
      )
    }
    const octets = new Uint8Array(size)
    const length = readSync(descriptor, octets, 0, size, 0)
    const end = octets[length - 1] === 0x0a ? length - 1 : length
    const secret = octets.slice(0, end)
    octets.fill(0)
    if (end === 0) {
      throw new PlatformError(
        'CONFIG_UNREADABLE',
        `expected ${path} to hold a secret, found an empty line`,
      )
    }
    return new Secret(secret)
  } finally {
    closeSync(descriptor)
  }
}

function openNoFollow(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (cause) {
    throw new PlatformError('CONFIG_UNREADABLE', `cannot read ${path}: ${messageOf(cause)}`, {
      cause,
    })
  }
}
