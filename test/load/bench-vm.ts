import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { DEFAULT_PROGRAMS } from '../../src/host-agent/vm/programs.js'
import { createTestHost, type TestHost, writePlain } from '../integration/host-agent-vm/support.js'

/**
 * Measures encryption, deep recrypt and decryption of a disk with a file system, each beside one `qemu-img convert` of the same disk
 * from the same format into the same format, and beside one that does not encrypt, in the same run, and checks by SHA-256 after each that the guest would see the same. Every figure includes bringing the
 * result to the disk.
 *
 * Between encryption and deep recrypt comes a shallow one, which copies nothing.
 *
 * `npm run bench:vm -- [--mib 1024] [--rounds 3] [--transcript] [--json]`. `--transcript` prints progress as it comes.
 */
const MIB = 1024 * 1024
const run = promisify(execFile)
/** What one `qemu-img convert` does the same as an operation. */
const SAME: Readonly<Record<string, string>> = {
  encrypt: 'raw to LUKS',
  recrypt: 'LUKS to LUKS',
  decrypt: 'LUKS to raw',
}

interface Measured {
  readonly what: string
  readonly seconds: number
  readonly mibPerSecond: number
  /** Beside `qemu-img convert` between the same formats, and from raw to raw. */
  readonly timesSame: number
  readonly timesPlain: number
}

