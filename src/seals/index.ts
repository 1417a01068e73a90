export { kmipSealer } from './kmip-seal.js'
export { passphraseSealer } from './passphrase-seal.js'
export { selfTestSeals } from './self-test.js'
export { LEAST_THRESHOLD, MOST_SHARES } from './shamir.js'
export { parseShare, type Share } from './share-text.js'
export {
  duplicate,
  newSharesSealer,
  requireShareOf,
  type ShareSet,
  type SharesSealer,
  sealerOfShares,
  shareSetOf,
} from './shares-seal.js'
export { tpmSealer } from './tpm-seal.js'
