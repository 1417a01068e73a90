import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import type { TObject, TSchema } from 'typebox'
import type { CallInput } from '../../api/client.js'
import type { Operation } from '../../api/operation.js'
import {
  type SealedService,
  type SealKindName,
  type SealStatus,
  sealOperations,
} from '../../api/seal.js'
import { isPlatformError, messageOf, PlatformError } from '../../core/errors.js'
import { fields, table } from '../output.js'
import { requireYes } from '../require-yes.js'
import { examples } from '../run.js'
import { newSecretFrom, secretFrom } from './ask-secret.js'
import { type Connection, connect, withConnection } from './connection.js'

const SERVICES: readonly SealedService[] = ['attestation', 'key-provider', 'control-plane']
type AnyOperation = Operation<TObject, TObject, TSchema, TSchema>
type Operations = ReturnType<typeof sealOperations>

interface ServiceFlag {
  readonly service?: SealedService
}
interface SecretFlags extends ServiceFlag {
  readonly passphraseFile?: string
  readonly shareFile?: string
  readonly share?: boolean
  readonly automatic?: boolean
}
interface ShareFlags {
  readonly folder?: string
  readonly threshold?: string
  readonly count?: string
  readonly keepOthers?: boolean
}
interface Confirmed {
  readonly yes?: boolean
}

