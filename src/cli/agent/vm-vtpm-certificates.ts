import { type Command, Option } from 'commander'
import {
  importVtpmCertificate,
  replaceVtpmCertificates,
  requestVtpmCertificate,
} from '../../api/vtpm.js'
import { readPem } from '../offline/files.js'
import { examples } from '../run.js'
import { connectAgent, followTask, withSocket } from './connection.js'
import { printVm } from './vm-text.js'

/** Certificates of virtual TPMs of stopped VMs. */
export function addVtpmCertificateCommands(vtpm: Command): void {
  withSocket(vtpm.command('replace-certificates <vm>'))
    .description('have all certificates issued anew by the authority of the site; keys stay')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm vtpm replace-certificates web1',
        'sigillo-agent vm vtpm replace-certificates web1 --json',
      ),
    )
    .action(async (name: string, _: unknown, command: Command) => {
      await using agent = connectAgent(command)
      const params = { vm: name }
      const started = await agent.client.call(replaceVtpmCertificates, { params, body: {} })
      const task = await followTask(agent, started)
      if (task.vm) printVm(agent.output, task.vm)
    })

  withSocket(vtpm.command('csr <vm>'))
    .description('print a request (PKCS#10) for a certificate by an authority elsewhere')
    .addOption(
      new Option('--ek <kind>', 'which endorsement key').choices(['rsa', 'ecc']).default('rsa'),
    )
    .option('--public-key', 'print the key alone, for authorities that take no unsigned request')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm vtpm csr web1 --ek ecc > web1.csr',
        'sigillo-agent vm vtpm csr web1 --ek rsa --public-key > web1.pub',
      ),
    )
    .action(
      async (
        name: string,
        options: { ek: 'rsa' | 'ecc'; publicKey?: boolean },
        command: Command,
      ) => {
        await using agent = connectAgent(command)
        const input = { params: { vm: name }, body: { key: options.ek } }
        const answer = await agent.client.call(requestVtpmCertificate, input)
        const text = options.publicKey ? answer.publicKey : answer.request
        agent.output.data(answer, () => [text.trimEnd()])
      },
    )

  withSocket(vtpm.command('import-certificate <vm> <file>'))
    .description('put the certificate of an authority elsewhere into the virtual TPM')
    .requiredOption('--ca <file>', 'certificates of that authority and of those between, PEM')
    .addHelpText(
      'after',
      examples(
        'sigillo-agent vm vtpm import-certificate web1 web1.pem --ca corporate-ca.pem',
        'sigillo-agent vm vtpm import-certificate web1 web1.pem --ca corporate-ca.pem --json',
      ),
    )
    .action(async (name: string, file: string, options: { ca: string }, command: Command) => {
      const body = { certificate: readPem(file), authorities: readPem(options.ca) }
      await using agent = connectAgent(command)
      const params = { vm: name }
      const started = await agent.client.call(importVtpmCertificate, { params, body })
      const task = await followTask(agent, started)
      if (task.vm) printVm(agent.output, task.vm)
    })
}
