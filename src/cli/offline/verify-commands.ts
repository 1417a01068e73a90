import type { Command } from 'commander'
import { EvidenceBundle } from '../../api/hosts.js'
import { policyDigest, verifyBundle } from '../../appraisal/index.js'
import { parseUtf8, toHex } from '../../core/bytes.js'
import { DecodeError } from '../../core/errors.js'
import { misfitOf } from '../../core/schema-errors.js'
import { parseStrictJson } from '../../core/strict-json.js'
import { IMA_LIMITS } from '../../ima/index.js'
import { fields } from '../output.js'
import { outputOf } from '../output-of.js'
import { examples } from '../run.js'
import { naming, readOctets } from './files.js'
import { type OfflineVerdict, parseNonce, verifyQuoteFiles } from './quote.js'
import { printVerdict } from './verdict.js'

const MAX_STRUCTURE_OCTETS = 64 * 1024
const MAX_LOG_OCTETS = 1024 * 1024
const MAX_BUNDLE_OCTETS = 8 * 1024 * 1024

interface QuoteOptions {
  readonly message: string
  readonly signature: string
  readonly ak: string
  readonly nonce: Uint8Array
  readonly pcrs?: string
  readonly eventLog?: string
  readonly imaLog?: string
}

/** `sigillo verify …`: needs no authority, no TPM and no network. Returns the group for another that may ask one. */
export function addVerifyCommands(program: Command): Command {
  const verify = program
    .command('verify')
    .description('verify evidence from files, without any service')
  verify
    .command('quote')
    .description('a TPM quote, as tpm2-tools writes it')
    .requiredOption('--message <file>', 'TPMS_ATTEST (tpm2_quote -m)')
    .requiredOption('--signature <file>', 'TPMT_SIGNATURE (tpm2_quote -s)')
    .requiredOption('--ak <file>', 'attestation key: TPM2B_PUBLIC, TPMT_PUBLIC, PEM or DER')
    .requiredOption('--nonce <hex>', 'qualifying data that the quote must carry', parseNonce)
    .option('--pcrs <file>', 'values of the PCRs (tpm2_quote -o, or values one after the other)')
    .option('--event-log <file>', 'boot event log, to be replayed to these values')
    .option('--ima-log <file>', 'measurement list of the kernel, to be replayed to PCR 10')
    .addHelpText(
      'after',
      `\nExit status: 0 accepted, 3 refused, 1 unreadable, 2 wrong usage.\n${examples(
        'tpm2_quote -c ak.ctx -l sha256:0,4,7 -q 0123abcd -m quote.msg -s quote.sig -o quote.pcrs',
        'sigillo verify quote --message quote.msg --signature quote.sig --ak ak.pub --nonce 0123abcd --pcrs quote.pcrs',
      )}`,
    )
    .action(async (options: QuoteOptions, command: Command) => {
      const structure = (file: string) => readOctets(file, MAX_STRUCTURE_OCTETS)
      const verdict = await verifyQuoteFiles({
        message: structure(options.message),
        signature: structure(options.signature),
        ak: structure(options.ak),
        nonce: options.nonce,
        pcrs: options.pcrs === undefined ? undefined : structure(options.pcrs),
        eventLog:
          options.eventLog === undefined ? undefined : readOctets(options.eventLog, MAX_LOG_OCTETS),
        imaLog:
          options.imaLog === undefined
            ? undefined
            : readOctets(options.imaLog, IMA_LIMITS.maxOctets),
      })
      printVerdict(outputOf(command), verdict.findings, quoteFacts(verdict))
    })

  verify
    .command('bundle <file>')
    .description('evidence of a host with the verdict that the service gave, judged again')
    .addHelpText(
      'after',
      `\nNot checked: that the nonce was the service's own. Exit status as of verify quote.\n${examples(
        'sigillo host bundle host-a 3f6c… > bundle.json && sigillo verify bundle bundle.json',
        'sigillo verify bundle bundle.json --json',
      )}`,
    )
    .action(async (file: string, _options: unknown, command: Command) => {
      const octets = readOctets(file, MAX_BUNDLE_OCTETS)
      const bundle = naming(file, () => readBundle(octets))
      const findings = await verifyBundle(bundle)
      const { hostId, cluster, verdict, policyRevision } = bundle
      printVerdict(outputOf(command), findings, {
        data: { hostId, cluster, at: verdict.at, policyRevision },
        lines: fields([
          ['host', `${hostId} of cluster ${cluster}`],
          [
            'verdict of the service',
            `${verdict.accepted ? 'accepted' : 'refused'} at ${verdict.at}`,
          ],
          ['policy', `revision ${policyRevision}, ${policyDigest(bundle.policy)}`],
        ]),
      })
    })
  return verify
}

function quoteFacts({ quote, pcrs }: OfflineVerdict) {
  if (!quote) return { data: {}, lines: [] }
  const { clockInfo } = quote
  const values = [...(pcrs ?? [])].flatMap(([bank, ofBank]) =>
    [...ofBank].map(([pcr, value]) => ({ bank, pcr, digest: toHex(value) })),
  )
  const data = {
    quote: {
      extraData: toHex(quote.extraData),
      pcrDigest: toHex(quote.pcrDigest),
      selections: quote.selections,
      firmwareVersion: `0x${quote.firmwareVersion.toString(16)}`,
      clock: { ...clockInfo, clock: clockInfo.clock.toString() },
    },
    pcrs: values,
  }
  const lines = [
    ...fields([
      [
        'PCRs',
        quote.selections.map(({ bank, pcrs: all }) => `${bank}:${all.join(',')}`).join(' + '),
      ],
      ['resets', String(clockInfo.resetCount)],
      ['restarts', String(clockInfo.restartCount)],
      ['clock', `${clockInfo.clock} ms${clockInfo.safe ? '' : ' (not safe)'}`],
    ]),
    ...values.map(({ bank, pcr, digest }) => `  ${bank} ${String(pcr).padStart(2)} ${digest}`),
  ]
  return { data, lines }
}

const JSON_LIMITS = { maxDepth: 16, maxItems: 200_000 }

function readBundle(octets: Uint8Array): EvidenceBundle {
  const value = parseStrictJson(parseUtf8(octets), JSON_LIMITS)
  const misfit = misfitOf(EvidenceBundle, value)
  if (misfit === undefined) return value as EvidenceBundle
  const message = `expected a bundle of evidence: bundle${misfit}`
  throw new DecodeError('DECODE_VALUE', 0, message)
}
