import type { VmReport } from '../../api/control-plane.js'
import type { NewEvent } from '../ports.js'

type Change = Pick<NewEvent, 'type' | 'message' | 'detail'>

/**
 * What became encrypted or plain between two reports of a VM, or came under another key provider. Hosts report after each
 * part, so that the events are in the order in which it was done.
 */
export function protectionChanges(before: VmReport, now: VmReport): readonly Change[] {
  const changes: Change[] = []
  if (now.provider !== before.provider) changes.push(homeChange(before, now))
  for (const { name, encrypted } of now.disks) {
    const disk = before.disks.find((one) => one.name === name)
    if (!disk || disk.encrypted === encrypted) continue
    changes.push({
      type: encrypted ? 'vm.disk-encrypted' : 'vm.disk-decrypted',
      message: `disk ${name} of VM ${now.name} ${encrypted ? 'encrypted' : 'decrypted'}`,
      detail: { disk: name, ...(now.provider === undefined ? {} : { provider: now.provider }) },
    })
  }
  return changes
}

function homeChange(before: VmReport, { name, provider }: VmReport): Change {
  if (provider === undefined) {
    return { type: 'vm.home-decrypted', message: `home of VM ${name} decrypted` }
  }
  if (before.provider === undefined) {
    const message = `home of VM ${name} encrypted with ${provider}`
    return { type: 'vm.home-encrypted', message, detail: { provider } }
  }
  return {
    type: 'vm.provider-changed',
    message: `keys of VM ${name} are wrapped by ${provider} now, before by ${before.provider}`,
    detail: { provider, before: before.provider },
  }
}
