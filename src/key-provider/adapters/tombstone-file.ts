import { createHmac } from 'node:crypto'
import {
  closeSync,
  constants,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { Exactly, Uuid } from '../../api/common.js'
import {
  fromBase64url,
  lengthPrefixed,
  timingSafeEqual,
  toBase64url,
  utf8,
} from '../../core/bytes.js'
import { canonicalJson } from '../../core/canonical-json.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import type { Tombstones } from '../ports.js'

const DOMAIN = 'sigillo tombstones v1'

const Line = Exactly({
  providerId: Uuid,
  version: Type.Integer({ minimum: 1 }),
  createdAtMs: Type.Integer({ minimum: 0 }),
  destroyedAtMs: Type.Integer({ minimum: 0 }),
  /** HMAC-SHA-256 over this line and the MAC of the one before. */
  mac: Type.String({ pattern: '^[A-Za-z0-9_-]{43}$' }),
})
type Line = Static<typeof Line>

/**
 * Tombstones in a file beside the database, one a line, each authenticated together with those before it.
 *
 * A line that was changed, or taken out before another, is noticed; that lines at the end were taken away is not, by the
 * file alone.
 *
 * @param macKey of the service, which every copy of its database has
 * @throws PlatformError `KEY_TOMBSTONES` for a file that is not what this service wrote
 */
export function tombstoneFile(path: string, macKey: Secret): Tombstones {
  const lines = readLines(path, macKey)
  return {
    list: () => lines,
    add(tombstone) {
      const { providerId, version, createdAtMs, destroyedAtMs } = tombstone
      const content = { providerId, version, createdAtMs, destroyedAtMs }
      const line = { ...content, mac: macOf(content, lines.at(-1)?.mac ?? '', macKey) }
      replaceFile(path, [...lines, line].map((one) => `${canonicalJson(one)}\n`).join(''))
      lines.push(line)
    },
  }
}

function readLines(path: string, macKey: Secret): Line[] {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw unreadable(path, messageOf(cause), cause)
  }
  let before = ''
  return text
    .split('\n')
    .slice(0, -1)
    .map((json, index) => {
      const line = parseLine(path, json, index + 1)
      const { mac, ...content } = line
      const isOurs = timingSafeEqual(
        fromBase64url(mac),
        fromBase64url(macOf(content, before, macKey)),
      )
      if (!isOurs) throw unreadable(path, `line ${index + 1} is not what this service wrote there`)
      before = mac
      return line
    })
}

function parseLine(path: string, json: string, number: number): Line {
  try {
    return Value.Parse(Line, JSON.parse(json))
  } catch (cause) {
    throw unreadable(path, `line ${number} cannot be read`, cause)
  }
}

function macOf(content: Omit<Line, 'mac'>, before: string, macKey: Secret): string {
  const octets = lengthPrefixed(utf8(DOMAIN), utf8(before), utf8(canonicalJson(content)))
  return toBase64url(
    macKey.use((key) => new Uint8Array(createHmac('sha256', key).update(octets).digest())),
  )
}

/** After a crash the old or the new file is there. */
function replaceFile(path: string, text: string): void {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW, O_RDONLY } = constants
  const temporary = `${path}.new`
  try {
    synced(openSync(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600), (file) =>
      writeSync(file, text),
    )
    renameSync(temporary, path)
    synced(openSync(dirname(path), O_RDONLY), () => undefined)
  } catch (cause) {
    throw new PlatformError('STORE_IO', `cannot write ${path}: ${messageOf(cause)}`, { cause })
  }
}

function synced(descriptor: number, write: (descriptor: number) => unknown): void {
  try {
    write(descriptor)
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

function unreadable(path: string, why: string, cause?: unknown): PlatformError {
  return new PlatformError('KEY_TOMBSTONES', `cannot rely on ${path}: ${why}`, { cause })
}
