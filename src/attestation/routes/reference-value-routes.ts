import type { FastifyRequest } from 'fastify'
import {
  addReferenceSigner,
  importBaseImages,
  listReferenceSigners,
  removeReferenceSigner,
} from '../../api/reference-values.js'
import { fromBase64url } from '../../core/bytes.js'
import { type Clock, isoTime } from '../../core/clock.js'
import { type App, addOperation, type OperatorAccess } from '../../http/index.js'
import type { ReferenceValuesAdministration } from '../domain/reference-values.js'
import type { StoredReferenceSigner } from '../ports.js'
import { baseImageView } from './base-image-view.js'

const SERVICE = 'attestation'
const READ = { access: { operator: ['administrator', 'auditor'], service: SERVICE } } as const
const CHANGE = { access: { operator: ['administrator'], service: SERVICE } } as const
const FILE_BODY_OCTETS = 2 * 1024 * 1024

/** Reference values of others: import, and the keys that may sign them. */
export function addReferenceValueRoutes(
  app: App,
  deps: {
    readonly referenceValues: ReferenceValuesAdministration
    readonly operators: OperatorAccess
    readonly clock: Clock
  },
): void {
  const { referenceValues, clock } = deps
  const actOf = (request: FastifyRequest) => ({
    operator: deps.operators.operatorOf(request).name,
    nowMs: clock.nowMs(),
  })

  addOperation(
    app,
    importBaseImages,
    { ...CHANGE, bodyLimitOctets: FILE_BODY_OCTETS },
    async ({ body, request }) => {
      const { images, unused } = await referenceValues.importImages(actOf(request), {
        cluster: body.cluster,
        name: body.name,
        format: body.format,
        octets: fromBase64url(body.content),
        unsigned: body.unsigned === true,
      })
      return { baseImages: images.map(baseImageView), unused: [...unused] }
    },
  )
  addOperation(app, addReferenceSigner, CHANGE, async ({ body, request }) =>
    signerView(await referenceValues.addSigner(actOf(request), body)),
  )
  addOperation(app, listReferenceSigners, READ, async ({ query }) => {
    const { items, ...next } = await referenceValues.listSigners(query)
    return { signers: items.map(signerView), ...next }
  })
  addOperation(app, removeReferenceSigner, CHANGE, async ({ params, request }) => {
    await referenceValues.removeSigner(actOf(request), params.signerId)
    return {}
  })
}

function signerView({ signerId, note, addedAtMs }: StoredReferenceSigner) {
  return { signerId, note, addedAt: isoTime(addedAtMs) }
}
