import { parseArgs } from 'node:util'
import { openTpm } from '../../native/index.js'
import {
  type AttestationKeyKind,
  attestationKeyTemplate,
  type LoadedKey,
  STORAGE_PRIMARY_TEMPLATE,
  type Tpm,
} from '../../src/tpm/index.js'
import { startBareTpm } from '../helpers/bare-swtpm.js'

/**
 * Measures quotes per second, and how memory grows with them, against a software TPM of its own.
 *
 * `npm run bench:tpm -- [--quotes 10000] [--json]`. Resident memory is read after a garbage collection, at one fifth of
 * the quotes (everything is loaded and warm by then) and at their end.
 */
interface Measured {
  readonly key: AttestationKeyKind
  readonly quotes: number
  readonly quotesPerSecond: number
  readonly rssMbAtFifth: number
  readonly rssMbAtEnd: number
  readonly growthMb: number
}

const KEYS: readonly AttestationKeyKind[] = ['ecc-p256', 'rsa-2048']
const QUALIFYING_OCTETS = 32
const PCRS = [0, 1, 2, 3, 4, 5, 6, 7]

async function measure(tpm: Tpm, kind: AttestationKeyKind, quotes: number): Promise<Measured> {
  const parent = await tpm.createPrimary('endorsement', STORAGE_PRIMARY_TEMPLATE)
  const key = await tpm.load(parent, await tpm.create(parent, attestationKeyTemplate(kind)))
  await tpm.flush(parent)
  const fifth = Math.max(1, Math.floor(quotes / 5))
  const firstMs = await quoteTimes(tpm, key, fifth)
  const rssMbAtFifth = residentMb()
  const restMs = await quoteTimes(tpm, key, quotes - fifth)
  const rssMbAtEnd = residentMb()
  await tpm.flush(key)
  return {
    key: kind,
    quotes,
    quotesPerSecond: Math.round((quotes / (firstMs + restMs)) * 1000),
    rssMbAtFifth,
    rssMbAtEnd,
    growthMb: rssMbAtEnd - rssMbAtFifth,
  }
}

/** Milliseconds for so many quotes, one after the other, each with a nonce of its own. */
async function quoteTimes(tpm: Tpm, key: LoadedKey, quotes: number): Promise<number> {
  const started = performance.now()
  for (let index = 0; index < quotes; index += 1) {
    const qualifyingData = new Uint8Array(QUALIFYING_OCTETS)
    new DataView(qualifyingData.buffer).setUint32(0, index)
    await tpm.quote({ key, qualifyingData, bank: 'sha256', pcrs: PCRS })
  }
  return performance.now() - started
}

function residentMb(): number {
  globalThis.gc?.()
  return Math.round(process.memoryUsage.rss() / 1e6)
}

const { values } = parseArgs({
  options: {
    quotes: { type: 'string', default: '10000' },
    json: { type: 'boolean', default: false },
  },
})
const quotes = Number(values.quotes)
if (!Number.isInteger(quotes) || quotes < 2) throw new TypeError('--quotes: a number from 2')

await using software = await startBareTpm()
await using tpm = await openTpm({ tcti: software.tcti })
const results: Measured[] = []
for (const key of KEYS) results.push(await measure(tpm, key, quotes))

if (values.json) {
  process.stdout.write(`${JSON.stringify(results, null, 2)}\n`)
} else {
  for (const { key, quotesPerSecond, rssMbAtFifth, rssMbAtEnd, growthMb } of results) {
    process.stdout.write(
      `${key}: ${quotesPerSecond} quotes/s over ${quotes} quotes; memory ${rssMbAtFifth} MB after ` +
        `${Math.floor(quotes / 5)}, ${rssMbAtEnd} MB at the end, growth ${growthMb} MB\n`,
    )
  }
}
