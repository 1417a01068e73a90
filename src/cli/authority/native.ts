import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Command } from 'commander'
import {
  backupNativeProvider,
  confirmBackup,
  createNativeProvider,
  restoreNativeProvider,
  rotateNativeProvider,
} from '../../api/host-keys.js'
import { fromBase64url, toBase64url, toHex } from '../../core/bytes.js'
import { digestOf } from '../../core/digest.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import { readOctets } from '../offline/files.js'
import { examples } from '../run.js'
import { integer } from '../values.js'
import { newSecretFrom, secretFrom } from './ask-secret.js'
import { addOperation } from './command.js'
import { connect, withConnection } from './connection.js'
import { addHostKeyCommands, hostKeyProviderLines, withClusters } from './host-keys.js'

const MAX_BACKUP_OCTETS = 256 * 1024

interface CreateOptions {
  readonly cluster?: readonly string[]
  readonly tpm?: boolean
  readonly backupMaxAge?: number
}

/** Native key providers: a key of the site itself, on every host of its clusters. */
export function addNativeCommands(program: Command): void {
  const native = program
    .command('native')
    .description('native key providers: a key of the site, delivered to its hosts')

  addOperation<typeof createNativeProvider, CreateOptions>(native, {
    usage: 'create <name>',
    operation: createNativeProvider,
    configure: (command) =>
      withClusters(command)
        .option('--tpm', 'seal the key to the TPM of each host, and give it to no other')
        .option('--backup-max-age <days>', 'warn when the backup is older (default: 90)', integer),
    input: ([name = ''], { cluster = [], tpm, backupMaxAge }) => ({
      body: {
        name,
        clusters: [...cluster],
        tpmRequired: tpm === true,
        ...(backupMaxAge === undefined ? {} : { backupMaxAgeDays: backupMaxAge }),
      },
    }),
    text: hostKeyProviderLines,
    examples: [
      'sigillo native create silver --cluster lab',
      'sigillo native create vault --cluster prod --tpm --backup-max-age 30 --json',
    ],
  })
  addOperation(native, {
    usage: 'rotate <name>',
    operation: rotateNativeProvider,
    input: ([provider = '']) => ({ params: { provider }, body: {} }),
    text: hostKeyProviderLines,
    examples: ['sigillo native rotate silver', 'sigillo native rotate silver --json'],
  })
  addBackup(native)
  addRestore(native)
  addHostKeyCommands(native, 'native', 'silver')
}

interface BackupOptions {
  readonly out: string
  readonly passphraseFile?: string
}

function addBackup(native: Command): void {
  withConnection(native.command('backup <name>'))
    .description('write the keys of a provider to a file under a passphrase; they may be used then')
    .requiredOption('--out <file>', 'new file for the backup, PKCS#12')
    .option('--passphrase-file <file>', 'file with the passphrase; without it, the terminal asks')
    .addHelpText(
      'after',
      examples(
        'sigillo native backup silver --out silver.p12',
        'sigillo native backup silver --out silver.p12 --passphrase-file pass --json',
      ),
    )
    .action(async (provider: string, { out, passphraseFile }: BackupOptions, command: Command) => {
      await using connection = connect(command)
      const { client, output } = connection
      const params = { provider }
      const passphrase = await newSecretFrom(passphraseFile, 'passphrase of the backup')
      const backup = await client.call(backupNativeProvider, { params, body: { passphrase } })
      writeNewFile(out, fromBase64url(backup.file))
      // What counts is what is on the disk
      const digest = toHex(digestOf('sha256', readOctets(out, MAX_BACKUP_OCTETS)))
      const view = await client.call(confirmBackup, { params, body: { digest } })
      output.data({ file: out, digest, provider: view }, () => [
        `backup written to ${out} (SHA-256 ${digest})`,
        ...hostKeyProviderLines(view),
      ])
    })
}

interface RestoreOptions {
  readonly cluster?: readonly string[]
  readonly name?: string
  readonly passphraseFile?: string
}

function addRestore(native: Command): void {
  withClusters(withConnection(native.command('restore <file>')))
    .description('make the provider of a backup again: same identity, same keys')
    .option('--name <name>', 'another name than it had')
    .option('--passphrase-file <file>', 'file with the passphrase; without it, the terminal asks')
    .addHelpText(
      'after',
      examples(
        'sigillo native restore silver.p12 --cluster lab',
        'sigillo native restore silver.p12 --cluster lab --passphrase-file pass --json',
      ),
    )
    .action(async (file: string, options: RestoreOptions, command: Command) => {
      const { cluster = [], name, passphraseFile } = options
      const octets = readOctets(file, MAX_BACKUP_OCTETS)
      await using connection = connect(command)
      const passphrase = await secretFrom(passphraseFile, 'passphrase of the backup')
      const view = await connection.client.call(restoreNativeProvider, {
        body: {
          file: toBase64url(octets),
          passphrase,
          clusters: [...cluster],
          ...(name === undefined ? {} : { name }),
        },
      })
      connection.output.data(view, () => hostKeyProviderLines(view))
    })
}

/** For the owner alone, and on the disk with its name before this returns. Never in the place of another file. */
function writeNewFile(file: string, octets: Uint8Array): void {
  try {
    const descriptor = openSync(file, 'wx', 0o600)
    try {
      writeSync(descriptor, octets)
      fsyncSync(descriptor)
    } finally {
      closeSync(descriptor)
    }
    const folder = openSync(dirname(file), 'r')
    try {
      fsyncSync(folder)
    } finally {
      closeSync(folder)
    }
  } catch (cause) {
    const isThere = (cause as NodeJS.ErrnoException).code === 'EEXIST'
    throw isThere
      ? new PlatformError('CONFLICT', `expected a new file, found ${file}`, { cause })
      : new PlatformError('CONFIG_UNREADABLE', `cannot write ${file}: ${messageOf(cause)}`, {
          cause,
        })
  }
}
