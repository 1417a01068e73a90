import { createHash, type KeyObject } from 'node:crypto'
import type { Bank } from '../../api/common.js'
import { parseUtf8 } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { describeFinding, failures } from '../../core/finding.js'
import { pageOf, type StoredPage } from '../../core/page.js'
import {
  type Corim,
  type CorimSigner,
  parseCorim,
  parseReferenceJson,
  pcrReferenceValues,
  readCorimKey,
  verifyCorimValidity,
  verifySignedCorim,
} from '../../corim/index.js'
import type { HashName } from '../../tpm/index.js'
import type { AttestationStore, StoredBaseImage, StoredReferenceSigner } from '../ports.js'
import { type Act, found, record, tell } from './administration.js'
import { policyOf } from './attestation.js'

/** Base images that one file may make. */
const MAX_IMAGES = 64
const MAX_SIGNERS = 64
const MAX_TEXT_CHARACTERS = 200

export interface ImportRequest {
  readonly cluster: string
  readonly name: string | undefined
  readonly format: 'json' | 'corim'
  readonly octets: Uint8Array
  /** Whether a CoRIM that nobody signed is accepted. */
  readonly unsigned: boolean
}

/** Reference values of others, and who may sign them. Each act is one transaction with its audit record. */
export function createReferenceValues({ store }: { readonly store: AttestationStore }) {
  return {
    /**
     * Makes base images of a file, one for each state that it describes: a host has to agree with one in every PCR.
     *
     * @throws PlatformError of the reader or of the first check of the signature that failed; `REFERENCE_VALUES` where
     *   nothing in it is of use; `CONFLICT` where a name is taken
     */
    importImages: (act: Act, request: ImportRequest) =>
      store.transaction(async (tx) => {
        const { cluster, octets } = request
        const digest = createHash('sha256').update(octets).digest('hex')
        const { policy } = await policyOf(tx, cluster)
        const read =
          request.format === 'json'
            ? readJson(request, digest)
            : readCorim(request, digest, {
                bank: policy.bank,
                keys: (await tx.listReferenceSigners()).map(({ pem }) => readCorimKey(pem)),
                nowMs: act.nowMs,
              })
        const images = read.images.map(
          (image): StoredBaseImage => ({ ...image, cluster, addedAtMs: act.nowMs }),
        )
        for (const image of images) {
          const { name, source } = image
          await tx.insertBaseImage(image)
          await tell(tx, act, 'base-image.added', { cluster, detail: { name } })
          await record(tx, act, 'base-image.import', `base-image:${cluster}/${name}`, { ...source })
        }
        const remark = `${images[0]?.bank} is not the bank of the policy of ${cluster}: no host can agree`
        const otherBank = images.some(({ bank }) => bank !== policy.bank)
        return { images, unused: [...read.unused, ...(otherBank ? [remark] : [])] }
      }),

    /** @throws PlatformError `CORIM_KEY` */
    addSigner: (act: Act, request: { readonly pem: string; readonly note: string }) =>
      store.transaction(async (tx) => {
        const key = readCorimKey(request.pem)
        if ((await tx.listReferenceSigners()).length >= MAX_SIGNERS) {
          throw new PlatformError('CONFLICT', `expected at most ${MAX_SIGNERS} signers`)
        }
        const signer: StoredReferenceSigner = {
          signerId: signerIdOf(key),
          pem: key.export({ type: 'spki', format: 'pem' }).toString(),
          note: request.note,
          addedAtMs: act.nowMs,
        }
        await tx.saveReferenceSigner(signer)
        const { signerId, note } = signer
        await tell(tx, act, 'reference-signer.added', { detail: { signerId, note } })
        await record(tx, act, 'reference-signer.add', `reference-signer:${signerId}`, { note })
        return signer
      }),

    listSigners: (page: StoredPage) =>
      store.transaction(async (tx) =>
        pageOf(await tx.listReferenceSigners(), page, ({ signerId }) => signerId),
      ),

    removeSigner: (act: Act, signerId: string) =>
      store.transaction(async (tx) => {
        found(await tx.removeReferenceSigner(signerId), 'signer', signerId)
        await tell(tx, act, 'reference-signer.removed', { detail: { signerId } })
        await record(tx, act, 'reference-signer.remove', `reference-signer:${signerId}`, {})
      }),
  }
}

