export {
  customAttribute,
  type KmipAttribute,
  type KmipAttributeName,
  parseAttributeName,
  standardAttribute,
} from './attributes.js'
export type {
  DecryptRequest,
  Encrypted,
  EncryptRequest,
  LocateRequest,
  Revocation,
  ServerDescription,
} from './client/calls.js'
export {
  createKmipClient,
  type KeyDescription,
  type KmipClient,
  type NewKey,
  nameAttribute,
} from './client/client.js'
export type {
  KmipClientEvent,
  KmipClientOptions,
  KmipPool,
  KmipServerAddress,
  KmipServerHealth,
  KmipTimeouts,
  KmipTls,
} from './client/options.js'
export type { CryptographicParameters, KeyWrapping, KmipKey } from './client/payloads.js'
export { kmipTlsOptions } from './client/tls-options.js'
export { decodeTtlv, frameLength, TTLV_LIMITS, type TtlvLimits } from './decode.js'
export { encodeTtlv } from './encode.js'
export * from './enumerations.js'
export { KmipError } from './errors.js'
export { parseFrames } from './frames.js'
export { type TtlvJson, ttlvToJson } from './json.js'
export { describeTtlv, maskSecrets } from './mask.js'
export {
  type KmipServerEvent,
  type KmipServerLimits,
  type KmipServerOptions,
  type RunningKmipServer,
  startKmipServer,
} from './server/listener.js'
export { ObjectStore } from './server/store.js'
export { TAG, tagName } from './tags.js'
export type { Ttlv } from './ttlv.js'
export { compareVersions, type ProtocolVersion, VERSIONS, versionText } from './version.js'
export { messagesFromXml, ttlvFromXml, ttlvToXml } from './xml.js'
