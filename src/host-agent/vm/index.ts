export type {
  Inventory,
  InventoryVm,
  KeyClient,
  KeyToUnwrap,
  KeyToWrap,
  OnProgress,
  VtpmCertificateKind,
  VtpmCertificateRequest,
  VtpmCertifier,
} from './ports.js'
export { createVmService, type VmService, type VmServiceOptions } from './service.js'
