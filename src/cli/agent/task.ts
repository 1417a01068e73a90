import type { Command } from 'commander'
import { cancelTask, getTask, listTasks } from '../../api/host-agent.js'
import { table } from '../output.js'
import { examples } from '../run.js'
import { connectAgent, followTask, withSocket } from './connection.js'

/** Long work of the agent. */
export function addTaskCommands(program: Command): void {
  const task = program.command('task').description('long work of the agent, until it is restarted')

  withSocket(task.command('list'))
    .description('tasks that run and that ran, the newest first')
    .addHelpText('after', examples('sigillo-agent task list', 'sigillo-agent task list --json'))
    .action(async (_options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const { tasks } = await agent.client.call(listTasks, {})
      agent.output.data({ tasks }, () =>
        table([
          ['TASK', 'KIND', 'STATE', 'PERCENT', 'STEP', 'STARTED', 'ERROR'],
          ...tasks.map((t) => [
            ...[t.taskId, t.kind, t.state, String(t.percent), t.step, t.startedAt],
            t.error?.code ?? '',
          ]),
        ]),
      )
    })

  withSocket(task.command('follow <id>'))
    .description('wait for a task with its progress; an interrupt cancels it')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent task follow 6f1c1d9e-5c52-4f0b-9a7e-0d6d1f0f7a11',
        'sigillo-agent task follow 6f1c1d9e-5c52-4f0b-9a7e-0d6d1f0f7a11 --json',
      ),
    )
    .action(async (taskId: string, _options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const view = await agent.client.call(getTask, { params: { taskId } })
      const ended = await followTask(agent, view)
      agent.output.data(ended, () => [`${ended.kind} is ${ended.state}`])
    })

  withSocket(task.command('cancel <id>'))
    .description('cancel a task: what it was about to change stays as it was')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent task cancel 6f1c1d9e-5c52-4f0b-9a7e-0d6d1f0f7a11',
        'sigillo-agent task list --json | jq -r ".tasks[0].taskId" | xargs sigillo-agent task cancel',
      ),
    )
    .action(async (taskId: string, _options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const view = await agent.client.call(cancelTask, { params: { taskId }, body: {} })
      agent.output.data(view, () => [`${view.kind} is being cancelled`])
    })
}
