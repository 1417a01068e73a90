import type { Bank } from '../../api/common.js'
import { fromBase64url, toBase64url, toHex } from '../../core/bytes.js'
import type { Logger } from '../../core/logger.js'
import {
  attestationKeyTemplate,
  bindingKeyTemplate,
  EK_TEMPLATES,
  type KeyBlob,
  type LoadedKey,
  pcrDigest,
  policyPcrDigest,
  type Tpm,
} from '../../tpm/index.js'
import { type AgentStateFile, readState, writeState } from './state-file.js'
import { createStorageKey, type StorageKey } from './storage-key.js'
import { withStoragePrimary } from './storage-primary.js'

export type EndorsementKeyKind = keyof typeof EK_TEMPLATES
export type AttestationKeyKind = 'ecc-p256' | 'rsa-2048'

/** What the certificate of an endorsement key is looked for in, in this order. */
const EK_PREFERENCE: readonly EndorsementKeyKind[] = ['eccP384', 'eccP256', 'rsa2048']

/** What is bound to PCRs as they are attested. */
export interface BindingKey {
  readonly key: LoadedKey
  readonly pcrs: readonly number[]
  /** Under the same policy. Not disposed of with the binding key: sessions may still have it. */
  readonly storage: StorageKey
}

/** The keys of this host in its TPM. */
export interface TpmIdentity {
  readonly tpm: Tpm
  readonly ak: LoadedKey
  readonly enrolled: AgentStateFile['enrolled']
  saveEnrolment(enrolled: NonNullable<AgentStateFile['enrolled']>): void
  /** Runs `work` with the endorsement key loaded, and frees its slot afterwards. */
  withEndorsementKey<R>(
    work: (ek: LoadedKey, certificate: Uint8Array | undefined) => Promise<R>,
  ): Promise<R>
  /** The key that opens answers while these PCRs keep these values; made again when they changed. */
  bindingKey(bank: Bank, values: ReadonlyMap<number, Uint8Array>): Promise<BindingKey>
}

/**
 * Loads the host's attestation key, or makes it on a first start.
 *
 * The key is a child of a storage primary in the endorsement hierarchy: so its quotes carry the true reset and restart
 * counts, and the owner of the TPM cannot take it away by clearing the storage hierarchy alone.
 *
 * @see TPM 2.0 Library, Part 1, clause 36.7 (obfuscation of timing information)
 */
export async function openTpmIdentity(
  tpm: Tpm,
  options: {
    readonly stateDirectory: string
    readonly endorsementKey: EndorsementKeyKind | 'auto'
    readonly attestationKey: AttestationKeyKind
    readonly logger: Logger
  },
): Promise<TpmIdentity> {
  const { stateDirectory, logger } = options
  const leftovers = await tpm.flushLeftovers()
  if (leftovers > 0) logger.info({ event: 'tpm.flushed', leftovers }, 'leftovers flushed')
  const kept = readState(stateDirectory)
  const { ak, state } = await withStoragePrimary(tpm, async (parent) => {
    const blob = kept
      ? blobOf(kept)
      : await tpm.create(parent, attestationKeyTemplate(options.attestationKey))
    return {
      ak: await tpm.load(parent, blob),
      state: kept ?? stateOf(options.attestationKey, blob),
    }
  })
  if (!kept) {
    writeState(stateDirectory, state)
    logger.info({ event: 'ak.created', name: toHex(ak.name) }, 'attestation key made')
  }

  let current = state
  let binding: (BindingKey & { readonly policy: string }) | undefined
  return {
    tpm,
    ak,
    get enrolled() {
      return current.enrolled
    },
    saveEnrolment(enrolled) {
      current = { ...current, enrolled }
      writeState(stateDirectory, current)
    },
    async withEndorsementKey(work) {
      if (binding) await tpm.flush(binding.key)
      binding = undefined
      const { kind, certificate } = await chooseEndorsementKey(tpm, options.endorsementKey)
      const ek = await tpm.createPrimary('endorsement', EK_TEMPLATES[kind].publicArea)
      try {
        return await work(ek, certificate)
      } finally {
        await tpm.flush(ek)
      }
    },
    async bindingKey(bank, values) {
      const pcrs = [...values.keys()].sort((a, b) => a - b)
      const digest = pcrDigest(
        'sha256',
        pcrs.map((pcr) => values.get(pcr) ?? new Uint8Array()),
      )
      const policy = policyPcrDigest({ bank, pcrs }, digest)
      const id = toHex(policy)
      if (binding?.policy !== id) {
        if (binding) await tpm.flush(binding.key)
        binding = undefined
        binding = await withStoragePrimary(tpm, async (parent) => {
          // first, while there is a slot for it
          const storage = await createStorageKey(tpm, parent, { bank, pcrs, digest: policy })
          const key = await tpm.load(parent, await tpm.create(parent, bindingKeyTemplate(policy)))
          return { policy: id, key, pcrs, storage }
        })
        logger.info({ event: 'binding-key.created', pcrs }, 'binding key made')
      }
      return binding
    },
  }
}

async function chooseEndorsementKey(
  tpm: Tpm,
  wanted: EndorsementKeyKind | 'auto',
): Promise<{ readonly kind: EndorsementKeyKind; readonly certificate: Uint8Array | undefined }> {
  const kinds = wanted === 'auto' ? EK_PREFERENCE : [wanted]
  for (const kind of kinds) {
    const certificate = await tpm.nvRead(EK_TEMPLATES[kind].certificateNvIndex)
    if (certificate) return { kind, certificate }
  }
  return { kind: wanted === 'auto' ? 'rsa2048' : wanted, certificate: undefined }
}

function blobOf(state: AgentStateFile): KeyBlob {
  return {
    publicBlob: fromBase64url(state.attestationKey.publicBlob),
    privateBlob: fromBase64url(state.attestationKey.privateBlob),
  }
}

function stateOf(kind: AttestationKeyKind, blob: KeyBlob): AgentStateFile {
  return {
    version: 1,
    attestationKey: {
      kind,
      publicBlob: toBase64url(blob.publicBlob),
      privateBlob: toBase64url(blob.privateBlob),
    },
  }
}
