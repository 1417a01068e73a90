import { readFileSync } from 'node:fs'
import { messageOf, PlatformError } from './errors.js'

/** Octets of a file that a person or a setting named. Its size and mode are not checked. @throws PlatformError `CONFIG_UNREADABLE` */
export function readOctets(file: string): Uint8Array {
  try {
    return new Uint8Array(readFileSync(file))
  } catch (cause) {
    throw new PlatformError('CONFIG_UNREADABLE', `cannot read ${file}: ${messageOf(cause)}`, {
      cause,
    })
  }
}

/** As `readOctets`, as UTF-8 text. */
export function readText(file: string): string {
  return Buffer.from(readOctets(file)).toString('utf8')
}
