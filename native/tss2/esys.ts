import { bindAsync, bindSync } from '../ffi.js'

/** Context and the three sessions that most commands begin with. */
const context = 'pointer'
const sessions = ['u32', 'u32', 'u32'] as const

/** `tss2_esys.h`: each takes the context first; `u32` where the header has ESYS_TR. */
export const esys = bindAsync('libtss2-esys.so.0', {
  // ESYS_CONTEXT **, TSS2_TCTI_CONTEXT *, TSS2_ABI_VERSION *
  Esys_Initialize: ['pointer', 'pointer', 'pointer'],
  // tpmKey, bind, sessions, nonceCaller, sessionType, symmetric, authHash, sessionHandle*
  Esys_StartAuthSession: [
    ...([context, 'u32', 'u32'] as const),
    ...sessions,
    ...(['pointer', 'u8', 'pointer', 'u16', 'pointer'] as const),
  ],
  // session, flags, mask
  Esys_TRSess_SetAttributes: [context, 'u32', 'u8', 'u8'],
  // policySession, sessions, pcrDigest, pcrs
  Esys_PolicyPCR: [context, 'u32', ...sessions, 'pointer', 'pointer'],
  // authHandle, policySession, sessions, nonceTPM, cpHashA, policyRef, expiration, timeout**, policyTicket**
  Esys_PolicySecret: [
    ...([context, 'u32', 'u32'] as const),
    ...sessions,
    ...(['pointer', 'pointer', 'pointer', 'i32', 'pointer', 'pointer'] as const),
  ],
  // sessions, bytesRequested, randomBytes**
  Esys_GetRandom: [context, ...sessions, 'u16', 'pointer'],
  // sessions, capability, property, propertyCount, moreData*, capabilityData**
  Esys_GetCapability: [context, ...sessions, 'u32', 'u32', 'u32', 'pointer', 'pointer'],
  // sessions, pcrSelectionIn, pcrUpdateCounter*, pcrSelectionOut**, pcrValues**
  Esys_PCR_Read: [context, ...sessions, 'pointer', 'pointer', 'pointer', 'pointer'],
  // pcrHandle, sessions, digests
  Esys_PCR_Extend: [context, 'u32', ...sessions, 'pointer'],
  // nvIndex, sessions, nvPublic**, nvName**
  Esys_NV_ReadPublic: [context, 'u32', ...sessions, 'pointer', 'pointer'],
  // authHandle, nvIndex, sessions, size, offset, data**
  Esys_NV_Read: [context, 'u32', 'u32', ...sessions, 'u16', 'u16', 'pointer'],
  // objectHandle, sessions, outPublic**, name**, qualifiedName**
  Esys_ReadPublic: [context, 'u32', ...sessions, 'pointer', 'pointer', 'pointer'],
  // tpm_handle, sessions, object*
  Esys_TR_FromTPMPublic: [context, 'u32', ...sessions, 'pointer'],
  // rsrc_handle*
  Esys_TR_Close: [context, 'pointer'],
  // handle, name**
  Esys_TR_GetName: [context, 'u32', 'pointer'],
  // esys_handle, tpm_handle*
  Esys_TR_GetTpmHandle: [context, 'u32', 'pointer'],
  // primaryHandle, sessions, inSensitive, inPublic, outsideInfo, creationPCR,
  // objectHandle*, outPublic**, creationData**, creationHash**, creationTicket**
  Esys_CreatePrimary: [
    ...([context, 'u32'] as const),
    ...sessions,
    ...(['pointer', 'pointer', 'pointer', 'pointer'] as const),
    ...(['pointer', 'pointer', 'pointer', 'pointer', 'pointer'] as const),
  ],
  // parentHandle, sessions, inSensitive, inPublic, outsideInfo, creationPCR,
  // outPrivate**, outPublic**, creationData**, creationHash**, creationTicket**
  Esys_Create: [
    ...([context, 'u32'] as const),
    ...sessions,
    ...(['pointer', 'pointer', 'pointer', 'pointer'] as const),
    ...(['pointer', 'pointer', 'pointer', 'pointer', 'pointer'] as const),
  ],
  // parentHandle, sessions, inPrivate, inPublic, objectHandle*
  Esys_Load: [context, 'u32', ...sessions, 'pointer', 'pointer', 'pointer'],
  // signHandle, sessions, qualifyingData, inScheme, PCRselect, quoted**, signature**
  Esys_Quote: [context, 'u32', ...sessions, 'pointer', 'pointer', 'pointer', 'pointer', 'pointer'],
  // objectHandle, signHandle, sessions, qualifyingData, inScheme, certifyInfo**, signature**
  Esys_Certify: [context, 'u32', 'u32', ...sessions, 'pointer', 'pointer', 'pointer', 'pointer'],
  // activateHandle, keyHandle, sessions, credentialBlob, secret, certInfo**
  Esys_ActivateCredential: [context, 'u32', 'u32', ...sessions, 'pointer', 'pointer', 'pointer'],
  // keyHandle, sessions, cipherText, inScheme, label, message**
  Esys_RSA_Decrypt: [context, 'u32', ...sessions, 'pointer', 'pointer', 'pointer', 'pointer'],
  // itemHandle, sessions, outData**
  Esys_Unseal: [context, 'u32', ...sessions, 'pointer'],
  // flushHandle
  Esys_FlushContext: [context, 'u32'],
})

/** `tss2_esys.h`: ends the context that the pointer points to. */
export const { Esys_Finalize } = bindAsync(
  'libtss2-esys.so.0',
  {
    // ESYS_CONTEXT **
    Esys_Finalize: ['pointer'],
  },
  'void',
)

/** `tss2_esys.h`: frees a structure that a command gave. */
export const { Esys_Free } = bindSync('libtss2-esys.so.0', { Esys_Free: ['pointer'] }, 'void')

/** `tss2_esys.h` */
export const ESYS_TR = {
  NONE: 0xfff,
  PASSWORD: 0x0ff,
  PCR0: 0,
  RH_OWNER: 0x101,
  RH_NULL: 0x107,
  RH_ENDORSEMENT: 0x10b,
} as const
