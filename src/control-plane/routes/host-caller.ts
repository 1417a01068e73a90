import type { FastifyRequest } from 'fastify'
import type { HostAccess } from '../../http/index.js'
import type { AttestedHost } from '../domain/deliver-host-keys.js'

/** The host that sent a request, by its token and its proof. */
export async function attestedHost(
  hosts: HostAccess,
  request: FastifyRequest,
): Promise<AttestedHost> {
  const { claims, proof, recordUntilSeconds } = await hosts.authenticate(request)
  return {
    claims,
    caller: {
      issuer: claims.iss,
      hostId: claims.sub,
      cluster: claims.sigillo.cluster,
      hostEpoch: claims.sigillo.host_epoch,
      policyEpoch: claims.sigillo.policy_epoch,
      tokenId: claims.jti,
      resetCount: claims.sigillo.boot.reset_count,
      proof: { thumbprint: proof.jkt, id: proof.jti, expiresAtMs: recordUntilSeconds * 1000 },
    },
  }
}
