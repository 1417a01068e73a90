import { readFileSync } from 'node:fs'
import { messageOf, PlatformError } from '../core/errors.js'

/** The text of a file that a setting names; throws `CONFIG_UNREADABLE`. */
export function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    throw new PlatformError('CONFIG_UNREADABLE', `cannot read ${file}: ${messageOf(cause)}`, {
      cause,
    })
  }
}
