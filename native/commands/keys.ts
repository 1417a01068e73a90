import { equalBytes } from '../../src/core/bytes.js'
import {
  encodePcrSelections,
  encodeSized,
  type HashName,
  type Hierarchy,
  type KeyBlob,
  type LoadedKey,
  nameOf,
  parsePublicArea,
  parseSized,
} from '../../src/tpm/index.js'
import { release, StructBuffer, slot, takeResult } from '../marshal.js'
import { EMPTY_LIST, EMPTY_SENSITIVE, EMPTY_SIZED, type Sessions } from '../sessions.js'
import { decryptError, TpmError, tpmError } from '../tpm-error.js'
import { ESYS_TR, esys } from '../tss2/esys.js'

const { NONE, PASSWORD } = ESYS_TR
const HIERARCHIES: Readonly<Record<Hierarchy, number>> = {
  owner: ESYS_TR.RH_OWNER,
  endorsement: ESYS_TR.RH_ENDORSEMENT,
}
/** TPMT_RSA_DECRYPT without a scheme: the key's own is used. */
const NO_SCHEME = Uint8Array.of(0x00, 0x10)
const MAX_PUBLIC_OCTETS = 1024

/** Commands that make, load and use keys. */
export function keyCommands(context: number, sessions: Sessions) {
  const sensitiveIn = new StructBuffer('TPM2B_SENSITIVE_CREATE')
  const publicIn = new StructBuffer('TPM2B_PUBLIC')
  const privateIn = new StructBuffer('TPM2B_PRIVATE')
  const dataIn = new StructBuffer('TPM2B_DATA')
  const pcrsIn = new StructBuffer('TPML_PCR_SELECTION')
  const object = slot()

  const loadedKey = async (handle: number, publicBlob: Uint8Array): Promise<LoadedKey> => {
    const publicArea = parseSized(publicBlob, 'TPM2B_PUBLIC', MAX_PUBLIC_OCTETS)
    const place = slot()
    const code = await esys.Esys_TR_GetName(context, handle, place)
    if (code !== 0) throw tpmError('TR_GetName', code)
    const name = takeResult('TPM2B_NAME', place).subarray(2)
    if (!equalBytes(name, nameOf(parsePublicArea(publicArea)))) {
      throw new TpmError('TPM_RC', 0, 'expected the name of the public area, found another')
    }
    return { handle, publicArea, name }
  }

  const flushHandle = async (handle: number): Promise<void> => {
    const code = await esys.Esys_FlushContext(context, handle)
    if (code !== 0) throw tpmError('FlushContext', code)
  }

  /** Runs `use` with a policy session; the TPM ends it with its use, and here where that did not happen. */
  const withPolicy = async <R>(
    satisfy: (session: number) => Promise<void>,
    use: (session: number) => Promise<R>,
  ): Promise<R> => {
    const session = await sessions.startPolicy()
    try {
      await satisfy(session)
      return await use(session)
    } catch (error) {
      await esys.Esys_FlushContext(context, session)
      throw error
    }
  }

  const policySecretOfEndorsement = async (session: number): Promise<void> => {
    const timeout = slot()
    const ticket = slot()
    const code = await esys.Esys_PolicySecret(
      ...([context, ESYS_TR.RH_ENDORSEMENT, session, sessions.authorisation, NONE, NONE] as const),
      ...([null, null, null, 0, timeout, ticket] as const),
    )
    release(timeout, ticket)
    if (code !== 0) throw tpmError('PolicySecret', code)
  }

  const policyPcr = async (
    session: number,
    policy: { readonly bank: HashName; readonly pcrs: readonly number[] },
  ): Promise<void> => {
    const selection = pcrsIn.from(encodePcrSelections([policy]))
    const code = await esys.Esys_PolicyPCR(context, session, NONE, NONE, NONE, null, selection)
    if (code !== 0) throw tpmError('PolicyPCR', code)
  }

  return {
    async getRandom(octets: number): Promise<Uint8Array> {
      const place = slot()
      const code = await esys.Esys_GetRandom(
        ...([context, sessions.confidential, NONE, NONE, octets, place] as const),
      )
      if (code !== 0) throw tpmError('GetRandom', code)
      return takeResult('TPM2B_DIGEST', place).subarray(2)
    },

    async createPrimary(hierarchy: Hierarchy, template: Uint8Array): Promise<LoadedKey> {
      const outPublic = slot()
      const others = [slot(), slot(), slot()] as const
      const code = await esys.Esys_CreatePrimary(
        ...([context, HIERARCHIES[hierarchy], sessions.authorisation, NONE, NONE] as const),
        sensitiveIn.from(EMPTY_SENSITIVE),
        publicIn.from(encodeSized(template)),
        dataIn.from(EMPTY_SIZED),
        pcrsIn.from(EMPTY_LIST),
        ...([object, outPublic, ...others] as const),
      )
      if (code !== 0) throw tpmError('CreatePrimary', code)
      release(...others)
      return loadedKey(object.readUInt32LE(), takeResult('TPM2B_PUBLIC', outPublic))
    },

    async create(parent: LoadedKey, template: Uint8Array): Promise<KeyBlob> {
      const outPrivate = slot()
      const outPublic = slot()
      const others = [slot(), slot(), slot()] as const
      const code = await esys.Esys_Create(
        ...([context, parent.handle, sessions.authorisation, NONE, NONE] as const),
        sensitiveIn.from(EMPTY_SENSITIVE),
        publicIn.from(encodeSized(template)),
        dataIn.from(EMPTY_SIZED),
        pcrsIn.from(EMPTY_LIST),
        ...([outPrivate, outPublic, ...others] as const),
      )
      if (code !== 0) throw tpmError('Create', code)
      release(...others)
      return {
        privateBlob: takeResult('TPM2B_PRIVATE', outPrivate),
        publicBlob: takeResult('TPM2B_PUBLIC', outPublic),
      }
    },

    async load(parent: LoadedKey, blob: KeyBlob): Promise<LoadedKey> {
      const code = await esys.Esys_Load(
        ...([context, parent.handle, sessions.authorisation, NONE, NONE] as const),
        privateIn.from(blob.privateBlob),
        publicIn.from(blob.publicBlob),
        object,
      )
      if (code !== 0) throw tpmError('Load', code)
      return loadedKey(object.readUInt32LE(), blob.publicBlob)
    },

    flush: (key: LoadedKey): Promise<void> => flushHandle(key.handle),

    async activateCredential(
      ek: LoadedKey,
      ak: LoadedKey,
      credentialBlob: Uint8Array,
      encryptedSecret: Uint8Array,
    ): Promise<Uint8Array> {
      const blob = new StructBuffer('TPM2B_ID_OBJECT').from(credentialBlob)
      const secret = new StructBuffer('TPM2B_ENCRYPTED_SECRET').from(encryptedSecret)
      const activate = async (ekSession: number): Promise<Uint8Array> => {
        const place = slot()
        const code = await esys.Esys_ActivateCredential(
          ...([context, ak.handle, ek.handle] as const),
          ...([sessions.authorisation, ekSession, sessions.confidential] as const),
          ...([blob, secret, place] as const),
        )
        if (code !== 0) throw tpmError('ActivateCredential', code)
        return takeResult('TPM2B_DIGEST', place).subarray(2)
      }
      return parsePublicArea(ek.publicArea).attributes.userWithAuth
        ? activate(PASSWORD)
        : withPolicy(policySecretOfEndorsement, activate)
    },

    async rsaDecryptWithPcrPolicy(
      key: LoadedKey,
      policy: { readonly bank: HashName; readonly pcrs: readonly number[] },
      ciphertext: Uint8Array,
    ): Promise<Uint8Array> {
      const cipher = new StructBuffer('TPM2B_PUBLIC_KEY_RSA').from(encodeSized(ciphertext))
      const scheme = new StructBuffer('TPMT_RSA_DECRYPT').from(NO_SCHEME)
      const label = dataIn.from(EMPTY_SIZED)
      return withPolicy(
        (session) => policyPcr(session, policy),
        async (session) => {
          const place = slot()
          const code = await esys.Esys_RSA_Decrypt(
            ...([context, key.handle, session, sessions.confidential, NONE] as const),
            ...([cipher, scheme, label, place] as const),
          )
          if (code !== 0) throw decryptError(code)
          return takeResult('TPM2B_PUBLIC_KEY_RSA', place).subarray(2)
        },
      )
    },
  }
}
