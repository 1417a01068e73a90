import { Type } from 'typebox'
import { Exactly } from '../api/common.js'

/** How the root keys of the services are sealed, and which seals open without anybody. */
export const SealSection = Exactly({
  automatic: Type.Array(
    Type.Union([Type.Literal('passphrase'), Type.Literal('tpm'), Type.Literal('kmip')]),
    {
      default: ['passphrase'],
      maxItems: 3,
      uniqueItems: true,
      description:
        'seals that are opened at start, in this order, and that a new root key gets: passphrase, tpm, kmip; none leaves it to an operator',
    },
  ),
  passphraseFile: Type.String({
    default: '/etc/sigillo/passphrase',
    description: 'file with the passphrase of the root keys, mode 0600',
  }),
  tpmTcti: Type.String({
    default: 'device:/dev/tpmrm0',
    description: 'TPM of the authority, for seals of kind tpm',
  }),
  tpmPcrs: Type.Array(Type.Integer({ minimum: 0, maximum: 23 }), {
    default: [0, 2, 4, 7],
    minItems: 1,
    maxItems: 24,
    uniqueItems: true,
    description: 'PCRs (SHA-256) that a new seal of kind tpm is bound to',
  }),
  kmipServers: Type.Array(
    Type.String({ pattern: '^(\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9.-]+):\\d{1,5}$' }),
    {
      default: [],
      maxItems: 8,
      description: 'host:port of the key servers of one cluster, for seals of kind kmip',
    },
  ),
  kmipCaFile: Type.Optional(Type.String({ description: 'authority of its certificate, PEM' })),
  kmipCertificateFile: Type.Optional(
    Type.String({ description: 'certificate of this client, PEM' }),
  ),
  kmipKeyFile: Type.Optional(Type.String({ description: 'its private key, PEM, mode 0600' })),
  kmipKeyId: Type.Optional(
    Type.String({
      maxLength: 256,
      description: 'AES key there that new seals are encrypted by; else one is made for each',
    }),
  ),
  insecureSharesOfOneOperator: Type.Boolean({
    default: false,
    description: 'let one operator give all the shares',
  }),
})
