import { timingSafeEqual, utf8 } from '../core/bytes.js'
import { messageOf } from '../core/errors.js'
import { newUuid, randomOctets } from '../core/random.js'
import { type KmipClient, KmipError, REVOCATION_REASON_CODE } from '../kmip/index.js'
import { decryptOnServer, encryptOnServer, findServerCipher } from './server-cipher.js'
import type { Report } from './test-findings.js'
import type { KeyPlace } from './test-protocol.js'

const KEY_OCTETS = 32
/** A replica may be some seconds behind. */
const REPLICA_TRIES = 5
const REPLICA_WAIT_MS = 400
const SAMPLE_CONTEXT = utf8('sigillo probe')

/** Makes a key, uses it as the provider will, and destroys it. */
export async function testProbe(
  client: KmipClient,
  place: KeyPlace,
  report: Report,
): Promise<void> {
  await withProbe(client, report, async (keyId) => {
    if (place === 'fetched') {
      const { material } = await client.get(keyId)
      using _ = material
      if (material.length !== KEY_OCTETS) {
        throw new KmipError(
          'KMS_PROTOCOL',
          `expected ${KEY_OCTETS} octets, found ${material.length}`,
        )
      }
      report.ok('probe', 'a key was made and read')
      return
    }
    await client.activate(keyId)
    const cipher = await findServerCipher(client, keyId, SAMPLE_CONTEXT)
    const use = { keyId, cipher, additionalData: SAMPLE_CONTEXT }
    const sample = randomOctets(KEY_OCTETS)
    const opened = await decryptOnServer(client, use, await encryptOnServer(client, use, sample))
    if (!timingSafeEqual(opened, sample)) {
      throw new KmipError('KMS_CRYPTO', 'expected what was encrypted, found other octets')
    }
    report.ok('probe', `a key was made, and encrypted and decrypted with ${cipher}`)
    if (cipher === 'A256CTR') {
      report.warning(
        'probe',
        'the key server has no authenticated encryption (GCM, KMIP 1.4): counter mode is used, and what it encrypts is authenticated here',
      )
    }
  })
}

/** Makes a key on the first server and reads it on the others: they have to be one replicated cluster. */
export async function testReplicas(
  first: KmipClient,
  others: readonly { readonly client: KmipClient; readonly report: Report }[],
  report: Report,
): Promise<void> {
  if (others.length === 0) return
  await withProbe(first, report, async (keyId) => {
    for (const other of others) await testReplica(other.client, keyId, other.report)
  })
}

async function testReplica(client: KmipClient, keyId: string, report: Report): Promise<void> {
  let last: KmipError | undefined
  for (let tries = 0; tries < REPLICA_TRIES; tries += 1) {
    if (tries > 0) await new Promise((resolve) => setTimeout(resolve, REPLICA_WAIT_MS))
    try {
      await client.getAttributes(keyId)
      report.ok('replica', 'a key that was made on another key server is here')
      return
    } catch (error) {
      if (!(error instanceof KmipError)) throw error
      last = error
    }
  }
  report.failed(
    'replica',
    last?.code ?? 'KMS_KEY_NOT_FOUND',
    `a key that was made on another key server is not here (${last?.message ?? ''}): the servers of a provider have to be replicas of one another`,
  )
}

async function withProbe(
  client: KmipClient,
  report: Report,
  work: (keyId: string) => Promise<void>,
): Promise<void> {
  let keyId: string | undefined
  try {
    keyId = await client.create({ name: `sigillo-probe-${newUuid()}` })
    await work(keyId)
  } catch (error) {
    if (!(error instanceof KmipError)) throw error
    const what = keyId === undefined ? 'no key could be made' : 'the key could not be used'
    report.failed('probe', error.code, `${what}: ${messageOf(error)}`)
  }
  if (keyId !== undefined) await destroyProbe(client, keyId, report)
}

async function destroyProbe(client: KmipClient, keyId: string, report: Report): Promise<void> {
  try {
    // What was activated has to be revoked first; what was not may refuse that.
    await client
      .revoke(keyId, { reason: REVOCATION_REASON_CODE.CessationOfOperation })
      .catch(() => undefined)
    await client.destroy(keyId)
  } catch (error) {
    if (!(error instanceof KmipError)) throw error
    const message = `the probe ${keyId} could not be destroyed and stays there: ${messageOf(error)}`
    report.warning('probe', message)
  }
}
