import type { HashName } from './algorithms.js'

/**
 * The commands of one TPM that Sigillo uses, as the host agent and the lab see them.
 *
 * Implemented over tpm2-tss by `native`. Structures cross as wire octets; `src/tpm` builds and reads them. Commands of
 * one `Tpm` run one at a time in the order of the calls. A response code other than success throws `TpmError`; a TPM
 * that does not answer throws `TPM_UNREACHABLE`.
 */
export interface Tpm extends AsyncDisposable {
  getRandom(octets: number): Promise<Uint8Array>

  /** Fixed properties (TPM_PT_FIXED) and active PCR banks. */
  properties(): Promise<TpmProperties>

  pcrRead(bank: HashName, pcrs: readonly number[]): Promise<ReadonlyMap<number, Uint8Array>>

  /** Extends one PCR in every bank that a digest is given for. */
  pcrExtend(pcr: number, digests: readonly BankDigest[]): Promise<void>

  /** Contents of an NV index read with owner authorisation, or nothing where the index is not defined. */
  nvRead(index: number): Promise<Uint8Array | undefined>

  /** @param template TPMT_PUBLIC, with the `unique` field filled as the template's profile says */
  createPrimary(hierarchy: Hierarchy, template: Uint8Array): Promise<LoadedKey>

  /** @param template TPMT_PUBLIC; the new key has an empty authorisation value */
  create(parent: LoadedKey, template: Uint8Array): Promise<KeyBlob>

  load(parent: LoadedKey, blob: KeyBlob): Promise<LoadedKey>

  /**
   * A key that was made persistent, by its handle in the TPM (0x81……); nothing where there is none.
   *
   * `flush` forgets it here and leaves it in the TPM.
   */
  openPersistent(handle: number): Promise<LoadedKey | undefined>

  /** Signs the PCRs named, with the scheme of the key. */
  quote(request: QuoteRequest): Promise<Attested>

  /** Proves by a signature of `signer` that `object` is in the same TPM. */
  certify(object: LoadedKey, signer: LoadedKey, qualifyingData: Uint8Array): Promise<Attested>

  /**
   * Opens a credential made for `ek` and the name of `ak`.
   *
   * The session that authorises `ek` follows its template: PolicySecret(endorsement) where user authorisation is off.
   *
   * @param credentialBlob TPM2B_ID_OBJECT
   * @param encryptedSecret TPM2B_ENCRYPTED_SECRET
   * @returns the secret; the response parameter is encrypted on the way from the TPM
   */
  activateCredential(
    ek: LoadedKey,
    ak: LoadedKey,
    credentialBlob: Uint8Array,
    encryptedSecret: Uint8Array,
  ): Promise<Uint8Array>

  /**
   * RSAES-OAEP decryption with SHA-256 and an empty label, authorised by PolicyPCR over the current values.
   *
   * A PCR that changed since the policy was made throws `TpmError` with TPM_RC_POLICY_FAIL; the response parameter is
   * encrypted on the way from the TPM.
   */
  rsaDecryptWithPcrPolicy(
    key: LoadedKey,
    policy: { readonly bank: HashName; readonly pcrs: readonly number[] },
    ciphertext: Uint8Array,
  ): Promise<Uint8Array>

  /**
   * Keeps data in an object that the TPM wraps; the data is encrypted on its way to the TPM.
   *
   * @param template `sealedObjectTemplate`
   * @param data at most 128 octets
   */
  seal(parent: LoadedKey, template: Uint8Array, data: Uint8Array): Promise<KeyBlob>

  /**
   * The data of such an object, authorised by PolicyPCR over the current values; encrypted on its way from the TPM.
   *
   * A PCR that changed since throws `TPM_POLICY_FAIL`; an object of another TPM, or one that was altered,
   * `TPM_OBJECT_FOREIGN`.
   */
  unsealWithPcrPolicy(
    parent: LoadedKey,
    blob: KeyBlob,
    policy: { readonly bank: HashName; readonly pcrs: readonly number[] },
  ): Promise<Uint8Array>

  /** Frees the transient slot of a key. */
  flush(key: LoadedKey): Promise<void>

  /** Flushes transient objects and sessions that an earlier process left; returns how many. */
  flushLeftovers(): Promise<number>
}

export type Hierarchy = 'owner' | 'endorsement'

/** A key in a transient slot of the TPM. */
export interface LoadedKey {
  /** Meaningful to the `Tpm` that made it, and to no other. */
  readonly handle: number
  /** TPMT_PUBLIC */
  readonly publicArea: Uint8Array
  /** The object's name: nameAlg, then the digest of the public area. */
  readonly name: Uint8Array
}

/** A key as its parent wraps it: what may lie on disk. */
export interface KeyBlob {
  /** TPM2B_PUBLIC */
  readonly publicBlob: Uint8Array
  /** TPM2B_PRIVATE */
  readonly privateBlob: Uint8Array
}

export interface BankDigest {
  readonly bank: HashName
  readonly digest: Uint8Array
}

export interface QuoteRequest {
  readonly key: LoadedKey
  /** At most 32 octets: the smallest limit of TPMs with SHA-256. */
  readonly qualifyingData: Uint8Array
  readonly bank: HashName
  readonly pcrs: readonly number[]
}

export interface Attested {
  /** TPMS_ATTEST */
  readonly attest: Uint8Array
  /** TPMT_SIGNATURE */
  readonly signature: Uint8Array
}

export interface TpmProperties {
  /** `IBM`, `INTC`, …: the four characters without padding. */
  readonly manufacturer: string
  readonly vendorString: string
  readonly firmwareVersion: string
  readonly activeBanks: readonly HashName[]
}
