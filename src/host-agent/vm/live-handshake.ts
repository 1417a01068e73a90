import { concat, fromBase64url, toBase64url, utf8 } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { randomOctets } from '../../core/random.js'
import { type LiveChannel, live } from './live-channel.js'
import { NONCE_OCTETS, readOffer, SealedOffer, verifyOffer } from './live-offer.js'
import type { Descriptor, KeyRecord } from './records.js'
import type { VmHost } from './vm-host.js'
import { unwrapKeys, type VmKeys } from './vm-keys.js'
import { allKeys } from './vm-parts.js'

/** How long the other side may take for each thing that it has to say. Both hosts have the frames of it ready. */
const SPEAKING_MS = 20_000

/** An offer of a host that has the home key, made on this connection: not by who heard one before. */
export interface OpenedOffer extends Disposable {
  readonly sealed: SealedOffer
  readonly descriptor: Descriptor
  readonly records: readonly KeyRecord[]
  readonly keys: VmKeys
}

/**
 * Hears the offer of another host, has the keys of its VM unwrapped, and has it show that it has the home key, too. Nothing is
 * done here before that, nor asked of the control plane: anybody on the network may have come.
 *
 * From now on the channel is sealed. The caller disposes of the offer.
 *
 * @throws PlatformError `VM_LIVE`, `VM_HAND_OVER` for a host of another cluster, of the key provider; the reason of the signal
 */
export async function openOffer(
  host: VmHost,
  channel: LiveChannel,
  signal: AbortSignal | undefined,
): Promise<OpenedOffer> {
  const sealed = await channel.within(SPEAKING_MS, signal, () => channel.receiveRecord(SealedOffer))
  const { offer } = sealed
  const { vmId, exportId } = offer
  const { descriptor, records } = readOffer(sealed)
  const { provider } = descriptor
  if (provider === undefined) throw live('a plain VM has no key that hosts know one another by')
  const objects = allKeys(descriptor)
  const request = { vmId, provider, objects, records, assurance: host.assurance }
  const keys = await unwrapKeys(host.keys, request)
  try {
    verifyOffer(sealed, keys.of('home'))
    const { hostId, cluster } = await host.inventory.place()
    if (cluster !== offer.cluster) {
      const expected = `expected a host of cluster ${offer.cluster}, found ${hostId} of ${cluster}`
      throw new PlatformError('VM_HAND_OVER', expected)
    }
    const nonce = randomOctets(NONCE_OCTETS)
    await channel.send('open', utf8(JSON.stringify({ nonce: toBase64url(nonce) })))
    const nonces = concat(fromBase64url(offer.nonce), nonce)
    channel.seal(keys.of('home'), { side: 'target', vmId, exportId, nonces })
    await channel.within(SPEAKING_MS, signal, () => channel.receive('begin'))
  } catch (error) {
    keys[Symbol.dispose]()
    throw error
  }
  return { sealed, descriptor, records, keys, [Symbol.dispose]: () => keys[Symbol.dispose]() }
}
