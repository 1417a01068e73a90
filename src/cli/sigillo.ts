import type { Command } from 'commander'
import { buildVersion } from './build.js'
import { createProgram } from './run.js'
import { addTopics, type Topic } from './topics.js'

/** In the order of the help. */
export const SIGILLO_TOPICS: readonly Topic[] = [
  {
    words: ['init', 'serve', 'config'],
    load: async () => (await import('./authority/site.js')).addSiteCommands,
  },
  {
    words: ['anchor', 'crl', 'endorsement-key', 'revoked-key'],
    load: async () => (await import('./authority/endorsement.js')).addEndorsementCommands,
  },
  {
    words: ['ticket'],
    load: async () => (await import('./authority/ticket.js')).addTicketCommands,
  },
  {
    words: ['host', 'webhook'],
    load: async () => {
      const { addHostCommands } = await import('./authority/host.js')
      const { addWebhookCommands } = await import('./authority/webhook.js')
      return (program) => addWebhookCommands(program, addHostCommands(program))
    },
  },
  {
    words: ['guest'],
    load: async () => (await import('./authority/guest.js')).addGuestCommands,
  },
  {
    words: ['token'],
    load: async () => (await import('./authority/token.js')).addTokenCommands,
  },
  {
    words: ['image'],
    load: async () => (await import('./authority/image.js')).addImageCommands,
  },
  {
    words: ['policy'],
    load: async () => (await import('./authority/policy.js')).addPolicyCommands,
  },
  {
    words: ['provider'],
    load: async () => (await import('./authority/provider.js')).addProviderCommands,
  },
  {
    words: ['native'],
    load: async () => (await import('./authority/native.js')).addNativeCommands,
  },
  {
    words: ['standard'],
    load: async () => (await import('./authority/standard.js')).addStandardCommands,
  },
  {
    words: ['default-provider'],
    load: async () => (await import('./authority/default-provider.js')).addDefaultProviderCommands,
  },
  {
    words: ['cluster', 'vm', 'vtpm', 'event'],
    load: async () => {
      const { addInventoryCommands } = await import('./authority/inventory.js')
      const { addVmTaskCommands } = await import('./authority/vm.js')
      return (program) => addVmTaskCommands(addInventoryCommands(program))
    },
  },
  {
    words: ['inventory'],
    load: async () => (await import('./authority/inventory-hosts.js')).addInventoryHostCommands,
  },
  {
    words: ['storage-policy'],
    load: async () => (await import('./authority/storage-policy.js')).addStoragePolicyCommands,
  },
  {
    words: ['task'],
    load: async () => (await import('./authority/task.js')).addTaskCommands,
  },
  {
    words: ['operator', 'user', 'service-account'],
    load: async () => {
      const { addOperatorCommands } = await import('./authority/operator.js')
      const { addPeopleCommands } = await import('./authority/people.js')
      return (program) => addPeopleCommands(program, addOperatorCommands(program))
    },
  },
  {
    words: ['role', 'permission'],
    load: async () => (await import('./authority/role.js')).addRoleCommands,
  },
  {
    words: ['login', 'logout', 'whoami', 'password'],
    load: async () => (await import('./authority/login.js')).addLoginCommands,
  },
  {
    words: ['audit'],
    load: async () => (await import('./authority/audit.js')).addAuditCommands,
  },
  {
    words: ['verify'],
    load: async () => {
      const { addVerifyCommands } = await import('./offline/verify-commands.js')
      const { addVerifyVm } = await import('./authority/verify-vm.js')
      return (program) => addVerifyVm(addVerifyCommands(program))
    },
  },
  {
    words: ['eventlog'],
    load: async () => (await import('./offline/event-log-commands.js')).addEventLogCommands,
  },
  {
    words: ['ima'],
    load: async () => (await import('./offline/ima-commands.js')).addImaCommands,
  },
  {
    words: ['ek'],
    load: async () => (await import('./offline/ek-commands.js')).addEkCommands,
  },
  {
    words: ['kmip'],
    load: async () => {
      const { addKmipCommands } = await import('./offline/kmip-commands.js')
      const { addKmipTest } = await import('./authority/provider.js')
      return (program) => addKmipTest(addKmipCommands(program))
    },
  },
]

/** `sigillo` with the commands that `args` can mean; with all of them where it is empty. */
export async function sigilloProgram(args: readonly string[] = []): Promise<Command> {
  const program = createProgram('sigillo', 'Trust authority for KVM hosts')
  program.version(buildVersion())
  await addTopics(program, SIGILLO_TOPICS, args)
  return program
}
