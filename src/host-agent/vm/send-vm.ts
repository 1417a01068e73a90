import { createHash } from 'node:crypto'
import type { Socket } from 'node:net'
import { concat, fromBase64url, toBase64url, utf8 } from '../../core/bytes.js'
import { isoTime } from '../../core/clock.js'
import { isPlatformError, messageOf } from '../../core/errors.js'
import { newUuid, randomOctets } from '../../core/random.js'
import type { Secret } from '../../core/secret.js'
import { handOverTicket } from './export-manifest.js'
import { unlockVm } from './export-vm.js'
import { replacePrivateFile } from './files.js'
import { LiveChannel, live, MAX_DATA_OCTETS } from './live-channel.js'
import { NONCE_OCTETS, type Offer, offeredFiles, Ready, sealOffer } from './live-offer.js'
import { shapeOf } from './machine-shape.js'
import { resumeMachine, sendState } from './machine-state.js'
import type { OnProgress } from './ports.js'
import { Qmp } from './qmp.js'
import { type ExportedMark, encodeRecord, type RunRecord } from './records.js'
import { stopMachine } from './run.js'
import { listSnapshots } from './snapshot-files.js'
import type { VmHost } from './vm-host.js'
import type { StoredVm } from './vm-store.js'

/**
 * Moves a VM that runs to the host at the other end of a connection, with its memory and devices, while its guest goes on.
 *
 * Whatever fails before the other host has the VM, the guest goes on here. Who has it is decided by the control plane
 * alone: the other host takes it before its guest runs, and this one takes it back before its own goes on.
 *
 * Steps: `prepare`, `copy`, `load`, `lock`, `hand over`, `settle`.
 *
 * @throws PlatformError `VM_LIVE`, of the control plane, or the reason of the signal
 */
export async function sendVm(
  host: VmHost,
  vm: StoredVm,
  options: {
    readonly record: RunRecord
    readonly homeKey: Secret
    readonly socket: Socket
    readonly onProgress: OnProgress
    readonly signal: AbortSignal | undefined
  },
): Promise<void> {
  const { record, homeKey, socket, onProgress, signal } = options
  const { paths, descriptor } = vm
  const { vmId } = descriptor
  const exportId = newUuid()
  using channel = new LiveChannel(socket)
  let isStopped = false
  try {
    onProgress('prepare', 0)
    const nonce = randomOctets(NONCE_OCTETS)
    await using qmp = await Qmp.connect(paths.qmpSocket)
    const snapshots = await listSnapshots(paths)
    const offer: Offer = {
      ...{ format: 1, vmId, exportId, ...(await host.inventory.place()) },
      ...{ directory: paths.root, nonce: toBase64url(nonce), shape: await shapeOf(qmp, record) },
      snapshots: snapshots.map(({ sealed }) => sealed.snapshot.snapshotId),
      files: await offeredFiles(vm),
    }
    await channel.send('open', utf8(JSON.stringify(sealOffer(offer, homeKey))))
    const ready = await channel.receiveRecord(Ready)
    const nonces = concat(nonce, fromBase64url(ready.nonce))
    channel.seal(homeKey, { side: 'source', vmId, exportId, nonces })
    await channel.send('begin')
    await channel.receive('prepared')
    const ticket = handOverTicket(exportId, vmId, homeKey)
    const ticketDigest = createHash('sha256').update(ticket).digest()
    await host.inventory.offer(vmId, { exportId, ticketDigest })

    onProgress('copy', 5)
    await qmp.execute('migrate-set-capabilities', {
      capabilities: [{ capability: 'auto-converge', state: true }],
    })
    let octets = 0
    await sendState(qmp, paths, {
      take: async (chunk) => {
        for (let offset = 0; offset < chunk.length; offset += MAX_DATA_OCTETS) {
          await channel.send('data', chunk.subarray(offset, offset + MAX_DATA_OCTETS))
        }
        octets += chunk.length
        onProgress('copy', 5 + Math.min(84, Math.floor(octets / MAX_DATA_OCTETS / 64)))
      },
      onStopped: () => {
        isStopped = true
      },
      ...{ failed: live, signal },
    })
    onProgress('load', 90)
    await channel.send('end')
    await channel.receive('loaded')
    onProgress('lock', 95)
    const mark: ExportedMark = { format: 1, exportId, exportedAt: isoTime(host.clock.nowMs()) }
    await replacePrivateFile(paths.root, 'exported.json', encodeRecord(mark))
    onProgress('hand over', 96)
    await channel.send('go')
    await channel.receive('running')
  } catch (error) {
    await channel.fail(error)
    if (!(await isTaken(host, vm, isStopped, error))) throw error
  }
  onProgress('settle', 98)
  await stopMachine(paths, record, { seconds: 0 })
  await host.settle(vm)
}

/**
 * Whether the other host has the VM after all. If not, the guest goes on here.
 *
 * @throws PlatformError `VM_LIVE` when the control plane does not say: the guest stays stopped, and the VM locked
 */
async function isTaken(
  host: VmHost,
  vm: StoredVm,
  isStopped: boolean,
  reason: unknown,
): Promise<boolean> {
  const { vmId, name } = vm.descriptor
  try {
    await host.inventory.withdraw(vmId)
  } catch (error) {
    if (isPlatformError(error, 'VM_HAND_OVER')) return true
    if (!isStopped) return false
    const why = `${messageOf(reason)}; and it is not known who has VM ${name}: ${messageOf(error)}`
    throw live(`${why}. Give take-back when the control plane answers`, error)
  }
  await unlockVm(vm)
  if (isStopped) await resumeMachine(vm.paths)
  return false
}
