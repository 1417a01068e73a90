import type { Kysely, Migration } from 'kysely'

/** Operations on VMs that hosts are to do, are doing, and did. */
export const tasksMigration: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable('control_plane_tasks')
      .addColumn('seq', 'integer', (column) => column.primaryKey().autoIncrement())
      .addColumn('task_id', 'text', (column) => column.notNull().unique())
      .addColumn('kind', 'text', (column) => column.notNull())
      .addColumn('vm_id', 'text')
      .addColumn('host_id', 'text', (column) => column.notNull())
      .addColumn('cluster', 'text', (column) => column.notNull())
      .addColumn('request', 'text', (column) => column.notNull())
      .addColumn('asked_by', 'text', (column) => column.notNull())
      .addColumn('state', 'text', (column) => column.notNull())
      // Whether the host said that it has it: then it is on the disk there, and may have been begun
      .addColumn('held', 'integer', (column) => column.notNull())
      .addColumn('progress', 'text', (column) => column.notNull())
      .addColumn('error', 'text')
      .addColumn('result', 'text')
      .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
      .addColumn('expires_at_ms', 'bigint', (column) => column.notNull())
      .addColumn('sent_at_ms', 'bigint')
      .addColumn('started_at_ms', 'bigint')
      .addColumn('ended_at_ms', 'bigint')
      // When the host last spoke of it
      .addColumn('heard_at_ms', 'bigint')
      // Numbers of the last change, and of the last one that its host has to hear of
      .addColumn('version', 'integer', (column) => column.notNull())
      .addColumn('news', 'integer', (column) => column.notNull())
      .execute()
    for (const [name, columns] of [
      ['host', ['host_id', 'state']],
      ['vm', ['vm_id']],
      ['state', ['state']],
      ['version', ['version']],
    ] as const) {
      await db.schema
        .createIndex(`control_plane_tasks_by_${name}`)
        .on('control_plane_tasks')
        .columns([...columns])
        .execute()
    }
    await db.schema
      .createTable('control_plane_task_changes')
      .addColumn('id', 'integer', (column) => column.primaryKey())
      .addColumn('last', 'integer', (column) => column.notNull())
      .execute()
  },
}
