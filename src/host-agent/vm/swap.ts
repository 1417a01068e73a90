import { readdir, readFile, realpath, stat } from 'node:fs/promises'

/**
 * Swap areas that memory of VMs can be written to without being encrypted. None where the processes of this one are kept from swap
 * (`memory.swap.max` of their control group, version 2), and of areas on dm-crypt or in compressed memory.
 *
 * What lies below a file system of more than one device, or on another host, cannot be told, and counts as open.
 *
 * @param root before `/proc` and `/sys`, for tests
 */
export async function findOpenSwap(root = ''): Promise<readonly string[]> {
  if (await isKeptFromSwap(root)) return []
  const table = await readFile(`${root}/proc/swaps`, 'utf8').catch(() => '')
  const areas = table
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [area = '', kind = ''] = line.split(/\s+/)
      const path = area.replace(/\\([0-7]{3})/g, (_, octal) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      )
      return area === '' ? [] : [{ path, kind }]
    })
  const open: string[] = []
  for (const { path, kind } of areas) {
    const device = await (kind === 'partition' ? nameOf(root, path) : deviceBelow(root, path))
    if (device === undefined || !(await isSafe(root, device))) open.push(path)
  }
  return open
}

/** @see Linux, Documentation/admin-guide/cgroup-v2.rst, "memory.swap.max" */
async function isKeptFromSwap(root: string): Promise<boolean> {
  const groups = await readFile(`${root}/proc/self/cgroup`, 'utf8').catch(() => '')
  const own = /^0::(\/.*)$/m.exec(groups)?.[1]
  if (own === undefined) return false
  const names = own.split('/').filter((name) => name !== '')
  for (let depth = names.length; depth > 0; depth -= 1) {
    const folder = `${root}/sys/fs/cgroup/${names.slice(0, depth).join('/')}`
    const limit = await readFile(`${folder}/memory.swap.max`, 'utf8').catch(() => undefined)
    if (limit?.trim() === '0') return true
  }
  return false
}

async function nameOf(root: string, path: string): Promise<string | undefined> {
  const real = await realpath(`${root}${path}`).catch(() => undefined)
  return real?.split('/').at(-1)
}

/** The block device that a file lies on. */
async function deviceBelow(root: string, path: string): Promise<string | undefined> {
  const found = await stat(`${root}${path}`).catch(() => undefined)
  if (!found) return undefined
  const major = (found.dev >> 8) & 0xfff
  const minor = (found.dev & 0xff) | ((found.dev >> 12) & 0xfff00)
  return nameOf(root, `/sys/dev/block/${major}:${minor}`)
}

async function isSafe(root: string, device: string): Promise<boolean> {
  const folder = `${root}/sys/class/block/${device}`
  const uuid = await readFile(`${folder}/dm/uuid`, 'utf8').catch(() => '')
  if (uuid.startsWith('CRYPT-')) return true
  if (/^zram\d+$/.test(device)) {
    const backing = await readFile(`${folder}/backing_dev`, 'utf8').catch(() => 'none')
    return backing.trim() === 'none'
  }
  const below = await readdir(`${folder}/slaves`).catch(() => [])
  if (below.length === 0) return false
  const safe = await Promise.all(below.map((one) => isSafe(root, one)))
  return safe.every((one) => one)
}
