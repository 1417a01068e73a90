import { randomBytes } from 'node:crypto'
import {
  copyFile,
  cp,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PlatformError } from '../../../src/core/errors.js'
import { pathsOf } from '../../../src/host-agent/vm/layout.js'
import { resumeMachine, sendState } from '../../../src/host-agent/vm/machine-state.js'
import { Qmp } from '../../../src/host-agent/vm/qmp.js'
import { BOOT_MS, counterOf, counting } from '../../helpers/counting.js'
import { COUNTER_MAGIC, countingGuest } from '../../helpers/counting-guest.js'
import { moveAndDie } from './killed.js'
import {
  createTestHost,
  findKeys,
  findWideModes,
  processesNaming,
  type TestHost,
} from './support.js'
import { createWitness, type TestWitness } from './witness.js'

const SLOW = process.env['SLOW'] === '1'
const MIB = 1024 * 1024
const content = randomBytes(MIB)

let host: TestHost
let witness: TestWitness
let files: string
let folder: string
/** What the guest had counted to at least when its memory was kept, and at most. */
let kept: readonly [bigint, bigint]

beforeAll(async () => {
  files = await mkdtemp(join(tmpdir(), 'sigillo-memory-'))
  await writeFile(join(files, 'guest.raw'), countingGuest())
  await writeFile(join(files, 'data.raw'), content)
  witness = await createWitness()
  host = await createTestHost({ vtpmWitness: witness })
  const { vmId } = await host.vms.create({
    ...{ name: 'vm', provider: 'kp', memoryMib: 128 },
    disks: [
      { name: 'root', from: join(files, 'guest.raw') },
      { name: 'spare', sizeOctets: MIB },
      { name: 'data', from: join(files, 'data.raw') },
    ],
  })
  folder = `${host.directory}/${vmId}`
  await host.vms.start('vm')
  await counting(folder)
}, BOOT_MS)

afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await witness[Symbol.asyncDispose]()
  await rm(files, { recursive: true })
})

const stop = () => host.vms.stop('vm', { graceSeconds: 0 })

const refused = (work: Promise<unknown>, code: string) =>
  expect(work).rejects.toMatchObject({ code })

const rootOf = async (name: string) => {
  const found = (await host.vms.listSnapshots('vm')).find((snapshot) => snapshot.name === name)
  return `${folder}/snapshots/${found?.snapshotId}`
}

/** Files below the directory of the host in which these octets are. */
async function filesWith(octets: string): Promise<readonly string[]> {
  const entries = await readdir(host.directory, { recursive: true, withFileTypes: true })
  const paths = entries.filter((entry) => entry.isFile()).map((e) => join(e.parentPath, e.name))
  const found = await Promise.all(
    paths.map(async (path) => (await readFile(path)).includes(octets)),
  )
  return paths.filter((_, index) => found[index])
}

async function expectStopped(): Promise<void> {
  expect(await host.vms.show('vm')).toMatchObject({ state: 'stopped' })
  expect(processesNaming(host.directory)).toEqual([])
  expect(await readdir(folder)).not.toContain('change')
  expect(await readdir(folder)).not.toContain('run')
}