const { values } = parseArgs({
  options: {
    mib: { type: 'string', default: '1024' },
    rounds: { type: 'string', default: '3' },
    transcript: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})
const mib = Number(values.mib)
const rounds = Number(values.rounds)
if (!Number.isInteger(mib) || mib < 16) throw new TypeError('--mib: a whole number from 16')
if (!Number.isInteger(rounds) || rounds < 1) throw new TypeError('--rounds: a whole number from 1')

const startedAt = performance.now()
const folder = await mkdtemp(join(tmpdir(), 'sigillo-bench-'))
const keyFile = join(folder, 'key')
await writeFile(keyFile, randomBytes(32).toString('hex'), { mode: 0o600 })
try {
  await using host = await createTestHost()
  const image = await makeFileSystem(folder)
  const digest = await digestOf(image)
  tell(`an ext4 of ${mib} MiB, SHA-256 ${digest}`)
  await host.vms.create({ name: 'vm', memoryMib: 128, disks: [{ name: 'root', from: image }] })

  const times = new Map<string, number[]>()
  const measure = async (what: string, work: () => Promise<unknown>) => {
    const begun = performance.now()
    await work()
    times.set(what, [...(times.get(what) ?? []), (performance.now() - begun) / 1000])
  }
  for (let round = 0; round < rounds; round += 1) {
    await measure('raw to raw', () => convert(image, join(folder, 'copy.raw')))
    await rm(join(folder, 'copy.raw'))
    await makeVolume('one')
    await measure('raw to LUKS', () => convert(image, join(folder, 'one.luks')))
    await measure('encrypt', () => host.vms.encrypt('vm', { provider: 'kp' }, watched('encrypt')))
    await check(host, 'encrypted', digest)
    await makeVolume('two')
    await rewrap(host)
    await check(host, 'under the same keys, wrapped anew', digest)
    await measure('LUKS to LUKS', () => convert(join(folder, 'one.luks'), join(folder, 'two.luks')))
    await rm(join(folder, 'one.luks'))
    await measure('recrypt', () => host.vms.recrypt('vm', {}, watched('recrypt')))
    await check(host, 'under new keys', digest)
    await measure('LUKS to raw', () => convert(join(folder, 'two.luks'), join(folder, 'copy.raw')))
    await rm(join(folder, 'two.luks'))
    await rm(join(folder, 'copy.raw'))
    await measure('decrypt', () => host.vms.decrypt('vm', {}, watched('decrypt')))
    await check(host, 'decrypted', digest)
  }
  const plain = median(times.get('raw to raw'))
  const results = [...times].map(([what, seconds]): Measured => {
    const middle = median(seconds)
    const same = median(times.get(SAME[what] ?? what))
    return {
      what,
      seconds: rounded(middle),
      mibPerSecond: Math.round(mib / middle),
      timesSame: rounded(middle / same),
      timesPlain: rounded(middle / plain),
    }
  })
  if (values.json) {
    const about = { mib, rounds, processors: availableParallelism(), results }
    process.stdout.write(`${JSON.stringify(about, null, 2)}\n`)
  } else {
    for (const { what, seconds, mibPerSecond, timesSame, timesPlain } of results) {
      const shares = `${timesSame.toFixed(2)} times convert, ${timesPlain.toFixed(2)} times raw to raw`
      const speed = `${seconds.toFixed(2)} s  ${mibPerSecond} MiB/s`
      process.stdout.write(`${what.padEnd(12)}  ${speed}  ${shares}\n`)
    }
  }
} finally {
  await rm(folder, { recursive: true })
}

function watched(operation: string) {
  let last = ''
  let lastAt = 0
  return {
    onProgress: (step: string, percent: number, octets?: { done: number; total: number }) => {
      if (step === last && performance.now() - lastAt < 1000) return
      last = step
      lastAt = performance.now()
      const copied = octets ? `${Math.floor(octets.done / MIB)} of ${octets.total / MIB} MiB` : ''
      tell(`${operation}  ${String(percent).padStart(3)} %  ${copied.padEnd(18)}  ${step}`)
    },
  }
}

/** Every key of the VM is wrapped anew, and none is another. */
async function rewrap(host: TestHost): Promise<void> {
  const [vm] = await host.vms.list()
  const read = () => readFile(`${host.directory}/${vm?.vmId}/keys.json`, 'utf8')
  const before = await read()
  const begun = performance.now()
  await host.vms.rewrapKeys('kp')
  tell(`shallow recrypt  100 %  in ${Math.round(performance.now() - begun)} ms`)
  if ((await read()) === before) throw new Error('expected keys that are wrapped anew')
}

/** A line with the seconds since the start. */
function tell(line: string): void {
  if (!values.transcript) return
  const seconds = (performance.now() - startedAt) / 1000
  process.stdout.write(`${seconds.toFixed(1).padStart(6)} s  ${line}\n`)
}

async function check(host: TestHost, state: string, expected: string): Promise<void> {
  const [vm] = await host.vms.list()
  const format = vm?.disks[0]?.format
  const path = join(folder, 'seen.raw')
  if (format === 'luks1') await writePlain(host, 'vm', 'root', path)
  const found = await digestOf(
    format === 'luks1' ? path : `${host.directory}/${vm?.vmId}/disk-root.raw`,
  )
  await rm(path, { force: true })
  if (found !== expected) throw new Error(`${state}: expected ${expected}, found ${found}`)
  tell(`${state}: the disk (${format}) reads as SHA-256 ${found}`)
}

/** What anybody would do: the whole disk into another file with one program, and that on the disk. */
async function convert(from: string, to: string): Promise<void> {
  const image = (path: string) =>
    path.endsWith('.luks')
      ? `driver=luks,key-secret=key,file.driver=file,file.filename=${path}`
      : `driver=raw,file.driver=file,file.filename=${path}`
  const secret = ['--object', `secret,id=key,file=${keyFile}`]
  const options = to.endsWith('.luks')
    ? ['-n', ...secret, '--image-opts', '--target-image-opts', image(from), image(to)]
    : [...secret, '--image-opts', image(from), '-O', 'raw', to]
  await run('qemu-img', ['convert', ...options])
  await using file = await open(to, 'r+')
  await file.sync()
}

/** An empty volume as those of VMs, under the key of this run. */
async function makeVolume(name: string): Promise<void> {
  const path = join(folder, `${name}.luks`)
  await writeFile(path, '', { mode: 0o600 })
  await using file = await open(path, 'r+')
  await file.truncate((mib + 2) * MIB)
  const format = ['luksFormat', '-q', '--type', 'luks1', '--cipher', 'aes-xts-plain64']
  const cost = ['--key-size', '512', '--hash', 'sha256', '--pbkdf-force-iterations', '1000']
  await run(DEFAULT_PROGRAMS.cryptsetup, [...format, ...cost, '--key-file', keyFile, path])
}

/** An ext4 that is nearly full of noise, made without mounting. */
async function makeFileSystem(directory: string): Promise<string> {
  const content = join(directory, 'content')
  await mkdir(content)
  await using noise = await open(join(content, 'noise'), 'w')
  const octets = Math.floor(mib * 0.85)
  for (let written = 0; written < octets; written += 1) await noise.write(randomBytes(MIB))
  const path = join(directory, 'root.raw')
  await writeFile(path, '')
  await using file = await open(path, 'r+')
  await file.truncate(mib * MIB)
  await run('mke2fs', ['-q', '-t', 'ext4', '-m', '0', '-d', content, path])
  await rm(content, { recursive: true })
  return path
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk)
  return hash.digest('hex')
}

function median(seconds: readonly number[] | undefined): number {
  const sorted = [...(seconds ?? [])].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100
}
