import { type Static, Type } from 'typebox'
import {
  AuditPage,
  AuditQuery,
  AuditVerdict,
  Empty,
  Exactly,
  FindingView,
  Name,
  Next,
  Octets,
  PageQuery,
  Sentence,
  Time,
  Uuid,
} from './common.js'
import {
  ConnectionTest,
  KeyAttributesView,
  KeyServersInput,
  KeyServersView,
} from './key-servers.js'
import { onSite } from './needs.js'
import { operation } from './operation.js'

const BASE = '/key-provider/v1'

export const MAX_BATCH_ITEMS = 1000

export const Purpose = Type.Union([
  Type.Literal('vm-home'),
  Type.Literal('vm-disk'),
  Type.Literal('vtpm-state'),
  Type.Literal('vtpm-migration'),
  Type.Literal('host'),
])
export type Purpose = Static<typeof Purpose>

/**
 * What a key is for, in names and values that the host must present again to have the key unwrapped:
 * `{ vm: '<uuid>', object: 'disk-0' }`. Bound to the wrapped key as additional authenticated data.
 */
export const KeyContext = Type.Record(
  Type.String({ pattern: '^[a-z][a-z0-9-]{0,31}$' }),
  Type.String({ minLength: 1, maxLength: 256 }),
  { additionalProperties: false, minProperties: 1, maxProperties: 16 },
)
export type KeyContext = Readonly<Record<string, string>>

/** `session`: encrypted to the key in the agent's memory. `tpm`: to the key in the host's TPM, tied to its PCRs. */
export const Assurance = Type.Union([Type.Literal('session'), Type.Literal('tpm')])
export type Assurance = Static<typeof Assurance>

export const WrappedKey = Type.String({
  maxLength: 2048,
  pattern: '^sgl1\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+$',
  description: 'a wrapped key: sgl1.<header>.<sealed octets>',
})

export const ItemFailure = Exactly({
  ok: Type.Literal(false),
  code: Type.String(),
  message: Sentence,
})

const WrappedItem = Type.Union([
  Exactly({ ok: Type.Literal(true), wrapped: WrappedKey }),
  ItemFailure,
])
const OpenedItem = Type.Union([Exactly({ ok: Type.Literal(true) }), ItemFailure])

/** Answers carry keys in one JWE alone: `{"keys":[{"item":0,"dek":"<base64url>"}, …]}`. */
export const SealedKeys = Type.String({
  maxLength: 256 * 1024,
  description:
    'compact JWE to the host: ECDH-ES or RSA-OAEP-256, with A256GCM; empty where no item succeeded',
})

/** The plaintext of `SealedKeys`. */
export const SealedKeysContent = Exactly({
  keys: Type.Array(Exactly({ item: Type.Integer({ minimum: 0 }), dek: Octets(64, 'the key') }), {
    maxItems: MAX_BATCH_ITEMS,
  }),
})

const ProviderParams = Exactly({ provider: Name })

export const generateKeys = operation({
  id: 'generateKeys',
  summary: 'Make data encryption keys of 32 octets, wrapped and sealed to the host',
  method: 'POST',
  path: `${BASE}/providers/:provider/generate`,
  status: 200,
  params: ProviderParams,
  body: Exactly({
    assurance: Assurance,
    items: Type.Array(Exactly({ purpose: Purpose, context: KeyContext }), {
      minItems: 1,
      maxItems: MAX_BATCH_ITEMS,
    }),
  }),
  answer: Exactly({ items: Type.Array(WrappedItem), sealed: SealedKeys }),
})

export const wrapKeys = operation({
  id: 'wrapKeys',
  summary: 'Wrap data encryption keys that the host made',
  method: 'POST',
  path: `${BASE}/providers/:provider/wrap`,
  status: 200,
  params: ProviderParams,
  body: Exactly({
    items: Type.Array(
      Exactly({ purpose: Purpose, context: KeyContext, dek: Octets(32, 'the key, 32 octets') }),
      { minItems: 1, maxItems: MAX_BATCH_ITEMS },
    ),
  }),
  answer: Exactly({ items: Type.Array(WrappedItem) }),
})

