import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { siteCertifier } from '../integration/host-agent-vm/site-certifier.js'
import { createTestHost } from '../integration/host-agent-vm/support.js'

/**
 * Measures how long VMs with a virtual TPM take to be made, one after another and all at once, beside VMs without one, and
 * beside swtpm_setup alone, which makes the same keys and no certificates.
 *
 * `npm run bench:vtpm -- [--vms 20] [--json]`
 */
const run = promisify(execFile)
const { values } = parseArgs({
  options: { vms: { type: 'string', default: '20' }, json: { type: 'boolean', default: false } },
})
const vms = Number(values.vms)
if (!Number.isInteger(vms) || vms < 1) throw new TypeError('--vms: a whole number from 1')

async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now()
  await work()
  return (performance.now() - startedMs) / 1000
}

const names = (prefix: string) => Array.from({ length: vms }, (_, index) => `${prefix}-${index}`)
const figures: { readonly what: string; readonly seconds: number }[] = []
const measure = async (what: string, work: () => Promise<unknown>): Promise<void> => {
  figures.push({ what, seconds: await secondsOf(work) })
}

const folder = await mkdtemp(join(tmpdir(), 'sigillo-bench-'))
try {
  await using host = await createTestHost({ certifier: await siteCertifier() })
  const make = (name: string, vtpm: boolean) =>
    host.vms.create({ name, provider: 'kp', vtpm, memoryMib: 64, disks: [] })
  await measure('swtpm_setup alone, one after another', async () => {
    for (const name of names('state')) {
      const state = join(folder, name)
      await mkdir(state)
      await run('swtpm_setup', [
        '--tpm2',
        '--tpmstate',
        state,
        '--createek',
        '--pcr-banks',
        'sha256',
      ])
    }
  })
  await measure('VMs without a virtual TPM, one after another', async () => {
    for (const name of names('bare')) await make(name, false)
  })
  await measure('VMs with a virtual TPM, one after another', async () => {
    for (const name of names('single')) await make(name, true)
  })
  await measure('VMs with a virtual TPM, all at once', () =>
    Promise.all(names('many').map((name) => make(name, true))),
  )
  await measure('certificates replaced, one after another', async () => {
    for (const name of names('many')) await host.vms.replaceVtpmCertificates(name)
  })
} finally {
  await rm(folder, { recursive: true, force: true })
}

if (values.json) process.stdout.write(`${JSON.stringify({ vms, figures })}\n`)
else {
  for (const { what, seconds } of figures) {
    const each = ((seconds / vms) * 1000).toFixed(0)
    process.stdout.write(
      `${what.padEnd(46)} ${seconds.toFixed(1).padStart(6)} s  ${each.padStart(5)} ms each\n`,
    )
  }
}
