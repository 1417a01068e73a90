import type { Kysely, Transaction } from 'kysely'
import { keptQuery, type Parameters } from './kept-query.js'
import { recordOnce, wasRecorded } from './once.js'
import type { FoundationTables, HostStatusState } from './tables.js'

/** What relying parties must know of a host at the moment they serve it. */
export interface HostStatus {
  readonly state: HostStatusState
  readonly cluster: string
  /** Rises when tokens issued before must end. */
  readonly epoch: number
  /** Epoch of the policy of the host's cluster. */
  readonly policyEpoch: number
}

/**
 * Writes the status of a host; the attestation service alone does.
 *
 * The row outlives the host, so that a host of the same name that is enrolled later never gets an epoch again that a
 * token was issued for.
 */
export async function writeHostStatus(
  tx: Transaction<FoundationTables>,
  status: {
    readonly issuer: string
    readonly hostId: string
    readonly cluster: string
    readonly state: HostStatusState
    readonly newEpoch: boolean
    readonly policyEpoch: number
    readonly atMs: number
  },
): Promise<void> {
  await upsertStatus(tx, {
    issuer: status.issuer,
    hostId: status.hostId,
    cluster: status.cluster,
    state: status.state,
    policyEpoch: status.policyEpoch,
    atMs: status.atMs,
    rise: status.newEpoch ? 1 : 0,
  })
}

const upsertStatus = keptQuery(
  (
    db: Kysely<FoundationTables>,
    parameter: Parameters<{
      readonly issuer: string
      readonly hostId: string
      readonly cluster: string
      readonly state: HostStatusState
      readonly policyEpoch: number
      readonly atMs: number
      /** Added to the epoch of a host that is there. */
      readonly rise: number
    }>,
  ) => {
    const columns = {
      cluster: parameter('cluster'),
      state: parameter('state'),
      policy_epoch: parameter('policyEpoch'),
      updated_at_ms: parameter('atMs'),
    }
    return db
      .insertInto('host_status')
      .values({
        issuer: parameter('issuer'),
        host_id: parameter('hostId'),
        epoch: 1,
        ...columns,
      })
      .onConflict((conflict) =>
        conflict.columns(['issuer', 'host_id']).doUpdateSet((row) => ({
          ...columns,
          epoch: row('host_status.epoch', '+', parameter('rise')),
        })),
      )
  },
)

/** The status of a host now, in the reader's own transaction. */
export async function readHostStatus(
  tx: Transaction<FoundationTables>,
  issuer: string,
  hostId: string,
): Promise<HostStatus | undefined> {
  const [row] = (await selectStatus(tx, { issuer, hostId })).rows
  return (
    row && {
      state: row.state,
      cluster: row.cluster,
      epoch: row.epoch,
      policyEpoch: row.policy_epoch,
    }
  )
}

const selectStatus = keptQuery(
  (
    db: Kysely<FoundationTables>,
    parameter: Parameters<{ readonly issuer: string; readonly hostId: string }>,
  ) =>
    db
      .selectFrom('host_status')
      .select(['state', 'cluster', 'epoch', 'policy_epoch'])
      .where('issuer', '=', parameter('issuer'))
      .where('host_id', '=', parameter('hostId')),
)

/** The statuses of a host at every attestation service that knows it. */
export async function readHostStatuses(
  tx: Transaction<FoundationTables>,
  hostId: string,
): Promise<readonly (HostStatus & { readonly issuer: string })[]> {
  const rows = await tx
    .selectFrom('host_status')
    .select(['issuer', 'state', 'cluster', 'epoch', 'policy_epoch'])
    .where('host_id', '=', hostId)
    .orderBy('issuer')
    .execute()
  return rows.map(({ policy_epoch: policyEpoch, ...status }) => ({ ...status, policyEpoch }))
}

const REVOKED_TOKEN = 'revoked-token'

/**
 * Ends one token before its time; whoever serves hosts asks `isTokenRevoked` in the transaction that does the work.
 *
 * @param untilMs when the token ends by itself, or later
 * @returns false where it was revoked before
 */
export async function revokeToken(
  tx: Transaction<FoundationTables>,
  tokenId: string,
  untilMs: number,
): Promise<boolean> {
  return recordOnce(tx, REVOKED_TOKEN, tokenId, untilMs)
}

export async function isTokenRevoked(
  tx: Transaction<FoundationTables>,
  tokenId: string,
): Promise<boolean> {
  return wasRecorded(tx, REVOKED_TOKEN, tokenId)
}
