import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import type { Static } from 'typebox'
import { Agent, request } from 'undici'
import { openTpm } from '../../../native/index.js'
import { type Client, createClient } from '../../../src/api/client.js'
import { type SealedService, sealOperations } from '../../../src/api/seal.js'
import { loadConfig } from '../../../src/core/config.js'
import { isPlatformError } from '../../../src/core/errors.js'
import {
  type Authority,
  AuthorityConfig,
  createSite,
  type ServiceName,
  startAuthority,
} from '../../../src/server/index.js'
import { createOperator, type FoundationTables, openStore } from '../../../src/store/index.js'
import { freePort } from '../../helpers/free-port.js'
import { movableClock, silent } from '../../helpers/site.js'

/** A key provider with something sealed under the root key. */
export const trustedProvider = (name: string) => ({
  body: {
    name,
    kind: 'trusted' as const,
    settings: {
      clusters: ['c'],
      minimumAssurance: 'session' as const,
      maxTokenAgeSeconds: 300,
    },
  },
})

export const operationsOf = (service: SealedService) => sealOperations(service)

/** An authority whose process ends and starts again, with operators of several names. */
export interface SealSite extends AsyncDisposable {
  readonly folder: string
  readonly file: string
  readonly clock: ReturnType<typeof movableClock>
  readonly admin: Client
  /** Further administrators, and one who only reads. */
  readonly holders: readonly Client[]
  readonly auditor: Client
  start(settings?: Readonly<Record<string, string>>): Promise<void>
  stop(): Promise<void>
  health(path: string): Promise<readonly [number, unknown]>
  get(path: string): Promise<readonly [number, { readonly code?: string }]>
  audit(service: SealedService): Promise<readonly Line[]>
  readonly passphrase: string
  /** Takes the passphrase from the machine, or gives it back. */
  hidePassphrase(hidden: boolean): void
}

export async function openSealSite(
  services: readonly ServiceName[],
  first: Readonly<Record<string, string>> = {},
): Promise<SealSite> {
  const parent = mkdtempSync(join(tmpdir(), 'sgl-seal-'))
  const folder = join(parent, 'site')
  const clock = movableClock()
  const made = await createSite({
    ...{ folder, listen: `127.0.0.1:${await freePort()}`, mode: 'lab' as const },
    nowMs: clock.nowMs(),
  })
  const file = join(folder, 'sigillo.db')
  const caPem = readFileSync(join(folder, 'tls-ca.pem'), 'utf8')
  const passphraseFile = join(folder, 'passphrase')
  const passphrase = readFileSync(passphraseFile, 'utf8').trim()
  const clients: Client[] = []
  const clientWith = (bearerToken: string): Client => {
    const client = createClient({ baseUrl: made.url, caPem, bearerToken })
    clients.push(client)
    return client
  }
  const admin = clientWith(readFileSync(join(folder, 'admin.token'), 'utf8').trim())
  let authority: Authority | undefined
  const start = async (settings: Readonly<Record<string, string>> = {}): Promise<void> => {
    const { config } = loadConfig(AuthorityConfig, {
      ...{ file: made.configFile, prefix: 'SIGILLO', env: { ...first, ...settings } },
    })
    authority = await startAuthority({
      config: config as Static<typeof AuthorityConfig>,
      ...{ services, build: 'test', clock, logger: silent, openTpm },
    })
    // lets the clients find that their connections to the last start are gone
    const [service = 'attestation'] = services
    for (const client of clients) {
      await client.call(operationsOf(service).status, {}).catch((error: unknown) => {
        if (!isPlatformError(error, 'AUTHORITY_UNREACHABLE')) throw error
      })
    }
  }
  const stop = async (): Promise<void> => {
    await authority?.close()
    authority = undefined
  }
  const get = async (path: string): Promise<readonly [number, { readonly code?: string }]> => {
    const dispatcher = new Agent({ connect: { ca: caPem } })
    try {
      const answer = await request(made.url + path, { dispatcher })
      return [answer.statusCode, (await answer.body.json()) as { readonly code?: string }]
    } finally {
      await dispatcher.close()
    }
  }
  const [auditor, ...holders] = await operatorsIn(file, services, clock.nowMs(), clientWith)
  await start()
  return {
    ...{ holders, auditor: auditor ?? admin },
    ...{ folder, file, clock, admin, start, stop, get, passphrase, health: get },
    // read beside the store, which would wait for itself in this process
    async audit(chain) {
      const db = new Database(file, { readonly: true })
      try {
        const rows = db
          .prepare(
            "select * from audit_records where chain = ? and (action like 'root-key.%' or action like 'caller.%') order by seq",
          )
          .all(chain) as readonly FoundationTables['audit_records'][]
        return rows.map(({ action, outcome, actor, detail }) => ({
          ...{ action, outcome, actor },
          detail: JSON.parse(detail) as Readonly<Record<string, unknown>>,
        }))
      } finally {
        db.close()
      }
    },
    hidePassphrase(hidden) {
      if (hidden) rmSync(passphraseFile)
      else writeFileSync(passphraseFile, `${passphrase}\n`, { mode: 0o600 })
    },
    async [Symbol.asyncDispose]() {
      await stop()
      for (const client of clients) await client[Symbol.asyncDispose]()
      rmSync(parent, { recursive: true, force: true })
    },
  }
}

interface Line {
  readonly action: string
  readonly outcome: string
  readonly actor: string
  readonly detail: Readonly<Record<string, unknown>>
}

/** An auditor and three administrators, made before the authority starts. */
async function operatorsIn(
  file: string,
  services: readonly ServiceName[],
  nowMs: number,
  clientWith: (token: string) => Client,
): Promise<readonly Client[]> {
  await using store = await openStore({ file })
  const clients: Client[] = []
  for (const name of ['auditor', 'ann', 'bob', 'cyd']) {
    const role = name === 'auditor' ? 'auditor' : 'administrator'
    const { token } = await createOperator(store, { name, role, services, nowMs })
    clients.push(clientWith(token))
  }
  return clients
}
