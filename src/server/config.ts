import { Type } from 'typebox'
import { Exactly } from '../api/common.js'
import { AttestationSection } from '../attestation/index.js'
import { ControlPlaneSection } from '../control-plane/index.js'
import { LOG_LEVELS } from '../core/logger.js'
import { KeyProviderSection } from '../key-provider/index.js'
import { OidcSection, PeopleSection } from '../people/index.js'
import { SealSection } from './seal-config.js'

/** Configuration of the authority: `authority.toml`, `SIGILLO_…`, flags. */
export const AuthorityConfig = Exactly({
  logLevel: Type.Union(
    LOG_LEVELS.map((level) => Type.Literal(level)),
    { default: 'info', description: 'error, warn, info, debug or silent' },
  ),
  server: Exactly({
    listen: Type.String({
      default: '127.0.0.1:8440',
      description: 'address and port; port 0 takes a free one',
    }),
    publicUrl: Type.Optional(
      Type.String({
        pattern: '^https?://[^/]+$',
        description: 'scheme, host and port that hosts use; by default the address it listens on',
      }),
    ),
    tlsCertificateFile: Type.Optional(Type.String({ description: 'certificate chain, PEM' })),
    tlsKeyFile: Type.Optional(Type.String({ description: 'private key, PEM, mode 0600' })),
    insecureLoopback: Type.Boolean({
      default: false,
      description: 'let a loopback address go without TLS',
    }),
    publicRequestsPerMinute: Type.Integer({
      default: 600,
      minimum: 1,
      maximum: 10_000_000,
      description: 'requests of one address to one public route in a minute',
    }),
  }),
  store: Exactly({
    file: Type.String({ default: '/var/lib/sigillo/sigillo.db', description: 'SQLite file' }),
  }),
  seal: SealSection,
  trust: Exactly({
    issuer: Type.Optional(
      Type.String({
        description: 'attestation service that tokens must come from; by default the one here',
      }),
    ),
    caFile: Type.Optional(
      Type.String({ description: 'authority of its TLS certificate, where it is elsewhere' }),
    ),
    proofMaxAgeSeconds: Type.Integer({
      default: 30,
      minimum: 1,
      maximum: 30,
      description: 'oldest DPoP proof that is accepted',
    }),
    clockSkewSeconds: Type.Integer({
      default: 5,
      minimum: 0,
      maximum: 60,
      description: 'how far the clocks of services may differ',
    }),
  }),
  attestation: AttestationSection,
  keyProvider: KeyProviderSection,
  controlPlane: ControlPlaneSection,
  people: PeopleSection,
  oidc: OidcSection,
})
