import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { Exactly, Name, Octets, Time } from '../../api/common.js'
import { WrappedKey } from '../../api/key-provider.js'
import { fromBase64url, timingSafeEqual, toBase64url, toHex } from '../../core/bytes.js'
import { isoTime } from '../../core/clock.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { Secret } from '../../core/secret.js'
import { replaceFile } from '../adapters/replace-file.js'
import type { KeyClient } from '../vm/index.js'
import { contentKeyOf, dumpKeyId, makeDumpKey, parseDumpHeader } from './sealed-dump.js'

export const DUMP_KEYS_FILE = 'core-dump-keys.json'

/** Keys of this host that core dumps are sealed for: public halves, and private ones wrapped by a key provider. */
const DumpKeys = Exactly({
  format: Type.Literal(1),
  /** The newest first: that one is used. */
  keys: Type.Array(
    Exactly({
      publicKey: Octets(32, 'X25519'),
      provider: Name,
      wrapped: WrappedKey,
      createdAt: Time,
    }),
    { minItems: 1, maxItems: 100 },
  ),
})
type DumpKeys = Static<typeof DumpKeys>

export interface MadeDumpKey {
  readonly keyId: string
  readonly provider: string
}

/** What the agent does with the keys: the private ones are unwrapped for one dump at a time. */
export interface DumpKeeper {
  /** A new key, with which dumps are sealed from now on. @throws PlatformError of the key provider */
  make(provider: string): Promise<MadeDumpKey>
  /** The content key of one dump, which the caller erases. @throws PlatformError `CORE_DUMP`, or of the key provider */
  contentKey(header: Uint8Array): Promise<Uint8Array>
}

export function createDumpKeeper(options: {
  readonly stateDirectory: string
  readonly hostId: string
  readonly keys: KeyClient
  readonly nowMs: () => number
}): DumpKeeper {
  const { stateDirectory, keys } = options
  const use = { purpose: 'host', context: { host: options.hostId, object: 'core-dumps' } } as const
  const path = join(stateDirectory, DUMP_KEYS_FILE)

  const unwrap = async (provider: string, wrapped: string): Promise<Secret> => {
    const [key] = await keys.unwrap(provider, [{ ...use, wrapped }], 'session')
    if (!key) throw new TypeError('the key client gave too few keys')
    return key
  }

  return {
    async make(provider) {
      const { publicKey, privateKey } = makeDumpKey()
      using dek = new Secret(privateKey)
      const [wrapped] = await keys.wrap(provider, [{ ...use, dek }])
      if (wrapped === undefined) throw new TypeError('the key client gave too few wrapped keys')
      using back = await unwrap(provider, wrapped)
      if (!dek.use((one) => back.use((other) => timingSafeEqual(one, other)))) {
        throw new PlatformError('AGENT_PROBE', 'expected the same key back, found another')
      }
      const createdAt = isoTime(options.nowMs())
      const made = { publicKey: toBase64url(publicKey), provider, wrapped, createdAt }
      const before = readDumpKeys(path)?.keys ?? []
      const content: DumpKeys = { format: 1, keys: [made, ...before] }
      replaceFile(stateDirectory, DUMP_KEYS_FILE, JSON.stringify(content))
      return { keyId: toHex(dumpKeyId(publicKey)), provider }
    },

    async contentKey(octets) {
      const header = parseDumpHeader(octets)
      const wanted = toHex(header.keyId)
      const found = readDumpKeys(path)?.keys.find(
        ({ publicKey }) => toHex(dumpKeyId(fromBase64url(publicKey))) === wanted,
      )
      if (!found) {
        throw new PlatformError('CORE_DUMP', `this host has no key ${wanted} for core dumps`)
      }
      using key = await unwrap(found.provider, found.wrapped)
      return contentKeyOf(key, header)
    },
  }
}

/** The public key that dumps are sealed with now. @throws PlatformError `CORE_DUMP` where there is none */
export function newestDumpKey(path: string): Uint8Array {
  const newest = readDumpKeys(path)?.keys[0]
  if (!newest) {
    throw new PlatformError('CORE_DUMP', `expected a key in ${path}; make one with core-dump key`)
  }
  return fromBase64url(newest.publicKey)
}

function readDumpKeys(path: string): DumpKeys | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new PlatformError('CORE_DUMP', `cannot read ${path}: ${messageOf(cause)}`, { cause })
  }
  try {
    return Value.Parse(DumpKeys, JSON.parse(text))
  } catch (cause) {
    throw new PlatformError('CORE_DUMP', `${path} is no list of keys`, { cause })
  }
}
