import { createReadStream } from 'node:fs'
import { mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import { makeCoreDumpKey, openCoreDump } from '../../api/core-dumps.js'
import { fromBase64url, toBase64url } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { newUuid } from '../../core/random.js'
import { DUMP_KEYS_FILE, newestDumpKey } from '../../host-agent/core-dumps/dump-keys.js'
import {
  MAX_DUMP_HEADER_OCTETS,
  openDump,
  parseDumpHeader,
  sealDump,
} from '../../host-agent/core-dumps/sealed-dump.js'
import { examples } from '../run.js'
import { size } from '../values.js'
import { connectAgent, withSocket } from './connection.js'

const STATE = '/var/lib/sigillo-agent'
const DEFAULT_MAX_OCTETS = 16 * 1024 ** 3

interface HandlerOptions {
  readonly keys: string
  readonly directory: string
  readonly maxSize: number
}

/** Core dumps of this host, sealed as the kernel writes them. */
export function addCoreDumpCommands(program: Command): void {
  const dump = program.command('core-dump').description('core dumps of this host, encrypted')

  withSocket(dump.command('key'))
    .description('make the key that core dumps are sealed for from now on; older ones stay')
    .option('--provider <name>', 'key provider that wraps it (default: that of the host)')
    .addHelpText(
      'after',
      examples('sigillo-agent core-dump key', 'sigillo-agent core-dump key --provider gold'),
    )
    .action(async ({ provider }: { provider?: string }, command: Command) => {
      await using agent = connectAgent(command)
      const body = provider === undefined ? {} : { provider }
      const made = await agent.client.call(makeCoreDumpKey, { body })
      agent.output.data(made, () => [`key ${made.keyId}, wrapped by ${made.provider}`])
    })

  dump
    .command('handler [words...]')
    .description('seal the core dump on standard input; for kernel.core_pattern')
    .option('--keys <file>', 'keys of core dumps', join(STATE, DUMP_KEYS_FILE))
    .option('--directory <path>', 'where dumps are put', join(STATE, 'core-dumps'))
    .option('--max-size <octets>', 'larger dumps are dropped', size, DEFAULT_MAX_OCTETS)
    .addHelpText(
      'after',
      examples(
        "sysctl -w kernel.core_pattern='|/usr/bin/sigillo-agent core-dump handler %P %s %t %e'",
        'sigillo-agent core-dump handler 4711 11 --directory /dumps < core',
      ),
    )
    .action(async (words: readonly string[], options: HandlerOptions) => {
      await sealToFile(words, options)
    })

  withSocket(dump.command('open <file>'))
    .description('decrypt a core dump of this host')
    .requiredOption('--out <file>', 'where the plain dump is put; it must not exist')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent core-dump open /var/lib/sigillo-agent/core-dumps/1b9d6bcd.sgcd --out /root/core',
        'sigillo-agent core-dump open x.sgcd --out core --json',
      ),
    )
    .action(async (file: string, { out }: { out: string }, command: Command) => {
      await using agent = connectAgent(command)
      const header = parseDumpHeader(await startOf(file))
      const body = { header: toBase64url(header.octets) }
      const { contentKey } = await agent.client.call(openCoreDump, { body })
      const key = fromBase64url(contentKey)
      const sealed = createReadStream(file, { start: header.octets.length })
      const octets = await writeNew(out, openDump(key, header, sealed)).finally(() => key.fill(0))
      agent.output.data({ octets, info: header.info }, () => [
        `${octets} octets of ${header.info || 'an unknown process'} in ${out}`,
      ])
    })
}

async function sealToFile(words: readonly string[], options: HandlerOptions): Promise<void> {
  const publicKey = newestDumpKey(options.keys)
  await mkdir(options.directory, { recursive: true, mode: 0o700 })
  const path = join(options.directory, `${newUuid()}.sgcd`)
  // names of programs are whatever their makers want
  const info = words.join(' ').replace(/[^\x20-\x7e]/g, '?')
  await writeNew(path, sealDump(publicKey, info, limited(process.stdin, options.maxSize)))
}

/** Writes a private file that is whole, or is not there. */
async function writeNew(path: string, chunks: AsyncIterable<Uint8Array>): Promise<number> {
  const file = await open(path, 'wx', 0o600)
  let octets = 0
  try {
    for await (const chunk of chunks) {
      await file.writeFile(chunk)
      octets += chunk.length
    }
    await file.sync()
    return octets
  } catch (error) {
    await rm(path, { force: true })
    throw error
  } finally {
    await file.close()
  }
}

async function startOf(file: string): Promise<Uint8Array> {
  await using handle = await open(file)
  const start = new Uint8Array(MAX_DUMP_HEADER_OCTETS)
  const { bytesRead } = await handle.read(start, 0, start.length, 0)
  return start.subarray(0, bytesRead)
}

async function* limited(
  input: AsyncIterable<Uint8Array>,
  maxOctets: number,
): AsyncGenerator<Uint8Array> {
  let octets = 0
  for await (const chunk of input) {
    octets += chunk.length
    if (octets > maxOctets) {
      throw new PlatformError('CORE_DUMP', `the core dump is larger than ${maxOctets} octets`)
    }
    yield chunk
  }
}
