import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { findOpenSwap } from '../../../../src/host-agent/vm/swap.js'

const HEAD = 'Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n'
let root = ''

afterEach(() => rmSync(root, { recursive: true, force: true }))

/** A machine with these files of the kernel, and these swap areas. */
function machine(areas: readonly string[], files: Readonly<Record<string, string>> = {}): string {
  root = mkdtempSync(join(tmpdir(), 'sigillo-swap-'))
  const all = {
    'proc/swaps': HEAD + areas.map((area) => `${area}\t100\t0\t-2\n`).join(''),
    ...files,
  }
  for (const [name, content] of Object.entries(all)) {
    mkdirSync(dirname(join(root, name)), { recursive: true })
    writeFileSync(join(root, name), content)
  }
  return root
}

test('a machine without swap, or without a table of it, has none that is open', async () => {
  expect(await findOpenSwap(machine([]))).toEqual([])
  expect(await findOpenSwap('/nonexistent')).toEqual([])
})

test('a partition is open, one on dm-crypt is not, also with another mapping between', async () => {
  const at = machine(['/dev/sda2 partition', '/dev/dm-0 partition', '/dev/dm-1 partition'], {
    'dev/sda2': '',
    'dev/dm-0': '',
    'dev/dm-1': '',
    'sys/class/block/sda2/size': '1',
    'sys/class/block/dm-0/dm/uuid': 'CRYPT-PLAIN-swap\n',
    'sys/class/block/dm-1/dm/uuid': 'LVM-abc\n',
    'sys/class/block/dm-1/slaves/dm-0': '',
  })
  expect(await findOpenSwap(at)).toEqual(['/dev/sda2'])
})

test('compressed memory is not open, unless it writes back to a disk', async () => {
  const files = (backing: string) => ({
    'dev/zram0': '',
    'sys/class/block/zram0/backing_dev': backing,
  })
  expect(await findOpenSwap(machine(['/dev/zram0 partition'], files('none\n')))).toEqual([])
  const written = machine(['/dev/zram0 partition'], files('/dev/sda3\n'))
  expect(await findOpenSwap(written)).toEqual(['/dev/zram0'])
})

test('a file whose device cannot be told is open, whatever its name is', async () => {
  expect(await findOpenSwap(machine(['/swap\\040file file']))).toEqual(['/swap file'])
})

test('nothing is open to processes whose control group, or one above it, has no swap', async () => {
  const files = (limits: Readonly<Record<string, string>>) => ({
    'proc/self/cgroup': '0::/system.slice/sigillo-agent.service\n',
    ...limits,
  })
  const swaps = ['/dev/sda2 partition']
  const own = 'sys/fs/cgroup/system.slice/sigillo-agent.service/memory.swap.max'
  expect(await findOpenSwap(machine(swaps, files({ [own]: '0\n' })))).toEqual([])
  const above = 'sys/fs/cgroup/system.slice/memory.swap.max'
  expect(await findOpenSwap(machine(swaps, files({ [above]: '0\n' })))).toEqual([])
  expect(await findOpenSwap(machine(swaps, files({ [own]: 'max\n' })))).toEqual(
    swaps.map((s) => s.split(' ')[0]),
  )
})