/** `operator`: sealing and unsealing the services, and what their root keys are sealed by. */
export function addOperatorCommands(program: Command): Command {
  const operator = program
    .command('operator')
    .description('seal and unseal services; what their root keys are sealed by')

  forServices(operator.command('status'))
    .description('whether each service is sealed, why, and by which seals it opens')
    .addHelpText(
      'after',
      examples('sigillo operator status', 'sigillo operator status --service key-provider --json'),
    )
    .action(action<ServiceFlag>((each) => each(({ status }) => status, {}), statusOf))

  forServices(operator.command('unseal'))
    .description('unseal services by a passphrase, one share, or the seals that need nobody')
    .option('--passphrase-file <file>', 'file with the passphrase; without it, the terminal asks')
    .option('--share', 'give one share; the terminal asks for it')
    .option('--share-file <file>', 'file with one share')
    .option('--automatic', 'try the seals of the settings again')
    .addHelpText(
      'after',
      examples(
        'sigillo operator unseal',
        'sigillo operator unseal --service key-provider --share-file share-2.txt',
      ),
    )
    .action(
      action<SecretFlags>(async (each, flags) => {
        const body = await unsealBody(flags)
        return each(({ unseal }) => unseal, { body })
      }, statusOf),
    )

  forServices(operator.command('forget-shares'))
    .description('forget the shares that were collected so far')
    .addHelpText(
      'after',
      examples('sigillo operator forget-shares', 'sigillo operator forget-shares --json'),
    )
    .action(action<ServiceFlag>((each) => each(({ forgetShares }) => forgetShares, {}), statusOf))

  forServices(operator.command('seal'))
    .description('drop the keys of services from memory; they answer nothing until unsealed')
    .option('--yes', 'do it without being asked again')
    .addHelpText(
      'after',
      examples('sigillo operator seal --yes', 'sigillo operator seal --service attestation --yes'),
    )
    .action(
      action<ServiceFlag & Confirmed>((each, flags) => {
        requireYes(flags, 'the services answer nothing afterwards')
        return each(({ seal }) => seal, { body: {} })
      }, statusOf),
    )

  forServices(operator.command('rotate-root'))
    .description('replace root keys and their seals; everything is sealed again under the new ones')
    .option('--passphrase-file <file>', 'passphrase of the new seal, if not that of the settings')
    .option('--folder <folder>', 'where new shares are written; else the terminal shows them')
    .option('--yes', 'do it without being asked again')
    .addHelpText(
      'after',
      examples(
        'sigillo operator rotate-root --yes',
        'sigillo operator rotate-root --service key-provider --folder /media/stick --yes',
      ),
    )
    .action(
      action<SecretFlags & ShareFlags & Confirmed>(async (each, flags) => {
        requireYes(flags, 'old shares and old passphrases open nothing afterwards')
        const { passphraseFile: file } = flags
        const body = file === undefined ? {} : { passphrase: await secretFrom(file, 'passphrase') }
        return each(({ rotateRoot }) => rotateRoot, { body })
      }, rotatedOf),
    )

  forServices(operator.command('add-seal <kind>'))
    .description('seal root keys by passphrase, tpm or kmip too; replaces seals of the same kind')
    .option('--passphrase-file <file>', 'file with the new passphrase; else the terminal asks')
    .option('--keep-others', 'keep the seals of the same kind')
    .addHelpText(
      'after',
      examples(
        'sigillo operator add-seal tpm',
        'sigillo operator add-seal passphrase --keep-others --service attestation',
      ),
    )
    .action(
      action<SecretFlags & ShareFlags>(async (each, flags, [given = '']) => {
        const kind = kindOf(given)
        const passphrase =
          kind === 'passphrase'
            ? await newSecretFrom(flags.passphraseFile, 'new passphrase')
            : undefined
        const body = {
          kind,
          keepOthers: flags.keepOthers === true,
          ...(passphrase === undefined ? {} : { passphrase }),
        }
        return each(({ addSeal }) => addSeal, { body })
      }, addedOf),
    )

  forServices(operator.command('init-shares'))
    .description('seal root keys by shares of several holders; replaces the shares that there were')
    .option('--threshold <number>', 'shares that open the root key', '3')
    .option('--count <number>', 'shares that are made', '5')
    .option(
      '--folder <folder>',
      'where they are written, one file each; else the terminal shows them',
    )
    .addHelpText(
      'after',
      examples(
        'sigillo operator init-shares --folder /media/stick',
        'sigillo operator init-shares --service key-provider --threshold 2 --count 3',
      ),
    )
    .action(
      action<ServiceFlag & ShareFlags>((each, { threshold, count }) => {
        const body = {
          kind: 'shares' as const,
          threshold: Number(threshold),
          count: Number(count),
        }
        return each(({ addSeal }) => addSeal, { body })
      }, addedOf),
    )

  forServices(operator.command('remove-seal <id>'))
    .description('remove a seal from the root key of a service; not the last one')
    .option('--yes', 'do it without being asked again')
    .addHelpText(
      'after',
      examples(
        'sigillo operator remove-seal 5f0c2e9a-… --service attestation --yes',
        'sigillo operator remove-seal attestation-passphrase --service attestation --yes',
      ),
    )
    .action(
      action<ServiceFlag & Confirmed>((each, flags, [sealId = '']) => {
        requireYes(flags, 'the seal cannot be brought back')
        return each(({ removeSeal }) => removeSeal, { params: { sealId } })
      }, statusOf),
    )
  return operator
}

function forServices(command: Command): Command {
  return withConnection(command).option(
    '--service <name>',
    'one of attestation, key-provider, control-plane; else all that the authority has',
  )
}

/** Calls one operation for each service that is meant and there; fails where none is. */
type Each = <O extends AnyOperation>(
  operationOf: (operations: Operations) => O,
  input: CallInput<O>,
) => Promise<readonly Answered[]>

interface Answered {
  readonly service: SealedService
  readonly answer: unknown
}

function action<F extends ServiceFlag>(
  call: (each: Each, flags: F, args: readonly string[]) => Promise<readonly Answered[]>,
  text: (answered: Answered, flags: F & ShareFlags) => readonly string[],
) {
  return async (...parameters: unknown[]): Promise<void> => {
    const command = parameters.at(-1) as Command
    const args = parameters.slice(0, -2).flat() as string[]
    const flags = command.opts<F & ShareFlags>()
    await using connection = connect(command)
    const each: Each = (operationOf, input) =>
      callEach(connection, servicesOf(flags.service), operationOf, input)
    const answers = await call(each, flags, args)
    const data = answers.map(({ answer }) => answer)
    connection.output.data(data, () => answers.flatMap((one) => text(one, flags)))
  }
}

