import { text } from 'node:stream/consumers'
import type { VmTaskKind } from '../../../src/api/vm-tasks.js'
import { systemClock } from '../../../src/core/clock.js'
import { loadConfig } from '../../../src/core/config.js'
import { createLogger } from '../../../src/core/logger.js'
import { AgentConfig } from '../../../src/host-agent/config.js'
import { startHostAgent } from '../../../src/host-agent/main.js'
import { TASK_HANDLERS, type TaskHandler } from '../../../src/host-agent/tasks/handlers.js'
import { TaskJournal } from '../../../src/host-agent/tasks/journal.js'

/** An agent as a process of its own, that kills itself without warning where it is told. */
const { env, killAt } = JSON.parse(await text(process.stdin))

function die(point: string): void {
  if (point === killAt) process.kill(process.pid, 'SIGKILL')
}

const { write } = TaskJournal.prototype
TaskJournal.prototype.write = function writeOrDie(entry) {
  die(`before ${entry.settled ? 'settled' : entry.state}`)
  write.call(this, entry)
  die(`after ${entry.settled ? 'settled' : entry.state}`)
}
for (const kind of Object.keys(TASK_HANDLERS) as VmTaskKind[]) {
  const handler: TaskHandler<VmTaskKind> = TASK_HANDLERS[kind]
  const { run } = handler
  const onProgress =
    (tell: Parameters<typeof run>[2]['onProgress']): typeof tell =>
    (step, percent, octets) => {
      die(`at ${step}`)
      tell(step, percent, octets)
    }
  Object.assign(handler, {
    run: (...[services, call, following]: Parameters<typeof run>) =>
      run(services, call, { ...following, onProgress: onProgress(following.onProgress) }),
  })
}

const { config } = loadConfig(AgentConfig, { prefix: 'SIGILLO_AGENT', env })
const logger = createLogger({ name: 'agent', level: 'silent' })
const agent = await startHostAgent({ config, clock: systemClock, random: () => 0, logger })
process.on('SIGTERM', () => {
  void agent.close().then(() => process.exit(0))
})
