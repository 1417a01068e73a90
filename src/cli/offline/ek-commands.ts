import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { systemClock } from '../../core/clock.js'
import { messageOf, PlatformError } from '../../core/errors.js'
import {
  type Certificate,
  describeCertificate,
  parseRevocationList,
  type RevocationList,
  readCertificates,
  spkiOf,
  verifyEkCertificate,
} from '../../pki/index.js'
import { fields } from '../output.js'
import { outputOf } from '../output-of.js'
import { examples } from '../run.js'
import { naming, readOctets } from './files.js'
import { printVerdict } from './verdict.js'

const MAX_CERTIFICATE_OCTETS = 1024 * 1024
const MAX_FILES = 10_000

interface VerifyOptions {
  readonly roots: string
  readonly intermediates?: string
  readonly crl?: readonly string[]
  readonly crlRequired?: boolean
}

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
    .option('--crl <file...>', 'revocation lists of issuers, DER or PEM')
    .option('--crl-required', 'refuse where an issuer has no revocation list')
    .addHelpText(
      'after',
      `\nThe path ends at the first certificate of the folder of roots. Nothing is fetched.\n${examples(
        'tpm2_nvread 0x01c0000a -o ek.der && sigillo ek verify ek.der --roots /etc/tpm-roots',
      )}`,
    )
    .action((file: string, options: VerifyOptions, command: Command) => {
      const [certificate] = certificatesIn(file)
      if (!certificate) throw new PlatformError('CERT_UNREADABLE', `${file} holds no certificate`)
      const verdict = verifyEkCertificate({
        certificate: certificate.der,
        // Without a TPM at hand, the key is the one of the certificate: only the certificate is judged.
        ekPublicKeySpki: spkiOf(certificate.publicKey),
        trust: {
          anchors: readFolder(options.roots),
          intermediates:
            options.intermediates === undefined ? [] : readFolder(options.intermediates),
          revocation: {
            mode: options.crlRequired ? 'required' : 'present',
            lists: (options.crl ?? []).map((path) => readList(path)),
          },
        },
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
          ['path', chain.map(({ subject }) => subject || '(no subject)').join(' < ') || undefined],
        ]),
      })
    })
}

function certificatesIn(file: string): readonly Certificate[] {
  const octets = readOctets(file, MAX_CERTIFICATE_OCTETS)
  return naming(file, () => readCertificates(octets).all)
}

function readList(file: string): RevocationList {
  const octets = readOctets(file, MAX_CERTIFICATE_OCTETS)
  return naming(file, () => parseRevocationList(octets))
}

/** Every certificate below a folder, or of one file. Files that hold none are errors: a root left out is a surprise. */
function readFolder(path: string): readonly Certificate[] {
  try {
    if (!statSync(path).isDirectory()) return certificatesIn(path)
    const files = readdirSync(path, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.(pem|crt|cer|der)$/i.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name))
    if (files.length > MAX_FILES) {
      throw new PlatformError('CERT_TOO_LARGE', `expected at most ${MAX_FILES} files in ${path}`)
    }
    return files.flatMap(certificatesIn)
  } catch (cause) {
    if (cause instanceof PlatformError) throw cause
    throw new PlatformError('CONFIG_UNREADABLE', `cannot read ${path}: ${messageOf(cause)}`, {
      cause,
    })
  }
}
