import type { FastifyRequest } from 'fastify'
import {
  addReferenceSigner,
  importBaseImages,
  listReferenceSigners,
  removeReferenceSigner,
} from '../../api/reference-values.js'
import { fromBase64url } from '../../core/bytes.js'
import { type Clock, isoTime } from '../../core/clock.js'
import { type App, addOperation, type CallerAccess } from '../../http/index.js'
import type { ReferenceValuesAdministration } from '../domain/reference-values.js'
import type { StoredReferenceSigner } from '../ports.js'
import { baseImageView } from './base-image-view.js'

const SERVICE = 'attestation'
const FOR_PEOPLE = { access: { people: SERVICE } } as const
const FILE_BODY_OCTETS = 2 * 1024 * 1024

/** Reference values of others: import, and the keys that may sign them. */
export function addReferenceValueRoutes(
  app: App,
  deps: {
    readonly referenceValues: ReferenceValuesAdministration
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { referenceValues, clock } = deps
  const actOf = (request: FastifyRequest) => deps.callers.actOf(request, clock.nowMs())

  addOperation(
    app,
    importBaseImages,
    { ...FOR_PEOPLE, bodyLimitOctets: FILE_BODY_OCTETS },
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
  addOperation(app, addReferenceSigner, FOR_PEOPLE, async ({ body, request }) =>
    signerView(await referenceValues.addSigner(actOf(request), body)),
  )
  addOperation(app, listReferenceSigners, FOR_PEOPLE, async ({ query }) => {
    const { items, ...next } = await referenceValues.listSigners(query)
    return { signers: items.map(signerView), ...next }
  })
  addOperation(app, removeReferenceSigner, FOR_PEOPLE, async ({ params, request }) => {
    await referenceValues.removeSigner(actOf(request), params.signerId)
    return {}
  })
}

function signerView({ signerId, note, addedAtMs }: StoredReferenceSigner) {
  return { signerId, note, addedAt: isoTime(addedAtMs) }
}
