import { Type } from 'typebox'
import { Exactly, Name, Octets } from './common.js'
import { operation } from './operation.js'

/** Keys of core dumps, on the socket of the agent. */
const BASE = '/v1/core-dump-keys'

export const makeCoreDumpKey = operation({
  id: 'makeCoreDumpKey',
  summary: 'Make the key that core dumps of this host are sealed for from now on',
  method: 'POST',
  path: BASE,
  status: 201,
  body: Exactly({ provider: Type.Optional(Name) }),
  answer: Exactly({ keyId: Type.String(), provider: Name }),
})

export const openCoreDump = operation({
  id: 'openCoreDump',
  summary: 'The content key of one core dump of this host',
  method: 'POST',
  path: `${BASE}/opened`,
  status: 200,
  body: Exactly({ header: Octets(2048, 'header of the dump') }),
  answer: Exactly({ contentKey: Octets(32, 'AES-256 key of this dump alone') }),
})
