import type { Command } from 'commander'
import type { listVms } from '../../api/control-plane.js'
import type { QueryOf } from '../../api/operation.js'
import { integer } from '../values.js'

type Filter = Omit<QueryOf<typeof listVms>, 'after' | 'limit'>

export interface VmFilterOptions {
  readonly cluster?: string
  readonly host?: string
  readonly provider?: string
  readonly keyVersion?: number
  readonly encrypted?: boolean
  readonly plain?: boolean
  readonly state?: NonNullable<Filter['state']>
  readonly tag?: string
}

/** Declares which VMs are meant. */
export function withVmFilter(command: Command): Command {
  return command
    .option('--cluster <name>', 'only VMs of this cluster')
    .option('--host <id>', 'only VMs of this host')
    .option('--provider <name>', 'only VMs with keys of this provider')
    .option('--key-version <n>', 'only VMs with a key that is wrapped with this version', integer)
    .option('--encrypted', 'only VMs whose home is encrypted')
    .option('--plain', 'only VMs whose home is plain')
    .option('--state <state>', 'only VMs in this state')
    .option('--tag <tag>', 'only VMs with this tag, or one in this folder')
}

export function vmFilterOf(options: VmFilterOptions): Filter {
  const { cluster, host, provider, keyVersion, encrypted, plain, state, tag } = options
  return {
    ...(cluster === undefined ? {} : { cluster }),
    ...(host === undefined ? {} : { hostId: host }),
    ...(provider === undefined ? {} : { provider }),
    ...(keyVersion === undefined ? {} : { keyVersion }),
    ...(encrypted ? { encrypted: true } : {}),
    ...(plain ? { encrypted: false } : {}),
    ...(state === undefined ? {} : { state }),
    ...(tag === undefined ? {} : { tag }),
  }
}
