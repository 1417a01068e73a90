export { deriveNativeKek } from './native-kek.js'
export { selfTest } from './self-test.js'
export {
  DEK_OCTETS,
  dekIdOf,
  type Envelope,
  type KeptAlgorithm,
  type KeptKey,
  keptKeyContext,
  type PrimaryKey,
  parseEnvelope,
  unwrapKey,
  WRAP_RANDOM_OCTETS,
  wrapKey,
  wrapRandoms,
} from './wrapped-key.js'
