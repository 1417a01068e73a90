import { Type } from 'typebox'
import { Exactly, HexDigest, Time } from './common.js'
import { onObject } from './needs.js'
import { operation } from './operation.js'

/** Certificates of virtual TPMs that were taken back: whoever verifies one outside of the site asks here, without login. */
const BASE = '/control-plane/v1'

/** @see RFC 5280, section 5.3.1 */
export const VtpmRevocationReason = Type.Union(
  [
    Type.Literal('key-compromise'),
    Type.Literal('superseded'),
    Type.Literal('cessation-of-operation'),
  ],
  {
    description:
      'key-compromise: the key is known to others, and no certificate is issued for it any more; superseded: there is a newer certificate for the key; cessation-of-operation: the virtual TPM is gone',
  },
)

export const VtpmRevocation = Exactly({ reason: VtpmRevocationReason, at: Time })

export const revokeVtpmCertificate = operation({
  id: 'revokeVtpmCertificate',
  needs: onObject('VirtualMachine.Config.AddRemoveDevice'),
  summary: 'Take back a certificate of a virtual TPM; with a compromised key, all of that key',
  method: 'POST',
  path: `${BASE}/vtpm-certificates/:fingerprint/revocation`,
  status: 201,
  params: Exactly({ fingerprint: HexDigest }),
  body: Exactly({ reason: VtpmRevocationReason }),
  answer: Exactly({ revoked: Type.Array(HexDigest) }),
})

export const getVtpmRevocationList = operation({
  id: 'getVtpmRevocationList',
  summary: 'Revocation list of the authority of virtual TPMs, as text',
  method: 'GET',
  path: `${BASE}/vtpm-revocation-list`,
  status: 200,
  answer: Exactly({
    number: Type.Integer({ minimum: 1 }),
    thisUpdate: Time,
    nextUpdate: Time,
    certificates: Type.Integer({ minimum: 0, description: 'how many are revoked' }),
    pem: Type.String(),
  }),
})

/** The same list as it is fetched by the address in certificates. @see RFC 5280, section 4.2.1.13; RFC 2585, section 3 */
export const VTPM_REVOCATION_LIST_FILE = {
  id: 'getVtpmRevocationListFile',
  summary: 'Revocation list of the authority of virtual TPMs, DER',
  path: `${BASE}/vtpm-revocation-list.crl`,
  mediaType: 'application/pkix-crl',
} as const
