import type { VmCreate } from '../../api/host-agent.js'
import { PlatformError } from '../../core/errors.js'
import type { KeyKeeper } from './keeper.js'

type Source = Pick<KeyKeeper, 'ready' | 'defaultProvider'>

/** The name of the default in force here; undefined where there is none, or the control plane was not heard yet. */
export async function defaultProviderOf(keeper: Source): Promise<string | undefined> {
  await keeper.ready()
  return keeper.defaultProvider?.provider
}

/**
 * A request for a VM with the key provider that it is to have: the one that it names, or the default, and none for a VM
 * that is to be plain. No VM is plain because nothing was said.
 *
 * @throws PlatformError `AGENT_NO_PROVIDER`, `REQUEST_INVALID`
 */
export async function withProvider(
  keeper: Source,
  { plain, ...request }: VmCreate,
): Promise<Omit<VmCreate, 'plain'>> {
  if (plain) {
    if (request.provider === undefined) return request
    throw new PlatformError('REQUEST_INVALID', 'expected a key provider or a plain VM, found both')
  }
  const provider = request.provider ?? (await defaultProviderOf(keeper))
  if (provider !== undefined) return { ...request, provider }
  throw new PlatformError(
    'AGENT_NO_PROVIDER',
    'expected a key provider by name, or a default of the cluster or the site, found neither',
  )
}
