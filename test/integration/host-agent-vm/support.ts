import 'reflect-metadata'
import { execFile } from 'node:child_process'
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  hkdfSync,
  randomUUID,
  webcrypto,
} from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { lstat, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import {
  BasicConstraintsExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509'
import { canonicalJson } from '../../../src/core/canonical-json.js'
import { systemClock } from '../../../src/core/clock.js'
import { PlatformError } from '../../../src/core/errors.js'
import { createLogger } from '../../../src/core/logger.js'
import { randomOctets } from '../../../src/core/random.js'
import { Secret } from '../../../src/core/secret.js'
import { openHome, sealHome } from '../../../src/host-agent/vm/home.js'
import {
  createVmService,
  type Inventory,
  type InventoryVm,
  type KeyClient,
  type KeyToUnwrap,
  type VmService,
  type VmServiceOptions,
  type VtpmCertifier,
} from '../../../src/host-agent/vm/index.js'

const P256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const DAY_MS = 24 * 3600 * 1000

/** Wraps with one key of its own, bound to provider, purpose and context; remembers what it saw for canary scans. */
export class LocalKeys implements KeyClient {
  readonly seen: Buffer[] = []
  readonly kek: Uint8Array
  /** What every call throws, as an authority that is away or refuses would. */
  refusal: PlatformError | undefined
  /** The object for which unwrap gives another key, as a broken provider would. */
  wrongFor: string | undefined
  /** What was released. */
  readonly released: string[] = []

  constructor(kek: Uint8Array = randomOctets(32)) {
    this.kek = kek
  }

  async wrap(
    provider: string,
    items: Parameters<KeyClient['wrap']>[1],
  ): Promise<readonly string[]> {
    if (this.refusal) throw this.refusal
    return items.map(({ purpose, context, dek }) => {
      const iv = randomOctets(12)
      const cipher = createCipheriv('aes-256-gcm', this.kek, iv)
      cipher.setAAD(Buffer.from(canonicalJson({ provider, purpose, context })))
      const sealed = dek.use((octets) => {
        this.seen.push(Buffer.from(octets))
        return Buffer.concat([cipher.update(octets), cipher.final(), cipher.getAuthTag()])
      })
      return `sgl1.${Buffer.from(iv).toString('base64url')}.${sealed.toString('base64url')}`
    })
  }

  async unwrap(provider: string, items: readonly KeyToUnwrap[]): Promise<readonly Secret[]> {
    if (this.refusal) throw this.refusal
    return items.map(({ wrapped, purpose, context }) => {
      const [, iv = '', sealed = ''] = wrapped.split('.')
      const octets = Buffer.from(sealed, 'base64url')
      const decipher = createDecipheriv('aes-256-gcm', this.kek, Buffer.from(iv, 'base64url'))
      decipher.setAAD(Buffer.from(canonicalJson({ provider, purpose, context })))
      decipher.setAuthTag(octets.subarray(-16))
      const dek = decipher.update(octets.subarray(0, -16))
      try {
        decipher.final()
      } catch (cause) {
        throw new PlatformError('FORBIDDEN', 'the wrapped key is of another context', { cause })
      }
      return new Secret(
        context['object'] === this.wrongFor ? randomOctets(32) : new Uint8Array(dek),
      )
    })
  }

  async rewrap(provider: string, items: readonly KeyToUnwrap[]): Promise<readonly string[]> {
    const keys = await this.unwrap(provider, items)
    return this.wrap(
      provider,
      items.map(({ purpose, context }, index) => {
        const dek = keys[index]
        if (!dek) throw new TypeError('too few keys')
        return { purpose, context, dek }
      }),
    )
  }

  async release(_: string, items: readonly KeyToUnwrap[]): Promise<void> {
    if (this.refusal) throw this.refusal
    this.released.push(...items.map(({ wrapped }) => wrapped))
  }
}

/** An authority for vTPMs in this process. */
export async function createCertifier(): Promise<VtpmCertifier> {
  const keys = await webcrypto.subtle.generateKey(P256, false, ['sign', 'verify'])
  const authority = await issue('CN=vTPM authority', keys.publicKey, {
    issuer: 'CN=vTPM authority',
    signingKey: keys.privateKey,
    isAuthority: true,
  })
  return {
    authorityPem: async () => authority.toString('pem'),
    certify: async ({ vmId, kind, publicKeySpki }) => {
      const isRsa = Buffer.from(publicKeySpki).includes(Buffer.from('2a864886f70d010101', 'hex'))
      const algorithm = isRsa
        ? { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }
        : { name: 'ECDSA', namedCurve: 'P-384' }
      const publicKey = await webcrypto.subtle.importKey('spki', publicKeySpki, algorithm, true, [
        'verify',
      ])
      const certificate = await issue(`CN=${vmId} ${kind}`, publicKey, {
        issuer: authority.subject,
        signingKey: keys.privateKey,
        isAuthority: false,
      })
      return new Uint8Array(certificate.rawData)
    },
  }
}

function issue(
  subject: string,
  publicKey: webcrypto.CryptoKey,
  by: {
    readonly issuer: string
    readonly signingKey: webcrypto.CryptoKey
    readonly isAuthority: boolean
  },
): Promise<X509Certificate> {
  return X509CertificateGenerator.create({
    serialNumber: randomUUID().replaceAll('-', ''),
    subject,
    issuer: by.issuer,
    notBefore: new Date(Date.now() - DAY_MS),
    notAfter: new Date(Date.now() + DAY_MS),
    publicKey,
    signingKey: by.signingKey,
    signingAlgorithm: P256,
    extensions: [new BasicConstraintsExtension(by.isAuthority, undefined, true)],
  })
}

/** What a control plane keeps of VMs that go from host to host. */
export class SharedInventory {
  readonly owners = new Map<string, string>()
  readonly offers = new Map<
    string,
    { readonly exportId: string; readonly ticketDigest: Uint8Array }
  >()
}

export class MemoryInventory implements Inventory {
  readonly vms = new Map<string, InventoryVm>()
  readonly #shared: SharedInventory
  readonly #place: { readonly hostId: string; readonly cluster: string }

  constructor(shared = new SharedInventory(), place = { hostId: 'host-a', cluster: 'lab' }) {
    this.#shared = shared
    this.#place = place
  }

  async place() {
    return this.#place
  }

  async offer(vmId: string, offer: { exportId: string; ticketDigest: Uint8Array }): Promise<void> {
    this.#require(vmId)
    this.#shared.offers.set(vmId, offer)
  }

  async withdraw(vmId: string): Promise<void> {
    this.#require(vmId)
    this.#shared.offers.delete(vmId)
  }

  async take(vm: InventoryVm, by: { exportId: string; ticket: Uint8Array }): Promise<void> {
    const owner = this.#shared.owners.get(vm.vmId)
    const offer = this.#shared.offers.get(vm.vmId)
    const digest = createHash('sha256').update(by.ticket).digest()
    const isHandedOver = offer?.exportId === by.exportId && digest.equals(offer.ticketDigest)
    if (this.isAway) throw new PlatformError('AUTHORITY_UNREACHABLE', 'away')
    if (owner !== undefined && owner !== this.#place.hostId && !isHandedOver) {
      throw new PlatformError('VM_HAND_OVER', `VM ${vm.vmId} is of ${owner}`)
    }
    this.#shared.offers.delete(vm.vmId)
    this.#shared.owners.set(vm.vmId, this.#place.hostId)
    this.vms.set(vm.vmId, vm)
  }

  #require(vmId: string): void {
    if (this.isAway) throw new PlatformError('AUTHORITY_UNREACHABLE', 'away')
    const owner = this.#shared.owners.get(vmId)
    if (owner !== undefined && owner !== this.#place.hostId) {
      throw new PlatformError('VM_HAND_OVER', `VM ${vmId} is of ${owner}`)
    }
  }

  /** Reports fail while this is set. */
  isAway = false

  async report(vm: InventoryVm): Promise<void> {
    this.#require(vm.vmId)
    this.#shared.owners.set(vm.vmId, this.#place.hostId)
    this.#shared.offers.delete(vm.vmId)
    this.vms.set(vm.vmId, vm)
  }

  async forget(vmId: string): Promise<void> {
    this.#require(vmId)
    this.#shared.owners.delete(vmId)
    this.vms.delete(vmId)
  }
}

export interface TestHost extends AsyncDisposable {
  readonly directory: string
  readonly keys: LocalKeys
  readonly inventory: MemoryInventory
  readonly vms: VmService
  /** Another service on the same directory, as after a restart of the agent. */
  restart(overrides?: Partial<VmServiceOptions>): VmService
}

/** A host with a directory of its own; VMs that still run at the end are stopped. */
export async function createTestHost(overrides: Partial<VmServiceOptions> = {}): Promise<TestHost> {
  const root = await mkdtemp(join(tmpdir(), 'sigillo-vm-'))
  const keys = overrides.keys instanceof LocalKeys ? overrides.keys : new LocalKeys()
  const inventory = new MemoryInventory()
  const options: VmServiceOptions = {
    directory: `${root}/vms`,
    keys,
    certifier: await createCertifier(),
    inventory,
    clock: systemClock,
    logger: createLogger({ name: 'test', level: 'silent' }),
    accelerator: 'tcg',
    ...overrides,
  }
  const vms = createVmService(options)
  return {
    directory: options.directory,
    keys,
    inventory,
    vms,
    restart: (changed = {}) => createVmService({ ...options, ...changed }),
    [Symbol.asyncDispose]: async () => {
      keys.refusal = undefined
      for (const { name, state } of await vms.list()) {
        if (state === 'running') await vms.stop(name, { graceSeconds: 0 })
      }
      await vms[Symbol.asyncDispose]()
      await rm(root, { recursive: true, force: true })
    },
  }
}

/** Processes whose command line names this text. */
export function processesNaming(text: string): readonly number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^[0-9]+$/.test(name)) return []
    try {
      return readFileSync(`/proc/${name}/cmdline`, 'latin1').includes(text) ? [Number(name)] : []
    } catch {
      return []
    }
  })
}

