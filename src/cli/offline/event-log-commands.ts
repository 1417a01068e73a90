import type { Command } from 'commander'
import { toHex } from '../../core/bytes.js'
import { initialPcr, parseEventLog, replayEventLog, startupLocality } from '../../eventlog/index.js'
import { outputOf } from '../output-of.js'
import { examples } from '../run.js'
import { readOctets } from './files.js'

const MAX_LOG_OCTETS = 1024 * 1024
const PCRS_OF_A_BOOT = 16

/** `sigillo eventlog …` */
export function addEventLogCommands(program: Command): void {
  const eventLog = program.command('eventlog').description('boot event logs of firmware')
  eventLog
    .command('replay <file>')
    .description('the PCR values that a log leads to, in each of its banks')
    .addHelpText(
      'after',
      examples('sigillo eventlog replay /sys/kernel/security/tpm0/binary_bios_measurements'),
    )
    .action((file: string, _options: unknown, command: Command) => {
      const log = parseEventLog(readOctets(file, MAX_LOG_OCTETS))
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
}
