import type { Command } from 'commander'
import { getJwks } from '../../api/attestation.js'
import { getVtpmAuthority } from '../../api/control-plane.js'
import { GuestBundle, type GuestView, getGuest, getGuestBundle } from '../../api/guests.js'
import { getVtpmRevocationList } from '../../api/vtpm-revocations.js'
import { guestPolicyDigest, verifyGuestBundle } from '../../appraisal/index.js'
import { fromBase64url, parseUtf8, utf8 } from '../../core/bytes.js'
import { isoTime } from '../../core/clock.js'
import { DecodeError } from '../../core/errors.js'
import { type Finding, failed, passed } from '../../core/finding.js'
import { readText } from '../../core/read-file.js'
import { misfitOf } from '../../core/schema-errors.js'
import { parseStrictJson } from '../../core/strict-json.js'
import {
  parseCertificate,
  parseCertificates,
  parseRevocationList,
  type Trust,
  verifyRevocationList,
} from '../../pki/index.js'
import { importJwks } from '../../tokens/index.js'
import { naming, readOctets } from '../offline/files.js'
import { printVerdict } from '../offline/verdict.js'
import { fields } from '../output.js'
import { outputOf } from '../output-of.js'
import { examples } from '../run.js'
import { integer } from '../values.js'
import { connect, withConnection } from './connection.js'

const MAX_BUNDLE_OCTETS = 8 * 1024 * 1024
const MAX_LIST_OCTETS = 16 * 1024 * 1024
const JSON_LIMITS = { maxDepth: 16, maxItems: 200_000 }

interface Options {
  readonly bundle?: string
  readonly authority?: string
  readonly jwks?: string
  readonly crl?: string
  readonly host: boolean
  readonly maxAge?: number
}

/** What is judged, and by whom. */
interface Subject {
  readonly bundle: GuestBundle
  readonly authorityPem: string
  readonly jwks: unknown
  /** Revocation list of the authority, PEM or DER; absent where nobody gave one. */
  readonly revocationList?: Uint8Array
  /** As the service says now; absent where it is not asked. */
  readonly now?: GuestView
}

/** `sigillo verify vm`: a VM at the service, or its evidence from a file with nothing else. */
export function addVerifyVm(verify: Command): void {
  withConnection(verify.command('vm [vm]'))
    .description('a VM and the host that runs it: its last evidence, judged again here')
    .option(
      '--bundle <file>',
      'evidence from this file (sigillo guest bundle), without any service',
    )
    .option(
      '--authority <file>',
      'authorities of virtual TPMs, PEM (default: of the control plane)',
    )
    .option('--jwks <file>', 'keys of the attestation service (default: those that it publishes)')
    .option(
      '--crl <file>',
      'revocation list of these authorities (default: that of the control plane)',
    )
    .option('--no-host', 'without the word of the host')
    .option('--max-age <seconds>', 'refuse evidence that is older', integer)
    .addHelpText(
      'after',
      `\nNot checked here: that nonce and credential were the service's own.\nExit status: 0 accepted, 3 refused, 1 unreadable, 2 wrong usage.\n${examples(
        'sigillo verify vm 5f0c8f0a-… --max-age 300',
        'sigillo verify vm --bundle vm.json --authority vtpm.pem --jwks jwks.json --json',
      )}`,
    )
    .action(async (vmId: string | undefined, options: Options, command: Command) => {
      if ((vmId === undefined) === (options.bundle === undefined)) {
        command.error('error: expected the id of a VM, or --bundle with a file')
      }
      const subject =
        vmId === undefined ? fromFiles(options, command) : await fromService(vmId, options, command)
      const { bundle, now } = subject
      const findings = [
        ...(await verifyGuestBundle(bundle, {
          vtpm: trustOf(subject.authorityPem),
          host: options.host ? { jwks: await importJwks(subject.jwks) } : 'not-asked',
        })),
        ...revocationFindings(subject, Date.now()),
        ...(now ? standingFindings(now, options.host) : []),
        ...ageFindings(bundle, options.maxAge, Date.now()),
      ]
      printVerdict(outputOf(command), findings, factsOf(bundle, now))
    })
}

function fromFiles({ bundle = '', ...options }: Options, command: Command): Subject {
  const { authority, jwks, host, crl } = options
  if (authority === undefined || (host && jwks === undefined)) {
    command.error('error: expected --authority and --jwks (or --no-host) beside --bundle')
  }
  const octets = readOctets(bundle, MAX_BUNDLE_OCTETS)
  return {
    bundle: naming(bundle, () => readBundle(octets)),
    authorityPem: readText(authority ?? ''),
    jwks: jwks === undefined ? undefined : readJson(jwks),
    ...(crl === undefined ? {} : { revocationList: readOctets(crl, MAX_LIST_OCTETS) }),
  }
}

