import type { ConnectionFinding, ConnectionTest } from '../api/key-servers.js'
import { PlatformError } from '../core/errors.js'
import type { KmipClient, KmipServerAddress, KmipTimeouts } from '../kmip/index.js'
import { parseCertificates } from '../pki/index.js'
import { addressesOf, type KeyServers, keyServersOf, tlsOf } from './key-servers.js'
import { openKeyServerClient } from './open-client.js'
import { testCertificates } from './test-certificates.js'
import { createReport, type Report } from './test-findings.js'
import { testNetwork } from './test-network.js'
import { testProbe, testReplicas } from './test-probe.js'
import { type KeyPlace, testOperations, testVersions } from './test-protocol.js'

/** A person waits for the answer. */
const TIMEOUTS: KmipTimeouts = { connectMs: 5_000, requestMs: 5_000, overallMs: 10_000 }

/**
 * Tests every server step by step: name, TCP, TLS, certificates, versions, operations, and a key that is made, used and
 * destroyed; then whether the servers are replicas of one another. A step that fails ends the test of its server.
 *
 * Leaves a key behind only where it cannot be destroyed, and says so.
 *
 * @param options.place what a key will be used for: read and used here, or kept there
 */
export async function testKeyServers(
  servers: KeyServers,
  options: {
    readonly place: KeyPlace
    readonly nowMs: number
    readonly timeouts?: Partial<KmipTimeouts>
  },
): Promise<ConnectionTest> {
  const timeouts = { ...TIMEOUTS, ...options.timeouts }
  const tested = await Promise.all(
    addressesOf(servers.settings).map((address, index) =>
      testServer(servers, address, index, { ...options, timeouts }),
    ),
  )
  try {
    const [first, ...others] = tested.flatMap(({ client, report }) =>
      client ? [{ client, report }] : [],
    )
    if (first) await testReplicas(first.client, others, first.report)
  } finally {
    for (const { client } of tested) await client?.[Symbol.asyncDispose]()
  }
  const findings = tested.flatMap(({ report }) => report.findings)
  return { verdict: verdictOf(findings), findings }
}

/**
 * What has to hold before settings are saved.
 *
 * @param force saves also where a server does not answer; what else is wrong is never accepted
 * @throws PlatformError `KEY_SERVERS_TEST`, with the first thing that is wrong in words
 */
export function requirePassed({ verdict, findings }: ConnectionTest, force: boolean): void {
  if (verdict === 'passed' || (verdict === 'unreachable' && force)) return
  const failed = findings.filter(({ result }) => result === 'failed')
  const first = failed.find((finding) => !isUnreachable(finding)) ?? failed[0]
  throw new PlatformError('KEY_SERVERS_TEST', `${first?.server}: ${first?.message}`)
}

async function testServer(
  servers: KeyServers,
  address: KmipServerAddress,
  index: number,
  options: {
    readonly place: KeyPlace
    readonly nowMs: number
    readonly timeouts: KmipTimeouts
  },
): Promise<{ readonly report: Report; readonly client: KmipClient | undefined }> {
  const { settings } = servers
  const report = createReport(address.name)
  const { connectMs } = options.timeouts
  const certificate = await testNetwork(address, tlsOf(servers), connectMs, report)
  testCertificates(certificate, settings, options.nowMs, report)
  if (!certificate) return { report, client: undefined }
  const client = openKeyServerClient(
    keyServersOf(
      { ...settings, servers: settings.servers.slice(index, index + 1) },
      servers.privateKeyPem,
      servers.password,
    ),
    { timeouts: options.timeouts },
  )
  const own = parseCertificates(settings.certificate)[0]?.subject ?? ''
  const speaks =
    (await testVersions(client, own, report)) &&
    (await testOperations(client, options.place, report))
  if (speaks) {
    await testProbe(client, options.place, report)
    return { report, client }
  }
  await client[Symbol.asyncDispose]()
  return { report, client: undefined }
}

function verdictOf(findings: ConnectionTest['findings']): ConnectionTest['verdict'] {
  const failed = findings.filter(({ result }) => result === 'failed')
  if (failed.length === 0) return 'passed'
  return failed.every(isUnreachable) ? 'unreachable' : 'failed'
}

function isUnreachable({ step, code }: ConnectionFinding): boolean {
  return step === 'name' || step === 'tcp' || code === 'KMS_TIMEOUT'
}
