import { createHash } from 'node:crypto'
import { PlatformError } from '../../core/errors.js'
import { RateLimitedError } from '../../http/index.js'
import type { PasswordHasher, PeopleStore, PeopleTransaction } from '../ports.js'
import { type IssuedToken, issueToken, type TokenMaker } from './tokens.js'

/** A person mistypes; a program guesses. */
const FREE_ATTEMPTS = 5
const FIRST_WAIT_MS = 1_000
const LONGEST_WAIT_MS = 5 * 60_000
const FORGOTTEN_AFTER_MS = 60 * 60_000
const MOST_DOUBLINGS = 20

/**
 * Lets users in by name and password.
 *
 * A wrong password, an unknown name and a disabled user are answered alike, after the same work. After five wrong attempts
 * for a name each further one has to wait, twice as long each time, up to five minutes: names are slowed down and never
 * locked. Who tries without end keeps the holder of a name out for as long; nobody for longer. It is counted before the password is looked at, so that attempts
 * beside one another are no way around it.
 */
export function createLogin(deps: {
  readonly store: PeopleStore
  readonly hasher: PasswordHasher
  readonly maker: TokenMaker
  readonly tokenHours: number
}) {
  const { store, hasher, maker } = deps
  return async (name: string, password: string, nowMs: number): Promise<IssuedToken> => {
    const account = await store.transaction(async (tx) => {
      await takeAttempt(tx, name, nowMs)
      return tx.findAccount('user', name)
    })
    const active = account?.state === 'active' ? account : undefined
    const isRight = await hasher.verify(active?.passwordHash, password)
    const issued = await store.transaction(async (tx) => {
      // of a name that nobody has, no record is kept: people type passwords where the name belongs
      const subject = account ? `user:${name}` : 'user:unknown'
      const now = isRight ? await tx.findAccount('user', name) : undefined
      if (now?.state !== 'active' || now.passwordHash !== active?.passwordHash) {
        const detail = { code: 'UNAUTHENTICATED' }
        await tx.audit({
          ...{
            atMs: nowMs,
            actor: 'unknown',
            action: 'login',
            subject,
            outcome: 'refused',
            detail,
          },
        })
        return undefined
      }
      await forgetAttempts(tx, name)
      const expiresAtMs = nowMs + deps.tokenHours * 3_600_000
      const token = await issueToken(tx, maker, now, { note: 'login', nowMs, expiresAtMs })
      await tx.audit({
        ...{ atMs: nowMs, actor: subject, action: 'login', subject, outcome: 'done' },
        detail: { tokenId: token.tokenId },
      })
      return token
    })
    if (issued) return issued
    throw new PlatformError('UNAUTHENTICATED', 'expected the name and password of an active user')
  }
}

/**
 * Counts an attempt to log in by this name, whether there is such a user or not.
 *
 * @throws RateLimitedError while the name has to wait
 */
export async function takeAttempt(
  tx: PeopleTransaction,
  name: string,
  nowMs: number,
): Promise<void> {
  await tx.removeOldAttempts(nowMs)
  const before = await tx.findAttempts(hashOf(name))
  const waitMs = (before?.notBeforeMs ?? 0) - nowMs
  if (waitMs > 0) throw new RateLimitedError('too many wrong passwords', waitMs / 1000)
  const wrong = (before?.wrong ?? 0) + 1
  const doublings = Math.min(wrong - FREE_ATTEMPTS, MOST_DOUBLINGS)
  const nextWaitMs = doublings < 0 ? 0 : Math.min(FIRST_WAIT_MS * 2 ** doublings, LONGEST_WAIT_MS)
  await tx.saveAttempts(hashOf(name), {
    wrong,
    notBeforeMs: nowMs + nextWaitMs,
    forgottenAtMs: nowMs + FORGOTTEN_AFTER_MS,
  })
}

/** Forgets the attempts for a name, whose password was right. */
export async function forgetAttempts(tx: PeopleTransaction, name: string): Promise<void> {
  await tx.removeAttempts(hashOf(name))
}

function hashOf(name: string): string {
  return createHash('sha256').update(name).digest('hex')
}
