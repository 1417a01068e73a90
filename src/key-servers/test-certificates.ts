import { isoTime } from '../core/clock.js'
import { type Certificate, parseCertificates } from '../pki/index.js'
import type { KeyServersSettings } from './key-servers.js'
import type { Report } from './test-findings.js'

const DAY_MS = 86_400_000
/** Ask for renewal three months ahead; say it more urgently a month and a week ahead. */
const DAYS = [7, 30, 90] as const

/** How long the certificates of both sides are still valid. */
export function testCertificates(
  server: Certificate | undefined,
  settings: KeyServersSettings,
  nowMs: number,
  report: Report,
): void {
  const [own] = parseCertificates(settings.certificate)
  const named: [string, Certificate | undefined][] = [
    ['the certificate of the key server', server],
    ['our certificate', own],
    ...parseCertificates(settings.authorities).map((one): [string, Certificate] => [
      `the authority ${one.subject}`,
      one,
    ]),
  ]
  for (const [what, certificate] of named) {
    if (certificate) testValidity(what, certificate, nowMs, report)
  }
}

function testValidity(what: string, certificate: Certificate, nowMs: number, report: Report): void {
  const { notBeforeMs, notAfterMs, fingerprint } = certificate
  const until = `${what} (SHA-256 ${fingerprint.slice(0, 16)}…) is valid until ${isoTime(notAfterMs)}`
  const daysLeft = Math.floor((notAfterMs - nowMs) / DAY_MS)
  const within = DAYS.find((days) => daysLeft < days)
  if (notAfterMs <= nowMs) {
    report.failed('certificate', 'KMS_TLS', `${what} expired at ${isoTime(notAfterMs)}`)
  } else if (notBeforeMs > nowMs) {
    report.failed('certificate', 'KMS_TLS', `${what} is not valid before ${isoTime(notBeforeMs)}`)
  } else if (within === undefined) report.ok('certificate', until)
  else report.warning('certificate', `${until}: less than ${within} days are left, renew it`)
}
