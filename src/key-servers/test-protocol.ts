import { messageOf } from '../core/errors.js'
import { enumerationName, type KmipClient, KmipError, OPERATION, TAG } from '../kmip/index.js'
import type { Report } from './test-findings.js'

/** `fetched`: keys are read and used here. `kept`: keys stay in the key server, which encrypts with them. */
export type KeyPlace = 'fetched' | 'kept'

const NEEDED: Readonly<Record<KeyPlace, readonly number[]>> = {
  fetched: [
    OPERATION.Create,
    OPERATION.Get,
    OPERATION.Activate,
    OPERATION.Revoke,
    OPERATION.Destroy,
  ],
  kept: [
    ...[OPERATION.Create, OPERATION.Activate, OPERATION.Encrypt, OPERATION.Decrypt],
    ...[OPERATION.Revoke, OPERATION.Destroy],
  ],
}

/** What else is used where the server has it, and what is lost where it has not. */
const HELPFUL: readonly (readonly [number, string])[] = [
  [OPERATION.Locate, 'a Create whose answer was lost cannot be decided'],
  [OPERATION.AddAttribute, 'keys get no custom attributes'],
  [OPERATION.GetAttributes, 'the state of keys cannot be seen'],
]

/** Which version both speak. @returns whether they speak one */
export async function testVersions(
  client: KmipClient,
  ownSubject: string,
  report: Report,
): Promise<boolean> {
  try {
    await client.ping()
  } catch (error) {
    if (!(error instanceof KmipError)) throw error
    report.failed('versions', error.code, whyNoAnswer(error, ownSubject))
    return false
  }
  report.ok('versions', `KMIP ${client.health[0]?.version ?? 'of an unknown version'} is spoken`)
  return true
}

/** Whether the server says that it has the operations that are needed. @returns false where it says that it has not */
export async function testOperations(
  client: KmipClient,
  place: KeyPlace,
  report: Report,
): Promise<boolean> {
  let has: ReadonlySet<number>
  try {
    const { operations, vendor } = await client.query()
    has = new Set(operations)
    if (vendor !== undefined) report.ok('operations', `the key server is of ${printable(vendor)}`)
  } catch (error) {
    if (!(error instanceof KmipError)) throw error
    report.warning('operations', `the key server does not say what it can do: ${messageOf(error)}`)
    return true
  }
  const missing = NEEDED[place].filter((operation) => !has.has(operation))
  if (missing.length > 0) {
    const names = missing.map(nameOf).join(', ')
    report.failed('operations', 'KMS_UNSUPPORTED', `the key server does not have ${names}`)
    return false
  }
  report.ok('operations', `the key server has ${NEEDED[place].map(nameOf).join(', ')}`)
  for (const [operation, loss] of HELPFUL) {
    if (!has.has(operation)) {
      report.warning('operations', `the key server does not have ${nameOf(operation)}: ${loss}`)
    }
  }
  return true
}

/** TLS 1.3 tells after the handshake that a certificate was not accepted. */
function whyNoAnswer(error: KmipError, ownSubject: string): string {
  const said = messageOf(error)
  switch (error.code) {
    case 'KMS_TLS':
    case 'KMS_UNREACHABLE':
      return `the key server ended the connection (${said}): does it accept our certificate, ${ownSubject}?`
    case 'KMS_AUTH_FAILED':
      return `the key server does not know us (${said}): our certificate, ${ownSubject}, or the user name has to be made known there; some want the use of clients (clientAuth) in the certificate`
    case 'KMS_TIMEOUT':
      return `the key server accepts connections and does not answer (${said})`
    case 'KMIP_VERSION':
      return `no version of KMIP from 1.0 to 2.1 is spoken by both sides (${said})`
    default:
      return `the key server does not answer as KMIP has it: ${said}`
  }
}

function nameOf(operation: number): string {
  return enumerationName(TAG.Operation, operation) ?? `operation ${operation}`
}

function printable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, ' ').slice(0, 100)
}
