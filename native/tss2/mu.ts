import { bindSync, type CArgument, type CType } from '../ffi.js'

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
  'TPM2B_SENSITIVE_DATA',
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

type Conversion = (...args: readonly CArgument[]) => number

// source, buffer, buffer_size, offset*
const marshal: readonly CType[] = ['pointer', 'pointer', 'size', 'pointer']
// buffer, buffer_size, offset*, dest
const unmarshal: readonly CType[] = ['pointer', 'size', 'pointer', 'pointer']

function bind(operation: string, types: readonly CType[]): Readonly<Record<MuType, Conversion>> {
  const names = MU_TYPES.map((type) => [type, `Tss2_MU_${type}_${operation}`] as const)
  const library = bindSync(
    'libtss2-mu.so.0',
    Object.fromEntries(names.map(([, name]) => [name, types])),
  )
  return Object.fromEntries(names.map(([type, name]) => [type, library[name]])) as Record<
    MuType,
    Conversion
  >
}

/** `tss2_mu.h`: a structure to wire octets. */
export const muMarshal = bind('Marshal', marshal)

/** `tss2_mu.h`: wire octets to a structure. */
export const muUnmarshal = bind('Unmarshal', unmarshal)
