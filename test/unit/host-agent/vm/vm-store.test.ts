import { expect, test } from 'vitest'
import { createLogger } from '../../../../src/core/logger.js'
import { VmStore } from '../../../../src/host-agent/vm/vm-store.js'

const logger = createLogger({ name: 'test', level: 'silent' })

test.each([
  ['is relative', 'vms'],
  ['has a comma, which swtpm and QEMU would take for the end of an option', '/var/a,b'],
  ['has a space', '/var/a b'],
  ['has an empty part', '/var//vms'],
  ['is too long for the sockets in it', `/${'a'.repeat(60)}`],
])('refuses a directory for VMs that %s', (_, directory) => {
  expect(() => new VmStore(directory, logger)).toThrow(
    expect.objectContaining({ code: 'CONFIG_INVALID' }),
  )
})

test('takes the usual directory', () => {
  expect(new VmStore('/var/lib/sigillo-agent/vms', logger).directory).toBe(
    '/var/lib/sigillo-agent/vms',
  )
})
