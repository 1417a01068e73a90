import type { KeyServersInput } from '../../../src/api/key-servers.js'
import type { TestAuthority } from '../kmip/client-certificates.js'

/** Settings of servers on loopback with certificates of a test's authority. */
export function inputFor(
  authority: TestAuthority,
  ports: readonly number[],
  change: Partial<KeyServersInput> = {},
): KeyServersInput {
  const { certificate, key } = authority.client()
  return {
    servers: ports.map((port) => ({ host: 'localhost', port })),
    authorities: authority.authority.certificate,
    certificate,
    privateKey: key,
    ...change,
  }
}
