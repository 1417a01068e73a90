import { text } from 'node:stream/consumers'
import { systemClock } from '../../../src/core/clock.js'
import { createLogger } from '../../../src/core/logger.js'
import { createVmService } from '../../../src/host-agent/vm/index.js'
import { createCertifier, LocalKeys, MemoryInventory } from './support.js'

const { directory, kek, operation, step } = JSON.parse(await text(process.stdin))
/** Calls for progress of a copy that has begun in earnest. */
const HALF_OF_COPY = 5

const certifier = await createCertifier()

function dieAt(begun: string): void {
  if (begun === step) process.kill(process.pid, 'SIGKILL')
}

const vms = createVmService({
  directory,
  keys: new LocalKeys(new Uint8Array(Buffer.from(kek, 'base64url'))),
  certifier: {
    ...certifier,
    certify: (request) => {
      dieAt('certify')
      return certifier.certify(request)
    },
  },
  inventory: new MemoryInventory(),
  clock: systemClock,
  logger: createLogger({ name: 'agent', level: 'silent' }),
  accelerator: 'tcg',
})

const calls = new Map<string, number>()
function onProgress(begun: string): void {
  dieAt(begun)
  const count = (calls.get(begun) ?? 0) + 1
  calls.set(begun, count)
  if (count > HALF_OF_COPY) dieAt(`half of ${begun}`)
}

if (operation.create) await vms.create(operation.create, { onProgress })
if (operation.start) await vms.start(operation.start, dieAt)
if (operation.encrypt) await vms.encrypt(operation.encrypt, { provider: 'kp' }, { onProgress })
if (operation.decrypt) await vms.decrypt(operation.decrypt, {}, { onProgress })
if (operation.applyPolicy) {
  const { name, ...request } = operation.applyPolicy
  await vms.applyPolicy(name, request, { onProgress })
}
if (operation.recrypt) await vms.recrypt(operation.recrypt, {}, { onProgress })
if (operation.clone) await vms.clone(operation.clone, { name: 'clone-to-die' }, { onProgress })
if (operation.addVtpm) await vms.addVtpm(operation.addVtpm, { onProgress })
if (operation.replaceCertificates) {
  await vms.replaceVtpmCertificates(operation.replaceCertificates, { onProgress })
}
if (operation.attachDisk) {
  const { vm, from } = operation.attachDisk
  await vms.attachDisk(vm, { name: 'taken', from }, { onProgress })
}
if (operation.detachDisk) await vms.detachDisk(operation.detachDisk, 'taken', { onProgress })
if (operation.addDisk) {
  const disk = { name: 'added', sizeOctets: 1024 * 1024 }
  await vms.addDisk(operation.addDisk, disk, { onProgress })
}
if (operation.export) {
  const { name, directory } = operation.export
  await vms.export(name, { directory, move: true }, { onProgress })
}
if (operation.import) await vms.import({ directory: operation.import }, { onProgress })
if (operation.snapshot) {
  const { create, revert, remove, vm } = operation.snapshot
  if (create) await vms.createSnapshot(vm, { name: create }, { onProgress })
  if (revert) await vms.revertSnapshot(vm, revert, { onProgress })
  if (remove) await vms.removeSnapshot(vm, remove, { onProgress })
}
if (operation.receive) await vms.receive({ listen: operation.receive }, { onProgress })
if (operation.send) await vms.send('vm', { to: operation.send }, { onProgress })
