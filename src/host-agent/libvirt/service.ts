import { chown, rm } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import type { VmDetails } from '../../api/host-agent.js'
import type { LibvirtEvent } from '../../api/libvirt.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { checkDiskFile, diskFileOf } from '../vm/disk-file.js'
import { encryptNvram } from '../vm/encrypt-nvram.js'
import { readPrivateFile, replacePrivateFile } from '../vm/files.js'
import { openNvram } from '../vm/nvram.js'
import type { Home } from '../vm/records.js'
import type { Grace } from '../vm/run.js'
import { detailsOf } from '../vm/vm-details.js'
import type { VmHost } from '../vm/vm-host.js'
import { allKeys, homeKey } from '../vm/vm-parts.js'
import type { StoredVm } from '../vm/vm-store.js'
import { markVtpmRunning, markVtpmStopped } from '../vm/vtpm-record.js'
import { openDomain } from './adopt.js'
import { checkDomain } from './check-domain.js'
import { domainDisks, domainNvram, encodeDomain } from './domain-xml.js'
import { editDomain } from './edit-domain.js'
import { MAX_DOMAIN_CHARACTERS, parseDomain } from './parse-domain.js'
import { keepQemuOut, letQemuThrough } from './reachable.js'
import {
  dropLibvirtRecord,
  type LibvirtRecord,
  readLibvirtRecord,
  writeLibvirtRecord,
} from './record.js'
import { clearSecrets, setSecrets } from './set-secrets.js'
import { Virsh } from './virsh.js'
import type { LibvirtDeps, LibvirtInside, VmLibvirt } from './vm-libvirt.js'
import { moveVtpm, passphraseKey, pathsInLibvirt } from './vtpm-move.js'

const SHUT_OFF = 'shut off'
const POLL_MS = 200
const MAX_ORIGIN_OCTETS = 4 * MAX_DOMAIN_CHARACTERS

/** Starts that are admitted, by id of their VM; a disposal ends the time that one has. */
type Admitted = Map<string, Disposable>

