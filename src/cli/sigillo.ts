import type { Command } from 'commander'
import { buildVersion } from './build.js'
import { createProgram } from './run.js'
import { addTopics, type Topic } from './topics.js'

/** In the order of the help. */
export const SIGILLO_TOPICS: readonly Topic[] = [
  {
    group: 'The site:',
    words: ['init', 'serve', 'config'],
    load: async () => (await import('./authority/site.js')).addSiteCommands,
  },
  {
    group: 'Hosts and guests:',
    words: ['anchor', 'crl', 'endorsement-key', 'revoked-key'],
    load: async () => (await import('./authority/endorsement.js')).addEndorsementCommands,
  },
  {
    group: 'Hosts and guests:',
    words: ['ticket'],
    load: async () => (await import('./authority/ticket.js')).addTicketCommands,
  },
  {
    group: 'Hosts and guests:',
    words: ['host', 'webhook'],
    load: async () => {
      const { addHostCommands } = await import('./authority/host.js')
      const { addWebhookCommands } = await import('./authority/webhook.js')
      return (program) => addWebhookCommands(program, addHostCommands(program))
    },
  },
  {
    group: 'Hosts and guests:',
    words: ['guest'],
    load: async () => (await import('./authority/guest.js')).addGuestCommands,
  },
  {
    group: 'Hosts and guests:',
    words: ['token'],
    load: async () => (await import('./authority/token.js')).addTokenCommands,
  },
  {
    group: 'Hosts and guests:',
    words: ['image'],
    load: async () => (await import('./authority/image.js')).addImageCommands,
  },
  {
    group: 'Hosts and guests:',
    words: ['policy'],
    load: async () => (await import('./authority/policy.js')).addPolicyCommands,
  },
  {
    group: 'Keys:',
    words: ['provider'],
    load: async () => (await import('./authority/provider.js')).addProviderCommands,
  },
  {
    group: 'Keys:',
    words: ['native'],
    load: async () => (await import('./authority/native.js')).addNativeCommands,
  },
  {
    group: 'Keys:',
    words: ['standard'],
    load: async () => (await import('./authority/standard.js')).addStandardCommands,
  },
  {
    group: 'Keys:',
    words: ['default-provider'],
    load: async () => (await import('./authority/default-provider.js')).addDefaultProviderCommands,
  },
  {
    group: 'Virtual machines:',
    words: ['cluster', 'vm', 'vtpm', 'event'],
    load: async () => {
      const { addInventoryCommands } = await import('./authority/inventory.js')
      const { addVmTaskCommands } = await import('./authority/vm.js')
      return (program) => addVmTaskCommands(addInventoryCommands(program))
    },
  },
  {
    group: 'Virtual machines:',
    words: ['inventory'],
    load: async () => (await import('./authority/inventory-hosts.js')).addInventoryHostCommands,
  },
  {
    group: 'Virtual machines:',
    words: ['storage-policy'],
    load: async () => (await import('./authority/storage-policy.js')).addStoragePolicyCommands,
  },
  {
    group: 'Virtual machines:',
    words: ['task'],
    load: async () => (await import('./authority/task.js')).addTaskCommands,
  },
  {
    group: 'People, and the seals of the site:',
    words: ['operator', 'user', 'service-account'],
    load: async () => {
      const { addOperatorCommands } = await import('./authority/operator.js')
      const { addPeopleCommands } = await import('./authority/people.js')
      return (program) => addPeopleCommands(program, addOperatorCommands(program))
    },
  },
  {
    group: 'People, and the seals of the site:',
    words: ['role', 'permission'],
    load: async () => (await import('./authority/role.js')).addRoleCommands,
  },
  {
    group: 'People, and the seals of the site:',
    words: ['login', 'logout', 'whoami', 'password'],
    load: async () => (await import('./authority/login.js')).addLoginCommands,
  },
  {
    group: 'The site:',
    words: ['audit'],
    load: async () => (await import('./authority/audit.js')).addAuditCommands,
  },
  {
    group: 'Files, without any service:',
    words: ['verify'],
    load: async () => {
      const { addVerifyCommands } = await import('./offline/verify-commands.js')
      const { addVerifyVm } = await import('./authority/verify-vm.js')
      return (program) => addVerifyVm(addVerifyCommands(program))
    },
  },
  {
    group: 'Files, without any service:',
    words: ['eventlog'],
    load: async () => (await import('./offline/event-log-commands.js')).addEventLogCommands,
  },
  {
    group: 'Files, without any service:',
    words: ['ima'],
    load: async () => (await import('./offline/ima-commands.js')).addImaCommands,
  },
  {
    group: 'Files, without any service:',
    words: ['ek'],
    load: async () => (await import('./offline/ek-commands.js')).addEkCommands,
  },
  {
    group: 'Files, without any service:',
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
