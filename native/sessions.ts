import { ByteWriter } from '../src/core/reader.js'
import { encodeSized, STORAGE_PRIMARY_TEMPLATE, TPM_ALG } from '../src/tpm/index.js'
import { InputStruct, integerIn, release, slot } from './marshal.js'
import { tpmError } from './tpm-error.js'
import { ESYS_TR, esys } from './tss2/esys.js'

/** @see TPM 2.0 Library, Part 2, clause 6.11 (TPM_SE) */
const SESSION_TYPES = { hmac: 0x00, policy: 0x01 } as const

/** @see TPM 2.0 Library, Part 2, clause 8.4 (TPMA_SESSION) */
const CONTINUE = 0x01
const DECRYPT_COMMAND = 0x20
const ENCRYPT_RESPONSE = 0x40
const ALL_ATTRIBUTES = 0xff

const { NONE } = ESYS_TR

/**
 * The sessions of one open TPM: salted, so that what they protect is not readable on the bus.
 *
 * The salt goes to a key that is made in the null hierarchy for this purpose and flushed; that it is the TPM's key is
 * not verified, so who answers in the TPM's place is not kept out.
 */
export interface Sessions {
  /** Proves the (empty) authorisation values by HMAC, command after command. */
  readonly authorisation: number
  /** Does too, and has the TPM encrypt the first parameter of its response: AES-128-CFB. */
  readonly confidential: number
  /** Runs `use` with `confidential` turned round: the first parameter of the command is encrypted, not the answer's. */
  concealed<R>(use: (session: number) => Promise<R>): Promise<R>
  /** The lasting ones. */
  readonly all: readonly number[]
  /** Runs `use` in a new policy session, which the TPM ends with its use. */
  withPolicy<R>(use: (session: number) => Promise<R>): Promise<R>
}

/** Starts the lasting sessions. */
export async function startSessions(context: number): Promise<Sessions> {
  const symmetric = new InputStruct('TPMT_SYM_DEF').from(
    new ByteWriter('big').u16(TPM_ALG.AES).u16(128).u16(TPM_ALG.CFB).finish(),
  )
  const start = async (type: number, tpmKey: number, attributes: number): Promise<number> => {
    const place = slot()
    const started = await esys.Esys_StartAuthSession(
      ...([context, tpmKey, NONE, NONE, NONE, NONE] as const),
      ...([null, type, symmetric, TPM_ALG.SHA256, place] as const),
    )
    if (started !== 0) throw tpmError('StartAuthSession', started)
    const session = integerIn(place)
    await setAttributes(session, attributes)
    return session
  }
  const setAttributes = async (session: number, attributes: number): Promise<void> => {
    const set = await esys.Esys_TRSess_SetAttributes(context, session, attributes, ALL_ATTRIBUTES)
    if (set !== 0) throw tpmError('TRSess_SetAttributes', set)
  }
  const saltKey = await createSaltKey(context)
  try {
    const authorisation = await start(SESSION_TYPES.hmac, saltKey, CONTINUE)
    const confidential = await start(SESSION_TYPES.hmac, saltKey, CONTINUE | ENCRYPT_RESPONSE)
    return {
      authorisation,
      confidential,
      all: [authorisation, confidential],
      async concealed(use) {
        await setAttributes(confidential, CONTINUE | DECRYPT_COMMAND)
        try {
          return await use(confidential)
        } finally {
          await setAttributes(confidential, CONTINUE | ENCRYPT_RESPONSE)
        }
      },
      async withPolicy(use) {
        const session = await start(SESSION_TYPES.policy, NONE, 0)
        try {
          return await use(session)
        } catch (error) {
          // refused before its use or in it, the session is still there; the first error is the one that counts
          await flushHandle(context, session).catch((): undefined => undefined)
          throw error
        }
      },
    }
  } finally {
    await flushHandle(context, saltKey)
  }
}

/** Flushes a key or session that ESYS knows under this handle. */
export async function flushHandle(context: number, handle: number): Promise<void> {
  const code = await esys.Esys_FlushContext(context, handle)
  if (code !== 0) throw tpmError('FlushContext', code)
}

async function createSaltKey(context: number): Promise<number> {
  const object = slot()
  const results = [slot(), slot(), slot(), slot()] as const
  const code = await esys.Esys_CreatePrimary(
    ...([context, ESYS_TR.RH_NULL, ESYS_TR.PASSWORD, NONE, NONE] as const),
    new InputStruct('TPM2B_SENSITIVE_CREATE').from(EMPTY_SENSITIVE),
    new InputStruct('TPM2B_PUBLIC').from(encodeSized(STORAGE_PRIMARY_TEMPLATE)),
    new InputStruct('TPM2B_DATA').from(EMPTY_SIZED),
    new InputStruct('TPML_PCR_SELECTION').from(EMPTY_LIST),
    ...([object, ...results] as const),
  )
  if (code !== 0) throw tpmError('CreatePrimary', code)
  release(...results)
  return integerIn(object)
}

/** TPM2B_SENSITIVE_CREATE with an empty authorisation value and no data. */
export const EMPTY_SENSITIVE = Uint8Array.of(0, 4, 0, 0, 0, 0)
/** Any TPM2B without octets. */
export const EMPTY_SIZED = Uint8Array.of(0, 0)
/** Any TPML without elements. */
export const EMPTY_LIST = Uint8Array.of(0, 0, 0, 0)
