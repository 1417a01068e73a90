import { hash, verify } from '@node-rs/argon2'
import { utf8 } from '../../core/bytes.js'
import { RateLimitedError } from '../../http/index.js'
import type { PasswordHasher } from '../ports.js'

/**
 * The second recommended option: 64 MiB, three passes, four lanes, a salt of 128 bits and a tag of 256.
 *
 * @see RFC 9106, section 4
 */
const PARAMETERS = {
  memoryCost: 64 * 1024,
  timeCost: 3,
  parallelism: 4,
  outputLen: 32,
} as const

/** Each takes 64 MiB and a core: more at once would only be slower. */
const AT_ONCE = 2
const MOST_WAITING = 32

/**
 * Argon2id on threads of the process, so that requests go on meanwhile; two at once, and no more waiting than are answered
 * in some seconds.
 *
 * Passwords are compared as they are, normalised (NFC): the same keys give the same text on every keyboard.
 *
 * @param mostWaiting who comes then is told to come again: `RATE_LIMITED`
 */
export function argon2Hasher(mostWaiting = MOST_WAITING): PasswordHasher {
  const waiting: (() => void)[] = []
  let atWork = 0
  let nobody: Promise<string> | undefined

  const inTurn = async <T>(work: () => Promise<T>): Promise<T> => {
    if (atWork >= AT_ONCE) {
      if (waiting.length >= mostWaiting) {
        throw new RateLimitedError('too many people log in at once', 1)
      }
      await new Promise<void>((resolve) => waiting.push(resolve))
    } else {
      atWork += 1
    }
    try {
      return await work()
    } finally {
      // the turn goes to the next who waits, or ends
      const next = waiting.shift()
      if (next) next()
      else atWork -= 1
    }
  }
  const make = (password: string) => hash(utf8(password.normalize('NFC')), PARAMETERS)

  return {
    hash: (password) => inTurn(() => make(password)),
    async verify(stored, password) {
      // compared with all the same, so that nobody can tell by the time who there is
      // Made once and out of turn: a turn that is refused would be remembered
      nobody ??= make('the password of nobody')
      const text = stored ?? (await nobody)
      const matches = await inTurn(() => verify(text, utf8(password.normalize('NFC'))))
      return matches && stored !== undefined
    },
  }
}
