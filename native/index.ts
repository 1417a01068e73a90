export { muRoundTrip } from './marshal.js'
export { openTpm } from './open-tpm.js'
export { TpmError } from './tpm-error.js'
export { MU_TYPES, type MuType } from './tss2/mu.js'
