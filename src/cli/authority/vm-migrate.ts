import type { Command } from 'commander'
import type { VmView } from '../../api/control-plane.js'
import { cancelVmTask, createVmTask, getVmTask, type VmTaskView } from '../../api/tasks.js'
import { PlatformError } from '../../core/errors.js'
import { examples } from '../run.js'
import { type Connection, connect, withConnection } from './connection.js'
import { followVmTask, taskLines } from './follow-task.js'
import { findVm } from './vm-task.js'

const WAIT_SECONDS = 20

interface MigrateOptions {
  readonly to: string
  readonly directory?: string
  readonly listen?: string
  readonly host?: string
  readonly cluster?: string
}

/** Both halves of a move by one command: a task on the host that has the VM, and one on the host that gets it. */
export function addMigrateCommand(vm: Command): void {
  withConnection(vm.command('migrate <vm>'))
    .description('move a VM to another host of its cluster: stopped by a directory, or running')
    .requiredOption('--to <host>', 'host that gets it')
    .option('--directory <path>', 'new directory that both hosts see: moves a stopped VM')
    .option('--listen <address>', 'where the other host listens: moves a VM that runs')
    .option('--host <id>', 'host: where the VM is, if others have its name')
    .option('--cluster <name>', 'cluster: the same')
    .addHelpText(
      'after',
      examples(
        'sigillo vm migrate web1 --to host-b --directory /mnt/shared/web1',
        'sigillo vm migrate web1 --to host-b --listen 10.0.0.2:7000',
      ),
    )
    .action(migrate)
}

async function migrate(name: string, options: MigrateOptions, command: Command): Promise<void> {
  const { directory, listen, to } = options
  if ((directory === undefined) === (listen === undefined)) {
    throw new PlatformError('REQUEST_INVALID', 'expected either --directory or --listen')
  }
  await using connection = connect(command)
  const vm = await findVm(connection.client, name, options)
  const tasks =
    directory === undefined
      ? await migrateRunning(connection, vm, { to, listen: listen ?? '' })
      : await migrateStopped(connection, vm, { to, directory })
  connection.output.data({ tasks }, () => tasks.flatMap(taskLines))
}

/** Where the other host does not take it, the VM is locked on its own: it can be tried again, or taken back. */
async function migrateStopped(
  connection: Connection,
  { vmId, report }: VmView,
  { to, directory }: { readonly to: string; readonly directory: string },
): Promise<readonly VmTaskView[]> {
  const { client, output } = connection
  const exported = await followVmTask(
    connection,
    await client.call(createVmTask, {
      body: { kind: 'vm.export', vmId, request: { directory, move: true } },
    }),
  )
  try {
    const body = { kind: 'vm.import', hostId: to, request: { directory } } as const
    const imported = await followVmTask(connection, await client.call(createVmTask, { body }))
    return [exported, imported]
  } catch (error) {
    output.note(`it is locked where it was: sigillo vm import ${directory} --host ${to}`)
    output.note(`or: sigillo vm take-back ${report.name}`)
    throw error
  }
}

/** Where it does not go, its guest goes on where it is. */
async function migrateRunning(
  connection: Connection,
  { vmId }: VmView,
  { to, listen }: { readonly to: string; readonly listen: string },
): Promise<readonly VmTaskView[]> {
  const { client } = connection
  const asked = await client.call(createVmTask, {
    body: { kind: 'vm.receive', hostId: to, request: { listen } },
  })
  const { taskId } = asked
  try {
    await listening(connection, asked)
    const body = { kind: 'vm.send', vmId, request: { to: listen } } as const
    const sent = await followVmTask(connection, await client.call(createVmTask, { body }))
    return [
      sent,
      await followVmTask(connection, await client.call(getVmTask, { params: { taskId } })),
    ]
  } catch (error) {
    const { state } = await client.call(getVmTask, { params: { taskId } })
    if (['queued', 'sent', 'running'].includes(state)) {
      await client.call(cancelVmTask, { params: { taskId }, body: {} })
    }
    throw error
  }
}

/** Waits until the host that gets a VM says that it listens. @throws PlatformError what it could not listen for */
async function listening({ client, output }: Connection, asked: VmTaskView): Promise<void> {
  output.note(`waits for ${asked.hostId} to listen`)
  for (let task = asked; ; ) {
    if (task.state === 'running' && task.step === 'listen') return
    if (task.error) {
      throw new PlatformError('VM_LIVE', `${task.error.message} (${task.error.code})`)
    }
    const query = { after: task.version, waitSeconds: WAIT_SECONDS }
    task = await client.call(getVmTask, { params: { taskId: asked.taskId }, query })
  }
}
