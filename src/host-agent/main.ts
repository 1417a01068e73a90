import { mkdirSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Static } from 'typebox'
import { openTpm } from '../../native/index.js'
import { createClient } from '../api/client.js'
import type { Clock } from '../core/clock.js'
import type { Logger } from '../core/logger.js'
import { isUuid } from '../core/names.js'
import { readOctets, readText } from '../core/read-file.js'
import { readSecretFile } from '../core/secret-file.js'
import { createApp, listen } from '../http/index.js'
import { readCertificates } from '../pki/index.js'
import type { DeviceKey } from './adapters/attester.js'
import { createAuthority } from './adapters/authority.js'
import { createInventory } from './adapters/inventory.js'
import { createKeyClient } from './adapters/key-client.js'
import { createVtpmCertifier } from './adapters/vtpm-certifier.js'
import { createVtpmWitness } from './adapters/vtpm-witness.js'
import { startAttestationLoop } from './attestation-loop.js'
import type { AgentConfig } from './config.js'
import { createDumpKeeper } from './core-dumps/dump-keys.js'
import { createTasks } from './domain/tasks.js'
import { createGuestAnswers } from './guests/answer-guest.js'
import { openGuestDoor } from './guests/guest-door.js'
import { createKeyKeeper } from './host-keys/keeper.js'
import { KeptKeys } from './host-keys/kept-keys.js'
import { createLocalKeys } from './host-keys/local-keys.js'
import { createKeyTaker } from './host-keys/take-key.js'
import { addAgentRoutes } from './routes.js'
import { createTaskExchange } from './tasks/exchange.js'
import { TaskJournal } from './tasks/journal.js'
import { createTaskRunner } from './tasks/runner.js'
import { createTpmHolder } from './tpm-holder.js'
import { createVmService, guestPlaces, type VmServiceOptions } from './vm/index.js'
import { findOpenSwap } from './vm/swap.js'

/** The description of a domain of libvirt is the longest body. */
const BODY_LIMIT_OCTETS = 512 * 1024

/** A running host agent. */
export interface HostAgent extends AsyncDisposable {
  close(): Promise<void>
}

