import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** This folder, also where benchmarks are compiled to another. */
const here = dirname(fileURLToPath(import.meta.url)).replace('/dist/bench/', '/')
const MEASURED_BOOT = join(here, '../vectors/measured-boot')

/** The variants of `measured-boot` that have a quote: all of them. */
export const MEASURED_BOOT_VARIANTS = readdirSync(MEASURED_BOOT).filter((name) =>
  /^\d\d-/.test(name),
)

/** The nonce of every quote in `measured-boot`. */
export const MEASURED_BOOT_NONCE =
  '00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'

/** A file of `measured-boot`: real boots of OVMF under QEMU with swtpm. See MANIFEST.md there. */
export function measuredBoot(variant: string, file: string): Uint8Array {
  return new Uint8Array(readFileSync(join(MEASURED_BOOT, variant, file)))
}

/** PCR 0 to 23 of a variant, bank SHA-256. */
export function measuredPcrs(variant: string): ReadonlyMap<number, Uint8Array> {
  const all = measuredBoot(variant, 'pcrs.sha256.bin')
  return new Map(
    Array.from({ length: 24 }, (_, pcr) => [pcr, all.subarray(pcr * 32, (pcr + 1) * 32)]),
  )
}

/**
 * A folder of test data of other projects: `../shared/vectors/<name>` or below `$SIGILLO_VECTORS`. Not part of this
 * repository; nothing where it is absent.
 */
export function sharedVectors(name: string): string | undefined {
  const folder = join(process.env['SIGILLO_VECTORS'] ?? join(here, '../../../shared/vectors'), name)
  return existsSync(folder) ? folder : undefined
}

/** Says in one line how many cases are skipped where shared vectors are absent. */
export function saySkipped(name: string, cases: number): void {
  process.stderr.write(
    `skipped: ${cases} cases of the shared vectors ${name}, which are not here\n`,
  )
}