async function fromService(vmId: string, options: Options, command: Command): Promise<Subject> {
  const { authority, jwks, crl } = options
  await using connection = connect(command)
  const { client } = connection
  const params = { vmId }
  return {
    bundle: await client.call(getGuestBundle, { params }),
    now: await client.call(getGuest, { params }),
    authorityPem:
      authority === undefined ? (await client.call(getVtpmAuthority, {})).pem : readText(authority),
    jwks: jwks === undefined ? await client.call(getJwks, {}) : readJson(jwks),
    revocationList:
      crl === undefined
        ? utf8((await client.call(getVtpmRevocationList, {})).pem)
        : readOctets(crl, MAX_LIST_OCTETS),
  }
}

function trustOf(pem: string): Trust {
  return {
    anchors: parseCertificates(pem),
    intermediates: [],
    revocation: { lists: [], mode: 'present' },
  }
}

/**
 * Whether the certificate of the virtual TPM was taken back until now: its evidence was judged at another moment, and the list
 * of that is not kept.
 */
function revocationFindings(subject: Subject, nowMs: number): readonly Finding[] {
  const { bundle, authorityPem, revocationList } = subject
  if (!revocationList) return [passed('now.certificate', 'not checked: no revocation list')]
  const list = parseRevocationList(revocationList)
  const certificate = parseCertificate(fromBase64url(bundle.evidence.ekCertificate))
  const issuers = parseCertificates(authorityPem).filter(
    ({ subjectName }) => subjectName === certificate.issuerName,
  )
  const codes = issuers.map((issuer) => verifyRevocationList(list, issuer))
  if (!codes.includes(undefined)) {
    const expected = `a revocation list of ${certificate.issuer}`
    return [failed('now.certificate', codes[0] ?? 'CRL_ISSUER', expected, `one of ${list.issuer}`)]
  }
  if (list.nextUpdateMs < nowMs) {
    const found = `one until ${isoTime(list.nextUpdateMs)}`
    return [failed('now.certificate', 'CRL_STALE', 'a current revocation list', found)]
  }
  const { serial } = certificate
  const found = `serial number ${serial} on the list`
  return [
    list.serials.has(serial)
      ? failed('now.certificate', 'CERT_REVOKED', 'a certificate that is not revoked', found)
      : passed('now.certificate'),
  ]
}

/** What only the service can say: whether VM and host are as they were. */
function standingFindings(
  { state, host, hostId }: GuestView,
  asksHost: boolean,
): readonly Finding[] {
  return [
    state === 'attested'
      ? passed('now.vm', state)
      : failed(
          'now.vm',
          state === 'revoked' ? 'GUEST_REVOKED' : 'ATTESTATION_REFUSED',
          'a VM whose last evidence was accepted',
          state,
        ),
    ...(asksHost
      ? [
          host.trusted
            ? passed('now.host', `${hostId}: ${host.state}`)
            : failed('now.host', 'HOST_STATUS', `host ${hostId} to be trusted now`, host.state),
        ]
      : []),
  ]
}

function ageFindings(
  { verdict }: GuestBundle,
  maxAgeSeconds: number | undefined,
  nowMs: number,
): readonly Finding[] {
  const ageSeconds = Math.round((nowMs - Date.parse(verdict.at)) / 1000)
  if (maxAgeSeconds === undefined) return [passed('age', `${ageSeconds} s, not limited`)]
  const expected = `evidence of the last ${maxAgeSeconds} s`
  return [
    ageSeconds <= maxAgeSeconds
      ? passed('age', `${ageSeconds} s`)
      : failed('age', 'GUEST_TOO_OLD', expected, `${ageSeconds} s`),
  ]
}

function factsOf(
  { evidence, cluster, policy, verdict, policyRevision }: GuestBundle,
  now?: GuestView,
) {
  const { vmId } = evidence
  const data = { vmId, cluster, at: verdict.at, policyRevision, ...(now ? { now: now.host } : {}) }
  const lines = fields([
    ['VM', `${vmId}, on a host of cluster ${cluster}`],
    ['verdict of the service', `${verdict.accepted ? 'accepted' : 'refused'} at ${verdict.at}`],
    ['base image', verdict.baseImage],
    ['policy', `revision ${policyRevision}, ${guestPolicyDigest(policy)}`],
  ])
  return { data, lines }
}

function readBundle(octets: Uint8Array): GuestBundle {
  const value = parseStrictJson(parseUtf8(octets), JSON_LIMITS)
  const misfit = misfitOf(GuestBundle, value)
  if (misfit === undefined) return value as GuestBundle
  const message = `expected evidence of a guest: bundle${misfit}`
  throw new DecodeError('DECODE_VALUE', 0, message)
}

function readJson(file: string): unknown {
  return naming(file, () => parseStrictJson(parseUtf8(utf8(readText(file))), JSON_LIMITS))
}
