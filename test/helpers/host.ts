import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openTpm } from '../../native/index.js'
import { captureBaseImage } from '../../src/api/base-images.js'
import type { Client } from '../../src/api/client.js'
import { createTicket } from '../../src/api/hosts.js'
import { attest, enrol } from '../../src/host-agent/adapters/attester.js'
import { openTpmIdentity, type TpmIdentity } from '../../src/host-agent/adapters/tpm-identity.js'
import type { Lab, LabTpm } from '../../swtpm/index.js'
import { silent, type TestSite } from './site.js'
import { measuredBoot } from './vectors.js'

/** A boot with Secure Boot on: OVMF, shim, GRUB, a Debian kernel. */
export const GOOD_BOOT = measuredBoot('04-shim-grub-sb-on-mskeys', 'binary_bios_measurements')
export const CLUSTER = 'lab'

/** A host of a test: a software TPM that was booted, and the agent's own code over it. */
export interface TestHost extends AsyncDisposable {
  readonly hostId: string
  readonly tpm: LabTpm
  readonly identity: TpmIdentity
  readonly eventLogFile: string
  readonly stateDirectory: string
  enrol(client: Client, ticket: string): ReturnType<typeof enrol>
  attest(client: Client): ReturnType<typeof attest>
  /** Opens the TPM anew, after a power cycle. */
  reopen(): Promise<void>
}

export async function bootHost(
  lab: Lab,
  hostId: string,
  options: {
    readonly eventLog?: Uint8Array
    readonly ekCertificates?: boolean
    readonly attestationKey?: 'ecc-p256' | 'rsa-2048'
    readonly endorsementKey?: 'auto' | 'eccP384' | 'rsa2048'
  } = {},
): Promise<TestHost> {
  const tpm = await lab.manufacture(hostId, { ekCertificates: options.ekCertificates ?? true })
  const eventLog = options.eventLog ?? GOOD_BOOT
  await tpm.boot(eventLog)
  const stateDirectory = join(lab.directory, `${hostId}-state`)
  mkdirSync(stateDirectory, { mode: 0o700 })
  const eventLogFile = join(stateDirectory, 'binary_bios_measurements')
  writeFileSync(eventLogFile, eventLog)
  const open = async () => {
    const opened = await openTpm({ tcti: tpm.tcti })
    const identity = await openTpmIdentity(opened, {
      stateDirectory,
      endorsementKey: options.endorsementKey ?? 'auto',
      attestationKey: options.attestationKey ?? 'ecc-p256',
      logger: silent,
    })
    return { opened, identity }
  }
  let current = await open()
  const imaCursor = { entries: 0 }
  return {
    ...{ hostId, tpm, eventLogFile, stateDirectory },
    get identity() {
      return current.identity
    },
    enrol: (client, ticket) => enrol(client, current.identity, { hostId, ticket }),
    attest: (client) =>
      attest(client, current.identity, {
        hostId,
        eventLogFile,
        bindingKey: true,
        imaListFile: join(stateDirectory, 'binary_runtime_measurements'),
        imaCursor,
        nowMs: () => Date.now(),
      }),
    async reopen() {
      await current.opened[Symbol.asyncDispose]()
      current = await open()
    },
    async [Symbol.asyncDispose]() {
      await current.opened[Symbol.asyncDispose]()
    },
  }
}

export async function ticketFor(
  site: TestSite,
  options: { readonly hostId?: string; readonly uses?: number; readonly ttlSeconds?: number } = {},
): Promise<string> {
  return (await site.admin.call(createTicket, { body: { cluster: CLUSTER, ...options } })).ticket
}

/** Enrols a host and makes what it booted the base image of its cluster, so that it is trusted. */
export async function trustHost(site: TestSite, host: TestHost, image: string): Promise<void> {
  await host.enrol(site.anybody, await ticketFor(site))
  await host.attest(site.anybody).catch(() => undefined)
  await site.admin.call(captureBaseImage, { body: { name: image, hostId: host.hostId } })
  await host.attest(site.anybody)
}
