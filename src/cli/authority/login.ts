import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Command } from 'commander'
import { getMe, login, logout, setOwnPassword } from '../../api/people.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import { fields, table } from '../output.js'
import { examples } from '../run.js'
import { newSecretFrom, secretFrom } from './ask-secret.js'
import { addOperation } from './command.js'
import { connect, connectUnknown, withConnection } from './connection.js'
import { scopeText } from './scope-option.js'

interface PasswordFlags {
  readonly passwordFile?: string
  readonly newPasswordFile?: string
}

/** `login`, `logout`, `whoami` and `password`: oneself. */
export function addLoginCommands(program: Command): void {
  withConnection(program.command('login <name>'))
    .description('log in as a user: the token is kept in a file for the commands that follow')
    .option('--password-file <file>', 'file with the password; else the terminal asks')
    .addHelpText(
      'after',
      examples(
        'sigillo login anna',
        'sigillo login anna --password-file pw --token-file anna.token',
      ),
    )
    .action(async (name: string, flags: PasswordFlags, command: Command) => {
      const password = await secretFrom(flags.passwordFile, 'password')
      await using connection = connectUnknown(command)
      const body = { name, password }
      const { token, expiresAt } = await connection.client.call(login, { body })
      const file = connection.loginFile
      if (file === undefined) {
        throw new PlatformError('CONFIG_INVALID', 'expected --token-file, or a home folder')
      }
      writeToken(file, token)
      connection.output.data({ name, tokenFile: file, expiresAt }, () => [
        `logged in as ${name} until ${expiresAt}`,
        `token: ${file}`,
      ])
    })

  withConnection(program.command('logout'))
    .description('end the token of the login, and remove its file')
    .addHelpText('after', examples('sigillo logout', 'sigillo logout --token-file anna.token'))
    .action(async (_flags: unknown, command: Command) => {
      await using connection = connect(command)
      const { tokenFile } = connection
      try {
        await connection.client.call(logout, {})
      } catch (error) {
        // it has ended by itself: what is left is its file
        if (!isPlatformError(error, 'UNAUTHENTICATED')) throw error
      }
      rmSync(tokenFile, { force: true })
      connection.output.data({ tokenFile }, () => ['logged out'])
    })

  addOperation(program, {
    usage: 'whoami',
    operation: getMe,
    input: () => ({}),
    text: ({ kind, name, groups, permissions }) => [
      ...fields([
        ['who', `${kind} ${name}`],
        ['groups', groups.length === 0 ? undefined : groups.join(', ')],
      ]),
      ...table([
        ['ROLE', 'ON', 'PRIVILEGES'],
        ...permissions.map((p) => [p.role, scopeText(p.scope), String(p.privileges.length)]),
      ]),
    ],
    examples: ['sigillo whoami', 'sigillo whoami --json'],
  })

  addOperation<typeof setOwnPassword, PasswordFlags>(program, {
    usage: 'password',
    operation: setOwnPassword,
    configure: (command) =>
      command
        .option('--password-file <file>', 'file with the password of now; else the terminal asks')
        .option('--new-password-file <file>', 'file with the new one; else the terminal asks'),
    input: async (_, { passwordFile, newPasswordFile }) => ({
      body: {
        current: await secretFrom(passwordFile, 'password'),
        next: await newSecretFrom(newPasswordFile, 'new password'),
      },
    }),
    text: () => ['password changed; log in anew'],
    examples: ['sigillo password', 'sigillo password --password-file old --new-password-file new'],
  })
}

/** Written beside its place and renamed: a token is never there in part, nor for others to read. */
function writeToken(file: string, token: string): void {
  const fresh = `${file}.new`
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
    rmSync(fresh, { force: true })
    writeFileSync(fresh, `${token}\n`, { mode: 0o600, flag: 'wx' })
    renameSync(fresh, file)
  } catch (cause) {
    throw new PlatformError('CONFIG_UNREADABLE', `cannot write ${file}: ${messageOf(cause)}`, {
      cause,
    })
  }
}
