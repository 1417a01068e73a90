import type { Command } from 'commander'
import { toHex } from '../../core/bytes.js'
import {
  describeBoot,
  describeEvent,
  type EventLog,
  eventLine,
  imageHashesOf,
  initialPcr,
  parseDbxFile,
  parseEventLog,
  replayEventLog,
  startupLocality,
} from '../../eventlog/index.js'
import type { HashName } from '../../tpm/index.js'
import { outputOf } from '../output-of.js'
import { examples } from '../run.js'
import { bank } from '../values.js'
import { naming, readOctets } from './files.js'

const MAX_LOG_OCTETS = 1024 * 1024
const PCRS_OF_A_BOOT = 16

/** `sigillo eventlog …` */
export function addEventLogCommands(program: Command): void {
  const eventLog = program.command('eventlog').description('boot event logs of firmware')
  eventLog
    .command('show <file>')
    .description('every event: its type, what its data say, and how far its digest proves them')
    .option(
      '--bank <name>',
      'bank whose digests are shown (default: the strongest of the log)',
      bank,
    )
    .addHelpText(
      'after',
      `\nIn brackets: data (the digest is of the data), part (of a named part), described (the data only describe what was\nmeasured), none (nothing was measured), mismatch (the digest should be of the data and is not).\n${examples(
        'sigillo eventlog show /sys/kernel/security/tpm0/binary_bios_measurements',
        'sigillo eventlog show boot.log --json',
      )}`,
    )
    .action((file: string, options: { bank?: HashName }, command: Command) => {
      const log = readLog(file)
      const shown = options.bank ?? strongest(log.banks)
      const { format, banks, quirks } = log
      const boot = describeBoot(log, shown)
      outputOf(command).data(
        {
          ...{ format, banks, quirks },
          boot: {
            ...boot,
            bootApplications: boot.bootApplications.map((application) => ({
              ...application,
              digests: Object.fromEntries(
                [...application.digests].map(([name, digest]) => [name, toHex(digest)]),
              ),
            })),
          },
          events: log.events.map((event) => describeEvent(event, shown)),
        },
        () => log.events.map((event) => eventLine(event, shown)),
      )
    })
  eventLog
    .command('replay <file>')
    .description('the PCR values that a log leads to, in each of its banks')
    .addHelpText(
      'after',
      examples('sigillo eventlog replay /sys/kernel/security/tpm0/binary_bios_measurements'),
    )
    .action((file: string, _options: unknown, command: Command) => {
      const log = readLog(file)
      const locality = startupLocality(log)
      const banks = log.banks.map((bank) => {
        const values = replayEventLog(log, bank)
        const pcrs = [...new Set([...Array(PCRS_OF_A_BOOT).keys(), ...values.keys()])]
        return {
          bank,
          pcrs: pcrs
            .sort((a, b) => a - b)
            .map((pcr) => ({
              pcr,
              digest: toHex(values.get(pcr) ?? initialPcr(pcr, bank, locality)),
              extended: values.has(pcr),
            })),
        }
      })
      const data = { format: log.format, startupLocality: locality, quirks: log.quirks, banks }
      outputOf(command).data(data, () =>
        banks.flatMap(({ bank, pcrs }) => [
          `${bank}:`,
          ...pcrs
            .filter(({ extended }) => extended)
            .map(({ pcr, digest }) => `  ${String(pcr).padStart(2)}: ${digest}`),
        ]),
      )
    })
  addDbxCommand(eventLog)
}

function readLog(file: string): EventLog {
  const octets = readOctets(file, MAX_LOG_OCTETS)
  return naming(file, () => parseEventLog(octets))
}

/** Hashes of a file of forbidden signatures, for the rule `dbxAtLeast` of a policy. */
function addDbxCommand(eventLog: Command): void {
  eventLog
    .command('dbx <file>')
    .description('hashes of forbidden images, from an update of dbx or from its variable')
    .addHelpText(
      'after',
      `\nFor the rule dbxAtLeast of a policy. Not checked: who signed an update.\n${examples(
        'sigillo eventlog dbx DBXUpdate.bin --json > dbx.json',
        'sigillo eventlog dbx /sys/firmware/efi/efivars/dbx-d719b2cb-3d3a-4596-a3bc-dad00e67656f',
      )}`,
    )
    .action((file: string, _options: unknown, command: Command) => {
      const octets = readOctets(file, MAX_LOG_OCTETS)
      const hashes = naming(file, () => imageHashesOf(parseDbxFile(octets)))
      outputOf(command).data(hashes, () => hashes)
    })
}

const BY_STRENGTH: readonly HashName[] = ['sha512', 'sha384', 'sha256', 'sha1']

function strongest(banks: readonly HashName[]): HashName {
  return BY_STRENGTH.find((name) => banks.includes(name)) ?? 'sha1'
}