/** Where one of the keys appears, raw or as text, among the files below a directory and in the processes of the host. */
export async function findKeys(
  keys: readonly Buffer[],
  directory: string,
): Promise<readonly string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => [])
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
  const processes = readdirSync('/proc')
    .filter((name) => /^[0-9]+$/.test(name))
    .flatMap((pid) => [`/proc/${pid}/cmdline`, `/proc/${pid}/environ`])
  const hits: string[] = []
  for (const path of [...files, ...processes]) {
    const content = await readFile(path).catch(() => Buffer.alloc(0))
    if (keys.some((key) => formsOf(key).some((form) => content.includes(form)))) hits.push(path)
  }
  return hits
}

/** swtpm_setup gives the state this mode and takes no other; it is encrypted, and the directories above it are private. */
const STATE_IN_THE_MAKING = /\/vtpm\/tpm2-00\.permall 640$/

/** Keys that were wrapped, and those that firmware variables of VMs here have, whole or in the making. */
export async function secretsOf(host: TestHost): Promise<readonly Buffer[]> {
  const names = await readdir(host.directory).catch(() => [])
  const vmIds = names.filter((name) => name.length >= 36).map((name) => name.slice(-36))
  return [
    ...host.keys.seen,
    ...vmIds.flatMap((vmId) => host.keys.seen.map((key) => nvramKey(key, vmId))),
  ]
}

