import type { Command } from 'commander'
import type { AnswerOf } from '../../api/operation.js'
import {
  type AccountKind,
  createAccountToken,
  createServiceAccount,
  createUser,
  deleteAccount,
  listAccounts,
  listAccountTokens,
  listOperators,
  revokeAccountToken,
  revokeOperator,
  setAccountState,
  setUserPassword,
} from '../../api/people.js'
import { table } from '../output.js'
import { integer } from '../values.js'
import { newSecretFrom } from './ask-secret.js'
import { addOperation } from './command.js'

interface PasswordFlags {
  readonly passwordFile?: string
}

/** `user` and `service-account`: who there is; `operator list` and `operator revoke`. */
export function addPeopleCommands(program: Command, operator: Command): void {
  const user = program.command('user').description('people who log in by name and password')
  const withPassword = (command: Command) =>
    command.option('--password-file <file>', 'file with the password; else the terminal asks')
  addOperation<typeof createUser, PasswordFlags>(user, {
    usage: 'create <name>',
    operation: createUser,
    configure: withPassword,
    input: async ([name = ''], { passwordFile }) => ({
      body: { name, password: await newSecretFrom(passwordFile, 'password') },
    }),
    text: accountLines,
    examples: ['sigillo user create anna', 'sigillo user create anna --password-file pw --json'],
  })
  addOperation<typeof setUserPassword, PasswordFlags>(user, {
    usage: 'set-password <name>',
    operation: setUserPassword,
    configure: withPassword,
    input: async ([name = ''], { passwordFile }) => ({
      params: { name },
      body: { password: await newSecretFrom(passwordFile, 'password') },
    }),
    text: accountLines,
    examples: [
      'sigillo user set-password anna',
      'sigillo user set-password anna --password-file pw --json',
    ],
  })
  addAccountCommands(user, 'user', 'anna')

  const account = program
    .command('service-account')
    .description('accounts of programs, which have tokens')
  addOperation(account, {
    usage: 'create <name>',
    operation: createServiceAccount,
    input: ([name = '']) => ({ body: { name } }),
    text: accountLines,
    examples: ['sigillo service-account create ci', 'sigillo service-account create ci --json'],
  })
  addOperation<typeof createAccountToken, { readonly note?: string; readonly days?: number }>(
    account,
    {
      usage: 'create-token <name>',
      operation: createAccountToken,
      configure: (command) =>
        command
          .option('--note <text>', 'what the token is for')
          .option('--days <n>', 'when it ends (default: 90)', integer),
      input: ([name = ''], { note = '', days = 90 }) => ({
        params: { name },
        body: { note, ttlSeconds: days * 86_400 },
      }),
      text: ({ token }) => [token],
      examples: [
        'sigillo service-account create-token ci --note nightly --days 30 > ci.token',
        'sigillo service-account create-token ci --json',
      ],
    },
  )
  addAccountCommands(account, 'service-account', 'ci')

  addOperation(operator, {
    usage: 'list',
    operation: listOperators,
    list: 'operators',
    input: () => ({ query: {} }),
    text: ({ operators }) =>
      table([
        ['OPERATOR', 'ROLE', 'SERVICES', 'STATE', 'MADE'],
        ...operators.map((o) => [o.name, o.role, o.services.join(','), o.state, o.createdAt]),
      ]),
    examples: ['sigillo operator list', 'sigillo operator list --json'],
  })
  addOperation(operator, {
    usage: 'revoke <name>',
    operation: revokeOperator,
    input: ([name = '']) => ({ params: { name } }),
    text: () => ['operator revoked'],
    destroys: ([name = '']) => `the token of operator ${name} ends for good`,
    examples: ['sigillo operator revoke admin --yes', 'sigillo operator revoke admin --yes --json'],
  })
}

/** What is the same for users and service accounts. */
function addAccountCommands(parent: Command, kind: AccountKind, example: string): void {
  const params = ([name = '']: readonly string[]) => ({ kind, name })
  const command = `sigillo ${kind}`
  addOperation(parent, {
    usage: 'list',
    operation: listAccounts,
    list: 'accounts',
    input: () => ({ query: { kind } }),
    text: ({ accounts }) =>
      table([
        ['NAME', 'STATE', 'MADE', 'BY'],
        ...accounts.map((one) => [one.name, one.state, one.createdAt, one.createdBy]),
      ]),
    examples: [`${command} list`, `${command} list --json`],
  })
  for (const [verb, state] of [
    ['disable', 'disabled'],
    ['enable', 'active'],
  ] as const) {
    addOperation(parent, {
      usage: `${verb} <name>`,
      operation: setAccountState,
      input: (args) => ({ params: params(args), body: { state } }),
      text: accountLines,
      examples: [`${command} ${verb} ${example}`, `${command} ${verb} ${example} --json`],
    })
  }
  addOperation(parent, {
    usage: 'delete <name>',
    operation: deleteAccount,
    input: (args) => ({ params: params(args) }),
    text: () => [`${kind} deleted`],
    destroys: ([name = '']) => `${kind} ${name} goes with its tokens and permissions`,
    examples: [`${command} delete ${example} --yes`, `${command} delete ${example} --yes --json`],
  })
  addOperation(parent, {
    usage: 'tokens <name>',
    operation: listAccountTokens,
    list: 'tokens',
    input: (args) => ({ params: params(args) }),
    text: ({ tokens }) =>
      table([
        ['TOKEN', 'FOR', 'MADE', 'ENDS'],
        ...tokens.map((t) => [t.tokenId, t.note, t.createdAt, t.expiresAt]),
      ]),
    examples: [`${command} tokens ${example}`, `${command} tokens ${example} --json`],
  })
  addOperation(parent, {
    usage: 'revoke-token <name> <id>',
    operation: revokeAccountToken,
    input: ([name = '', tokenId = '']) => ({ params: { kind, name, tokenId } }),
    text: () => ['token revoked'],
    examples: [
      `${command} revoke-token ${example} 5f0c2e9a-…`,
      `${command} revoke-token ${example} 5f0c2e9a-… --json`,
    ],
  })
}

function accountLines({ kind, name, state }: AnswerOf<typeof createUser>): readonly string[] {
  return [`${kind} ${name}: ${state}`]
}
