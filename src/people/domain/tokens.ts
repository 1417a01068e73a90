import { createHash } from 'node:crypto'
import type { AccountKind } from '../../api/people.js'
import { toBase64url } from '../../core/bytes.js'
import type { PeopleTransaction } from '../ports.js'

const TOKEN_OCTETS = 32
const PREFIX: Readonly<Record<AccountKind, string>> = {
  user: 'sgl_ut_',
  'service-account': 'sgl_sa_',
}
const TOKEN = /^sgl_(ut|sa)_[A-Za-z0-9_-]{43}$/

export interface IssuedToken {
  readonly token: string
  readonly tokenId: string
  readonly expiresAtMs: number
}

export interface TokenMaker {
  readonly newId: () => string
  readonly random: (octets: number) => Uint8Array
}

/** A new token for an account: 256 random bits, of which the hash is kept. */
export async function issueToken(
  tx: PeopleTransaction,
  maker: TokenMaker,
  account: { readonly accountId: string; readonly kind: AccountKind },
  details: { readonly note: string; readonly nowMs: number; readonly expiresAtMs: number },
): Promise<IssuedToken> {
  const token = `${PREFIX[account.kind]}${toBase64url(maker.random(TOKEN_OCTETS))}`
  const tokenId = maker.newId()
  const { note, nowMs, expiresAtMs } = details
  await tx.removeEndedTokens(nowMs)
  await tx.insertToken({
    ...{ tokenId, accountId: account.accountId, note, createdAtMs: nowMs, expiresAtMs },
    tokenHash: tokenHash(token),
  })
  return { token, tokenId, expiresAtMs }
}

export function isAccountToken(text: string): boolean {
  return TOKEN.test(text)
}

/** What a token is found by. Plain SHA-256: there is nothing to guess. */
export function tokenHash(token: string): string {
  return createHash('sha256').update(token).digest('hex')
}
