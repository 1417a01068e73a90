import type { TObject, TSchema } from 'typebox'
import type { CallInput, Client } from '../../api/client.js'
import type { AnswerOf, Operation } from '../../api/operation.js'
import { type Clock, secondsOf } from '../../core/clock.js'
import { createDpopProof } from '../../tokens/index.js'
import type { Session } from './attester.js'

/** Calls to the authority as an attested host: token and fresh proof with each. */
export interface Authority {
  call<O extends Operation<TObject, TObject, TSchema, TSchema>>(
    operation: O,
    input: CallInput<O>,
    signal?: AbortSignal,
  ): Promise<AnswerOf<O>>
  /** The session that calls are made with now, and which a caller opens answers with. */
  session(): Promise<Session>
}

/**
 * @param session gives the current session, attesting first where there is none; throws where the host is not attested
 */
export function createAuthority(
  client: Client,
  session: () => Promise<Session>,
  clock: Clock,
): Authority {
  return {
    session,
    async call(operation, input, signal) {
      const { token, keys } = await session()
      const proof = await createDpopProof({
        key: keys.dpop,
        method: operation.method,
        url: client.urlOf(operation, input.params as Record<string, unknown> | undefined),
        accessToken: token,
        nowSeconds: secondsOf(clock.nowMs()),
      })
      const headers = { authorization: `DPoP ${token}`, dpop: proof }
      return client.call(operation, input, headers, signal)
    },
  }
}