export function createVmLibvirt(host: VmHost, deps: LibvirtDeps): VmLibvirt & LibvirtInside {
  const { programs, logger, store } = host
  const virsh = new Virsh(programs, deps.uri)
  const admitted: Admitted = new Map()
  /** Runs that this process has seen from their beginning, by id of their VM. */
  const seen = new Set<string>()
  /** The VM with the state of its virtual TPM where libvirt has it. */
  const inLibvirt = (vm: StoredVm): StoredVm => ({
    ...vm,
    paths: pathsInLibvirt(vm.paths, vm.descriptor.vmId, deps.swtpmDirectory),
  })
  const xmlOf = async (vm: StoredVm, home: Home): Promise<string> => {
    const origin = await readPrivateFile(vm.paths.libvirtOrigin, MAX_ORIGIN_OCTETS)
    if (origin) return editDomain(Buffer.from(origin).toString('utf8'), vm)
    const accelerator = await deps.chooseAccelerator()
    return encodeDomain(vm, home, { accelerator, firmwareCode: deps.firmware.code })
  }

  const requireInLibvirt = async (vm: StoredVm): Promise<LibvirtRecord> => {
    const record = await readLibvirtRecord(vm.paths)
    if (record) return record
    const message = `libvirt does not run VM ${vm.descriptor.name}`
    throw new PlatformError('VM_NOT_IN_LIBVIRT', message)
  }
  const requireDefined = async (vm: StoredVm): Promise<LibvirtRecord> => {
    const record = await requireInLibvirt(vm)
    const { name } = vm.descriptor
    if (record.phase !== 'defined') {
      throw new PlatformError(
        'VM_NOT_IN_LIBVIRT',
        `VM ${name} was left ${record.phase}: define or undefine it again`,
      )
    }
    return record
  }
  const requireShutOff = async ({ descriptor: { vmId, name } }: StoredVm): Promise<boolean> => {
    const state = await virsh.domainState(vmId)
    if (state !== undefined && state !== SHUT_OFF) {
      throw new PlatformError('VM_RUNNING', `libvirt says that VM ${name} is ${state}`)
    }
    return state !== undefined
  }

  /** Checks the VM as before any start, and gives its secrets their values. */
  const release = async (vm: StoredVm): Promise<void> => {
    await host.requireOurs(vm)
    await host.withKeys(vm, allKeys(vm.descriptor), async (home, keys) => {
      for (const disk of home.disks) await checkDiskFile(diskFileOf(vm.paths, disk))
      using _ = await openNvram({ vmId: vm.descriptor.vmId, paths: vm.paths, home }, keys)
      if (home.vtpm) {
        using key = passphraseKey(keys.of('vtpm'))
        await host.vtpmStates.require(inLibvirt(vm), key)
        // from here on a start may happen, and with it another state
        await markVtpmRunning(vm.paths)
        seen.add(vm.descriptor.vmId)
      }
      await setSecrets(virsh, vm, keys)
    })
  }
  /** When no start can happen any more, or one has ended. */
  const settle = async (vm: StoredVm, running: boolean): Promise<void> => {
    const { vmId, vtpm } = vm.descriptor
    if (vtpm && !running) {
      await markVtpmStopped(inLibvirt(vm).paths, seen.has(vmId))
      seen.delete(vmId)
    }
    const record = await readLibvirtRecord(vm.paths)
    if (record) await writeLibvirtRecord(vm.paths, { ...record, running })
    await host.reports.tell(vm)
  }
  const isUp = async (vm: StoredVm): Promise<boolean> =>
    ![undefined, SHUT_OFF].includes(await virsh.domainState(vm.descriptor.vmId))

  const closeNow = async (vm: StoredVm): Promise<void> => {
    admitted.get(vm.descriptor.vmId)?.[Symbol.dispose]()
    admitted.delete(vm.descriptor.vmId)
    await clearSecrets(virsh, vm)
    await settle(vm, await isUp(vm))
  }
  const sayNotClosed = ({ descriptor: { vmId, name } }: StoredVm, error: unknown): void => {
    const reason = messageOf(error)
    const message = 'secrets of a VM may still have values in libvirt, or its state is not known'
    logger.error({ event: 'libvirt.close-failed', vmId, name, reason }, message)
  }
  const pending = new Set<Promise<void>>()
  /** What nobody waits for but the end of the service. */
  const later = (vm: StoredVm, work: () => Promise<void>): Promise<void> => {
    const done = host
      .onName(vm.descriptor.name, work)
      .catch((error: unknown) => sayNotClosed(vm, error))
      .finally(() => pending.delete(done))
    pending.add(done)
    return done
  }

  /** Why a start that nobody admitted is not to be: that the key provider refuses, or that it was not asked. */
  const refuseStart = async (vm: StoredVm): Promise<never> => {
    await host.withKeys(vm, homeKey(vm.descriptor), async () => undefined)
    const { name } = vm.descriptor
    throw new PlatformError(
      'LIBVIRT_NOT_ADMITTED',
      `keys of VM ${name} are not here: start it by sigillo-agent libvirt start ${name}`,
    )
  }
  const gate = async ({ xml }: LibvirtEvent): Promise<void> => {
    const domain = parseDomain(xml)
    const vm = await findById(domain.vmId)
    if (!vm) {
      throw new PlatformError(
        'VM_NOT_FOUND',
        `domain ${domain.vmId} says that it is a VM of Sigillo, and no such VM is on this host`,
      )
    }
    await requireDefined(vm)
    if (!admitted.has(domain.vmId)) await refuseStart(vm)
    checkDomain(domain, vm)
  }
  const startThere = async (vm: StoredVm): Promise<VmDetails> => {
    const { vmId, name } = vm.descriptor
    await requireDefined(vm)
    await requireShutOff(vm)
    await release(vm)
    admitted.set(vmId, { [Symbol.dispose]: () => undefined })
    try {
      await virsh.start(vmId)
    } catch (error) {
      await closeNow(vm).catch((cause: unknown) => sayNotClosed(vm, cause))
      throw error
    }
    await closeNow(vm)
    logger.info({ event: 'libvirt.started', vmId, name }, 'libvirt started a VM')
    return detailsOf(vm)
  }
  const stopThere = async (vm: StoredVm, { seconds, signal }: Grace): Promise<VmDetails> => {
    const { vmId, name } = vm.descriptor
    if (!(await isUp(vm))) throw new PlatformError('VM_STOPPED', `VM ${name} does not run`)
    if (seconds > 0) await virsh.shutdown(vmId)
    const endMs = host.clock.monotonicMs() + seconds * 1000
    while ((await isUp(vm)) && host.clock.monotonicMs() < endMs) {
      signal?.throwIfAborted()
      await delay(POLL_MS)
    }
    if (await isUp(vm)) await virsh.destroy(vmId)
    await host.onName(name, () => settle(vm, false))
    logger.info({ event: 'libvirt.stopped', vmId, name }, 'libvirt stopped a VM')
    return detailsOf(vm)
  }
  const defineThere = (name: string): Promise<VmDetails> =>
    host.onFreeVm(name, async (found) => {
      const { paths, descriptor } = found
      const before = await readLibvirtRecord(paths)
      if (before?.phase === 'defined') {
        throw new PlatformError('VM_IN_LIBVIRT', `libvirt runs VM ${name} already`)
      }
      if (!before) await host.requireStopped(found)
      if (descriptor.provider === undefined) {
        throw new PlatformError('VM_PLAIN', `VM ${name} is not encrypted: libvirt needs no key`)
      }
      await requireShutOff(found)
      const opened = allKeys(descriptor)
      const vm = await host.withKeys(found, opened, async (foundHome, keys) => {
        if (foundHome.vtpm && !before) await host.vtpmStates.require(found, keys.of('vtpm'))
        const { vm, home } = await encryptNvram(host, found, { home: foundHome, keys })
        await letQemuThrough(vm)
        await replacePrivateFile(paths.root, 'libvirt.xml', await xmlOf(vm, home))
        await writeLibvirtRecord(paths, { phase: 'defining', running: false })
        if (home.vtpm) {
          const key = keys.of('vtpm')
          using keyThere = passphraseKey(key)
          await moveVtpm({ paths, key }, { paths: inLibvirt(vm).paths, key: keyThere })
        }
        return vm
      })
      await virsh.define(paths.libvirtDomain)
      await writeLibvirtRecord(paths, { phase: 'defined', running: false })
      const { vmId } = descriptor
      logger.info({ event: 'libvirt.defined', vmId, name }, 'libvirt runs a VM from now on')
      await host.reports.tell(vm)
      return detailsOf(vm)
    })
  const findById = async (vmId: string): Promise<StoredVm | undefined> =>
    (await store.list()).find(({ descriptor }) => descriptor.vmId === vmId)

  return {
    domainXml: (name) =>
      host.onVm(name, (vm) => host.withKeys(vm, homeKey(vm.descriptor), (home) => xmlOf(vm, home))),

    adoptDomain: async (request, { onProgress = () => undefined, signal } = {}) => {
      using adopted = await openDomain(request, { virsh, swtpmDirectory: deps.swtpmDirectory })
      const { vmId, spec, origin } = adopted
      const { name } = spec
      await host.onName(name, async () => {
        await store.prepare()
        const there = (await store.list()).find(
          ({ descriptor }) => descriptor.name === name || descriptor.vmId === vmId,
        )
        if (there) {
          const { descriptor } = there
          throw new PlatformError('VM_EXISTS', `VM ${descriptor.name} is ${descriptor.vmId}`)
        }
        await deps.create(spec, { onProgress, ...(signal ? { signal } : {}), vmId, origin })
        await host.reports.tell(await store.find(name))
      })
      logger.info({ event: 'libvirt.adopted', vmId, name }, 'a domain was made a VM')
      const vm = await defineThere(name)
      onProgress('done', 100)
      return vm
    },

    defineInLibvirt: defineThere,

    undefineInLibvirt: (name) =>
      host.onFreeVm(name, async (vm) => {
        const { paths, descriptor } = vm
        const { vmId } = descriptor
        const before = await requireInLibvirt(vm)
        const isDomain = await requireShutOff(vm)
        await host.withKeys(vm, allKeys(descriptor), async (home, keys) => {
          const key = home.vtpm ? keys.of('vtpm') : undefined
          using keyThere = key && passphraseKey(key)
          if (keyThere && before.phase === 'defined') {
            await host.vtpmStates.require(inLibvirt(vm), keyThere)
          }
          await writeLibvirtRecord(paths, { phase: 'undefining', running: false })
          await closeNow(vm)
          if (isDomain) await virsh.undefine(vmId)
          if (key && keyThere) {
            await moveVtpm({ paths: inLibvirt(vm).paths, key: keyThere }, { paths, key })
            await rm(`${deps.swtpmDirectory}/${vmId}`, { recursive: true, force: true })
          }
        })
        // libvirt gives files back to whom it knows that they were of
        for (const path of [...domainDisks(vm).map((disk) => disk.path), domainNvram(vm).path]) {
          await chown(path, process.geteuid?.() ?? 0, process.getegid?.() ?? 0)
        }
        await keepQemuOut(vm)
        await rm(paths.libvirtDomain, { force: true })
        await dropLibvirtRecord(paths)
        logger.info({ event: 'libvirt.undefined', vmId, name }, 'the agent runs a VM again')
        await host.reports.tell(vm)
        return detailsOf(vm)
      }),

    mendVtpmInLibvirt: (name, how) =>
      host.onFreeVm(name, async (vm) => {
        await requireInLibvirt(vm)
        await requireShutOff(vm)
        if (!vm.descriptor.vtpm) {
          throw new PlatformError('VM_PLAIN', `VM ${name} has no virtual TPM`)
        }
        await host.withKeys(vm, ['home', 'vtpm'], async (_, keys) => {
          using key = passphraseKey(keys.of('vtpm'))
          await host.vtpmStates[how](inLibvirt(vm), key)
        })
        await host.reports.tell(vm)
        return detailsOf(vm)
      }),

    startInLibvirt: (name) => host.onFreeVm(name, startThere),

    admitStart: (name, seconds) =>
      host.onFreeVm(name, async (vm) => {
        const { vmId } = vm.descriptor
        await requireDefined(vm)
        await requireShutOff(vm)
        admitted.get(vmId)?.[Symbol.dispose]()
        await release(vm)
        const timer = setTimeout(() => void later(vm, () => closeNow(vm)), seconds * 1000)
        admitted.set(vmId, { [Symbol.dispose]: () => clearTimeout(timer) })
        logger.info({ event: 'libvirt.admitted', vmId, name, seconds }, 'a start is admitted')
      }),

    endAdmission: (name) =>
      host.onFreeVm(name, async (vm) => {
        await requireDefined(vm)
        await closeNow(vm)
      }),

    onLibvirtEvent: async (event) => {
      const { operation, subOperation } = event
      if (operation === 'prepare' && subOperation === 'begin') return gate(event)
      const vm = await findById(parseDomain(event.xml).vmId)
      if (!vm || !(await readLibvirtRecord(vm.paths))) return
      if (operation === 'started') {
        void later(vm, async () => {
          if (admitted.has(vm.descriptor.vmId)) await closeNow(vm)
        })
      }
      if (operation === 'release') {
        void later(vm, async () => {
          if (!admitted.has(vm.descriptor.vmId)) await settle(vm, await isUp(vm))
        })
      }
    },

    startThere,
    stopThere,

    recoverLibvirt: async () => {
      for (const vm of await store.list()) {
        if (await readLibvirtRecord(vm.paths)) void later(vm, () => closeNow(vm))
      }
    },

    endAdmissions: async () => {
      for (const vm of await store.list()) {
        if (admitted.has(vm.descriptor.vmId)) await later(vm, () => closeNow(vm))
      }
      await Promise.all(pending)
    },
  }
}