export const unwrapKeys = operation({
  id: 'unwrapKeys',
  summary: 'Unwrap data encryption keys; the answer is sealed to the host',
  method: 'POST',
  path: `${BASE}/providers/:provider/unwrap`,
  status: 200,
  params: ProviderParams,
  body: Exactly({
    assurance: Assurance,
    items: Type.Array(Exactly({ wrapped: WrappedKey, purpose: Purpose, context: KeyContext }), {
      minItems: 1,
      maxItems: MAX_BATCH_ITEMS,
    }),
  }),
  answer: Exactly({ items: Type.Array(OpenedItem), sealed: SealedKeys }),
})

export const rewrapKeys = operation({
  id: 'rewrapKeys',
  summary: 'Wrap data encryption keys with the active primary key; they do not leave the provider',
  method: 'POST',
  path: `${BASE}/providers/:provider/rewrap`,
  status: 200,
  params: ProviderParams,
  body: Exactly({
    items: Type.Array(Exactly({ wrapped: WrappedKey, purpose: Purpose, context: KeyContext }), {
      minItems: 1,
      maxItems: MAX_BATCH_ITEMS,
    }),
  }),
  answer: Exactly({ items: Type.Array(WrappedItem) }),
})

export const releaseKeys = operation({
  id: 'releaseKeys',
  summary: 'Say that wrapped keys are not needed any more; none may be destroyed before',
  method: 'POST',
  path: `${BASE}/providers/:provider/release`,
  status: 200,
  params: ProviderParams,
  body: Exactly({
    items: Type.Array(Exactly({ wrapped: WrappedKey, purpose: Purpose, context: KeyContext }), {
      minItems: 1,
      maxItems: MAX_BATCH_ITEMS,
    }),
  }),
  answer: Exactly({ items: Type.Array(OpenedItem) }),
})

// ---------------------------------------------------------------- what administrators call

/** States of NIST SP 800-57 Part 1, section 7. */
const KeyState = Type.Union([
  Type.Literal('pre-active'),
  Type.Literal('active'),
  Type.Literal('deactivated'),
  Type.Literal('compromised'),
  Type.Literal('destroyed'),
])

const TimeOfDay = Type.String({ pattern: '^([01][0-9]|2[0-3]):[0-5][0-9]$' })

export const ProviderSettings = Exactly({
  clusters: Type.Array(Name, { maxItems: 1000, description: 'clusters whose hosts may use it' }),
  minimumAssurance: Assurance,
  maxTokenAgeSeconds: Type.Integer({ minimum: 5, maximum: 300 }),
  purposes: Type.Optional(
    Type.Array(Purpose, {
      maxItems: 5,
      minItems: 1,
      uniqueItems: true,
      description: 'what its keys may be for; all where it is left out',
    }),
  ),
  hours: Type.Optional(
    Exactly(
      {
        from: TimeOfDay,
        to: TimeOfDay,
        days: Type.Optional(
          Type.Array(Type.Integer({ minimum: 1, maximum: 7 }), {
            maxItems: 7,
            minItems: 1,
            uniqueItems: true,
            description: 'days of the week, 1 is Monday; all where it is left out',
          }),
        ),
      },
      'when it serves, UTC; a time that ends before it begins goes over midnight',
    ),
  ),
  unwrapCompromised: Type.Optional(
    Type.Boolean({ description: 'whether compromised versions still unwrap, to be wrapped anew' }),
  ),
  rotateEveryDays: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 3650,
      description: 'a new version is made when the active one is older',
    }),
  ),
})
export type ProviderSettings = Static<typeof ProviderSettings>

const KeyPlace = Type.Union([Type.Literal('fetched'), Type.Literal('kept')], {
  description:
    'fetched: the key is read and used in memory; kept: it stays, and the server encrypts',
})

export const TpmPcrs = Type.Array(Type.Integer({ minimum: 0, maximum: 23 }), {
  minItems: 1,
  maxItems: 24,
  uniqueItems: true,
  description: 'PCRs (SHA-256) of the authority that the primary key is bound to',
})

/** Where the primary key of a new provider is. */
export const BackendInput = Type.Union([
  Exactly({ kind: Type.Literal('embedded') }),
  Exactly({ kind: Type.Literal('kmip'), place: KeyPlace, keyServers: KeyServersInput }),
  Exactly(
    { kind: Type.Literal('tpm'), pcrs: Type.Optional(TpmPcrs) },
    'sealed by the TPM of the authority; PCRs as for root keys where they are left out',
  ),
])
export type BackendInput = Static<typeof BackendInput>

