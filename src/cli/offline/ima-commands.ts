import type { Command } from 'commander'
import { toHex } from '../../core/bytes.js'
import { extendIma, hasOwnHash, IMA_LIMITS, readImaList, startOfIma } from '../../ima/index.js'
import { fields } from '../output.js'
import { outputOf } from '../output-of.js'
import { examples } from '../run.js'
import { naming, readOctets } from './files.js'

const BANKS = ['sha1', 'sha256', 'sha384', 'sha512'] as const
const EXTENSIONS = ['own-digest', 'padded-sha1'] as const

/** `sigillo ima …` */
export function addImaCommands(program: Command): void {
  const ima = program.command('ima').description('measurement lists of the Linux kernel')
  ima
    .command('replay <file>')
    .description('the value of PCR 10 that a list leads to, in each bank; text or binary list')
    .addHelpText(
      'after',
      `\nKernels before 5.8 extend other banks by the SHA-1 digest with zeros after it: that value is shown too.\n${examples(
        'sigillo ima replay /sys/kernel/security/ima/ascii_runtime_measurements',
        'sigillo ima replay list.bin --json',
      )}`,
    )
    .action((file: string, _options: unknown, command: Command) => {
      const list = readOctets(file, IMA_LIMITS.maxOctets)
      const runs = BANKS.flatMap((bank) =>
        EXTENSIONS.filter((extension) => bank !== 'sha1' || extension === 'own-digest').map(
          (extension) => ({ bank, extension, progress: startOfIma(bank) }),
        ),
      )
      let [entries, violations, foreign] = [0, 0, 0]
      naming(file, () => {
        for (const entry of readImaList(list)) {
          entries += 1
          if (entry.violation) violations += 1
          if (!hasOwnHash(entry)) foreign += 1
          for (const run of runs) run.progress = extendIma(run.progress, entry, run.extension)
        }
      })
      const values = runs.map(({ bank, extension, progress }) => ({
        bank,
        extension,
        digest: toHex(progress.value),
      }))
      const data = { entries, violations, templateHashesOfOtherData: foreign, pcr10: values }
      outputOf(command).data(data, () => [
        ...fields([
          ['entries', String(entries)],
          ['violations', String(violations)],
          ['hashes of other data', foreign === 0 ? undefined : String(foreign)],
        ]),
        ...values.map(
          ({ bank, extension, digest }) =>
            `${bank}: ${digest}${extension === 'padded-sha1' ? '  (SHA-1 with zeros)' : ''}`,
        ),
      ])
    })
}
