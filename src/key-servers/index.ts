export {
  type CreationAttributes,
  creationAttributes,
  describeKey,
  type KeyComponent,
  type UseAttributes,
  useAttributes,
} from './attributes.js'
export { requirePassed, testKeyServers } from './connection-test.js'
export { type KeyServers, parseKeyServers, viewOfKeyServers } from './key-servers.js'
export { openKeyServerClient } from './open-client.js'
export {
  KEY_SERVERS_PURPOSE,
  keyServersContext,
  openKeyServers,
  type SealedKeyServers,
  sealKeyServers,
} from './sealed-key-servers.js'
export {
  decryptOnServer,
  encryptOnServer,
  findServerCipher,
  type ServerCipher,
} from './server-cipher.js'
export {
  destroyServerKey,
  discardServerKey,
  fetchServerKey,
  logKeyServerEvent,
  SERVER_KEY_OCTETS,
} from './server-keys.js'
export type { KeyPlace } from './test-protocol.js'
