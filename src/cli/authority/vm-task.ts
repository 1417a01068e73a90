import type { Command } from 'commander'
import type { Client } from '../../api/client.js'
import { listVms, type VmView } from '../../api/control-plane.js'
import { everyPage } from '../../api/every-page.js'
import { createVmTask, type NewVmTask, type VmTaskView } from '../../api/tasks.js'
import { VM_TASKS, type VmTaskKind, type VmTaskRequest } from '../../api/vm-tasks.js'
import { PlatformError } from '../../core/errors.js'
import { asPhrase } from '../output.js'
import { requireYes } from '../require-yes.js'
import { examples } from '../run.js'
import { integer } from '../values.js'
import { connect, withConnection } from './connection.js'
import { followVmTask, taskLines } from './follow-task.js'

interface Place {
  readonly host?: string
  readonly cluster?: string
}

interface TaskPlace {
  readonly hostId?: string
  readonly cluster?: string
  readonly expiresInSeconds?: number
}

interface TaskOptions extends Place {
  readonly detach?: boolean
  readonly expires?: number
  readonly yes?: boolean
}

/** A command that has one operation on VMs done by their host. */
interface VmTaskCommand<K extends VmTaskKind, Options> {
  /** For kinds on a VM, `<vm>` comes first. */
  readonly usage: string
  readonly kind: K
  readonly configure?: (command: Command) => Command
  /** @param args without the VM */
  readonly request: (args: readonly string[], options: Options) => VmTaskRequest<K>
  /** Asks for the task in another way where options say so. */
  readonly begin?: (
    client: Client,
    options: Options,
    asked: { readonly request: VmTaskRequest<K>; readonly where: TaskPlace },
  ) => Promise<VmTaskView> | undefined
  /** Question to be confirmed by `--yes`, for what cannot be undone. */
  readonly destroys?: (args: readonly string[]) => string
  readonly examples: readonly string[]
}

/** Adds such a command below `parent`: it follows the task, unless it is told to leave it to itself. */
export function addVmTask<K extends VmTaskKind, Options extends object = Record<string, never>>(
  parent: Command,
  description: VmTaskCommand<K, Options>,
): void {
  const { kind } = description
  const { on, summary } = VM_TASKS[kind]
  const command = withConnection(parent.command(description.usage)).description(asPhrase(summary))
  description.configure?.(command)
  const place = on === 'vm' ? 'where the VM is, if others have its name' : 'where'
  command
    .option('--host <id>', `host: ${place}`)
    .option('--cluster <name>', `cluster: ${place}`)
    .option('--detach', 'print the task and do not wait for it')
    .option('--expires <seconds>', 'how long it may wait for its host', integer)
  if (description.destroys) command.option('--yes', 'do it without being asked again')
  command.addHelpText('after', examples(...description.examples))
  command.action(async (...parameters: unknown[]) => {
    const args = parameters.slice(0, -2).flat() as string[]
    const options = command.opts<Options & TaskOptions>()
    if (description.destroys) requireYes(options, description.destroys(args))
    const [vm = '', ...rest] = on === 'vm' ? args : ['', ...args]
    const request = description.request(rest, options)
    await using connection = connect(command)
    const { client, output } = connection
    const { host, cluster, expires, detach } = options
    const where =
      on === 'vm'
        ? { vmId: (await findVm(client, vm, options)).vmId }
        : {
            ...(host === undefined ? {} : { hostId: host }),
            ...(cluster === undefined ? {} : { cluster }),
          }
    const expiry = expires === undefined ? {} : { expiresInSeconds: expires }
    const body = { ...{ kind, request, ...where }, ...expiry } as unknown as NewVmTask
    const begun =
      (await description.begin?.(client, options, { request, where: { ...where, ...expiry } })) ??
      (await client.call(createVmTask, { body }))
    const task = detach ? begun : await followVmTask(connection, begun)
    output.data(task, () => taskLines(task))
  })
}

/**
 * The VM of this name or id.
 *
 * @throws PlatformError `VM_NOT_FOUND`; `REQUEST_INVALID` where several have the name
 */
export async function findVm(
  client: Client,
  vm: string,
  { host, cluster }: Place,
): Promise<VmView> {
  const query = {
    ...(host === undefined ? {} : { hostId: host }),
    ...(cluster === undefined ? {} : { cluster }),
  }
  const { vms } = await everyPage(client, listVms, { query }, 'vms')
  const found = vms.filter(({ vmId, report }) => vmId === vm || report.name === vm)
  const [first, second] = found
  if (!first) throw new PlatformError('VM_NOT_FOUND', `no host reported a VM ${vm}`)
  if (second) {
    const where = found.map(({ hostId }) => hostId).join(', ')
    throw new PlatformError('REQUEST_INVALID', `expected one VM ${vm}, found it on ${where}`)
  }
  return first
}