export type ReferenceValuesAdministration = ReturnType<typeof createReferenceValues>

type ReadImage = Omit<StoredBaseImage, 'cluster' | 'addedAtMs'>

interface ReadFile {
  readonly images: readonly ReadImage[]
  readonly unused: readonly string[]
}

function readJson({ name, octets }: ImportRequest, digest: string): ReadFile {
  const { source, ...values } = parseReferenceJson(parseUtf8(octets))
  const image: ReadImage = {
    ...values,
    name: name ?? values.name,
    source: {
      kind: 'json',
      digest,
      ...(source === undefined ? {} : { description: source }),
    },
  }
  return { images: [image], unused: [] }
}

function readCorim(
  request: ImportRequest,
  digest: string,
  trust: { readonly bank: Bank; readonly keys: readonly KeyObject[]; readonly nowMs: number },
): ReadFile {
  const { name } = request
  if (name === undefined) {
    throw new PlatformError('REFERENCE_VALUES', 'expected a name for the images of a manifest')
  }
  const { manifest, signer } = openManifest(request, trust)
  const { states, unused } = pcrReferenceValues(manifest, { bank: trust.bank as HashName })
  if (states.length === 0 || states.length > MAX_IMAGES) {
    const message = `expected 1 to ${MAX_IMAGES} states of PCRs in bank ${trust.bank}, found ${states.length}`
    throw new PlatformError('REFERENCE_VALUES', [message, ...unused.slice(0, 3)].join('; '))
  }
  const said = signer?.meta ?? signer?.claims
  const { notBeforeMs, notAfterMs } = narrowest(manifest.validity, said)
  const images = states.map(
    ({ pcrs }, index): ReadImage => ({
      name: states.length === 1 ? name : `${name}-${index + 1}`,
      bank: trust.bank,
      pcrs: new Map([...pcrs].sort(([a], [b]) => a - b).map(([pcr, value]) => [pcr, [value]])),
      ...(notBeforeMs === undefined ? {} : { notBeforeMs }),
      ...(notAfterMs === undefined ? {} : { notAfterMs }),
      source: {
        kind: 'corim',
        digest,
        id: idText(manifest),
        ...(said ? { signer: said.name.slice(0, MAX_TEXT_CHARACTERS) } : {}),
      },
    }),
  )
  return { images, unused }
}

function openManifest(
  { octets, unsigned }: ImportRequest,
  { keys, nowMs }: { readonly keys: readonly KeyObject[]; readonly nowMs: number },
): { readonly manifest: Corim; readonly signer?: CorimSigner } {
  const { manifest, signer, findings } = verifySignedCorim(octets, { keys, nowMs })
  if (manifest && signer) return { manifest, signer }
  const [first] = failures(findings)
  if (unsigned && first?.code === 'CORIM_UNSIGNED') {
    const plain = parseCorim(octets)
    const validity = verifyCorimValidity(plain, nowMs)
    if (!validity.ok) throw new PlatformError(validity.code, describeFinding(validity))
    return { manifest: plain }
  }
  throw new PlatformError(
    first?.code ?? 'REFERENCE_VALUES',
    first ? describeFinding(first) : 'expected a manifest',
  )
}

interface Dates {
  readonly notBeforeMs?: number
  readonly notAfterMs?: number
}

/** The time in which manifest and signature are both valid. */
function narrowest(manifest: Dates | undefined, signature: Dates | undefined): Dates {
  const known = (values: readonly (number | undefined)[]) =>
    values.filter((value) => value !== undefined)
  const from = known([manifest?.notBeforeMs, signature?.notBeforeMs])
  const to = known([manifest?.notAfterMs, signature?.notAfterMs])
  return {
    ...(from.length > 0 ? { notBeforeMs: Math.max(...from) } : {}),
    ...(to.length > 0 ? { notAfterMs: Math.min(...to) } : {}),
  }
}

function idText({ id }: Corim): string {
  return id.text.slice(0, MAX_TEXT_CHARACTERS)
}

function signerIdOf(key: KeyObject): string {
  return createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex')
}
