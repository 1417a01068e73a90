import type { Command } from 'commander'
import {
  addAnchors,
  addEndorsementKey,
  addRevocationList,
  addRevokedKey,
  listAnchors,
  listEndorsementKeys,
  listRevocationLists,
  listRevokedKeys,
  removeAnchor,
  removeEndorsementKey,
  removeRevocationList,
  removeRevokedKey,
} from '../../api/endorsement.js'
import { readText } from '../../core/read-file.js'
import { readOctets } from '../offline/files.js'
import { sortedBy, table } from '../output.js'
import { addOperation } from './command.js'

const MAX_LIST_OCTETS = 2 * 1024 * 1024

/** Who endorses the TPMs of hosts: `sigillo anchor …`, `crl …`, `endorsement-key …` and `revoked-key …`. */
export function addEndorsementCommands(program: Command): void {
  addAnchorCommands(program)
  addRevocationListCommands(program)
  addEndorsementKeyCommands(program)
  addRevokedKeyCommands(program)
}

interface AnchorOptions {
  readonly forVms?: boolean
  readonly insecureTest?: boolean
  readonly trustIntermediates?: boolean
}

const ROLES = {
  anchor: 'trusted',
  vtpm: 'trusted for virtual TPMs',
  intermediate: 'intermediate',
} as const

