import type { Command } from 'commander'
import {
  admitStart,
  adoptDomain,
  defineInLibvirt,
  endAdmission,
  mendVtpm,
  showDomain,
  startInLibvirt,
  tellLibvirtEvent,
  undefineInLibvirt,
} from '../../api/libvirt.js'
import { readText } from '../../core/read-file.js'
import { examples } from '../run.js'
import { collect, integer } from '../values.js'
import { connectAgent, followTask, withSocket } from './connection.js'
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

  addAdoptCommand(libvirt)
  addAdmissionCommands(libvirt)
  addHookCommands(libvirt)
}

interface AdoptOptions {
  readonly name?: string
  readonly provider?: string
  readonly vtpm?: 'keep' | 'new' | 'none'
  readonly diskPassphrase?: readonly string[]
  readonly vtpmPassphrase?: string
}

function addAdoptCommand(libvirt: Command): void {
  withSocket(libvirt.command('adopt <domain.xml>'))
    .description('make an encrypted VM of a domain that is shut off, and define it in its place')
    .option('--name <name>', 'name of the VM, where that of the domain will not do')
    .option('--provider <name>', 'key provider (default: that of the cluster or the site)')
    .option(
      '--vtpm <kind>',
      'keep: the virtual TPM of the domain (default where it has one); new: another one; none',
    )
    .option(
      '--disk-passphrase <target=file>',
      'of a disk that is a LUKS volume; may be repeated',
      collect,
    )
    .option('--vtpm-passphrase <file>', 'of the virtual TPM, where its state is encrypted')
    .addHelpText(
      'after',
      examples(
        'virsh dumpxml --inactive web1 | sigillo-agent libvirt adopt - --provider gold',
        'sigillo-agent libvirt adopt web1.xml --disk-passphrase vda=/root/web1.pass --vtpm new',
      ),
    )
    .action(async (file: string, options: AdoptOptions, command: Command) => {
      const { name, provider, vtpm, diskPassphrase = [], vtpmPassphrase } = options
      const xml = file === '-' ? await readStandardInput() : readText(file)
      const diskPassphrases = diskPassphrase.map((text) => {
        const [disk = '', ...path] = text.split('=')
        return { disk, file: path.join('=') }
      })
      await using agent = connectAgent(command)
      const body = {
        ...{ xml, diskPassphrases },
        ...(name === undefined ? {} : { name }),
        ...(provider === undefined ? {} : { provider }),
        ...(vtpm === undefined ? {} : { vtpm }),
        ...(vtpmPassphrase === undefined ? {} : { vtpmPassphraseFile: vtpmPassphrase }),
      }
      const task = await followTask(agent, await agent.client.call(adoptDomain, { body }))
      agent.output.note('the files that its disks were copied from are as they were')
      if (task.vm) printVm(agent.output, task.vm)
    })
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