/** Looks for keys, and for files that others may read, some 50 times a second until stopped. */
export function watchForLeaks(host: TestHost): { stop(): Promise<readonly string[]> } {
  const found = new Set<string>()
  let isStopped = false
  const watching = (async () => {
    while (!isStopped) {
      for (const hit of await findKeys(await secretsOf(host), host.directory)) found.add(hit)
      for (const hit of await findWideModes(host.directory)) {
        if (!STATE_IN_THE_MAKING.test(hit)) found.add(hit)
      }
      await delay(20)
    }
  })()
  return {
    stop: async () => {
      isStopped = true
      await watching
      return [...found]
    },
  }
}

/** Files and directories that someone else than their owner may use in any way. */
export async function findWideModes(directory: string): Promise<readonly string[]> {
  const entries = await readdir(directory, { recursive: true }).catch(() => [])
  const found: string[] = []
  for (const name of entries) {
    const stat = await lstat(join(directory, name)).catch(() => undefined)
    if (stat && !stat.isSymbolicLink() && (stat.mode & 0o077) !== 0) {
      found.push(`${name} ${(stat.mode & 0o777).toString(8)}`)
    }
  }
  return found
}

function formsOf(key: Buffer): readonly (Buffer | string)[] {
  return [
    key,
    key.toString('hex'),
    key.toString('hex').toUpperCase(),
    key.toString('base64').replace(/=+$/, ''),
    key.toString('base64url'),
    JSON.stringify([...key]),
  ]
}

