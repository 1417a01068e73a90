import { type Static, Type } from 'typebox'
import { Empty, Exactly, HexDigest, Name, Next, PageQuery, Sentence, Time, Uuid } from './common.js'
import { onObject } from './needs.js'
import { operation } from './operation.js'
import { VtpmRevocation } from './vtpm-revocations.js'

/**
 * The control plane as a witness of the states of virtual TPMs: their digests, in order. Whoever puts an older state back
 * on a host, with its record, does not reach this one.
 */
const BASE = '/control-plane/v1'

const VmParams = Exactly({ vmId: Uuid })

export const Generation = Type.Integer({
  minimum: 1,
  maximum: Number.MAX_SAFE_INTEGER,
  description: 'counts the states that were recorded',
})

const Sha256 = Type.String({ pattern: '^[0-9a-f]{64}$', description: 'SHA-256 of the state file' })

export const VtpmStateStanding = Type.Union(
  [
    Type.Literal('none'),
    Type.Literal('newest'),
    Type.Literal('superseded'),
    Type.Literal('unknown'),
  ],
  {
    description:
      'none: no state of this VM is known; newest: this is the last one; superseded: there was a later one; unknown: others are known',
  },
)
export type VtpmStateStanding = Static<typeof VtpmStateStanding>

export const VtpmStateCause = Type.Union(
  [
    Type.Literal('recorded'),
    Type.Literal('late'),
    Type.Literal('unrecorded'),
    Type.Literal('tolerated'),
    Type.Literal('accepted'),
    Type.Literal('restored'),
  ],
  {
    description:
      'recorded: after a stop or a change; late: recorded while the control plane was away; unrecorded: found after a run whose end nobody saw; tolerated: an older one, by policy; accepted: an older one, by an administrator; restored: from the copy of it',
  },
)
export type VtpmStateCause = Static<typeof VtpmStateCause>

export const VtpmStateNote = Exactly({
  generation: Generation,
  digest: Sha256,
  cause: VtpmStateCause,
})
export type VtpmStateNote = Static<typeof VtpmStateNote>

export const checkVtpmState = operation({
  id: 'checkVtpmState',
  summary: 'What is known of a state of a virtual TPM of this host',
  method: 'GET',
  path: `${BASE}/host/vms/:vmId/vtpm-state`,
  status: 200,
  params: VmParams,
  query: Exactly({ digest: Sha256 }),
  answer: Exactly({
    standing: VtpmStateStanding,
    newestGeneration: Type.Integer({ minimum: 0 }),
  }),
})

export const noteVtpmState = operation({
  id: 'noteVtpmState',
  summary: 'Tell of the state that a virtual TPM of this host starts from next',
  method: 'PUT',
  path: `${BASE}/host/vms/:vmId/vtpm-state`,
  status: 200,
  params: VmParams,
  body: VtpmStateNote,
  answer: Empty,
})

export const reportVtpmProblem = operation({
  id: 'reportVtpmProblem',
  summary: 'Tell that the state of a virtual TPM of this host was refused',
  method: 'POST',
  path: `${BASE}/host/vms/:vmId/vtpm-state/problems`,
  status: 201,
  params: VmParams,
  body: Exactly({ code: Type.String({ pattern: '^[A-Z][A-Z0-9_]{1,63}$' }), message: Sentence }),
  answer: Empty,
})

export const listVtpmStates = operation({
  id: 'listVtpmStates',
  needs: onObject('System.Read'),
  summary: 'States of the virtual TPM of a VM as its hosts told of them, the newest first',
  method: 'GET',
  path: `${BASE}/vms/:vmId/vtpm-states`,
  status: 200,
  params: VmParams,
  query: Exactly(PageQuery),
  answer: Exactly({
    states: Type.Array(
      Exactly({
        generation: Type.Integer(),
        digest: HexDigest,
        cause: VtpmStateCause,
        hostId: Name,
        notedAt: Time,
      }),
    ),
    next: Next,
  }),
})

export const listVtpmCertificates = operation({
  id: 'listVtpmCertificates',
  needs: onObject('System.Read'),
  summary: 'Certificates that were issued for virtual TPMs, by fingerprint',
  method: 'GET',
  path: `${BASE}/vtpm-certificates`,
  status: 200,
  query: Exactly({
    ...PageQuery,
    vmId: Type.Optional(Uuid),
    revoked: Type.Optional(Type.Boolean({ description: 'whether they were taken back' })),
  }),
  answer: Exactly({
    certificates: Type.Array(
      Exactly({
        fingerprint: HexDigest,
        vmId: Uuid,
        kind: Type.Union([Type.Literal('ek'), Type.Literal('platform')]),
        hostId: Name,
        issuedAt: Time,
        revocation: Type.Optional(VtpmRevocation),
        pem: Type.String(),
      }),
    ),
    next: Next,
  }),
})
