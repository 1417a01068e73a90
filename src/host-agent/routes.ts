import { getJwks } from '../api/attestation.js'
import type { Client } from '../api/client.js'
import {
  type AgentStatus,
  attestNow,
  createEvidence,
  getStatus,
  getToken,
  listHeldKeys,
  listKeys,
  probeKeys,
} from '../api/host-agent.js'
import type { AnswerOf } from '../api/operation.js'
import { fromBase64url, timingSafeEqual, toBase64url, toHex } from '../core/bytes.js'
import { type Clock, secondsOf } from '../core/clock.js'
import { PlatformError } from '../core/errors.js'
import { newUuid, randomOctets } from '../core/random.js'
import { Secret } from '../core/secret.js'
import { type App, addOperation } from '../http/index.js'
import { importJwks, verifyAttestationResult } from '../tokens/index.js'
import { quoteFor } from './adapters/attester.js'
import type { AttestationLoop } from './attestation-loop.js'
import type { DumpKeeper } from './core-dumps/dump-keys.js'
import type { GuestDoor } from './guests/guest-door.js'
import type { KeyKeeper } from './host-keys/keeper.js'
import type { KeptKeys } from './host-keys/kept-keys.js'
import { addAttachmentRoutes } from './routes/attachment-routes.js'
import { addCoreDumpRoutes } from './routes/core-dump-routes.js'
import { addGuestRoutes } from './routes/guest-routes.js'
import { addLibvirtRoutes } from './routes/libvirt-routes.js'
import { addLockedVmRoutes } from './routes/locked-vm-routes.js'
import { addPolicyRoutes } from './routes/policy-routes.js'
import { addSnapshotRoutes } from './routes/snapshot-routes.js'
import { addVmMoveRoutes } from './routes/vm-move-routes.js'
import { addVmRoutes } from './routes/vm-routes.js'
import { addVtpmRoutes } from './routes/vtpm-routes.js'
import type { StartDeps } from './tasks/start-task.js'
import type { TpmHolder } from './tpm-holder.js'
import type { KeyClient } from './vm/index.js'

const LOCAL = { access: 'local' } as const
const DEK_OCTETS = 32

/** What the agent's unix socket answers. */
export function addAgentRoutes(
  app: App,
  deps: StartDeps & {
    readonly hostId: string
    readonly authorityUrl: string
    readonly eventLogFile: string
    readonly tpm: TpmHolder
    readonly loop: AttestationLoop
    readonly client: Client
    readonly keys: KeyClient
    readonly keeper: KeyKeeper
    readonly kept: KeptKeys
    readonly guests: GuestDoor
    readonly dumps: DumpKeeper
  },
): void {
  const { loop, keys, keeper, vms, clock } = deps
  const status = (): AgentStatus => ({
    hostId: deps.hostId,
    authorityUrl: deps.authorityUrl,
    ...loop.status(),
    ...(keeper.defaultProvider ? { defaultProvider: keeper.defaultProvider } : {}),
  })

  addOperation(app, getStatus, LOCAL, async () => status())
  addOperation(app, attestNow, LOCAL, async () => {
    await loop.attestNow()
    return status()
  })
  addOperation(app, getToken, LOCAL, async () => {
    const { token } = await loop.session()
    const claims = await verifyAttestationResult(token, {
      jwks: await importJwks(await deps.client.call(getJwks, {})),
      issuer: `${deps.authorityUrl}/attestation`,
      audience: deps.authorityUrl,
      nowSeconds: secondsOf(clock.nowMs()),
      skewSeconds: 5,
    })
    return { claims }
  })
  addOperation(app, createEvidence, LOCAL, async ({ body }) => {
    const identity = await deps.tpm.identity()
    const { quote, values, eventLog } = await quoteFor(identity, {
      qualifyingData: fromBase64url(body.qualifyingData),
      bank: 'sha256',
      pcrs: [...body.pcrs].sort((a, b) => a - b),
      eventLogFile: deps.eventLogFile,
    })
    return {
      akPublic: toBase64url(identity.ak.publicArea),
      attest: toBase64url(quote.attest),
      signature: toBase64url(quote.signature),
      pcrs: [...values].map(([pcr, digest]) => ({ pcr, digest: toHex(digest) })),
      ...(eventLog ? { eventLog: toBase64url(eventLog) } : {}),
    }
  })

  addOperation(app, listKeys, LOCAL, async () => ({ keys: [...(await vms.listKeys())] }))
  addOperation(app, listHeldKeys, LOCAL, async () => heldKeys(keeper, deps.kept))
  addOperation(app, probeKeys, LOCAL, async ({ body }) => probe(keys, clock, body))

  addVmRoutes(app, deps)
  addVtpmRoutes(app, deps)
  addLockedVmRoutes(app, deps)
  addAttachmentRoutes(app, deps)
  addPolicyRoutes(app, deps)
  addCoreDumpRoutes(app, deps)
  addVmMoveRoutes(app, deps)
  addSnapshotRoutes(app, deps)
  addLibvirtRoutes(app, deps)
  addGuestRoutes(app, deps)
}

function heldKeys(keeper: KeyKeeper, kept: KeptKeys): AnswerOf<typeof listHeldKeys> {
  const { keyring, notRestored, lastError } = keeper
  return {
    providers: keyring.providers.map(({ versions: wanted, ...provider }) => {
      const versions = keyring.versionsOf(provider.providerId)
      const lacking = wanted.filter((version) => !versions.includes(version))
      return { ...provider, versions, lacking, kept: kept.versionsOf(provider.providerId) }
    }),
    ...(notRestored === undefined ? {} : { notRestored }),
    ...(lastError === undefined ? {} : { lastError }),
  }
}

/** A throw-away key goes to the provider and comes back. */
async function probe(
  keys: KeyClient,
  clock: Clock,
  request: { readonly provider: string; readonly assurance: 'session' | 'tpm' },
): Promise<{ readonly wrapMs: number; readonly unwrapMs: number }> {
  using dek = new Secret(randomOctets(DEK_OCTETS))
  const use = { purpose: 'host', context: { probe: newUuid() } } as const
  const startedMs = clock.monotonicMs()
  const [wrapped = ''] = await keys.wrap(request.provider, [{ ...use, dek }])
  const wrappedMs = clock.monotonicMs()
  const [returned] = await keys.unwrap(request.provider, [{ ...use, wrapped }], request.assurance)
  const unwrappedMs = clock.monotonicMs()
  using back = returned ?? new Secret(new Uint8Array())
  await keys.release(request.provider, [{ ...use, wrapped }])
  if (!dek.use((a) => back.use((b) => timingSafeEqual(a, b)))) {
    throw new PlatformError('AGENT_PROBE', 'expected the same key back, found another')
  }
  return {
    wrapMs: Math.round((wrappedMs - startedMs) * 10) / 10,
    unwrapMs: Math.round((unwrappedMs - wrappedMs) * 10) / 10,
  }
}