function addAnchorCommands(program: Command): void {
  const anchor = program
    .command('anchor')
    .description('certificate authorities that may endorse TPMs of hosts, or virtual TPMs of VMs')

  addOperation<typeof addAnchors, AnchorOptions>(anchor, {
    usage: 'add <file>',
    operation: addAnchors,
    configure: (command) =>
      command
        .option('--trust-intermediates', 'trust every authority of the file, not only its roots')
        .option('--for-vms', 'they endorse virtual TPMs of VMs, and no TPM of a host')
        .option('--insecure-test', 'a laboratory authority: marked in every token'),
    input: ([file = ''], options) => ({
      body: {
        pem: readText(file),
        ...(options.trustIntermediates ? { trustIntermediates: true } : {}),
        ...(options.forVms ? { forVms: true } : {}),
        ...(options.insecureTest ? { insecureTest: true } : {}),
      },
    }),
    text: ({ anchors }) => anchors.map((a) => `${ROLES[a.role]}: ${a.subject} (${a.fingerprint})`),
    examples: [
      'sigillo anchor add tpm-maker-authorities.pem',
      'sigillo anchor add lab-root.pem --insecure-test',
      'sigillo vtpm authority > vtpm.pem && sigillo anchor add vtpm.pem --for-vms',
    ],
  })

  addOperation(anchor, {
    usage: 'list',
    operation: listAnchors,
    list: 'anchors',
    input: () => ({ query: {} }),
    text: ({ anchors }) =>
      table([
        ['FINGERPRINT', 'ROLE', 'NOT AFTER', 'TEST', 'SUBJECT'],
        ...sortedBy(anchors, ({ subject }) => subject).map((a) => [
          a.fingerprint,
          a.role,
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

function addRevocationListCommands(program: Command): void {
  const crl = program
    .command('crl')
    .description('certificates that the authorities of TPMs take back')

  addOperation(crl, {
    usage: 'add <file>',
    operation: addRevocationList,
    input: ([file = '']) => ({ body: { list: listText(file) } }),
    text: ({ list, revokedHosts }) => [
      `${list.issuer}: ${list.certificates} certificates revoked, until ${list.nextUpdate}`,
      ...revokedHosts.map((hostId) => `revoked: host ${hostId}`),
    ],
    examples: ['sigillo crl add maker.crl', 'sigillo crl add maker.crl --json'],
  })

  addOperation(crl, {
    usage: 'list',
    operation: listRevocationLists,
    list: 'lists',
    input: () => ({ query: {} }),
    text: ({ lists }) =>
      table([
        ['ISSUER', 'REVOKED', 'ISSUED', 'NEXT', 'SUBJECT'],
        ...lists.map((list) => [
          list.issuerFingerprint,
          String(list.certificates),
          list.thisUpdate.slice(0, 10),
          list.nextUpdate.slice(0, 10),
          list.issuer,
        ]),
      ]),
    examples: ['sigillo crl list', 'sigillo crl list --json'],
  })

  addOperation(crl, {
    usage: 'remove <fingerprint>',
    operation: removeRevocationList,
    input: ([fingerprint = '']) => ({ params: { fingerprint } }),
    text: () => ['removed'],
    destroys: ([fingerprint]) => `this forgets what authority ${fingerprint} revoked`,
    examples: ['sigillo crl remove 3f0c… --yes', 'sigillo crl remove 3f0c… --yes --json'],
  })
}

function addEndorsementKeyCommands(program: Command): void {
  const key = program
    .command('endorsement-key')
    .description('endorsement keys that are trusted by themselves')

  addOperation<typeof addEndorsementKey, { readonly note: string }>(key, {
    usage: 'add <file>',
    operation: addEndorsementKey,
    configure: (command) =>
      command.requiredOption('--note <text>', 'whose key it is, and who says so'),
    input: ([file = ''], { note }) => ({ body: { pem: readText(file), note } }),
    text: ({ fingerprint }) => [`trusted: endorsement key ${fingerprint}`],
    examples: [
      "sigillo endorsement-key add ek.pem --note 'rack 4, bay 2, by delivery list 1138'",
      'sigillo endorsement-key add ek-certificate.pem --note spare --json',
    ],
  })

  addOperation(key, {
    usage: 'list',
    operation: listEndorsementKeys,
    list: 'keys',
    input: () => ({ query: {} }),
    text: ({ keys }) =>
      table([
        ['FINGERPRINT', 'ADDED', 'NOTE'],
        ...keys.map((one) => [one.fingerprint, one.addedAt.slice(0, 10), one.note]),
      ]),
    examples: ['sigillo endorsement-key list', 'sigillo endorsement-key list --json'],
  })

  addOperation(key, {
    usage: 'remove <fingerprint>',
    operation: removeEndorsementKey,
    input: ([fingerprint = '']) => ({ params: { fingerprint } }),
    text: () => ['removed'],
    destroys: ([fingerprint]) => `this ends the trust in endorsement key ${fingerprint}`,
    examples: [
      'sigillo endorsement-key remove 3f0c… --yes',
      'sigillo endorsement-key remove 3f0c… --yes --json',
    ],
  })
}

function addRevokedKeyCommands(program: Command): void {
  const key = program
    .command('revoked-key')
    .description('attestation keys and endorsement keys that no host may have')

  addOperation<typeof addRevokedKey, { readonly reason: string }>(key, {
    usage: 'add <key>',
    operation: addRevokedKey,
    configure: (command) => command.requiredOption('--reason <text>', 'why, for the audit'),
    input: ([revoked = ''], { reason }) => ({ body: { key: revoked, reason } }),
    text: ({ revokedKey, revokedHosts }) => [
      `revoked: key ${revokedKey.key}`,
      ...revokedHosts.map((hostId) => `revoked: host ${hostId}`),
    ],
    destroys: ([revoked]) => `this ends the trust in whatever host has key ${revoked}`,
    examples: [
      "sigillo revoked-key add 000b5f0c… --reason 'TPM was replaced' --yes",
      'sigillo revoked-key add "$(sigillo host show host-a --json | jq -r .akName)" --reason stolen --yes',
    ],
  })

  addOperation(key, {
    usage: 'list',
    operation: listRevokedKeys,
    list: 'keys',
    input: () => ({ query: {} }),
    text: ({ keys }) =>
      table([
        ['KEY', 'REVOKED', 'REASON'],
        ...sortedBy(keys, ({ revokedAt }) => revokedAt).map((one) => [
          one.key,
          one.revokedAt.slice(0, 10),
          one.reason,
        ]),
      ]),
    examples: ['sigillo revoked-key list', 'sigillo revoked-key list --json'],
  })

  addOperation(key, {
    usage: 'remove <key>',
    operation: removeRevokedKey,
    input: ([revoked = '']) => ({ params: { key: revoked } }),
    text: () => ['removed'],
    destroys: ([revoked]) => `hosts may enrol with key ${revoked} again`,
    examples: [
      'sigillo revoked-key remove 000b5f0c… --yes',
      'sigillo revoked-key remove 000b5f0c… --yes --json',
    ],
  })
}

/** A file of a revocation list as the API takes it: PEM as it is, DER as base64. */
function listText(file: string): string {
  const octets = Buffer.from(readOctets(file, MAX_LIST_OCTETS))
  const text = octets.toString('latin1')
  return text.includes('-----BEGIN X509 CRL-----') ? text : octets.toString('base64')
}
