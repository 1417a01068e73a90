import type { Kysely } from 'kysely'
import { type FoundationTables, keptQuery, type Parameters } from '../../store/index.js'
import type { AttestationTables } from './tables.js'

/*
 * What every attestation asks the database for.
 */

type Tables = Kysely<AttestationTables & FoundationTables>

/** All but the log, which is large and wanted by few. */
export const BASE_IMAGE_COLUMNS = [
  'name',
  'cluster',
  'captured_from',
  'captured_at_ms',
  'bank',
  'pcrs',
  'boot',
  'source',
  'not_before_ms',
  'not_after_ms',
] as const
export type BaseImageColumn = (typeof BASE_IMAGE_COLUMNS)[number]

interface Host {
  readonly hostId: string
}

interface Cluster {
  readonly cluster: string
}

export const selectHost = keptQuery(
  (db: Tables, parameter: Parameters<Host & { readonly issuer: string }>) =>
    db
      .selectFrom('attestation_hosts as host')
      .leftJoin('host_status as status', (join) =>
        join
          .onRef('status.host_id', '=', 'host.host_id')
          .on('status.issuer', '=', parameter('issuer')),
      )
      .selectAll('host')
      .select(['status.state as state', 'status.epoch as epoch'])
      .where('host.host_id', '=', parameter('hostId')),
)

export const updateClock = keptQuery(
  (db: Tables, parameter: Parameters<Host & { readonly clock: string }>) =>
    db
      .updateTable('attestation_hosts')
      .set({ tpm_clock: parameter('clock') })
      .where('host_id', '=', parameter('hostId')),
)

export const updateAccepted = keptQuery(
  (db: Tables, parameter: Parameters<Host & { readonly atMs: number }>) =>
    db
      .updateTable('attestation_hosts')
      .set({ accepted_at_ms: parameter('atMs') })
      .where('host_id', '=', parameter('hostId')),
)

export const selectPolicy = keptQuery((db: Tables, parameter: Parameters<Cluster>) =>
  db.selectFrom('attestation_policies').selectAll().where('cluster', '=', parameter('cluster')),
)

export const selectBaseImagesOf = keptQuery((db: Tables, parameter: Parameters<Cluster>) =>
  db
    .selectFrom('attestation_base_images')
    .select(BASE_IMAGE_COLUMNS)
    .where('cluster', '=', parameter('cluster'))
    .orderBy('name'),
)

export const insertVerdict = keptQuery(
  (db: Tables, parameter: Parameters<Host & { readonly verdict: string }>) =>
    db
      .insertInto('attestation_verdicts')
      .values({ host_id: parameter('hostId'), verdict: parameter('verdict') }),
)

/** The newest verdict of a host behind those that are to be kept. */
export const selectVerdictBehind = keptQuery(
  (db: Tables, parameter: Parameters<Host & { readonly keep: number }>) =>
    db
      .selectFrom('attestation_verdicts')
      .select('verdict_id')
      .where('host_id', '=', parameter('hostId'))
      .orderBy('verdict_id', 'desc')
      .limit(1)
      .offset(parameter('keep')),
)

export const deleteVerdicts = keptQuery(
  (db: Tables, parameter: Parameters<Host & { readonly upTo: number }>) =>
    db
      .deleteFrom('attestation_verdicts')
      .where('host_id', '=', parameter('hostId'))
      .where('verdict_id', '<=', parameter('upTo')),
)
