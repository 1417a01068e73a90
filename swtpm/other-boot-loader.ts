import { createHash } from 'node:crypto'
import { PlatformError } from '../src/core/errors.js'
import {
  describeBoot,
  encodeEventLog,
  parseEventLog,
  withEventDigests,
} from '../src/eventlog/index.js'

/**
 * The log of a host that was booted with another file as one of its boot applications: the same boot, in which that
 * file had other contents.
 *
 * @param fileName as the log has it: `grubx64.efi`
 * @param contents what the other file is made of: decides its digest
 */
export function withOtherBootLoader(
  eventLog: Uint8Array,
  fileName: string,
  contents: Uint8Array,
): Uint8Array {
  const log = parseEventLog(eventLog)
  const application = describeBoot(log, 'sha256').bootApplications.find(
    ({ name }) => name.toLowerCase() === fileName.toLowerCase(),
  )
  if (!application) throw new PlatformError('NOT_FOUND', `the log starts no ${fileName}`)
  return encodeEventLog(
    withEventDigests(
      log,
      application.event,
      (bank) => new Uint8Array(createHash(bank).update(contents).digest()),
    ),
  )
}
