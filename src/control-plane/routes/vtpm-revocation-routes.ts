import { Type } from 'typebox'
import {
  getVtpmRevocationList,
  revokeVtpmCertificate,
  VTPM_REVOCATION_LIST_FILE,
} from '../../api/vtpm-revocations.js'
import { view } from '../../core/bytes.js'
import { type Clock, isoTime } from '../../core/clock.js'
import { type App, addOperation, type CallerAccess } from '../../http/index.js'
import { parseRevocationList, pemOf } from '../../pki/index.js'
import type { VtpmRevocations } from '../domain/vtpm-revocations.js'

const SERVICE = 'control-plane'

/** What administrators take back of the certificates of virtual TPMs, and the list that anybody may have. */
export function addVtpmRevocationRoutes(
  app: App,
  deps: {
    readonly revocations: VtpmRevocations
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { revocations, callers, clock } = deps
  addOperation(
    app,
    revokeVtpmCertificate,
    { access: { people: SERVICE } },
    async ({ params, body, request }) => {
      const act = callers.actOf(request, clock.nowMs())
      return { revoked: [...(await revocations.revoke(act, params.fingerprint, body.reason))] }
    },
  )
  addOperation(app, getVtpmRevocationList, { access: 'public' }, async () => {
    const { number, list } = await revocations.current()
    const { thisUpdateMs, nextUpdateMs, serials } = parseRevocationList(list)
    return {
      ...{ number, thisUpdate: isoTime(thisUpdateMs), nextUpdate: isoTime(nextUpdateMs) },
      ...{ certificates: serials.size, pem: pemOf('X509 CRL', list) },
    }
  })
  const { id, summary, path, mediaType } = VTPM_REVOCATION_LIST_FILE
  app.get(
    path,
    {
      schema: {
        ...{ operationId: id, summary },
        response: { 200: Type.String({ contentMediaType: mediaType }) },
      },
      config: { access: 'public' },
    },
    async (_, reply) => {
      const { list } = await revocations.current()
      // the type of the answer is for callers of JSON; octets go out as they are
      return reply.type(mediaType).send(view(list) as unknown as string)
    },
  )
}
