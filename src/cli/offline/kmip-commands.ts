import { readFileSync } from 'node:fs'
import { type Command, InvalidArgumentError } from 'commander'
import { systemClock } from '../../core/clock.js'
import { DecodeError, messageOf, PlatformError } from '../../core/errors.js'
import { createLogger, LOG_LEVELS, type LogLevel } from '../../core/logger.js'
import type { KmipServerEvent, ProtocolVersion } from '../../kmip/index.js'
import { outputOf } from '../output-of.js'
import { examples } from '../run.js'
import { readOctets } from './files.js'
import { openKmipLab } from './kmip-lab.js'

const MAX_FILE_OCTETS = 16 << 20
const GRACE_MS = 5_000
const WARNING = [
  'sigillo: warning: THIS KEY SERVER IS FOR DEVELOPMENT AND TESTS, NOT FOR PRODUCTION:',
  'sigillo: warning: its keys are in memory alone, and are gone when it ends',
].join('\n')

interface ServeOptions {
  readonly listen: { readonly host: string; readonly port: number }
  readonly folder?: string
  readonly versions?: readonly ProtocolVersion[]
  readonly logLevel: LogLevel
}

// Loaded by the commands that need it: the others answer at once.
const kmip = () => import('../../kmip/index.js')
const http = () => import('../../http/index.js')

/** `sigillo kmip serve` and `sigillo kmip decode`. Returns the command that they are below. */
export function addKmipCommands(program: Command): Command {
  const commands = program.command('kmip').description('key servers that speak KMIP')
  commands
    .command('serve')
    .description('a key server for development and tests, with its objects in memory')
    .option('--listen <host:port>', 'where; port 0 is any that is free', hostAndPort, {
      host: '127.0.0.1',
      port: 5696,
    })
    .option('--folder <folder>', 'certificates: those in it, or new ones')
    .option('--versions <list>', 'what it speaks, such as 1.1,1.4', versionList)
    .option('--log-level <level>', 'error, warn, info, debug or silent', logLevel, 'info')
    .addHelpText(
      'after',
      `\nClients need a certificate of ca.pem, as client.pem is one; each sees what it made.\n${examples(
        'sigillo kmip serve --folder ./kmip',
        'sigillo kmip serve --listen 127.0.0.1:0 --json',
      )}`,
    )
    .action((options: ServeOptions, command: Command) => serve(options, command))
  commands
    .command('decode <file>')
    .description('what messages say, with their secrets masked')
    .option('--xml', 'in the XML of the standard')
    .addHelpText(
      'after',
      `\nThe file, or standard input as -, holds one message or several: octets, hexadecimal or base64.\n${examples(
        'sigillo kmip decode frame.bin',
        'xxd -p frame.bin | sigillo kmip decode - --xml',
      )}`,
    )
    .action((file: string, options: { readonly xml?: boolean }, command: Command) =>
      decode(file, options.xml === true, command),
    )
  return commands
}

async function serve(options: ServeOptions, command: Command): Promise<void> {
  process.stderr.write(`${WARNING}\n`)
  const { hardenProcess, runUntilSignal } = await http()
  hardenProcess()
  const { startKmipServer } = await kmip()
  const logger = createLogger({ name: 'sigillo-kmip', level: options.logLevel })
  const { host, port } = options.listen
  const lab = await openKmipLab({ folder: options.folder, host, now: systemClock.nowMs() })
  const server = await startKmipServer({
    host,
    port,
    tls: lab.tls,
    ...(options.versions === undefined ? {} : { versions: options.versions }),
    events: (event) => logger[levelOf(event)](event, 'key server'),
  }).catch((error: unknown) => {
    lab[Symbol.dispose]()
    throw error
  })
  const { caFile, clientCertificateFile, clientKeyFile } = lab
  const ready = { host, port: server.port, caFile, clientCertificateFile, clientKeyFile }
  const isJson = command.optsWithGlobals<{ json?: boolean }>().json === true
  // One line, so that a program can wait for it.
  const text = `listening on ${host}:${server.port}; client: ${clientCertificateFile}, ${clientKeyFile}, ${caFile}`
  process.stdout.write(`${isJson ? JSON.stringify(ready) : text}\n`)
  runUntilSignal({
    logger,
    graceMs: GRACE_MS,
    close: async () => {
      await server[Symbol.asyncDispose]()
      lab[Symbol.dispose]()
    },
  })
}

async function decode(file: string, asXml: boolean, command: Command): Promise<void> {
  const { describeTtlv, maskSecrets, parseFrames, ttlvToJson, ttlvToXml } = await kmip()
  const messages = parseFrames(
    octetsOf(file === '-' ? readInput() : readOctets(file, MAX_FILE_OCTETS)),
  )
  outputOf(command).data(
    messages.map((message) => ttlvToJson(maskSecrets(message))),
    () =>
      messages.map((message) =>
        (asXml ? ttlvToXml(maskSecrets(message)) : describeTtlv(message)).trimEnd(),
      ),
  )
}

/** Octets as they are, or of hexadecimal or base64 text, which may be in lines. */
function octetsOf(content: Uint8Array): Uint8Array {
  // Tags of KMIP begin with 0x42 or 0x54, which are letters too, and are followed by octets that are not.
  const text = Buffer.from(content).toString('latin1').replaceAll(/[\s:]/g, '')
  if (/^([0-9a-fA-F]{2})+$/.test(text)) return new Uint8Array(Buffer.from(text, 'hex'))
  if (/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return new Uint8Array(Buffer.from(text, 'base64'))
  return content
}

function readInput(): Uint8Array {
  try {
    const octets = new Uint8Array(readFileSync(0))
    if (octets.length <= MAX_FILE_OCTETS) return octets
  } catch (cause) {
    const message = `cannot read standard input: ${messageOf(cause)}`
    throw new PlatformError('CONFIG_UNREADABLE', message, { cause })
  }
  throw new DecodeError('DECODE_TOO_LARGE', 0, `expected at most ${MAX_FILE_OCTETS} octets`)
}

function levelOf(event: KmipServerEvent): 'error' | 'warn' | 'info' {
  if (event.event === 'kmip.fault') return 'error'
  return event.event === 'kmip.refused' ? 'warn' : 'info'
}

function hostAndPort(text: string): { readonly host: string; readonly port: number } {
  const [, host, port] = /^\[?([^\]\s]+?)\]?:(\d{1,5})$/.exec(text) ?? []
  if (host === undefined || Number(port) > 65_535) {
    throw new InvalidArgumentError('expected HOST:PORT')
  }
  return { host, port: Number(port) }
}

function versionList(text: string): readonly ProtocolVersion[] {
  return text
    .split(',')
    .map((one) => {
      const [, major, minor] = /^(1\.[0-4]|2\.[01])$/.test(one) ? one.split(/(\d)\.(\d)/) : []
      if (major === undefined) throw new InvalidArgumentError('expected versions from 1.0 to 2.1')
      return { major: Number(major), minor: Number(minor) }
    })
    .sort((a, b) => b.major - a.major || b.minor - a.minor)
}

function logLevel(text: string): LogLevel {
  const level = LOG_LEVELS.find((known) => known === text)
  if (level !== undefined) return level
  throw new InvalidArgumentError(`expected ${LOG_LEVELS.join(', ')}`)
}
