import type { Command } from 'commander'
import {
  cancelVmTask,
  getVmTask,
  listVmTasks,
  type TaskState,
  type VmTaskView,
} from '../../api/tasks.js'
import { fields, progressBar, table } from '../output.js'
import { examples } from '../run.js'
import { addOperation } from './command.js'
import { connect, withConnection } from './connection.js'
import { followVmTask, taskLines } from './follow-task.js'

interface ListOptions {
  readonly vm?: string
  readonly host?: string
  readonly state?: TaskState
}

const ID = '6f1c1d9e-5c52-4f0b-9a7e-0d6d1f0f7a11'

/** Operations that hosts do for people. */
export function addTaskCommands(program: Command): void {
  const task = program.command('task').description('operations on VMs that hosts do')

  addOperation<typeof listVmTasks, ListOptions>(task, {
    usage: 'list',
    operation: listVmTasks,
    list: 'tasks',
    configure: (command) =>
      command
        .option('--vm <id>', 'only tasks of this VM')
        .option('--host <id>', 'only tasks of this host')
        .option(
          '--state <state>',
          'queued, sent, running, cancelling, done, failed, cancelled, lost',
        ),
    input: (_, { vm, host, state }) => ({
      query: {
        ...(vm === undefined ? {} : { vmId: vm }),
        ...(host === undefined ? {} : { hostId: host }),
        ...(state === undefined ? {} : { state }),
      },
    }),
    text: ({ tasks }) =>
      table([
        ['TASK', 'KIND', 'STATE', 'PERCENT', 'HOST', 'ASKED BY', 'MADE', 'ERROR'],
        ...tasks.map((t) => [
          ...[t.taskId, t.kind, t.state, String(t.percent), t.hostId, t.askedBy, t.createdAt],
          t.error?.code ?? '',
        ]),
      ]),
    examples: ['sigillo task list', 'sigillo task list --state running --json'],
  })
  addOperation(task, {
    usage: 'show <id>',
    operation: getVmTask,
    input: ([taskId = '']) => ({ params: { taskId } }),
    text: linesOf,
    examples: [`sigillo task show ${ID}`, `sigillo task show ${ID} --json`],
  })
  addOperation(task, {
    usage: 'cancel <id>',
    operation: cancelVmTask,
    input: ([taskId = '']) => ({ params: { taskId }, body: {} }),
    text: taskLines,
    examples: [`sigillo task cancel ${ID}`, `sigillo task cancel ${ID} --json`],
  })

  withConnection(task.command('follow <id>'))
    .description('wait for a task with its progress')
    .addHelpText('after', examples(`sigillo task follow ${ID}`, `sigillo task follow ${ID} --json`))
    .action(async (taskId: string, _options: unknown, command: Command) => {
      await using connection = connect(command)
      const begun = await connection.client.call(getVmTask, { params: { taskId } })
      const ended = await followVmTask(connection, begun)
      connection.output.data(ended, () => taskLines(ended))
    })
}

function linesOf(task: VmTaskView): readonly string[] {
  const { percent, step = '', octets } = task
  return fields([
    ['task', task.taskId],
    ['kind', task.kind],
    ['state', task.state],
    ['waits for', task.waitingFor],
    ['progress', progressBar(percent, step, octets, task)],
    ['VM', task.vmId],
    ['host', `${task.hostId} in ${task.cluster}`],
    ['asked by', task.askedBy],
    ['made', task.createdAt],
    ['expires', task.expiresAt],
    ['sent', task.sentAt],
    ['begun', task.startedAt],
    ['ended', task.endedAt],
    ['error', task.error && `${task.error.message} (${task.error.code})`],
    ['left', task.result && `VM ${task.result.name} (${task.result.vmId}), ${task.result.state}`],
    ['request', JSON.stringify(task.request)],
  ])
}
