import { PlatformError } from '../../core/errors.js'
import type { Secret } from '../../core/secret.js'
import { type Programs, programFailed, type Ran, runProgram } from '../vm/programs.js'
import type { LibvirtSecret } from './secrets.js'

/** A domain is started within seconds; emulated TPMs and slow disks take longer. */
const TIMEOUT_MS = 120_000

/**
 * libvirt through its own client. Values of secrets go through a pipe, never over a command line or into a file.
 *
 * Methods throw `LIBVIRT_UNREACHABLE` where the daemon does not answer, and `LIBVIRT_REFUSED` with its words where it
 * does not do what it is asked.
 */
export class Virsh {
  readonly #programs: Programs
  readonly #uri: string

  constructor(programs: Programs, uri: string) {
    this.#programs = programs
    this.#uri = uri
  }

  /** As libvirt calls it, such as `shut off` or `running`; undefined where it has no such domain. */
  async domainState(vmId: string): Promise<string | undefined> {
    const { exitCode, stdout, words } = await this.#run(['domstate', vmId])
    if (exitCode === 0) return stdout.trim()
    if (/failed to get domain|domain not found/i.test(words)) return undefined
    throw refused(words)
  }

  /** What libvirt keeps of a domain beside its disks, in words; undefined where there is nothing. */
  async keptOf(vmId: string): Promise<string | undefined> {
    const snapshots = await this.#do(['snapshot-list', '--name', vmId])
    if (snapshots.trim() !== '') return 'snapshots: merge or delete them first'
    const info = await this.#do(['dominfo', vmId])
    return /^Managed save:\s+yes$/m.test(info)
      ? 'a saved state: start it, and shut it down'
      : undefined
  }

  /** Makes a domain, or puts another description in the place of what one of this id has. */
  async define(xmlFile: string): Promise<void> {
    await this.#do(['define', '--validate', xmlFile])
  }

  /** The domain is gone; its NVRAM and the state of its virtual TPM stay. */
  async undefine(vmId: string): Promise<void> {
    await this.#do(['undefine', vmId, '--keep-nvram', '--keep-tpm'])
  }

  async start(vmId: string): Promise<void> {
    await this.#do(['start', vmId])
  }

  /** Asks the guest; whether it does so is another matter. */
  async shutdown(vmId: string): Promise<void> {
    await this.#do(['shutdown', vmId])
  }

  /** Ends a domain at once. */
  async destroy(vmId: string): Promise<void> {
    await this.#do(['destroy', vmId])
  }

  async defineSecret(xmlFile: string): Promise<void> {
    await this.#do(['secret-define', xmlFile])
  }

  /** The value is the hexadecimal text of the key. */
  async setSecret({ secretId }: LibvirtSecret, key: Secret): Promise<void> {
    const value = ['--plain', '--file', '/dev/stdin']
    await this.#do(['secret-set-value', secretId, ...value], key)
  }

  /** The secret is gone, and its value with it; one that is not there is no failure. */
  async undefineSecret({ secretId }: LibvirtSecret): Promise<void> {
    const { exitCode, words } = await this.#run(['secret-undefine', secretId])
    if (exitCode !== 0 && !/failed to get secret|secret not found/i.test(words)) {
      throw refused(words)
    }
  }

  async #do(args: readonly string[], key?: Secret): Promise<string> {
    const { exitCode, stdout, words } = await this.#run(args, key)
    if (exitCode !== 0) throw refused(words)
    return stdout
  }

  async #run(args: readonly string[], key?: Secret): Promise<Ran> {
    const { virsh } = this.#programs
    const ran = await runProgram(virsh, ['--connect', this.#uri, ...args], {
      ...(key ? { key } : {}),
      timeoutMs: TIMEOUT_MS,
    })
    if (ran.exitCode === 127) throw programFailed(virsh, `cannot be started: ${ran.words}`)
    if (ran.exitCode !== 0 && /failed to connect|cannot recv data|end of file/i.test(ran.words)) {
      throw new PlatformError('LIBVIRT_UNREACHABLE', `libvirt at ${this.#uri}: ${ran.words}`)
    }
    return ran
  }
}

function refused(words: string): PlatformError {
  return new PlatformError('LIBVIRT_REFUSED', `libvirt: ${words.replace(/^error: /, '')}`)
}
