import { Type } from 'typebox'
import { fromBase64url, fromHex, toBase64url, toHex } from '../core/bytes.js'
import { isPlatformError, PlatformError } from '../core/errors.js'
import { randomOctets } from '../core/random.js'
import { Secret } from '../core/secret.js'
import type { Sealer } from '../store/index.js'
import {
  type KeyBlob,
  type LoadedKey,
  pcrDigest,
  policyPcrDigest,
  STORAGE_PRIMARY_TEMPLATE,
  sealedObjectTemplate,
  type Tpm,
} from '../tpm/index.js'
import { readParameters } from './parameters.js'

const KEY_OCTETS = 32
const BANK = 'sha256'

const Blob = Type.String({ pattern: '^[A-Za-z0-9_-]+$', maxLength: 1400 })
const Parameters = Type.Object(
  {
    bank: Type.Literal(BANK),
    pcrs: Type.Array(Type.Integer({ minimum: 0, maximum: 23 }), { minItems: 1, maxItems: 24 }),
    /** As they were when the key was sealed: to say which differ. */
    values: Type.Array(Type.String({ pattern: '^[0-9a-f]{64}$' }), { minItems: 1, maxItems: 24 }),
    publicBlob: Blob,
    privateBlob: Blob,
  },
  { additionalProperties: false },
)

/**
 * Sealing keys in the TPM of the authority: it gives one back while the PCRs are as they were, and to nobody else's TPM.
 *
 * The object is under the TPM's storage primary key of the owner hierarchy: TPM2_Clear makes it worthless. The policy is
 * PolicyPCR (SHA-256), without a way round it; whoever changes firmware or boot loader needs another seal to come back.
 *
 * `keyOf` throws `SEAL_TPM_PCRS` naming the PCRs that differ, `SEAL_TPM_OTHER`, and what the TPM throws.
 *
 * @param options.open opens the TPM for one use
 * @param options.pcrs for new keys
 */
export function tpmSealer(options: {
  readonly open: () => Promise<Tpm>
  readonly pcrs: readonly number[]
}): Sealer {
  const pcrs = options.pcrs.toSorted((a, b) => a - b)
  return {
    kind: 'tpm',
    guesses: false,
    async newKey() {
      await using tpm = await options.open()
      const values = valuesOf(await tpm.pcrRead(BANK, pcrs), pcrs)
      const policy = policyPcrDigest({ bank: BANK, pcrs }, pcrDigest(BANK, values))
      const key = new Secret(randomOctets(KEY_OCTETS))
      try {
        const blob = await withPrimary(tpm, (primary) =>
          key.use((octets) => tpm.seal(primary, sealedObjectTemplate(policy), octets)),
        )
        // a PCR that was extended in between, or a TPM that seals and does not unseal, is found now
        using back = await unseal(tpm, blob, pcrs)
        if (back.length !== KEY_OCTETS) throw new TypeError('another key came back')
        const parameters = {
          bank: BANK,
          pcrs,
          values: values.map(toHex),
          publicBlob: toBase64url(blob.publicBlob),
          privateBlob: toBase64url(blob.privateBlob),
        }
        return { parameters, key }
      } catch (error) {
        key.dispose()
        throw error
      }
    },
    async keyOf(stored) {
      const parameters = readParameters('tpm', Parameters, stored)
      await using tpm = await options.open()
      const blob = {
        publicBlob: fromBase64url(parameters.publicBlob),
        privateBlob: fromBase64url(parameters.privateBlob),
      }
      try {
        return await unseal(tpm, blob, parameters.pcrs)
      } catch (cause) {
        if (isPlatformError(cause, 'TPM_OBJECT_FOREIGN')) {
          throw new PlatformError('SEAL_TPM_OTHER', cause.message, { cause })
        }
        if (!isPlatformError(cause, 'TPM_POLICY_FAIL')) throw cause
        const changed = await changedPcrs(tpm, parameters.pcrs, parameters.values)
        const message = `expected PCRs as when the key was sealed, found others: ${changed}`
        throw new PlatformError('SEAL_TPM_PCRS', message, { cause })
      }
    },
  }
}

async function unseal(tpm: Tpm, blob: KeyBlob, pcrs: readonly number[]): Promise<Secret> {
  const octets = await withPrimary(tpm, (primary) =>
    tpm.unsealWithPcrPolicy(primary, blob, { bank: BANK, pcrs }),
  )
  return new Secret(octets)
}

async function withPrimary<R>(tpm: Tpm, use: (primary: LoadedKey) => Promise<R>): Promise<R> {
  const primary = await tpm.createPrimary('owner', STORAGE_PRIMARY_TEMPLATE)
  try {
    return await use(primary)
  } finally {
    await tpm.flush(primary)
  }
}

async function changedPcrs(
  tpm: Tpm,
  pcrs: readonly number[],
  before: readonly string[],
): Promise<string> {
  const now = valuesOf(await tpm.pcrRead(BANK, pcrs), pcrs)
  const changed = pcrs.filter(
    (_, at) => toHex(now[at] ?? new Uint8Array()) !== toHex(fromHex(before[at] ?? '')),
  )
  return changed.length === 0 ? 'for a moment' : changed.join(', ')
}

function valuesOf(
  read: ReadonlyMap<number, Uint8Array>,
  pcrs: readonly number[],
): readonly Uint8Array[] {
  return pcrs.map((pcr) => {
    const value = read.get(pcr)
    if (value) return value
    throw new PlatformError('TPM_ANSWER', `expected a value of PCR ${pcr} (${BANK}), found none`)
  })
}