describe('a snapshot of a VM that runs', () => {
  test('keeps its memory, encrypted, while its guest goes on', async () => {
    // the places that the guest sees its disks at are kept too: the second one is free
    await host.vms.removeDisk('vm', 'spare')
    const before = await counting(folder)
    const steps: string[] = []
    let octets: { readonly done: number; readonly total: number } | undefined
    await host.vms.createSnapshot(
      'vm',
      { name: 'live' },
      {
        onProgress: (step, _, copied) => {
          steps.push(step)
          octets = copied
        },
      },
    )
    kept = [before, (await counterOf(folder)) ?? 0n]
    expect([...new Set(steps)].filter((step) => !step.startsWith('copy'))).toEqual([
      ...['check', 'memory', 'resume', 'commit', 'done'],
    ])
    expect(octets?.total).toBeGreaterThan(128 * MIB)
    expect(await host.vms.listSnapshots('vm')).toMatchObject([
      { name: 'live', running: true, memory: true },
    ])
    await counting(folder, kept[1])
    expect(await readdir(await rootOf('live'))).toContain('memory.enc')
    expect(await filesWith(COUNTER_MAGIC)).toEqual([])
    expect(await findKeys(host.keys.seen, host.directory)).toEqual([])
    expect(await findWideModes(host.directory)).toEqual([])
    await refused(host.vms.revertSnapshot('vm', 'live'), 'VM_RUNNING')
  })

  test('has the guest go on where it was when the VM goes back to it, with its virtual TPM', async () => {
    await stop()
    const state = await readFile(`${folder}/vtpm/tpm2-00.permall`)
    await host.vms.start('vm')
    // the firmware starts the TPM, which counts it
    while ((await readFile(`${folder}/vtpm/tpm2-00.permall`)).equals(state)) await delay(100)
    await stop()
    await witness.newEvents()
    const steps: string[] = []
    const back = await host.vms.revertSnapshot('vm', 'live', {
      onProgress: (step) => steps.push(step),
    })
    expect(back).toMatchObject({ state: 'running' })
    const now = await counterOf(folder)
    expect(now).toBeGreaterThanOrEqual(kept[0])
    await counting(folder, now)
    expect(steps).toEqual(expect.arrayContaining(['check memory', 'start', 'load', 'run', 'done']))
    expect(await witness.newEvents()).toContain('vtpm.state-accepted')
    expect(await filesWith(COUNTER_MAGIC)).toEqual([])
    expect(await findKeys(host.keys.seen, host.directory)).toEqual([])
    expect(await findWideModes(host.directory)).toEqual([])
    await stop()
    const read = await host.vms.readDisk('vm', 'data', 0, MIB)
    expect(Buffer.from(read).equals(content)).toBe(true)
    await host.vms.start('vm')
    await stop()
  })

  test('is gone back to without its memory too: the VM is stopped then', async () => {
    await host.vms.revertSnapshot('vm', 'live', {}, { memory: false })
    await expectStopped()
    await host.vms.start('vm')
    await stop()
  })

  test('is of the disks alone when its memory is not wanted', async () => {
    await host.vms.revertSnapshot('vm', 'live')
    const before = await counting(folder)
    const steps: string[] = []
    const onProgress = (step: string) => steps.push(step)
    await host.vms.createSnapshot('vm', { name: 'disks', memory: false }, { onProgress })
    await counting(folder, before)
    expect(steps).toEqual(expect.arrayContaining(['stop', 'resume']))
    expect((await host.vms.listSnapshots('vm'))[1]).toMatchObject({ running: true, memory: false })
    await stop()
    await host.vms.revertSnapshot('vm', 'disks')
    await expectStopped()
    await host.vms.removeSnapshot('vm', 'disks')
  })

  test('is refused with the memory of a plain VM, which there is no key for', async () => {
    await host.vms.create({ name: 'plain', plain: true, memoryMib: 128, disks: [] })
    await host.vms.start('plain')
    await refused(host.vms.createSnapshot('plain', { name: 'one' }), 'VM_HOME_PLAIN')
    await host.vms.createSnapshot('plain', { name: 'one', memory: false })
    expect(await host.vms.show('plain')).toMatchObject({ state: 'running' })
    await host.vms.stop('plain', { graceSeconds: 0 })
    await host.vms.revertSnapshot('plain', 'one')
    await host.vms.delete('plain')
  })

  test('stops a guest whose memory changes faster than it is written, and lets it go on', async () => {
    await host.vms.revertSnapshot('vm', 'live')
    const before = await counting(folder)
    {
      await using qmp = await Qmp.connect(`${folder}/run/qmp.sock`)
      let octets = 0
      let stoppedAfter = 0
      await sendState(qmp, pathsOf(folder), {
        take: async (chunk) => {
          octets += chunk.length
          if (!qmp.hasSeen('STOP')) stoppedAfter = octets
        },
        stopAfterOctets: MIB,
        failed: (what) => new PlatformError('VM_PROCESS', what),
        signal: undefined,
      })
      expect(stoppedAfter).toBeLessThan(octets / 2)
    }
    const stopped = await counterOf(folder)
    await resumeMachine(pathsOf(folder))
    expect(stopped).toBeGreaterThanOrEqual(before)
    await counting(folder, stopped)
  })

  test('that is cancelled leaves nothing, and the guest goes on', async () => {
    for (const step of ['memory', 'copy disk-root.luks']) {
      const cancel = new AbortController()
      const onProgress = (begun: string) => {
        if (begun === step) cancel.abort(new PlatformError('TASK_CANCELLED', 'cancelled'))
      }
      const following = { onProgress, signal: cancel.signal }
      const before = await counting(folder)
      await refused(host.vms.createSnapshot('vm', { name: 'no' }, following), 'TASK_CANCELLED')
      await counting(folder, before)
    }
    expect(await readdir(`${folder}/snapshots`)).toHaveLength(1)
    await host.vms.createSnapshot('vm', { name: 'other' })
    await stop()
  })
})

