import type { Operation } from './call.js'
import {
  ADD_ATTRIBUTE,
  DELETE_ATTRIBUTE,
  MODIFY_ATTRIBUTE,
  SET_ATTRIBUTE,
} from './operations/change-attributes.js'
import { ACTIVATE, DESTROY, REVOKE } from './operations/change-state.js'
import { DECRYPT, ENCRYPT } from './operations/cipher.js'
import { CREATE, REGISTER } from './operations/create.js'
import { DISCOVER_VERSIONS, INTEROP, PING, QUERY } from './operations/describe-server.js'
import { GET } from './operations/get.js'
import { LOCATE } from './operations/locate.js'
import { GET_ATTRIBUTE_LIST, GET_ATTRIBUTES } from './operations/read-attributes.js'
import { REKEY } from './operations/rekey.js'

/** Everything that the reference server does. */
export const OPERATIONS: readonly Operation[] = [
  ...[DISCOVER_VERSIONS, QUERY, PING, INTEROP],
  ...[CREATE, REGISTER, REKEY, GET, LOCATE],
  ...[GET_ATTRIBUTES, GET_ATTRIBUTE_LIST],
  ...[ADD_ATTRIBUTE, MODIFY_ATTRIBUTE, DELETE_ATTRIBUTE, SET_ATTRIBUTE],
  ...[ACTIVATE, REVOKE, DESTROY],
  ...[ENCRYPT, DECRYPT],
]
