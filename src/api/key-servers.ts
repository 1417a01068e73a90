import { type Static, Type } from 'typebox'
import { Exactly, Sentence, Time } from './common.js'

/** Port of KMIP over TLS, as IANA has it. */
export const KMIP_PORT = 5696

function Pem(description: string) {
  return Type.String({ maxLength: 64 * 1024, description: `${description}; PEM` })
}

const KeyServerAddress = Exactly({
  host: Type.String({
    minLength: 1,
    maxLength: 255,
    pattern: '^[A-Za-z0-9._:-]+$',
    description: 'name or address of the key server',
  }),
  port: Type.Integer({ minimum: 1, maximum: 65535, default: KMIP_PORT }),
  serverName: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 255,
      pattern: '^[A-Za-z0-9._-]+$',
      description: 'name in its certificate, where it is another than the host',
    }),
  ),
  insecureLegacyTls: Type.Optional(
    Type.Boolean({
      description: 'also the suites of old key servers: CBC, and RSA without forward secrecy',
    }),
  ),
})

/** How a service reaches the key servers of one provider, as an administrator gives it. */
export const KeyServersInput = Exactly({
  servers: Type.Array(KeyServerAddress, {
    minItems: 1,
    maxItems: 16,
    description: 'one replicated cluster of key servers, in order of preference',
  }),
  authorities: Pem('certificates of the authorities that the key servers are checked with'),
  certificate: Pem('certificate that the service shows, with its intermediates after it'),
  privateKey: Type.Optional(Pem('private key of the certificate; left out: as before')),
  username: Type.Optional(Type.String({ minLength: 1, maxLength: 255 })),
  password: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 1024,
      description: 'left out: as before, where the user name is',
    }),
  ),
})
export type KeyServersInput = Static<typeof KeyServersInput>

const CertificateView = Exactly({
  subject: Type.String(),
  issuer: Type.String(),
  fingerprint: Type.String({ description: 'SHA-256 of the certificate, hexadecimal' }),
  notAfter: Time,
})

/** The same without what is secret: no private key and no password is ever shown again. */
export const KeyServersView = Exactly({
  servers: Type.Array(KeyServerAddress),
  authorities: Type.Array(CertificateView),
  certificate: CertificateView,
  username: Type.Optional(Type.String()),
  hasPassword: Type.Boolean(),
})
export type KeyServersView = Static<typeof KeyServersView>

/** One step of a test of key servers, in words. */
export const ConnectionFinding = Exactly({
  server: Type.String({ description: 'host:port; TPM for that of the authority' }),
  step: Type.Union([
    Type.Literal('name'),
    Type.Literal('tcp'),
    Type.Literal('tls'),
    Type.Literal('certificate'),
    Type.Literal('versions'),
    Type.Literal('operations'),
    Type.Literal('probe'),
    Type.Literal('replica'),
    Type.Literal('unseal'),
  ]),
  result: Type.Union([Type.Literal('ok'), Type.Literal('warning'), Type.Literal('failed')]),
  code: Type.Optional(Type.String({ description: 'error code, where it failed' })),
  message: Sentence,
})
export type ConnectionFinding = Static<typeof ConnectionFinding>

export const ConnectionTest = Exactly({
  verdict: Type.Union(
    [Type.Literal('passed'), Type.Literal('unreachable'), Type.Literal('failed')],
    {
      description: 'unreachable: nothing else is wrong than that a server does not answer',
    },
  ),
  findings: Type.Array(ConnectionFinding),
})
export type ConnectionTest = Static<typeof ConnectionTest>

const AttributeText = Type.String({ maxLength: 255 })

/** What the console of a key server shows of a key, and our own keystore as well. */
export const KeyAttributesView = Exactly({
  'x-Vendor': AttributeText,
  'x-Product': AttributeText,
  'x-Product_Version': AttributeText,
  'x-Component': Type.Optional(AttributeText),
  'x-Name': Type.Optional(AttributeText),
  'x-Identifier': Type.Optional(AttributeText),
})
export type KeyAttributesView = Static<typeof KeyAttributesView>