describe('a snapshot with memory', () => {
  const attempts: Readonly<Record<string, (root: string) => Promise<unknown>>> = {
    'has another octet': async (root) => {
      const octets = await readFile(`${root}/memory.enc`)
      const middle = Math.floor(octets.length / 2)
      octets[middle] = (octets[middle] ?? 0) ^ 1
      await writeFile(`${root}/memory.enc`, octets)
    },
    'ends after its first MiB': (root) => truncate(`${root}/memory.enc`, 37 + MIB + 16),
    'is that of another snapshot': async (root) =>
      copyFile(`${await rootOf('other')}/memory.enc`, `${root}/memory.enc`),
    'is gone': (root) => rm(`${root}/memory.enc`),
    'is not told of': async (root) => {
      const sealed = JSON.parse(await readFile(`${root}/snapshot.json`, 'utf8'))
      delete sealed.snapshot.memory
      await writeFile(`${root}/snapshot.json`, JSON.stringify(sealed))
    },
    'is told to be shorter, with its end cut off': async (root) => {
      const sealed = JSON.parse(await readFile(`${root}/snapshot.json`, 'utf8'))
      sealed.snapshot.memory.octets = 37 + MIB + 16
      await writeFile(`${root}/snapshot.json`, JSON.stringify(sealed))
      await truncate(`${root}/memory.enc`, 37 + MIB + 16)
    },
  }

  for (const [what, change] of Object.entries(attempts)) {
    test(`that ${what} is not gone back to: the VM stays as it is`, async () => {
      const root = await rootOf('live')
      const backup = join(files, 'backup')
      await cp(root, backup, { recursive: true })
      await change(root)
      const disk = await readFile(`${folder}/disk-root.luks`)
      await refused(host.vms.revertSnapshot('vm', 'live'), 'VM_SNAPSHOT_CORRUPT')
      await expectStopped()
      expect((await readFile(`${folder}/disk-root.luks`)).equals(disk)).toBe(true)
      await rm(root, { recursive: true })
      await cp(backup, root, { recursive: true })
      await rm(backup, { recursive: true })
    })
  }

  test('is not gone back to where VMs run in another way', async () => {
    const other = host.restart({ accelerator: 'kvm' })
    await refused(other.revertSnapshot('vm', 'live'), 'VM_SNAPSHOT_MEMORY')
    await other[Symbol.asyncDispose]()
    await expectStopped()
  })

  test('leaves the VM stopped, with the disks of the snapshot, where QEMU does not take it', async () => {
    // firmware of another size
    const code = join(files, 'code.fd')
    await copyFile('/usr/share/OVMF/OVMF_CODE_4M.fd', code)
    await truncate(code, (await stat(code)).size + 64 * 1024)
    const variables = '/usr/share/OVMF/OVMF_VARS_4M.fd'
    const other = host.restart({ firmware: { code, variables } })
    await expect(other.revertSnapshot('vm', 'live')).rejects.toMatchObject({
      ...{ code: 'VM_SNAPSHOT_MEMORY', message: expect.stringContaining('Size mismatch') },
    })
    await other[Symbol.asyncDispose]()
    await expectStopped()
    await host.vms.start('vm')
    await stop()
  })

  test('does not run while the control plane cannot be told of its virtual TPM', async () => {
    witness.isAway = true
    await refused(host.vms.revertSnapshot('vm', 'live'), 'AUTHORITY_UNREACHABLE')
    witness.isAway = false
    await expectStopped()
    await host.vms.revertSnapshot('vm', 'live')
    await counting(folder, kept[0])
  })
})

describe('an agent that is killed', () => {
  const die = (snapshot: object, step: string) =>
    moveAndDie({ directory: host.directory, kek: host.keys.kek }, { snapshot }, step)

  const whenMaking = ['memory', 'copy disk-root.luks', 'resume', 'commit']
  for (const step of SLOW ? whenMaking : ['memory', 'resume']) {
    test(`while it makes a snapshot with memory, at the step ${step}, leaves none, and a guest that goes on`, async () => {
      const before = await counting(folder)
      await die({ vm: 'vm', create: 'killed' }, step)
      const next = host.restart()
      await next.recover()
      await counting(folder, before)
      expect(await readdir(`${folder}/snapshots`)).toHaveLength(2)
      await next[Symbol.asyncDispose]()
    })
  }

  const whenGoingBack = ['check memory', 'place', 'start', 'load', 'run']
  for (const step of SLOW ? whenGoingBack : ['load', 'run']) {
    test(`while it goes back to memory, at the step ${step}, leaves a VM that is stopped, or one that runs`, async () => {
      if ((await host.vms.show('vm')).state === 'running') await stop()
      await die({ vm: 'vm', revert: 'live' }, step)
      const next = host.restart()
      await next.recover()
      if (step === 'run') {
        await counting(folder, kept[0])
        expect((await next.facts('vm'))?.resumedFrom).toContain('live')
      } else {
        await expectStopped()
        await next.revertSnapshot('vm', 'live')
        await counting(folder, kept[0])
      }
      await next.stop('vm', { graceSeconds: 0 })
      await next[Symbol.asyncDispose]()
    })
  }
})