/** Starts the agent: takes up VMs, serves the socket, and keeps the host attested. VMs run on when it is closed. */
export async function startHostAgent(deps: {
  readonly config: Static<typeof AgentConfig>
  readonly clock: Clock
  readonly random: () => number
  readonly logger: Logger
  /** Programs of VMs that are not those of the distribution. */
  readonly programs?: VmServiceOptions['programs']
}): Promise<HostAgent> {
  const { config, clock, logger } = deps
  const authorityUrl = config.authority.url.replace(/\/$/, '')
  const client = createClient({ baseUrl: authorityUrl, caPem: readText(config.authority.caFile) })
  const tpm = createTpmHolder(() => openTpm({ tcti: config.tpm.tcti }), {
    stateDirectory: config.stateDirectory,
    endorsementKey: config.tpm.endorsementKey,
    attestationKey: config.tpm.attestationKey,
    logger,
  })
  const underWay = new Set<Promise<void>>()
  /** Work that only the end of the agent waits for. When it fails that is logged: it is done again at the next occasion. */
  const inBackground = (work: string, done: Promise<unknown>): void => {
    const settled = done
      .catch((err: unknown) => {
        logger.error({ event: 'agent.work-failed', work, err }, 'the agent could not do some work')
      })
      .then(() => void underWay.delete(settled))
    underWay.add(settled)
  }
  const loop = startAttestationLoop({
    client,
    identity: () => tpm.identity(),
    loseTpm: () => tpm.lose(),
    hostId: config.hostId,
    authorityUrl,
    ticket: () => ticketOf(config.authority.ticketFile),
    deviceKey: () => deviceKeyOf(config.tpm.device),
    eventLogFile: config.tpm.eventLogFile,
    imaListFile: config.tpm.imaListFile,
    bindingKey: config.tpm.bindingKey,
    clock,
    random: deps.random,
    logger,
    onAttested: () => {
      keeper.start()
      inBackground('release keys', vms.settleReleases())
      inBackground(
        'report and unlock VMs',
        vms.reportUntold().then(() => vms.unlockAll()),
      )
      if (areTasksKnown) exchange.start()
    },
    onRefused: (error) => {
      keeper.forget()
      exchange.stop()
      const { onRevocation, revocationGraceSeconds: graceSeconds } = config.vm
      const running = onRevocation === 'stop' ? { graceSeconds } : 'keep'
      inBackground('lock VMs', vms.refuseHost(error, running))
    },
  })
  const openTpmOfHost = async () => (await tpm.identity()).tpm
  const authority = createAuthority(client, () => loop.session(), clock)
  const kept = new KeptKeys(config.stateDirectory)
  const keeper = createKeyKeeper({
    ...{ authority, kept, logger },
    tpm: openTpmOfHost,
    random: deps.random,
    onReceived: () => inBackground('unlock VMs', vms.unlockAll()),
    onMissing: (providers) => inBackground('lock VMs', vms.lockThoseWithoutKeys(providers)),
    onDoubt: () => void loop.attestNow(),
  })
  const keys = createLocalKeys(keeper, createKeyClient(authority, openTpmOfHost), {
    take: createKeyTaker(authority, openTpmOfHost),
    hardwareId: () => hardwareUuid() ?? config.hostId,
  })
  const certifier = createVtpmCertifier(authority, client)
  const guests = openGuestDoor({
    answers: createGuestAnswers({
      hostId: config.hostId,
      verifier: `${authorityUrl}/attestation`,
      ...{ authority, client, certifier, clock },
    }),
    places: guestPlaces(config.vm.directory),
    ...{ clock, logger },
  })
  const vms = createVmService({
    directory: config.vm.directory,
    closedDirectories: [config.stateDirectory],
    importDirectories: config.vm.importDirectories,
    lockMemory: config.vm.lockMemory,
    keys,
    certifier,
    ...(deps.programs ? { programs: deps.programs } : {}),
    inventory: guests.watching(
      createInventory(authority, async () => {
        await loop.session()
        const { cluster } = loop.status()
        if (cluster === undefined) throw new TypeError('an attested host has a cluster')
        return { hostId: config.hostId, cluster }
      }),
    ),
    random: deps.random,
    vtpmRollback: config.vtpm.rollback,
    vtpmWitness: createVtpmWitness(authority),
    clock,
    logger,
    libvirt: config.libvirt,
  })
  const tasks = createTasks(({ kind, error }, err) => {
    logger.error({ event: 'task.failed', kind, code: error?.code, err }, 'task failed')
  })
  let areTasksKnown = false
  const runner = createTaskRunner({
    journal: new TaskJournal(config.stateDirectory),
    ...{ vms, keeper, tasks, clock, logger },
    onChange: (isEnd) => exchange.changed(isEnd),
  })
  const exchange = createTaskExchange({ authority, runner, random: deps.random, logger })
  const app = await createApp({
    logger,
    name: 'host-agent',
    bodyLimitOctets: BODY_LIMIT_OCTETS,
    local: true,
  })
  const dumps = createDumpKeeper({
    stateDirectory: config.stateDirectory,
    hostId: config.hostId,
    ...{ keys, nowMs: () => clock.nowMs() },
  })
  addAgentRoutes(app, {
    hostId: config.hostId,
    authorityUrl,
    eventLogFile: config.tpm.eventLogFile,
    ...{ tpm, loop, client, keys, keeper, kept, vms, guests, tasks, clock, dumps },
  })
  if (!config.vm.lockMemory) {
    const areas = await findOpenSwap()
    if (areas.length > 0) {
      logger.warn(
        { event: 'swap.open', areas },
        'memory of VMs can be swapped out in the clear: encrypt swap, or lock their memory',
      )
    }
  }
  // Before anything else uses the TPM: it has few slots
  await keeper.restore()
  mkdirSync(dirname(config.socket), { recursive: true, mode: 0o700 })
  const listener = await listen(app, `unix:${config.socket}`)
  await vms.recover()
  try {
    runner.recover()
    areTasksKnown = true
  } catch (err) {
    // Without it nobody knows what was done: none is taken, and all else works
    logger.error({ event: 'tasks.unknown', err }, 'tasks of the control plane are not taken')
  }
  void loop.attestNow()
  logger.info({ event: 'agent.started', hostId: config.hostId }, 'agent started')

  let closed: Promise<void> | undefined
  const close = async (): Promise<void> => {
    await listener.close()
    runner.close()
    await exchange[Symbol.asyncDispose]()
    await tasks.settled()
    await vms[Symbol.asyncDispose]()
    await guests[Symbol.asyncDispose]()
    await keeper[Symbol.asyncDispose]()
    await loop[Symbol.asyncDispose]()
    await Promise.all(underWay)
    await tpm[Symbol.asyncDispose]()
    await client[Symbol.asyncDispose]()
    logger.info({ event: 'agent.stopped' }, 'agent stopped')
  }
  const closeOnce = (): Promise<void> => {
    closed ??= close()
    return closed
  }
  return { close: closeOnce, [Symbol.asyncDispose]: closeOnce }
}

function ticketOf(file: string | undefined): string | undefined {
  if (file === undefined) return undefined
  using secret = readSecretFile(file)
  return secret.use((octets) => Buffer.from(octets).toString('utf8'))
}

/** Read anew at each enrolment, so that a file that was mended is found. */
function deviceKeyOf(device: Static<typeof AgentConfig>['tpm']['device']): DeviceKey | undefined {
  if (!device) return undefined
  const { handle, certificateFile } = device
  const [certificate] = readCertificates(readOctets(certificateFile)).all
  return certificate && { handle, certificate: certificate.der }
}

/** As the firmware says (SMBIOS); nothing where the kernel does not show it. */
function hardwareUuid(): string | undefined {
  try {
    const text = readFileSync('/sys/class/dmi/id/product_uuid', 'utf8').trim().toLowerCase()
    return isUuid(text) ? text : undefined
  } catch {
    return undefined
  }
}