async function callEach<O extends AnyOperation>(
  { client, output }: Connection,
  services: readonly SealedService[],
  operationOf: (operations: Operations) => O,
  input: CallInput<O>,
): Promise<readonly Answered[]> {
  const answers: Answered[] = []
  let absent: unknown
  for (const service of services) {
    try {
      answers.push({
        service,
        answer: await client.call(operationOf(sealOperations(service)), input),
      })
    } catch (error) {
      // a service that this authority does not have, unless it was asked for by name
      if (!isPlatformError(error, 'NOT_FOUND') || services.length === 1) {
        for (const { service: done } of answers) output.note(`${done}: done`)
        throw error
      }
      absent = error
    }
  }
  if (answers.length === 0) throw absent
  return answers
}

function servicesOf(service: SealedService | undefined): readonly SealedService[] {
  if (service === undefined) return SERVICES
  if (SERVICES.includes(service)) return [service]
  throw new PlatformError('REQUEST_INVALID', `expected ${SERVICES.join(', ')}, found ${service}`)
}

async function unsealBody(
  flags: SecretFlags,
): Promise<{ readonly passphrase?: string; readonly share?: string }> {
  if (flags.automatic) return {}
  if (flags.share || flags.shareFile !== undefined) {
    if (flags.service === undefined) {
      throw new PlatformError('REQUEST_INVALID', 'expected --service: a share is of one service')
    }
    return { share: await secretFrom(flags.shareFile, 'share') }
  }
  return { passphrase: await secretFrom(flags.passphraseFile, 'passphrase') }
}

function kindOf(kind: string): SealKindName {
  if (kind === 'passphrase' || kind === 'tpm' || kind === 'kmip') return kind
  throw new PlatformError('REQUEST_INVALID', `expected passphrase, tpm or kmip, found ${kind}`)
}

function statusOf({ answer }: Answered): readonly string[] {
  const { service, state, generation, reason, shares, nextTryAt, seals } = answer as SealStatus
  return [
    ...fields([
      ['service', service],
      ['state', state],
      ['root key', generation === undefined ? 'none yet' : `generation ${generation}`],
      ['because', reason && `${reason.message} (${reason.code})`],
      ['shares', shares && `${shares.given} of ${shares.threshold}, set ${shares.setId}`],
      ['next try', nextTryAt],
    ]),
    ...table(seals.map((seal) => ['  seal', seal.kind, seal.sealId, seal.createdAt, seal.detail])),
    '',
  ]
}

function rotatedOf({ service, answer }: Answered, { folder }: ShareFlags): readonly string[] {
  const { status, resealed, shares } = answer as {
    readonly status: SealStatus
    readonly resealed: number
    readonly shares?: readonly string[]
  }
  return [
    `${service}: root key of generation ${status.generation}, ${resealed} records sealed again`,
    ...sharesOf(service, shares, folder),
  ]
}

function addedOf({ service, answer }: Answered, { folder }: ShareFlags): readonly string[] {
  const { sealId, shares } = answer as { readonly sealId: string; readonly shares?: string[] }
  return [`${service}: sealed by ${sealId}`, ...sharesOf(service, shares, folder)]
}

/** Shares as lines, or in files of their own that are for the owner alone. */
function sharesOf(
  service: string,
  shares: readonly string[] = [],
  folder: string | undefined,
): readonly string[] {
  return shares.map((share, at) => {
    if (folder === undefined) return `  share ${at + 1}: ${share}`
    const file = join(folder, `${service}-share-${at + 1}.txt`)
    try {
      writeFileSync(file, `${share}\n`, { mode: 0o600, flag: 'wx' })
    } catch (cause) {
      // shown after all: nobody can ask for it again
      return `  share ${at + 1} (${messageOf(cause)}): ${share}`
    }
    return `  share ${at + 1}: ${file}`
  })
}