/** Writes what a guest sees of an encrypted disk to a file, with the key that is wrapped beside it and QEMU alone. */
export async function writePlain(
  host: TestHost,
  name: string,
  disk: string,
  path: string,
): Promise<void> {
  const vm = await host.vms.show(name)
  const folder = `${host.directory}/${vm.vmId}`
  const object = `disk-${disk}`
  const { keys } = JSON.parse(await readFile(`${folder}/keys.json`, 'utf8'))
  const { wrapped } = keys.find((record: { object: string }) => record.object === object)
  const context = { vm: vm.vmId, object }
  const [dek] = await host.keys.unwrap('kp', [{ wrapped, purpose: 'vm-disk', context }])
  const hex = dek?.use((octets) => Buffer.from(octets).toString('hex')) ?? ''
  const child = execFile('/bin/sh', [
    '-c',
    `cat | qemu-img convert --object secret,id=k,file=/dev/stdin --image-opts driver=luks,key-secret=k,file.driver=file,file.filename=${folder}/${object}.luks -O raw ${path}`,
  ])
  child.stdin?.end(hex)
  const exitCode = await new Promise((resolve) => child.once('close', resolve))
  if (exitCode !== 0) throw new Error(`qemu-img ended with ${exitCode}`)
}

/** The key of the home of a VM, as it is wrapped beside it. */
async function homeKeyOf(host: TestHost, vmId: string): Promise<Buffer> {
  const { keys } = JSON.parse(await readFile(`${host.directory}/${vmId}/keys.json`, 'utf8'))
  const { wrapped, provider } = keys.find((one: { object: string }) => one.object === 'home')
  const context = { vm: vmId, object: 'home' }
  const [key] = await host.keys.unwrap(provider, [{ wrapped, purpose: 'vm-home', context }])
  return key?.use((octets) => Buffer.from(octets)) ?? Buffer.alloc(0)
}

/** What firmware sees of its encrypted variables, with the key that is wrapped beside them and QEMU alone. */
export async function readNvram(host: TestHost, vmId: string): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'sigillo-variables-'))
  try {
    const key = nvramKey(await homeKeyOf(host, vmId), vmId)
    const volume = `driver=luks,key-secret=k,file.driver=file,file.filename=${host.directory}/${vmId}/nvram.luks`
    const child = execFile('/bin/sh', [
      '-c',
      `cat | qemu-img convert --object secret,id=k,file=/dev/stdin --image-opts ${volume} -O raw ${folder}/nvram`,
    ])
    child.stdin?.end(key.toString('hex'))
    const exitCode = await new Promise((resolve) => child.once('close', resolve))
    if (exitCode !== 0) throw new Error(`qemu-img ended with ${exitCode}`)
    return await readFile(`${folder}/nvram`)
  } finally {
    await rm(folder, { recursive: true })
  }
}

/** Makes an encrypted VM one as an agent of before left it: with plain variables, and a home that says nothing of them. */
export async function asOfBefore(
  host: TestHost,
  vmId: string,
  variables: Uint8Array,
): Promise<void> {
  const root = `${host.directory}/${vmId}`
  const key = new Secret(new Uint8Array(await homeKeyOf(host, vmId)))
  const { nvram: _, ...home } = openHome(await readFile(`${root}/home.enc`), vmId, 1, key)
  await writeFile(`${root}/home.enc`, sealHome(home, vmId, 1, key))
  const { nvram: __, ...descriptor } = JSON.parse(await readFile(`${root}/vm.json`, 'utf8'))
  await writeFile(`${root}/vm.json`, JSON.stringify(descriptor))
  await writeFile(`${root}/nvram.fd`, variables, { mode: 0o600 })
  await rm(`${root}/nvram.luks`)
}

function nvramKey(homeKey: Buffer, vmId: string): Buffer {
  return Buffer.from(hkdfSync('sha256', homeKey, '', `sigillo nvram v1 ${vmId}`, 32))
}

/** SHA-256 of what a guest sees of an encrypted disk. */
export async function plainDigest(host: TestHost, name: string, disk: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sigillo-plain-'))
  try {
    await writePlain(host, name, disk, join(folder, 'disk.raw'))
    return createHash('sha256')
      .update(await readFile(join(folder, 'disk.raw')))
      .digest('hex')
  } finally {
    await rm(folder, { recursive: true })
  }
}

/** Directories of VMs, whole or not, on a host; not the list of keys that are to be released. */
export async function directoriesOf(host: TestHost): Promise<readonly string[]> {
  return (await readdir(host.directory)).filter((name) => name !== 'releases.json').sort()
}
