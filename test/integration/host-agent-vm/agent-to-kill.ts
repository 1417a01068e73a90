import { text } from 'node:stream/consumers'
import { systemClock } from '../../../src/core/clock.js'
import { createLogger } from '../../../src/core/logger.js'
import { createVmService } from '../../../src/host-agent/vm/index.js'
import { createCertifier, LocalKeys, MemoryInventory } from './support.js'

const { directory, kek, operation, step } = JSON.parse(await text(process.stdin))
/** Calls for progress of a copy that has begun in earnest. */
const HALF_OF_FILL = 5

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

if (operation.create) {
  let calls = 0
  await vms.create(operation.create, (begun) => {
    dieAt(begun)
    if (begun === 'root: fill') calls += 1
    if (calls > HALF_OF_FILL) dieAt('half of fill')
  })
}
if (operation.start) await vms.start(operation.start, dieAt)
