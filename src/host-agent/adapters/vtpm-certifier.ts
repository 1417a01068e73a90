import type { Client } from '../../api/client.js'
import { getVtpmAuthority, issueVtpmCertificate } from '../../api/control-plane.js'
import { fromBase64url, toBase64url } from '../../core/bytes.js'
import type { VtpmCertifier } from '../vm/ports.js'
import type { Authority } from './authority.js'

/** Certificates of virtual TPMs from the control plane. */
export function createVtpmCertifier(authority: Authority, client: Client): VtpmCertifier {
  return {
    async certify({ vmId, kind, publicKeySpki, tpm }) {
      const { certificate } = await authority.call(issueVtpmCertificate, {
        body: { vmId, kind, publicKey: toBase64url(publicKeySpki), tpm: { ...tpm } },
      })
      return fromBase64url(certificate)
    },
    async authorityPem() {
      return (await client.call(getVtpmAuthority, {})).pem
    },
  }
}
