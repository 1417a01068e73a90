import type { Command } from 'commander'
import {
  createStandardProvider,
  setStandardKeyServers,
  testStandardProvider,
} from '../../api/host-keys.js'
import type { KeyServersInput } from '../../api/key-servers.js'
import { PlatformError } from '../../core/errors.js'
import { addOperation } from './command.js'
import { addHostKeyCommands, hostKeyProviderLines, withClusters } from './host-keys.js'
import {
  type KeyServerOptions,
  keyServersOf,
  testLines,
  withKeyServers,
} from './key-server-options.js'

interface CreateOptions extends KeyServerOptions {
  readonly cluster?: readonly string[]
  readonly tpm?: boolean
  readonly force?: boolean
}

/** Standard key providers: a key for each VM from key servers, passed to the hosts of its cluster. */
export function addStandardCommands(program: Command): void {
  const standard = program
    .command('standard')
    .description('standard key providers: keys of key servers, passed to hosts')

  addOperation<typeof createStandardProvider, CreateOptions>(standard, {
    usage: 'create <name>',
    operation: createStandardProvider,
    configure: (command) =>
      withForce(withKeyServers(withClusters(command))).option(
        '--tpm',
        'seal keys to the TPM of each host, and give them to no other',
      ),
    input: ([name = ''], { cluster = [], tpm, force, ...servers }) => ({
      body: {
        name,
        clusters: [...cluster],
        tpmRequired: tpm === true,
        keyServers: requireServers(servers),
        ...(force ? { force } : {}),
      },
    }),
    text: hostKeyProviderLines,
    examples: [
      'sigillo standard create depot --cluster lab --server kms.example --kms-ca kms-ca.pem --client-certificate c.pem --client-key c.key',
      'sigillo standard create depot --cluster lab --server a.example --server b.example --kms-ca ca.pem --client-certificate c.pem --client-key c.key --json',
    ],
  })

  addOperation<typeof setStandardKeyServers, KeyServerOptions & { readonly force?: boolean }>(
    standard,
    {
      usage: 'key-servers <name>',
      operation: setStandardKeyServers,
      configure: (command) => withForce(withKeyServers(command)),
      input: ([provider = ''], { force, ...servers }) => ({
        params: { provider },
        body: { keyServers: requireServers(servers), ...(force ? { force } : {}) },
      }),
      text: hostKeyProviderLines,
      examples: [
        'sigillo standard key-servers depot --server new.example --kms-ca ca.pem --client-certificate c.pem',
        'sigillo standard key-servers depot --server new.example --kms-ca ca.pem --client-certificate c.pem --client-key c.key --json',
      ],
    },
  )

  addOperation(standard, {
    usage: 'test <name>',
    operation: testStandardProvider,
    input: ([provider = '']) => ({ params: { provider }, body: {} }),
    text: testLines,
    refused: ({ verdict }) => verdict !== 'passed',
    examples: ['sigillo standard test depot', 'sigillo standard test depot --json'],
  })
  addHostKeyCommands(standard, 'standard', 'depot')
}

function withForce(command: Command): Command {
  return command.option('--force', 'save although a server does not answer; nothing else')
}

function requireServers(options: KeyServerOptions): KeyServersInput {
  const servers = keyServersOf(options)
  if (servers) return servers
  throw new PlatformError('REQUEST_INVALID', 'expected --server')
}
