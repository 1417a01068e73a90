import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { systemClock } from '../../core/clock.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import {
  type Certificate,
  describeCertificate,
  parseCertificate,
  parseCertificates,
  verifyEkCertificate,
} from '../../pki/index.js'
import { fields } from '../output.js'
import { outputOf } from '../output-of.js'
import { examples } from '../run.js'
import { readOctets } from './files.js'
import { printVerdict } from './verdict.js'

const MAX_CERTIFICATE_OCTETS = 1024 * 1024
const MAX_FILES = 10_000

/** `sigillo ek …` */
export function addEkCommands(program: Command): void {
  const ek = program.command('ek').description('certificates of endorsement keys')
  ek.command('verify <certificate>')
    .description('path to a root, profile and dates of an endorsement certificate, DER or PEM')
    .requiredOption(
      '--roots <folder>',
      'certificates that are trusted, DER or PEM, one or more a file',
    )
    .option('--intermediates <folder>', 'certificates that may be between')
    .addHelpText(
      'after',
      `\nThe path ends at the first certificate of the folder of roots. Nothing is fetched; revocation is not looked up.\n${examples(
        'tpm2_nvread 0x01c0000a -o ek.der && sigillo ek verify ek.der --roots /etc/tpm-roots',
      )}`,
    )
    .action(
      (file: string, options: { roots: string; intermediates?: string }, command: Command) => {
        const [certificate] = readCertificates(file)
        if (!certificate) throw new PlatformError('CERT_UNREADABLE', `${file} holds no certificate`)
        const verdict = verifyEkCertificate({
          certificate: certificate.der,
          anchors: readFolder(options.roots),
          intermediates:
            options.intermediates === undefined ? [] : readFolder(options.intermediates),
          // Without a TPM at hand, the key is the one of the certificate: only the certificate is judged.
          ekPublicKeySpki: new Uint8Array(
            certificate.publicKey.export({ type: 'spki', format: 'der' }),
          ),
          now: systemClock.nowMs(),
        })
        const findings = verdict.findings.filter(({ check }) => check !== 'ek.key')
        const chain = verdict.chain.map(describeCertificate)
        printVerdict(outputOf(command), findings, {
          data: { certificate: describeCertificate(certificate), chain, tpm: verdict.tpm },
          lines: fields([
            ['subject', certificate.subject || '(none)'],
            ['issuer', certificate.issuer],
            ['TPM', verdict.tpm && Object.values(verdict.tpm).join(' ')],
            ['fingerprint', certificate.fingerprint],
            [
              'path',
              chain.map(({ subject }) => subject || '(no subject)').join(' < ') || undefined,
            ],
          ]),
        })
      },
    )
}

function readCertificates(file: string): readonly Certificate[] {
  const octets = readOctets(file, MAX_CERTIFICATE_OCTETS)
  const text = Buffer.from(octets).toString('latin1')
  return text.includes('-----BEGIN CERTIFICATE-----')
    ? parseCertificates(text)
    : [parseCertificate(octets)]
}

/** Every certificate below a folder, or of one file. Files that hold none are errors: a root left out is a surprise. */
function readFolder(path: string): readonly Certificate[] {
  try {
    if (!statSync(path).isDirectory()) return readCertificates(path)
    const files = readdirSync(path, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.(pem|crt|cer|der)$/i.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name))
    if (files.length > MAX_FILES) {
      throw new PlatformError('CERT_TOO_LARGE', `expected at most ${MAX_FILES} files in ${path}`)
    }
    return files.flatMap(readCertificates)
  } catch (cause) {
    if (cause instanceof PlatformError) throw cause
    throw new PlatformError('CONFIG_UNREADABLE', `cannot read ${path}: ${messageOf(cause)}`, {
      cause,
    })
  }
}
