import type { Command } from 'commander'
import { addAnchors, listAnchors, removeAnchor } from '../../api/attestation.js'
import { table } from '../output.js'
import { addOperation } from './command.js'
import { readText } from './connection.js'

export function addAnchorCommands(program: Command): void {
  const anchor = program
    .command('anchor')
    .description('certificate authorities that may endorse TPMs of hosts')

  addOperation<typeof addAnchors, { readonly insecureTest?: boolean }>(anchor, {
    usage: 'add <file>',
    operation: addAnchors,
    configure: (command) =>
      command.option('--insecure-test', 'a laboratory authority: marked in every token'),
    input: ([file = ''], options) => ({
      body: {
        pem: readText(file),
        ...(options.insecureTest ? { insecureTest: true } : {}),
      },
    }),
    text: ({ anchors }) => anchors.map((a) => `trusted: ${a.subject} (${a.fingerprint})`),
    examples: [
      'sigillo anchor add tpm-maker-roots.pem',
      'sigillo anchor add lab-root.pem --insecure-test',
    ],
  })

  addOperation(anchor, {
    usage: 'list',
    operation: listAnchors,
    input: () => ({}),
    text: ({ anchors }) =>
      table([
        ['FINGERPRINT', 'NOT AFTER', 'TEST', 'SUBJECT'],
        ...anchors.map((a) => [
          a.fingerprint.slice(0, 16),
          a.notAfter.slice(0, 10),
          a.insecureTest ? 'yes' : 'no',
          a.subject,
        ]),
      ]),
    examples: ['sigillo anchor list', 'sigillo anchor list --json'],
  })

  addOperation(anchor, {
    usage: 'remove <fingerprint>',
    operation: removeAnchor,
    input: ([fingerprint = '']) => ({ params: { fingerprint } }),
    text: () => ['removed'],
    destroys: ([fingerprint]) => `this ends the trust in anchor ${fingerprint}`,
    examples: [
      'sigillo anchor remove 3f0c… --yes',
      "sigillo anchor remove $(sigillo anchor list --json | jq -r '.anchors[0].fingerprint') --yes",
    ],
  })
}
