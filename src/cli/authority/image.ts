import type { Command } from 'commander'
import {
  type BaseImageView,
  captureBaseImage,
  listBaseImages,
  removeBaseImage,
} from '../../api/attestation.js'
import { fields, table } from '../output.js'
import { moment } from '../values.js'
import { addOperation } from './command.js'

export function addImageCommands(program: Command): void {
  const image = program.command('image').description('base images: what good hosts measure')

  addOperation<typeof captureBaseImage, { readonly host: string; readonly until?: string }>(image, {
    usage: 'capture <name>',
    operation: captureBaseImage,
    configure: (command) =>
      command
        .requiredOption('--host <id>', 'host whose last evidence is to be the reference')
        .option('--until <time>', 'not accepted after this moment: 2027-01-31', moment),
    input: ([name = ''], { host, until }) => ({
      body: { name, hostId: host, ...(until === undefined ? {} : { notAfter: until }) },
    }),
    text: imageLines,
    examples: [
      'sigillo image capture debian-12-grub --host host-a',
      'sigillo image capture debian-12-grub --host host-a --until 2027-01-31 --json',
    ],
  })

  addOperation<typeof listBaseImages, { readonly cluster?: string }>(image, {
    usage: 'list',
    operation: listBaseImages,
    configure: (command) => command.option('--cluster <name>', 'only images of this cluster'),
    input: (_, { cluster }) => ({ query: cluster === undefined ? {} : { cluster } }),
    text: ({ baseImages }) =>
      table([
        ['IMAGE', 'CLUSTER', 'FROM', 'ADDED', 'SECURE BOOT', 'BOOTS'],
        ...baseImages.map((i) => [
          i.name,
          i.cluster,
          sourceText(i),
          i.addedAt,
          i.boot?.secureBoot ?? '-',
          i.boot?.bootApplications.map(({ name }) => name).join(' > ') ?? '-',
        ]),
      ]),
    examples: ['sigillo image list', 'sigillo image list --cluster lab --json'],
  })

  addOperation<typeof removeBaseImage, { readonly cluster: string }>(image, {
    usage: 'remove <name>',
    operation: removeBaseImage,
    configure: (command) => command.requiredOption('--cluster <name>', 'cluster of the image'),
    input: ([name = ''], { cluster }) => ({ params: { cluster, name } }),
    text: () => ['removed'],
    destroys: ([name]) => `hosts that boot ${name} will be refused`,
    examples: [
      'sigillo image remove debian-12-grub --cluster lab --yes',
      'sigillo image list && sigillo image remove old --cluster lab --yes',
    ],
  })
}

function imageLines(image: BaseImageView): readonly string[] {
  return fields([
    ['image', image.name],
    ['cluster', image.cluster],
    ['from', sourceText(image)],
    ['valid from', image.notBefore],
    ['valid until', image.notAfter],
    ['Secure Boot', image.boot?.secureBoot],
    ['boots', image.boot?.bootApplications.map(({ name }) => name).join(' > ')],
    ['kernel', image.boot?.kernel],
    ['command line', image.boot?.commandLine],
    ['PCRs', `${image.bank}:${image.pcrs.map(({ pcr }) => pcr).join(',')}`],
  ])
}

function sourceText({ source }: BaseImageView): string {
  switch (source.kind) {
    case 'captured':
      return `host ${source.hostId}`
    case 'json':
      return source.description ?? 'reference values'
    case 'corim':
      return `CoRIM ${source.id}${source.signer === undefined ? ', not signed' : ` of ${source.signer}`}`
  }
}
