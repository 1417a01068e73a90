import type { Command } from 'commander'
import {
  introspectToken,
  listSigningKeys,
  revokeToken,
  rotateSigningKey,
} from '../../api/tokens.js'
import { PlatformError } from '../../core/errors.js'
import { readSecretFile } from '../../core/secret-file.js'
import { fields, sortedBy, table } from '../output.js'
import { addOperation } from './command.js'

type Algorithm = 'ES256' | 'ES384' | 'EdDSA'

export function addTokenCommands(program: Command): void {
  const token = program.command('token').description('tokens, and the keys that sign them')

  addOperation(token, {
    usage: 'introspect <file>',
    operation: introspectToken,
    input: ([file = '']) => ({ body: { token: readToken(file) } }),
    text: ({ active, code, reason, claims }) => [
      ...fields([
        ['active', active ? 'yes' : 'no'],
        ['because', reason && `${reason} (${code})`],
      ]),
      ...(claims ? [JSON.stringify(claims, null, 2)] : []),
    ],
    examples: ['sigillo token introspect token.jwt', 'sigillo token introspect token.jwt --json'],
  })

  addOperation<typeof revokeToken, { readonly reason: string }>(token, {
    usage: 'revoke <id>',
    operation: revokeToken,
    configure: (command) => command.requiredOption('--reason <text>', 'why, for the audit'),
    input: ([tokenId = ''], { reason }) => ({ params: { tokenId }, body: { reason } }),
    text: () => ['revoked'],
    destroys: ([tokenId]) => `this ends token ${tokenId}`,
    examples: [
      'sigillo token revoke 5f0c2e9a-… --reason "leaked" --yes',
      'sigillo token revoke "$(sigillo host show host-a --json | jq -r .lastVerdict.tokenId)" --reason test --yes',
    ],
  })

  addOperation(token, {
    usage: 'keys',
    operation: listSigningKeys,
    list: 'keys',
    input: () => ({ query: {} }),
    text: ({ keys }) =>
      table([
        ['KEY', 'ALGORITHM', 'MADE', 'RETIRED'],
        ...sortedBy(keys, ({ createdAt }) => createdAt).map((key) => [
          key.kid,
          key.algorithm,
          key.createdAt,
          key.retiredAt ?? '-',
        ]),
      ]),
    examples: ['sigillo token keys', 'sigillo token keys --json'],
  })

  addOperation<typeof rotateSigningKey, { readonly algorithm?: string }>(token, {
    usage: 'rotate-key',
    operation: rotateSigningKey,
    configure: (command) =>
      command.option('--algorithm <name>', 'ES256, ES384 or EdDSA (default: ES256)'),
    input: (_, { algorithm }) => ({
      body: algorithm === undefined ? {} : { algorithm: algorithm as Algorithm },
    }),
    text: ({ kid, algorithm }) => [`tokens are signed with ${kid} (${algorithm}) from now on`],
    examples: ['sigillo token rotate-key', 'sigillo token rotate-key --algorithm EdDSA'],
  })
}

function readToken(file: string): string {
  using secret = readSecretFile(file)
  const text = secret.use((octets) => Buffer.from(octets).toString('utf8')).trim()
  if (text !== '') return text
  throw new PlatformError('CONFIG_UNREADABLE', `expected a token in ${file}, found nothing`)
}