const BackendView = Type.Union([
  Exactly({ kind: Type.Literal('embedded') }),
  Exactly({ kind: Type.Literal('kmip'), place: KeyPlace, keyServers: KeyServersView }),
  Exactly({ kind: Type.Literal('tpm'), pcrs: TpmPcrs }),
])
export type BackendView = Static<typeof BackendView>

const Force = Type.Optional(
  Type.Boolean({ description: 'also where a key server does not answer its test' }),
)

export const ProviderView = Exactly({
  name: Name,
  providerId: Uuid,
  kind: Type.Literal('trusted'),
  settings: ProviderSettings,
  backend: BackendView,
  createdAt: Time,
  versions: Type.Array(
    Exactly({
      version: Type.Integer(),
      state: KeyState,
      createdAt: Time,
      changedAt: Type.Optional(Time),
      attributes: Type.Optional(KeyAttributesView),
      destroyAt: Type.Optional(Time),
      references: Type.Integer({ description: 'wrapped keys that this version opens' }),
    }),
  ),
})
export type ProviderView = Static<typeof ProviderView>

export const createProvider = operation({
  id: 'createProvider',
  needs: onSite('TrustedAdmin.ManageKMSTrust'),
  summary: 'Make a trusted key provider with a new primary key',
  method: 'POST',
  path: `${BASE}/providers`,
  status: 201,
  body: Exactly({
    name: Name,
    kind: Type.Literal('trusted'),
    settings: ProviderSettings,
    backend: Type.Optional(BackendInput),
  }),
  answer: ProviderView,
  errors: ['CONFLICT', 'KEY_SERVERS', 'KEY_SERVERS_TEST'],
  example: {
    name: 'gold',
    kind: 'trusted',
    settings: { clusters: ['lab'], minimumAssurance: 'tpm', maxTokenAgeSeconds: 300 },
  },
})

export const listProviders = operation({
  id: 'listProviders',
  needs: onSite('TrustedAdmin.ReadKMSTrust'),
  summary: 'Key providers',
  method: 'GET',
  path: `${BASE}/providers`,
  status: 200,
  query: Exactly(PageQuery),
  answer: Exactly({ providers: Type.Array(ProviderView), next: Next }),
})

export const getProvider = operation({
  id: 'getProvider',
  needs: onSite('TrustedAdmin.ReadKMSTrust'),
  summary: 'One key provider with the versions of its primary key',
  method: 'GET',
  path: `${BASE}/providers/:provider`,
  status: 200,
  params: ProviderParams,
  answer: ProviderView,
})

export const setProvider = operation({
  id: 'setProvider',
  needs: onSite('TrustedAdmin.ManageKMSTrust'),
  summary: 'Change who may use a key provider, and how',
  method: 'PUT',
  path: `${BASE}/providers/:provider`,
  status: 200,
  params: ProviderParams,
  body: ProviderSettings,
  answer: ProviderView,
})

export const setKeyServers = operation({
  id: 'setKeyServers',
  needs: onSite('TrustedAdmin.ManageKMSTrust'),
  summary: 'Change the key servers of a provider; they are tested first, and must have its keys',
  method: 'PUT',
  path: `${BASE}/providers/:provider/key-servers`,
  status: 200,
  params: ProviderParams,
  body: Exactly({ keyServers: KeyServersInput, force: Force }),
  answer: ProviderView,
  errors: ['CONFLICT', 'KEY_SERVERS', 'KEY_SERVERS_TEST'],
})

export const testProvider = operation({
  id: 'testProvider',
  needs: onSite('TrustedAdmin.ManageKMSTrust'),
  summary: 'Test the key servers or the TPM of a provider step by step',
  method: 'POST',
  path: `${BASE}/providers/:provider/test`,
  status: 200,
  params: ProviderParams,
  body: Empty,
  answer: ConnectionTest,
  errors: ['CONFLICT'],
})

