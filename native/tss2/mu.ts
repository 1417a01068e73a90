import { type CComputation, type CType, openComputations } from '../ffi.js'

/** Structures that cross between wire octets and C. */
export const MU_TYPES = [
  'TPM2B_ATTEST',
  'TPM2B_DATA',
  'TPM2B_DIGEST',
  'TPM2B_ENCRYPTED_SECRET',
  'TPM2B_ID_OBJECT',
  'TPM2B_MAX_NV_BUFFER',
  'TPM2B_NAME',
  'TPM2B_NV_PUBLIC',
  'TPM2B_PRIVATE',
  'TPM2B_PUBLIC',
  'TPM2B_PUBLIC_KEY_RSA',
  'TPM2B_SENSITIVE_CREATE',
  'TPML_DIGEST',
  'TPML_DIGEST_VALUES',
  'TPML_PCR_SELECTION',
  'TPMS_ATTEST',
  'TPMS_CAPABILITY_DATA',
  'TPMT_PUBLIC',
  'TPMT_RSA_DECRYPT',
  'TPMT_SIGNATURE',
  'TPMT_SIG_SCHEME',
  'TPMT_SYM_DEF',
] as const
export type MuType = (typeof MU_TYPES)[number]

// source (address), buffer, size, offset*
const marshal: readonly CType[] = ['address', 'buffer', 'size', 'buffer']
// source (memory of ours), buffer, size, offset*
const marshalOwn: readonly CType[] = ['buffer', 'buffer', 'size', 'buffer']
// buffer, size, offset*, destination
const unmarshal: readonly CType[] = ['buffer', 'size', 'buffer', 'buffer']

function bind(operation: string, types: readonly CType[]): Readonly<Record<MuType, CComputation>> {
  const library = openComputations(
    'libtss2-mu.so.0',
    Object.fromEntries(MU_TYPES.map((type) => [`Tss2_MU_${type}_${operation}`, types])),
  )
  return Object.fromEntries(
    MU_TYPES.map((type) => [type, library[`Tss2_MU_${type}_${operation}`]]),
  ) as Record<MuType, CComputation>
}

/** `tss2_mu.h`: a structure that C allocated, to wire octets. */
export const muMarshal = bind('Marshal', marshal)

/** `tss2_mu.h`: a structure in memory of ours, to wire octets. */
export const muMarshalOwn = bind('Marshal', marshalOwn)

/** `tss2_mu.h`: wire octets to a structure in memory of ours. */
export const muUnmarshal = bind('Unmarshal', unmarshal)
