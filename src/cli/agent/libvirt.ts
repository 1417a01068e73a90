import type { Command } from 'commander'
import {
  admitStart,
  defineInLibvirt,
  endAdmission,
  mendVtpm,
  showDomain,
  startInLibvirt,
  tellLibvirtEvent,
  undefineInLibvirt,
} from '../../api/libvirt.js'
import { examples } from '../run.js'
import { integer } from '../values.js'
import { connectAgent, withSocket } from './connection.js'
import { HOOK_SCRIPT } from './libvirt-hook.js'
import { readStandardInput } from './standard-input.js'
import { printVm } from './vm-text.js'

const DEFAULT_ADMISSION_SECONDS = 60

/** VMs of this host that libvirt runs. */
export function addLibvirtCommands(program: Command): void {
  const libvirt = program
    .command('libvirt')
    .description('VMs that libvirt runs, with keys for attested hosts only')

  withSocket(libvirt.command('xml <vm>'))
    .description('print the domain that a VM is in libvirt, or would be')
    .addHelpText(
      'after',
      examples('sigillo-agent libvirt xml web1', 'sigillo-agent libvirt xml web1 > web1.xml'),
    )
    .action(async (vm: string, _options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const { xml } = await agent.client.call(showDomain, { params: { vm } })
      agent.output.data({ xml }, () => [xml.trimEnd()])
    })

  withSocket(libvirt.command('define <vm>'))
    .description('make a stopped VM a domain of libvirt, which runs it from then on')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent libvirt define web1',
        'sigillo-agent libvirt define web1 && sigillo-agent libvirt start web1',
      ),
    )
    .action(async (vm: string, _options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      printVm(agent.output, await agent.client.call(defineInLibvirt, { params: { vm }, body: {} }))
    })

  withSocket(libvirt.command('undefine <vm>'))
    .description('have a VM run by the agent again; its domain is undefined')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent libvirt undefine web1',
        'virsh shutdown web1; sigillo-agent libvirt undefine web1 --json',
      ),
    )
    .action(async (vm: string, _options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      printVm(
        agent.output,
        await agent.client.call(undefineInLibvirt, { params: { vm }, body: {} }),
      )
    })

  withSocket(libvirt.command('start <vm>'))
    .description('have libvirt start a VM, with its keys there for as long as that takes')
    .addHelpText(
      'after',
      examples('sigillo-agent libvirt start web1', 'sigillo-agent libvirt start web1 --json'),
    )
    .action(async (vm: string, _options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      printVm(agent.output, await agent.client.call(startInLibvirt, { params: { vm }, body: {} }))
    })

  for (const [how, what] of [
    [
      'restore',
      'put the copy of the last recorded state of the virtual TPM in the place of a damaged one',
    ],
    ['accept', 'accept an older state of the virtual TPM, which is refused otherwise'],
  ] as const) {
    withSocket(libvirt.command(`${how}-vtpm <vm>`))
      .description(what)
      .addHelpText(
        'after',
        examples(
          `sigillo-agent libvirt ${how}-vtpm web1`,
          `sigillo-agent libvirt ${how}-vtpm web1 --json`,
        ),
      )
      .action(async (vm: string, _options: unknown, command: Command) => {
        await using agent = connectAgent(command)
        printVm(agent.output, await agent.client.call(mendVtpm, { params: { vm }, body: { how } }))
      })
  }

  addAdmissionCommands(libvirt)
  addHookCommands(libvirt)
}

function addAdmissionCommands(libvirt: Command): void {
  withSocket(libvirt.command('admit <vm>'))
    .description('let another client of libvirt start a VM: once, within some time')
    .option('--seconds <n>', 'after which it is too late', integer, DEFAULT_ADMISSION_SECONDS)
    .addHelpText(
      'after',
      examples(
        'sigillo-agent libvirt admit web1 && virsh start web1',
        'sigillo-agent libvirt admit web1 --seconds 300',
      ),
    )
    .action(async (vm: string, { seconds }: { seconds: number }, command: Command) => {
      await using agent = connectAgent(command)
      await agent.client.call(admitStart, { params: { vm }, body: { seconds } })
      agent.output.data({ vm, seconds }, () => [`a start of VM ${vm} is admitted for ${seconds} s`])
    })

  withSocket(libvirt.command('end-admission <vm>'))
    .description('take an admission back')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent libvirt end-admission web1',
        'sigillo-agent libvirt end-admission web1 --json',
      ),
    )
    .action(async (vm: string, _options: unknown, command: Command) => {
      await using agent = connectAgent(command)
      await agent.client.call(endAdmission, { params: { vm } })
      agent.output.data({ vm }, () => [`no start of VM ${vm} is admitted`])
    })
}

function addHookCommands(libvirt: Command): void {
  libvirt
    .command('hook-script')
    .description('print the script that libvirt is to call before it starts a VM')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent libvirt hook-script',
        'sigillo-agent libvirt hook-script | install -D -m 755 /dev/stdin /etc/libvirt/hooks/qemu.d/sigillo',
      ),
    )
    .action(() => {
      process.stdout.write(HOOK_SCRIPT)
    })

  withSocket(libvirt.command('hook <domain> <operation> <suboperation> [extra]'))
    .description('what the script runs: asks the agent, with the domain on standard input')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent libvirt hook web1 prepare begin - < web1.xml',
        'sigillo-agent libvirt hook web1 release end - < web1.xml',
      ),
    )
    .action(
      async (
        domain: string,
        operation: string,
        subOperation: string,
        _extra: string | undefined,
        _options: unknown,
        command: Command,
      ) => {
        const xml = await readStandardInput()
        await using agent = connectAgent(command)
        await agent.client.call(tellLibvirtEvent, {
          body: { domain, operation, subOperation, xml },
        })
      },
    )
}
