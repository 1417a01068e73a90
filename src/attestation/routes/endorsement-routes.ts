import type { FastifyRequest } from 'fastify'
import {
  addAnchors,
  addEndorsementKey,
  addRevocationList,
  addRevokedKey,
  listAnchors,
  listEndorsementKeys,
  listRevocationLists,
  listRevokedKeys,
  removeAnchor,
  removeEndorsementKey,
  removeRevocationList,
  removeRevokedKey,
} from '../../api/endorsement.js'
import { type Clock, isoTime } from '../../core/clock.js'
import { type App, addOperation, type CallerAccess } from '../../http/index.js'
import { parseRevocationList } from '../../pki/index.js'
import type { Endorsers } from '../domain/endorsers.js'
import type { RevokedKeys } from '../domain/revoked-keys.js'
import type {
  StoredAuthority,
  StoredEndorsementKey,
  StoredRevocationList,
  StoredRevokedKey,
} from '../ports.js'

const SERVICE = 'attestation'
const FOR_PEOPLE = { access: { people: SERVICE } } as const
const PEM_BODY_OCTETS = 2 * 1024 * 1024

/** Who endorses TPMs: authorities, their revocation lists, and single keys; and which keys nobody may have. */
export function addEndorsementRoutes(
  app: App,
  deps: {
    readonly endorsers: Endorsers
    readonly revokedKeys: RevokedKeys
    readonly callers: CallerAccess
    readonly clock: Clock
  },
): void {
  const { endorsers, revokedKeys, clock } = deps
  const large = { ...FOR_PEOPLE, bodyLimitOctets: PEM_BODY_OCTETS }
  const actOf = (request: FastifyRequest) => deps.callers.actOf(request, clock.nowMs())

  addOperation(app, addAnchors, large, async ({ body, request }) => {
    const anchors = await endorsers.addAuthorities(actOf(request), {
      pem: body.pem,
      trustIntermediates: body.trustIntermediates === true,
      insecureTest: body.insecureTest === true,
      forVms: body.forVms === true,
    })
    return { anchors: anchors.map(anchorView) }
  })
  addOperation(app, listAnchors, FOR_PEOPLE, async ({ query }) => {
    const { items, ...next } = await endorsers.listAuthorities(query)
    return { anchors: items.map(anchorView), ...next }
  })
  addOperation(app, removeAnchor, FOR_PEOPLE, async ({ params, request }) => {
    await endorsers.removeAuthority(actOf(request), params.fingerprint)
    return {}
  })

  addOperation(app, addRevocationList, large, async ({ body, request }) => {
    const octets = listOctets(body.list)
    const { stored, revokedHosts } = await endorsers.addRevocationList(actOf(request), octets)
    return { list: listView(stored), revokedHosts: [...revokedHosts] }
  })
  addOperation(app, listRevocationLists, FOR_PEOPLE, async ({ query }) => {
    const { items, ...next } = await endorsers.listRevocationLists(query)
    return { lists: items.map(listView), ...next }
  })
  addOperation(app, removeRevocationList, FOR_PEOPLE, async ({ params, request }) => {
    await endorsers.removeRevocationList(actOf(request), params.fingerprint)
    return {}
  })

  addOperation(app, addEndorsementKey, FOR_PEOPLE, async ({ body, request }) =>
    keyView(await endorsers.addEndorsementKey(actOf(request), body)),
  )
  addOperation(app, listEndorsementKeys, FOR_PEOPLE, async ({ query }) => {
    const { items, ...next } = await endorsers.listEndorsementKeys(query)
    return { keys: items.map(keyView), ...next }
  })
  addOperation(app, removeEndorsementKey, FOR_PEOPLE, async ({ params, request }) => {
    await endorsers.removeEndorsementKey(actOf(request), params.fingerprint)
    return {}
  })

  addOperation(app, addRevokedKey, FOR_PEOPLE, async ({ body, request }) => {
    const { revokedKey, revokedHosts } = await revokedKeys.add(actOf(request), body)
    return { revokedKey: revokedKeyView(revokedKey), revokedHosts }
  })
  addOperation(app, listRevokedKeys, FOR_PEOPLE, async ({ query }) => {
    const { items, ...next } = await revokedKeys.list(query)
    return { keys: items.map(revokedKeyView), ...next }
  })
  addOperation(app, removeRevokedKey, FOR_PEOPLE, async ({ params, request }) => {
    await revokedKeys.remove(actOf(request), params.key)
    return {}
  })
}

/** PEM as it is; else base64 of DER. What is neither is refused where it is parsed. */
function listOctets(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, text.includes('-----BEGIN') ? 'latin1' : 'base64'))
}

function anchorView(anchor: StoredAuthority) {
  return {
    fingerprint: anchor.fingerprint,
    role: anchor.role,
    subject: anchor.subject,
    notAfter: isoTime(anchor.notAfterMs),
    insecureTest: anchor.insecureTest,
    addedAt: isoTime(anchor.addedAtMs),
  }
}

function listView(stored: StoredRevocationList) {
  const { issuer, serials } = parseRevocationList(stored.list)
  return {
    issuer,
    issuerFingerprint: stored.issuerFingerprint,
    certificates: serials.size,
    thisUpdate: isoTime(stored.thisUpdateMs),
    nextUpdate: isoTime(stored.nextUpdateMs),
    addedAt: isoTime(stored.addedAtMs),
  }
}

function keyView({ fingerprint, note, addedAtMs }: StoredEndorsementKey) {
  return { fingerprint, note, addedAt: isoTime(addedAtMs) }
}

function revokedKeyView({ key, reason, revokedAtMs }: StoredRevokedKey) {
  return { key, reason, revokedAt: isoTime(revokedAtMs) }
}
