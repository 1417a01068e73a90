import { ByteWriter } from '../src/core/reader.js'
import { encodeSized, STORAGE_PRIMARY_TEMPLATE, TPM_ALG } from '../src/tpm/index.js'
import { release, StructBuffer, slot } from './marshal.js'
import { tpmError } from './tpm-error.js'
import { ESYS_TR, esys } from './tss2/esys.js'

/** @see TPM 2.0 Library, Part 2, clause 6.11 (TPM_SE) */
const SESSION_TYPES = { hmac: 0x00, policy: 0x01 } as const

/** @see TPM 2.0 Library, Part 2, clause 8.4 (TPMA_SESSION) */
const CONTINUE = 0x01
const ENCRYPT_RESPONSE = 0x40

const { NONE } = ESYS_TR

/**
 * The sessions of one open TPM: salted, so that what they protect is not readable on the bus.
 *
 * `authorisation` proves the (empty) authorisation values by HMAC. `confidential` does too, and has the TPM encrypt
 * the first parameter of its response. The salt goes to a key that is made in the null hierarchy for this purpose and
 * flushed; that it is the TPM's key is not verified, so an active interposer is not kept out.
 */
export interface Sessions {
  readonly authorisation: number
  readonly confidential: number
  /** A policy session; the TPM ends it when it was used once. */
  startPolicy(): Promise<number>
  flush(session: number): Promise<void>
}

/** Starts the two lasting sessions. */
export async function startSessions(context: number): Promise<Sessions> {
  const symmetric = new StructBuffer('TPMT_SYM_DEF').from(
    new ByteWriter('big').u16(TPM_ALG.AES).u16(128).u16(TPM_ALG.CFB).finish(),
  )
  const start = async (type: number, tpmKey: number): Promise<number> => {
    const session = slot()
    const code = await esys.Esys_StartAuthSession(
      ...([context, tpmKey, NONE, NONE, NONE, NONE] as const),
      ...([null, type, symmetric, TPM_ALG.SHA256, session] as const),
    )
    if (code !== 0) throw tpmError('StartAuthSession', code)
    return session.readUInt32LE()
  }
  const flush = async (handle: number): Promise<void> => {
    const code = await esys.Esys_FlushContext(context, handle)
    if (code !== 0) throw tpmError('FlushContext', code)
  }
  const startWith = async (type: number, tpmKey: number, attributes: number): Promise<number> => {
    const session = await start(type, tpmKey)
    const code = await esys.Esys_TRSess_SetAttributes(context, session, attributes, 0xff)
    if (code !== 0) throw tpmError('TRSess_SetAttributes', code)
    return session
  }
  const saltKey = await createSaltKey(context)
  try {
    return {
      authorisation: await startWith(SESSION_TYPES.hmac, saltKey, CONTINUE),
      confidential: await startWith(SESSION_TYPES.hmac, saltKey, CONTINUE | ENCRYPT_RESPONSE),
      startPolicy: () => startWith(SESSION_TYPES.policy, NONE, 0),
      flush,
    }
  } finally {
    await flush(saltKey)
  }
}

async function createSaltKey(context: number): Promise<number> {
  const sensitive = new StructBuffer('TPM2B_SENSITIVE_CREATE').from(EMPTY_SENSITIVE)
  const template = new StructBuffer('TPM2B_PUBLIC').from(encodeSized(STORAGE_PRIMARY_TEMPLATE))
  const outside = new StructBuffer('TPM2B_DATA').from(EMPTY_SIZED)
  const creationPcrs = new StructBuffer('TPML_PCR_SELECTION').from(EMPTY_LIST)
  const object = slot()
  const results = [slot(), slot(), slot(), slot()] as const
  const code = await esys.Esys_CreatePrimary(
    ...([context, ESYS_TR.RH_NULL, ESYS_TR.PASSWORD, NONE, NONE] as const),
    ...([sensitive, template, outside, creationPcrs, object] as const),
    ...results,
  )
  if (code !== 0) throw tpmError('CreatePrimary', code)
  release(...results)
  return object.readUInt32LE()
}

/** TPM2B_SENSITIVE_CREATE with an empty authorisation value and no data. */
export const EMPTY_SENSITIVE = Uint8Array.of(0, 4, 0, 0, 0, 0)
/** Any TPM2B without octets. */
export const EMPTY_SIZED = Uint8Array.of(0, 0)
/** Any TPML without elements. */
export const EMPTY_LIST = Uint8Array.of(0, 0, 0, 0)
