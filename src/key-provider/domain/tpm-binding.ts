import type { ConnectionFinding, ConnectionTest } from '../../api/key-servers.js'
import { toBase64url } from '../../core/bytes.js'
import type { ErrorCode } from '../../core/error-codes.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import type { StoredBackend, StoredProvider, StoredVersion, TpmBackend, TpmKeys } from '../ports.js'

type TpmProvider = StoredProvider & { readonly backend: TpmBackend }

const UNREACHABLE: ErrorCode = 'TPM_UNREACHABLE'

/** Unseals every version by the TPM, also those that are in memory, and says what is wrong with each. */
export async function testTpmKeys(
  tpmKeys: TpmKeys,
  provider: StoredProvider,
): Promise<ConnectionTest> {
  const findings: ConnectionFinding[] = []
  for (const stored of livingVersions(provider)) {
    const { version } = stored
    const about = { server: 'TPM', step: 'unseal' as const }
    try {
      await tpmKeys.test(idOf(provider, stored), stored.sealed)
      findings.push({ ...about, result: 'ok', message: `version ${version} is unsealed` })
    } catch (error) {
      if (!isPlatformError(error)) throw error
      const message = `version ${version}: ${messageOf(error)}`
      findings.push({ ...about, result: 'failed', code: error.code, message })
    }
  }
  const failed = findings.filter(({ result }) => result === 'failed')
  if (failed.length === 0) return { verdict: 'passed', findings }
  const mayPass = failed.every(({ code }) => code === UNREACHABLE)
  return { verdict: mayPass ? 'unreachable' : 'failed', findings }
}

/** A version and what is to be stored of it. */
export interface BoundVersion {
  readonly version: number
  readonly sealed: Uint8Array
}

/**
 * Seals every version anew to PCRs as they are now: from memory where it was unsealed before they changed.
 *
 * @throws PlatformError `KEY_TPM_PCRS`, `KEY_TPM_OTHER` for a version that is not in memory and cannot be unsealed
 */
export async function sealAnew(
  tpmKeys: TpmKeys,
  provider: StoredProvider,
  pcrs: readonly number[],
): Promise<readonly BoundVersion[]> {
  const bound: BoundVersion[] = []
  for (const stored of livingVersions(provider)) {
    const id = idOf(provider, stored)
    using secret = await tpmKeys.open(id, stored.sealed)
    const octets = secret.use((lent) => Uint8Array.from(lent))
    try {
      bound.push({ version: stored.version, sealed: await tpmKeys.seal(id, pcrs, octets) })
    } finally {
      octets.fill(0)
    }
  }
  return bound
}

/** Whether what was sealed anew is still all that there is: a version that was destroyed does not come back. */
export function isAsBefore(before: StoredProvider, now: StoredProvider): boolean {
  const [was, is] = [livingVersions(before), livingVersions(now)]
  return (
    was.length === is.length &&
    was.every(
      ({ version, sealed }, at) =>
        is[at]?.version === version && toBase64url(is[at].sealed) === toBase64url(sealed),
    )
  )
}

/** Whether keys are where they were, and a key that was sealed meanwhile is bound as it should be. */
export function isBoundAsBefore(before: StoredBackend, now: StoredBackend): boolean {
  const pcrsOf = (backend: StoredBackend) =>
    backend.kind === 'tpm' ? backend.pcrs.join(',') : undefined
  return pcrsOf(before) === pcrsOf(now)
}

/** @throws PlatformError `CONFLICT` */
export function requireTpmProvider(provider: StoredProvider): TpmProvider {
  const { backend, name } = provider
  if (backend.kind === 'tpm') return { ...provider, backend }
  throw new PlatformError(
    'CONFLICT',
    `expected a provider with its primary key sealed by the TPM, found ${name} with it elsewhere`,
  )
}

function livingVersions({ versions }: StoredProvider): readonly StoredVersion[] {
  return versions.filter(({ state }) => state !== 'destroyed')
}

function idOf({ providerId }: StoredProvider, { version, createdAtMs }: StoredVersion) {
  return { providerId, version, createdAtMs }
}
