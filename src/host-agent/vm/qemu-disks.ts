import { setTimeout as delay } from 'node:timers/promises'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import type { OpenDisk } from './disk-copy.js'
import { isEncrypted } from './disk-file.js'
import { doesNotOpen } from './nvram.js'
import { programFailed } from './programs.js'
import type { Qmp } from './qmp.js'

const UNPLUG_TIMEOUT_MS = 10_000
const POLL_MS = 20
const DEVICES = '/machine/peripheral'

/**
 * Gives a disk to a QEMU: opens it with its key, and adds the device that the guest sees, whose serial number is the name
 * of the disk. The key is out of QEMU's reach when this returns, or throws.
 *
 * @param index not used by another disk of this QEMU
 * @throws PlatformError `VM_KEY_WRONG`, `VM_PROCESS`; the disk is not there then
 */
export async function plugDisk(
  qmp: Qmp,
  index: number,
  name: string,
  disk: OpenDisk,
): Promise<void> {
  const node = `disk${index}`
  await openNode(qmp, node, disk)
  try {
    const device = { driver: 'scsi-hd', bus: 'scsi.0', 'scsi-id': index, lun: 0 }
    await qmp.execute('device_add', { ...device, id: `scsi-${node}`, drive: node, serial: name })
  } catch (error) {
    await qmp.execute('blockdev-del', { 'node-name': node })
    throw error
  }
}

/**
 * Gives the variables of the firmware to a QEMU whose machine is not made yet, and has it made. The key is out of QEMU's reach when
 * this returns, or throws.
 *
 * @throws PlatformError `VM_NVRAM_CORRUPT`, `VM_PROCESS`
 * @see QEMU, qapi/misc.json, `x-exit-preconfig`
 */
export async function plugNvram(qmp: Qmp, nvram: OpenDisk): Promise<void> {
  const node = 'nvram'
  await openNode(qmp, node, nvram).catch((error: unknown) => {
    throw isPlatformError(error, 'VM_KEY_WRONG') ? doesNotOpen(nvram, error) : error
  })
  await qmp.execute('qom-set', { path: '/machine', property: 'pflash1', value: node })
  await qmp.execute('x-exit-preconfig')
}

/**
 * Takes a disk away from a QEMU and its guest. Nothing is done where it has no disk of this name.
 *
 * @throws PlatformError `VM_PROCESS`
 */
export async function unplugDisk(qmp: Qmp, name: string): Promise<void> {
  const index = (await pluggedDisks(qmp)).get(name)
  if (index === undefined) return
  await qmp.execute('device_del', { id: `scsi-disk${index}` })
  const end = performance.now() + UNPLUG_TIMEOUT_MS
  for (; (await pluggedDisks(qmp)).has(name); await delay(POLL_MS)) {
    if (performance.now() > end) throw programFailed('qemu', `does not let go of disk ${name}`)
  }
  // the device lets go of the node a little after it is gone itself
  for (; ; await delay(POLL_MS)) {
    try {
      await qmp.execute('blockdev-del', { 'node-name': `disk${index}` })
      return
    } catch (error) {
      if (!/in use/i.test(messageOf(error)) || performance.now() > end) throw error
    }
  }
}

/** Tells a QEMU and its guest that a disk became larger. Nothing is done where it has no disk of this name. */
export async function resizeDisk(qmp: Qmp, name: string, sizeOctets: number): Promise<void> {
  const index = (await pluggedDisks(qmp)).get(name)
  if (index === undefined) return
  await qmp.execute('block_resize', { 'node-name': `disk${index}`, size: sizeOctets })
}

/** The disks that a QEMU has, by name, with the index of each. */
export async function pluggedDisks(qmp: Qmp): Promise<ReadonlyMap<string, number>> {
  const disks = new Map<string, number>()
  const devices = (await qmp.execute('qom-list', { path: DEVICES })) as readonly {
    readonly name: string
  }[]
  for (const { name } of devices) {
    const index = /^scsi-disk(\d+)$/.exec(name)?.[1]
    if (index === undefined) continue
    const serial = await qmp.execute('qom-get', { path: `${DEVICES}/${name}`, property: 'serial' })
    disks.set(String(serial), Number(index))
  }
  return disks
}

/** The lowest index that no disk has. */
export function freeIndex(disks: ReadonlyMap<string, number>): number {
  const taken = new Set(disks.values())
  let index = 0
  while (taken.has(index)) index += 1
  return index
}

/** QEMU hands a secret object to whoever can open its QMP socket: there is none when the guest runs. */
export async function checkNoSecretLeft(qmp: Qmp): Promise<void> {
  const objects = JSON.stringify(await qmp.execute('qom-list', { path: '/objects' }))
  if (objects.includes('child<secret>')) throw programFailed('qemu', 'kept a key')
}

async function openNode(qmp: Qmp, node: string, { file, key }: OpenDisk): Promise<void> {
  const storage = { driver: 'file', filename: file.path }
  const common = { 'node-name': node, discard: 'ignore', file: storage }
  if (!isEncrypted(file)) {
    // as it lies there: the format is not guessed
    await qmp.execute('blockdev-add', { driver: 'raw', ...common })
    return
  }
  if (!key) throw new TypeError('an encrypted disk is opened with its key')
  const secret = `key-${node}`
  await qmp.addSecret(secret, key)
  try {
    await qmp.execute('blockdev-add', { driver: 'luks', 'key-secret': secret, ...common })
  } catch (error) {
    if (!/invalid password/i.test(messageOf(error))) throw error
    throw new PlatformError('VM_KEY_WRONG', `the unwrapped key does not open ${file.path}`, {
      cause: error,
    })
  } finally {
    await qmp.execute('object-del', { id: secret })
  }
}
