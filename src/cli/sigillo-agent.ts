import type { Command } from 'commander'
import { buildVersion } from './build.js'
import { createProgram } from './run.js'
import { addTopics, type Topic } from './topics.js'

/** In the order of the help. */
export const AGENT_TOPICS: readonly Topic[] = [
  {
    words: ['run', 'config'],
    load: async () => (await import('./agent/daemon.js')).addDaemonCommands,
  },
  {
    words: ['status', 'attest', 'token', 'evidence', 'key'],
    load: async () => (await import('./agent/host.js')).addHostCommands,
  },
  {
    words: ['vm'],
    load: async () => (await import('./agent/vm.js')).addVmCommands,
  },
  {
    words: ['task'],
    load: async () => (await import('./agent/task.js')).addTaskCommands,
  },
  {
    words: ['libvirt'],
    load: async () => (await import('./agent/libvirt.js')).addLibvirtCommands,
  },
  {
    words: ['core-dump'],
    load: async () => (await import('./agent/core-dump.js')).addCoreDumpCommands,
  },
]

/** `sigillo-agent` with the commands that `args` can mean; with all of them where it is empty. */
export async function agentProgram(args: readonly string[] = []): Promise<Command> {
  const program = createProgram(
    'sigillo-agent',
    'Agent of a KVM host: attests it, and runs its encrypted VMs',
  )
  program.version(buildVersion())
  await addTopics(program, AGENT_TOPICS, args)
  return program
}
