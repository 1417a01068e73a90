export { guestPlaces } from './guest-places.js'
export type { EncryptionOptions } from './part-by-part.js'
export type {
  Inventory,
  InventoryVm,
  KeyClient,
  KeyToUnwrap,
  VtpmCertifier,
  VtpmWitness,
} from './ports.js'
export { createVmService, type VmService, type VmServiceOptions } from './service.js'
export { VmFacts } from './vm-facts.js'
