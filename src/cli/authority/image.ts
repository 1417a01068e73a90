import type { Command } from 'commander'
import {
  type BaseImageView,
  captureBaseImage,
  listBaseImages,
  removeBaseImage,
} from '../../api/base-images.js'
import { everyPage } from '../../api/every-page.js'
import {
  addReferenceSigner,
  importBaseImages,
  listReferenceSigners,
  removeReferenceSigner,
} from '../../api/reference-values.js'
import { toBase64url } from '../../core/bytes.js'
import { PlatformError } from '../../core/errors.js'
import { readText } from '../../core/read-file.js'
import { readOctets } from '../offline/files.js'
import { fields, sortedBy, table } from '../output.js'
import { examples } from '../run.js'
import { moment } from '../values.js'
import { addOperation } from './command.js'
import { connect, withConnection } from './connection.js'

const MAX_FILE_OCTETS = 1024 * 1024

interface ImportOptions {
  readonly cluster: string
  readonly name?: string
  readonly unsigned?: boolean
}

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

  addOperation<typeof importBaseImages, ImportOptions>(image, {
    usage: 'import <file>',
    operation: importBaseImages,
    configure: (command) =>
      command
        .requiredOption('--cluster <name>', 'cluster whose hosts may boot it')
        .option('--name <name>', 'name of the image; needed for a CoRIM')
        .option('--unsigned', 'accept a CoRIM that nobody signed: you vouch for it'),
    input: ([file = ''], { cluster, name, unsigned }) => {
      const octets = readOctets(file, MAX_FILE_OCTETS)
      return {
        body: {
          cluster,
          format: looksLikeJson(octets) ? 'json' : 'corim',
          content: toBase64url(octets),
          ...(name === undefined ? {} : { name }),
          ...(unsigned ? { unsigned } : {}),
        },
      }
    },
    text: ({ baseImages, unused }) => [
      ...baseImages.flatMap((one) => [...imageLines(one), '']),
      ...unused.map((sentence) => `not used: ${sentence}`),
    ],
    examples: [
      'sigillo image import rack-7.json --cluster lab',
      'sigillo image import maker.corim --cluster lab --name maker-1.2 --json',
    ],
  })

  addExportCommand(image)
  addSignerCommands(image)

  addOperation<typeof listBaseImages, { readonly cluster?: string }>(image, {
    usage: 'list',
    operation: listBaseImages,
    list: 'baseImages',
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

/** A base image as the file that `image import` reads, with `--json` or without. */
function addExportCommand(image: Command): void {
  const command = withConnection(image.command('export <name>'))
  command
    .description('Print a base image as reference values in JSON')
    .requiredOption('--cluster <name>', 'cluster of the image')
    .addHelpText(
      'after',
      examples(
        'sigillo image export debian-12-grub --cluster lab > debian-12-grub.json',
        'sigillo image export debian-12-grub --cluster lab | sigillo image import /dev/stdin --cluster two',
      ),
    )
    .action(async (name: string, { cluster }: { readonly cluster: string }) => {
      await using connection = connect(command)
      const { client } = connection
      const input = { query: { cluster } }
      const { baseImages } = await everyPage(client, listBaseImages, input, 'baseImages')
      const found = baseImages.find((one) => one.name === name)
      if (!found) throw new PlatformError('NOT_FOUND', `no base image ${cluster}/${name}`)
      const file = referenceValuesOf(found)
      connection.output.data(file, () => [JSON.stringify(file, undefined, 2)])
    })
}

function referenceValuesOf(image: BaseImageView) {
  return {
    name: image.name,
    bank: image.bank,
    pcrs: Object.fromEntries(image.pcrs.map(({ pcr, digests }) => [String(pcr), digests])),
    source: sourceText(image),
    ...(image.notBefore === undefined ? {} : { notBefore: image.notBefore }),
    ...(image.notAfter === undefined ? {} : { notAfter: image.notAfter }),
  }
}

function addSignerCommands(image: Command): void {
  const signer = image.command('signer').description('keys that may sign reference values (CoRIM)')
  addOperation<typeof addReferenceSigner, { readonly note: string }>(signer, {
    usage: 'add <file>',
    operation: addReferenceSigner,
    configure: (command) => command.requiredOption('--note <text>', 'whose key it is'),
    input: ([file = ''], { note }) => ({ body: { pem: readText(file), note } }),
    text: ({ signerId }) => [`trusted: signer ${signerId}`],
    examples: [
      "sigillo image signer add maker.pub.pem --note 'ACME, by their site of 2026-11-02'",
      'sigillo image signer add maker.pub.pem --note ACME --json',
    ],
  })
  addOperation(signer, {
    usage: 'list',
    operation: listReferenceSigners,
    list: 'signers',
    input: () => ({ query: {} }),
    text: ({ signers }) =>
      table([
        ['SIGNER', 'ADDED', 'NOTE'],
        ...sortedBy(signers, ({ addedAt }) => addedAt).map((one) => [
          one.signerId,
          one.addedAt.slice(0, 10),
          one.note,
        ]),
      ]),
    examples: ['sigillo image signer list', 'sigillo image signer list --json'],
  })
  addOperation(signer, {
    usage: 'remove <signer>',
    operation: removeReferenceSigner,
    input: ([signerId = '']) => ({ params: { signerId } }),
    text: () => ['removed'],
    destroys: ([signerId]) => `nothing that ${signerId} signs will be imported any more`,
    examples: [
      'sigillo image signer remove 3f0c… --yes',
      'sigillo image signer remove 3f0c… --yes --json',
    ],
  })
}

/** Whether the first octet that is no space is that of a JSON object; CBOR never begins so. */
function looksLikeJson(octets: Uint8Array): boolean {
  return /^\s*\{/.test(Buffer.from(octets.subarray(0, 100)).toString('latin1'))
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
