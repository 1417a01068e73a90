import { openLibrary, openRelease } from '../ffi.js'

/** Context and the three sessions that most commands begin with. */
const context = 'address'
const sessions = ['u32', 'u32', 'u32'] as const

/** `tss2_esys.h`. `address` of the context, `u32` for ESYS_TR, `buffer` for structures and for where results go. */
export const esys = openLibrary('libtss2-esys.so.0', {
  // ESYS_CONTEXT **, TSS2_TCTI_CONTEXT *, TSS2_ABI_VERSION *
  Esys_Initialize: ['buffer', 'address', 'buffer'],
  // tpmKey, bind, sessions, nonceCaller, sessionType, symmetric, authHash, sessionHandle*
  Esys_StartAuthSession: [
    ...([context, 'u32', 'u32'] as const),
    ...sessions,
    ...(['buffer', 'u8', 'buffer', 'u16', 'buffer'] as const),
  ],
  // session, flags, mask
  Esys_TRSess_SetAttributes: [context, 'u32', 'u8', 'u8'],
  // policySession, sessions, pcrDigest, pcrs
  Esys_PolicyPCR: [context, 'u32', ...sessions, 'buffer', 'buffer'],
  // authHandle, policySession, sessions, nonceTPM, cpHashA, policyRef, expiration, timeout**, policyTicket**
  Esys_PolicySecret: [
    ...([context, 'u32', 'u32'] as const),
    ...sessions,
    ...(['buffer', 'buffer', 'buffer', 'i32', 'buffer', 'buffer'] as const),
  ],
  // sessions, bytesRequested, randomBytes**
  Esys_GetRandom: [context, ...sessions, 'u16', 'buffer'],
  // sessions, capability, property, propertyCount, moreData*, capabilityData**
  Esys_GetCapability: [context, ...sessions, 'u32', 'u32', 'u32', 'buffer', 'buffer'],
  // sessions, pcrSelectionIn, pcrUpdateCounter*, pcrSelectionOut**, pcrValues**
  Esys_PCR_Read: [context, ...sessions, 'buffer', 'buffer', 'buffer', 'buffer'],
  // pcrHandle, sessions, digests
  Esys_PCR_Extend: [context, 'u32', ...sessions, 'buffer'],
  // nvIndex, sessions, nvPublic**, nvName**
  Esys_NV_ReadPublic: [context, 'u32', ...sessions, 'buffer', 'buffer'],
  // authHandle, nvIndex, sessions, size, offset, data**
  Esys_NV_Read: [context, 'u32', 'u32', ...sessions, 'u16', 'u16', 'buffer'],
  // tpm_handle, sessions, object*
  Esys_TR_FromTPMPublic: [context, 'u32', ...sessions, 'buffer'],
  // rsrc_handle*
  Esys_TR_Close: [context, 'buffer'],
  // handle, name**
  Esys_TR_GetName: [context, 'u32', 'buffer'],
  // primaryHandle, sessions, inSensitive, inPublic, outsideInfo, creationPCR,
  // objectHandle*, outPublic**, creationData**, creationHash**, creationTicket**
  Esys_CreatePrimary: [
    ...([context, 'u32'] as const),
    ...sessions,
    ...(['buffer', 'buffer', 'buffer', 'buffer'] as const),
    ...(['buffer', 'buffer', 'buffer', 'buffer', 'buffer'] as const),
  ],
  // parentHandle, sessions, inSensitive, inPublic, outsideInfo, creationPCR,
  // outPrivate**, outPublic**, creationData**, creationHash**, creationTicket**
  Esys_Create: [
    ...([context, 'u32'] as const),
    ...sessions,
    ...(['buffer', 'buffer', 'buffer', 'buffer'] as const),
    ...(['buffer', 'buffer', 'buffer', 'buffer', 'buffer'] as const),
  ],
  // parentHandle, sessions, inPrivate, inPublic, objectHandle*
  Esys_Load: [context, 'u32', ...sessions, 'buffer', 'buffer', 'buffer'],
  // signHandle, sessions, qualifyingData, inScheme, PCRselect, quoted**, signature**
  Esys_Quote: [context, 'u32', ...sessions, 'buffer', 'buffer', 'buffer', 'buffer', 'buffer'],
  // objectHandle, signHandle, sessions, qualifyingData, inScheme, certifyInfo**, signature**
  Esys_Certify: [context, 'u32', 'u32', ...sessions, 'buffer', 'buffer', 'buffer', 'buffer'],
  // activateHandle, keyHandle, sessions, credentialBlob, secret, certInfo**
  Esys_ActivateCredential: [context, 'u32', 'u32', ...sessions, 'buffer', 'buffer', 'buffer'],
  // keyHandle, sessions, cipherText, inScheme, label, message**
  Esys_RSA_Decrypt: [context, 'u32', ...sessions, 'buffer', 'buffer', 'buffer', 'buffer'],
  // flushHandle
  Esys_FlushContext: [context, 'u32'],
})

/** `tss2_esys.h`: frees the context that the slot points to. Returns nothing in C; the result is not to be read. */
export const esysRelease = openLibrary('libtss2-esys.so.0', {
  // ESYS_CONTEXT **
  Esys_Finalize: ['buffer'],
})

/** `tss2_esys.h`: frees a structure that a command gave. */
export const Esys_Free = openRelease('libtss2-esys.so.0', 'Esys_Free')

/** `tss2_esys.h` */
export const ESYS_TR = {
  NONE: 0xfff,
  PASSWORD: 0x0ff,
  PCR0: 0,
  RH_OWNER: 0x101,
  RH_NULL: 0x107,
  RH_ENDORSEMENT: 0x10b,
} as const
