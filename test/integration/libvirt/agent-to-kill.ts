import { chmodSync, existsSync, writeFileSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { systemClock } from '../../../src/core/clock.js'
import { createLogger } from '../../../src/core/logger.js'
import { createVmService } from '../../../src/host-agent/vm/index.js'
import { createCertifier, LocalKeys, MemoryInventory } from '../host-agent-vm/support.js'

/** An agent that is killed before or after virsh does one thing for it. */
const { directory, kek, libvirt, operation, when, command, folder } = JSON.parse(
  await text(process.stdin),
)
const reached = `${folder}/reached`
const virsh = `${folder}/virsh`
const stop = `touch ${reached}; exec sleep 600`
writeFileSync(
  virsh,
  `#!/bin/sh
[ "$3" = ${command} ] || exec virsh "$@"
${when === 'before' ? stop : `virsh "$@"; ${stop}`}
`,
)
chmodSync(virsh, 0o755)
setInterval(() => {
  if (existsSync(reached)) process.kill(process.pid, 'SIGKILL')
}, 5)

const vms = createVmService({
  directory,
  keys: new LocalKeys(new Uint8Array(Buffer.from(kek, 'base64url'))),
  certifier: await createCertifier(),
  inventory: new MemoryInventory(),
  clock: systemClock,
  logger: createLogger({ name: 'agent', level: 'silent' }),
  accelerator: 'tcg',
  ...{ libvirt, programs: { virsh } },
})
if (operation === 'defineInLibvirt') await vms.defineInLibvirt('vm')
if (operation === 'undefineInLibvirt') await vms.undefineInLibvirt('vm')
process.exit(1)
