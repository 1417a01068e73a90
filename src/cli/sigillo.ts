import type { Command } from 'commander'
import { addAuditCommands } from './authority/audit.js'
import { addDefaultProviderCommands } from './authority/default-provider.js'
import { addEndorsementCommands } from './authority/endorsement.js'
import { addGuestCommands } from './authority/guest.js'
import { addHostCommands } from './authority/host.js'
import { addImageCommands } from './authority/image.js'
import { addInventoryCommands } from './authority/inventory.js'
import { addInventoryHostCommands } from './authority/inventory-hosts.js'
import { addLoginCommands } from './authority/login.js'
import { addNativeCommands } from './authority/native.js'
import { addOperatorCommands } from './authority/operator.js'
import { addPeopleCommands } from './authority/people.js'
import { addPolicyCommands } from './authority/policy.js'
import { addKmipTest, addProviderCommands } from './authority/provider.js'
import { addRoleCommands } from './authority/role.js'
import { addSiteCommands } from './authority/site.js'
import { addStandardCommands } from './authority/standard.js'
import { addStoragePolicyCommands } from './authority/storage-policy.js'
import { addTaskCommands } from './authority/task.js'
import { addTicketCommands } from './authority/ticket.js'
import { addTokenCommands } from './authority/token.js'
import { addVerifyVm } from './authority/verify-vm.js'
import { addVmTaskCommands } from './authority/vm.js'
import { addWebhookCommands } from './authority/webhook.js'
import { buildVersion } from './build.js'
import { addEkCommands } from './offline/ek-commands.js'
import { addEventLogCommands } from './offline/event-log-commands.js'
import { addImaCommands } from './offline/ima-commands.js'
import { addKmipCommands } from './offline/kmip-commands.js'
import { addVerifyCommands } from './offline/verify-commands.js'
import { createProgram } from './run.js'

/** All commands of `sigillo`. */
export function sigilloProgram(): Command {
  const program = createProgram('sigillo', 'Trust authority for KVM hosts')
  program.version(buildVersion())
  addSiteCommands(program)
  addEndorsementCommands(program)
  addTicketCommands(program)
  const host = addHostCommands(program)
  addWebhookCommands(program, host)
  addGuestCommands(program)
  addTokenCommands(program)
  addImageCommands(program)
  addPolicyCommands(program)
  addProviderCommands(program)
  addNativeCommands(program)
  addStandardCommands(program)
  addDefaultProviderCommands(program)
  addVmTaskCommands(addInventoryCommands(program))
  addInventoryHostCommands(program)
  addStoragePolicyCommands(program)
  addTaskCommands(program)
  addPeopleCommands(program, addOperatorCommands(program))
  addRoleCommands(program)
  addLoginCommands(program)
  addAuditCommands(program)
  addVerifyVm(addVerifyCommands(program))
  addEventLogCommands(program)
  addImaCommands(program)
  addEkCommands(program)
  addKmipCommands(program)
  addKmipTest(program)
  return program
}