export const rebindTpm = operation({
  id: 'rebindTpm',
  needs: onSite('TrustedAdmin.ManageKMSTrust'),
  summary:
    'Seal every version of the primary key anew, to the PCRs of the authority as they are now',
  method: 'POST',
  path: `${BASE}/providers/:provider/tpm-binding`,
  status: 200,
  params: ProviderParams,
  body: Exactly({ pcrs: Type.Optional(TpmPcrs) }),
  answer: ProviderView,
  errors: ['CONFLICT'],
})

export const rotateProvider = operation({
  id: 'rotateProvider',
  needs: onSite('TrustedAdmin.ManageKMSTrust'),
  summary: 'Make a new version of the primary key; older ones only unwrap',
  method: 'POST',
  path: `${BASE}/providers/:provider/rotation`,
  status: 201,
  params: ProviderParams,
  body: Exactly({
    preActive: Type.Optional(
      Type.Boolean({ description: 'makes the version and does not use it before it is activated' }),
    ),
  }),
  answer: ProviderView,
  errors: ['CONFLICT'],
})

const VersionParams = Exactly({
  provider: Name,
  version: Type.String({ pattern: '^[1-9][0-9]{0,8}$' }),
})

export const scheduleDestruction = operation({
  id: 'scheduleDestruction',
  needs: onSite('TrustedAdmin.ManageKMSTrust'),
  summary: 'Have a version of the primary key destroyed after a time; it does nothing from now on',
  method: 'PUT',
  path: `${BASE}/providers/:provider/versions/:version/destruction`,
  status: 200,
  params: VersionParams,
  body: Exactly({
    afterDays: Type.Integer({ minimum: 1, maximum: 365, default: 7 }),
    reason: Sentence,
    abandon: Type.Optional(
      Type.Boolean({
        description: 'also where wrapped keys are there, which nobody can open then',
      }),
    ),
  }),
  answer: ProviderView,
  errors: ['KEY_REFERENCED', 'KEY_STATE', 'KEY_VERSION_UNKNOWN'],
})

export const cancelDestruction = operation({
  id: 'cancelDestruction',
  needs: onSite('TrustedAdmin.ManageKMSTrust'),
  summary: 'Keep a version that was to be destroyed',
  method: 'DELETE',
  path: `${BASE}/providers/:provider/versions/:version/destruction`,
  status: 200,
  params: VersionParams,
  answer: ProviderView,
  errors: ['KEY_STATE'],
})

export const setKeyState = operation({
  id: 'setKeyState',
  needs: onSite('TrustedAdmin.ManageKMSTrust'),
  summary: 'Activate, deactivate or give up a version of the primary key',
  method: 'PUT',
  path: `${BASE}/providers/:provider/versions/:version/state`,
  status: 200,
  params: VersionParams,
  body: Exactly({ state: KeyState, reason: Sentence }),
  answer: ProviderView,
  errors: ['KEY_STATE', 'KEY_VERSION_UNKNOWN'],
})

export const explainRelease = operation({
  id: 'explainRelease',
  needs: onSite('TrustedAdmin.ReadKMSTrust'),
  summary: 'Whether a key provider would serve a host now, rule by rule',
  method: 'GET',
  path: `${BASE}/providers/:provider/explanation`,
  status: 200,
  params: ProviderParams,
  query: Exactly({ hostId: Name }),
  answer: Exactly({
    explanations: Type.Array(
      Exactly({
        issuer: Type.String({ description: 'attestation service that knows the host' }),
        serves: Type.Boolean({
          description: 'as far as it can be said without a token of the host',
        }),
        findings: Type.Array(FindingView),
      }),
    ),
  }),
})

export const listKeyProviderAudit = operation({
  id: 'listKeyProviderAudit',
  needs: onSite('TrustedAdmin.ReadKMSTrust'),
  summary: 'Audit records of the key provider',
  method: 'GET',
  path: `${BASE}/audit`,
  status: 200,
  query: AuditQuery,
  answer: AuditPage,
})

export const verifyKeyProviderAudit = operation({
  id: 'verifyKeyProviderAudit',
  needs: onSite('TrustedAdmin.ReadKMSTrust'),
  summary: 'Recompute the hash chain of the audit records',
  method: 'GET',
  path: `${BASE}/audit/verification`,
  status: 200,
  answer: AuditVerdict,
})
